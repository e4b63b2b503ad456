"""How tokens come out of a model: the protocol, the samplers, and the backends."""
