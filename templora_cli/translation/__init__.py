"""A translation: paragraph by paragraph, each checked, with glossary, review and report."""
