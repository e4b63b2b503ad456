"""Evaluations: protocols that measure the benefit of learning, with their tables and plots."""
