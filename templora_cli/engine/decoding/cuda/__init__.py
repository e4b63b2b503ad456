"""The fast backend for a CUDA GPU."""
