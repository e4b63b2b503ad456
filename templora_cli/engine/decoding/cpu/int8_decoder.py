"""Llama and its relatives, a prompt at once and then a token at a time: what the int8 backend decodes with.

The forward pass of transformers is made for every case; for a batch of one it spends more time between the
products than in them. This one knows one case: no padding, no gradients, keys and values in buffers that
are written in place, in bfloat16. A prompt goes through the model's own linear layers, with the adapter live,
or merged where the copy is being made; a single token through that copy, by `kernels`.
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
from templora_cli.engine.decoding.transformer_blocks import Norm, TransformerBlock, layers_of, rotary_cos_sin
from templora_cli.engine.kernels import numba_kernels
from templora_cli.engine.kernels.families import ACTIVATIONS, activation_of

Pack = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A merged weight [out, in], float32, to what a token reads: the matrix, and a scale for each row [out]."""


class Int8Decoder:
    """The model's logits, token after token; `length` tokens are behind it."""

    def __init__(self, module: nn.Module, pack: Pack, *, block: int = BLOCK) -> None:
        """Of a float32 model on the CPU whose configuration `has_fast_decoder` allows.

        `block` is by how many places the buffers of keys and values grow.
        """
        self.block = block
        model: Any = module.get_base_model() if isinstance(module, PeftModel) else module
        self.model = model
        self.embed = model.model.embed_tokens
        layers = list(layers_of(model))
        self.kinds = sorted({kind for _, kind, _ in layers})
        self.layers = [
            Layer(layer, model.config, self.kinds.index(kind), window) for layer, kind, window in layers
        ]
        self.norm = Norm(model.model.norm)
        self.head = Linear([model.lm_head])
        self.copy = Copy(self.layers, self.norm, self.head, ACTIVATIONS[activation_of(model.config)], pack)
        numba_kernels.prepare()
        _share_threads()
        self._packed = False
        self.release()

    def adapter_changed(self) -> None:
        """The weights are copied anew when the next tokens are read."""
        self._packed = False

    def release(self) -> None:
        """See `cached.Int8Decoder.release`."""
        one = self.layers[0]
        room = torch.empty(len(self.layers), one.groups, one.size, 0, dtype=torch.bfloat16)
        self._keys = self._values = room
        self._cos = self._sin = torch.empty(len(self.kinds), 0, one.size)
        self.length = 0

    def logits_after(self, ids: Sequence[int]) -> Tensor:
        """The logits [V] that follow `ids`, which come after the `length` tokens so far."""
        start, end = self.length, self.length + len(ids)
        self.reserve(end)
        x = self.embed(torch.tensor(list(ids)))  # [n, hidden]
        self.length = end
        return self._token(x[0], start) if len(ids) == 1 else self._prompt(x, start, end)

    def _token(self, x: Tensor, at: int) -> Tensor:
        if not self._packed:
            self.copy.renew()
            self._packed = True
        keys, values = (part.view(torch.int16).numpy() for part in (self._keys, self._values))
        cache = numba_kernels.Cache(keys, values, self._cos.numpy(), self._sin.numpy())
        return torch.from_numpy(numba_kernels.token(x.numpy(), self.copy.model, cache, at))

    def _prompt(self, x: Tensor, start: int, end: int) -> Tensor:
        cos, sin = self._cos[:, start:end], self._sin[:, start:end]
        # What has to be merged for the copy is not taken apart again for the prompt.
        read = Linear.__call__ if self._packed else self.copy.read
        for layer, keys, values in zip(self.layers, self._keys, self._values, strict=True):
            x = layer.prompt(x, start, keys, values, cos[layer.kind], sin[layer.kind], read)
        if not self._packed:
            self.copy.complete()
            self._packed = True
        return self.head(_normed(self.norm, x[-1:]))[0]

    def reserve(self, tokens: int) -> None:
        """See `cached.Int8Decoder.reserve`; what the first `length` have left is kept."""
        if tokens <= self._keys.shape[-1]:
            return
        places = -(-tokens // self.block) * self.block
        for name in ("_keys", "_values"):
            old: Tensor = getattr(self, name)
            grown = old.new_empty(*old.shape[:-1], places)
            grown[..., : self.length] = old[..., : self.length]
            setattr(self, name, grown)
        angles = [self._angles(kind, places) for kind in self.kinds]
        self._cos, self._sin = (torch.stack(parts) for parts in zip(*angles, strict=True))

    def _angles(self, kind: str, places: int) -> tuple[Tensor, Tensor]:
        """cos and sin of the rotary embedding [places, head_dim]; the first half of sin is negated."""
        cos, sin = rotary_cos_sin(self.model, kind, places)
        half = sin.shape[-1] // 2
        return cos, torch.cat((-sin[:, :half], sin[:, half:]), -1)


def _share_threads() -> None:
    """The kernels use as many threads as torch, and torch keeps its own."""
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    # numba has begun by setting OpenMP's number, which is torch's too, to that of the cores.
    torch.set_num_threads(threads)


class Layer(TransformerBlock["Linear"]):
    """A block as a prompt goes through it."""

    def __init__(self, layer: Any, config: Any, kind: int, window: int | None) -> None:
        super().__init__(layer, config, window, Linear)
        self.kind, self.activation = kind, layer.mlp.act_fn

    def prompt(
        self, x: Tensor, start: int, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor, read: Read
    ) -> Tensor:
        """[n, hidden] -> [n, hidden], for the places from `start` on.

        Their keys and values are written into those of the layer, [groups, size, places].
        """
        heads = read(self.qkv, _normed(self.before_attention, x))
        attended = read(self.out, self._attention(heads, start, keys, values, cos, sin))
        x = x + (_normed(self.after_attention, attended) if self.after_attention else attended)
        gate, up = read(self.gate_up, _normed(self.before_mlp, x)).chunk(2, -1)
        made = read(self.down, self.activation(gate) * up)
        return x + (_normed(self.after_mlp, made) if self.after_mlp else made)

    def _attention(
        self, x: Tensor, start: int, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor
    ) -> Tensor:
        """x is queries, keys and values side by side [n, (heads + 2 groups) * size]."""
        n, end = len(x), start + len(x)
        heads = x.view(n, self.heads + 2 * self.groups, self.size).transpose(0, 1)
        queries, own_keys, own_values = torch.split(heads, [self.heads, self.groups, self.groups])
        if self.q_norm and self.k_norm:
            queries, own_keys = _normed(self.q_norm, queries), _normed(self.k_norm, own_keys)
        queries = _rotated(queries, cos, sin)
        keys[..., start:end] = _rotated(own_keys, cos, sin).transpose(-1, -2)
        values[..., start:end] = own_values.transpose(-1, -2)
        first = max(0, start + 1 - self.window) if self.window else 0
        plain = start == 0 and not (self.window and end > self.window)
        attended = scaled_dot_product_attention(
            queries[None],
            keys[None, ..., first:end].transpose(-1, -2).float().contiguous(),
            values[None, ..., first:end].transpose(-1, -2).float().contiguous(),
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


def _normed(norm: Norm, x: Tensor) -> Tensor:
    """RMSNorm, [..., n] -> [..., n]."""
    return rms_norm(x, norm.weight.shape, norm.weight, norm.eps)


class Linear:
    """Linear layers of the model that share an input, side by side."""

    def __init__(self, modules: Sequence[Any]) -> None:
        self.modules = modules

    def __call__(self, x: Tensor) -> Tensor:
        """[n, in] -> [n, out], by the model itself."""
        return torch.cat([module(x) for module in self.modules], -1)

    @property
    def adapted(self) -> bool:
        """Is an adapter on any of them?"""
        return any(isinstance(module, LoraLayer) for module in self.modules)

    def merged(self) -> Tensor:
        """The weight [out, in] with the adapter's part added."""
        weights = [_merged(module) for module in self.modules]
        return weights[0] if len(weights) == 1 else torch.cat(weights)

    def bias(self) -> Tensor:
        """[out]"""
        return torch.cat(
            [
                torch.zeros(module.out_features) if module.bias is None else module.bias.detach()
                for module in self.modules
            ]
        )


Read = Callable[[Linear, Tensor], Tensor]
"""[n, in] -> [n, out], through a `Linear` or what stands for it."""


def _merged(module: Any) -> Tensor:
    if not isinstance(module, LoraLayer):
        return module.weight.detach()  # type: ignore[no-any-return]
    weight: Tensor = module.get_base_layer().weight.detach()
    for adapter in () if module.disable_adapters else module.active_adapters:
        weight = module.get_delta_weight(adapter).detach().add_(weight)
    return weight


class Copy:
    """The model as `kernels` reads it."""

    def __init__(
        self, layers: Sequence[Layer], norm: Norm, head: Linear, activation: int, to_matrix: Pack
    ) -> None:
        one = layers[0]

        def stack(name: str) -> Matrices:
            return Matrices([getattr(layer, name) for layer in layers], to_matrix)

        self.layers, self.norm = layers, norm
        self.qkv, self.out, self.gate_up, self.down = map(stack, ("qkv", "out", "gate_up", "down"))
        self.head = Matrices([head], to_matrix)
        self._parts = (self.qkv, self.out, self.gate_up, self.down, self.head)
        self._places = {
            linear: (part, place) for part in self._parts for place, linear in enumerate(part.linears)
        }
        self.common = numba_kernels.ModelSizes(
            heads=one.heads,
            groups=one.groups,
            eps=one.before_mlp.eps,
            scaling=one.scaling,
            activation=activation,
            windows=np.array([layer.window or 0 for layer in layers]),
            angles=np.array([layer.kind for layer in layers]),
        )

    def renew(self) -> None:
        """Take the weights anew, with the adapter as it is now."""
        for part, place in self._places.values():
            part.take(place)
        self.complete()

    def read(self, linear: Linear, x: Tensor) -> Tensor:
        """[n, in] -> [n, out] by the weight as it is now, which is taken on the way."""
        part, place = self._places[linear]
        return nn.functional.linear(x, part.take(place), part.biases[place])

    def complete(self) -> None:
        """All has been taken but, it may be, the head."""
        self.head.take(0)
        layers = self.layers
        blocks = numba_kernels.BlockWeights(
            before_attention=_stacked([layer.before_attention for layer in layers]),
            qkv=self.qkv.read(),
            q_norm=_stacked([layer.q_norm for layer in layers]),
            k_norm=_stacked([layer.k_norm for layer in layers]),
            out=self.out.read(),
            after_attention=_stacked([layer.after_attention for layer in layers]),
            before_mlp=_stacked([layer.before_mlp for layer in layers]),
            gate_up=self.gate_up.read(),
            down=self.down.read(),
            after_mlp=_stacked([layer.after_mlp for layer in layers]),
        )
        weight, scales, bias = self.head.read()
        head = numba_kernels.Matrix(weight[0], scales[0], bias[0])
        self.model = numba_kernels.ModelWeights(blocks, self.common, self.norm.weight.numpy(), head)


class Matrices:
    """The copies of a linear layer of each block, in one piece of memory."""

    def __init__(self, linears: Sequence[Linear], to_matrix: Pack) -> None:
        self.linears, self.to_matrix = linears, to_matrix
        self.biases = torch.stack([linear.bias() for linear in linears])
        """[blocks, out]"""
        self._copies: tuple[Tensor, Tensor] | None = None
        """Weights and scales, with a first axis for the blocks."""
        self._taken: set[int] = set()

    def take(self, place: int) -> Tensor:
        """The merged weight [out, in] of that block; what no adapter is on is copied once."""
        linear = self.linears[place]
        weight = linear.merged()
        if place not in self._taken or linear.adapted:
            made = self.to_matrix(weight)
            if self._copies is None:
                self._copies = self._room(made[0]), self._room(made[1])
            for copies, part in zip(self._copies, made, strict=True):
                copies[place] = part
            self._taken.add(place)
        return weight

    def read(self) -> numba_kernels.Matrix:
        """With a first axis for the blocks, all of which have been taken."""
        assert self._copies
        weights, scales = self._copies
        return numba_kernels.Matrix(weights.numpy(), scales.numpy(), self.biases.numpy())

    def _room(self, first: Tensor) -> Tensor:
        if len(self.linears) == 1:  # the head, which is large: not twice
            return first[None]
        return first.new_empty(len(self.linears), *first.shape)


def _stacked(norms: Sequence[Norm | None]) -> numba_kernels.Floats:
    """The weights of the norms, [layers, n]; n is 0 where there is none."""
    return torch.stack([torch.empty(0) if norm is None else norm.weight for norm in norms]).numpy()
