"""The engine: models, memory, decoding and training.

Importing this package sets four environment variables and configures glibc's allocator, so it must be
imported before torch.
"""

import ctypes
import logging
import os
import sys

# Large CPU tensors on 2 MB pages. Without them the backward pass fragments glibc's heap: one training step
# of SmolLM2-135M (2048 tokens, checkpointed) peaks at 5.8 GB instead of 3.0 GB, and is no faster. torch reads
# the variable at its first allocation; it has an effect on Linux only.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# How often a waiting thread of GNU OpenMP polls before it sleeps. Decoding a token has 151 such waits, most
# shorter than the time to wake a thread: with 100 polls a token took up to twice as long. By default a thread
# polls for milliseconds; while other programs are busy that takes the core from the thread it waits for.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# cuBLAS is deterministic only with a workspace of fixed size. It reads this when its handle is created.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# Run no code from a hub: transformers would download kernels from one if the `kernels` package is installed.
os.environ.setdefault("USE_HUB_KERNELS", "NO")

# On import it recommends installing kernels from a hub.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def _retain_freed_memory() -> None:
    """Make glibc retain freed memory instead of returning the end of its heap to the system.

    Otherwise the next allocation faults in the same pages again, which takes a quarter of the time of a
    training step over 2,048 tokens. The heap then holds tensors of up to 32 MB, the most that glibc allows,
    instead of 128 KB.
    """
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl lacks it
        libc.mallopt(trim_threshold, -1)
        libc.mallopt(mmap_threshold, 1 << 25)


_retain_freed_memory()
