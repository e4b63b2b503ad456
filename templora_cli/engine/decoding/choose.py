"""The backend for a loaded model."""

from __future__ import annotations

from templora_cli.engine.decoding.backends import BackendKind, choose_backend
from templora_cli.engine.decoding.protocols import Backend
from templora_cli.engine.models.loading import LanguageModel


def backend_kind(model: LanguageModel, requested: str) -> BackendKind:
    """The kind of backend that `[decode] backend` requests.

    Raises TemploraError if it cannot decode this model.
    """
    return choose_backend(model.module.config, model.device.type, model.quantize, requested)


def backend_name(model: LanguageModel, requested: str) -> str:
    """The name of that backend. Raises TemploraError as `backend_kind` does."""
    return backend_kind(model, requested).name


def backend_for(model: LanguageModel, requested: str) -> Backend:
    """Create that backend. Raises TemploraError as `backend_kind` does."""
    return backend_kind(model, requested).make(model.module)
