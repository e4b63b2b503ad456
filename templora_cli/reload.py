"""Load the model of a session again: find it, check that it is the same one, and load it as before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templora_cli.config import Config
from templora_cli.config_layers import from_dict
from templora_cli.engine.models.folders import checked, fingerprint
from templora_cli.errors import TemploraError
from templora_cli.events import Notice
from templora_cli.prepare import Engine, Notify, find_model, load_fitting, with_model
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.store import Session

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel


def locate_model(session: Session, name: str | None, command: str, notify: Notify) -> dict[str, Any]:
    """Find the model of a session: at its new location `name`, or in its earlier folder if that is None.

    Returns the manifest fields for its location. Raises TemploraError if the model is missing or a different
    one; the hint is `command` with --model.
    """
    manifest, config = session.manifest, _original_config(session)
    hint = f"if it has moved: {command} --model PATH"
    try:
        folder = _model_folder(Path(manifest.folder), config, name, notify)
    except TemploraError as error:
        if name is not None:
            raise
        pull = f"{error.hint}, or " if error.hint and "models pull" in error.hint else ""
        message = f"the model of session {session.id} is not where it was: {error.message}"
        raise TemploraError(message, f"{pull}{hint}") from None
    if fingerprint(folder) != manifest.fingerprint:
        reason = (
            f"the model in {folder} has changed since session {session.id} began"
            if name is None
            else f"{name} is not the model that session {session.id} began with ({manifest.model})"
        )
        raise TemploraError(reason, hint)
    moved = {} if name is None else {"model": name, "config": with_model(manifest.config, name)}
    return {"folder": str(folder), **moved}


def _model_folder(previous: Path, config: Config, name: str | None, notify: Notify) -> Path:
    if name is None and previous.is_dir():
        return checked(previous, str(previous))
    model_config = replace(config.model, name=name or config.model.name)
    return find_model(replace(config, model=model_config), notify).absolute()


def reload_model(session: Session, notify: Notify, engine: Engine) -> LanguageModel:
    """Load the model with the device and quantisation of the session, whatever `auto` would choose now.

    Raises TemploraError if it cannot be loaded.
    """
    manifest, config = session.manifest, _original_config(session)
    hint = f"nothing is lost: close other programs, then: {session.resume_command}"
    model, _ = load_fitting(
        config,
        Path(manifest.folder),
        chunk=manifest.longest_chunk,
        header=manifest.header_tokens,
        passing=manifest.passing_tokens,
        hint=hint,
        notify=notify,
        engine=engine,
    )
    _notify_of_changes(manifest, model, notify)
    return model


def _original_config(session: Session) -> Config:
    """The settings of a session with its device and quantisation.

    Gradient checkpointing may change with the free memory, because it does not change the gradients.
    """
    manifest = session.manifest
    config = from_dict(manifest.config, str(session.path / "session.json"))
    model_config = replace(config.model, quantize=manifest.quantize, device=manifest.device)
    return replace(config, model=model_config, train=replace(config.train, gradient_checkpointing="auto"))


def _notify_of_changes(manifest: Manifest, model: LanguageModel, notify: Notify) -> None:
    """Send a notice if libraries or hardware have changed: sums may differ in the last bit."""
    from templora_cli.engine.decoding.runtime import runtime

    current = runtime(model, manifest.backend)
    before, after = manifest.versions, current["versions"]
    # A library may be missing on either side: Triton counts only where it compiles.
    changes = [
        f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]
    for fact in ("hardware", "dtype"):
        if current[fact] != (previous := getattr(manifest, fact)):
            changes.append(f"{previous} -> {current[fact]}")
    if changes:
        notify(
            Notice(
                f"libraries or hardware have changed since the book began ({', '.join(changes)}): "
                "it continues, but not necessarily token for token"
            )
        )
