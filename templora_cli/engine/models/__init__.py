"""Models: finding, downloading and loading them, with their adapter."""
