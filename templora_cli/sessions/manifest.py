"""`session.json`: what a session was begun with."""

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
    """The whole of `session.json`. `opened`, the goal, and what a retry adds to `request` change later."""

    format: int
    id: str
    """The name of its folder, whatever the file says."""
    task: str
    """The kind of task, by its name in `task_kinds.py`."""
    former_ids: list[str]
    """What it was called before it was renamed, oldest first: files that people correct may still say so."""
    parent: str | None
    """The session that it was forked from; None where it was begun anew."""
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
    """What decodes, by its name."""
    dtype: str
    threads: int
    """CPU threads: sums depend on how they are split."""
    versions: dict[str, str]
    config: dict[str, Any]
    prompts: dict[str, dict[str, dict[str, str]]]
    """The texts of each prompt file, by its name."""
    request: dict[str, Any]
    """What the kind of task asks for beside its settings, such as the languages of a translation."""
    header_tokens: int
    """Tokens that the sections of a prompt take at most."""
    longest_chunk: int
    """Tokens that a chunk has at most."""
    source_sha256: str | None
    """Of `source.txt`, the copy of what a person wrote first, or of the document that is translated."""
    tokens_sha256: str
    """Of `tokens.json`, the token ids of what a person wrote first."""
    goal_amount: int
    goal_unit: str
    take: int
    """How often the book was taken back: other random numbers are drawn after each time."""
    out: str | None
    """File that holds the book after each chunk; a translation when it is finished."""
    measured_by: str | None
    """The command that measures between the chunks, and alone goes on with the session."""

    def save(self, folder: Path) -> None:
        """Write `session.json` in one step."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        write_atomically(folder / "session.json", text)


def load_manifest(folder: Path) -> Manifest:
    """Read `session.json`. Raises TemploraError where it is damaged or was written by a newer version."""
    path = folder / "session.json"
    saved = f"its text is still there: templora sessions export {folder.name}"
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
    known = _kinds()
    if missing := known.keys() - values.keys():
        raise TemploraError(f"session {folder.name}: {path} lacks {', '.join(sorted(missing))}", saved)
    if wrong := [name for name, kinds in known.items() if not isinstance(values[name], kinds)]:
        raise TemploraError(f"session {folder.name}: {path} is damaged at {', '.join(sorted(wrong))}", saved)
    return Manifest(**{**{name: values[name] for name in known}, "id": folder.name})


@cache
def _kinds() -> dict[str, tuple[type, ...]]:
    """The JSON types that each field may have; inside tables only the outside is looked at."""
    kinds = {}
    for name, hint in get_type_hints(Manifest).items():
        some = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        kinds[name] = tuple(get_origin(one) or one for one in some)
    return kinds
