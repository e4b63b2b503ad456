"""The backends: a row for each, asked before a model is loaded. Importing the table loads no backend."""

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

FLOAT = 4
"""Bytes of float32, in which recurrent layers keep their state."""
HALF = 2
"""Bytes of bfloat16, in which the int8 backend keeps keys and values."""
COMPILER = 100_000_000
"""numba, LLVM and what they compiled: 58 MB when they are loaded, 40 MB at the first token. The first run of
all on a machine compiles in a process of its own, which takes some 0.3 GB, once."""


@dataclass(frozen=True)
class DecodingMemory:
    """Bytes that a backend takes beside the model and its forward passes, by what takes them."""

    decoding: Mapping[str, int]
    """While tokens come out."""
    from_then_on: Mapping[str, int] = field(default_factory=dict)
    """From the first token to the end."""


class BackendKind(ABC):
    """What is known of a backend without one."""

    name: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]] = ()
    """Those that its bits depend on besides what loads and trains the model."""

    @abstractmethod
    def why_not(self, config: Any, device: str, quantize: str) -> str | None:
        """Why it cannot decode a model that is held so; None where it can.

        `config` is transformers', `device` "cpu" or "cuda", `quantize` "nf4", "int8" or "none".
        """

    @abstractmethod
    def memory(self, shape: Shape, tokens: int, each: int) -> DecodingMemory:
        """What it takes for sequences of so many tokens, where a number that is computed with has `each`
        bytes."""

    def preparation(self) -> Callable[[], None] | None:
        """What has to be done once on a machine before it decodes, half a minute; None where nothing has."""
        return None

    @abstractmethod
    def make(self, module: nn.Module) -> Backend:
        """The backend, for a model that it can decode."""


class Int8(BackendKind):
    """From an 8-bit copy, on a CPU."""

    name = "int8"
    libraries = ("numba", "llvmlite")

    def why_not(self, config: Any, device: str, quantize: str) -> str | None:
        """See `BackendKind.why_not`."""
        if device == "cpu" and quantize == "none" and has_fast_decoder(config):
            return None
        return (
            f"the int8 backend decodes {', '.join(FAMILIES)} in full precision on a CPU, not "
            f"{config.model_type} ({quantize}) on {device}"
        )

    def memory(self, shape: Shape, tokens: int, each: int) -> DecodingMemory:
        """See `BackendKind.memory`."""
        packed = sum(rows * columns for rows, columns in shape.linears) + shape.vocab_size * shape.hidden_size
        return DecodingMemory(
            decoding={"cache": _cache_bytes(shape, _in_blocks(tokens), HALF)},
            from_then_on={"8-bit copy": packed, "compiler": COMPILER},
        )

    def preparation(self) -> Callable[[], None] | None:
        """See `BackendKind.preparation`: its kernels are compiled."""
        from templora_cli.engine.kernels import numba_kernels

        return None if numba_kernels.is_cached() else numba_kernels.prepare

    def make(self, module: nn.Module) -> Backend:
        """See `BackendKind.make`."""
        from templora_cli.engine.decoding.cpu.int8_backend import Int8Backend

        return Int8Backend(module)


class Graph(BackendKind):
    """From a captured graph, on a GPU."""

    name = "graph"

    def why_not(self, config: Any, device: str, quantize: str) -> str | None:
        """See `BackendKind.why_not`. Products of int8 ask the device for values; a graph cannot answer."""
        if device == "cuda" and quantize != "int8" and can_use_cuda_graph(config):
            return None
        return (
            f"the graph backend decodes {', '.join(FAMILIES)} on a CUDA GPU, in NF4 or unquantised, not "
            f"{config.model_type} ({quantize}) on {device}"
        )

    def memory(self, shape: Shape, tokens: int, each: int) -> DecodingMemory:
        """See `BackendKind.memory`."""
        return DecodingMemory({"cache": _cache_bytes(shape, _in_blocks(tokens), each)})

    def make(self, module: nn.Module) -> Backend:
        """See `BackendKind.make`."""
        from templora_cli.engine.decoding.cuda.graph_backend import GraphBackend

        return GraphBackend(module)


class Eager(BackendKind):
    """From the model itself: any model, anywhere."""

    name = "eager"

    def why_not(self, config: Any, device: str, quantize: str) -> str | None:
        """See `BackendKind.why_not`."""
        return None

    def memory(self, shape: Shape, tokens: int, each: int) -> DecodingMemory:
        """See `BackendKind.memory`."""
        cache, windows = shape.cache, shape.windows
        if len(windows) != len(cache.each):
            windows = (None,) * len(cache.each)
        # A layer with a window keeps no more than that.
        kept = sum(
            min(tokens, window or tokens) * numbers
            for window, numbers in zip(windows, cache.each, strict=True)
        )
        return DecodingMemory({"cache": kept * each + cache.state * FLOAT})

    def make(self, module: nn.Module) -> Backend:
        """See `BackendKind.make`."""
        from templora_cli.engine.decoding.eager import EagerBackend

        return EagerBackend(module)


BACKENDS: tuple[BackendKind, ...] = (Int8(), Graph(), Eager())
"""The faster one first, where there are two for a model."""


def backend_row(name: str) -> BackendKind:
    """The backend of that name. Raises TemploraError where there is none."""
    for kind in BACKENDS:
        if kind.name == name:
            return kind
    known = ", ".join(kind.name for kind in BACKENDS)
    raise TemploraError(f"there is no backend {name}; there are {known}", "pip install --upgrade templora")


def able_backends(config: Any, device: str, quantize: str) -> list[BackendKind]:
    """Those that can decode a model that is held so, the fastest first. See `BackendKind.why_not`."""
    return [kind for kind in BACKENDS if kind.why_not(config, device, quantize) is None]


def choose_backend(config: Any, device: str, quantize: str, wanted: str) -> BackendKind:
    """The backend that `[decode] backend` asks for. See `BackendKind.why_not`.

    Raises TemploraError where it cannot decode a model that is held so.
    """
    if wanted == "auto":
        return able_backends(config, device, quantize)[0]
    kind = backend_row(wanted)
    if reason := kind.why_not(config, device, quantize):
        raise TemploraError(reason, '[decode] backend = "auto" takes one that can')
    return kind


def _in_blocks(tokens: int) -> int:
    """The places that buffers have which grow by `BLOCK`."""
    return -(-tokens // BLOCK) * BLOCK


def _cache_bytes(shape: Shape, tokens: int, each: int) -> int:
    """Keys and values, as many in each layer."""
    return 2 * tokens * shape.num_layers * shape.num_kv_heads * shape.head_dim * each
