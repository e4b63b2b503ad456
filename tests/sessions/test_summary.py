"""The cached summary of a session matches its chunks, or is computed again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from templora_cli.novel.kind import Novel
from templora_cli.reading import Reading
from templora_cli.sessions.kind import TaskKind
from templora_cli.sessions.steps import StepDamagedError, committed_steps, read_chunks, step_name
from templora_cli.sessions.summary import (
    FILE,
    cache_summary,
    cached_summary,
    read_summary,
    refresh_summary,
    summary_of,
)
from templora_cli.translation.kind import Translation
from tests.sessions.test_store import create

KINDS: tuple[TaskKind, ...] = (Novel(), Translation(), Reading())


def append_chunks(session: Path, chunks: Sequence[dict[str, Any]]) -> None:
    """Append committed chunks that have only their text, like old steps."""
    steps = session / "steps"
    for index, chunk in enumerate(chunks, len(committed_steps(steps))):
        step = steps / step_name(index)
        step.mkdir(parents=True)
        content = json.dumps(chunk, ensure_ascii=False).encode()
        (step / "chunk.json").write_bytes(content)
        sums = {"chunk.json": hashlib.sha256(content).hexdigest()}
        (step / "checksums.json").write_text(json.dumps(sums))


def chunk(text: str = "He went. ", origin: str = "generated", adapter: float | None = 2.0) -> dict[str, Any]:
    paragraphs = [{"target": line} for line in text.splitlines()]
    values = {"nll_base": 2.5, "nll_adapter": adapter, "record": {"paragraphs": paragraphs}}
    return {"tokens": list(text.encode()), "text": text, "origin": origin, **values}


LIKELIHOODS = st.floats(0, 20) | st.just(float("nan"))
CHUNKS = st.lists(
    st.fixed_dictionaries(
        {
            "tokens": st.lists(st.integers(0, 50_000), max_size=5),
            "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
            "origin": st.sampled_from(["generated", "human"]),
            "nll_base": LIKELIHOODS,
            "nll_adapter": st.none() | LIKELIHOODS,
            "record": st.fixed_dictionaries({"paragraphs": st.lists(st.none(), max_size=4)}),
        }
    ),
    max_size=5,
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=CHUNKS)
def test_the_cached_summary_equals_the_computed_one(
    tmp_path: Path, kind: TaskKind, chunks: list[dict[str, Any]]
) -> None:
    shutil.rmtree(tmp_path / "steps", ignore_errors=True)
    append_chunks(tmp_path, chunks)
    cache_summary(tmp_path, chunks, kind)
    summary = summary_of(read_chunks(tmp_path / "steps"), kind)
    assert cached_summary(tmp_path, kind) == read_summary(tmp_path, kind) == summary
    assert (summary.chunks, summary.done.keys()) == (len(chunks), set(kind.units))
    (tmp_path / FILE).unlink()
    assert cached_summary(tmp_path, kind) is None and read_summary(tmp_path, kind) == summary


def test_the_totals_of_a_book() -> None:
    book = [chunk("One two. ", "human", 1.0), chunk("灯 three. "), chunk("Four.", adapter=None)]
    summary = summary_of(book, Novel())
    assert (summary.chunks, summary.words, summary.tokens) == (3, 5, 9 + 11 + 5)
    assert summary.gain == pytest.approx((1.5 + 0.5) / 2), "of the chunks that were scored with the adapter"
    assert summary.done == {"tokens": 16, "words": 3, "chunks": 2}, "the opening does not count"
    assert summary_of([], Novel()).gain is None
    assert summary_of([chunk(adapter=float("nan"))], Novel()).gain is None, "JSON has no NaN"


DONE = {"tokens": 9, "words": 2, "chunks": 1}
GOOD = {"chunks": 1, "tokens": 9, "words": 2, "gain": 0.5, "done": DONE, "complete": True}
DAMAGES = {
    "is empty": "",
    "breaks off": '{"chunks": 1',
    "is no object": "[]",
    "is no text": b"\xff\xfe",
    "lacks its values": '{"chunks": 1}',
    "does not name its steps": json.dumps(GOOD),
    "is of other steps": json.dumps({**GOOD, "bytes": 1}),
    "has another value": json.dumps({**GOOD, "bytes": "SIZE", "mood": 1}),
    "has a text for a number": json.dumps({**GOOD, "bytes": "SIZE", "words": "two"}),
    "has a text for the gain": json.dumps({**GOOD, "bytes": "SIZE", "gain": "much"}),
    "has no units": json.dumps({**GOOD, "bytes": "SIZE", "done": None}),
    "has a text for the progress": json.dumps(
        {**GOOD, "bytes": "SIZE", "done": {"tokens": "", "words": 2, "chunks": 1}}
    ),
    "does not say whether the book can end": json.dumps({**GOOD, "bytes": "SIZE", "complete": None}),
    "has other units": json.dumps({**GOOD, "bytes": "SIZE", "done": {"paragraphs": 1}}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_summary_is_computed_again(damage: str, tmp_path: Path) -> None:
    append_chunks(tmp_path, [chunk()])
    size = (tmp_path / "steps" / "000000" / "chunk.json").stat().st_size
    content = DAMAGES[damage]
    content = content if isinstance(content, bytes) else content.replace('"SIZE"', str(size)).encode()
    (tmp_path / FILE).write_bytes(content)
    assert cached_summary(tmp_path, Novel()) is None
    assert read_summary(tmp_path, Novel()) == summary_of([chunk()], Novel())
    assert (tmp_path / FILE).read_bytes() == content, "reading changes nothing"
    refresh_summary(tmp_path, [chunk()], Novel())
    assert cached_summary(tmp_path, Novel()) == summary_of([chunk()], Novel())


def test_an_intact_summary_is_used(tmp_path: Path) -> None:
    append_chunks(tmp_path, [chunk()])
    size = (tmp_path / "steps" / "000000" / "chunk.json").stat().st_size
    (tmp_path / FILE).write_text(json.dumps({**GOOD, "words": 99, "bytes": size}))
    assert read_summary(tmp_path, Novel()).words == 99
    before = (tmp_path / FILE).stat()
    refresh_summary(tmp_path, [chunk()], Novel())
    assert (tmp_path / FILE).stat().st_ino == before.st_ino, "it is not written again"


def test_a_summary_of_other_steps_is_computed_again(tmp_path: Path) -> None:
    book = [chunk("One. "), chunk("Two. "), chunk("Three. ")]
    append_chunks(tmp_path, book[:2])
    cache_summary(tmp_path, book[:2], Novel())
    append_chunks(tmp_path, book[2:])  # a kill comes before its summary
    assert read_summary(tmp_path, Novel()) == summary_of(book, Novel())
    cache_summary(tmp_path, book, Novel())
    shutil.rmtree(tmp_path / "steps" / "000002")
    assert read_summary(tmp_path, Novel()) == summary_of(book[:2], Novel())
    append_chunks(tmp_path, [chunk("Another. ")])  # as many as it is of
    assert (
        read_summary(tmp_path, Novel()).tokens == summary_of([*book[:2], chunk("Another. ")], Novel()).tokens
    )


def test_a_damaged_chunk_is_detected(tmp_path: Path) -> None:
    append_chunks(tmp_path, [chunk()])
    cache_summary(tmp_path, [chunk()], Novel())
    file = tmp_path / "steps" / "000000" / "chunk.json"
    file.write_text("{")
    with pytest.raises(StepDamagedError):
        read_summary(tmp_path, Novel())
    file.unlink()
    with pytest.raises(StepDamagedError):
        read_summary(tmp_path, Novel())


READERS = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from templora_cli.cli import app
app(["sessions", "list", "--json"], standalone_mode=False)
read = [path.rsplit("sessions")[-1] for path in opened if path.endswith("chunk.json")]
print(*read, sep="\\n", file=sys.stderr)
"""


def listed() -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of `templora sessions list`, and the files of chunks that it has opened."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", READERS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout), done.stderr.split()


def test_a_list_of_many_sessions_reads_no_chunk() -> None:
    for number in range(12):
        with create(f"storm-{number:04}", opened=f"2026-01-{number + 1:02}") as session:
            book = [chunk(f"{'word ' * number}. ")] * 3
            append_chunks(session.path, book)
            cache_summary(session.path, book, Novel())
    rows, opened = listed()
    assert [row["words"] for row in rows] == [3 * number for number in range(11, -1, -1)]
    assert {row["state"] for row in rows} == {"6 of 10 tokens"} | {"finished"} and opened == []
    (session.path / FILE).unlink()
    again, opened = listed()
    assert again == rows and len(opened) > 0 and all(session.id in path for path in opened)
