"""What learning is worth: protocols that measure it, and how the figures are shown."""
