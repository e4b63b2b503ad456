"""Models whose published weights are quantised, detected from config.json before any weights are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from templora_cli.errors import TemploraError

FORMATS = {
    "aqlm": "AQLM",
    "awq": "AWQ",
    "auto-round": "AutoRound",
    "bitnet": "BitNet",
    "compressed-tensors": "compressed tensors",
    "eetq": "EETQ",
    "exl2": "EXL2",
    "exl3": "EXL3",
    "fbgemm_fp8": "FP8 (FBGEMM)",
    "fp8": "FP8",
    "gptq": "GPTQ",
    "hqq": "HQQ",
    "modelopt": "ModelOpt",
    "mxfp4": "MXFP4",
    "mxfp8": "MXFP8",
    "nvfp4": "NVFP4",
    "quanto": "Quanto",
    "spqr": "SpQR",
    "vptq": "VPTQ",
}
"""Names of formats by the `quant_method` of a configuration; other formats are called by their method."""
INT8, NF4 = "8-bit bitsandbytes", "4-bit bitsandbytes"
UNPACKED = {"fp8": ("none",), "mxfp4": ("nf4", "none")}
"""Formats that transformers unpacks during loading, and the values of `quantize` that they can be loaded
with. MXFP4 can be packed again as NF4."""
REPUBLISHERS = (
    *("casperhansen", "intel", "lmstudio-community", "mlx-community", "modelcloud", "neuralmagic"),
    *("nm-testing", "nvidia", "redhatai", "solidrust", "thebloke", "turboderp", "unsloth"),
)
"""Owners on the Hugging Face Hub who quantise models of others, in lower case."""
_SUFFIX = re.compile(
    r"(?:[-_.](?:a?wq|gptq(?:model)?|auto-?round|bnb|mlx|hqq|aqlm|eetq|exl[23]|quanto|quanti[sz]ed|unsloth"
    r"|dynamic|static|block|marlin|sym|asym|nf4|fp[48]|mxfp[48]|nvfp4|u?int[2348]|w\d+a\d+|g\d+|gs\d+"
    r"|group\d+|\d(?:[._]\d+)?-?(?:bits?|bpw)))+$",
    re.IGNORECASE,
)
"""Ends of the names of quantised models."""


@dataclass(frozen=True)
class QuantizationFormat:
    """The format in which a model's weights are published."""

    name: str
    """Its usual name."""
    method: str
    """The `quant_method` of the configuration."""
    loadable_as: tuple[str, ...]
    """Values of `quantize` ("nf4", "int8", "none") for loading it; empty if it is not supported."""
    alternative: str
    """A hint that names another model to use."""


def format_of(config: Mapping[str, Any], name: str = "this model") -> QuantizationFormat | None:
    """The format of the weights of model `name` with this config.json; None if they are not quantised."""
    description = _description(config)
    if description is None:
        return None
    original = original_of(config, name)
    alternative = f"use the original, such as {original}" if original else "use an unquantised version of it"
    format_name = _name_of(description)
    method = str(description.get("quant_method") or "").lower() if isinstance(description, Mapping) else ""
    loadable_as = {INT8: ("int8",), NF4: ("nf4",)}.get(format_name) or UNPACKED.get(method, ())
    return QuantizationFormat(format_name, method, loadable_as, alternative)


def _name_of(description: object) -> str:
    """The usual name of the format in this part of a configuration."""
    if not isinstance(description, Mapping):
        return "an unnamed format"
    method = str(description.get("quant_method") or "").lower()
    if description.get("load_in_8bit"):
        return INT8
    if description.get("load_in_4bit") or method == "bitsandbytes":
        return NF4
    if method:
        return FORMATS.get(method, _printable(method))
    bits = description.get("bits")
    width = f"{bits}-bit " if isinstance(bits, int) else ""
    return f"an unnamed {width}format, such as MLX's"


def original_of(config: Mapping[str, Any], name: str) -> str | None:
    """The model that was quantised, if the configuration or the name reveals it."""
    path = str(config.get("_name_or_path") or "")
    if re.fullmatch(r"[\w-]+/[\w.-]+", path) and path != name and not _SUFFIX.search(path):
        return path
    owner, _, last = name.rstrip("/").rpartition("/")
    base = _SUFFIX.sub("", last)
    if not base or base == last:
        return None
    has_other_owner = not re.fullmatch(r"[\w-]+", owner) or owner.lower() in REPUBLISHERS
    return base if has_other_owner else f"{owner}/{base}"


def resolve_quantize(
    published: QuantizationFormat | None, quantize: str, device: str, name: str = "this model"
) -> str:
    """The value of `[model] quantize` for a model, with "auto" resolved: "nf4", "int8" or "none".

    Raises TemploraError if the model is published in a format that cannot be loaded so.
    """
    default = "nf4" if device == "cuda" else "none"
    requested = default if quantize == "auto" else quantize
    if published is None or not published.loadable_as or requested in published.loadable_as:
        return requested
    if quantize == "auto":
        return published.loadable_as[0]
    raise TemploraError(
        f"{display_name(name)} comes quantised as {published.name} and cannot be loaded as {quantize}",
        f"--quantize {published.loadable_as[0]}, or {published.alternative}",
    )


def display_name(name: str) -> str:
    """The name of a model in messages: an id as it is, a path without its folders."""
    return name if re.fullmatch(r"[\w-]+/[\w.-]+", name) else PurePath(name).name or "this model"


def _description(config: Mapping[str, Any]) -> object:
    """The part of a configuration that describes the quantisation; None without one."""
    parts = [config, *(part for part in config.values() if isinstance(part, Mapping))]
    for key in ("quantization_config", "compression_config", "quantization"):
        for part in parts:
            if part.get(key):
                return part[key]
    return None


def _printable(method: str) -> str:
    """A name from a file, without characters that could control the terminal."""
    return re.sub(r"[^\w./-]", "", method)[:40] or "an unnamed format"
