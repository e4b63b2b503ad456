"""Models: finding one, getting it, and loading it with the adapter on top."""
