"""Learning a book again gives exactly the state of a book written that way, and can be stopped anywhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from templora_cli.config import Config, GateConfig, SessionConfig
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.decoding.protocols import DecodedToken, Sampler, Stop
from templora_cli.events import ChunkLearnt, ChunkRelearnt, ChunkScored, Event, RebuildStarted, Working
from templora_cli.run import SYNCED
from templora_cli.sessions.checkpoint import commit_step, restore_latest, restore_step
from templora_cli.sessions.history import Replay, first_change, relearn, state_before
from templora_cli.sessions.steps import committed_steps, read_chunks, thin
from templora_cli.sessions.store import finish_replacing_steps
from tests.loop import CONFIG, Loop, adapter_of, same

OPENING = "It was a dark night."
"""Two chunks."""
GENERATED = 4
"""The number of generated chunks after the opening."""
LENGTH = 2 + GENERATED


@dataclass
class Book:
    """A novel on disk with its model and configuration, in the place of a `Session`."""

    path: Path
    model: Path
    config: Config
    id: str = "storm-1a2b"
    manifest: Any = field(default_factory=lambda: SimpleNamespace(start=None))
    scores: list[ChunkScored] = field(default_factory=list)

    @property
    def steps(self) -> Path:
        return self.path / "steps"

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return read_chunks(self.steps)

    def loop(self) -> Loop:
        """A loop with a new model and an empty state; its backend is only used by `write`."""
        return Loop(self.model, 12 * GENERATED, opening=OPENING, config=self.config)

    def write(self, backend: type[EagerBackend] = EagerBackend) -> Book:
        loop = self.loop()
        loop.backend = backend(loop.model.module)  # type: ignore[assignment]
        return self._committed(loop)

    def replay(self, chunks: Sequence[dict[str, Any]]) -> Book:
        """Learn `chunks` from the start, as if they had always been the book."""
        loop = self.loop()
        loop.task = Replay(loop.task, chunks)
        return self._committed(loop)

    def _committed(self, loop: Loop) -> Book:
        for event in loop.stream():
            if isinstance(event, ChunkScored):
                self.scores.append(event)
            if isinstance(event, ChunkLearnt):
                commit_step(self.steps, event.index, asdict(event), loop.state)
                thin(self.steps, **asdict(self.config.session))
        return self

    def relearn(self, chunks: Sequence[dict[str, Any]], first: int) -> Iterator[Event]:
        loop = self.loop()
        return relearn(self, loop.task, chunks, first, loop.model, loop.backend, self.config, SYNCED)  # type: ignore[arg-type]

    def learnt(self) -> tuple[object, ...]:
        """Adapter, moments and dropout after the last chunk, bit for bit; text, prompts and scores."""
        last = committed_steps(self.steps)[-1]
        tensors = [(last / name).read_bytes() for name in ("adapter.safetensors", "optimizer.safetensors")]
        dropout = json.loads((last / "state.json").read_text())["dropout"]
        names = (
            "origin",
            "tokens",
            "text",
            "record",
            "rejection_reason",
            "nll_base",
            "train_losses",
            "lr",
            "repetition",
        )
        chunks = [[chunk[name] for name in names] for chunk in self.chunks]
        prompts = [json.loads((step / "prompt.json").read_text()) for step in committed_steps(self.steps)]
        return *tensors, dropout, chunks, prompts


@pytest.fixture
def book(tiny_model: Path, tmp_path: Path) -> Book:
    """A sampled book with an opening and dropout, and checkpoints after its fourth and its last chunk."""
    sparse = replace(CONFIG, session=SessionConfig(keep_checkpoints=1, grid_checkpoints=2))
    written = Book(tmp_path / "book", tiny_model, sparse).write()
    assert [chunk["origin"] for chunk in written.chunks] == ["human"] * 2 + ["generated"] * GENERATED
    assert [len(list(step.glob("*.safetensors"))) for step in committed_steps(written.steps)] == [
        *[0, 0, 0, 2, 0, 2]
    ]
    return written


def without_seconds(event: Event) -> Event:
    return replace(event, seconds=None) if isinstance(event, RebuildStarted) else event


@pytest.mark.parametrize(("first", "unchanged"), [(0, 0), (3, 0), (4, 4), (5, 4), (LENGTH, LENGTH)])
def test_unchanged_chunks_are_learnt_again_bit_for_bit(book: Book, first: int, unchanged: int) -> None:
    before, chunks = book.learnt(), book.chunks
    events = list(book.relearn(chunks, first))
    slow = [event.message for event in events if isinstance(event, Working)]
    relearnt = LENGTH - unchanged
    assert slow == [f"learning the book again, chunk {n + 1} of {relearnt}" for n in range(relearnt)]
    assert [without_seconds(event) for event in events if not isinstance(event, Working)] == [
        RebuildStarted(book.id, unchanged, relearnt, None),
        *[ChunkRelearnt(n, tuple(chunks[n]["train_losses"])) for n in range(unchanged, LENGTH)],
    ]
    assert book.learnt() == before


def corrected(chunks: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """The chunks with one of them replaced by a human text."""
    human = {**chunks[number], "origin": "human", "tokens": list(b"He stayed."), "rejection_reason": None}
    return [*chunks[:number], human, *chunks[number + 1 :]]


@pytest.mark.parametrize("number", [0, 2, 4, 5])
def test_a_changed_chunk_is_learnt_like_an_original(book: Book, number: int, tmp_path: Path) -> None:
    before, changed = book.learnt(), corrected(book.chunks, number)
    assert first_change(book.chunks, changed) == number
    list(book.relearn(changed, number))
    original = replace(book, path=tmp_path / "original").replay(changed)
    assert book.learnt() == original.learnt()
    assert book.learnt()[0] != before[0]
    assert book.chunks[number]["text"].endswith("He stayed."), (
        "it may complete a character of the chunk before"
    )


def test_later_prompts_show_the_change(book: Book) -> None:
    list(book.relearn(corrected(book.chunks, 2), 2))
    prompts = [json.loads((step / "prompt.json").read_text()) for step in committed_steps(book.steps)]
    tokens = [chunk["tokens"] for chunk in book.chunks]
    assert tokens[2] == list(b"He stayed.")
    for number in range(LENGTH):
        text = [token for chunk in tokens[:number] for token in chunk]
        assert prompts[number]["context"] == text[-20:]


@pytest.mark.parametrize("remaining", [5, 4, 2, 0])
def test_an_undone_chunk_leaves_no_trace(book: Book, remaining: int, tmp_path: Path) -> None:
    shorter = book.chunks[:remaining]
    assert first_change(book.chunks, shorter) == remaining
    list(book.relearn(shorter, remaining))
    assert len(book.chunks) == remaining
    if remaining:
        assert book.learnt() == replace(book, path=tmp_path / "never").replay(shorter).learnt()


def test_a_book_continues_after_it_was_learnt_again(book: Book) -> None:
    list(book.relearn(corrected(book.chunks, 4), 4))
    loop = book.loop()
    assert restore_latest(book.steps, loop.state) == []
    assert loop.state.chunks == LENGTH and len(loop.state.records) == LENGTH
    assert loop.state.tokens == [token for chunk in book.chunks for token in chunk["tokens"]]
    assert loop.state.generated_nlls == [c["nll_base"] for c in book.chunks if c["origin"] == "generated"]


class Flattened(EagerBackend):
    """Reports other logits than the model, like a backend with an 8-bit copy of it."""

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        for token in super().decode(prompt, sampler=sampler, max_tokens=max_tokens, stop=stop):
            assert token.logits is not None
            yield DecodedToken(token.id, token.logits * 0.5)


def test_a_learnt_chunk_is_learnt_again_whatever_its_new_score(tiny_model: Path, tmp_path: Path) -> None:
    """The score of a decoded chunk comes from its decoding; learning it again gives another score."""

    def falls(book: Book) -> list[float]:
        """By how much learning has lowered the entropy of each chunk's predictions."""
        scores = [(score.entropy_base, score.entropy_adapter) for score in book.scores[2:]]
        return [1 - adapter / base for base, adapter in scores if base and adapter]

    free = replace(CONFIG, gate=GateConfig(entropy=1, completion=100))
    decoded = Book(tmp_path / "free", tiny_model, free).write(Flattened)
    read = falls(replace(decoded, path=tmp_path / "read", scores=[]).replay(decoded.chunks))
    between = max(read) / 2
    assert max(falls(decoded)) < 0 < between
    close = replace(CONFIG, gate=GateConfig(entropy=between, completion=100))
    book = Book(tmp_path / "book", tiny_model, close).write(Flattened)
    before = book.learnt()
    assert all(chunk["train_losses"] for chunk in book.chunks)
    list(book.relearn(book.chunks, 0))
    assert book.learnt() == before


def test_a_rejected_chunk_is_not_learnt_again(book: Book) -> None:
    changed = [
        {**chunk, "rejection_reason": "it loops"} if n == 4 else chunk for n, chunk in enumerate(book.chunks)
    ]
    events = list(book.relearn(changed, first_change(book.chunks, changed)))
    losses = {event.index: event.train_losses for event in events if isinstance(event, ChunkRelearnt)}
    assert losses[4] == () and losses[5]
    assert [chunk["rejection_reason"] for chunk in book.chunks] == [
        chunk["rejection_reason"] for chunk in changed
    ]


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ({"tokens": [7]}, 1),
        ({"origin": "human"}, 1),
        ({"record": {"paragraphs": []}}, 1),
        ({"rejection_reason": "it loops"}, 1),
        ({"nll_base": 9.0, "text": "x", "train_losses": [], "seconds": {}}, 3),
    ],
)
def test_the_first_change_is_found_by_the_fields_that_are_learnt(change: dict[str, Any], number: int) -> None:
    chunk = {
        "origin": "generated",
        "tokens": [1, 2],
        "record": None,
        "rejection_reason": None,
        "nll_base": 2.0,
    }
    assert first_change([chunk] * 3, [chunk, {**chunk, **change}, chunk]) == number
    assert first_change([chunk] * 3, [chunk] * 2) == first_change([chunk] * 2, [chunk] * 3) == 2
    assert first_change([], []) == 0


@pytest.mark.parametrize(("first", "expected"), [(6, 6), (5, 4), (4, 4), (3, 0), (0, 0)])
def test_learning_starts_at_the_newest_state_before_the_change(
    book: Book, first: int, expected: int, tmp_path: Path
) -> None:
    loop = book.loop()
    state, unchanged = state_before(first, book, loop.model, book.config)
    assert (unchanged, state.chunks, len(state.records)) == (expected,) * 3
    assert state.tokens == [token for chunk in book.chunks[:expected] for token in chunk["tokens"]]
    restored = book.loop().state
    if expected:
        steps = committed_steps(book.steps)
        restore_step(book.steps, steps[expected - 1], restored)
    assert same(adapter_of(state), adapter_of(restored))


def test_a_damaged_checkpoint_is_skipped(book: Book) -> None:
    adapter = book.steps / "000003" / "adapter.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-4] + b"hurt")
    before = book.learnt()
    loop = book.loop()
    assert state_before(5, book, loop.model, book.config)[1] == 0
    list(book.relearn(book.chunks, 5))
    assert book.learnt() == before


Disk = dict[str, bytes | None]
"""Every file below a folder with its content, and every folder, with None."""


def disk_of(folder: Path) -> Disk:
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def write_disk(disk: Disk, folder: Path) -> Path:
    folder.mkdir()
    for name, content in disk.items():
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
    return folder


CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link"}
watching: list[tuple[Path, list[Disk]]] = []
"""The watched folder, and a copy of it before each change. A list, because audit hooks cannot be removed."""


def on_event(event: str, args: tuple[Any, ...]) -> None:
    if watching and event in CHANGES and (event != "open" or (args[1] or "r")[0] != "r"):
        watched = watching.pop()  # copying opens files too
        watched[1].append(disk_of(watched[0]))
        watching.append(watched)


sys.addaudithook(on_event)


def test_a_kill_leaves_either_the_old_book_or_the_new_one(book: Book, tmp_path: Path) -> None:
    before, copies = disk_of(book.path), []
    changed = corrected(book.chunks, 4)
    watching.append((book.path, copies))
    try:
        list(book.relearn(changed, 4))
    finally:
        watching.clear()
    after = disk_of(book.path)
    ends = []
    for number, disk in enumerate([*copies, after]):
        folder = write_disk(disk, tmp_path / str(number))
        finish_replacing_steps(folder)
        ends.append(disk_of(folder))
        assert ends[-1] in (before, after), "either the old book or the new one, without leftovers"
    assert ends == [before] * ends.count(before) + [after] * ends.count(after)
    assert sum("steps" not in disk for disk in copies) == 1, "one kill falls between the two renames"
    assert any("steps.new" in disk and "steps" in disk for disk in copies)
    assert any("steps.old" in disk and "steps" in disk for disk in copies)


def test_learning_that_is_stopped_changes_nothing(book: Book) -> None:
    before = disk_of(book.path)
    learning = book.relearn(corrected(book.chunks, 2), 2)
    for event in learning:
        if isinstance(event, ChunkRelearnt) and event.index == 3:
            break
    learning.close()  # type: ignore[attr-defined]
    assert disk_of(book.steps) == {
        name.removeprefix("steps/"): content for name, content in before.items() if name.startswith("steps/")
    }
    assert list(book.relearn(book.chunks, LENGTH)) == [RebuildStarted(book.id, LENGTH, 0, 0.0)], (
        "it starts from scratch"
    )
    assert disk_of(book.path) == before
