"""The memory plan of a book, computed before any weights are loaded.

A phase needs the sum of its `parts`. The peak is that of the largest phase, not the sum over phases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from templora_cli.config import Config, DecodeConfig, TrainConfig
from templora_cli.engine.decoding.backends import supported_backends
from templora_cli.engine.memory.machine import DeviceMemory
from templora_cli.engine.memory.parts import IN_WORDS, PHASES, Parts, Phase, Workload, parts_of
from templora_cli.engine.memory.sizes import largest_below
from templora_cli.engine.models.prequantized import resolve_quantize
from templora_cli.engine.models.shape import Shape
from templora_cli.errors import TemploraError

USUAL_HEADER = 128
"""Tokens of the prompt before the book, for a plan without a book: few premises are longer."""
MARGIN = 0.15
"""Largest expected error of a plan, relative to it."""
ACTIVITIES: dict[Phase, str] = {
    "load": "loading the model",
    "decode": "decoding",
    "score": "scoring",
    "train": "training",
}
"""Phases as messages call them."""


@dataclass(frozen=True)
class Plan:
    """The memory that a book needs, and the values that "auto" settings resolved to."""

    config: Config
    """With `gradient_checkpointing` on or off."""
    quantize: str
    """nf4, int8 or none."""
    backend: str
    device_memory: DeviceMemory
    parts: Parts
    notes: tuple[str, ...] = ()
    """Reasons why the model needs more memory than a user would expect."""

    def phase(self, name: Phase) -> int:
        """Peak bytes of a phase."""
        return sum(part.get(name, 0) for part in self.parts.values())

    @property
    def peak(self) -> int:
        """Peak bytes: of the process on a CPU, of GPU memory on CUDA."""
        return max(map(self.phase, PHASES))

    @property
    def available(self) -> int:
        """Bytes that the process can use: free ones, and those that it already uses."""
        return self.device_memory.free + self.device_memory.in_use

    @property
    def fits(self) -> bool:
        """Does the plan fit? Within `MARGIN` of the available memory the book itself may not."""
        return self.peak <= self.available

    @property
    def is_tight(self) -> bool:
        """Does it fit by less than the error of a plan?"""
        return self.fits and self.peak * (1 + MARGIN) > self.available


def plan(
    shape: Shape,
    config: Config,
    device_memory: DeviceMemory,
    *,
    header: int,
    passing: int = 0,
    chunk: int | None = None,
) -> Plan:
    """Plan a book, and resolve "auto" settings: checkpointing is on only if memory requires it.

    `header` is the number of prompt tokens before the book, of which training does not see `passing`; `chunk`
    is that of the longest chunk, if it is not `chunk_tokens`.
    """
    chunk = config.decode.chunk_tokens if chunk is None else chunk
    if config.train.gradient_checkpointing != "auto":
        return _plan(shape, config, device_memory, (header, passing, chunk))
    without = _plan(shape, _with_checkpointing(config, "off"), device_memory, (header, passing, chunk))
    # If it is tight without checkpointing, the plan's error decides whether it fits.
    if without.fits and not without.is_tight:
        return without
    return _plan(shape, _with_checkpointing(config, "on"), device_memory, (header, passing, chunk))


def plan_or_refuse(
    shape: Shape,
    config: Config,
    device_memory: DeviceMemory,
    *,
    header: int,
    passing: int = 0,
    chunk: int | None = None,
    hint: str | None = None,
) -> Plan:
    """The `plan` of a book that fits. Otherwise raises TemploraError with figures and advice.

    `hint` replaces the advice if the settings can no longer be changed.
    """
    estimate = plan(shape, config, device_memory, header=header, passing=passing, chunk=chunk)
    if estimate.fits:
        return estimate
    largest = max(PHASES, key=estimate.phase)
    parts = sorted(((part.get(largest, 0), name) for name, part in estimate.parts.items()), reverse=True)
    largest_parts = ", ".join(f"{_in_words(name)} {gigabytes(size)}" for size, name in parts[:3])
    raise TemploraError(
        f"not enough memory on {device_memory.device}: {ACTIVITIES[largest]} needs about "
        f"{gigabytes(estimate.phase(largest))} ({largest_parts}), and {gigabytes(estimate.available)} is "
        "available" + "".join(f"; {note}" for note in estimate.notes),
        hint or advice(shape, config, device_memory, header=header, passing=passing, chunk=chunk).text,
    )


def _in_words(part: str) -> str:
    """The plain name of a part, without the term that it explains in a table."""
    name = IN_WORDS.get(part, part)
    return name.partition(": ")[2] or name


def gigabytes(size: int) -> str:
    """Bytes as text: 1.93 GB."""
    return f"{size / 1e9:.2f} GB"


Changes = Mapping[tuple[str, str], Any]
"""New values of settings, by table and key."""


@dataclass(frozen=True)
class Advice:
    """Remedies for a book that does not fit, or only just; each leaves `MARGIN` free."""

    changes: Changes
    """The fewest changes of settings that suffice; empty if none do."""
    smaller: tuple[str, int] | None
    """Name and parameters of the largest common model that fits with the current settings. Only if `changes`
    is empty or turns learning off."""

    @property
    def learns(self) -> bool:
        """Do the changes leave the setting for learning alone?"""
        return ("train", "learn") not in self.changes

    @property
    def flags(self) -> str:
        """The changes as command-line options."""
        return " ".join(_flag(setting, value) for setting, value in self.changes.items())

    @property
    def text(self) -> str:
        """The remedies in one line."""
        if self.changes and self.learns:
            return f"add to the command: {self.flags}"
        options = []
        if self.smaller is not None:
            name, parameters = self.smaller
            options.append(f"a model with {in_billions(parameters)} parameters fits, such as --model {name}")
        if self.changes:
            options.append(f"this model fits without learning: {self.flags}")
        return "; ".join(options) or "close other programs, or use a smaller --model (templora models list)"


def in_billions(parameters: int) -> str:
    """A number of parameters as text: 135 million, 6.7 billion."""
    if parameters < 1e9:
        return f"{parameters / 1e6:.{0 if parameters >= 1e7 else 1}f} million"
    return f"{parameters / 1e9:.1f} billion"


def advice(
    shape: Shape,
    config: Config,
    device_memory: DeviceMemory,
    *,
    header: int,
    passing: int = 0,
    chunk: int | None = None,
) -> Advice:
    """Find remedies that leave `MARGIN` free: changes of settings, or else a smaller model."""

    def is_safe(shape: Shape, changed: Config) -> bool:
        ratio = changed.decode.chunk_tokens / config.decode.chunk_tokens
        max_chunk = None if chunk is None else int(chunk * ratio)
        estimate = plan(shape, changed, device_memory, header=header, passing=passing, chunk=max_chunk)
        return estimate.fits and not estimate.is_tight

    candidates = _candidate_changes(config, shape)
    changes = next((some for some in candidates if is_safe(shape, _apply(config, some))), {})
    result = Advice(changes, None)
    if changes and result.learns:
        return result
    return replace(result, smaller=largest_below(shape.parameters, lambda other: is_safe(other, config)))


def _candidate_changes(config: Config, shape: Shape) -> list[Changes]:
    """All combinations of changes: the fewest changes first, then those that harm the book least."""
    formats = None if shape.quantization_format is None else shape.quantization_format.loadable_as
    # By kind of change; the number is its harm to the book, relative to the others.
    kinds: list[list[tuple[int, Changes]]] = [
        [(0, {("train", "gradient_checkpointing"): "auto"})],
        [(1, {("model", "quantize"): "nf4"})] if formats is None or "nf4" in formats else [],
        [(2, _smaller_adapter(config.train, 2)), (4, _smaller_adapter(config.train, 4))],
        [(3, _shorter_chunk(config.decode, 2)), (5, _shorter_chunk(config.decode, 4))],
        [(20, {("train", "learn"): False})] if config.train.learn else [],
    ]
    candidates = []
    for combination in product(*([None, *kind] for kind in kinds)):
        chosen = [option for option in combination if option is not None]
        if chosen and all(_apply(config, changes) != config for _, changes in chosen):
            merged = {setting: value for _, changes in chosen for setting, value in changes.items()}
            stops_learning = ("train", "learn") in merged
            candidates.append((stops_learning, len(chosen), sum(harm for harm, _ in chosen), merged))
    return [merged for *_, merged in sorted(candidates, key=lambda candidate: candidate[:3])]


def _smaller_adapter(train: TrainConfig, by: int) -> Changes:
    """A smaller rank, with the same scale of the adapter's output."""
    return {("train", "rank"): max(1, train.rank // by), ("train", "alpha"): max(1, train.alpha // by)}


def _shorter_chunk(decode: DecodeConfig, by: int) -> Changes:
    """A shorter chunk, and a shorter context before it."""
    chunk = max(8, decode.chunk_tokens // by)
    context = min(decode.context_tokens, 2 * chunk)
    return {("decode", "chunk_tokens"): chunk, ("decode", "context_tokens"): context}


def _apply(config: Config, changes: Changes) -> Config:
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


def _with_checkpointing(config: Config, value: str) -> Config:
    return replace(config, train=replace(config.train, gradient_checkpointing=value))


def _plan(shape: Shape, config: Config, device_memory: DeviceMemory, lengths: tuple[int, int, int]) -> Plan:
    header, passing, chunk = lengths
    quantize = resolve_quantize(
        shape.quantization_format, config.model.quantize, device_memory.device, config.model.name
    )
    supported = supported_backends(shape.config, device_memory.device, quantize)
    # The first one stands in for "auto", and for a backend that loading will refuse.
    backend = next((kind for kind in supported if kind.name == config.decode.backend), supported[0])
    parts = parts_of(Workload(shape, config, device_memory, chunk, header, quantize, passing), backend)
    return Plan(config, quantize, backend.name, device_memory, parts, _notes(shape, quantize, device_memory))


def _notes(shape: Shape, quantize: str, device_memory: DeviceMemory) -> tuple[str, ...]:
    """Reasons why a model needs more memory than a user would expect."""
    bits = 8 * device_memory.bytes_each
    if quantize == "none":
        if shape.quantization_format is None:
            return ()
        name = shape.quantization_format.name
        return (f"this model comes quantised as {name}, and its weights are unpacked to {bits} bits each",)
    packed = shape.packed_expert_weights if quantize == "nf4" else 0
    notes = []
    if shape.expert_weights > packed:
        in_experts, in_all = (f"{count / 1e9:.1f}" for count in (shape.expert_weights, shape.parameters))
        experts = f"the experts of this model, {in_experts} of {in_all} billion weights"
        reason = (
            ""
            if shape.packed_expert_weights
            else f", because templora cannot quantise experts of {shape.model_type} models"
        )
        notes.append(f"{experts}, stay in {bits} bits with {quantize}{reason}")
    if not shape.quantized and not packed:
        notes.append(
            f"no layer of this model ({shape.model_type}) can be quantised: its weights stay in {bits} bits"
        )
    return tuple(notes)
