"""Which models templora supports, decided from the configuration alone: no weights are read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from templora_cli.engine.models.prequantized import display_name, format_of
from templora_cli.errors import TemploraError

LIST = "templora models list shows models that work"
BIDIRECTIONAL = "reads text in both directions and cannot continue it"
TABLES = {
    "SPEECH_SEQ_2_SEQ CTC RNNT TDT AUDIO_CLASSIFICATION TEXT_TO_SPECTROGRAM TEXT_TO_WAVEFORM": (
        "is an audio model, not a text model"
    ),
    "SEQ_TO_SEQ_CAUSAL_LM": "turns one text into another and cannot continue one",
    "IMAGE_TEXT_TO_TEXT": "reads images, and its language part cannot be loaded alone",
    "IMAGE IMAGE_CLASSIFICATION OBJECT_DETECTION ZERO_SHOT_IMAGE_CLASSIFICATION DEPTH_ESTIMATION "
    "MASK_GENERATION VIDEO_CLASSIFICATION": "is an image model, not a text model",
    "MASKED_LM TEXT_ENCODING SEQUENCE_CLASSIFICATION TOKEN_CLASSIFICATION": BIDIRECTIONAL,
}
"""Tables of transformers (`MODEL_FOR_..._MAPPING_NAMES`), and why their models are not supported."""
UNSUPPORTED = {
    "bert-generation": BIDIRECTIONAL,
    "xlnet": BIDIRECTIONAL,
    "blip": "describes images and cannot continue a text",
    "diffusion_gemma": "writes blocks of text at once, not token by token",
    "evolla": "is a protein model, not a text model",
    "git": "describes images and cannot continue a text",
    "paligemma": "answers questions about images and reads text in both directions",
    "pi0": "controls robots and does not write text",
    "gemma4_assistant": "only drafts tokens for another model",
    "gemma4_unified_assistant": "only drafts tokens for another model",
    "moshi": "is a speech model, not a text model",
    "trocr": "reads text in images and cannot continue a text",
    "vision-encoder-decoder": "turns images into text and cannot continue one",
}
"""Architectures that transformers lists as language models nevertheless, or lists in no table."""


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json. Raises TemploraError if it is missing or damaged."""
    try:
        values = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise TemploraError(f"the model in {folder} cannot be loaded: its config.json is damaged", LIST)
    return values


def require_support(config: Mapping[str, Any], name: str) -> None:
    """Raise TemploraError if the model is not supported."""
    if reason := unsupported_reason(config, name):
        raise TemploraError(reason, unsupported_hint(config, name))


def unsupported_reason(config: Mapping[str, Any], name: str = "this model") -> str | None:
    """Why a model with this config.json is not supported, as one line; None if it is.

    `name` is the model as the user typed it, an id or a path.
    """
    quantization = format_of(config, name)
    if quantization is not None and not quantization.loadable_as:
        return (
            f"{display_name(name)} comes quantised as {quantization.name}; "
            "templora cannot train an adapter on it"
        )
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        return f"{display_name(name)} cannot be loaded: its config.json names no architecture (model_type)"
    reason = _architecture_reason(model_type, config)
    return (
        None if reason is None else f"{display_name(name)} (architecture {_printable(model_type)}) {reason}"
    )


def unsupported_hint(config: Mapping[str, Any], name: str = "this model") -> str:
    """The hint for a model that `unsupported_reason` refuses."""
    quantization = format_of(config, name)
    return LIST if quantization is None or quantization.loadable_as else quantization.alternative


def _architecture_reason(model_type: str, config: Mapping[str, Any]) -> str | None:
    """Why an architecture is not supported, as a predicate of the model; None if it is."""
    import transformers
    from transformers.models.auto import modeling_auto as tables
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

    from templora_cli.engine.models.language import language_part_of

    if model_type not in CONFIG_MAPPING_NAMES:
        code = ", and templora does not run code from model repositories" if config.get("auto_map") else ""
        return f"cannot be loaded: transformers {transformers.__version__} does not support it{code}"
    if model_type in UNSUPPORTED:
        return UNSUPPORTED[model_type]
    if config.get("is_encoder_decoder"):
        return _table_reason(model_type)
    if (
        model_type in tables.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and model_type in tables.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    ):
        return None if config.get("is_decoder") else BIDIRECTIONAL
    if classifier := _classifier_class(config):
        return f"is a {classifier}, which classifies text and does not write it"
    try:
        language = language_part_of(CONFIG_MAPPING[model_type].from_dict(json.loads(json.dumps(config))))
    except Exception:  # an invalid value: the error of loading names it
        return None
    return None if language is not None else _table_reason(model_type)


def _table_reason(model_type: str) -> str:
    from transformers.models.auto import modeling_auto

    for tables, reason in TABLES.items():
        names = (f"MODEL_FOR_{table}_MAPPING_NAMES" for table in tables.split())
        if any(model_type in vars(modeling_auto).get(name, ()) for name in names):
            return reason
    return "does not write text"


def _classifier_class(config: Mapping[str, Any]) -> str | None:
    """The transformers class that the model was trained with, if it outputs no text."""
    architectures = config.get("architectures")
    names = (
        [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    )
    classifier = r"\w+For((Sequence|Token)Classification|QuestionAnswering|MultipleChoice|Reward)"
    return names[0] if names and all(re.fullmatch(classifier, name) for name in names) else None


def _printable(name: str) -> str:
    """A name from a file, without characters that could control the terminal."""
    return re.sub(r"[^\w.-]", "", name)[:40]
