"""Models whose weights come quantised: told from config.json alone, before any weights are read."""

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
"""What formats are called, by the `quant_method` of a configuration; others are called by that itself."""
EIGHT, FOUR = "8 bits of bitsandbytes", "4 bits of bitsandbytes"
HELD = {"fp8": ("none",), "mxfp4": ("nf4", "none")}
"""How those are held that transformers unpacks while it loads; MXFP4 is packed again as NF4."""
REPUBLISHERS = (
    *("casperhansen", "intel", "lmstudio-community", "mlx-community", "modelcloud", "neuralmagic"),
    *("nm-testing", "nvidia", "redhatai", "solidrust", "thebloke", "turboderp", "unsloth"),
)
"""Owners on the Hugging Face Hub, in small letters, who quantise models of others."""
_SUFFIX = re.compile(
    r"(?:[-_.](?:a?wq|gptq(?:model)?|auto-?round|bnb|mlx|hqq|aqlm|eetq|exl[23]|quanto|quanti[sz]ed|unsloth"
    r"|dynamic|static|block|marlin|sym|asym|nf4|fp[48]|mxfp[48]|nvfp4|u?int[2348]|w\d+a\d+|g\d+|gs\d+"
    r"|group\d+|\d(?:[._]\d+)?-?(?:bits?|bpw)))+$",
    re.IGNORECASE,
)
"""What the names of quantised models end in."""


@dataclass(frozen=True)
class Format:
    """How the weights of a model come quantised."""

    name: str
    """As people call it."""
    method: str
    """As a configuration calls it."""
    held: tuple[str, ...]
    """How templora can hold such a model ("nf4", "int8", "none"); empty where it cannot use one."""
    instead: str
    """What to do where it cannot be used so."""


def format_of(config: Mapping[str, Any], name: str = "this model") -> Format | None:
    """How the weights of the model called `name` come quantised, by the values of its config.json.

    None where they do not.
    """
    said = _said(config)
    if said is None:
        return None
    original = original_of(config, name)
    instead = f"take the original, such as {original}" if original else "take the unquantised version of it"
    called = _name_of(said)
    method = str(said.get("quant_method") or "").lower() if isinstance(said, Mapping) else ""
    held = {EIGHT: ("int8",), FOUR: ("nf4",)}.get(called) or HELD.get(method, ())
    return Format(called, method, held, instead)


def _name_of(said: object) -> str:
    """What people call a format that a configuration describes so."""
    if not isinstance(said, Mapping):
        return "an unnamed format"
    method = str(said.get("quant_method") or "").lower()
    if said.get("load_in_8bit"):
        return EIGHT
    if said.get("load_in_4bit") or method == "bitsandbytes":
        return FOUR
    if method:
        return FORMATS.get(method, _plain(method))
    bits = said.get("bits")
    few = f"{bits}-bit " if isinstance(bits, int) else ""
    return f"an unnamed {few}format, such as MLX's"


def original_of(config: Mapping[str, Any], name: str) -> str | None:
    """The model that was quantised, where the configuration or the name of it tells that."""
    path = str(config.get("_name_or_path") or "")
    if re.fullmatch(r"[\w-]+/[\w.-]+", path) and path != name and not _SUFFIX.search(path):
        return path
    owner, _, last = name.rstrip("/").rpartition("/")
    bare = _SUFFIX.sub("", last)
    if not bare or bare == last:
        return None
    theirs = not re.fullmatch(r"[\w-]+", owner) or owner.lower() in REPUBLISHERS
    return bare if theirs else f"{owner}/{bare}"


def held_as(comes: Format | None, quantize: str, device: str, name: str = "this model") -> str:
    """How a model is held where `[model] quantize` says so: "nf4", "int8" or "none".

    Raises TemploraError where its weights come quantised, and cannot be held so.
    """
    usual = "nf4" if device == "cuda" else "none"
    wanted = usual if quantize == "auto" else quantize
    if comes is None or not comes.held or wanted in comes.held:
        return wanted
    if quantize == "auto":
        return comes.held[0]
    raise TemploraError(
        f"{shown(name)} comes quantised as {comes.name} and cannot be held as {quantize}",
        f"--quantize {comes.held[0]}, or {comes.instead}",
    )


def shown(name: str) -> str:
    """The name of a model without the folders that it lies in."""
    return name if re.fullmatch(r"[\w-]+/[\w.-]+", name) else PurePath(name).name or "this model"


def _said(config: Mapping[str, Any]) -> object:
    """What the configuration says of quantisation; None where it says nothing."""
    parts = [config, *(part for part in config.values() if isinstance(part, Mapping))]
    for key in ("quantization_config", "compression_config", "quantization"):
        for part in parts:
            if part.get(key):
                return part[key]
    return None


def _plain(method: str) -> str:
    """A name that a file gives, harmless on a terminal."""
    return re.sub(r"[^\w./-]", "", method)[:40] or "a format of its own"
