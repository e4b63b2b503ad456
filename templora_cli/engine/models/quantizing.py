"""Which weights of a model are quantised while it is loaded, and how."""

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
from templora_cli.engine.models.experts import METHOD, METHOD_OF_MXFP4, Nf4Config, can_be_packed
from templora_cli.engine.models.prequantized import HELD


def quantized_layers(module: Any) -> dict[str, nn.Module]:
    """The layers of a model, still unquantised, whose weights would be quantised, by their names.

    All linear ones but the output head and those that must stay as they are; none where the weights come in a
    format that says of itself which they are.
    """
    said = getattr(module.config, "quantization_config", None)
    if isinstance(said, Mapping) and said.get("quant_method") in HELD:
        return {}
    kept = _left_alone(module)
    return {
        name: layer
        for name, layer in module.named_modules()
        if (type(layer) is nn.Linear or isinstance(layer, Conv1D)) and should_convert_module(name, kept)
    }


def quantization_of(module: Any, quantize: str, dtype: torch.dtype) -> BitsAndBytesConfig:
    """What quantises a model that is still empty as "nf4" or "int8", to compute in `dtype`."""
    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=_left_alone(module))
    kind = Nf4Config if any(map(can_be_packed, module.modules())) else BitsAndBytesConfig
    return kind(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=_left_alone(module),
    )


def as_it_comes(said: Any, quantize: str, names: Mapping[str, str], dtype: torch.dtype) -> dict[str, Any]:
    """What a configuration says of weights that come quantised, for a model that is held as `quantize` and
    computes in `dtype`; `names` as in `language.renamed`.
    """
    made = dict(said if isinstance(said, Mapping) else said.to_dict())
    method = made.get("quant_method")
    if method in HELD:
        repacked = method == "mxfp4" and quantize == "nf4"
        return {**made, "dequantize": True, "quant_method": METHOD_OF_MXFP4 if repacked else method}
    made["bnb_4bit_compute_dtype"] = str(dtype).removeprefix("torch.")
    if kept := made.get("llm_int8_skip_modules"):
        made["llm_int8_skip_modules"] = [_renamed(name, names) for name in kept]
    return made


def experts_computed(quantization: Any) -> dict[str, str]:
    """How transformers is told to compute experts that are quantised so, as settings of `from_pretrained`."""
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    method = method or getattr(quantization, "quant_method", None)
    return {"experts_implementation": method} if method in (METHOD, METHOD_OF_MXFP4) else {}


def _left_alone(module: Any) -> list[str]:
    """Names, or ends of names, of layers whose weights are not quantised."""
    said = getattr(module.config, "quantization_config", None)
    if isinstance(said, Mapping) and (kept := said.get("llm_int8_skip_modules")):
        return list(kept)
    direct = READ_DIRECTLY.get(module.config.model_type, ())
    precise = getattr(module, "_keep_in_fp32_modules", None) or ()
    return sorted({*get_keys_to_not_convert(module), *precise, *direct})


def _renamed(name: str, names: Mapping[str, str]) -> str:
    for pattern, new in names.items():
        name = re.sub(pattern, new, f"{name}.").removesuffix(".")
    return name
