"""The part of a model that reads and writes text: one of several in multimodal models, else all of it."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

HEAD = "lm_head."
"""Part of the names of the output head's weights."""
INSEPARABLE = ("kimi_k25", "minimax_m3_vl", "qianfan_ocr")
"""Architectures whose saved weights have names that transformers can map for the whole model only."""


@dataclass(frozen=True)
class LanguagePart:
    """The part of a model that is loaded, and the transformers class that loads it."""

    config: Any
    """The transformers configuration of the part."""
    auto: Any
    """AutoModelForCausalLM or, if no class loads the language part alone, AutoModelForImageTextToText."""
    is_extracted: bool = False
    """Does the folder hold other parts too?"""
    may_tie: bool = False
    """If the folder has no weights for the output head, does it share those of the embedding?"""


def language_part_of(config: Any) -> LanguagePart | None:
    """The part to load of a model with this transformers configuration; None if it does not write text."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto import modeling_auto as auto

    if config.model_type == "rwkv":  # it would rescale its weights for inference, but not those of an adapter
        config.rescale_every = 0
    writers = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if config.is_encoder_decoder:
        return None
    text = config.get_text_config(decoder=True)
    if text is not config and text.model_type in writers and config.model_type not in INSEPARABLE:
        part = copy.deepcopy(text)
        if (quantization := getattr(config, "quantization_config", None)) is not None:
            part.quantization_config = quantization
        may_tie = bool(getattr(config, "tie_word_embeddings", False))
        return LanguagePart(part, AutoModelForCausalLM, is_extracted=True, may_tie=may_tie)
    if config.model_type in writers:
        return LanguagePart(config, AutoModelForCausalLM, is_extracted=text is not config)
    if config.model_type in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return LanguagePart(config, AutoModelForImageTextToText)
    return None


def key_mapping(module: Any, names: Collection[str]) -> dict[str, str]:
    """Map patterns of `names`, the weights in a folder, to prefixes of weights in a language part `module`.

    For the argument of this name of `from_pretrained`; empty if transformers needs no help.
    """
    embedding = module.get_input_embeddings()
    name_in_module = next(name for name, part in module.named_modules() if part is embedding)
    trunk, _, last = name_in_module.rpartition(".")
    matches = [name for name in names if re.search(rf"(^|\.){re.escape(last)}\.weight$", name)]
    mapping = {
        f"^{re.escape(name.removesuffix('weight'))}": "lm_head."
        for name in names
        if re.search(r"(^|\.)lm_head\.weight$", name)
    }
    if len(matches) == 1:
        mapping[f"^{re.escape(matches[0].removesuffix(f'{last}.weight'))}"] = f"{trunk}."
    return mapping
