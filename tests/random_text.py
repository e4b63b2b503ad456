"""Settings for tiny random models, whose text is no prose."""

RANDOM_TEXT = "[gate]\nprose = false\nstop = false\nmax_attempts = 2\n"
