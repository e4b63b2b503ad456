"""`session.json`: the settings and the origin of a session."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from templora_cli.errors import TemploraError
from templora_cli.files import write_atomically

FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """The contents of `session.json`.

    Only these change later: `opened`; the goal; `id` and `former_ids` (a new name); `model`, `folder` and the
    model name in `config` (a model that has moved); `request` (a retry, a new note); `header_tokens` and
    `passing_tokens` (a ledger or a note that came later); `take` (a run that was stuck, or a book that was
    rewound); `out`.
    """

    format: int
    id: str
    """The name of its folder, whatever the file says."""
    task: str
    """The kind of task, by its name in `task_kinds.py`."""
    former_ids: list[str]
    """Its earlier names, oldest first: files that people correct may still contain them."""
    parent: str | None
    """The session that it was forked from; None if it is not a fork."""
    start: dict[str, Any] | None
    """The checkpoint that the book began with (`Start.origin`); None for an untrained adapter."""
    created: str
    """ISO 8601, UTC; so is `opened`."""
    opened: str
    """When the session was last opened for writing; the newest is "the last session"."""
    model: str
    """The name that the user gave."""
    folder: str
    fingerprint: str
    quantize: str
    device: str
    hardware: str
    """The name of the GPU, or architecture, vector units and model of the CPU."""
    backend: str
    """The name of the decoding backend."""
    dtype: str
    threads: int
    """CPU threads: floating-point sums depend on their number."""
    versions: dict[str, str]
    config: dict[str, Any]
    prompts: dict[str, dict[str, dict[str, str]]]
    """The texts of each prompt file, by name, table and key."""
    request: dict[str, Any]
    """Values of the kind of task besides the settings, such as the languages of a translation."""
    header_tokens: int
    """The maximum number of tokens of the prompt sections."""
    passing_tokens: int
    """How many of them are of sections that training does not see."""
    longest_chunk: int
    """The maximum number of tokens of a chunk."""
    source_sha256: str | None
    """Of `source.txt`, the copy of the human opening, or of the document that is translated."""
    tokens_sha256: str
    """Of `tokens.json`, the token ids of the human opening."""
    goal_amount: int
    goal_unit: str
    take: int
    """How many times parts of the book were undone: each time, new random numbers are drawn."""
    out: str | None
    """The output file, updated after each chunk; that of a translation is written at the end."""
    measured_by: str | None
    """The command that measures between chunks; only this command can resume the session."""

    def save(self, folder: Path) -> None:
        """Write `session.json` atomically."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        write_atomically(folder / "session.json", text)


def load_manifest(folder: Path) -> Manifest:
    """Read `session.json`. Raises TemploraError if it is damaged or was written by a newer version."""
    path = folder / "session.json"
    saved = f"to save its text: templora sessions export {folder.name}"
    try:
        values = json.loads(path.read_bytes())
        version = int(values["format"])
    except (OSError, ValueError, KeyError, TypeError):
        raise TemploraError(f"session {folder.name}: {path} is damaged or missing", saved) from None
    if version > FORMAT:
        raise TemploraError(
            f"session {folder.name} was written by a newer templora (format {version}; this one reads "
            f"up to {FORMAT})",
            "pip install --upgrade templora",
        )
    types = _field_types()
    if missing := types.keys() - values.keys():
        raise TemploraError(f"session {folder.name}: {path} lacks {', '.join(sorted(missing))}", saved)
    if wrong := [name for name, allowed in types.items() if not isinstance(values[name], allowed)]:
        raise TemploraError(f"session {folder.name}: {path} is damaged at {', '.join(sorted(wrong))}", saved)
    return Manifest(**{**{name: values[name] for name in types}, "id": folder.name})


@cache
def _field_types() -> dict[str, tuple[type, ...]]:
    """The JSON types that each field may have; the contents of tables and lists are not checked."""
    types = {}
    for name, hint in get_type_hints(Manifest).items():
        members = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        types[name] = tuple(get_origin(member) or member for member in members)
    return types
