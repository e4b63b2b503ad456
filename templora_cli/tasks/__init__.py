"""What to write next, where a chunk ends, and the words that the model is asked with."""
