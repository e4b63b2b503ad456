"""Events as text: on a terminal, in a pipe or a log file, and as JSON."""
