"""One module per format: reads a file as paragraphs and renders it with translations."""
