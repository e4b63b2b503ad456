"""The table of backends. It is read before a model is loaded; importing it loads no backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from templora_cli.engine.decoding.protocols import BLOCK
from templora_cli.engine.kernels.families import FAMILIES, can_use_cuda_graph, has_fast_decoder
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from torch import nn

    from templora_cli.engine.decoding.protocols import Backend
    from templora_cli.engine.models.shape import Shape

BFLOAT16_BYTES = 2
"""Bytes per number in the int8 backend's key-value cache."""
FLOAT32_BYTES = 4
"""Bytes per number in the states of recurrent layers."""
COMPILER_BYTES = 100_000_000
"""Memory of numba, LLVM and the compiled code: 58 MB on import, 40 MB at the first token. On the first run
on a machine a separate process compiles; it takes about 0.3 GB, once."""


@dataclass(frozen=True)
class DecodingMemory:
    """Bytes that a backend needs besides the model and its forward passes, by purpose."""

    decoding: Mapping[str, int]
    """Needed only while tokens are decoded."""
    from_then_on: Mapping[str, int] = field(default_factory=dict)
    """Needed from the first token to the end of the process."""


class BackendKind(ABC):
    """The properties of a backend that are known without creating one."""

    name: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]] = ()
    """Libraries that its results depend on, besides those that load and train the model."""

    @abstractmethod
    def unsupported_reason(self, config: Any, device: str, quantize: str) -> str | None:
        """The reason why it cannot decode such a model; None if it can.

        `config` is the transformers configuration, `device` "cpu" or "cuda", `quantize` "nf4", "int8" or
        "none".
        """

    @abstractmethod
    def memory(self, shape: Shape, tokens: int, bytes_each: int) -> DecodingMemory:
        """The memory for `tokens` tokens, if a number of the compute dtype has `bytes_each` bytes."""

    def preparation(self) -> Callable[[], None] | None:
        """A function to call once on a machine before it decodes (half a minute); None if not needed."""
        return None

    @abstractmethod
    def make(self, module: nn.Module) -> Backend:
        """Create the backend for a model that it can decode."""


class Int8Kind(BackendKind):
    """Decodes from an 8-bit copy of the model on a CPU."""

    name = "int8"
    libraries = ("numba", "llvmlite")

    def unsupported_reason(self, config: Any, device: str, quantize: str) -> str | None:
        """See `BackendKind.unsupported_reason`."""
        if device == "cpu" and quantize == "none" and has_fast_decoder(config):
            return None
        return (
            f"the int8 backend decodes {', '.join(FAMILIES)} in full precision on a CPU, not "
            f"{config.model_type} ({quantize}) on {device}"
        )

    def memory(self, shape: Shape, tokens: int, bytes_each: int) -> DecodingMemory:
        """See `BackendKind.memory`."""
        copy = sum(rows * columns for rows, columns in shape.linears) + shape.vocab_size * shape.hidden_size
        return DecodingMemory(
            decoding={"cache": _cache_bytes(shape, _round_up_to_block(tokens), BFLOAT16_BYTES)},
            from_then_on={"8-bit copy": copy, "compiler": COMPILER_BYTES},
        )

    def preparation(self) -> Callable[[], None] | None:
        """See `BackendKind.preparation`. It compiles the kernels."""
        from templora_cli.engine.kernels import numba_kernels

        return None if numba_kernels.is_cached() else numba_kernels.prepare

    def make(self, module: nn.Module) -> Backend:
        """See `BackendKind.make`."""
        from templora_cli.engine.decoding.cpu.int8_backend import Int8Backend

        return Int8Backend(module)


class GraphKind(BackendKind):
    """Decodes with a captured CUDA graph on a GPU."""

    name = "graph"

    def unsupported_reason(self, config: Any, device: str, quantize: str) -> str | None:
        """See `BackendKind.unsupported_reason`."""
        # int8 products read values back from the device, which a graph cannot do.
        if device == "cuda" and quantize != "int8" and can_use_cuda_graph(config):
            return None
        return (
            f"the graph backend decodes {', '.join(FAMILIES)} on a CUDA GPU, in NF4 or unquantised, not "
            f"{config.model_type} ({quantize}) on {device}"
        )

    def memory(self, shape: Shape, tokens: int, bytes_each: int) -> DecodingMemory:
        """See `BackendKind.memory`."""
        return DecodingMemory({"cache": _cache_bytes(shape, _round_up_to_block(tokens), bytes_each)})

    def make(self, module: nn.Module) -> Backend:
        """See `BackendKind.make`."""
        from templora_cli.engine.decoding.cuda.graph_backend import GraphBackend

        return GraphBackend(module)


class EagerKind(BackendKind):
    """Decodes with the transformers model itself: every model, on every device."""

    name = "eager"

    def unsupported_reason(self, config: Any, device: str, quantize: str) -> str | None:
        """See `BackendKind.unsupported_reason`."""
        return None

    def memory(self, shape: Shape, tokens: int, bytes_each: int) -> DecodingMemory:
        """See `BackendKind.memory`."""
        cache, windows = shape.cache, shape.windows
        if len(windows) != len(cache.each):
            windows = (None,) * len(cache.each)
        # A layer with a window caches only its window.
        elements = sum(
            min(tokens, window or tokens) * per_token
            for window, per_token in zip(windows, cache.each, strict=True)
        )
        return DecodingMemory({"cache": elements * bytes_each + cache.state * FLOAT32_BYTES})

    def make(self, module: nn.Module) -> Backend:
        """See `BackendKind.make`."""
        from templora_cli.engine.decoding.eager import EagerBackend

        return EagerBackend(module)


BACKENDS: tuple[BackendKind, ...] = (Int8Kind(), GraphKind(), EagerKind())
"""In order of speed, the fastest first."""


def backend_kind_named(name: str) -> BackendKind:
    """The kind of backend with that name. Raises TemploraError if there is none."""
    for kind in BACKENDS:
        if kind.name == name:
            return kind
    names = ", ".join(kind.name for kind in BACKENDS)
    raise TemploraError(f"unknown backend {name}; the backends are {names}", "pip install --upgrade templora")


def supported_backends(config: Any, device: str, quantize: str) -> list[BackendKind]:
    """The kinds of backend that can decode such a model, the fastest first.

    See `BackendKind.unsupported_reason`.
    """
    return [kind for kind in BACKENDS if kind.unsupported_reason(config, device, quantize) is None]


def choose_backend(config: Any, device: str, quantize: str, requested: str) -> BackendKind:
    """The kind of backend that `[decode] backend` requests. See `BackendKind.unsupported_reason`.

    Raises TemploraError if it cannot decode such a model.
    """
    if requested == "auto":
        return supported_backends(config, device, quantize)[0]
    kind = backend_kind_named(requested)
    if reason := kind.unsupported_reason(config, device, quantize):
        raise TemploraError(reason, 'set [decode] backend = "auto" to use a backend that can')
    return kind


def _round_up_to_block(tokens: int) -> int:
    """The number of positions in a buffer that grows by `BLOCK`."""
    return -(-tokens // BLOCK) * BLOCK


def _cache_bytes(shape: Shape, tokens: int, bytes_each: int) -> int:
    """Bytes of keys and values, with the same number in each layer."""
    return 2 * tokens * shape.num_layers * shape.num_kv_heads * shape.head_dim * bytes_each
