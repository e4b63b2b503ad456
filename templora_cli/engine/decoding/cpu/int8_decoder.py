"""The decoder of the int8 backend: Llama and similar models, for a prompt or a single token.

The forward pass of transformers is general; for a batch of one it spends more time between matrix products
than in them. This decoder supports one case: no padding, no gradients, and a bfloat16 key-value cache that is
updated in place. A prompt goes through the model's own linear layers with the live adapter, or through merged
weights while the 8-bit copy is being made. A single token goes through the 8-bit copy (`numba_kernels`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention

from templora_cli.engine.decoding.protocols import BLOCK
from templora_cli.engine.decoding.transformer_blocks import (
    RMSNormWeights,
    TransformerBlock,
    layers_of,
    rotary_cos_sin,
)
from templora_cli.engine.kernels import numba_kernels
from templora_cli.engine.kernels.families import ACTIVATIONS, activation_name

Quantizer = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From a float32 weight [out, in] to a matrix [out, in] and a scale for each row [out]."""


class Int8Decoder:
    """A `CachedDecoder` that decodes single tokens from quantised weights."""

    def __init__(self, module: nn.Module, quantizer: Quantizer, *, block: int = BLOCK) -> None:
        """`module` is a float32 model on the CPU for which `has_fast_decoder` is true.

        `block` is the number of positions by which the key-value cache grows.
        """
        self.block = block
        model: Any = module.get_base_model() if isinstance(module, PeftModel) else module
        self.model = model
        self.embed = model.model.embed_tokens
        layers = list(layers_of(model))
        self.layer_types = sorted({layer_type for _, layer_type, _ in layers})
        self.layers = [
            DecoderLayer(layer, model.config, self.layer_types.index(layer_type), window)
            for layer, layer_type, window in layers
        ]
        self.norm = RMSNormWeights(model.model.norm)
        self.head = LinearGroup([model.lm_head])
        activation = ACTIVATIONS[activation_name(model.config)]
        self.quantized = QuantizedModel(self.layers, self.norm, self.head, activation, quantizer)
        numba_kernels.prepare()
        _set_numba_threads()
        self._is_quantized = False
        self.release()

    def adapter_changed(self) -> None:
        """See `CachedDecoder.adapter_changed`. The next call of `logits_after` quantises again."""
        self._is_quantized = False

    def release(self) -> None:
        """See `CachedDecoder.release`."""
        layer = self.layers[0]
        shape = len(self.layers), layer.num_kv_heads, layer.head_dim, 0
        self._keys = self._values = torch.empty(shape, dtype=torch.bfloat16)
        self._cos = self._sin = torch.empty(len(self.layer_types), 0, layer.head_dim)
        self.length = 0

    def logits_after(self, ids: Sequence[int]) -> Tensor:
        """See `CachedDecoder.logits_after`."""
        start, end = self.length, self.length + len(ids)
        self.reserve(end)
        x = self.embed(torch.tensor(list(ids)))  # [n, hidden]
        self.length = end
        return self._token(x[0], start) if len(ids) == 1 else self._prompt(x, start, end)

    def _token(self, x: Tensor, position: int) -> Tensor:
        if not self._is_quantized:
            self.quantized.quantize_all()
            self._is_quantized = True
        keys, values = (part.view(torch.int16).numpy() for part in (self._keys, self._values))
        cache = numba_kernels.Cache(keys, values, self._cos.numpy(), self._sin.numpy())
        return torch.from_numpy(numba_kernels.token(x.numpy(), self.quantized.weights, cache, position))

    def _prompt(self, x: Tensor, start: int, end: int) -> Tensor:
        cos, sin = self._cos[:, start:end], self._sin[:, start:end]
        # If weights have to be merged to be quantised, the prompt uses the merged weights too.
        project = LinearGroup.__call__ if self._is_quantized else self.quantized.quantize_and_project
        for layer, keys, values in zip(self.layers, self._keys, self._values, strict=True):
            x = layer.forward(x, start, keys, values, cos[layer.rope_index], sin[layer.rope_index], project)
        if not self._is_quantized:
            self.quantized.finish()
            self._is_quantized = True
        return self.head(_rms_norm(self.norm, x[-1:]))[0]

    def reserve(self, tokens: int) -> None:
        """See `CachedDecoder.reserve`. The first `length` positions are retained."""
        if tokens <= self._keys.shape[-1]:
            return
        num_positions = -(-tokens // self.block) * self.block
        for name in ("_keys", "_values"):
            old: Tensor = getattr(self, name)
            grown = old.new_empty(*old.shape[:-1], num_positions)
            grown[..., : self.length] = old[..., : self.length]
            setattr(self, name, grown)
        cos_sin = [self._cos_sin(layer_type, num_positions) for layer_type in self.layer_types]
        self._cos, self._sin = (torch.stack(parts) for parts in zip(*cos_sin, strict=True))

    def _cos_sin(self, layer_type: str, num_positions: int) -> tuple[Tensor, Tensor]:
        """cos and sin of the rotary embedding, [n, head_dim]; the first half of sin is negated."""
        cos, sin = rotary_cos_sin(self.model, layer_type, num_positions)
        half = sin.shape[-1] // 2
        return cos, torch.cat((-sin[:, :half], sin[:, half:]), -1)


def _set_numba_threads() -> None:
    """Let numba use as many threads as torch, without changing torch's number."""
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    # At its start numba sets the number of OpenMP threads, which torch shares, to the number of cores.
    torch.set_num_threads(threads)


class DecoderLayer(TransformerBlock["LinearGroup"]):
    """The forward pass of a prompt through a block."""

    def __init__(self, layer: Any, config: Any, rope_index: int, window: int | None) -> None:
        """`rope_index` is the index of the layer's cos and sin."""
        super().__init__(layer, config, window, LinearGroup)
        self.rope_index, self.activation = rope_index, layer.mlp.act_fn

    def forward(
        self, x: Tensor, start: int, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor, project: Project
    ) -> Tensor:
        """[n, hidden] -> [n, hidden], for n positions from `start` on.

        Writes their keys and values into the layer's cache, [num_kv_heads, head_dim, positions].
        """
        heads = project(self.qkv, _rms_norm(self.before_attention, x))
        attended = project(self.out, self._attention(heads, start, keys, values, cos, sin))
        x = x + (_rms_norm(self.after_attention, attended) if self.after_attention else attended)
        gate, up = project(self.gate_up, _rms_norm(self.before_mlp, x)).chunk(2, -1)
        hidden = project(self.down, self.activation(gate) * up)
        return x + (_rms_norm(self.after_mlp, hidden) if self.after_mlp else hidden)

    def _attention(
        self, x: Tensor, start: int, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor
    ) -> Tensor:
        """Attention of x: queries, keys and values, [n, (num_heads + 2 num_kv_heads) * head_dim]."""
        n, end = len(x), start + len(x)
        heads = x.view(n, self.num_heads + 2 * self.num_kv_heads, self.head_dim).transpose(0, 1)
        queries, new_keys, new_values = torch.split(
            heads, [self.num_heads, self.num_kv_heads, self.num_kv_heads]
        )
        if self.q_norm and self.k_norm:
            queries, new_keys = _rms_norm(self.q_norm, queries), _rms_norm(self.k_norm, new_keys)
        queries = _rotate(queries, cos, sin)
        keys[..., start:end] = _rotate(new_keys, cos, sin).transpose(-1, -2)
        values[..., start:end] = new_values.transpose(-1, -2)
        first = max(0, start + 1 - self.window) if self.window else 0
        is_causal = start == 0 and not (self.window and end > self.window)
        attended = scaled_dot_product_attention(
            queries[None],
            keys[None, ..., first:end].transpose(-1, -2).float().contiguous(),
            values[None, ..., first:end].transpose(-1, -2).float().contiguous(),
            None if is_causal else self._mask(first, start, end),
            is_causal=is_causal,
            scale=self.scaling,
            enable_gqa=True,
        )
        return attended[0].transpose(0, 1).reshape(n, -1)

    def _mask(self, first: int, start: int, end: int) -> Tensor:
        """The attention mask of queries `start` to `end` and keys `first` to `end`; bool, [queries, keys]."""
        distance = torch.arange(start, end)[:, None] - torch.arange(first, end)
        mask = distance >= 0
        return mask & (distance < self.window) if self.window else mask


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the rotary embedding (arXiv 2104.09864) to x [heads, n, head_dim]; halves form the pairs."""
    swapped = x.view(*x.shape[:-1], 2, -1).flip(-2).reshape(x.shape)
    return torch.addcmul(x * cos, swapped, sin)


def _rms_norm(norm: RMSNormWeights, x: Tensor) -> Tensor:
    """RMSNorm, [..., n] -> [..., n]."""
    return rms_norm(x, norm.weight.shape, norm.weight, norm.eps)


class LinearGroup:
    """Linear layers that share an input; their outputs are concatenated."""

    def __init__(self, modules: Sequence[Any]) -> None:
        self.modules = modules

    def __call__(self, x: Tensor) -> Tensor:
        """[n, in] -> [n, out], by the model's own layers."""
        return torch.cat([module(x) for module in self.modules], -1)

    @property
    def has_adapter(self) -> bool:
        """Does any of them have an adapter?"""
        return any(isinstance(module, LoraLayer) for module in self.modules)

    def merged_weight(self) -> Tensor:
        """The weight [out, in] including the adapter."""
        weights = [_merged_weight(module) for module in self.modules]
        return weights[0] if len(weights) == 1 else torch.cat(weights)

    def bias(self) -> Tensor:
        """[out]"""
        return torch.cat(
            [
                torch.zeros(module.out_features) if module.bias is None else module.bias.detach()
                for module in self.modules
            ]
        )


Project = Callable[[LinearGroup, Tensor], Tensor]
"""Computes a `LinearGroup`, [n, in] -> [n, out]."""


def _merged_weight(module: Any) -> Tensor:
    if not isinstance(module, LoraLayer):
        return module.weight.detach()  # type: ignore[no-any-return]
    weight: Tensor = module.get_base_layer().weight.detach()
    for adapter in () if module.disable_adapters else module.active_adapters:
        weight = module.get_delta_weight(adapter).detach().add_(weight)
    return weight


class QuantizedModel:
    """The weights for `numba_kernels`."""

    weights: numba_kernels.ModelWeights
    """Set by `finish`."""

    def __init__(
        self,
        layers: Sequence[DecoderLayer],
        norm: RMSNormWeights,
        head: LinearGroup,
        activation: int,
        quantizer: Quantizer,
    ) -> None:
        first = layers[0]

        def stack(name: str) -> QuantizedLinears:
            return QuantizedLinears([getattr(layer, name) for layer in layers], quantizer)

        self.layers, self.norm = layers, norm
        self.qkv, self.out, self.gate_up, self.down = map(stack, ("qkv", "out", "gate_up", "down"))
        self.head = QuantizedLinears([head], quantizer)
        stacks = (self.qkv, self.out, self.gate_up, self.down, self.head)
        self._locations = {
            linear: (stack, index) for stack in stacks for index, linear in enumerate(stack.linears)
        }
        """The stack and index of each `LinearGroup`."""
        self.sizes = numba_kernels.ModelSizes(
            num_heads=first.num_heads,
            num_kv_heads=first.num_kv_heads,
            eps=first.before_mlp.eps,
            scaling=first.scaling,
            activation=activation,
            windows=np.array([layer.window or 0 for layer in layers]),
            rope_index=np.array([layer.rope_index for layer in layers]),
        )

    def quantize_all(self) -> None:
        """Quantise all weights with the current adapter."""
        for stack, index in self._locations.values():
            stack.quantize(index)
        self.finish()

    def quantize_and_project(self, linear: LinearGroup, x: Tensor) -> Tensor:
        """Quantise a `LinearGroup`, and compute it with its merged weight: [n, in] -> [n, out]."""
        stack, index = self._locations[linear]
        return nn.functional.linear(x, stack.quantize(index), stack.biases[index])

    def finish(self) -> None:
        """Set `weights`, after all linear layers except the head have been quantised."""
        self.head.quantize(0)
        layers = self.layers
        blocks = numba_kernels.BlockWeights(
            before_attention=_stacked([layer.before_attention for layer in layers]),
            qkv=self.qkv.matrix(),
            q_norm=_stacked([layer.q_norm for layer in layers]),
            k_norm=_stacked([layer.k_norm for layer in layers]),
            out=self.out.matrix(),
            after_attention=_stacked([layer.after_attention for layer in layers]),
            before_mlp=_stacked([layer.before_mlp for layer in layers]),
            gate_up=self.gate_up.matrix(),
            down=self.down.matrix(),
            after_mlp=_stacked([layer.after_mlp for layer in layers]),
        )
        weight, scales, bias = self.head.matrix()
        head = numba_kernels.Matrix(weight[0], scales[0], bias[0])
        self.weights = numba_kernels.ModelWeights(blocks, self.sizes, self.norm.weight.numpy(), head)


class QuantizedLinears:
    """The quantised weights of the same `LinearGroup` of each block, contiguous in memory."""

    def __init__(self, linears: Sequence[LinearGroup], quantizer: Quantizer) -> None:
        self.linears, self.quantizer = linears, quantizer
        self.biases = torch.stack([linear.bias() for linear in linears])
        """[blocks, out]"""
        self._buffers: tuple[Tensor, Tensor] | None = None
        """Weights [blocks, out, in] and scales [blocks, out]."""
        self._quantized: set[int] = set()

    def quantize(self, index: int) -> Tensor:
        """Quantise the weight of a block and return it merged, [out, in].

        A weight without an adapter is quantised once.
        """
        linear = self.linears[index]
        weight = linear.merged_weight()
        if index not in self._quantized or linear.has_adapter:
            parts = self.quantizer(weight)
            if self._buffers is None:
                self._buffers = self._buffer_for(parts[0]), self._buffer_for(parts[1])
            for buffer, part in zip(self._buffers, parts, strict=True):
                buffer[index] = part
            self._quantized.add(index)
        return weight

    def matrix(self) -> numba_kernels.Matrix:
        """The matrices with a first axis for the blocks. All of them must have been quantised."""
        assert self._buffers
        weights, scales = self._buffers
        return numba_kernels.Matrix(weights.numpy(), scales.numpy(), self.biases.numpy())

    def _buffer_for(self, first: Tensor) -> Tensor:
        if len(self.linears) == 1:  # the head is large: no second copy
            return first[None]
        return first.new_empty(len(self.linears), *first.shape)


def _stacked(norms: Sequence[RMSNormWeights | None]) -> numba_kernels.Floats:
    """The weights of the norms, [layers, n]; n is 0 for missing norms."""
    return torch.stack([torch.empty(0) if norm is None else norm.weight for norm in norms]).numpy()
