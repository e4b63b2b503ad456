"""templora: write and translate book-length text with a model that learns the book while it writes."""

__version__ = "0.1.0"
