"""One file a format: a book from nothing but itself."""
