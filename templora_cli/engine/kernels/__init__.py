"""Compiled code, for CPUs by numba and for GPUs by Triton, and which models it knows."""
