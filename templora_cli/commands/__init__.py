"""One file a command: flags to configuration to wiring. Heavy imports stay inside the functions."""
