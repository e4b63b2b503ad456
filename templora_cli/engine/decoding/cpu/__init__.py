"""The fast backend for a CPU."""
