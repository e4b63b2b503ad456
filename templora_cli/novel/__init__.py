"""A novel: what comes next, where it ends, and the words that it is asked with."""
