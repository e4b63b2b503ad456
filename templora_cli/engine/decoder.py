"""Llama and its relatives one token at a time: what `backends/int8` decodes with.

The forward pass of transformers is made for every case; for a batch of one it spends more time between the
products than in them. This one knows one case: no padding, no gradients, keys and values in buffers that
are written in place, products with the same input fused. A prompt goes through the model's own linear
layers, with the adapter live; a single token through a merged copy of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text")
"""Architectures by transformers' `model_type` that it computes."""
STATIC_ROPE = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary embedding whose angles do not hang on how long the text has become."""
BLOCK = 256
"""Places by which the buffers grow."""

Product = Callable[[Tensor], Tensor]
"""x [1, in] -> [1, out]."""
Pack = Callable[[Tensor, "Tensor | None"], Product]
"""A merged weight [out, in] and its bias to its product."""


def supports(config: Any) -> bool:
    """Can a model with this transformers configuration be computed here?"""
    if config.model_type not in FAMILIES:
        return False
    ropes = config.rope_parameters
    kinds = [ropes] if "rope_type" in ropes else [rope for rope in ropes.values() if rope]
    odd = ("final_logit_softcapping", "attn_logit_softcapping", "use_bidirectional_attention")
    return all(rope["rope_type"] in STATIC_ROPE for rope in kinds) and not any(
        getattr(config, name, None) for name in odd
    )


class Decoder:
    """The model's logits, token after token; `length` tokens are behind it."""

    def __init__(self, module: nn.Module, pack: Pack) -> None:
        """Of a float32 model on the CPU whose configuration `supports` allows; `pack` makes the products."""
        model: Any = module.get_base_model() if isinstance(module, PeftModel) else module
        config = model.config
        self.embed = model.model.embed_tokens
        self.rotary = model.model.rotary_emb
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
        # Mistral has one kind of layer, and its window is that of all.
        windows = {"sliding_attention": config.sliding_window} if "sliding_attention" in kinds else {}
        if config.model_type == "mistral":
            windows["full_attention"] = config.sliding_window
        self.layers = [
            Layer(layer, config, kind, windows.get(kind), pack)
            for layer, kind in zip(model.model.layers, kinds, strict=True)
        ]
        self.norm = Norm(model.model.norm)
        self.head = Linear([model.lm_head], pack)
        self.length = 0
        self.angles: dict[str, tuple[Tensor, Tensor]] = {}
        self._capacity = 0

    def pack(self) -> None:
        """Copy the weights, with the adapter as it is now."""
        for layer in self.layers:
            for linear in (layer.qkv, layer.out, layer.gate_up, layer.down):
                linear.pack()
        self.head.pack()

    def logits_after(self, ids: Sequence[int]) -> Tensor:
        """The logits [V] that follow `ids`, which come after the `length` tokens so far."""
        start, end = self.length, self.length + len(ids)
        self._reserve(end)
        x = self.embed(torch.tensor(list(ids)))  # [n, hidden]
        angles = {kind: (cos[start:end], sin[start:end]) for kind, (cos, sin) in self.angles.items()}
        for layer in self.layers:
            x = layer(x, start, *angles[layer.kind])
        self.length = end
        return self.head(self.norm(x[-1:]))[0]

    def _reserve(self, places: int) -> None:
        if places <= self._capacity:
            return
        self._capacity = -(-places // BLOCK) * BLOCK
        for layer in self.layers:
            layer.reserve(self._capacity, self.length)
            if layer.kind not in self.angles or len(self.angles[layer.kind][0]) < self._capacity:
                self.angles[layer.kind] = self._angles(layer.kind)

    def _angles(self, kind: str) -> tuple[Tensor, Tensor]:
        """cos and sin of the rotary embedding [places, head_dim]; the first half of sin is negated."""
        places = torch.arange(self._capacity)[None]
        by_kind = [kind] if "layer_type" in inspect.signature(self.rotary.forward).parameters else []
        cos, sin = (part[0] for part in self.rotary(torch.empty(0), places, *by_kind))
        half = sin.shape[-1] // 2
        return cos, torch.cat((-sin[:, :half], sin[:, half:]), -1)


class Layer:
    """One block: attention and MLP, each between norms, added to what came in."""

    def __init__(self, layer: Any, config: Any, kind: str, window: int | None, pack: Pack) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.kind, self.window = kind, window
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.size, self.scaling = attention.head_dim, attention.scaling
        self.qkv = Linear([attention.q_proj, attention.k_proj, attention.v_proj], pack)
        self.out = Linear([attention.o_proj], pack)
        self.gate_up = Linear([mlp.gate_proj, mlp.up_proj], pack)
        self.down = Linear([mlp.down_proj], pack)
        self.activation = mlp.act_fn
        self.q_norm, self.k_norm = (
            Norm(getattr(attention, name)) if hasattr(attention, name) else None
            for name in ("q_norm", "k_norm")
        )
        self.before_attention = Norm(layer.input_layernorm)
        if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma has a norm behind each half too
            self.after_attention: Norm | None = Norm(layer.post_attention_layernorm)
            self.before_mlp = Norm(layer.pre_feedforward_layernorm)
            self.after_mlp: Norm | None = Norm(layer.post_feedforward_layernorm)
        else:
            self.before_mlp = Norm(layer.post_attention_layernorm)
            self.after_attention = self.after_mlp = None
        self.keys = self.values = torch.empty(self.groups, 0, self.size)

    def reserve(self, places: int, used: int) -> None:
        """Buffers for so many places, that keep the first `used`."""
        for name in ("keys", "values"):
            grown = torch.empty(self.groups, places, self.size)
            grown[:, :used] = getattr(self, name)[:, :used]
            setattr(self, name, grown)

    def __call__(self, x: Tensor, start: int, cos: Tensor, sin: Tensor) -> Tensor:
        """[n, hidden] -> [n, hidden], for the places from `start` on."""
        attended = self.out(self._attention(self.before_attention(x), start, cos, sin))
        x = x + (self.after_attention(attended) if self.after_attention else attended)
        gate, up = self.gate_up(self.before_mlp(x)).chunk(2, -1)
        made = self.down(self.activation(gate) * up)
        return x + (self.after_mlp(made) if self.after_mlp else made)

    def _attention(self, x: Tensor, start: int, cos: Tensor, sin: Tensor) -> Tensor:
        n, end = len(x), start + len(x)
        heads = self.qkv(x).view(n, self.heads + 2 * self.groups, self.size).transpose(0, 1)
        queries, keys, values = torch.split(heads, [self.heads, self.groups, self.groups])
        if self.q_norm and self.k_norm:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        queries = _rotated(queries, cos, sin)
        self.keys[:, start:end] = _rotated(keys, cos, sin)
        self.values[:, start:end] = values
        first = max(0, start + 1 - self.window) if self.window else 0
        keys, values = self.keys[None, :, first:end], self.values[None, :, first:end]
        if n == 1:  # the heads that share keys and values as rows of one product
            grouped = queries.view(1, self.groups, -1, self.size)
            attended = scaled_dot_product_attention(grouped, keys, values, scale=self.scaling)
            return attended.view(1, -1)
        plain = start == 0 and not (self.window and end > self.window)
        attended = scaled_dot_product_attention(
            *(queries[None], keys, values, None if plain else self._mask(first, start, end)),
            is_causal=plain,
            scale=self.scaling,
            enable_gqa=True,
        )
        return attended[0].transpose(0, 1).reshape(n, -1)

    def _mask(self, first: int, start: int, end: int) -> Tensor:
        """Which of the places `first` to `end` each of `start` to `end` sees; bool, [queries, keys]."""
        distance = torch.arange(start, end)[:, None] - torch.arange(first, end)
        seen = distance >= 0
        return seen & (distance < self.window) if self.window else seen


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding (arXiv 2104.09864) of x [heads, n, head_dim], its halves as the pairs."""
    swapped = x.view(*x.shape[:-1], 2, -1).flip(-2).reshape(x.shape)
    return torch.addcmul(x * cos, swapped, sin)


class Norm:
    """RMSNorm with the weights of one of the model's."""

    def __init__(self, norm: Any) -> None:
        gemma = type(norm).__name__.startswith("Gemma")  # its weights are kept around 0
        self.weight: Tensor = norm.weight.detach() + 1 if gemma else norm.weight.detach()
        self.eps: float = norm.eps if gemma else norm.variance_epsilon

    def __call__(self, x: Tensor) -> Tensor:
        """[..., n] -> [..., n]."""
        return rms_norm(x, self.weight.shape, self.weight, self.eps)


class Linear:
    """Linear layers of the model that share an input, side by side."""

    def __init__(self, modules: Sequence[Any], pack: Pack) -> None:
        self.modules = modules
        self._pack = pack
        self._product: Product | None = None

    def pack(self) -> None:
        """Copy the weights, with the adapter's part added; what no adapter is on is copied once."""
        if self._product is not None and not any(isinstance(module, LoraLayer) for module in self.modules):
            return
        biases = [bias for module in self.modules if (bias := module.bias) is not None]
        weights = [_merged(module) for module in self.modules]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        self._product = self._pack(weight, torch.cat(biases) if biases else None)

    def __call__(self, x: Tensor) -> Tensor:
        """[n, in] -> [n, out]: several rows by the model itself, one by the copy."""
        if len(x) == 1 and self._product is not None:
            return self._product(x)
        return torch.cat([module(x) for module in self.modules], -1)


def _merged(module: Any) -> Tensor:
    if not isinstance(module, LoraLayer):
        return module.weight.detach()  # type: ignore[no-any-return]
    weight: Tensor = module.get_base_layer().weight.detach()
    for adapter in () if module.disable_adapters else module.active_adapters:
        weight = weight + module.get_delta_weight(adapter).detach()
    return weight
