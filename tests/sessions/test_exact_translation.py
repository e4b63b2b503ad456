"""The promise for `translate`, `sync` and `retry`: a stop at any point does not change the book.

A kill leaves the disk as it is. So one run is watched, and the disk is copied at each of its points; later
runs continue from the copies. Unlike `test_exact_resume.py`, this needs no separate process for each point.
Ctrl-C, which lets a command clean up, is raised at each point in turn.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from benchmarks.tiny_model import byte_tokenizer, save_tiny_model
from templora_cli import prepare, runner
from templora_cli.commands.resume import resume
from templora_cli.commands.review import retry, review, sync
from templora_cli.commands.terminal import computing_with
from templora_cli.commands.translate import SOME_FAILED, translate
from templora_cli.config import Config
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.decoding.protocols import DecodedToken, Sampler, Stop
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.errors import TemploraError
from templora_cli.events import TextDecoded
from templora_cli.prepare import ENGINE, Engine
from templora_cli.sessions import checkpoint, recorder, versions
from templora_cli.sessions.steps import THINNED, committed_steps
from templora_cli.task_kinds import KINDS
from templora_cli.translation.checks import FailedCheck
from templora_cli.translation.kind import Translation

BOOK = "Eins.\n\nZwei ist schlecht.\n\nDrei ist gut.\n"
"""Two chunks; a paragraph of the first one fails its check."""
MORE = "\nVier ist gut.\n"
"""A third chunk."""
CONFIG = """
prompts = "{prompts}"
[train]
rank = 2
alpha = 2
dropout = 0.2
gradient_checkpointing = false
[human]
lr = 1e-2
[generated]
lr = 1e-2
[decode]
backend = "eager"
[session]
keep_checkpoints = 1
grid_checkpoints = 3
"""
PROMPTS = """
[pair]
before = "{source}:"
[chat]
system = "In."
glossary = "{terms}"
term = "{source}: {target}"
term_with_note = "{source}: {target} ({note})"
"""

Disk = tuple[tuple[str, bytes | None], ...]
"""Every file below a folder with its content, and every folder, with None."""


def copy_of(folder: Path) -> Disk:
    paths = sorted(folder.rglob("*"))
    return tuple((str(p.relative_to(folder)), None if p.is_dir() else p.read_bytes()) for p in paths)


def restore(disk: Disk, folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, content in disk:
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)


CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link"}


@dataclass
class Watch:
    """Copies of the disk, each as a kill of the run at some point would leave it."""

    folder: Path
    interrupt_at: int | None = None
    """The number of the copy at which Ctrl-C is raised."""
    copies: dict[Disk, str] = field(default_factory=dict)
    """In order, each with its point, which is the operation that follows."""
    last: dict[str, Disk] = field(default_factory=dict)
    """The disk at each point; for repeated points, the last time."""
    _busy: bool = False

    def reach(self, point: str) -> None:
        if self._busy:
            return
        self._busy = True  # copying opens files too
        disk = copy_of(self.folder)
        self._busy = False
        self.last[point] = disk
        if disk not in self.copies:
            self.copies[disk] = point
            if len(self.copies) - 1 == self.interrupt_at:
                raise KeyboardInterrupt


watching: list[Watch] = []
"""The watched run, if any. A list, because audit hooks cannot be removed."""


def on_event(event: str, args: tuple[Any, ...]) -> None:
    reads = event == "open" and (args[1] or "r")[0] == "r"  # opened folders have no mode
    if watching and event in CHANGES and not reads:
        watching[0].reach(f"{event} {Path(str(args[0])).name}")


sys.addaudithook(on_event)


class Workspace:
    """A home, a book and the commands that a user runs on them."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.engine = Engine(ModelCache(), ShoutingBackend, kinds=kinds_with(bad))

    def run(self, command: Callable[[], None]) -> int:
        """Run a command; returns its exit status."""
        try:
            with computing_with(self.engine):
                command()
        except typer.Exit as end:
            return end.exit_code
        except KeyboardInterrupt:  # raised before the view exists
            return 130
        return 0

    def watched(self, command: Callable[[], None], interrupt_at: int | None = None) -> Watch:
        watch = Watch(self.folder, interrupt_at)
        watching.append(watch)
        try:
            status = self.run(command)
        finally:
            watching.clear()
        assert status in ((0, SOME_FAILED) if interrupt_at is None else (130,))
        watch.reach("the end")
        return watch

    def translate(self) -> None:
        translate(
            Path("book.txt"),
            target="en",
            source="de",
            model=str(self.model),
            chunk_tokens=70,
            settings=["context_tokens=70", "translation.temperature=1"],
            quiet=True,
        )

    def finish(self, text: str) -> None:
        """Translate `text` to its end."""
        (self.folder / "book.txt").write_text(text)
        assert self.run(self.translate) == SOME_FAILED

    def correct(self, numbers: dict[int, str]) -> None:
        """Write a review with corrections of some paragraphs, counted from 1, to `corrected.txt`."""
        review(out=Path("corrected.txt"))
        path = self.folder / "corrected.txt"
        rows = path.read_text().split("\n")
        for number, target in numbers.items():
            start = next(i for i, row in enumerate(rows) if row.startswith(f"@{number} "))
            rows[start + 2] = f"> {target}"
        path.write_text("\n".join(rows))

    def continue_book(self) -> None:
        """Resume the translation, or begin it if there is no session yet."""
        resume(quiet=True) if self.sessions() else self.translate()

    def sync(self) -> None:
        sync(file=Path("corrected.txt"), quiet=True)

    def retry(self) -> None:
        """Retry; if the session is not finished, resume it instead."""
        try:
            retry(quiet=True)
        except TemploraError as error:
            if "is not finished" not in error.message:
                assert "has no failed paragraphs" in error.message
            resume(quiet=True)

    def sessions(self) -> list[Path]:
        return [path.parent for path in self.folder.glob("home/sessions/*/session.json")]

    def outcome(self) -> dict[str, bytes | None]:
        """All files that a user sees at the end, without those that thinning may delete later."""
        (session,) = self.sessions()
        *older, _ = committed_steps(session / "steps")
        ignored = {str((step / name).relative_to(self.folder)) for step in older for name in THINNED}
        # Without a hash in saved.sha256 the next review asks for --force, but nothing is lost.
        names = ("lock", "out.sha256", "saved.sha256", ".saved.sha256.tmp")
        ignored |= {str((session / name).relative_to(self.folder)) for name in names}
        incomplete = {
            path for path in self.folder.glob("home/sessions/*") if not (path / "session.json").exists()
        }
        files = {}
        for name, content in copy_of(self.folder):
            path = self.folder / name
            if name not in ignored and not incomplete.intersection((path, *path.parents)):
                name = name.replace(session.name, "ID")
                files[name] = content and content.replace(session.name.encode(), b"ID")
                if path.name == "summary.json":  # its size on disk includes the ignored files
                    files[name] = re.sub(rb'"disk": \d+', b'"disk": N', content or b"")
                if path.name == "session.json":  # when the user worked on it last
                    files[name] = re.sub(rb'"opened": "[^"]*"', b'"opened": "T"', files[name] or b"")
        return files


class ModelCache:
    """Loads each model once; later calls return it with its initial adapter."""

    def __init__(self) -> None:
        self.loaded: dict[Path, tuple[LanguageModel, dict[str, torch.Tensor]]] = {}

    def __call__(self, folder: Path, config: Config) -> LanguageModel:
        if folder not in self.loaded:
            model = ENGINE.load(folder, config)
            initial = {name: weight.detach().clone() for name, weight in model.adapter.items()}
            self.loaded[folder] = model, initial
        model, initial = self.loaded[folder]
        with torch.no_grad():
            for name, weight in model.adapter.items():
                weight.copy_(initial[name])
        return model


TOKENIZER = byte_tokenizer()


class ShoutingBackend(EagerBackend):
    """Decodes the source in capitals, then one token of the tiny model."""

    def __init__(self, model: LanguageModel, name: str) -> None:
        assert name == "eager"
        super().__init__(model.module)

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        source = str(TOKENIZER.decode(list(prompt))).rsplit("<|user|>", 1)[1].split("<|end|>")[0].upper()
        yield from map(DecodedToken, source.encode())
        yield from super().decode(prompt, sampler=sampler, max_tokens=1, stop=stop)
        yield DecodedToken(TOKENIZER.eos_token_id)


def bad(source: str, *_: Any) -> list[FailedCheck]:
    return [FailedCheck("numbers", "it is bad")] if "schlecht" in source else []


def kinds_with(check: Callable[..., list[FailedCheck]]) -> dict[str, Any]:
    return {**KINDS, "translation": Translation(check=check)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), layers=1)


@pytest.fixture
def workspace(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    folder = tmp_path / "disk"
    folder.mkdir()
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "translation.toml").write_text(PROMPTS)
    (tmp_path / "config.toml").write_text(CONFIG.format(prompts=tmp_path / "prompts"))
    (folder / "book.txt").write_text(BOOK)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TEMPLORA_HOME", str(folder / "home"))
    monkeypatch.setenv("TEMPLORA_DEBUG", "1")  # errors as exceptions
    _stop_clock(monkeypatch)
    _add_points(monkeypatch)
    return Workspace(folder, tiny)


def _stop_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock, so that only real differences make disks unequal, and skip fsync, which is slow."""
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    for module in (prepare, runner, versions):
        monkeypatch.setattr(module, "now", lambda: "2026-01-01T00:00:00+00:00")
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def _add_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add points that audit hooks do not report: half-written tensor files, and events."""
    save_file, record = checkpoint.save_file, recorder.Recorder.record

    def save_in_halves(tensors: dict[str, torch.Tensor], path: Path) -> None:
        save_file(tensors, path)
        if watching:
            content = path.read_bytes()
            os.truncate(path, len(content) // 2)
            watching[0].reach(f"in the middle of {path.name}")
            path.write_bytes(content)

    def watched_record(self: recorder.Recorder, event: Any) -> Any:
        if watching and not isinstance(event, TextDecoded):
            watching[0].reach(type(event).__name__)
        return record(self, event)

    monkeypatch.setattr(checkpoint, "save_file", save_in_halves)
    monkeypatch.setattr(recorder.Recorder, "record", watched_record)


def stop_everywhere(workspace: Workspace, command: Callable[[], None], again: Callable[[], None]) -> Watch:
    """Stop `command` at every point; `again` must then produce the outcome of an unstopped run."""
    before = copy_of(workspace.folder)
    watch = workspace.watched(command)
    expected = workspace.outcome()
    stopped = dict(watch.copies)
    for number, point in enumerate([*watch.copies.values()][:-1]):
        restore(before, workspace.folder)
        workspace.watched(command, interrupt_at=number)
        stopped.setdefault(copy_of(workspace.folder), f"{point} (Ctrl-C)")
    for disk, point in stopped.items():
        restore(disk, workspace.folder)
        assert workspace.run(again) in (0, SOME_FAILED)
        assert workspace.outcome() == expected, f"stopped before {point}"
    return watch


def test_a_translation_that_is_stopped_anywhere_is_resumed_exactly(workspace: Workspace) -> None:
    watch = stop_everywhere(workspace, workspace.translate, workspace.continue_book)
    passed = watch.last.keys()
    assert {"ChunkStarted", "in the middle of optimizer.safetensors", "os.rename .000001.tmp"} <= passed
    assert {"os.rename .session.json.tmp", "os.rename .book (English).txt.tmp"} <= passed
    assert "os.rename .summary.json.tmp" in passed


def test_a_sync_that_is_stopped_anywhere_is_repeated_exactly(workspace: Workspace) -> None:
    workspace.finish(BOOK + MORE)
    workspace.correct({3: "Three is good."})
    unsynced = workspace.outcome()
    watch = stop_everywhere(workspace, workspace.sync, workspace.sync)
    passed = watch.last.keys()
    assert {"os.link adapter.safetensors", "os.rename steps", "os.rename steps.new"} <= passed
    assert {"os.remove summary.json", "os.rename .summary.json.tmp"} <= passed
    synced = workspace.outcome()
    assert synced != unsynced
    for disk, point in watch.copies.items():
        restore(disk, workspace.folder)
        workspace.run(workspace.continue_book)
        assert workspace.outcome() in (unsynced, synced), f"stopped before {point}"


def test_a_retry_that_is_stopped_anywhere_is_repeated_exactly(workspace: Workspace) -> None:
    workspace.finish(BOOK + MORE)
    workspace.engine = replace(workspace.engine, kinds=kinds_with(lambda *_: []))
    watch = stop_everywhere(workspace, workspace.retry, workspace.retry)
    assert {"os.remove optimizer.safetensors", "os.rename .000003.tmp"} <= watch.last.keys()


def test_a_document_whose_writing_was_killed_twice_is_not_an_edit(workspace: Workspace) -> None:
    workspace.finish(BOOK)
    workspace.correct({3: "Three is good."})
    for command in (workspace.sync, workspace.continue_book):
        restore(workspace.watched(command).last["open .book (English).txt.tmp"], workspace.folder)
    workspace.run(workspace.continue_book)
    assert "Three is good." in (workspace.folder / "book (English).txt").read_text()
    assert not list(workspace.folder.glob("*.edited-*"))
