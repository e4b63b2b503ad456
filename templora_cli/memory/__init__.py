"""The memory of a book beside the weights: text that is looked up for the prompt."""
