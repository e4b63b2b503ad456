"""Decoding: the backend protocol, the samplers and the backends."""
