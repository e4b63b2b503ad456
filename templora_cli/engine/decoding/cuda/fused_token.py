"""A token of Llama and its relatives on a GPU in few launches: what `captured` takes its graph of if it can.

The forward pass of transformers launches over 100 kernels a block with an adapter, and most take less time
than it takes to begin one. Here they are eleven (`triton_kernels`). The base stays as it is held, in NF4 or
unquantised; the adapter is read where training writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from templora_cli.engine.decoding.transformer_blocks import Norm, TransformerBlock, layers_of, rotary_cos_sin
from templora_cli.engine.kernels.families import ACTIVATIONS, activation_of, has_fast_decoder
from templora_cli.engine.kernels.nf4 import has_kernels, is_packed, packed


class LaunchSizes(NamedTuple):
    """How much programs of `triton_kernels` read at a time."""

    rows: int = 2
    """Of a matrix, by `project`."""
    words: int = 128
    """Of eight weights, by `project`."""
    warps: int = 1
    """Of `project`."""
    numbers: int = 4096
    """Of a vector, by `shrink` and `add_normed`."""
    split: int = 256
    """Keys, by a program of `attend` in all."""
    keys: int = 64
    """Of them at once."""


LAUNCH_SIZES = LaunchSizes()


def can_be_fused(module: nn.Module, compiles: Callable[[torch.device], bool] = has_kernels) -> bool:
    """Are there kernels for the device, and do they know this model as it is held?"""
    model: Any = module.get_base_model() if isinstance(module, PeftModel) else module
    if not has_fast_decoder(model.config) or not compiles(model.device):
        return False
    if not all(map(_are_alike, _groups(model))):
        return False
    kinds = {_kind(linear) for group in _groups(model) for linear in group}
    kind = kinds.pop()
    if kinds or kind is None:
        return False
    return not kind.nf4 or model.dtype.itemsize == 2  # its product takes numbers of 16 bits


class WeightFormat(NamedTuple):
    """How a linear layer is held."""

    nf4: bool
    nested: bool
    adapted: bool


def _groups(model: Any) -> Iterator[Sequence[Any]]:
    """The linear layers of the blocks by their inputs, those with an adapter as such."""
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        yield attention.q_proj, attention.k_proj, attention.v_proj
        yield (attention.o_proj,)
        yield mlp.gate_proj, mlp.up_proj
        yield (mlp.down_proj,)


def _are_alike(group: Sequence[Any]) -> bool:
    """Have all a bias, and adapters of one rank and scale, or none?"""
    return len({(getattr(_base(one), "bias", None) is None, _adapter(one)) for one in group}) == 1


def _adapter(linear: Any) -> tuple[tuple[int, float], ...]:
    """Ranks and scales of its adapters."""
    if not isinstance(linear, LoraLayer):
        return ()
    return tuple((linear.r[name], linear.scaling[name]) for name in linear.active_adapters)


def _base(linear: Any) -> Any:
    return linear.get_base_layer() if isinstance(linear, LoraLayer) else linear


def _kind(linear: Any) -> WeightFormat | None:
    """None where it is not known here."""
    base, adapted = _base(linear), isinstance(linear, LoraLayer)
    if adapted and list(linear.lora_A) != linear.active_adapters:
        return None
    if type(base) is nn.Linear:
        return WeightFormat(nf4=False, nested=False, adapted=adapted)
    return WeightFormat(nf4=True, nested=packed(base).nested, adapted=adapted) if is_packed(base) else None


class ProjectionPart(NamedTuple):
    """A linear layer as `triton_kernels.project` takes it. Where a flag says that it does not read one of
    these, the weight stands for it."""

    weight: Tensor
    scales: Tensor
    second: Tensor
    offset: Tensor
    bias: Tensor
    b: Tensor
    """LoRA's, [rows, rank]."""
    rows: int


def _part(base: Any, b: Tensor | None) -> ProjectionPart:
    weight = base.weight.data
    scales, second, offset = packed(base)[1:4] if is_packed(base) else (weight,) * 3
    bias = weight if base.bias is None else base.bias
    return ProjectionPart(weight, scales, second, offset, bias, weight if b is None else b, base.out_features)


class Projection:
    """Linear layers with their adapters that share an input, at most three."""

    def __init__(self, modules: Sequence[Any], sizes: LaunchSizes = LAUNCH_SIZES) -> None:
        self.sizes = sizes
        bases = [_base(module) for module in modules]
        one = bases[0]
        self.columns = one.in_features
        self.rows = [base.out_features for base in bases]
        self.nf4 = is_packed(one)
        self.nested = self.nf4 and packed(one).nested
        self.biased = one.bias is not None
        adapted = [module for module in modules if isinstance(module, LoraLayer)]
        adapter = adapted[0].active_adapters[0] if adapted else ""
        self.scaling = adapted[0].scaling[adapter] if adapted else 0.0
        self.a = [module.lora_A[adapter].weight for module in adapted]  # [rank, columns]
        b = [module.lora_B[adapter].weight for module in adapted]
        self.rank = len(self.a[0]) if adapted else 0
        parts = [_part(base, expand) for base, expand in zip(bases, b or [None] * len(bases), strict=True)]
        parts += parts[-1:] * (3 - len(parts))  # of those that are not there no row is asked for
        self.parts = [value for part in parts for value in part]
        self.tables = packed(one)[4:6] if self.nf4 else (one.weight.data,) * 2

    def shrunk(self, x: Tensor, norm: Norm | None) -> tuple[Tensor, Tensor]:
        """x [n], normed where there is a norm, and what the adapters see of it [parts * rank], float32."""
        from templora_cli.engine.kernels.triton_kernels import shrink

        t = torch.empty(max(1, len(self.a) * self.rank), device=x.device, dtype=torch.float32)
        normed = x if norm is None else torch.empty_like(x)
        block = self.sizes.numbers
        programs = len(self.a) * self.rank + (0 if norm is None else -(-self.columns // block))
        if programs:
            a = [*self.a, *[self.a[-1] if self.a else x] * 3][:3]
            weight, eps = (x, 0.0) if norm is None else (norm.weight, norm.eps)
            shrink[(programs,)](
                *(x, weight, eps, *a, normed, t, self.columns),
                RANK=self.rank,
                PARTS=len(self.a),
                NORMED=norm is not None,
                PLANES=self.nf4,
                BLOCK=block,
                num_warps=16 if norm is None else 4,
            )
        return normed, t

    def __call__(
        self,
        x: Tensor,
        norm: Norm | None,
        out: Tensor,
        *,
        gated: int | None = None,
        added: Tensor | None = None,
    ) -> Tensor:
        """Of x [n], normed where there is a norm: the layers' outputs side by side, written into `out`.

        With `gated`, the number of an activation, that of the first times the second; with `added` plus that.
        """
        from templora_cli.engine.kernels.triton_kernels import project

        x, t = self.shrunk(x, norm)
        rows = self.rows[:1] if gated is not None else self.rows
        programs = sum(-(-count // self.sizes.rows) for count in rows)
        project[(programs,)](
            *(x, *self.parts, t, self.scaling, *self.tables, out if added is None else added, out),
            n=self.columns,
            NF4=self.nf4,
            NESTED=self.nested,
            BIASED=self.biased,
            RANK=self.rank,
            RANKS=_power(self.rank),
            GATED=gated is not None,
            ACTIVATION=gated or 0,
            ADD=added is not None,
            PLANES=self.nf4,
            ROWS=self.sizes.rows,
            WORDS=self.sizes.words,
            num_warps=self.sizes.warps,
        )
        return out


class FusedToken:
    """The logits after one token, by the weights of a model that `can_be_fused`."""

    def __init__(self, module: nn.Module, sizes: LaunchSizes = LAUNCH_SIZES) -> None:
        model: Any = module.get_base_model() if isinstance(module, PeftModel) else module
        self.model, self.sizes = model, sizes
        layers = list(layers_of(model))
        self.kinds = sorted({kind for _, kind, _ in layers})
        self.blocks = [
            FusedBlock(layer, model.config, self.kinds.index(kind), window, sizes)
            for layer, kind, window in layers
        ]
        self.norm = Norm(model.model.norm)
        self._angles: list[tuple[Tensor, Tensor]] = []
        """cos and sin of each kind, [places, head_dim], float32."""

    def reserve(self, places: int) -> None:
        """Know the angles of so many places."""
        self._angles = [rotary_cos_sin(self.model, kind, places) for kind in self.kinds]

    def __call__(self, token: Tensor, place: Tensor, layers: Sequence[Any]) -> Tensor:
        """Logits [V] after `token` [1, 1], which stands at `place` [1].

        `layers` have `keys` and `values` [1, groups, places, head_dim] with room for it; its own are
        written into them.
        """
        x = self.model.model.embed_tokens(token)[0, 0]
        for block, kept in zip(self.blocks, layers, strict=True):
            x = block(x, place, kept.keys, kept.values, *self._angles[block.kind])
        return self.model.lm_head(_normed(self.norm, x, self.sizes.numbers))  # type: ignore[no-any-return]


class FusedBlock(TransformerBlock[Projection]):
    """A block as one token goes through it."""

    def __init__(self, layer: Any, config: Any, kind: int, window: int | None, sizes: LaunchSizes) -> None:
        super().__init__(layer, config, window, partial(Projection, sizes=sizes))
        self.sizes = sizes
        self.kind, self.activation = kind, ACTIVATIONS[activation_of(config)]

    def __call__(
        self, x: Tensor, place: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor
    ) -> Tensor:
        """[hidden] -> [hidden]"""
        attended = self._attention(x, place, keys, values, cos, sin)
        x = self._sum(x, self.out, attended, self.after_attention)
        gated = torch.empty(self.down.columns, device=x.device, dtype=x.dtype)
        self.gate_up(x, self.before_mlp, gated, gated=self.activation)
        return self._sum(x, self.down, gated, self.after_mlp)

    def _sum(self, x: Tensor, projection: Projection, made: Tensor, norm: Norm | None) -> Tensor:
        """x and what the projection makes of `made`, through a norm where there is one."""
        out = torch.empty_like(x)
        if norm is None:
            return projection(made, None, out, added=x)
        return _added(x, norm, projection(made, None, out), self.sizes.numbers)

    def _attention(
        self, x: Tensor, place: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor
    ) -> Tensor:
        from templora_cli.engine.kernels.triton_kernels import attend, gather_heads, place_heads

        heads, groups, size, places = self.heads, self.groups, self.size, keys.shape[2]
        split, at_once = self.sizes.split, self.sizes.keys
        window, splits = self.window or 0, -(-places // split)

        def room(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(shape, device=x.device, dtype=dtype)

        made = self.qkv(x, self.before_attention, room((heads + 2 * groups) * size))
        queries, attended = (room(heads * size, dtype=x.dtype) for _ in range(2))
        q_norm, k_norm, eps = cos, cos, 0.0
        if self.q_norm and self.k_norm:
            q_norm, k_norm, eps = self.q_norm.weight, self.k_norm.weight, self.q_norm.eps
        place_heads[(heads + 2 * groups,)](
            *(made, q_norm, k_norm, eps, cos, sin, place, queries, keys, values, places, heads, groups),
            SIZE=size,
            HALF=_power(size // 2),
            NORMED=self.q_norm is not None,
        )
        sums, highest, totals = room(heads, splits, size), room(heads, splits), room(heads, splits)
        attend[(groups, splits)](
            *(queries, keys, values, place, window, self.scaling, sums, highest, totals, places, splits),
            SIZE=size,
            LAUNCH_SIZES=max(16, _power(size)),
            HEADS=heads // groups,
            SHARING=max(16, _power(heads // groups)),
            SPLIT=split,
            KEYS_AT_ONCE=at_once if size <= 128 else at_once // 2,
            PRECISION="ieee" if x.dtype == torch.float32 else "tf32",  # of float32 alone
        )
        gather_heads[(heads,)](
            *(sums, highest, totals, place, window, attended, splits),
            SIZE=size,
            LAUNCH_SIZES=max(16, _power(size)),
            SPLIT=split,
            PLANES=self.out.nf4,
        )
        return attended


def _normed(norm: Norm, x: Tensor, block: int) -> Tensor:
    """RMSNorm, [n] -> [n]."""
    from templora_cli.engine.kernels.triton_kernels import shrink

    normed = torch.empty_like(x)
    shrink[(-(-len(x) // block),)](
        *(x, norm.weight, norm.eps, x, x, x, normed, x, len(x)),
        RANK=0,
        PARTS=0,
        NORMED=True,
        PLANES=False,
        BLOCK=block,
        num_warps=4,
    )
    return normed


def _added(x: Tensor, norm: Norm, y: Tensor, block: int) -> Tensor:
    """x and the norm of y, [n]."""
    from templora_cli.engine.kernels.triton_kernels import add_normed

    out = torch.empty_like(x)
    programs = -(-len(x) // block)
    add_normed[(programs,)](*(x, y, norm.weight, norm.eps, out, len(x)), BLOCK=block, num_warps=4)
    return out


def _power(n: int) -> int:
    """The least power of two that is not below n."""
    return 1 << max(0, n - 1).bit_length()
