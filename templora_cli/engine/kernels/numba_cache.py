"""Compilation by numba, once per machine.

numba caches compiled code like Python caches bytecode, beside the source file or in the user's cache folder,
and trusts it as much. A process that compiles a function links it differently from one that loads it from the
cache, and gets different last bits. A resumed session must get the same bits, so `compile_once` compiles in a
separate process that does not decode.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache, NullCache

F = TypeVar("F", bound=Callable[..., Any])

PRANGE = {
    "prange": True,
    **dict.fromkeys(
        ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion"), False
    ),
}
"""Threads share the work of `prange` loops, not that of other array operations."""
COMPILE_OPTIONS: dict[str, Any] = {
    # The flags that allow vectorised sums, without those that break NaN and infinity.
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
    "error_model": "numpy",
}


def kernel(function: F) -> F:
    """Compile a function for this CPU at its first call. Sums may be reordered."""
    return _compile(function)


def inlined(function: F) -> F:
    """Inline a function into its callers. LLVM compiles a function again for each caller, so nested calls
    would delay the first token."""
    return cast(F, numba.njit(inline="always", **COMPILE_OPTIONS)(function))


def parallel_kernel(function: F) -> F:
    """A `kernel` with `prange` loops that threads share."""
    return _compile(function, parallel=PRANGE)


def _compile(function: F, **options: Any) -> F:
    """Compile a function at its first call, with a cache on disk if possible."""
    compiled = numba.njit(**options, **COMPILE_OPTIONS)(function)
    with suppress(RuntimeError):  # no cache folder is writable: each process compiles
        compiled._cache = _PersistentCache(function)
    return cast(F, compiled)


class _PersistentCache(FunctionCache):  # type: ignore[misc]
    """A cache on disk. A damaged file or a full disk costs time, and raises no error."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a truncated pickle can raise anything
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def is_cached(function: Any, signature: tuple[Any, ...]) -> bool:
    """Is a kernel in the cache, compiled for these argument types and this type of CPU?"""
    cache = getattr(function, "_cache", None)
    if not isinstance(cache, _PersistentCache):
        return False
    try:
        return cache._index_key(signature, function.targetctx.codegen()) in cache._cache_file._load_index()
    except Exception:  # a damaged file can raise anything
        return False


def compile_once(
    function: Any,
    signature: tuple[Any, ...],
    compile_function: Callable[[], object],
    *,
    run: Callable[..., object] = subprocess.run,
) -> None:
    """Compile `function` for these argument types in another process, unless it is in the cache.

    `compile_function`, a function of a module, compiles it. Without a writable cache this process compiles,
    as all others do, so that their bits are the same too. `run` starts the process.
    """
    if not is_cached(function, signature):
        _compile_in_another_process(function, signature, compile_function, run)
        if not is_cached(function, signature):
            compile_function()


def _compile_in_another_process(
    function: Any,
    signature: tuple[Any, ...],
    compile_function: Callable[[], object],
    run: Callable[..., object],
) -> None:
    """Call `compile_function` in another process, which caches `function`.

    If that fails, this process does not cache it either: a process that loads it would get other bits.
    """
    if not isinstance(getattr(function, "_cache", None), _PersistentCache):
        return
    # With the import path of this process: the working folder is not trusted.
    name, module = compile_function.__name__, compile_function.__module__
    code = f"import sys; sys.path[:] = sys.argv[1:]; from {module} import {name}; {name}()"
    command = [sys.executable, "-c", code, *sys.path]
    run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if not is_cached(function, signature):
        function._cache = NullCache()
