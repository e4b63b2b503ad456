"""Llama and its relatives, a prompt at once and then a token at a time: what `backends/int8` decodes with.

The forward pass of transformers is made for every case; for a batch of one it spends more time between the
products than in them. This one knows one case: no padding, no gradients, keys and values in buffers that
are written in place. A prompt goes through the model's own linear layers, with the adapter live; a single
token through a merged copy of them, by `kernels`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numba
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention

from templora_cli.engine import kernels
from templora_cli.engine.families import ACTIVATIONS, activation_of

BLOCK = 256
"""Places by which the buffers grow."""

Pack = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A merged weight [out, in], float32, to what a token reads: the matrix, and a scale for each row [out]."""


class Decoder:
    """The model's logits, token after token; `length` tokens are behind it."""

    def __init__(self, module: nn.Module, pack: Pack) -> None:
        """Of a float32 model on the CPU whose configuration `has_fast_decoder` allows."""
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
            Layer(layer, config, kind, windows.get(kind))
            for layer, kind in zip(model.model.layers, kinds, strict=True)
        ]
        self.norm = Norm(model.model.norm)
        self.head = Linear([model.lm_head])
        self.to_matrix = pack
        _share_threads()
        self.length = 0
        self.angles: dict[str, tuple[Tensor, Tensor]] = {}
        self._capacity = 0

    def pack(self) -> None:
        """Copy the weights, with the adapter as it is now."""
        for layer in self.layers:
            layer.pack(self.to_matrix)
        self.head.pack(self.to_matrix)

    def logits_after(self, ids: Sequence[int]) -> Tensor:
        """The logits [V] that follow `ids`, which come after the `length` tokens so far.

        A single token needs the copy that `pack` makes.
        """
        start, end = self.length, self.length + len(ids)
        self._reserve(end)
        x = self.embed(torch.tensor(list(ids)))  # [n, hidden]
        self.length = end
        return self._token(x[0], start) if len(ids) == 1 else self._prompt(x, start, end)

    def _token(self, x: Tensor, at: int) -> Tensor:
        hidden = x.numpy()
        angles = {kind: (cos[at].numpy(), sin[at].numpy()) for kind, (cos, sin) in self.angles.items()}
        for layer in self.layers:
            layer.token(hidden, at, *angles[layer.kind])
        return torch.from_numpy(
            kernels.logits(hidden, self.norm.weight.numpy(), self.head.packed, self.norm.eps)
        )

    def _prompt(self, x: Tensor, start: int, end: int) -> Tensor:
        angles = {kind: (cos[start:end], sin[start:end]) for kind, (cos, sin) in self.angles.items()}
        for layer in self.layers:
            x = layer.prompt(x, start, *angles[layer.kind])
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


def _share_threads() -> None:
    """The kernels use as many threads as torch, and torch keeps its own."""
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    # numba has begun by setting OpenMP's number, which is torch's too, to that of the cores.
    torch.set_num_threads(threads)


class Layer:
    """One block: attention and MLP, each between norms, added to what came in."""

    def __init__(self, layer: Any, config: Any, kind: str, window: int | None) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.kind, self.window = kind, window
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.size, self.scaling = attention.head_dim, attention.scaling
        self.qkv = Linear([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out = Linear([attention.o_proj])
        self.gate_up = Linear([mlp.gate_proj, mlp.up_proj])
        self.down = Linear([mlp.down_proj])
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
        self.common = kernels.Common(
            heads=self.heads,
            groups=self.groups,
            eps=self.before_mlp.eps,
            scaling=self.scaling,
            activation=ACTIVATIONS[activation_of(config)],
        )
        self.keys = self.values = torch.empty(self.groups, self.size, 0)

    def reserve(self, places: int, used: int) -> None:
        """Buffers for so many places, that keep the first `used`."""
        for name in ("keys", "values"):
            grown = torch.empty(self.groups, self.size, places)
            grown[..., :used] = getattr(self, name)[..., :used]
            setattr(self, name, grown)

    def pack(self, to_matrix: Pack) -> None:
        """Copy the weights for `token`."""
        for linear in (self.qkv, self.out, self.gate_up, self.down):
            linear.pack(to_matrix)
        self.packed = kernels.Block(
            before_attention=_weight(self.before_attention),
            qkv=self.qkv.packed,
            q_norm=_weight(self.q_norm),
            k_norm=_weight(self.k_norm),
            out=self.out.packed,
            after_attention=_weight(self.after_attention),
            before_mlp=_weight(self.before_mlp),
            gate_up=self.gate_up.packed,
            down=self.down.packed,
            after_mlp=_weight(self.after_mlp),
        )

    def token(self, x: kernels.Floats, at: int, cos: kernels.Floats, sin: kernels.Floats) -> None:
        """Put x [hidden], the token at place `at`, through the block; in place."""
        first = max(0, at + 1 - self.window) if self.window else 0
        place = kernels.Place(self.keys.numpy(), self.values.numpy(), first, at, cos, sin)
        kernels.block(x, self.packed, self.common, place)

    def prompt(self, x: Tensor, start: int, cos: Tensor, sin: Tensor) -> Tensor:
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
        self.keys[..., start:end] = _rotated(keys, cos, sin).transpose(-1, -2)
        self.values[..., start:end] = values.transpose(-1, -2)
        first = max(0, start + 1 - self.window) if self.window else 0
        plain = start == 0 and not (self.window and end > self.window)
        attended = scaled_dot_product_attention(
            queries[None],
            self.keys[None, ..., first:end].transpose(-1, -2).contiguous(),
            self.values[None, ..., first:end].transpose(-1, -2).contiguous(),
            None if plain else self._mask(first, start, end),
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


def _weight(norm: Norm | None) -> kernels.Floats:
    return (torch.empty(0) if norm is None else norm.weight).numpy()


class Linear:
    """Linear layers of the model that share an input, side by side."""

    def __init__(self, modules: Sequence[Any]) -> None:
        self.modules = modules
        self._packed: kernels.Matrix | None = None

    @property
    def packed(self) -> kernels.Matrix:
        """The copy that `pack` made."""
        assert self._packed is not None
        return self._packed

    def pack(self, to_matrix: Pack) -> None:
        """Copy the weights, with the adapter's part added; what no adapter is on is copied once."""
        if self._packed is not None and not any(isinstance(module, LoraLayer) for module in self.modules):
            return
        weights = [_merged(module) for module in self.modules]
        weight, scales = to_matrix(weights[0] if len(weights) == 1 else torch.cat(weights))
        biases = [module.bias for module in self.modules if module.bias is not None]
        bias = torch.cat(biases).detach() if biases else torch.zeros(len(weight))
        self._packed = kernels.Matrix(weight.numpy(), scales.numpy(), bias.numpy())

    def __call__(self, x: Tensor) -> Tensor:
        """[n, in] -> [n, out], by the model itself."""
        return torch.cat([module(x) for module in self.modules], -1)


def _merged(module: Any) -> Tensor:
    if not isinstance(module, LoraLayer):
        return module.weight.detach()  # type: ignore[no-any-return]
    weight: Tensor = module.get_base_layer().weight.detach()
    for adapter in () if module.disable_adapters else module.active_adapters:
        weight = weight + module.get_delta_weight(adapter).detach()
    return weight
