"""Which backend decodes: the fastest that knows the model, on the device that it is on."""

from __future__ import annotations

from templora_cli.engine.decoding.base import Backend, best_backend
from templora_cli.engine.decoding.cuda.backend import GraphBackend
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.kernels.families import FAMILIES, can_be_captured, has_fast_decoder
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.errors import TemploraError

AUTO = '[decode] backend = "auto" takes one that can'


def backend_name(model: LanguageModel, wanted: str) -> str:
    """The backend that `[decode] backend` asks for, by its name.

    Raises TemploraError where it cannot run this model.
    """
    config, device = model.module.config, model.device.type
    captured = can_be_captured(config)
    best = best_backend(device, model.quantize, decoded=has_fast_decoder(config), captured=captured)
    if wanted == "int8" and best != "int8":
        families = ", ".join(FAMILIES)
        raise TemploraError(
            f"the int8 backend decodes {families} in full precision on a CPU, not "
            f"{config.model_type} ({model.quantize}) on {device}",
            AUTO,
        )
    if wanted == "graph" and best != "graph":
        raise TemploraError(
            f"the graph backend decodes {', '.join(FAMILIES)} on a CUDA GPU, in NF4 or unquantised, not "
            f"{config.model_type} ({model.quantize}) on {device}",
            AUTO,
        )
    return best if wanted == "auto" else wanted


def backend_for(model: LanguageModel, wanted: str) -> Backend:
    """The backend that `[decode] backend` asks for. Raises TemploraError as `backend_name` does."""
    name = backend_name(model, wanted)
    if name == "int8":  # compiling takes numba, which no other backend needs
        from templora_cli.engine.decoding.cpu.backend import Int8Backend

        return Int8Backend(model.module)
    return GraphBackend(model.module) if name == "graph" else EagerBackend(model.module)
