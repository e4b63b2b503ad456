"""The memory plan of a book, and the memory of the machine."""
