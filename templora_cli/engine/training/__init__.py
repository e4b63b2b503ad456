"""A training step: layers with their adapter, losses, optimizers."""
