"""Compiled kernels: numba for CPUs, Triton for GPUs, and the architectures that they support."""
