"""Reading and writing files of text: bytes on one side, paragraphs on the other."""
