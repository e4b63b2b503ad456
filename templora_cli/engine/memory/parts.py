"""What everything takes of memory that a book takes, by the phases in which it is there.

Arithmetic over a model's `Shape` and the settings. A phase takes what is held all the time and its own.
docs/lab/memory.md has plans beside measured peaks. What was not measured stands here with what it rests on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from templora_cli.config import Config, LearningConfig
from templora_cli.engine.decoding.backends import BackendKind
from templora_cli.engine.memory.machine import DeviceMemory
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
docs/lab/memory.md, not derived."""
LOGITS_SCORED = 2
"""float32 copies of the logits of a chunk whose likelihood is taken: themselves and their log-softmax."""


@dataclass(frozen=True)
class Workload:
    """What is planned: a model, how it is held and where, and how much it reads and learns at once."""

    shape: Shape
    config: Config
    """With `gradient_checkpointing` on or off."""
    device_memory: DeviceMemory
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


def parts_of(workload: Workload, backend: BackendKind) -> Parts:
    """What the book takes."""
    parts = {**_held(workload), **_decoding(workload, backend), **_forward(workload)}
    if workload.config.train.learn:
        for name, of_name in _training(workload).items():
            parts[name] = {**parts.get(name, {}), **of_name}
    return parts


def _since(phase: Phase, size: int) -> dict[Phase, int]:
    """From that phase on."""
    return dict.fromkeys(PHASES[PHASES.index(phase) :], size)


def _held(workload: Workload) -> Parts:
    """What is there all the time, whatever decodes."""
    shape, device_memory, parts = workload.shape, workload.device_memory, Parts()
    if device_memory.device == "cpu":
        libraries = device_memory.libraries + LIBRARIES + TOKENIZER * shape.tokenizer_bytes
        parts["libraries"] = _since("load", libraries)
    parts["base"] = _since("load", _base_bytes(shape, workload.quantize, device_memory.bytes_each))
    if workload.config.train.learn:
        moments = len(OPTIMIZERS[workload.config.train.optimizer].moments)
        parts["adapter"] = _since("load", workload.adapter_bytes)
        parts["optimizer"] = _since("decode", moments * workload.adapter_bytes)
    return parts


def _decoding(workload: Workload, backend: BackendKind) -> Parts:
    """What decoding takes beside its forward passes."""
    each, taken = (
        workload.device_memory.bytes_each,
        backend.memory(workload.shape, workload.tokens, workload.device_memory.bytes_each),
    )
    parts = {name: _since("decode", size) for name, size in taken.from_then_on.items()}
    if workload.quantize == "nf4":
        largest = max((rows * columns for rows, columns in workload.shape.quantized), default=0)
        parts["unpacked layer"] = _since("decode", largest * each)
    return {**parts, **{name: {"decode": size} for name, size in taken.decoding.items()}}


def _forward(workload: Workload) -> Parts:
    """What forward passes without gradients take."""
    shape, each = workload.shape, workload.device_memory.bytes_each
    fused = not (workload.config.train.learn and workload.quantize == "int8")
    logits = logits_bytes(workload.chunk, shape.vocab_size, LOGITS_SCORED, sliced=shape.plain_head)
    return {
        "activations": {
            "decode": _forward_bytes(shape, workload.tokens - workload.chunk, each, fused),
            "score": _forward_bytes(shape, workload.tokens, each, fused),
        },
        "logits": {"score": logits},
    }


def _training(workload: Workload) -> Parts:
    """What the dearer of both recipes takes, and what its backward passes leave."""
    device_memory, adapter = workload.device_memory, workload.adapter_bytes
    recipes = (workload.config.human, workload.config.generated)
    dearest = max((_step(workload, how) for how in recipes), key=sum)
    longest = max(_trained_tokens(workload, how) for how in recipes)
    layer = layer_bytes(workload, longest)
    last = layer + _backward_bytes(workload, longest)
    # They come as the activations go, and are whole beside the first layer's.
    scratch = (
        OPTIMIZERS[workload.config.train.optimizer].scratch * adapter if device_memory.device == "cuda" else 0
    )
    parts: Parts = {
        "activations": {"train": dearest.activations},
        "logits": {"train": dearest.logits},
        "gradients": {"train": max(0, adapter + max(last, scratch) - sum(dearest))},
    }
    if device_memory.device == "cpu":
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


def _forward_bytes(shape: Shape, tokens: int, each: int, fused: bool) -> int:
    """The most that is there at once in a forward pass without gradients: in the widest product.

    Its input, the stream beside it, what the first half of a gated MLP made, and the product; where an
    adapter's layers are not `fused` also its part before and after scaling, and the sum.
    """
    wide = 3 if fused else 5
    mlp = 2 * shape.hidden_size + wide * shape.intermediate_size
    attention = 2 * shape.hidden_size + wide * shape.num_heads * shape.head_dim
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


def _trained_tokens(workload: Workload, how: LearningConfig) -> int:
    """The longest sequence of a step."""
    window = min(how.window_tokens or workload.chunk, workload.chunk)
    seen = workload.config.decode.context_tokens + workload.chunk - window
    return workload.header + min(how.context_tokens, seen) + window


def _step(workload: Workload, how: LearningConfig) -> StepMemory:
    """The peak of a training step, which its objective knows."""
    shape, each = workload.shape, workload.device_memory.bytes_each
    tokens = _trained_tokens(workload, how)
    layer, backward = layer_bytes(workload, tokens), _backward_bytes(workload, tokens)
    recurrent, experts = _block_bytes(shape, each)
    blocks = shape.recurrent.layers * recurrent + shape.experts.layers * experts
    activations = shape.num_layers * layer + tokens * blocks
    layer += tokens * (recurrent + experts)
    if workload.config.train.gradient_checkpointing == "on":
        activations, backward = shape.num_layers * tokens * shape.hidden_size * each, layer + backward
    sizes = StepSizes(
        header=workload.header,
        chunk=workload.chunk,
        scored=min(how.window_tokens or workload.chunk, workload.chunk),
        vocab_size=shape.vocab_size,
        model_can_slice=shape.plain_head,
        activations=activations,
        backward=backward,
        forward=lambda tokens: _forward_bytes(shape, tokens, each, fused=True),
    )
    return OBJECTIVES[how.objective].memory(sizes, how)


def _backward_bytes(workload: Workload, tokens: int) -> int:
    """What a layer's backward pass makes beside what is kept for it."""
    shape, each = workload.shape, workload.device_memory.bytes_each
    return tokens * max(4 * shape.intermediate_size * each, *_block_bytes(shape, each))


def layer_bytes(workload: Workload, tokens: int) -> int:
    """What one layer of attention and an MLP keeps for its backward pass: the base is frozen, so only what
    leads to the adapter.

    A linear layer keeps its input for the adapter and one row of `rank` for its second matrix, and in 16
    bits a copy of both matrices. With dropout it keeps which numbers of its input were left, a byte each.
    """
    shape, config, device_memory = workload.shape, workload.config, workload.device_memory
    each, hidden, wide = device_memory.bytes_each, shape.hidden_size, shape.intermediate_size
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    # On a CPU the keys and values of a group are copied for each of its heads.
    attention = 2 * queries + 2 * (queries if device_memory.device == "cpu" else keys)
    attention += (queries + keys) if shape.head_norms else 0
    wide = (
        wide * (shape.num_layers - shape.experts.layers) // shape.num_layers
    )  # others have experts in its place
    numbers = attention + 3 * wide  # gate, its activation, up
    numbers += config.train.rank * shape.linears_each
    # Gemma's norms are not lean.
    norms = shape.norms * hidden * (FLOAT if shape.model_type.startswith("gemma") else each)
    inputs = (2 * hidden + wide) * each  # layers share them; the output of attention is counted
    if config.train.dropout:
        inputs += shape.inputs
    matrices = sum(rows + columns for rows, columns in shape.linears) // shape.num_layers * config.train.rank
    copies = 0 if each == FLOAT else matrices * each
    if config.model.quantize == "int8":  # nor are its layers: PEFT keeps their inputs in float32
        inputs += shape.inputs * FLOAT
    masked = _mask_bytes(shape, tokens, each) if device_memory.device == "cpu" else 0
    return tokens * (numbers * each + norms + inputs) + masked + copies
