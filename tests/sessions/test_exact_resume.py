"""The promise: a book that was killed anywhere and resumed equals an uninterrupted one."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.tiny_model import save_tiny_model
from templora_cli.sessions.manifest import load_manifest
from templora_cli.sessions.steps import committed_steps, read_chunks
from templora_cli.sessions.summary import cached_summary, summary_of
from templora_cli.task_kinds import KINDS
from tests.random_text import RANDOM_TEXT
from tests.sessions import killing

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork are POSIX")

EVERY_FEATURE = """
[decode]
candidates = 2
dry_multiplier = 0.8
note_tokens = 64
"""
CONFIG = """
[train]
rank = 4
alpha = 4
dropout = 0.2
gradient_checkpointing = false
[human]
lr = 1e-2
[generated]
lr = 1e-2
[session]
keep_checkpoints = 1
grid_checkpoints = 0
"""


class Runs:
    """Starts runs as forks of a server that has loaded everything once."""

    def __init__(
        self, model: Path, folder: Path, kind: str = "prose", *, config: str = "", copy_every: int = 1
    ) -> None:
        """Runs of a `kind` of book (see `killing.run`), with more of a configuration file."""
        self.model, self.folder, self.kind, self.copy_every = model, folder, kind, copy_every
        self.lock = threading.Lock()
        self.context = multiprocessing.get_context("forkserver")
        # numba loads with the backend, half a second for each of hundreds of runs.
        self.context.set_forkserver_preload(
            ["tests.sessions.killing", "templora_cli.engine.decoding.cpu.int8_backend"]
        )
        (folder / "config.toml").write_text(RANDOM_TEXT + CONFIG + config)

    def run(self, home: Path, kill_at: killing.KillAt = None, copies: Path | None = None) -> int:
        """Run one process; returns its exit code (-9 if it was killed)."""
        environment = {
            "TEMPLORA_HOME": str(home),
            "TEMPLORA_CONFIG": str(self.folder / "config.toml"),
            "TEMPLORA_DEBUG": "1",  # errors as exceptions, for killing.run to see
            "LOG": f"{home}.log",
            "KIND": self.kind,
            "COPY_EVERY": str(self.copy_every),
        }
        arguments = (environment, str(self.model), kill_at, None if copies is None else str(copies))
        process = self.context.Process(target=killing.run, args=arguments)
        # multiprocessing polls all children whenever one starts, and two threads that poll the same child
        # at once read its exit code twice.
        with self.lock:
            process.start()
        assert wait([process.sentinel], 120), "the run hangs"
        with self.lock:
            process.join()
            exit_code = process.exitcode
        assert exit_code in (0, -signal.SIGKILL), Path(f"{home}.log").read_text()
        return exit_code


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    return Runs(save_tiny_model(folder / "model", layers=1), folder)


@pytest.fixture(scope="module")
def reference(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The uninterrupted book, and the copies of the disk at the points that its run passed."""
    home, copies = tmp_path_factory.mktemp("reference"), tmp_path_factory.mktemp("copies")
    assert runs.run(home, copies=copies) == 0
    return home, copies


def copy_of(point: int, reference: tuple[Path, Path], home: Path) -> None:
    """Restore the copy at `point` into `home`, as if its run had begun there."""
    original_home, copies = reference
    shutil.copytree(copies / str(point), home)
    for manifest in home.glob("sessions/*/session.json*"):
        manifest.write_text(manifest.read_text().replace(str(original_home), str(home)))


def disk_of(home: Path) -> str:
    """A digest of all files and their names."""
    digest = hashlib.sha256()
    for path in sorted(home.rglob("*")):
        digest.update(repr((str(path.relative_to(home)), path.is_file() and path.read_bytes())).encode())
    return digest.hexdigest()


def only_session(home: Path) -> Path:
    (session,) = (p for p in (home / "sessions").iterdir() if (p / "session.json").exists())
    return session


def assert_same_book(home: Path, reference: Path) -> None:
    """Tokens, adapter, optimizer, random states, book file and summary are equal, bit for bit."""
    assert (home / "book.txt").read_bytes() == (reference / "book.txt").read_bytes()
    assert not list(home.glob("book.edited*")), "a file that templora wrote is not an edit"
    ours, theirs = (only_session(h) / "steps" for h in (home, reference))
    chunks, expected = read_chunks(ours), read_chunks(theirs)
    assert [c["tokens"] for c in chunks] == [c["tokens"] for c in expected]
    timeless = [[{k: v for k, v in c.items() if k != "seconds"} for c in cs] for cs in (chunks, expected)]
    assert timeless[0] == timeless[1]
    kind = KINDS[load_manifest(ours.parent).task]
    assert cached_summary(ours.parent, kind) == summary_of(expected, kind)
    last, expected_last = committed_steps(ours)[-1], committed_steps(theirs)[-1]
    for name in ("adapter.safetensors", "optimizer.safetensors"):
        tensors, expected_tensors = load_file(last / name), load_file(expected_last / name)
        assert tensors.keys() == expected_tensors.keys() and tensors
        assert all(torch.equal(tensors[key], expected_tensors[key]) for key in tensors), name
    assert json.loads((last / "state.json").read_text()) == json.loads(
        (expected_last / "state.json").read_text()
    )


def test_a_book_that_is_killed_at_any_point_is_resumed_exactly(
    runs: Runs, reference: tuple[Path, Path], tmp_path: Path
) -> None:
    """Kill a process at every eighth point; at the others, restore a copy of the disk, which saves a run.

    Points with equal disks are tested once.
    """
    uninterrupted, copies = reference
    names = (copies / "points.txt").read_text().splitlines()
    # Test the beginning with the chunk of the opening, and the last chunk to the end of the book: the chunks
    # between them pass the same points.
    starts = [i for i, name in enumerate(names) if name == "ChunkStarted"]
    assert len(starts) == 4, "the opening, two generated chunks, and the end of the last sentence"
    points = [*range(starts[1]), *range(starts[-1], len(names))]
    disks = {disk_of(copies / str(point)): point for point in reversed(points)}
    tested = [point for point in points if point % 8 == 0 or point in disks.values()]

    def kill_and_resume(point: int) -> None:
        home = tmp_path / f"killed-at-{point}"
        if point % 8:
            copy_of(point, reference, home)
        else:
            home.mkdir()
            assert runs.run(home, kill_at=point) == -signal.SIGKILL, f"point {point} was not reached"
        assert runs.run(home) == 0, f"resume failed after {names[point]}"
        try:
            assert_same_book(home, uninterrupted)
        except AssertionError as error:
            raise AssertionError(f"killed at point {point}, {names[point]}: {error}") from error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(kill_and_resume, tested))
    kinds = {names[point].split()[0] for point in points}
    assert {"open", "os.rename", "before", "in", "TextDecoded", "TrainStep", "ChunkLearnt"} <= kinds
    passed = {names[point] for point in points}
    assert {"os.remove optimizer.safetensors", "os.rename .book.txt.tmp"} <= passed
    assert "os.rename .summary.json.tmp" in passed


def test_a_book_that_is_killed_after_each_commit_is_resumed_exactly(
    runs: Runs, reference: tuple[Path, Path], tmp_path: Path
) -> None:
    uninterrupted, _ = reference
    kills = 0
    while runs.run(tmp_path, kill_at=("ChunkStarted", 2)) != 0:
        kills += 1
        assert kills < 10, "no progress between the kills"
    assert kills == 3
    assert_same_book(tmp_path, uninterrupted)


def test_chunks_depend_on_the_random_states_that_are_restored(
    runs: Runs, reference: tuple[Path, Path], tmp_path: Path
) -> None:
    """So the tests above detect a wrong state: dropout advances, and each chunk has other random numbers."""
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    assert runs.run(stopped, kill_at=("ChunkStarted", 4)) == -signal.SIGKILL
    earlier, later = (
        json.loads((committed_steps(only_session(home) / "steps")[-1] / "state.json").read_text())
        for home in (stopped, reference[0])
    )
    assert later["chunks"] == earlier["chunks"] + 1
    assert earlier["dropout"] != later["dropout"]
    *_, last_but_one, last = read_chunks(only_session(reference[0]) / "steps")
    assert last_but_one["origin"] == last["origin"] == "generated"
    assert last_but_one["tokens"] != last["tokens"]


def test_a_book_with_every_feature_that_is_killed_anywhere_is_resumed_exactly(
    runs: Runs, tmp_path: Path
) -> None:
    """Plan, ledger, recall, note, bans, DRY and candidates, at some of the points."""
    folder = tmp_path / "configuration"
    folder.mkdir()
    planned = Runs(runs.model, folder, "planned", config=EVERY_FEATURE, copy_every=53)
    home, copies = tmp_path / "uninterrupted", tmp_path / "copies"
    home.mkdir()
    assert planned.run(home, copies=copies) == 0
    chunks = read_chunks(steps := only_session(home) / "steps")
    ends = [chunk["record"]["chapter"] for chunk in chunks[1:] if chunk["record"]["chapter_end"]]
    assert ends == [0, 1]
    prompts = [json.loads((step / "prompt.json").read_text()) for step in committed_steps(steps)]
    assert {"plan", "ledger", "recall", "note"} <= {name for each in prompts for name in each["sections"]}
    names = (copies / "points.txt").read_text().splitlines()
    points = [int(copy.name) for copy in copies.iterdir() if copy.is_dir()]
    disks = {disk_of(copies / str(point)): point for point in sorted(points, reverse=True)}

    def resume(point: int) -> None:
        copied = tmp_path / f"killed-at-{point}"
        copy_of(point, (home, copies), copied)
        assert planned.run(copied) == 0, f"resume failed after {names[point]}"
        assert_same_book(copied, home)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(resume, sorted(disks.values())))
    assert len(disks) > 5
