"""Which backend decodes: the fastest that knows the model, on the device that it is on."""

from __future__ import annotations

from typing import Any

from templora_cli.engine import decoder, int8
from templora_cli.engine.backends import Backend
from templora_cli.engine.backends.eager import EagerBackend
from templora_cli.engine.backends.int8 import Int8Backend
from templora_cli.engine.models import LanguageModel
from templora_cli.errors import TemploraError


def backend_name(config: Any, device: str, quantize: str) -> str:
    """ "int8" or "eager", for a model with this transformers configuration, held as `quantize` says."""
    fast = device == "cpu" and quantize == "none" and decoder.supports(config) and int8.available()
    return "int8" if fast else "eager"


def backend_for(model: LanguageModel, wanted: str = "auto") -> Backend:
    """The backend that `[decode] backend` asks for.

    Raises TemploraError where it cannot run this model.
    """
    best = backend_name(model.module.config, model.device.type, model.quantize)
    if wanted == "int8" and best != "int8":
        families = ", ".join(decoder.FAMILIES)
        raise TemploraError(
            f"the int8 backend decodes {families} in full precision on an x86 CPU, not "
            f"{model.module.config.model_type} ({model.quantize}) on {model.device.type}",
            "--set backend=auto takes one that can",
        )
    return (
        Int8Backend(model.module)
        if "int8" in (wanted, best) and wanted != "eager"
        else EagerBackend(model.module)
    )
