"""The model room: finding and loading models, how a token is drawn, the loss, and the backends.

Importing this package sets four environment variables and glibc's allocator, so it has to come before
torch does.
"""

import ctypes
import logging
import os
import sys

# Large CPU tensors on 2 MB pages. Without it, glibc's heap is left full of holes by the backward
# pass: one training step of SmolLM2-135M (2048 tokens, checkpointed) peaks at 5.8 GB instead of
# 3.0 GB, and is no faster. Read by torch at its first allocation; no effect elsewhere than on Linux.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# How often a thread of GNU's OpenMP that waits for another looks before it sleeps. A token has 151 such
# waits, and to be woken takes longer than most of them: with 100 it took up to twice the time. By itself a
# thread looks for milliseconds, and where other programs take the cores the other cannot come meanwhile.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# cuBLAS is deterministic only with a workspace of fixed size; read when its handle is made.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# No code of a hub is run: transformers would fetch kernels from one where the package for that is installed.
os.environ.setdefault("USE_HUB_KERNELS", "NO")

# It advises, whenever it is imported, to install kernels from a hub.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed, rather than give the end of its heap back whenever that is free.

    What comes next would pay for the same pages again: a quarter of a training step over 2,048 tokens. The
    heap has tensors of up to 32 MB then, the most that glibc allows; it would be 128 KB if nothing were said.
    """
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl has none
        libc.mallopt(trim_threshold, -1)
        libc.mallopt(mmap_threshold, 1 << 25)


_keep_freed_memory()
