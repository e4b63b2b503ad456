"""Reads files of text as paragraphs, and writes paragraphs to files."""
