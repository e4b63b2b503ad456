"""`session.json`: what a session was begun with, and how its form changed over the versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from templora_cli.errors import TemploraError
from templora_cli.files import write_atomically

FORMAT = 7


def _without_gate_and_windows(values: dict[str, Any]) -> dict[str, Any]:
    """Format 1 had neither, and a book that began without them goes on without."""
    config = values.get("config")
    if isinstance(config, dict) and isinstance(config.get("given", {}), dict):  # damage is said later
        whole = {
            name: {**table, "window_tokens": 0}
            for name in ("given", "own")
            if isinstance(table := config.get(name, {}), dict)
        }
        config = {**config, **whole, "gate": {"enabled": False}}
    return {**values, "format": 2, "config": config}


def _without_request(values: dict[str, Any]) -> dict[str, Any]:
    """Format 2 knew only tasks that ask for nothing beside their settings."""
    return {**values, "format": 3, "request": {}}


def _decoded_eagerly(values: dict[str, Any]) -> dict[str, Any]:
    """Format 3 had one backend, and a book that began with it goes on with it: another draws other tokens."""
    config = values.get("config")
    if isinstance(config, dict) and isinstance(config.get("decode", {}), dict):
        config = {**config, "decode": {**config.get("decode", {}), "backend": "eager"}}
    return {**values, "format": 4, "config": config}


def _without_cuts(values: dict[str, Any]) -> dict[str, Any]:
    """Format 4 took a paragraph as one, however long it was."""
    request = values.get("request")
    if values.get("task") == "translation" and isinstance(request, dict):
        request = {"cuts": {}, **request}
    return {**values, "format": 5, "request": request}


def _checkpointing_named(values: dict[str, Any]) -> dict[str, Any]:
    """Format 5 said true or false, true where it said nothing."""
    config = values.get("config")
    if isinstance(config, dict) and isinstance(config.get("train", {}), dict):
        train = config.get("train", {})
        named = "on" if train.get("gradient_checkpointing", True) else "off"
        config = {**config, "train": {**train, "gradient_checkpointing": named}}
    return {**values, "format": 6, "config": config}


def _backend_as_asked(values: dict[str, Any]) -> dict[str, Any]:
    """Format 6 kept only what was asked for: where that is "auto", what is chosen today decodes.

    And its adapters might move away from the base as far as they would.
    """
    config = values.get("config")
    asked = "auto"
    if isinstance(config, dict):
        decode, gate = config.get("decode"), config.get("gate", {})
        asked = decode.get("backend", "auto") if isinstance(decode, dict) else "auto"
        config = {**config, "gate": {**gate, "drift": 100}} if isinstance(gate, dict) else config
    return {**values, "format": 7, "backend": asked, "config": config}


MIGRATIONS: list[Callable[[dict[str, Any]], dict[str, Any]]] = [
    _without_gate_and_windows,
    _without_request,
    _decoded_eagerly,
    _without_cuts,
    _checkpointing_named,
    _backend_as_asked,
]
"""`MIGRATIONS[n - 1]` takes a manifest of format n to format n + 1."""


@dataclass(frozen=True)
class Manifest:
    """The whole of `session.json`. Only `opened`, `goal_*` and `out` change after the beginning."""

    format: int
    id: str
    task: str
    created: str
    """ISO 8601, UTC, as `opened`."""
    opened: str
    """When a process last began to write here; the newest is "the last session"."""
    model: str
    """The name that the user gave."""
    folder: str
    fingerprint: str
    quantize: str
    device: str
    hardware: str
    """What it ran on: the GPU's name, or a CPU's architecture, vector units and kind."""
    backend: str
    """What decodes, by its name; "auto" is chosen anew."""
    dtype: str
    threads: int
    """CPU threads: sums depend on how they are split."""
    versions: dict[str, str]
    config: dict[str, Any]
    prompts: dict[str, str]
    """Prompt file name to SHA-256."""
    premise: str
    request: dict[str, Any]
    """What a task asks for beside its settings, such as the languages of a translation."""
    source_sha256: str | None
    """Of `source.txt`, the copy of what a person wrote first, or of the document that is translated."""
    tokens_sha256: str
    """Of `tokens.json`, the header and the opening as token ids."""
    goal_amount: int
    goal_unit: str
    out: str | None
    """File that holds the book after each chunk; a translation when it is finished."""

    def save(self, folder: Path) -> None:
        """Write `session.json` in one step."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        write_atomically(folder / "session.json", text)


def load_manifest(folder: Path) -> Manifest:
    """Read `session.json`, migrated to today's form.

    Raises TemploraError where it is damaged or was written by a newer version.
    """
    path = folder / "session.json"
    try:
        values = json.loads(path.read_text("utf-8"))
        version = int(values["format"])
    except (OSError, ValueError, KeyError, TypeError):
        raise TemploraError(
            f"session {folder.name}: {path} is damaged or missing",
            f"its text is still there: templora sessions export {folder.name}",
        ) from None
    if version > FORMAT:
        raise TemploraError(
            f"session {folder.name} was written by a newer templora (format {version}; this one reads "
            f"up to {FORMAT})",
            "pip install --upgrade templora",
        )
    for migrate in MIGRATIONS[version - 1 :]:
        values = migrate(values)
    known = {field.name for field in fields(Manifest)}
    if missing := known - values.keys():
        raise TemploraError(
            f"session {folder.name}: {path} lacks {', '.join(sorted(missing))}",
            f"its text is still there: templora sessions export {folder.name}",
        )
    manifest = Manifest(**{name: values[name] for name in known})
    hints = get_type_hints(Manifest)
    wrong = [name for name in sorted(known) if not _fits(values[name], hints[name])]
    if wrong:
        raise TemploraError(
            f"session {folder.name}: {path} is damaged at {', '.join(wrong)}",
            f"its text is still there: templora sessions export {folder.name}",
        )
    return manifest


def _fits(value: Any, hint: Any) -> bool:
    """Is a JSON value of the kind that a field wants? Inside tables only the outside is looked at."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return isinstance(value, tuple(get_origin(kind) or kind for kind in kinds))
