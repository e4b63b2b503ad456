"""Choose the weights of a model that are quantised during loading, and configure it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from templora_cli.engine.models.adapter import READ_DIRECTLY
from templora_cli.engine.models.experts import METHOD, METHOD_FOR_MXFP4, Nf4Config, can_be_packed
from templora_cli.engine.models.prequantized import UNPACKED


def quantized_layers(module: Any) -> dict[str, nn.Module]:
    """The layers of an unquantised model whose weights would be quantised, by name.

    These are all linear layers except the output head and those that need full precision. Empty if the
    weights are published in one of the formats `UNPACKED`, which choose their layers themselves.
    """
    published = getattr(module.config, "quantization_config", None)
    if isinstance(published, Mapping) and published.get("quant_method") in UNPACKED:
        return {}
    skipped = _skipped_modules(module)
    return {
        name: layer
        for name, layer in module.named_modules()
        if (type(layer) is nn.Linear or isinstance(layer, Conv1D)) and should_convert_module(name, skipped)
    }


def quantization_of(module: Any, quantize: str, dtype: torch.dtype) -> BitsAndBytesConfig:
    """The configuration that quantises a model as "nf4" or "int8"; `module` is it on the meta device."""
    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=_skipped_modules(module))
    config_class = Nf4Config if any(map(can_be_packed, module.modules())) else BitsAndBytesConfig
    return config_class(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=_skipped_modules(module),
    )


def published_quantization(
    config: Any, quantize: str, mapping: Mapping[str, str], dtype: torch.dtype
) -> dict[str, Any]:
    """The `quantization_config` of weights that are published quantised, adapted to `quantize` and `dtype`.

    `mapping` renames modules, as in `language.key_mapping`.
    """
    values = dict(config if isinstance(config, Mapping) else config.to_dict())
    method = values.get("quant_method")
    if method in UNPACKED:
        repacked = method == "mxfp4" and quantize == "nf4"
        return {**values, "dequantize": True, "quant_method": METHOD_FOR_MXFP4 if repacked else method}
    values["bnb_4bit_compute_dtype"] = str(dtype).removeprefix("torch.")
    if skipped := values.get("llm_int8_skip_modules"):
        values["llm_int8_skip_modules"] = [_rename(name, mapping) for name in skipped]
    return values


def experts_implementation(quantization: Any) -> dict[str, str]:
    """The argument of `from_pretrained` that selects the forward pass of packed experts, if there are any."""
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    method = method or getattr(quantization, "quant_method", None)
    return {"experts_implementation": method} if method in (METHOD, METHOD_FOR_MXFP4) else {}


def _skipped_modules(module: Any) -> list[str]:
    """Names, or ends of names, of modules that are not quantised."""
    published = getattr(module.config, "quantization_config", None)
    if isinstance(published, Mapping) and (skipped := published.get("llm_int8_skip_modules")):
        return list(skipped)
    direct = READ_DIRECTLY.get(module.config.model_type, ())
    precise = getattr(module, "_keep_in_fp32_modules", None) or ()
    return sorted({*get_keys_to_not_convert(module), *precise, *direct})


def _rename(name: str, mapping: Mapping[str, str]) -> str:
    for pattern, prefix in mapping.items():
        name = re.sub(pattern, prefix, f"{name}.").removesuffix(".")
    return name
