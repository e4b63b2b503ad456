"""What a book will take of memory and how it is best held, before any weights are loaded.

A plan is the sum of its `parts`, by phases: the peak is that of the dearest phase, never the sum of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

from templora_cli.config import Config
from templora_cli.engine.decoding.backends import able_backends
from templora_cli.engine.memory.machine import DeviceMemory
from templora_cli.engine.memory.parts import PHASES, Parts, Phase, Workload, parts_of
from templora_cli.engine.models.prequantized import held_as
from templora_cli.engine.models.shape import Shape
from templora_cli.errors import TemploraError

USUAL_HEADER = 128
"""Tokens of the prompt beside the book, for the plan of no book in particular: few premises have more."""
Change = tuple[str, Callable[[Config], Config]]
"""Of the settings, and how it is asked for."""
MARGIN = 0.15
"""How far a peak may lie from its plan."""


@dataclass(frozen=True)
class Plan:
    """What a book takes, and what "auto" came to."""

    config: Config
    """With `gradient_checkpointing` on or off; how the model is held stands here:"""
    quantize: str
    backend: str
    device_memory: DeviceMemory
    parts: Parts
    notes: tuple[str, ...] = ()
    """Why it takes more than one would think."""

    def phase(self, name: Phase) -> int:
        """Bytes in use at the peak of a phase."""
        return sum(part.get(name, 0) for part in self.parts.values())

    @property
    def peak(self) -> int:
        """Bytes in use at most: of the process on a CPU, of the GPU on CUDA."""
        return max(map(self.phase, PHASES))

    @property
    def available(self) -> int:
        """Bytes that it may take: those that are free, and those that it holds already."""
        return self.device_memory.free + self.device_memory.held

    @property
    def fits(self) -> bool:
        """By the plan; what is within `MARGIN` of it may still turn out otherwise."""
        return self.peak <= self.available

    @property
    def is_tight(self) -> bool:
        """Does it fit by less than what a plan may be wrong by?"""
        return self.fits and self.peak * (1 + MARGIN) > self.available


def plan(
    shape: Shape, config: Config, device_memory: DeviceMemory, *, header: int, chunk: int | None = None
) -> Plan:
    """What a book takes with `config`, in which "auto" is settled: checkpointing only where it must be.

    `header` is the tokens of the prompt that stand beside the book's; `chunk` the longest one in tokens
    where it is not `chunk_tokens`.
    """
    chunk = config.decode.chunk_tokens if chunk is None else chunk
    if config.train.gradient_checkpointing != "auto":
        return _plan(shape, config, device_memory, chunk, header)
    without = _plan(shape, _checkpointing(config, "off"), device_memory, chunk, header)
    # What is tight without is better off with it: a plan may be wrong by as much.
    if without.fits and not without.is_tight:
        return without
    return _plan(shape, _checkpointing(config, "on"), device_memory, chunk, header)


def plan_or_refuse(
    shape: Shape,
    config: Config,
    device_memory: DeviceMemory,
    *,
    header: int,
    chunk: int | None = None,
    hint: str | None = None,
) -> Plan:
    """The `plan` of a book that fits. Raises TemploraError with figures and what would help where none does.

    `hint` says what would help where the settings are not to be changed any more.
    """
    made = plan(shape, config, device_memory, header=header, chunk=chunk)
    if made.fits:
        return made
    worst = max(PHASES, key=made.phase)
    parts = sorted(((part.get(worst, 0), name) for name, part in made.parts.items()), reverse=True)
    most = ", ".join(f"{name} {gigabytes(size)}" for size, name in parts[:3])
    raise TemploraError(
        f"not enough memory: to {worst} takes {gigabytes(made.phase(worst))} ({most}), and "
        f"{gigabytes(made.available)} are there on {device_memory.device}"
        + "".join(f"; {note}" for note in made.notes),
        hint or advice(shape, config, device_memory, header=header, chunk=chunk),
    )


def gigabytes(size: int) -> str:
    """Bytes in words."""
    return f"{size / 1e9:.2f} GB"


def advice(
    shape: Shape, config: Config, device_memory: DeviceMemory, *, header: int, chunk: int | None = None
) -> str:
    """The fewest changes of the settings with which it would fit, as flags."""
    half = max(8, config.decode.chunk_tokens // 2)
    context = min(config.decode.context_tokens, 2 * half)
    rank = max(1, config.train.rank // 4)
    quantized: Change = ("--quantize nf4", lambda c: replace(c, model=replace(c.model, quantize="nf4")))
    changes: list[Change] = [
        ("--set gradient_checkpointing=auto", lambda c: _checkpointing(c, "on")),
        *([quantized] if shape.comes is None or "nf4" in shape.comes.held else []),
        (
            f"--set chunk_tokens={half} --set decode.context_tokens={context}",
            lambda c: replace(c, decode=replace(c.decode, chunk_tokens=half, context_tokens=context)),
        ),
        (f"--set rank={rank}", lambda c: replace(c, train=replace(c.train, rank=rank))),
        ("--no-learn", lambda c: replace(c, train=replace(c.train, learn=False))),
    ]
    for count in range(1, len(changes) + 1):
        for some in combinations(changes, count):
            changed = config
            for _, change in some:
                changed = change(changed)
            ratio = changed.decode.chunk_tokens / config.decode.chunk_tokens
            longest = None if chunk is None else int(chunk * ratio)
            useful = all(change(config) != config for _, change in some)
            if useful and plan(shape, changed, device_memory, header=header, chunk=longest).fits:
                return " ".join(name for name, _ in some)
    return "use a smaller --model (templora models list), or close other programs"


def _checkpointing(config: Config, how: str) -> Config:
    return replace(config, train=replace(config.train, gradient_checkpointing=how))


def _plan(shape: Shape, config: Config, device_memory: DeviceMemory, chunk: int, header: int) -> Plan:
    quantize = held_as(shape.comes, config.model.quantize, device_memory.device, config.model.name)
    able = able_backends(shape.config, device_memory.device, quantize)
    # Another is asked for where that is "auto", or one that loading will refuse.
    backend = next((kind for kind in able if kind.name == config.decode.backend), able[0])
    parts = parts_of(Workload(shape, config, device_memory, chunk, header, quantize), backend)
    return Plan(config, quantize, backend.name, device_memory, parts, _notes(shape, quantize, device_memory))


def _notes(shape: Shape, quantize: str, device_memory: DeviceMemory) -> tuple[str, ...]:
    """Why a model takes more than a user would think."""
    stay = f"in {8 * device_memory.bytes_each} bits"
    if quantize == "none":
        if shape.comes is None:
            return ()
        return (f"it comes quantised as {shape.comes.name}, and its weights are unpacked: they are {stay}",)
    packed = shape.packed_experts if quantize == "nf4" else 0
    notes = []
    if shape.expert_weights > packed:
        experts, weights = (f"{count / 1e9:.1f}" for count in (shape.expert_weights, shape.parameters))
        why = "" if shape.packed_experts else f", as transformers computes them in {shape.model_type}"
        notes.append(f"its experts, {experts} of {weights} billion weights, stay {stay} with {quantize}{why}")
    if not shape.quantized and not packed:
        notes.append(f"no layer of {shape.model_type} can be quantised: its weights stay {stay}")
    return tuple(notes)
