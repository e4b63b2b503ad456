"""One file a format: bytes to paragraphs, and the same bytes with translations in them."""
