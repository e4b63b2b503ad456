"""The screen of a terminal, the output in a pipe or a log, and the events of `--json`."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from templora_cli import events
from templora_cli.errors import TemploraError
from templora_cli.render import terminal_view
from templora_cli.render.error_view import error_lines, show_error
from templora_cli.render.escapes import harmless
from templora_cli.render.json_view import JsonView
from templora_cli.render.line_breaker import ProseLines
from templora_cli.render.progress import Progress
from templora_cli.render.terminal_view import TerminalView
from templora_cli.render.view import View

COMMAND = "templora resume quiet-harbour --tokens +5000 --out '/home/me/a book with a long name.txt'"
LETTERS = "ab  \n\n.,-—\t灯海。“”「」\u3000é\u0301🌊\ufe0f\u200d\x1b\x9b\r"
PROSE = st.text(st.sampled_from(LETTERS), max_size=200)


class Terminal(io.StringIO):
    """A stream to a terminal; `screen()` returns its rows, scrollback included."""

    def isatty(self) -> bool:
        return True

    def screen(self, columns: int = 100, narrowed_at: int | None = None, to: int = 0) -> list[str]:
        """Replay the output; a terminal that becomes narrower wraps the rows that no longer fit."""
        if narrowed_at is None:
            return _replay([""], self.getvalue(), columns)
        rows = _replay([""], self.getvalue()[:narrowed_at], columns)
        broken = [row[i : i + to] for row in rows for i in range(0, max(1, len(row)), to)]
        return _replay(broken, self.getvalue()[narrowed_at:], to)


def _replay(rows: list[str], output: str, columns: int) -> list[str]:
    """Apply `output` to the rows of a screen; a carriage return clears the row when more text follows."""
    row, at_line_start = len(rows) - 1, False
    for code, char in re.findall(r"(\x1b\[[?0-9;]*[A-Za-z])|([\s\S])", output):
        if code.endswith("A"):
            row -= int(code[2:-1])
        elif code == "\x1b[2K":
            rows[row] = ""
        elif code:
            assert code.endswith("m") or code in ("\x1b[?25l", "\x1b[?25h"), f"unexpected {code!r}"
        elif char == "\r":
            at_line_start = True
        elif char == "\n":
            row, at_line_start = row + 1, True
            rows += [""] * (row + 1 - len(rows))
        else:
            assert char.isprintable() or char in "\u3000\u200d", f"unexpected {char!r}"
            if at_line_start and rows[row]:
                rows[row] = ""
            at_line_start = False
            if cell_len(rows[row]) >= columns:
                row += 1
                rows += [""] * (row + 1 - len(rows))
            rows[row] += char
    while rows and not rows[-1]:
        rows.pop()
    return rows


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def window(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The size of every terminal; the status is not refreshed by itself."""
    size = {"columns": 100, "lines": 30}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size(size.values()))
    monkeypatch.setattr(terminal_view, "REFRESH_SECONDS", 3600.0)
    return size


def opened(**changes: object) -> events.SessionOpened:
    values: dict[str, object] = {
        "session": "quiet-harbour", "path": "/sessions/quiet-harbour", "resume_command": COMMAND,
        "model": "smollm2-135m", "quantize": "none", "device": "cpu", "dtype": "float32", "recipe": "paper",
        "learn": True, "chunk_tokens": 100, "context_tokens": 512, "goal": 450, "unit": "tokens",
        "chunks": 0, "tokens": 0, "words": 0, "opening_tokens": 0, "done": 0, "retries": 0,
        "languages": (), **changes,
    }  # fmt: skip
    return events.SessionOpened(**values)  # type: ignore[arg-type]


def committed(index: int = 0, **changes: object) -> events.ChunkCommitted:
    values: dict[str, object] = {
        "index": index, "origin": "generated", "tokens": 100, "text": "Tide.", "words": 1, "nll_base": 2.5,
        "nll_adapter": 2.46, "gain": 0.04, "repetition": 0.031, "rejection_reason": None,
        "train_losses": (2.6, 2.5), "lr": 5e-5,
        "seconds": {"decode": 10.0, "score": 5.0, "train": 14.5, "commit": 0.5},
        "total_tokens": 100 * (index + 1), "done": 100 * (index + 1), "step_bytes": 1000, **changes,
    }  # fmt: skip
    return events.ChunkCommitted(**values)  # type: ignore[arg-type]


def show_texts(view: View, pieces: list[str]) -> None:
    for number, piece in enumerate(pieces):
        view.show(events.TextDecoded(0, piece, number + 1))


STARTED = events.ChunkStarted(0, "generated", 0, 100)
FINISHED = events.Finished("quiet-harbour", 4, 450, 310, COMMAND, "/home/me/harbour.txt", 448_000_000, ())
INTERRUPTED = events.Interrupted("quiet-harbour", 3, 17, COMMAND)
LEARNT = events.ChunkLearnt(0, "generated", (1, 2), "Tide.", 2.5, 2.46, 0.0, None, (2.6,), 5e-5, None, 0, {})


# Prose on a screen


def broken(text: str, columns: int) -> list[str]:
    lines = ProseLines()
    return [line.rstrip() for line, _ in lines.feed(text, columns)] + [lines.rest.rstrip()]


@given(PROSE, st.lists(st.integers(0, 200)), st.integers(1, 30))
def test_joined_lines_equal_the_text_however_it_is_split(text: str, cuts: list[int], columns: int) -> None:
    lines = ProseLines()
    ends = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    fed = [line for a, b in pairwise(ends) for line in lines.feed(text[a:b], columns)]
    assert "".join(line + newline for line, newline in fed) + lines.rest == text
    at_once = ProseLines()
    assert (at_once.feed(text, columns), at_once.rest) == (fed, lines.rest)


@given(PROSE, st.integers(2, 30))
def test_no_line_is_wider_than_the_screen(text: str, columns: int) -> None:
    text = text.replace("\ufe0f", "").replace("\u200d", "")
    assert all(cell_len(line) <= columns for line in broken(harmless(text), columns))


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [
        ("The lamp burned on.", 10, ["The lamp", "burned on."]),
        ("one two", 3, ["one", "two"]),
        ("“Go.”\n\nHe went.", 20, ["“Go.”", "", "He went."]),
        ("    Donaudampfschiff", 10, ["    Donaud", "ampfschiff"]),
        ("a long—long way", 10, ["a long—", "long way"]),
        ("他点亮了灯坐在窗前", 10, ["他点亮了灯", "坐在窗前"]),
        ("他点亮了灯坐", 11, ["他点亮了灯", "坐"]),
        ("他点亮了灯。他走", 10, ["他点亮了", "灯。他走"]),
        ("他说了：“你好”", 9, ["他说了：", "“你好”"]),
        ("e\u0301e\u0301e\u0301", 2, ["e\u0301e\u0301", "e\u0301"]),
    ],
)
def test_lines_break_between_words_and_by_the_rules_of_chinese(
    text: str, columns: int, lines: list[str]
) -> None:
    assert broken(text, columns) == lines


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PROSE, st.integers(1, 9), st.sampled_from([10, 40, 100]))
def test_at_the_end_the_screen_has_only_the_prose(
    window: dict[str, int], text: str, size: int, columns: int
) -> None:
    text = "Tide. " + text.replace("\ufe0f", "").replace("\u200d", "") + "."
    window["columns"] = columns
    assert prose_on_screen([text[i : i + size] for i in range(0, len(text), size)], columns) == broken(
        harmless(text), columns - 1
    )


def prose_on_screen(pieces: list[str], columns: int = 100) -> list[str]:
    """The rows below the header of the session."""
    screens = []
    for written in ([], pieces):
        terminal = Terminal()
        with TerminalView(terminal, terminal) as view:
            view.show(opened())
            show_texts(view, written)
        screens.append(terminal.screen(columns))
    header, screen = screens
    assert screen[: len(header) + 1] == [*header, ""]
    return screen[len(header) + 1 :]


def test_prose_has_at_most_100_columns(window: dict[str, int]) -> None:
    window["columns"] = 160
    assert prose_on_screen(["word " * 30], 160) == [("word " * 20).rstrip(), ("word " * 10).rstrip()]


def test_markup_and_control_codes_in_prose_have_no_effect() -> None:
    prose = "a [bold]b[/bold] [link=x]c :smile: 12 'q' \x1b[2J\x9b5A\x07 d\te\r\x7f\n"
    assert prose_on_screen([prose]) == ["a [bold]b[/bold] [link=x]c :smile: 12 'q' ␛[2J\ufffd5A␇ d    e␍␡"]


def test_finished_lines_stay_above_the_line_in_progress(window: dict[str, int]) -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        view.show(STARTED)
        show_texts(view, ["Tide came", " in.\nThe la", "mp"])
        view.show(events.ChunkScored(0, 2.5, 2.46, 0.0, None))
        assert terminal.screen()[4:7] == ["Tide came in.", "The lamp", ""]
    assert terminal.screen()[4:] == ["Tide came in.", "The lamp"]


def test_a_narrowed_window_has_no_remains_of_the_status(window: dict[str, int]) -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        view.show(STARTED)
        show_texts(view, ["word " * 25])
        view.show(committed())
        at, window["columns"] = len(terminal.getvalue()), 40
        view.show(events.Notice("narrow"))
    screen = "\n".join(terminal.screen(100, at, 40))
    assert "note: narrow" in screen
    assert re.findall("chunk|━|──|memory|starting", screen.split("450 tokens\n", 1)[1]) == []
    assert screen.count("word") == 25


# The status


def status(*recent: events.Event, clock: Clock | None = None, **changes: object) -> str:
    """The status block after these events, without the spinner; a chunk takes the time in its event."""
    terminal, clock = Terminal(), clock or Clock()
    with TerminalView(terminal, terminal, clock=clock) as view:
        view.show(opened(**changes))
        for event in recent:
            if isinstance(event, events.ChunkCommitted):
                clock.now += sum(event.seconds.values())
            view.show(event)
        rows = terminal.screen()
    block = rows[next(i for i, row in enumerate(rows) if row.startswith(("━", "─"))) :]
    return re.sub(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] |memory [0-9.]+ GB", "", "\n".join(block))


def test_status_shows_the_progress_in_the_book() -> None:
    assert "chunk 1 of 5 · 0 of 450 tokens" in status(STARTED)
    assert "chunk 2 of 5 · 100 of 450 tokens" in status(STARTED, committed())
    assert "chunk 2 · 70 of 1,000 words" in status(STARTED, committed(done=70), unit="words", goal=1000)
    assert "  chunk 5 of 5 · 450 of 450 tokens\nfinishing" in status(committed(4, done=450))
    half = status(chunks=2, tokens=260, done=225)
    assert "━" * 12 + "─" * 12 + "  chunk 3 of 5 · 225 of 450 tokens" in half


def test_the_chunks_of_an_opening_are_counted() -> None:
    now = Progress(Clock())
    now.update(opened(opening_tokens=150, goal=200))
    assert now.chunk_name(0) == "chunk 1 of 4"
    now.update(committed(0, origin="human", total_tokens=100, done=0))
    assert now.chunk_name(1) == "chunk 2 of 4"
    now.update(committed(1, origin="human", total_tokens=150, done=0))
    assert now.chunk_name(2) == "chunk 3 of 4"
    now.update(committed(2, total_tokens=250, done=100))
    assert now.chunk_name(3) == "chunk 4 of 4"


def test_status_counts_a_goal_in_chunks() -> None:
    block = status(STARTED, committed(1, done=2), unit="chunks", goal=4)
    assert "━" * 12 + "─" * 12 + "  chunk 3 of 4 · 2 of 4 chunks" in block
    beyond = status(committed(0, done=1), events.ChunkStarted(1, "generated", 0, 100), unit="chunks", goal=1)
    assert "━" * 24 + "  chunk 1 of 1 · 1 of 1 chunk\n" in beyond, "the rest of its sentence does not count"
    now = Progress(Clock())
    now.update(opened(opening_tokens=150, goal=2, unit="chunks"))
    assert now.chunk_name(0) == "chunk 1 of 4"
    now.update(STARTED)
    now.update(events.TextDecoded(0, "Tide", 50))
    assert now.current_progress == 0.5


def test_an_opening_that_is_learnt_is_counted_in_parts(window: dict[str, int]) -> None:
    part = events.ChunkStarted(1, "human", 0, 100)
    scored = events.ChunkScored(1, 2.5, 2.46, 0.0, None)
    first = committed(0, origin="human", total_tokens=100, done=0)
    asked = {"opening_tokens": 250, "goal": 300, "unit": "words"}
    block = status(first, part, **asked).splitlines()
    assert block[:2] == ["━" * 8 + "─" * 16 + "  your opening, part 2 of 3", "reading your opening"]
    assert "learning your opening" in status(first, part, scored, **asked)
    after = [first, *(committed(i, origin="human", total_tokens=250, done=0) for i in (1, 2)), STARTED]
    assert "chunk 4 · 0 of 300 new words\nwriting" in status(*after, **asked)
    assert "reading your opening" not in status(part), "a text that is only read"
    window["columns"] = 40
    assert status(part, **asked).splitlines()[0] == "─" * 13 + "  your opening, part 1 of 3"


def test_completing_the_last_sentence_has_no_estimate() -> None:
    written = events.TextDecoded(1, "a " * 310, 20)
    late = status(committed(done=0), committed(1, done=30), STARTED, written, unit="words", goal=300)
    assert "300 of 300 words\nfinishing the sentence" in late and "left" not in late
    again = status(committed(done=310), STARTED, unit="words", goal=300)
    assert "\nfinishing the sentence" in again and "left" not in again
    early = status(committed(done=20), STARTED, events.TextDecoded(1, "a ", 20), unit="words", goal=300)
    assert "\nwriting · " in early and "left" in early


def test_only_the_retried_paragraphs_are_counted() -> None:
    retry = {"unit": "paragraphs", "goal": 6, "retries": 1, "chunks": 2, "tokens": 200}
    assert "0 of 1 paragraph\n" in status(STARTED, done=5, **retry)
    assert "5 of 5 paragraphs\n" in status(done=6, **retry)
    stderr = io.StringIO()
    with TerminalView(io.StringIO(), stderr) as view:
        view.show(opened(done=5, **retry))
        view.show(opened(done=6, **retry))
    first, second = stderr.getvalue().splitlines()
    assert "translates 1 paragraph once more" in first and "goal 5 paragraphs" in second


def test_status_shows_the_present_phase() -> None:
    written = events.TextDecoded(0, "Tide", 100)
    scored = events.ChunkScored(0, 2.5, 2.46, 0.0, None)
    first, second = events.TrainStep(0, 1, 2, 2.6, 5e-5), events.TrainStep(0, 2, 2, 2.5, 5e-5)
    for end, words in [
        ([], "starting"),
        ([STARTED], "writing"),
        ([events.ChunkStarted(0, "human", 0, 100)], "reading"),
        ([STARTED, written, events.Notice("")], "scoring"),
        ([STARTED, written, scored], "learning"),
        ([STARTED, written, scored, first], "learning, pass 2 of 2"),
        ([STARTED, written, scored, first, second], "saving"),
        ([STARTED, written, scored, first, second, committed(), STARTED, scored], "learning, pass 1 of 2"),
    ]:
        assert status(*end).splitlines()[1].split(" · ")[0] == words
    assert "saving" in status(STARTED, written, scored, learn=False)


def test_status_shows_loss_gain_and_repetition() -> None:
    assert status(STARTED).splitlines()[2:] == []
    scored = status(
        STARTED, events.ChunkScored(0, 2.5, 2.53, 0.125, None), events.TrainStep(0, 1, 2, 2.6, 5e-5)
    )
    assert scored.splitlines()[2] == "loss 2.600 · gain -0.030 nats/token · 12.5% of phrases seen before · "
    assert "gain +0.000" in status(STARTED, events.ChunkScored(0, 2.5, 2.50001, 0.1, None))
    assert "gain" not in status(STARTED, events.ChunkScored(0, 2.5, None, 0.1, None))


def test_status_shows_the_speed_of_decoding() -> None:
    clock, terminal = Clock(), Terminal()
    with TerminalView(terminal, terminal, clock=clock) as view:
        view.show(opened())
        view.show(STARTED)
        for number in range(1, 22):
            clock.now += 0.05
            view.show(events.TextDecoded(0, "a", number))
        clock.now += 60
        view.show(events.ChunkScored(0, 2.5, 2.46, 0.0, None))
        assert "20.0 tokens/s" in "\n".join(terminal.screen())


def test_reading_has_no_decoding_speed() -> None:
    assert "tokens/s" in status(committed())
    assert "tokens/s" not in status(committed(origin="human"))


def test_work_between_chunks_is_shown() -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        view.show(committed())
        view.show(events.Working("measuring"))
        assert "measuring" in "\n".join(terminal.screen())
        view.show(events.Working("measuring more"))
        assert "measuring more" in "\n".join(terminal.screen())
        view.show(events.Notice("y"))
        screen = "\n".join(terminal.screen())
        assert "measuring" not in screen and "starting the next chunk" in screen


def test_remaining_time_is_shown_after_the_first_measured_chunk() -> None:
    assert "left" not in status(STARTED, chunks=2, tokens=200, done=200)
    opening = committed(origin="human", done=0, seconds={"decode": 0.0, "score": 500.0})
    assert "left" not in status(STARTED, opening), "an opening does not count towards the goal"
    assert "left" not in status(STARTED, committed(done=0))
    # 30 s for 100 tokens; 350 tokens remain
    assert "about 2 min left" in status(STARTED, committed())
    assert "about 1 h 28 min left" in status(STARTED, committed(), goal=17_600)
    read = committed(origin="human", seconds={"score": 10.0, "train": 20.0})
    assert "about 2 min left" in status(STARTED, read), "all of a text that is only read counts"


def test_remaining_time_decreases_within_a_chunk() -> None:
    clock, terminal = Clock(), Terminal()
    with TerminalView(terminal, terminal, clock=clock) as view:
        view.show(opened())
        view.show(STARTED)
        clock.now += 30
        view.show(committed(seconds={"decode": 1.0}))  # the rest was spent on measuring, between chunks
        view.show(STARTED)
        assert "about 2 min left" in "\n".join(terminal.screen())
        clock.now += 60
        view.show(events.ChunkScored(1, 2.5, 2.46, 0.0, None))
        assert "about a minute left" in "\n".join(terminal.screen())


def test_an_adapter_that_does_not_help_is_reported() -> None:
    helping = [committed(index) for index in range(3)]
    worse = [committed(index, gain=-0.02) for index in range(3)]
    worse_on_human_text = [*helping[:2], committed(2, gain=-0.01, origin="human")]
    assert "not helping" not in status(*helping)
    assert "not helping" not in status(*worse[:2])
    assert "not helping" in status(*worse)
    assert "not helping" in status(*worse_on_human_text)
    assert "not helping" not in status(*worse, *helping)


def test_the_status_does_not_become_smaller() -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        heights = []
        for index, gain in enumerate([-0.1, -0.1, -0.1, 0.2]):
            view.show(committed(index, gain=gain))
            heights.append(len(terminal.screen()))
    assert heights[0] == heights[1] < heights[2] == heights[3]


def test_a_second_session_replaces_the_status_of_the_first() -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened(goal=100))
        for _ in range(3):
            view.show(committed(gain=-0.1))
        view.show(opened(session="second", goal=200))
        rows = terminal.screen()
        assert sum("━" in row or "──" in row for row in rows) == 1
        assert "0 of 200 tokens" in "\n".join(rows) and "not helping" not in "\n".join(rows)
    assert not any("─" in row for row in terminal.screen())


def test_status_shows_the_memory_of_a_gpu() -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal, gpu_bytes=lambda: 5_120_000_000) as view:
        view.show(opened())
        assert ", GPU 5.1 GB" in terminal.screen()[-1]


def test_status_is_refreshed_without_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal_view, "REFRESH_SECONDS", 0.01)
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        drawn, until = len(terminal.getvalue()), time.monotonic() + 10
        while len(terminal.getvalue()) == drawn and time.monotonic() < until:
            time.sleep(0.01)
        assert len(terminal.getvalue()) > drawn


# A complete run


def test_a_terminal_shows_header_prose_and_end() -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        view.show(STARTED)
        show_texts(view, ["The lamp\n\nburned", " on"])
        for event in (LEARNT, committed(), FINISHED):
            view.show(event)
    assert terminal.screen() == [
        "session quiet-harbour",
        "smollm2-135m (float32) on cpu · learns the book (recipe paper)",
        "chunks of 100 tokens, with the last 512 in view · goal 450 tokens",
        "",
        "The lamp",
        "",
        "burned on",
        "",
        "finished: 310 words, 450 tokens, 4 chunks",
        "written to /home/me/harbour.txt",
        "448 MB on disk; to free some: templora sessions shrink quiet-harbour",
        "To continue:",
        COMMAND,
    ]


def test_the_start_names_the_languages_and_breaks_between_facts(window: dict[str, int]) -> None:
    for columns in (40, 80, 120):
        window["columns"] = columns
        terminal = Terminal()
        with TerminalView(terminal, terminal) as view:
            view.show(opened(languages=("English", "French"), unit="paragraphs", goal=5))
            rows = terminal.screen(columns)
        facts = rows[1 : rows.index("")]
        assert facts[0].startswith("English → French")
        assert not any(row.startswith("·") or row.endswith("·") for row in facts)
        assert all(len(row) <= columns for row in facts)
        assert " ".join(facts).count("goal 5 paragraphs") == 1


def test_the_length_with_an_opening_is_told_in_full() -> None:
    stderr = io.StringIO()
    with TerminalView(io.StringIO(), stderr) as view:
        view.show(opened(opening_tokens=100, unit="words", goal=300))
        view.show(committed(done=307, total_tokens=450))
        view.show(replace(FINISHED, words=471))
    lines = stderr.getvalue().splitlines()
    assert "goal 300 new words" in lines[0]
    told = "finished: 307 of 300 new words, 471 with your opening, in all 450 tokens, 4 chunks"
    assert told in lines


def test_nothing_is_said_of_no_dropped_tokens() -> None:
    for chunks, dropped, line in (
        (1, 0, "stopped: 1 chunk is saved"),
        (2, 1, "stopped: 2 chunks are saved; 1 token of the unfinished one is dropped"),
    ):
        stderr = io.StringIO()
        with TerminalView(io.StringIO(), stderr) as view:
            view.show(replace(INTERRUPTED, chunks=chunks, dropped_tokens=dropped))
        assert stderr.getvalue().splitlines()[0] == line


BEFORE = events.TextBefore("Not this.\n\n" + "word " * 150 + "\n\nMara went to")
SHOWN = [
    *("│ " + ("word " * 19).rstrip() for _ in range(2)),
    "│ " + ("word " * 17).rstrip(),
    "│",
    "│ Mara went to",
]


def test_a_continued_book_begins_with_its_last_lines() -> None:
    for terminal, stderr in ((shared := Terminal(), shared), (Terminal(), io.StringIO())):
        with TerminalView(terminal, stderr) as view:
            view.show(opened(chunks=1, tokens=100))
            view.show(BEFORE)
            show_texts(view, [" the", " sea."])
        rows = terminal.screen()
        assert rows[-7:] == ["the book so far ends:", *SHOWN, "", "the sea."][-7:]
        assert "the book so far ends:" in rows and "Not this." not in "".join(rows)


@pytest.mark.parametrize("quiet", [True, False])
def test_a_pipe_and_a_quiet_terminal_get_only_new_text(quiet: bool) -> None:
    stdout = Terminal() if quiet else io.StringIO()
    with TerminalView(stdout, Terminal(), quiet=quiet) as view:
        view.show(opened(chunks=1, tokens=100))
        view.show(BEFORE)
        show_texts(view, [" the sea."])
        view.show(committed(1, text=" the sea."))
    assert stdout.getvalue().rstrip("\n") == " the sea."


def test_chunks_that_were_not_learnt_are_reported_at_the_end() -> None:
    def last_lines(*indices: int, learn: bool = True) -> list[str]:
        marked = tuple(events.Unlearnt(index, "it loops") for index in indices)
        terminal = Terminal()
        with TerminalView(io.StringIO(), terminal) as view:
            view.show(opened(learn=learn))
            view.show(events.Finished("harbour", 12, 450, 1, None, None, 9_000_000, marked))
        rows = terminal.screen(140)
        return rows[next(i for i, row in enumerate(rows) if row.startswith("finished")) :]

    assert last_lines() == ["finished: 1 word, 450 tokens, 12 chunks"]
    assert last_lines(3)[1:] == ["1 of 12 chunks was not learnt: chunk 4 (it loops)"]
    two = "2 of 12 chunks were not learnt: chunk 4 (it loops), chunk 9 (it loops)"
    assert last_lines(3, 8)[1:] == [two]
    many = "chunk 1 (it loops), chunk 2 (it loops), chunk 3 (it loops)"
    rejected = f"5 of 12 chunks were marked: {many} and 2 more"
    command = "to list all: templora sessions show harbour"
    assert last_lines(*range(5), learn=False)[1:] == [rejected, command]


def test_a_log_file_has_one_line_per_event() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    with TerminalView(stdout, stderr) as view:
        view.show(events.Working("loading"))
        view.show(opened(quantize="nf4", chunks=1, tokens=100, done=100))
        view.show(STARTED)
        show_texts(view, ["The lamp\n"])
        view.show(committed(1, seconds={"decode": 10.0, "train": 14.54}))
        view.show(events.Notice("one \x1b[2J"))
        view.show(INTERRUPTED)
    lines = stderr.getvalue().splitlines()
    assert re.sub(r"memory [0-9.]+ GB$", "memory", lines.pop(1)) == (
        "chunk 2 of 5 · 100 tokens · 10.0 tokens/s · loss 2.600, 2.500 · gain +0.040 nats/token · "
        "3.1% of phrases seen before · decode 10.0 s, train 14.5 s · memory"
    )
    assert lines == [
        "session quiet-harbour · smollm2-135m (nf4, float32) on cpu · learns the book (recipe paper) · "
        "chunks of 100 tokens, with the last 512 in view · goal 450 tokens · so far: 1 chunk, 100 tokens",
        "note: one ␛[2J",
        "stopped: 3 chunks are saved; 17 tokens of the unfinished one are dropped",
        "To continue:",
        COMMAND,
    ]


def test_a_log_file_reports_once_that_the_adapter_does_not_help() -> None:
    stderr = io.StringIO()
    with TerminalView(io.StringIO(), stderr) as view:
        view.show(opened())
        for index in range(5):
            view.show(committed(index, gain=-0.02))
    assert stderr.getvalue().count("not helping") == 1


@pytest.mark.parametrize("name", ["NO_COLOR", "TERM"])
def test_no_color_and_dumb_terminals_are_respected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "dumb")
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        show_texts(view, ["Tide"])
        view.show(FINISHED)
    assert set(re.findall(r"\x1b\[([0-9;]+)m", terminal.getvalue())) <= {"0", "1", "2"}
    assert ("\x1b" in terminal.getvalue()) == (name == "NO_COLOR")
    assert {"Tide", COMMAND} <= set(terminal.screen(200))


def test_force_color_does_not_draw_the_status_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    stderr = io.StringIO()
    with TerminalView(io.StringIO(), stderr) as view:
        view.show(opened())
        view.show(FINISHED)
    assert "\x1b" not in stderr.getvalue() and "finished" in stderr.getvalue()


def test_a_terminal_shows_the_end_of_the_opening() -> None:
    for opening, shown in (
        ("It rained.\n\nMara went to", ["Mara went to the sea."]),
        ("It rained.\n\n", ["the sea."]),
        ("a" * 300, ["…" + "a" * 98, "aa the sea."]),
    ):
        terminal = Terminal()
        with TerminalView(terminal, terminal) as view:
            view.show(opened(opening_tokens=200))
            view.show(committed(0, origin="human", text="Not this.", total_tokens=100))
            view.show(committed(1, origin="human", text=opening, total_tokens=200))
            show_texts(view, [" the sea."])
            view.show(committed(2, text=" the sea."))
        rows = [row for row in terminal.screen() if row]
        assert rows[-len(shown) :] == shown


@pytest.mark.parametrize("stderr", [io.StringIO(), Terminal()])
def test_a_pipe_gets_the_committed_prose_unchanged(stderr: io.StringIO) -> None:
    bytes_out = io.BytesIO()
    prose = "The [b]lamp[/b] \x1b[31m灯\t" + "word " * 60 + "\r\n\n"
    with TerminalView(io.TextIOWrapper(bytes_out, "utf-8", newline=""), stderr) as view:
        view.show(opened())
        show_texts(view, [prose[:5], prose[5:]])
        assert bytes_out.getvalue() == b"", "a chunk that is not committed can be rejected"
        view.show(events.ChunkRejected(0, "it loops"))
        show_texts(view, [prose])
        view.show(committed(text=prose))
        assert bytes_out.getvalue() == prose.encode()
        view.show(FINISHED)
        assert bytes_out.getvalue() == prose.encode()
    assert "lamp" not in stderr.getvalue() and "finished" in stderr.getvalue()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.sampled_from("ab. \n"), max_size=9), max_size=4), st.booleans())
def test_status_begins_on_a_new_line_if_it_shares_a_file_with_the_prose(
    tmp_path: Path, chunks: list[str], together: bool
) -> None:
    with (
        (tmp_path / "book").open("w") as stdout,
        (tmp_path / "log").open("w") as log,
        os.fdopen(os.dup((stdout if together else log).fileno()), "w") as stderr,
        TerminalView(stdout, stderr) as view,
    ):
        view.show(opened())
        for index, text in enumerate(chunks):
            view.show(committed(index, text=text))
        view.fail(TemploraError("the disk is full"))
    book = (tmp_path / "book").read_text()
    if not together:
        assert book == "".join(chunks)
        return
    lines = book.splitlines(keepends=True)
    status = [line for line in lines if line.startswith(("session ", "chunk ", "error: "))]
    assert len(status) == len(chunks) + 2 and lines[-1] == "error: the disk is full\n"
    prose = [line.rstrip("\n") for line in lines if line not in status]
    assert "".join(prose) == "".join(chunks).replace("\n", "")


def test_a_file_gets_the_opening_but_not_a_text_that_is_only_read() -> None:
    for opening_tokens, expected in ((100, "Once there was a fox."), (0, " was a fox.")):
        stdout = io.StringIO()
        with TerminalView(stdout, io.StringIO()) as view:
            view.show(opened(opening_tokens=opening_tokens))
            view.show(committed(0, origin="human", text="Once there", total_tokens=100, done=0))
            view.show(committed(1, text=" was a fox.", total_tokens=200))
        assert stdout.getvalue() == expected


def test_a_second_candidate_begins_on_a_new_line() -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        view.show(STARTED)
        show_texts(view, ["The tide", " the tide"])
        view.show(events.ChunkRejected(0, "it loops: it repeats 81% of its own phrases"))
        show_texts(view, ["The lamp"])
        view.close()
    screen = [row for row in terminal.screen() if row.strip()]
    assert screen[-3:] == [
        "The tide the tide",
        "chunk 1 of 5 is rejected and written again: it loops: it repeats 81% of its own phrases",
        "The lamp",
    ]


def test_quiet_writes_only_errors_to_standard_error() -> None:
    stdout, stderr = io.StringIO(), Terminal()
    with TerminalView(stdout, stderr, quiet=True) as view:
        view.show(events.Working("loading"))
        view.show(opened())
        show_texts(view, ["Tide."])
        for event in (events.Notice("x"), committed(), FINISHED):
            view.show(event)
        assert (stdout.getvalue(), stderr.getvalue()) == ("Tide.", "")
        view.fail(TemploraError("the disk is full"))
    assert stderr.screen() == ["error: the disk is full"]


def test_quiet_prose_has_no_control_codes_and_ends_its_line() -> None:
    stdout = Terminal()
    with TerminalView(stdout, Terminal(), quiet=True) as view:
        show_texts(view, ["a\x1b[2J", ""])
    assert stdout.getvalue() == "a␛[2J\n"


@pytest.mark.parametrize("event", [FINISHED, INTERRUPTED])
def test_the_command_is_on_one_line_of_its_own(event: events.Event, window: dict[str, int]) -> None:
    window["columns"] = 40
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        view.show(event)
    lines = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", terminal.getvalue()).split("\n")
    assert COMMAND in lines


def test_a_command_in_a_note_is_not_broken(window: dict[str, int]) -> None:
    window["columns"] = 40
    terminal, command = Terminal(), "templora sessions rename harbour quiet-harbour-in-the-north"
    with TerminalView(terminal, terminal) as view:
        view.show(events.Notice(f"the session goes on under its name; to rename it: {command}"))
    lines = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", terminal.getvalue()).split("\n")
    assert lines[:3] == ["note: the session goes on under its", "name; to rename it:", command]


def test_the_terminal_is_restored_after_an_exception() -> None:
    terminal, streams = Terminal(), (sys.stdout, sys.stderr)
    view = TerminalView(terminal, terminal)
    with pytest.raises(KeyboardInterrupt), view:
        view.show(opened())
        view.show(STARTED)
        show_texts(view, ["Tide came"])
        view.show(events.Notice("x"))
        assert sys.stderr is not streams[1]
        assert terminal.getvalue().rindex("\x1b[?25l") > terminal.getvalue().find("\x1b[?25h")
        drawn = len(terminal.getvalue())
        raise KeyboardInterrupt
    assert (sys.stdout, sys.stderr) == streams
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")
    assert terminal.screen()[4:] == ["note: x", "Tide came"]
    written = terminal.getvalue()
    assert "chunk 1" in written[:drawn] and "chunk 1" not in written[drawn:]
    view.close()
    assert terminal.getvalue() == written


def test_output_of_libraries_is_shown_above_the_status() -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        print("a warning", file=sys.stderr)
        assert terminal.screen()[4:6] == ["a warning", ""]
    assert terminal.screen()[4:] == ["a warning"]


def test_an_encoding_that_lacks_characters_does_not_stop_the_book() -> None:
    bytes_out, bytes_err = io.BytesIO(), io.BytesIO()
    stderr = io.TextIOWrapper(bytes_err, "ascii")
    with TerminalView(io.TextIOWrapper(bytes_out, "ascii"), stderr) as view:
        view.show(opened())
        view.show(committed(text="a灯"))
        view.show(FINISHED)
    assert bytes_out.getvalue() == b"a?"
    assert b"(float32) on cpu | learns the book (recipe paper) |" in bytes_err.getvalue()


class ClosedPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize(
    "make", [lambda: TerminalView(ClosedPipe(), io.StringIO()), lambda: JsonView(ClosedPipe())]
)
def test_a_broken_pipe_is_left_to_the_command(make: object) -> None:
    with pytest.raises(BrokenPipeError), make() as view:  # type: ignore[operator]
        view.show(committed())


def comes_to_show(terminal: Terminal, text: str, row: int = 0) -> bool:
    """Wait up to 10 s for a text in a row, which a thread draws. Returns whether it appeared."""
    until = time.monotonic() + 10
    while text not in "".join(terminal.screen()[row : row + 1]) and time.monotonic() < until:
        time.sleep(0.01)
    return text in "".join(terminal.screen()[row : row + 1])


def test_a_slow_step_is_shown_in_a_terminal_only() -> None:
    terminal, file = Terminal(), io.StringIO()
    loading = events.Working("loading [b]smollm2[/b] ...")
    with TerminalView(terminal, terminal) as view:
        view.show(loading)
        assert comes_to_show(terminal, "loading [b]smollm2[/b] ...")
        view.show(events.Working("compiling"))
        assert comes_to_show(terminal, "compiling") and "loading" not in terminal.screen()[0]
        view.show(events.Notice("x"))
        assert comes_to_show(terminal, "compiling", row=1), "a notice does not end the step"
        assert "note: x" in terminal.screen()[0]
    assert terminal.screen() == ["note: x"], "the terminal is restored"
    with TerminalView(file, file) as view, JsonView(file) as lines:
        view.show(loading)
        lines.show(loading)
    assert file.getvalue() == ""


def test_a_cut_section_is_reported() -> None:
    stderr = io.StringIO()
    with TerminalView(io.StringIO(), stderr) as view:
        view.show(opened())
        view.show(STARTED)
        view.show(events.SectionCut(0, "glossary", 3, 7))
    message = "chunk 1 of 5: the glossary was shortened to fit the prompt: 3 of 7 entries"
    assert stderr.getvalue().splitlines()[-1] == message


# Errors


def test_an_error_is_shown_with_its_hint() -> None:
    hint = f"to continue: {COMMAND}"
    assert error_lines(TemploraError("no")) == ["error: no"]
    assert error_lines(TemploraError("no", hint)) == ["error: no", f"hint: {hint}"]
    plain, terminal = io.StringIO(), Terminal()
    show_error(plain, TemploraError("a [b]\x1b[2J", hint))
    assert plain.getvalue() == f"error: a [b]␛[2J\nhint: {hint}\n"
    show_error(terminal, TemploraError("no", hint))
    assert terminal.screen(200) == ["error: no", f"hint: {hint}"] and "\x1b[1;31m" in terminal.getvalue()


def test_a_long_error_is_wrapped_between_words_but_its_hint_is_not(window: dict[str, int]) -> None:
    window["columns"] = 40
    terminal = Terminal()
    show_error(
        terminal, TemploraError("it takes about 7.38 GB of the 7.40 GB that are there\nhint: x", COMMAND)
    )
    written = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert written.splitlines() == [
        "error: it takes about 7.38 GB of the",
        "7.40 GB that are there",
        "  hint: x",
        f"hint: {COMMAND}",
    ]


def test_an_error_removes_the_status() -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        view.fail(TemploraError("the disk is full", "free some space"))
    assert terminal.screen()[4:] == ["error: the disk is full", "hint: free some space"]


# --json


def test_json_has_one_object_per_line() -> None:
    bytes_out = io.BytesIO()
    with JsonView(io.TextIOWrapper(bytes_out, "ascii")) as view:
        view.show(events.TextDecoded(0, "灯\n", 1))
        line = '{"event": "text_decoded", "index": 0, "text": "灯\\n", "tokens": 1}\n'
        assert bytes_out.getvalue().decode() == line
        view.show(LEARNT)
        view.show(committed(gain=float("nan"), train_losses=(float("inf"), 2.5)))
        view.fail(TemploraError("no", "yes"))
    text, chunk, error = map(json.loads, bytes_out.getvalue().decode().splitlines())
    assert text["event"] == "text_decoded"
    assert (chunk["event"], chunk["gain"], chunk["train_losses"]) == ("chunk_committed", None, [None, 2.5])
    assert error == {"event": "error", "message": "no", "hint": "yes"}


DOCUMENT = Path(__file__).parents[1] / "docs" / "events.md"


def test_the_page_documents_exactly_the_events_and_their_fields() -> None:
    documented = {}
    for section in re.split(r"^## ", DOCUMENT.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        names = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
        example = json.loads(re.findall(r"```json\n(.*)\n```", section)[0])
        assert list(example) == ["event", *names]
        assert section.startswith(f"`{example['event']}`\n")
        documented[example["event"]] = names
    assert documented.pop("error") == ["message", "hint"]
    shown = set(events.Event.__subclasses__()) - {events.ChunkLearnt, events.Working, events.TextBefore}
    snake = {re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower(): kind for kind in shown}
    assert documented == {name: [field.name for field in fields(kind)] for name, kind in snake.items()}
