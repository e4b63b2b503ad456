"""What a book will take of memory and how it is best held, before any weights are loaded.

A plan is the sum of its `parts`, by phases: the peak is that of the dearest phase, never the sum of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from templora_cli.config import Config, DecodeConfig, TrainConfig
from templora_cli.engine.decoding.backends import supported_backends
from templora_cli.engine.memory.machine import DeviceMemory
from templora_cli.engine.memory.parts import PHASES, Parts, Phase, Workload, parts_of
from templora_cli.engine.memory.sizes import largest_below
from templora_cli.engine.models.prequantized import held_as
from templora_cli.engine.models.shape import Shape
from templora_cli.errors import TemploraError

USUAL_HEADER = 128
"""Tokens of the prompt beside the book, for the plan of no book in particular: few premises have more."""
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
        hint or advice(shape, config, device_memory, header=header, chunk=chunk).text,
    )


def gigabytes(size: int) -> str:
    """Bytes in words."""
    return f"{size / 1e9:.2f} GB"


Changes = Mapping[tuple[str, str], Any]
"""Settings that are to be others, by table and key."""


@dataclass(frozen=True)
class Advice:
    """What would help where a book does not fit, or only just: with it there is room for `MARGIN`."""

    changes: Changes
    """The fewest changes of the settings; none where none are enough."""
    smaller: tuple[str, int] | None
    """The largest usual model that fits with the settings as they are, where those changes are none or turn
    learning off: its name and its parameters."""

    @property
    def learns(self) -> bool:
        """Is learning left as it is?"""
        return ("train", "learn") not in self.changes

    @property
    def flags(self) -> str:
        """The changes, as they are typed."""
        return " ".join(_flag(setting, value) for setting, value in self.changes.items())

    @property
    def text(self) -> str:
        """In a line."""
        if self.changes and self.learns:
            return f"add to the command: {self.flags}"
        smaller, without = "", f"this one fits without learning: {self.flags}" if self.changes else ""
        if self.smaller is not None:
            name, parameters = self.smaller
            smaller = f"a model of {in_billions(parameters)} parameters fits, such as --model {name}"
        said = "; ".join(filter(None, (smaller, without)))
        return said or "close other programs, or take a smaller --model (templora models list)"


def in_billions(parameters: int) -> str:
    """A number of parameters in words."""
    if parameters < 1e9:
        return f"{parameters / 1e6:.{0 if parameters >= 1e7 else 1}f} million"
    return f"{parameters / 1e9:.1f} billion"


def advice(
    shape: Shape, config: Config, device_memory: DeviceMemory, *, header: int, chunk: int | None = None
) -> Advice:
    """What leaves room for `MARGIN`: changes of the settings, or where none are enough a smaller model."""

    def is_safe(shape: Shape, changed: Config) -> bool:
        ratio = changed.decode.chunk_tokens / config.decode.chunk_tokens
        longest = None if chunk is None else int(chunk * ratio)
        made = plan(shape, changed, device_memory, header=header, chunk=longest)
        return made.fits and not made.is_tight

    changes = next((some for some in _ways(config, shape) if is_safe(shape, _changed(config, some))), {})
    found = Advice(changes, None)
    if changes and found.learns:
        return found
    return replace(found, smaller=largest_below(shape.parameters, lambda one: is_safe(one, config)))


def _ways(config: Config, shape: Shape) -> list[Changes]:
    """All that can be changed together: the fewest changes first, then those that cost the book least."""
    kinds: list[list[tuple[int, Changes]]] = [
        [(0, {("train", "gradient_checkpointing"): "auto"})],
        [(1, {("model", "quantize"): "nf4"})] if shape.comes is None or "nf4" in shape.comes.held else [],
        [(2, _thinner(config.train, 2)), (4, _thinner(config.train, 4))],
        [(3, _shorter(config.decode, 2)), (5, _shorter(config.decode, 4))],
        [(20, {("train", "learn"): False})] if config.train.learn else [],
    ]
    ways = []
    for some in product(*([None, *kind] for kind in kinds)):
        chosen = [one for one in some if one is not None]
        if chosen and all(_changed(config, changes) != config for _, changes in chosen):
            together = {setting: value for _, changes in chosen for setting, value in changes.items()}
            off = ("train", "learn") in together
            ways.append((off, len(chosen), sum(cost for cost, _ in chosen), together))
    return [together for *_, together in sorted(ways, key=lambda way: way[:3])]


def _thinner(train: TrainConfig, by: int) -> Changes:
    """A smaller adapter, whose output has the same scale."""
    return {("train", "rank"): max(1, train.rank // by), ("train", "alpha"): max(1, train.alpha // by)}


def _shorter(decode: DecodeConfig, by: int) -> Changes:
    """A shorter chunk after a shorter context."""
    chunk = max(8, decode.chunk_tokens // by)
    context = min(decode.context_tokens, 2 * chunk)
    return {("decode", "chunk_tokens"): chunk, ("decode", "context_tokens"): context}


def _changed(config: Config, changes: Changes) -> Config:
    for (table, key), value in changes.items():
        config = replace(config, **{table: replace(getattr(config, table), **{key: value})})
    return config


def _flag(setting: tuple[str, str], value: Any) -> str:
    if setting == ("train", "learn"):
        return "--no-learn"
    if setting == ("model", "quantize"):
        return f"--quantize {value}"
    table, key = setting
    return f"--set {f'{table}.' if key == 'context_tokens' else ''}{key}={value}"


def _checkpointing(config: Config, how: str) -> Config:
    return replace(config, train=replace(config.train, gradient_checkpointing=how))


def _plan(shape: Shape, config: Config, device_memory: DeviceMemory, chunk: int, header: int) -> Plan:
    quantize = held_as(shape.comes, config.model.quantize, device_memory.device, config.model.name)
    able = supported_backends(shape.config, device_memory.device, quantize)
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
        bits = 8 * device_memory.bytes_each
        called = shape.comes.name
        return (f"this model comes quantised as {called}, and its weights are unpacked to {bits} bits each",)
    packed = shape.packed_experts if quantize == "nf4" else 0
    notes = []
    if shape.expert_weights > packed:
        experts, every = (f"{count / 1e9:.1f}" for count in (shape.expert_weights, shape.parameters))
        most = f"the experts of this model, {experts} of {every} billion weights"
        why = "" if shape.packed_experts else f", as transformers computes them in {shape.model_type}"
        notes.append(f"{most}, stay {stay} with {quantize}{why}")
    if not shape.quantized and not packed:
        notes.append(f"no layer of this model ({shape.model_type}) can be quantised: its weights stay {stay}")
    return tuple(notes)
