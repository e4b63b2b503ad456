"""One file per command. Heavy imports stay inside the functions."""
