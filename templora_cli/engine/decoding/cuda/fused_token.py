"""The forward pass of one token of Llama and similar models on a GPU, with few kernel launches.

The forward pass of transformers launches over 100 kernels per block with an adapter, and most run for less
time than a launch takes. Here they are eleven (`triton_kernels`), and `cuda_graph` captures them if the model
is supported. They read the base in its format, NF4 or unquantised, and the adapter's own parameters, which
training changes in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from templora_cli.engine.decoding.transformer_blocks import (
    RMSNormWeights,
    TransformerBlock,
    layers_of,
    rotary_cos_sin,
)
from templora_cli.engine.kernels.families import ACTIVATIONS, activation_name, has_fast_decoder
from templora_cli.engine.kernels.nf4 import has_kernels, is_packed, packed_weight


class LaunchSizes(NamedTuple):
    """Tile sizes of the programs of `triton_kernels`."""

    rows: int = 2
    """Rows of a matrix per program of `project`."""
    words: int = 128
    """Words of eight weights that `project` reads at once."""
    warps: int = 1
    """Warps of a program of `project`."""
    numbers: int = 4096
    """Elements of a vector that `shrink` and `add_normed` read at once."""
    split: int = 256
    """Positions per program of `attend`."""
    keys: int = 64
    """Positions that `attend` reads at once."""


LAUNCH_SIZES = LaunchSizes()


def can_be_fused(module: nn.Module, compiles: Callable[[torch.device], bool] = has_kernels) -> bool:
    """Do the kernels support this device, and this model in its weight format?"""
    model: Any = module.get_base_model() if isinstance(module, PeftModel) else module
    if not has_fast_decoder(model.config) or not compiles(model.device):
        return False
    if not all(map(_can_share_launch, _linear_groups(model))):
        return False
    formats = {_weight_format(linear) for group in _linear_groups(model) for linear in group}
    weight_format = formats.pop()
    if formats or weight_format is None:
        return False
    return not weight_format.nf4 or model.dtype.itemsize == 2  # the NF4 product needs 16-bit inputs


class WeightFormat(NamedTuple):
    """The format of a linear layer."""

    nf4: bool
    nested: bool
    adapted: bool


def _linear_groups(model: Any) -> Iterator[Sequence[Any]]:
    """Yield the groups of linear layers that share an input, as LoRA layers if they have an adapter."""
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        yield attention.q_proj, attention.k_proj, attention.v_proj
        yield (attention.o_proj,)
        yield mlp.gate_proj, mlp.up_proj
        yield (mlp.down_proj,)


def _can_share_launch(group: Sequence[Any]) -> bool:
    """Do all have a bias or none, and all adapters of the same rank and scale or none?"""
    forms = {(getattr(_base_layer(linear), "bias", None) is None, _adapter_form(linear)) for linear in group}
    return len(forms) == 1


def _adapter_form(linear: Any) -> tuple[tuple[int, float], ...]:
    """Rank and scale of each adapter of a layer."""
    if not isinstance(linear, LoraLayer):
        return ()
    return tuple((linear.r[name], linear.scaling[name]) for name in linear.active_adapters)


def _base_layer(linear: Any) -> Any:
    return linear.get_base_layer() if isinstance(linear, LoraLayer) else linear


def _weight_format(linear: Any) -> WeightFormat | None:
    """The format of a linear layer; None if it is not supported."""
    base, adapted = _base_layer(linear), isinstance(linear, LoraLayer)
    if adapted and list(linear.lora_A) != linear.active_adapters:
        return None
    if type(base) is nn.Linear:
        return WeightFormat(nf4=False, nested=False, adapted=adapted)
    if not is_packed(base):
        return None
    return WeightFormat(nf4=True, nested=packed_weight(base).nested, adapted=adapted)


class ProjectionPart(NamedTuple):
    """The arguments of `triton_kernels.project` for a linear layer.

    If a flag disables an argument, the weight is passed in its place.
    """

    weight: Tensor
    scales: Tensor
    second_scales: Tensor
    offset: Tensor
    bias: Tensor
    b: Tensor
    """B of LoRA, [rows, rank]."""
    rows: int


def _projection_part(base: Any, b: Tensor | None) -> ProjectionPart:
    weight = base.weight.data
    scales, second_scales, offset = packed_weight(base)[1:4] if is_packed(base) else (weight,) * 3
    bias, b = weight if base.bias is None else base.bias, weight if b is None else b
    return ProjectionPart(weight, scales, second_scales, offset, bias, b, base.out_features)


class Projection:
    """Up to three linear layers that share an input, with their adapters."""

    def __init__(self, modules: Sequence[Any], sizes: LaunchSizes = LAUNCH_SIZES) -> None:
        self.sizes = sizes
        bases = [_base_layer(module) for module in modules]
        first = bases[0]
        self.columns = first.in_features
        self.rows = [base.out_features for base in bases]
        self.nf4 = is_packed(first)
        self.nested = self.nf4 and packed_weight(first).nested
        self.has_bias = first.bias is not None
        adapted = [module for module in modules if isinstance(module, LoraLayer)]
        adapter = adapted[0].active_adapters[0] if adapted else ""
        self.scaling = adapted[0].scaling[adapter] if adapted else 0.0
        self.a = [module.lora_A[adapter].weight for module in adapted]  # [rank, columns]
        all_b = [module.lora_B[adapter].weight for module in adapted] or [None] * len(bases)
        self.rank = len(self.a[0]) if adapted else 0
        parts = [_projection_part(base, b) for base, b in zip(bases, all_b, strict=True)]
        parts += parts[-1:] * (3 - len(parts))  # placeholders: no program computes their rows
        self.parts = [value for part in parts for value in part]
        self.tables = packed_weight(first)[4:6] if self.nf4 else (first.weight.data,) * 2

    def shrink(self, x: Tensor, norm: RMSNormWeights | None) -> tuple[Tensor, Tensor]:
        """Return norm(x) [n], or x without a norm, and its products with LoRA's A [parts * rank], float32."""
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
        norm: RMSNormWeights | None,
        out: Tensor,
        *,
        gate_activation: int | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        """Write the concatenated outputs of the layers for norm(x), or x without a norm, into `out`.

        x is [n]. With `gate_activation`, a number of `ACTIVATIONS`, the output is activation(first) * second.
        `residual` is added to the output.
        """
        from templora_cli.engine.kernels.triton_kernels import project

        x, t = self.shrink(x, norm)
        gated = gate_activation is not None
        rows = self.rows[:1] if gated else self.rows
        programs = sum(-(-count // self.sizes.rows) for count in rows)
        project[(programs,)](
            *(x, *self.parts, t, self.scaling, *self.tables, out if residual is None else residual, out),
            n=self.columns,
            NF4=self.nf4,
            NESTED=self.nested,
            HAS_BIAS=self.has_bias,
            RANK=self.rank,
            RANK_PADDED=_next_power_of_two(self.rank),
            GATED=gated,
            ACTIVATION=gate_activation or 0,
            HAS_RESIDUAL=residual is not None,
            PLANES=self.nf4,
            ROWS=self.sizes.rows,
            WORDS=self.sizes.words,
            num_warps=self.sizes.warps,
        )
        return out


class FusedToken:
    """The logits after one token, for a model for which `can_be_fused` is true."""

    def __init__(self, module: nn.Module, sizes: LaunchSizes = LAUNCH_SIZES) -> None:
        model: Any = module.get_base_model() if isinstance(module, PeftModel) else module
        self.model, self.sizes = model, sizes
        layers = list(layers_of(model))
        self.layer_types = sorted({layer_type for _, layer_type, _ in layers})
        self.blocks = [
            FusedBlock(layer, model.config, self.layer_types.index(layer_type), window, sizes)
            for layer, layer_type, window in layers
        ]
        self.norm = RMSNormWeights(model.model.norm)
        self._cos_sin: list[tuple[Tensor, Tensor]] = []
        """cos and sin of each layer type, [positions, head_dim], float32."""

    def reserve(self, num_positions: int) -> None:
        """Compute cos and sin of the given number of positions."""
        self._cos_sin = [
            rotary_cos_sin(self.model, layer_type, num_positions) for layer_type in self.layer_types
        ]

    def __call__(self, token: Tensor, position: Tensor, layers: Sequence[Any]) -> Tensor:
        """The logits [V] after `token` [1, 1] at `position` [1].

        `layers` have `keys` and `values` [1, num_kv_heads, positions, head_dim]. The token's keys and values
        are written into them.
        """
        x = self.model.model.embed_tokens(token)[0, 0]
        for block, cache in zip(self.blocks, layers, strict=True):
            x = block(x, position, cache.keys, cache.values, *self._cos_sin[block.rope_index])
        return self.model.lm_head(_rms_norm(self.norm, x, self.sizes.numbers))  # type: ignore[no-any-return]


class FusedBlock(TransformerBlock[Projection]):
    """The forward pass of one token through a block."""

    def __init__(
        self, layer: Any, config: Any, rope_index: int, window: int | None, sizes: LaunchSizes
    ) -> None:
        """`rope_index` is the index of the block's cos and sin."""
        super().__init__(layer, config, window, partial(Projection, sizes=sizes))
        self.sizes = sizes
        self.rope_index, self.activation = rope_index, ACTIVATIONS[activation_name(config)]

    def __call__(
        self, x: Tensor, position: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor
    ) -> Tensor:
        """[hidden] -> [hidden]"""
        attended = self._attention(x, position, keys, values, cos, sin)
        x = self._add_projection(x, self.out, attended, self.after_attention)
        hidden = torch.empty(self.down.columns, device=x.device, dtype=x.dtype)
        self.gate_up(x, self.before_mlp, hidden, gate_activation=self.activation)
        return self._add_projection(x, self.down, hidden, self.after_mlp)

    def _add_projection(
        self, x: Tensor, projection: Projection, y: Tensor, norm: RMSNormWeights | None
    ) -> Tensor:
        """x + norm(projection(y)), or x + projection(y) without a norm."""
        out = torch.empty_like(x)
        if norm is None:
            return projection(y, None, out, residual=x)
        return _add_normed(x, norm, projection(y, None, out), self.sizes.numbers)

    def _attention(
        self, x: Tensor, position: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor
    ) -> Tensor:
        from templora_cli.engine.kernels.triton_kernels import attend, merge_splits, rotate_and_store

        num_heads, num_kv_heads, head_dim = self.num_heads, self.num_kv_heads, self.head_dim
        num_positions, split, keys_at_once = keys.shape[2], self.sizes.split, self.sizes.keys
        window, splits = self.window or 0, -(-num_positions // split)

        def buffer(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(shape, device=x.device, dtype=dtype)

        qkv = self.qkv(x, self.before_attention, buffer((num_heads + 2 * num_kv_heads) * head_dim))
        queries, attended = (buffer(num_heads * head_dim, dtype=x.dtype) for _ in range(2))
        q_norm, k_norm, eps = cos, cos, 0.0
        if self.q_norm and self.k_norm:
            q_norm, k_norm, eps = self.q_norm.weight, self.k_norm.weight, self.q_norm.eps
        rotate_and_store[(num_heads + 2 * num_kv_heads,)](
            *(qkv, q_norm, k_norm, eps, cos, sin, position, queries, keys, values),
            *(num_positions, num_heads, num_kv_heads),
            HEAD_DIM=head_dim,
            HALF_PADDED=_next_power_of_two(head_dim // 2),
            NORMED=self.q_norm is not None,
        )
        sums = buffer(num_heads, splits, head_dim)
        max_scores, totals = buffer(num_heads, splits), buffer(num_heads, splits)
        attend[(num_kv_heads, splits)](
            *(queries, keys, values, position, window, self.scaling),
            *(sums, max_scores, totals, num_positions, splits),
            HEAD_DIM=head_dim,
            HEAD_DIM_PADDED=max(16, _next_power_of_two(head_dim)),
            HEADS=num_heads // num_kv_heads,
            HEADS_PADDED=max(16, _next_power_of_two(num_heads // num_kv_heads)),
            SPLIT=split,
            KEYS_AT_ONCE=keys_at_once if head_dim <= 128 else keys_at_once // 2,
            PRECISION="ieee" if x.dtype == torch.float32 else "tf32",  # applies to float32 only
        )
        merge_splits[(num_heads,)](
            *(sums, max_scores, totals, position, window, attended, splits),
            HEAD_DIM=head_dim,
            HEAD_DIM_PADDED=max(16, _next_power_of_two(head_dim)),
            SPLIT=split,
            PLANES=self.out.nf4,
        )
        return attended


def _rms_norm(norm: RMSNormWeights, x: Tensor, block: int) -> Tensor:
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


def _add_normed(x: Tensor, norm: RMSNormWeights, y: Tensor, block: int) -> Tensor:
    """x + norm(y), [n]."""
    from templora_cli.engine.kernels.triton_kernels import add_normed

    out = torch.empty_like(x)
    programs = -(-len(x) // block)
    add_normed[(programs,)](*(x, y, norm.weight, norm.eps, out, len(x)), BLOCK=block, num_warps=4)
    return out


def _next_power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(0, n - 1).bit_length()
