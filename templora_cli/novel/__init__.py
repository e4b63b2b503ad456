"""Novels: the next turn, the end of the book, and the prompt."""
