"""A book in progress on disk: its settings, its chunks, and the state from which it resumes."""
