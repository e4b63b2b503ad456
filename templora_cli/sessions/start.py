"""The adapter that a book begins with: a copy of a checkpoint of another session, in the folder `start/`.

    start/adapter.safetensors     LoRA matrices
          optimizer.safetensors   the optimizer's moments
          state.json              counters and the random state of dropout
          checksums.json          SHA-256 of the files above

It is no part of the book: undoing chunks leads back to it, and an export does not have it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from templora_cli.config import Config
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.errors import TemploraError
from templora_cli.files import link, write_atomically
from templora_cli.sessions.checkpoint import restore_weights
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.steps import (
    TENSORS,
    StepDamagedError,
    committed_steps,
    read_checksums,
    step_name,
    verify_files,
    verify_step,
)
from templora_cli.sessions.store import Session
from templora_cli.state import WritingState

FOLDER = "start"
FILES = (*TENSORS[:2], "state.json")
FIXED = ("rank", "alpha", "optimizer")
"""Settings of `[train]` that must be those of the session from which the adapter comes."""


@dataclass(frozen=True)
class Start:
    """A checkpoint of a session from which a book can begin."""

    step: Path
    manifest: Manifest
    """Of the session that has the checkpoint."""

    @property
    def origin(self) -> dict[str, Any]:
        """What a new session notes of it, as JSON."""
        checksums = read_checksums(self.step)
        return {
            "session": self.manifest.id,
            "chunks": int(self.step.name) + 1,
            "adapter": checksums[FILES[0]],
        }

    def require_same_model(self, manifest: Manifest) -> None:
        """Raise TemploraError if a session with this manifest cannot begin with the adapter."""
        other, train = self.manifest, manifest.config["train"]
        if other.fingerprint != manifest.fingerprint:
            raise TemploraError(
                f"the adapter of {other.id} belongs to another model ({other.model})",
                f"begin with that model: --model {other.model}",
            )
        for name in FIXED:
            if other.config["train"].get(name) != train[name]:
                value = other.config["train"].get(name)
                raise TemploraError(
                    f"{other.id} learns with {name} {value}, this book with {train[name]}",
                    f"--set {name}={value}",
                )

    def copy_to(self, session: Path) -> None:
        """Put the checkpoint into the folder of a session that is being created."""
        folder = session / FOLDER
        folder.mkdir()
        checksums = read_checksums(self.step)
        for name in FILES:
            link(self.step / name, folder / name)
        values = json.dumps({name: checksums[name] for name in FILES}, indent=2)
        write_atomically(folder / "checksums.json", values)


def start_in(folder: Path, manifest: Manifest, *, chunks: int | None = None) -> Start:
    """The newest checkpoint of the session in `folder`, or that after its first `chunks` chunks.

    Raises TemploraError if the session has learnt nothing, or if the checkpoint is damaged.
    """
    steps = committed_steps(folder / "steps")
    if chunks is not None:
        steps = [step for step in steps if step.name == step_name(chunks - 1)]
    if not manifest.config["train"]["learn"] or not steps:
        raise TemploraError(f"{manifest.id} has learnt nothing", "templora sessions list")
    for step in reversed(steps):
        try:
            verify_step(step)
            if all((step / name).is_file() for name in FILES):
                return Start(step, manifest)
        except StepDamagedError:
            continue  # or thinned
    if chunks is not None:
        again = f"to learn its texts again: templora sessions rm {manifest.id}"
        raise TemploraError(f"{manifest.id} has lost the checkpoint from which a book would begin", again)
    raise TemploraError(f"{manifest.id} has no checkpoint that is whole", f"templora resume {manifest.id}")


def begin_state(session: Session, model: AdaptedModel, config: Config, *, take: int = 0) -> WritingState:
    """The state before the first chunk of a session, with the adapter that it begins with.

    Raises TemploraError if that adapter is damaged.
    """
    state = WritingState.begin(model, config, take=take)
    if session.manifest.start is None:
        return state
    folder = session.path / FOLDER
    try:
        verify_files(folder, FILES)
        restore_weights(folder, state)
    except (StepDamagedError, OSError, ValueError, SafetensorError) as error:
        raise TemploraError(
            f"session {session.id}: the adapter that it began with is damaged ({error})",
            f"to save its text: templora sessions export {session.id}",
        ) from None
    state.primed_chunks, state.chunks = state.chunks, 0
    return state
