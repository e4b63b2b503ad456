"""What a book will take of memory and how it is best held, before any weights are loaded.

Arithmetic over a model's `Shape`, the settings and what is free. A phase takes what is held all the time
and its own: the peak is that of the dearest phase, never the sum of them. docs/performance.md has the plans
beside measured peaks. What was not measured stands here with what it rests on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from templora_cli.config import Config, LearningConfig
from templora_cli.engine.decoding.base import PLACES, best_backend
from templora_cli.engine.models.shape import Shape
from templora_cli.engine.training.loss import SLICE
from templora_cli.errors import TemploraError

Phase = Literal["load", "decode", "score", "train"]
PHASES: tuple[Phase, ...] = ("load", "decode", "score", "train")

HEADER = 128
"""Tokens of instruction and premise, where the header is not known yet; few have more."""
FLOAT = 4
"""Bytes of float32, in which adapter, optimizer and losses are on every device."""
HALF = 2
"""Bytes of bfloat16, in which the int8 backend keeps keys and values."""
MARGIN = 0.15
"""How far a peak may lie from its plan."""

TOKENIZER = 10
"""Bytes that a tokenizer takes in memory for each of its file: 11 and 10 of the embedded models."""
LIBRARIES = 50_000_000
"""What the libraries load later than at import, on a CPU."""
COMPILER = 100_000_000
"""numba, LLVM and what they compiled: 58 MB when they are loaded, 40 MB at the first token. The first run of
all on a machine compiles in a process of its own, which takes some 0.3 GB, once."""
HOLES, HOLES_OF_LAYER = 300_000_000, 2
"""glibc's heap after a backward pass: bytes, and times the activations of a layer. Fitted to the runs of
docs/performance.md, not derived."""
CUDA_CONTEXT = 600_000_000
"""What a process takes of a GPU before its first tensor. A usual figure, not measured here."""

LOGITS_SLICED, LOGITS_SCORED, LOGITS_TRAINED, LOGITS_DISTILLED = 2, 2, 3, 4
"""float32 copies of the logits, or of a slice of them, that are there at once: their log-softmax, and the
gradients of both."""


@dataclass(frozen=True)
class Room:
    """The device that a book is to run on, and how much of it is free."""

    device: str
    """"cpu" or "cuda"."""
    dtype: str
    """What the model computes in there: "float32", "bfloat16" or "float16"."""
    free: int
    """Bytes that this process may still take."""
    total: int
    held: int = 0
    """Bytes that it holds already."""
    libraries: int = 0
    """Bytes that the libraries take there before a model is loaded; a GPU's are not in `free`."""

    @property
    def bytes_each(self) -> int:
        """Of a number that the model computes with."""
        return FLOAT if self.dtype == "float32" else 2


@dataclass(frozen=True)
class Plan:
    """What a book takes, and what "auto" came to."""

    config: Config
    """With `gradient_checkpointing` on or off; how the model is held stands here:"""
    quantize: str
    backend: str
    room: Room
    parts: dict[str, dict[Phase, int]]
    """Bytes of everything that takes memory, by the phases in which it is there."""

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
        return self.room.free + self.room.held

    @property
    def fits(self) -> bool:
        """By the plan; what is within `MARGIN` of it may still turn out otherwise."""
        return self.peak <= self.available

    @property
    def is_tight(self) -> bool:
        """Does it fit by less than what a plan may be wrong by?"""
        return self.fits and self.peak * (1 + MARGIN) > self.available


def plan(shape: Shape, config: Config, room: Room, *, chunk: int | None = None, header: int = HEADER) -> Plan:
    """What a book takes with `config`, in which "auto" is settled: checkpointing only where it must be.

    `chunk` is the longest one in tokens where it is not `chunk_tokens`.
    """
    chunk = config.decode.chunk_tokens if chunk is None else chunk
    if config.train.gradient_checkpointing != "auto":
        return _plan(shape, config, room, chunk, header)
    without = _plan(shape, _checkpointing(config, "off"), room, chunk, header)
    # What is tight without is better off with it: a plan may be wrong by as much.
    if without.fits and not without.is_tight:
        return without
    return _plan(shape, _checkpointing(config, "on"), room, chunk, header)


def settle(
    shape: Shape, config: Config, room: Room, *, chunk: int | None = None, hint: str | None = None
) -> Plan:
    """The plan of a book that fits. Raises TemploraError with figures and what would help where none does.

    `hint` says what would help where the settings are not to be changed any more.
    """
    made = plan(shape, config, room, chunk=chunk)
    if made.fits:
        return made
    worst = max(PHASES, key=made.phase)
    parts = sorted(((part.get(worst, 0), name) for name, part in made.parts.items()), reverse=True)
    most = ", ".join(f"{name} {gigabytes(size)}" for size, name in parts[:3])
    raise TemploraError(
        f"not enough memory: to {worst} takes {gigabytes(made.phase(worst))} ({most}), and "
        f"{gigabytes(made.available)} are there on {room.device}",
        hint or advice(shape, config, room, chunk),
    )


def gigabytes(size: int) -> str:
    """Bytes in words."""
    return f"{size / 1e9:.2f} GB"


def advice(shape: Shape, config: Config, room: Room, chunk: int | None = None) -> str:
    """The fewest changes of the settings with which it would fit, as flags."""
    half = max(8, config.decode.chunk_tokens // 2)
    context = min(config.decode.context_tokens, 2 * half)
    rank = max(1, config.train.rank // 4)
    changes: list[tuple[str, Callable[[Config], Config]]] = [
        ("--set gradient_checkpointing=auto", lambda c: _checkpointing(c, "on")),
        ("--quantize nf4", lambda c: replace(c, model=replace(c.model, quantize="nf4"))),
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
            if useful and plan(shape, changed, room, chunk=longest).fits:
                return " ".join(name for name, _ in some)
    return "use a smaller --model (templora models list), or close other programs"


def _checkpointing(config: Config, how: str) -> Config:
    return replace(config, train=replace(config.train, gradient_checkpointing=how))


def _plan(shape: Shape, config: Config, room: Room, chunk: int, header: int) -> Plan:
    each, quantize = room.bytes_each, config.model.quantize
    if quantize == "auto":
        quantize = "nf4" if room.device == "cuda" else "none"
    best = best_backend(room.device, quantize, decoded=shape.fast, captured=shape.captured)
    backend = config.decode.backend
    if backend not in ("eager", best):  # "auto", or one that loading will refuse
        backend = best
    book = header + config.decode.context_tokens + chunk
    learning = config.train.learn
    parts: dict[str, dict[Phase, int]] = {}

    def always(name: str, size: int, since: Phase = "load") -> None:
        parts[name] = dict.fromkeys(PHASES[PHASES.index(since) :], size)

    if room.device == "cpu":
        always("libraries", room.libraries + LIBRARIES + TOKENIZER * shape.tokenizer_bytes)
    always("base", _base_bytes(shape, quantize, each))
    adapter = config.train.rank * sum(rows + columns for rows, columns in shape.linears) * FLOAT
    if learning:
        moments = 1 if config.train.optimizer == "muon" else 2
        always("adapter", adapter)
        always("optimizer", moments * adapter, since="decode")
    if backend == "int8":
        packed = sum(rows * columns for rows, columns in shape.linears) + shape.vocabulary * shape.hidden
        always("8-bit copy", packed, since="decode")
        always("compiler", COMPILER, since="decode")
    if quantize == "nf4":
        rows, columns = max(shape.linears, key=lambda linear: linear[0] * linear[1])
        always("unpacked layer", rows * columns * each, since="decode")
    if backend in PLACES:
        places = -(-book // PLACES[backend]) * PLACES[backend]
        kept_in = HALF if backend == "int8" else each
        kept = _cache_bytes(shape, places, kept_in, sliding=False)
        parts["cache"] = {"decode": kept}
    else:
        parts["cache"] = {"decode": _cache_bytes(shape, book, each, sliding=True)}
    lean = not (learning and quantize == "int8")
    parts["activations"] = {
        "decode": _forward_bytes(shape, book - chunk, each, lean),
        "score": _forward_bytes(shape, book, each, lean),
    }
    parts["logits"] = {"score": _logits_bytes(shape, chunk, LOGITS_SCORED)}
    if learning:
        recipes = (config.given, config.own)
        steps = [_step(shape, config, how, room, chunk, header) for how in recipes]
        backward = max(steps, key=sum)
        parts["activations"]["train"], parts["logits"]["train"] = backward
        longest = max(_trained_tokens(config, how, chunk, header) for how in recipes)
        layer = _layer_bytes(shape, config, room, longest)
        last = layer + 4 * longest * shape.intermediate * each
        # They come as the activations go, and are whole beside the first layer's; on a GPU AdamW makes
        # something as large as the adapter beside them.
        foreach = adapter if room.device == "cuda" and config.train.optimizer == "adamw" else 0
        parts["gradients"] = {"train": max(0, adapter + max(last, foreach) - sum(backward))}
        if room.device == "cpu":
            # The holes are there from the first backward pass on.
            always("holes of the heap", HOLES + HOLES_OF_LAYER * layer, since="decode")
    return Plan(config, quantize, backend, room, parts)


def _base_bytes(shape: Shape, quantize: str, each: int) -> int:
    """Linear layers but the output head are quantised, the rest is held in what is computed in."""
    linear = sum(rows * columns for rows, columns in shape.linears)
    rest = (shape.parameters - linear) * each
    if quantize == "nf4":  # a scale of 8 bits for each 64 weights, and one of 32 for each 256 of those
        return rest + linear // 2 + linear // 64 + FLOAT * linear // (64 * 256)
    if quantize == "int8":
        return rest + linear + FLOAT * sum(rows for rows, _ in shape.linears)
    return shape.parameters * each


def _cache_bytes(shape: Shape, tokens: int, each: int, *, sliding: bool) -> int:
    """Keys and values; `sliding` says that a layer with a window keeps no more than that."""
    places = sum(min(tokens, window) if sliding and window else tokens for window in shape.windows)
    return 2 * places * shape.groups * shape.head_size * each


def _forward_bytes(shape: Shape, tokens: int, each: int, lean: bool) -> int:
    """The most that is there at once in a forward pass without gradients: in the widest product.

    Its input, the stream beside it, what the first half of a gated MLP made, and the product; where an
    adapter's layers are not `lean` also its part before and after scaling, and the sum.
    """
    wide = 3 if lean else 5
    mlp = 2 * shape.hidden + wide * shape.intermediate
    attention = 2 * shape.hidden + wide * shape.heads * shape.head_size
    return tokens * each * max(mlp, attention) + _mask_bytes(shape, tokens, each)


def _mask_bytes(shape: Shape, tokens: int, each: int) -> int:
    """A window that is shorter than the text needs a mask: of bits, and as what is added to the scores."""
    return tokens * tokens * (1 + each) if any(w and w < tokens for w in shape.windows) else 0


def _trained_tokens(config: Config, how: LearningConfig, chunk: int, header: int) -> int:
    """The longest sequence of a step."""
    window = min(how.window_tokens or chunk, chunk)
    seen = config.decode.context_tokens + chunk - window
    return header + min(how.context_tokens, seen) + window


def _step(
    shape: Shape, config: Config, how: LearningConfig, room: Room, chunk: int, header: int
) -> tuple[int, int]:
    """Bytes of the activations and of the logits at the peak of a training step."""
    tokens, each = _trained_tokens(config, how, chunk, header), room.bytes_each
    counting = min(how.window_tokens or chunk, chunk)
    layer = _layer_bytes(shape, config, room, tokens)
    if config.train.gradient_checkpointing == "on":
        kept = shape.layers * tokens * shape.hidden * each
        backward = layer + 4 * tokens * shape.intermediate * each
    else:
        kept = shape.layers * layer
        backward = 4 * tokens * shape.intermediate * each
    if how.objective == "distill":
        teacher = header + how.teacher_context_tokens + chunk
        taught = _forward_bytes(shape, teacher, each, lean=True)
        whole = chunk * shape.vocabulary * FLOAT  # the teacher's, of all windows
        rows = counting * shape.vocabulary * FLOAT  # logits once
        return max(taught, kept), whole + max(LOGITS_DISTILLED * rows, backward)
    # Those of the logits are gone before the first layer's gradients come.
    logits = _logits_bytes(shape, counting, LOGITS_TRAINED)
    return kept + max(0, backward - logits), logits


def _logits_bytes(shape: Shape, counting: int, copies: int) -> int:
    """Of the logits that there are at once for a loss over so many tokens."""
    if shape.plain_head:
        counting, copies = min(counting, max(1, SLICE // shape.vocabulary)), LOGITS_SLICED
    return copies * counting * shape.vocabulary * FLOAT


def _layer_bytes(shape: Shape, config: Config, room: Room, tokens: int) -> int:
    """What one layer keeps for its backward pass: the base is frozen, so only what leads to the adapter.

    A linear layer keeps its input for the adapter and one row of `rank` for its second matrix, and in 16
    bits a copy of both matrices. With dropout it keeps which numbers of its input were left, a byte each.
    """
    each, hidden, wide = room.bytes_each, shape.hidden, shape.intermediate
    queries, keys = shape.heads * shape.head_size, shape.groups * shape.head_size
    # On a CPU the keys and values of a group are copied for each of its heads.
    attention = 2 * queries + 2 * (queries if room.device == "cpu" else keys)
    attention += (queries + keys) if shape.head_norms else 0
    numbers = attention + 3 * wide  # gate, its activation, up
    numbers += config.train.rank * shape.linears_each
    # Gemma's norms are not lean.
    norms = shape.norms * hidden * (FLOAT if shape.model_type.startswith("gemma") else each)
    inputs = (2 * hidden + wide) * each  # layers share them; the output of attention is counted
    if config.train.dropout:
        inputs += shape.inputs
    matrices = sum(rows + columns for rows, columns in shape.linears) // shape.layers * config.train.rank
    copies = 0 if each == FLOAT else matrices * each
    if config.model.quantize == "int8":  # nor are its layers: PEFT keeps their inputs in float32
        inputs += shape.inputs * FLOAT
    masked = _mask_bytes(shape, tokens, each) if room.device == "cpu" else 0
    return tokens * (numbers * each + norms + inputs) + masked + copies
