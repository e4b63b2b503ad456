"""The part of a model that reads and writes text: all of most, one of several of those that see or hear."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

HEAD = "lm_head."
"""What the names of the output head's weights hold."""
ENTWINED = ("kimi_k25", "minimax_m3_vl", "qianfan_ocr")
"""Architectures whose language part has names of its own in their folders, which transformers knows only for
the whole."""


@dataclass(frozen=True)
class Language:
    """What of a model is loaded, and with which class of transformers."""

    config: Any
    """transformers' configuration of it."""
    auto: Any
    """AutoModelForCausalLM or, where no class knows the language part alone, AutoModelForImageTextToText."""
    alone: bool = False
    """Is it one part of several that the folder holds?"""
    may_tie: bool = False
    """Is the output head the embedding's weights where the folder has none of its own?"""


def language_of(config: Any) -> Language | None:
    """What to load of a model with this configuration (transformers'); None where it writes no text."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto import modeling_auto as auto

    if config.model_type == "rwkv":  # it would halve its weights for reading, and not those of an adapter
        config.rescale_every = 0
    writers = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if config.is_encoder_decoder:
        return None
    text = config.get_text_config(decoder=True)
    if text is not config and text.model_type in writers and config.model_type not in ENTWINED:
        part = copy.deepcopy(text)
        if (said := getattr(config, "quantization_config", None)) is not None:
            part.quantization_config = said
        return Language(part, AutoModelForCausalLM, True, bool(getattr(config, "tie_word_embeddings", False)))
    if config.model_type in writers:
        return Language(config, AutoModelForCausalLM, alone=text is not config)
    if config.model_type in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return Language(config, AutoModelForImageTextToText)
    return None


def renamed(module: Any, names: Collection[str]) -> dict[str, str]:
    """How the weights of a language part are called in a folder whose weights have these `names`.

    From patterns of theirs to the beginnings of those of `module`, as transformers' `key_mapping` takes them;
    empty where transformers knows it better.
    """
    embedding = module.get_input_embeddings()
    here = next(name for name, part in module.named_modules() if part is embedding)
    trunk, _, last = here.rpartition(".")
    found = [name for name in names if re.search(rf"(^|\.){re.escape(last)}\.weight$", name)]
    mapping = {
        f"^{re.escape(name.removesuffix('weight'))}": "lm_head."
        for name in names
        if re.search(r"(^|\.)lm_head\.weight$", name)
    }
    if len(found) == 1:
        mapping[f"^{re.escape(found[0].removesuffix(f'{last}.weight'))}"] = f"{trunk}."
    return mapping
