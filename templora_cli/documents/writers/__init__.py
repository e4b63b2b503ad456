"""One module per format: writes a `Book` as a file."""
