"""What everything takes of memory that a book takes, by the phases in which it is there.

Arithmetic over a model's `Shape` and the settings. A phase takes what is held all the time and its own.
docs/performance.md has plans beside measured peaks. What was not measured stands here with what it rests on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from templora_cli.config import Config, LearningConfig
from templora_cli.engine.decoding.backends import BackendKind
from templora_cli.engine.memory.machine import Room
from templora_cli.engine.models.shape import Shape
from templora_cli.engine.training.loss import FLOAT, logits_bytes
from templora_cli.engine.training.objective import StepMemory, StepSizes
from templora_cli.engine.training.objectives import OBJECTIVES
from templora_cli.engine.training.optimizers import OPTIMIZERS

Phase = Literal["load", "decode", "score", "train"]
PHASES: tuple[Phase, ...] = ("load", "decode", "score", "train")
Parts = dict[str, dict[Phase, int]]
"""Bytes of everything that takes memory, by the phases in which it is there."""

TOKENIZER = 10
"""Bytes that a tokenizer takes in memory for each of its file: 11 and 10 of the embedded models."""
LIBRARIES = 50_000_000
"""What the libraries load later than at import, on a CPU."""
HOLES, HOLES_OF_LAYER = 300_000_000, 2
"""glibc's heap after a backward pass: bytes, and times the activations of a layer. Fitted to the runs of
docs/performance.md, not derived."""
LOGITS_SCORED = 2
"""float32 copies of the logits of a chunk whose likelihood is taken: themselves and their log-softmax."""


@dataclass(frozen=True)
class Book:
    """What is planned: a model, how it is held and where, and how much it reads and learns at once."""

    shape: Shape
    config: Config
    """With `gradient_checkpointing` on or off."""
    room: Room
    chunk: int
    """Tokens of the longest one."""
    header: int
    """Tokens of the prompt beside the book's."""
    quantize: str
    """nf4, int8 or none."""

    @property
    def tokens(self) -> int:
        """The longest sequence that is decoded."""
        return self.header + self.config.decode.context_tokens + self.chunk

    @property
    def adapter_bytes(self) -> int:
        """Of the temporary adapter, and of anything as large."""
        return self.config.train.rank * sum(sum(linear) for linear in self.shape.linears) * FLOAT


def parts_of(book: Book, backend: BackendKind) -> Parts:
    """What the book takes."""
    parts = {**_held(book), **_decoding(book, backend), **_forward(book)}
    if book.config.train.learn:
        for name, of_name in _training(book).items():
            parts[name] = {**parts.get(name, {}), **of_name}
    return parts


def _since(phase: Phase, size: int) -> dict[Phase, int]:
    """From that phase on."""
    return dict.fromkeys(PHASES[PHASES.index(phase) :], size)


def _held(book: Book) -> Parts:
    """What is there all the time, whatever decodes."""
    shape, room, parts = book.shape, book.room, Parts()
    if room.device == "cpu":
        libraries = room.libraries + LIBRARIES + TOKENIZER * shape.tokenizer_bytes
        parts["libraries"] = _since("load", libraries)
    parts["base"] = _since("load", _base_bytes(shape, book.quantize, room.bytes_each))
    if book.config.train.learn:
        moments = len(OPTIMIZERS[book.config.train.optimizer].moments)
        parts["adapter"] = _since("load", book.adapter_bytes)
        parts["optimizer"] = _since("decode", moments * book.adapter_bytes)
    return parts


def _decoding(book: Book, backend: BackendKind) -> Parts:
    """What decoding takes beside its forward passes."""
    each, taken = book.room.bytes_each, backend.memory(book.shape, book.tokens, book.room.bytes_each)
    parts = {name: _since("decode", size) for name, size in taken.from_then_on.items()}
    if book.quantize == "nf4":
        largest = max((rows * columns for rows, columns in book.shape.quantized), default=0)
        parts["unpacked layer"] = _since("decode", largest * each)
    return {**parts, **{name: {"decode": size} for name, size in taken.decoding.items()}}


def _forward(book: Book) -> Parts:
    """What forward passes without gradients take."""
    shape, each = book.shape, book.room.bytes_each
    lean = not (book.config.train.learn and book.quantize == "int8")
    logits = logits_bytes(book.chunk, shape.vocabulary, LOGITS_SCORED, sliced=shape.plain_head)
    return {
        "activations": {
            "decode": _forward_bytes(shape, book.tokens - book.chunk, each, lean),
            "score": _forward_bytes(shape, book.tokens, each, lean),
        },
        "logits": {"score": logits},
    }


def _training(book: Book) -> Parts:
    """What the dearer of both recipes takes, and what its backward passes leave."""
    room, adapter = book.room, book.adapter_bytes
    recipes = (book.config.given, book.config.own)
    dearest = max((_step(book, how) for how in recipes), key=sum)
    longest = max(_trained_tokens(book, how) for how in recipes)
    layer = layer_bytes(book, longest)
    last = layer + _backward_bytes(book, longest)
    # They come as the activations go, and are whole beside the first layer's.
    scratch = OPTIMIZERS[book.config.train.optimizer].scratch * adapter if room.device == "cuda" else 0
    parts: Parts = {
        "activations": {"train": dearest.activations},
        "logits": {"train": dearest.logits},
        "gradients": {"train": max(0, adapter + max(last, scratch) - sum(dearest))},
    }
    if room.device == "cpu":
        # They are there from the first backward pass on.
        parts["holes of the heap"] = _since("decode", HOLES + HOLES_OF_LAYER * layer)
    return parts


def _base_bytes(shape: Shape, quantize: str, each: int) -> int:
    """Those layers that can be are quantised, the rest is held in what is computed in."""
    linear = sum(rows * columns for rows, columns in shape.quantized)
    if quantize == "nf4":  # a scale of 8 bits for each 64 weights, and one of 32 for each 256 of those
        few = linear + shape.packed_experts
        return (shape.parameters - few) * each + few // 2 + few // 64 + FLOAT * few // (64 * 256)
    if quantize == "int8":
        scales = FLOAT * sum(rows for rows, _ in shape.quantized)
        return (shape.parameters - linear) * each + linear + scales
    return shape.parameters * each


def _forward_bytes(shape: Shape, tokens: int, each: int, lean: bool) -> int:
    """The most that is there at once in a forward pass without gradients: in the widest product.

    Its input, the stream beside it, what the first half of a gated MLP made, and the product; where an
    adapter's layers are not `lean` also its part before and after scaling, and the sum.
    """
    wide = 3 if lean else 5
    mlp = 2 * shape.hidden + wide * shape.intermediate
    attention = 2 * shape.hidden + wide * shape.heads * shape.head_size
    widest = max(mlp * each, attention * each, *_block_bytes(shape, each))
    return tokens * widest + _mask_bytes(shape, tokens, each)


def _block_bytes(shape: Shape, each: int) -> tuple[int, int]:
    """What a recurrent block and one of experts keep of a token for their backward passes.

    Without gradients not all of it is there at once; how much is was not measured.
    """
    recurrent, experts = (kept.numbers * each + kept.exact for kept in (shape.recurrent, shape.experts))
    return recurrent, experts


def _mask_bytes(shape: Shape, tokens: int, each: int) -> int:
    """A window that is shorter than the text needs a mask: of bits, and as what is added to the scores."""
    return tokens * tokens * (1 + each) if any(w and w < tokens for w in shape.windows) else 0


def _trained_tokens(book: Book, how: LearningConfig) -> int:
    """The longest sequence of a step."""
    window = min(how.window_tokens or book.chunk, book.chunk)
    seen = book.config.decode.context_tokens + book.chunk - window
    return book.header + min(how.context_tokens, seen) + window


def _step(book: Book, how: LearningConfig) -> StepMemory:
    """The peak of a training step, which its objective knows."""
    shape, each = book.shape, book.room.bytes_each
    tokens = _trained_tokens(book, how)
    layer, backward = layer_bytes(book, tokens), _backward_bytes(book, tokens)
    recurrent, experts = _block_bytes(shape, each)
    blocks = shape.recurrent.layers * recurrent + shape.experts.layers * experts
    kept = shape.layers * layer + tokens * blocks
    layer += tokens * (recurrent + experts)
    if book.config.train.gradient_checkpointing == "on":
        kept, backward = shape.layers * tokens * shape.hidden * each, layer + backward
    sizes = StepSizes(
        header=book.header,
        chunk=book.chunk,
        counting=min(how.window_tokens or book.chunk, book.chunk),
        vocabulary=shape.vocabulary,
        sliced=shape.plain_head,
        kept=kept,
        backward=backward,
        forward=lambda tokens: _forward_bytes(shape, tokens, each, lean=True),
    )
    return OBJECTIVES[how.objective].memory(sizes, how)


def _backward_bytes(book: Book, tokens: int) -> int:
    """What a layer's backward pass makes beside what is kept for it."""
    shape, each = book.shape, book.room.bytes_each
    return tokens * max(4 * shape.intermediate * each, *_block_bytes(shape, each))


def layer_bytes(book: Book, tokens: int) -> int:
    """What one layer of attention and an MLP keeps for its backward pass: the base is frozen, so only what
    leads to the adapter.

    A linear layer keeps its input for the adapter and one row of `rank` for its second matrix, and in 16
    bits a copy of both matrices. With dropout it keeps which numbers of its input were left, a byte each.
    """
    shape, config, room = book.shape, book.config, book.room
    each, hidden, wide = room.bytes_each, shape.hidden, shape.intermediate
    queries, keys = shape.heads * shape.head_size, shape.groups * shape.head_size
    # On a CPU the keys and values of a group are copied for each of its heads.
    attention = 2 * queries + 2 * (queries if room.device == "cpu" else keys)
    attention += (queries + keys) if shape.head_norms else 0
    wide = wide * (shape.layers - shape.experts.layers) // shape.layers  # others have experts in its place
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
