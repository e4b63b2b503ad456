"""The fast backend of a CPU."""
