"""Memory that a book uses, by part and by phase: arithmetic over the model's `Shape` and the settings.

docs/lab/memory.md compares plans with measured peaks. Figures that were not measured say what they rest on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from templora_cli.config import Config, LearningConfig
from templora_cli.engine.decoding.backends import BackendKind
from templora_cli.engine.memory.machine import DeviceMemory
from templora_cli.engine.models.shape import Shape
from templora_cli.engine.training.loss import FLOAT, logits_bytes
from templora_cli.engine.training.objective import StepMemory, StepSizes
from templora_cli.engine.training.objectives import OBJECTIVES
from templora_cli.engine.training.optimizers import OPTIMIZERS
from templora_cli.engine.training.replay import SAMPLE_TOKENS, step_memory

Phase = Literal["load", "decode", "score", "train"]
PHASES: tuple[Phase, ...] = ("load", "decode", "score", "train")
Parts = dict[str, dict[Phase, int]]
"""Bytes by the name of a part, then by the phases in which it is allocated."""

IN_WORDS = {
    "base": "the model",
    "adapter": "adapter: what is learnt",
    "optimizer": "optimizer: state of learning",
    "cache": "cache: the text in view",
    "8-bit copy": "8-bit copy of the model, for writing",
    "gradients": "gradients: steps of learning",
    "activations": "activations: values on the way",
    "logits": "logits: scores of all next words",
    "unpacked layer": "one layer, unpacked from 4 bits",
    "heap fragmentation": "gaps between blocks of memory",
}
"""Names of parts for people who do not know the terms, where the name of the part is such a term."""
TOKENIZER_FACTOR = 10
"""Bytes of memory per byte of the tokenizer's file: 11 and 10 for the embedded models."""
LAZY_LIBRARIES = 50_000_000
"""Bytes that the libraries allocate after their import, on a CPU."""
HEAP_BYTES, HEAP_LAYERS = 300_000_000, 2
"""Fragmentation of glibc's heap after a backward pass: bytes, plus a multiple of the activations of a layer.
Fitted to the runs of docs/lab/memory.md, not derived."""
SCORED_LOGITS = 2
"""float32 copies of a chunk's logits while its likelihood is computed: the logits and their log-softmax."""


@dataclass(frozen=True)
class Workload:
    """The input of a plan: a model, how and where it is loaded, and the lengths of its sequences."""

    shape: Shape
    config: Config
    """With `gradient_checkpointing` on or off."""
    device_memory: DeviceMemory
    chunk: int
    """Tokens of the longest chunk."""
    header: int
    """Tokens of the prompt before the book."""
    quantize: str
    """nf4, int8 or none."""
    passing: int = 0
    """Tokens of the header that training does not see."""

    @property
    def tokens(self) -> int:
        """Tokens of the longest sequence that is decoded."""
        return self.header + self.config.decode.context_tokens + self.chunk

    @property
    def adapter_bytes(self) -> int:
        """Bytes of the temporary adapter; its gradients and each moment of the optimizer have as many."""
        return self.config.train.rank * sum(sum(linear) for linear in self.shape.linears) * FLOAT


def parts_of(workload: Workload, backend: BackendKind) -> Parts:
    """Memory of the book by part and phase."""
    parts = {
        **_permanent_parts(workload),
        **_decoding_parts(workload, backend),
        **_forward_parts(workload),
    }
    if workload.config.train.learn:
        for name, by_phase in _training_parts(workload).items():
            parts[name] = {**parts.get(name, {}), **by_phase}
    return parts


def _since(phase: Phase, size: int) -> dict[Phase, int]:
    """`size` in this phase and all later ones."""
    return dict.fromkeys(PHASES[PHASES.index(phase) :], size)


def _permanent_parts(workload: Workload) -> Parts:
    """Parts that stay allocated, with any backend."""
    shape, device_memory, parts = workload.shape, workload.device_memory, Parts()
    if device_memory.device == "cpu":
        libraries = device_memory.libraries + LAZY_LIBRARIES + TOKENIZER_FACTOR * shape.tokenizer_bytes
        parts["libraries"] = _since("load", libraries)
    parts["base"] = _since("load", _base_bytes(shape, workload.quantize, device_memory.bytes_each))
    if workload.config.train.learn:
        moments = len(OPTIMIZERS[workload.config.train.optimizer].moments)
        parts["adapter"] = _since("load", workload.adapter_bytes)
        parts["optimizer"] = _since("decode", moments * workload.adapter_bytes)
    return parts


def _decoding_parts(workload: Workload, backend: BackendKind) -> Parts:
    """Parts of decoding, without its forward passes."""
    each = workload.device_memory.bytes_each
    memory = backend.memory(workload.shape, workload.tokens, each)
    parts = {name: _since("decode", size) for name, size in memory.from_then_on.items()}
    if workload.quantize == "nf4":
        largest = max((rows * columns for rows, columns in workload.shape.quantized), default=0)
        parts["unpacked layer"] = _since("decode", largest * each)
    return {**parts, **{name: {"decode": size} for name, size in memory.decoding.items()}}


def _forward_parts(workload: Workload) -> Parts:
    """Parts of forward passes without gradients."""
    shape, each = workload.shape, workload.device_memory.bytes_each
    fused = not (workload.config.train.learn and workload.quantize == "int8")
    logits = logits_bytes(workload.chunk, shape.vocab_size, SCORED_LOGITS, sliced=shape.has_plain_head)
    return {
        "activations": {
            "decode": _forward_bytes(shape, workload.tokens - workload.chunk, each, fused),
            "score": _forward_bytes(shape, workload.tokens, each, fused),
        },
        "logits": {"score": logits},
    }


def _training_parts(workload: Workload) -> Parts:
    """Parts of training, for the recipe that needs more memory, and the fragmentation that it causes."""
    device_memory, adapter = workload.device_memory, workload.adapter_bytes
    recipes = (workload.config.human, workload.config.generated)
    largest_step = max((_step_memory(workload, learning) for learning in recipes), key=sum)
    max_tokens = max(_step_tokens(workload, learning) for learning in recipes)
    layer = layer_bytes(workload, max_tokens)
    first_layer = layer + _backward_bytes(workload, max_tokens)
    replays = max((_replay_bytes(workload, learning) for learning in recipes), default=0)
    # Gradients grow while activations are freed, and are complete in the backward pass of the first layer.
    scratch = (
        OPTIMIZERS[workload.config.train.optimizer].scratch * adapter if device_memory.device == "cuda" else 0
    )
    parts: Parts = {
        "activations": {"train": largest_step.activations},
        "logits": {"train": largest_step.logits},
        "gradients": {"train": max(0, adapter + max(first_layer, scratch, replays) - sum(largest_step))},
    }
    if device_memory.device == "cpu":
        # It stays from the first backward pass on, so also while the next chunk is decoded.
        parts["heap fragmentation"] = _since("decode", HEAP_BYTES + HEAP_LAYERS * layer)
    return parts


def _base_bytes(shape: Shape, quantize: str, each: int) -> int:
    """Bytes of the base model: some layers are quantised, the others are in the compute dtype."""
    linear = sum(rows * columns for rows, columns in shape.quantized)
    if quantize == "nf4":  # an 8-bit scale per 64 weights, and a 32-bit scale per 256 of those scales
        packed = linear + shape.packed_expert_weights
        return (shape.parameters - packed) * each + packed // 2 + packed // 64 + FLOAT * packed // (64 * 256)
    if quantize == "int8":
        scales = FLOAT * sum(rows for rows, _ in shape.quantized)
        return (shape.parameters - linear) * each + linear + scales
    return shape.parameters * each


def _forward_bytes(shape: Shape, tokens: int, each: int, fused: bool) -> int:
    """Peak of the activations in a forward pass without gradients: during the widest matrix product.

    Alive at that time: its input, the residual stream, the gate output of a gated MLP, and the product. If
    the layers with an adapter are not `fused`, also the adapter's output before and after scaling, and the
    sum.
    """
    outputs = 3 if fused else 5
    mlp = 2 * shape.hidden_size + outputs * shape.intermediate_size
    attention = 2 * shape.hidden_size + outputs * shape.num_heads * shape.head_dim
    widest = max(mlp * each, attention * each, *_block_bytes(shape, each))
    return tokens * widest + _mask_bytes(shape, tokens, each)


def _block_bytes(shape: Shape, each: int) -> tuple[int, int]:
    """Bytes per token that a recurrent block and a block of experts save for their backward passes.

    Without gradients less is alive at once; how much less was not measured.
    """
    recurrent, experts = (
        saved.elements * each + saved.other_bytes for saved in (shape.recurrent, shape.experts)
    )
    return recurrent, experts


def _mask_bytes(shape: Shape, tokens: int, each: int) -> int:
    """Bytes of the mask of a window that is shorter than the text: booleans, and addends to the scores."""
    return tokens * tokens * (1 + each) if any(w and w < tokens for w in shape.windows) else 0


def _step_tokens(workload: Workload, learning: LearningConfig) -> int:
    """Tokens of the longest sequence of a training step."""
    window = min(learning.window_tokens or workload.chunk, workload.chunk)
    preceding = workload.config.decode.context_tokens + workload.chunk - window
    return workload.header - workload.passing + min(learning.context_tokens, preceding) + window


def _step_memory(workload: Workload, learning: LearningConfig) -> StepMemory:
    """Peak memory of a training step, computed by its objective."""
    sizes = _step_sizes(workload, learning)
    return OBJECTIVES[learning.objective].memory(sizes, learning)


def _replay_bytes(workload: Workload, learning: LearningConfig) -> int:
    """Bytes of the second part of a training step with replay, when all gradients of the adapter exist."""
    if not learning.replay_samples:
        return 0
    window = min(SAMPLE_TOKENS, learning.window_tokens or workload.chunk)
    sample = replace(learning, window_tokens=window, context_tokens=0)
    return sum(step_memory(_step_sizes(workload, sample)))


def _step_sizes(workload: Workload, learning: LearningConfig) -> StepSizes:
    """The sizes of a training step."""
    shape, each = workload.shape, workload.device_memory.bytes_each
    tokens = _step_tokens(workload, learning)
    layer, backward = layer_bytes(workload, tokens), _backward_bytes(workload, tokens)
    recurrent, experts = _block_bytes(shape, each)
    blocks = shape.recurrent.blocks * recurrent + shape.experts.blocks * experts
    activations = shape.num_layers * layer + tokens * blocks
    layer += tokens * (recurrent + experts)
    if workload.config.train.gradient_checkpointing == "on":
        activations, backward = shape.num_layers * tokens * shape.hidden_size * each, layer + backward
    return StepSizes(
        header=workload.header - workload.passing,
        chunk=workload.chunk,
        scored=min(learning.window_tokens or workload.chunk, workload.chunk),
        vocab_size=shape.vocab_size,
        model_can_slice=shape.has_plain_head,
        activations=activations,
        backward=backward,
        forward=lambda tokens: _forward_bytes(shape, tokens, each, fused=True),
    )


def _backward_bytes(workload: Workload, tokens: int) -> int:
    """Bytes that the backward pass of a layer allocates besides the saved activations."""
    shape, each = workload.shape, workload.device_memory.bytes_each
    return tokens * max(4 * shape.intermediate_size * each, *_block_bytes(shape, each))


def layer_bytes(workload: Workload, tokens: int) -> int:
    """Bytes that one layer of attention and MLP saves for its backward pass.

    The base is frozen, so only activations on the way to the adapter are saved. A linear layer saves its
    input for the adapter, `rank` elements per token for the adapter's second matrix, and in 16 bits a copy of
    both matrices. With dropout it also saves which elements of its input remained, a byte each.
    """
    shape, config, device_memory = workload.shape, workload.config, workload.device_memory
    each, hidden = device_memory.bytes_each, shape.hidden_size
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    # On a CPU, grouped-query attention copies keys and values for each query head.
    attention = 2 * queries + 2 * (queries if device_memory.device == "cpu" else keys)
    attention += (queries + keys) if shape.head_norms else 0
    # The mean over all layers: those with experts have no MLP of their own.
    mlp = shape.intermediate_size * (shape.num_layers - shape.experts.blocks) // shape.num_layers
    elements = attention + 3 * mlp  # gate, its activation, up
    elements += config.train.rank * shape.linears_each
    # Gemma's norms compute, and save, in float32.
    norms = shape.norms * hidden * (FLOAT if shape.model_type.startswith("gemma") else each)
    inputs = (2 * hidden + mlp) * each  # layers share them; the output of attention is counted above
    if config.train.dropout:
        inputs += shape.inputs
    matrices = sum(rows + columns for rows, columns in shape.linears) // shape.num_layers * config.train.rank
    copies = 0 if each == FLOAT else matrices * each
    if workload.quantize == "int8":  # PEFT saves the inputs of such layers in float32
        inputs += shape.inputs * FLOAT
    mask = _mask_bytes(shape, tokens, each) if device_memory.device == "cpu" else 0
    return tokens * (elements * each + norms + inputs) + mask + copies
