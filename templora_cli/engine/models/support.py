"""Which models can be written with, told from the configuration alone: no weights are read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from templora_cli.engine.models.prequantized import format_of, shown
from templora_cli.errors import TemploraError

LIST = "templora models list shows models that work"
EITHER_WAY = "reads a text in both directions and cannot go on with one"
TABLES = {
    "SPEECH_SEQ_2_SEQ CTC RNNT TDT AUDIO_CLASSIFICATION TEXT_TO_SPECTROGRAM TEXT_TO_WAVEFORM": (
        "is a model of sounds, not of text"
    ),
    "SEQ_TO_SEQ_CAUSAL_LM": "turns one text into another and cannot go on with one",
    "IMAGE_TEXT_TO_TEXT": "reads pictures, and its language part cannot be loaded alone",
    "IMAGE IMAGE_CLASSIFICATION OBJECT_DETECTION ZERO_SHOT_IMAGE_CLASSIFICATION DEPTH_ESTIMATION "
    "MASK_GENERATION VIDEO_CLASSIFICATION": "is a model of pictures, not of text",
    "MASKED_LM TEXT_ENCODING SEQUENCE_CLASSIFICATION TOKEN_CLASSIFICATION": EITHER_WAY,
}
"""Tables of transformers' (`MODEL_FOR_..._MAPPING_NAMES`), and why their models do not write."""
APART = {
    "bert-generation": EITHER_WAY,
    "xlnet": EITHER_WAY,
    "blip": "describes pictures and cannot go on with a text",
    "diffusion_gemma": "writes blocks of text at once, not one word after the other",
    "evolla": "is a model of proteins, not of text",
    "git": "describes pictures and cannot go on with a text",
    "paligemma": "answers questions about pictures and reads a text in both directions",
    "pi0": "moves robots and writes no text",
    "gemma4_assistant": "only drafts for another model",
    "gemma4_unified_assistant": "only drafts for another model",
    "moshi": "is a model of speech, not of text",
    "trocr": "reads writing in pictures and cannot go on with a text",
    "vision-encoder-decoder": "turns pictures into text and cannot go on with one",
}
"""Architectures that transformers takes for language models all the same, or that stand in no table."""


def read_config(folder: Path) -> dict[str, Any]:
    """The values of config.json. Raises TemploraError where there are none."""
    try:
        values = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise TemploraError(f"the model in {folder} cannot be loaded: its config.json is damaged", LIST)
    return values


def require_support(config: Mapping[str, Any], name: str) -> None:
    """Refuse a model that cannot be written with. Raises TemploraError as `why_not` says."""
    if reason := why_not(config, name):
        raise TemploraError(reason, way_out(config, name))


def why_not(config: Mapping[str, Any], name: str = "this model") -> str | None:
    """Why a model with these values in its config.json cannot be written with, in a line; None where it can.

    `name` is what the user calls it, an id or a path.
    """
    comes = format_of(config, name)
    if comes is not None and not comes.held:
        return f"{shown(name)} comes quantised as {comes.name}; templora cannot train an adapter on it"
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        return f"{shown(name)} cannot be loaded: its config.json names no architecture (model_type)"
    reason = _no_writer(kind, config)
    return None if reason is None else f"{shown(name)} (architecture {_word(kind)}) {reason}"


def way_out(config: Mapping[str, Any], name: str = "this model") -> str:
    """What to do about a model that `why_not` refuses, as a hint."""
    comes = format_of(config, name)
    return LIST if comes is None or comes.held else comes.instead


def _no_writer(kind: str, config: Mapping[str, Any]) -> str | None:
    """Why a model of this architecture does not write, said of it; None where it does."""
    import transformers
    from transformers.models.auto import modeling_auto as tables
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

    from templora_cli.engine.models.language import language_of

    if kind not in CONFIG_MAPPING_NAMES:
        own = ", and templora runs no code that comes with a model" if config.get("auto_map") else ""
        return f"cannot be loaded: transformers {transformers.__version__} does not know it{own}"
    if kind in APART:
        return APART[kind]
    if config.get("is_encoder_decoder"):
        return _reason_of_tables(kind)
    if kind in tables.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind in tables.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return None if config.get("is_decoder") else EITHER_WAY
    if judge := _made_to_judge(config):
        return f"is a {judge}, which judges texts and writes none"
    try:
        language = language_of(CONFIG_MAPPING[kind].from_dict(json.loads(json.dumps(config))))
    except Exception:  # a value that makes no sense: loading says which
        return None
    return None if language is not None else _reason_of_tables(kind)


def _reason_of_tables(kind: str) -> str:
    from transformers.models.auto import modeling_auto

    for tables, reason in TABLES.items():
        named = (f"MODEL_FOR_{table}_MAPPING_NAMES" for table in tables.split())
        if any(kind in vars(modeling_auto).get(name, ()) for name in named):
            return reason
    return "is no model that writes text"


def _made_to_judge(config: Mapping[str, Any]) -> str | None:
    """The class of transformers that the model was made for, where that puts out no text."""
    said = config.get("architectures")
    names = [name for name in said if isinstance(name, str)] if isinstance(said, list) else []
    judging = r"\w+For((Sequence|Token)Classification|QuestionAnswering|MultipleChoice|Reward)"
    return names[0] if names and all(re.fullmatch(judging, name) for name in names) else None


def _word(kind: str) -> str:
    """A name that a file gives, harmless on a terminal."""
    return re.sub(r"[^\w.-]", "", kind)[:40]
