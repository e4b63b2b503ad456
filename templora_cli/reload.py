"""The model of a session that goes on: where it lies by now, that it is the same one, and how it is held."""

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


def find_again(session: Session, name: str | None, command: str, notify: Notify) -> dict[str, Any]:
    """Find the model of a session where `name` says that it lies by now, or without one where it was.

    Returns what the manifest is to say of the place. Raises TemploraError where no model is there, or another
    one: `command` with --model mends it.
    """
    manifest, config = session.manifest, original_config(session)
    mends = f"say where it is: {command} --model PATH"
    try:
        folder = _folder(Path(manifest.folder), config, name, notify)
    except TemploraError as error:
        if name is not None:
            raise
        pull = f"{error.hint}, or " if error.hint and "models pull" in error.hint else ""
        told = f"the model of session {session.id} is not where it was: {error.message}"
        raise TemploraError(told, f"{pull}{mends}") from None
    if fingerprint(folder) != manifest.fingerprint:
        found = name or f"the one in {folder}"
        raise TemploraError(f"{session.id} was begun with another {manifest.model} than {found}", mends)
    named = {} if name is None else {"model": name, "config": with_model(manifest.config, name)}
    return {"folder": str(folder), **named}


def _folder(before: Path, config: Config, name: str | None, notify: Notify) -> Path:
    if name is None and before.is_dir():
        return checked(before, str(before))
    named = replace(config.model, name=name or config.model.name)
    return find_model(replace(config, model=named), notify).absolute()


def load_again(session: Session, notify: Notify, engine: Engine) -> LanguageModel:
    """Load the model of a session as it ran before, not as `auto` would choose today.

    Raises TemploraError where it cannot be loaded.
    """
    manifest, config = session.manifest, original_config(session)
    hint = f"nothing is lost: close other programs, then {session.resume_command}"
    sizes = manifest.longest_chunk, manifest.header_tokens
    model, _ = load_fitting(config, Path(manifest.folder), *sizes, hint, notify, engine)
    _tell_what_has_changed(manifest, model, notify)
    return model


def original_config(session: Session) -> Config:
    """The settings of a session, with the model as it is held, and gradients checkpointed where they must be:
    they are the same ones.
    """
    manifest = session.manifest
    config = from_dict(manifest.config, str(session.path / "session.json"))
    held = replace(config.model, quantize=manifest.quantize, device=manifest.device)
    return replace(config, model=held, train=replace(config.train, gradient_checkpointing="auto"))


def _tell_what_has_changed(manifest: Manifest, model: LanguageModel, notify: Notify) -> None:
    """Other libraries and hardware are said: sums may differ in the last bit."""
    from templora_cli.engine.decoding.runtime import runtime

    running = runtime(model, manifest.backend)
    began, today = manifest.versions, running["versions"]
    # One may be missing on either side: Triton counts only where it compiles.
    changed = [
        f"{name} {began.get(name, 'none')} -> {today.get(name, 'none')}"
        for name in dict.fromkeys([*began, *today])
        if began.get(name) != today.get(name)
    ]
    for fact in ("hardware", "dtype"):
        if running[fact] != (before := getattr(manifest, fact)):
            changed.append(f"{before} -> {running[fact]}")
    if changed:
        facts = ", ".join(changed)
        told = f"the book was begun with others ({facts}): it goes on, but not necessarily token for token"
        notify(Notice(told))
