"""Which backend decodes a model that is loaded."""

from __future__ import annotations

from templora_cli.engine.decoding.backends import BackendKind, choose_backend
from templora_cli.engine.decoding.protocols import Backend
from templora_cli.engine.models.loading import LanguageModel


def backend_kind(model: LanguageModel, wanted: str) -> BackendKind:
    """The one that `[decode] backend` asks for. Raises TemploraError where it cannot decode this model."""
    return choose_backend(model.module.config, model.device.type, model.quantize, wanted)


def backend_name(model: LanguageModel, wanted: str) -> str:
    """Its name. Raises TemploraError as `backend_kind` does."""
    return backend_kind(model, wanted).name


def backend_for(model: LanguageModel, wanted: str) -> Backend:
    """A new one. Raises TemploraError as `backend_kind` does."""
    return backend_kind(model, wanted).make(model.module)
