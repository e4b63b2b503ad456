"""Mixture-of-experts layers in NF4.

transformers holds all experts of a layer in one tensor, which bitsandbytes does not quantise, and experts are
most of such a model. Each expert is packed separately while the model is loaded, and unpacked for its own
forward and backward pass, so at most one is unpacked at a time.
"""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, Mxfp4Config
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
from transformers.integrations.mxfp4 import Mxfp4Dequantize
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
from transformers.quantizers.quantizer_mxfp4 import Mxfp4HfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name

from templora_cli.engine.kernels.nf4 import BLOCK_SIZE, SCALE_BLOCK_SIZE
from templora_cli.engine.models.measured import are_experts

METHOD, METHOD_FOR_MXFP4 = "nf4_with_experts", "nf4_experts_of_mxfp4"
"""Names under which these quantisers and their forward pass are registered in transformers."""


def can_be_packed(block: nn.Module) -> bool:
    """Does `packed_experts_forward` support this block, and does it fit the block size of NF4?"""
    weights = [weight for weight in block.parameters(recurse=False) if weight.dim() == 3]
    return (
        are_experts(block)
        and hasattr(block, "has_gate")  # set if transformers allows another forward pass
        and all(weight[0].numel() % BLOCK_SIZE == 0 for weight in weights)
    )


def packed_weights(module: nn.Module) -> int:
    """Number of weights of a model in packed experts."""
    blocks: list[dict[str, Packed]] = [getattr(part, "in_nf4", {}) for part in module.modules()]
    return sum(packed.shape.numel() for block in blocks for packed in block.values())


class Packed:
    """Matrices [experts, a, b] in NF4. Not a module: transformers would reset its buffers after loading."""

    def __init__(self, weights: Tensor) -> None:
        self.shape, self.dtype = weights.shape, weights.dtype
        packed, states = zip(*map(self._quantize, weights.unbind()), strict=True)
        self.weights = torch.stack(packed)
        self.scales = torch.stack([state.absmax for state in states])
        self.second_scales = torch.stack([state.state2.absmax for state in states])
        self.offsets = torch.stack([state.offset for state in states])
        self.code, self.second_code = states[0].code, states[0].state2.code

    @staticmethod
    def _quantize(weight: Tensor) -> tuple[Tensor, QuantState]:
        weight = weight.contiguous()
        return quantize_4bit(weight, blocksize=BLOCK_SIZE, quant_type="nf4", compress_statistics=True)  # type: ignore[no-any-return]

    def __getitem__(self, expert: int) -> Tensor:
        """The matrix of an expert, [a, b]."""
        second = QuantState(
            self.second_scales[expert], code=self.second_code, blocksize=SCALE_BLOCK_SIZE, dtype=torch.float32
        )
        state = QuantState(
            self.scales[expert],
            shape=self.shape[1:],
            code=self.code,
            blocksize=BLOCK_SIZE,
            quant_type="nf4",
            dtype=self.dtype,
            offset=self.offsets[expert],
            state2=second,
        )
        return dequantize_4bit(self.weights[expert], state)  # type: ignore[no-any-return]


class _Product(torch.autograd.Function):
    """Product [n, out] of x [n, in] and the frozen matrix of an expert."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Packed, expert: int, transposed: bool) -> Tensor:
        ctx.arguments = packed, expert, transposed
        matrix = packed[expert].to(x.dtype)
        return x @ (matrix if transposed else matrix.T)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None, None, None]:
        packed, expert, transposed = ctx.arguments
        matrix = packed[expert].to(grad_y.dtype)
        return grad_y @ (matrix.T if transposed else matrix), None, None, None


def packed_experts_forward(block: Any, hidden: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """Weighted sum [n, hidden] of the outputs of experts `top_k_index` [n, k] for `hidden` [n, hidden]."""
    tokens, k = top_k_index.shape
    order = torch.argsort(top_k_index.reshape(-1), stable=True)  # by expert
    counts = torch.bincount(top_k_index.reshape(-1), minlength=block.num_experts).tolist()
    inputs = torch.split(hidden[order // k], counts)
    outputs = [_expert_forward(block, expert, x) for expert, x in enumerate(inputs) if len(x)]
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order), device=order.device)
    weighted = torch.cat(outputs)[inverse] * top_k_weights.reshape(-1, 1)
    return weighted.view(tokens, k, -1).sum(1).to(hidden.dtype)


def _expert_forward(block: Any, expert: int, x: Tensor) -> Tensor:
    """[n, hidden] -> [n, hidden]"""
    up = "gate_up_proj" if block.has_gate else "up_proj"
    y = _product(block, up, expert, x)
    y = block._apply_gate(y) if block.has_gate else block.act_fn(y)
    y = _product(block, "down_proj", expert, y)
    return block.post_expert_norm(y) if block.has_post_expert_norm else y


def _product(block: Any, name: str, expert: int, x: Tensor) -> Tensor:
    y = _Product.apply(x, block.in_nf4[name], expert, block.is_transposed)  # type: ignore[no-untyped-call]
    if block.has_bias:
        y = y + getattr(block, f"{name}_bias")[expert]
    return y  # type: ignore[no-any-return]


@register_quantization_config(METHOD)
class Nf4Config(BitsAndBytesConfig):  # type: ignore[misc]
    """NF4 of bitsandbytes for linear layers, and of this module for experts."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.quant_method = METHOD


@register_quantizer(METHOD)
class Nf4Quantizer(Bnb4BitHfQuantizer):  # type: ignore[misc]
    """Quantises linear layers as bitsandbytes does, and experts too."""

    def param_needs_quantization(self, model: Any, param_name: str, **settings: Any) -> bool:
        """See transformers' `HfQuantizer`."""
        return _is_expert(model, param_name) or super().param_needs_quantization(
            model, param_name, **settings
        )

    def get_quantize_ops(self) -> Any:
        """See transformers' `HfQuantizer`."""
        return _Quantize(self)

    def _process_model_before_weight_loading(self, model: Any, device_map: Any, **settings: Any) -> None:
        super()._process_model_before_weight_loading(model, device_map, **settings)
        _prepare_blocks(model)


class _Quantize(Bnb4bitQuantize):  # type: ignore[misc]
    def convert(
        self, input_dict: Any, full_layer_name: str | None = None, model: Any = None, **_: Any
    ) -> Any:
        """See transformers' `ConversionOps`."""
        ((name, value),) = input_dict.items()
        if not _is_expert(model, name):
            return super().convert(input_dict, full_layer_name, model)
        return {name: _pack(model, name, value[0] if isinstance(value, list) else value)}


@register_quantization_config(METHOD_FOR_MXFP4)
class RepackedConfig(Mxfp4Config):  # type: ignore[misc]
    """Loads experts published in MXFP4, which cannot be trained, as NF4."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "dequantize": True})
        self.quant_method = METHOD_FOR_MXFP4


@register_quantizer(METHOD_FOR_MXFP4)
class RepackedQuantizer(Mxfp4HfQuantizer):  # type: ignore[misc]
    """Unpacks experts as transformers does, and packs each tensor again at once."""

    def param_needs_quantization(self, model: Any, param_name: str, **_: Any) -> bool:
        """See transformers' `HfQuantizer`."""
        return _is_expert(model, param_name)

    def get_weight_conversions(self) -> Any:
        """See transformers' `HfQuantizer`."""
        conversions = super().get_weight_conversions()
        for conversion in conversions:
            conversion.operations = [_Repack(self)]
        return conversions

    def _process_model_before_weight_loading(self, model: Any, **settings: Any) -> None:
        super()._process_model_before_weight_loading(model, **settings)
        _prepare_blocks(model)


class _Repack(Mxfp4Dequantize):  # type: ignore[misc]
    def convert(
        self, input_dict: Any, model: Any = None, full_layer_name: str | None = None, **_: Any
    ) -> Any:
        """See transformers' `ConversionOps`."""
        unpacked = super().convert(input_dict, model=model, full_layer_name=full_layer_name)
        return {name: _pack(model, name, tensor) for name, tensor in unpacked.items()}


def _prepare_blocks(model: nn.Module) -> None:
    """Add an empty table of packed tensors to each block of experts that can be packed."""
    for block in filter(can_be_packed, model.modules()):
        block.in_nf4 = {}  # type: ignore[assignment]


def _is_expert(model: Any, name: str) -> bool:
    block, weight = get_module_from_name(model, name)
    return hasattr(block, "in_nf4") and (weight in block.in_nf4 or getattr(block, weight).dim() == 3)


def _pack(model: Any, name: str, tensor: Tensor) -> Tensor:
    """Pack the experts' tensor of this name; returns an empty tensor to load in its stead."""
    block, weight = get_module_from_name(model, name)
    block.in_nf4[weight] = Packed(tensor)
    block._is_hf_initialized = True
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device)


for _method in (METHOD, METHOD_FOR_MXFP4):
    ALL_EXPERTS_FUNCTIONS.register(_method, packed_experts_forward)
