"""Run the real commands in separate processes, and kill them at a point or copy the disk at each point.

A point is a file operation or an event of a run: each file below the home that is opened, synced, renamed
or removed, each tensor file in the middle of its writing, and each event of the loop.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import templora_cli.engine  # noqa: F401  (before torch)

# isort: split
import torch

from templora_cli.commands.resume import resume
from templora_cli.commands.write import write
from templora_cli.engine.models import shape  # noqa: F401  (loaded once, in the fork server)
from templora_cli.errors import TemploraError
from templora_cli.events import TextDecoded
from templora_cli.sessions import checkpoint, recorder

FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


KillAt = int | tuple[str, int] | None
"""The number of a point, or (name, n) for the nth point of that name."""


@dataclass
class Points:
    """Counts the points of this process, and kills it at one of them or copies the disk at each."""

    home: str
    kill_at: KillAt = None
    copies: Path | None = None
    """Folder for the copies of the home, by the index of the point."""
    copy_every: int = 1
    """At each point that this number divides."""
    names: list[str] = field(default_factory=list)
    _busy: bool = False

    def reach(self, name: str) -> None:
        if self._busy:  # the copying itself passes points
            return
        if self.kill_at in (len(self.names), (name, self.names.count(name) + 1)):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.copies is not None and len(self.names) % self.copy_every == 0:
            self._busy = True
            shutil.copytree(self.home, self.copies / str(len(self.names)))
            self._busy = False
        self.names.append(name)

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS and self.home in str(args[0]):
            self.reach(f"{event} {Path(str(args[0])).name}")


def install(points: Points) -> None:
    """Count every point of this process."""
    sys.addaudithook(points.audit)
    fsync, save_file, record = os.fsync, checkpoint.save_file, recorder.Recorder.record

    def counted_fsync(handle: int) -> None:
        points.reach("before fsync")
        fsync(handle)

    def counted_save(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if points.copies is not None or points.kill_at == len(points.names):
            save_file(tensors, path)
            os.truncate(path, path.stat().st_size // 2)
        points.reach(f"in the middle of {path.name}")
        save_file(tensors, path)

    def counted_record(self: recorder.Recorder, event: Any) -> Any:
        if not isinstance(event, TextDecoded) or event.tokens in (1, 5):
            points.reach(type(event).__name__)
        return record(self, event)

    os.fsync = counted_fsync
    checkpoint.save_file = counted_save  # type: ignore[attr-defined]
    recorder.Recorder.record = counted_record  # type: ignore[method-assign]


OPENING = "A storm."
"""One human chunk: eight tokens of the tiny model."""


PLAN = "# The Light\n\n## Storm (10 words)\n\nAnna rows out.\n\n## Calm (10 words)\n\nTom sleeps.\n"
LEDGER = 'avoid = ["suddenly"]\n[[person]]\nname = "Anna"\naliases = ["An"]\nalways = true\n'


def planned(folder: Path) -> dict[str, Any]:
    """Options of a book with every feature: plan, ledger, volume, note and banned phrases."""
    folder.mkdir()
    texts = {"plan.md": PLAN, "ledger.toml": LEDGER, "volume.txt": "Anna saw a storm. " * 40, "ban.txt": "e!"}
    for name, text in texts.items():
        (folder / name).write_text(text)
    plan, ledger, volume, ban = (folder / name for name in texts)
    return {"plan": plan, "ledger": ledger, "volume": [volume], "ban": ban, "note": "Slower."}


def run(environment: dict[str, str], model: str, kill_at: KillAt, copies: str | None) -> None:
    """Write the book, or resume it if it exists; the entry point of a process.

    The variable KIND says which book it is, "prose" or "planned", and COPY_EVERY how many of the points are
    copied.

    The folder `copies` receives the disk at each point, and the names of the points in `points.txt`.
    """
    os.environ.update(environment)
    log = os.open(environment["LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(1)
    every = int(environment["COPY_EVERY"])
    points = Points(environment["TEMPLORA_HOME"], kill_at, None if copies is None else Path(copies), every)
    install(points)
    try:
        resume()
    except TemploraError as error:
        if "is finished" in error.message:
            return
        home = Path(environment["TEMPLORA_HOME"])
        (home.parent / f"{home.name}.opening.txt").write_text(OPENING)
        book: dict[str, Any] = {"premise": "a storm", "chunks": 2, "chunk_tokens": 8}
        if environment["KIND"] == "planned":
            book = {**planned(home.parent / f"{home.name}.plan"), "chunk_tokens": 48}
        write(
            **book,
            from_file=home.parent / f"{home.name}.opening.txt",
            out=home / "book.txt",
            context_tokens=12,
            model=model,
            seed=212,  # with this seed a sentence ends in the third chunk
        )
    if points.copies is not None:
        (points.copies / "points.txt").write_text("\n".join(points.names))
