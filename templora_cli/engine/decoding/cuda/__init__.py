"""The fast backend of a CUDA GPU."""
