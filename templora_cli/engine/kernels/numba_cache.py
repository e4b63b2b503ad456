"""What numba compiles, and that it is compiled once on a machine.

numba keeps what it compiled as Python keeps its bytecode, beside the file or in the user's cache folder, and
trusts it as much. The process that compiles links its functions from other pieces than those that load what
it kept, and so computes other last bits. A resumed session must not: `compile_once` compiles where
nothing is computed.
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
"""What threads share out: loops that say so, and no single operation on arrays."""
COMPILED: dict[str, Any] = {
    # All that lets sums be taken in parallel, but nan and inf stay what they are.
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
    "error_model": "numpy",
}


def kernel(function: F) -> F:
    """Compiled for this CPU when it is first called; sums may be taken in any order."""
    return _compiled(function)


def inlined(function: F) -> F:
    """Compiled where it is called. LLVM compiles a function again with each that calls it, so calls within
    calls make the first token of all wait."""
    return cast(F, numba.njit(inline="always", **COMPILED)(function))


def parallel_kernel(function: F) -> F:
    """A `kernel` whose `prange` is shared out between threads."""
    return _compiled(function, parallel=PRANGE)


def _compiled(function: F, **options: Any) -> F:
    compiled = numba.njit(**options, **COMPILED)(function)
    with suppress(RuntimeError):  # no folder to keep it in can be written: compiled anew in each process
        compiled._cache = _PersistentCache(function)
    return cast(F, compiled)


class _PersistentCache(FunctionCache):  # type: ignore[misc]
    """What was compiled, for the next process: a damaged file or a full disk costs time and nothing else."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # half a pickle raises whatever its rest looks like
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def is_cached(function: Any, signature: tuple[Any, ...]) -> bool:
    """Has a kernel been compiled for arguments of these types, on a CPU like this one?"""
    cache = getattr(function, "_cache", None)
    if not isinstance(cache, _PersistentCache):
        return False
    try:
        return cache._index_key(signature, function.targetctx.codegen()) in cache._cache_file._load_index()
    except Exception:  # a damaged file raises whatever its rest looks like
        return False


def compile_once(
    function: Any,
    signature: tuple[Any, ...],
    compiling: Callable[[], object],
    *,
    run: Callable[..., object] = subprocess.run,
) -> None:
    """Let another process compile `function` for arguments of these types, where that has not been done.

    `compiling`, a function of a module, does it. Where nothing can be kept this process compiles it, as all
    others do: they compute alike too. `run` starts the process.
    """
    if not is_cached(function, signature):
        _compile_in_another_process(function, signature, compiling, run)
        if not is_cached(function, signature):
            compiling()


def _compile_in_another_process(
    function: Any, signature: tuple[Any, ...], compiling: Callable[[], object], run: Callable[..., object]
) -> None:
    """Call `compiling` in a process of its own, so that `function` is kept.

    Where it is not, this process does not keep it either: one that loads it would compute otherwise.
    """
    if not isinstance(getattr(function, "_cache", None), _PersistentCache):
        return
    # Looked for where this process looks: the working folder is not to be trusted.
    name, module = compiling.__name__, compiling.__module__
    code = f"import sys; sys.path[:] = sys.argv[1:]; from {module} import {name}; {name}()"
    command = [sys.executable, "-c", code, *sys.path]
    run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if not is_cached(function, signature):
        function._cache = NullCache()
