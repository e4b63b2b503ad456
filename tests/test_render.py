"""What stands on the screen, what goes through a pipe, and what `--json` promises."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from dataclasses import fields
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
from templora_cli.render.progress import Progress
from templora_cli.render.prose import ProseLines
from templora_cli.render.terminal_view import TerminalView
from templora_cli.render.view import View

COMMAND = "templora resume quiet-harbour --tokens +5000 --out '/home/me/a book with a long name.txt'"
LETTERS = "ab  \n\n.,-—\t灯海。“”「」\u3000é\u0301🌊\ufe0f\u200d\x1b\x9b\r"
PROSE = st.text(st.sampled_from(LETTERS), max_size=200)


class Terminal(io.StringIO):
    """A stream to a terminal; `screen()` is what it shows, scrollback included."""

    def isatty(self) -> bool:
        return True

    def screen(self, columns: int = 100, narrowed_at: int | None = None, to: int = 0) -> list[str]:
        """Play what was written; a terminal that is narrowed breaks the rows that no longer fit."""
        if narrowed_at is None:
            return _played([""], self.getvalue(), columns)
        rows = _played([""], self.getvalue()[:narrowed_at], columns)
        broken = [row[i : i + to] for row in rows for i in range(0, max(1, len(row)), to)]
        return _played(broken, self.getvalue()[narrowed_at:], to)


def _played(rows: list[str], written: str, columns: int) -> list[str]:
    at, fresh = len(rows) - 1, False
    for code, char in re.findall(r"(\x1b\[[?0-9;]*[A-Za-z])|([\s\S])", written):
        if code.endswith("A"):
            at -= int(code[2:-1])
        elif code == "\x1b[2K":
            rows[at] = ""
        elif code:
            assert code.endswith("m") or code in ("\x1b[?25l", "\x1b[?25h"), f"unexpected {code!r}"
        elif char == "\r":
            fresh = True
        elif char == "\n":
            at, fresh = at + 1, True
            rows += [""] * (at + 1 - len(rows))
        else:
            assert char.isprintable() or char in "\u3000\u200d", f"unexpected {char!r}"
            if fresh and rows[at]:
                rows[at] = ""
            fresh = False
            if cell_len(rows[at]) >= columns:
                at += 1
                rows += [""] * (at + 1 - len(rows))
            rows[at] += char
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
    """The size of every terminal; the status is not drawn again by itself."""
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
        "chunks": 0, "tokens": 0, "opening_tokens": 0, "done": 0, **changes,
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


def texts(view: View, pieces: list[str]) -> None:
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
def test_lines_joined_are_the_text_however_it_comes(text: str, cuts: list[int], columns: int) -> None:
    lines = ProseLines()
    ends = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    found = [line for a, b in pairwise(ends) for line in lines.feed(text[a:b], columns)]
    assert "".join(line + newline for line, newline in found) + lines.rest == text
    whole = ProseLines()
    assert (whole.feed(text, columns), whole.rest) == (found, lines.rest)


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
def test_lines_break_where_a_reader_expects_it(text: str, columns: int, lines: list[str]) -> None:
    assert broken(text, columns) == lines


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PROSE, st.integers(1, 9), st.sampled_from([10, 40, 100]))
def test_the_screen_keeps_the_prose_and_nothing_else(
    window: dict[str, int], text: str, size: int, columns: int
) -> None:
    text = "Tide. " + text.replace("\ufe0f", "").replace("\u200d", "") + "."
    window["columns"] = columns
    assert prose_on_screen([text[i : i + size] for i in range(0, len(text), size)], columns) == broken(
        harmless(text), columns - 1
    )


def prose_on_screen(pieces: list[str], columns: int = 100) -> list[str]:
    """All that stands on the screen below what the opening of a session puts there."""
    screens = []
    for shown in ([], pieces):
        terminal = Terminal()
        with TerminalView(terminal, terminal) as view:
            view.show(opened())
            texts(view, shown)
        screens.append(terminal.screen(columns))
    header, screen = screens
    assert screen[: len(header) + 1] == [*header, ""]
    return screen[len(header) + 1 :]


def test_prose_is_never_wider_than_a_page(window: dict[str, int]) -> None:
    window["columns"] = 160
    assert prose_on_screen(["word " * 30], 160) == [("word " * 20).rstrip(), ("word " * 10).rstrip()]


def test_prose_is_not_markup_nor_control_codes() -> None:
    prose = "a [bold]b[/bold] [link=x]c :smile: 12 'q' \x1b[2J\x9b5A\x07 d\te\r\x7f\n"
    assert prose_on_screen([prose]) == ["a [bold]b[/bold] [link=x]c :smile: 12 'q' ␛[2J\ufffd5A␇ d    e␍␡"]


def test_a_finished_line_stays_and_the_one_in_progress_is_drawn_below(window: dict[str, int]) -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        view.show(STARTED)
        texts(view, ["Tide came", " in.\nThe la", "mp"])
        view.show(events.ChunkScored(0, 2.5, 2.46, 0.0, None))
        assert terminal.screen()[3:6] == ["Tide came in.", "The lamp", ""]
    assert terminal.screen()[3:] == ["Tide came in.", "The lamp"]


def test_a_narrowed_window_is_left_clean(window: dict[str, int]) -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        view.show(STARTED)
        texts(view, ["word " * 25])
        view.show(committed())
        at, window["columns"] = len(terminal.getvalue()), 40
        view.show(events.Notice("narrow"))
    shown = "\n".join(terminal.screen(100, at, 40))
    assert "note: narrow" in shown
    assert re.findall("chunk|━|──|memory|starting", shown.split("tokens\n", 1)[1]) == []
    assert shown.count("word") == 25


# The status


def status(*shown: events.Event, clock: Clock | None = None, **changes: object) -> str:
    """The status block after these events, without the spinner; a chunk takes the time that it says."""
    terminal, clock = Terminal(), clock or Clock()
    with TerminalView(terminal, terminal, clock=clock) as view:
        view.show(opened(**changes))
        for event in shown:
            if isinstance(event, events.ChunkCommitted):
                clock.now += sum(event.seconds.values())
            view.show(event)
        rows = terminal.screen()
    block = rows[next(i for i, row in enumerate(rows) if row.startswith(("━", "─"))) :]
    return re.sub(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] |memory [0-9.]+ GB", "", "\n".join(block))


def test_status_tells_the_place_in_the_book() -> None:
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


def test_a_length_in_chunks_is_counted_in_chunks() -> None:
    shown = status(STARTED, committed(1, done=2), unit="chunks", goal=4)
    assert "━" * 12 + "─" * 12 + "  chunk 3 of 4 · 2 of 4 chunks" in shown
    beyond = status(committed(0, done=1), events.ChunkStarted(1, "generated", 0, 100), unit="chunks", goal=1)
    assert "━" * 24 + "  chunk 1 of 1 · 1 of 1 chunk\n" in beyond, "what follows is the end of a sentence"
    now = Progress(Clock())
    now.update(opened(opening_tokens=150, goal=2, unit="chunks"))
    assert now.chunk_name(0) == "chunk 1 of 4"
    now.update(STARTED)
    now.update(events.TextDecoded(0, "Tide", 50))
    assert now.current_progress == 0.5


def test_status_tells_what_is_going_on() -> None:
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


def test_status_tells_what_was_measured() -> None:
    assert status(STARTED).splitlines()[2:] == []
    scored = status(
        STARTED, events.ChunkScored(0, 2.5, 2.53, 0.125, None), events.TrainStep(0, 1, 2, 2.6, 5e-5)
    )
    assert scored.splitlines()[2] == "loss 2.600 · gain -0.030 nats/token · repetition 12.5% · "
    assert "gain +0.000" in status(STARTED, events.ChunkScored(0, 2.5, 2.50001, 0.1, None))
    assert "gain" not in status(STARTED, events.ChunkScored(0, 2.5, None, 0.1, None))


def test_status_tells_the_speed_of_decoding() -> None:
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


def test_reading_is_no_decoding() -> None:
    assert "tokens/s" in status(committed())
    assert "tokens/s" not in status(committed(origin="human"))


def test_what_is_done_between_chunks_is_told() -> None:
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


def test_time_left_is_told_once_there_is_a_basis() -> None:
    assert "left" not in status(STARTED, chunks=2, tokens=200, done=200)
    opening = committed(origin="human", done=0, seconds={"decode": 0.0, "score": 500.0})
    assert "left" not in status(STARTED, opening), "an opening brings the goal no nearer"
    assert "left" not in status(STARTED, committed(done=0))
    # 30 s for 100 tokens, 350 are missing
    assert "about 2 min left" in status(STARTED, committed())
    assert "about 1 h 28 min left" in status(STARTED, committed(), goal=17_600)
    read = committed(origin="human", seconds={"score": 10.0, "train": 20.0})
    assert "about 2 min left" in status(STARTED, read), "of a text that is only read, all counts"


def test_time_left_runs_down_within_a_chunk() -> None:
    clock, terminal = Clock(), Terminal()
    with TerminalView(terminal, terminal, clock=clock) as view:
        view.show(opened())
        view.show(STARTED)
        clock.now += 30
        view.show(committed(seconds={"decode": 1.0}))  # the rest was spent between chunks, on measuring
        view.show(STARTED)
        assert "about 2 min left" in "\n".join(terminal.screen())
        clock.now += 60
        view.show(events.ChunkScored(1, 2.5, 2.46, 0.0, None))
        assert "about a minute left" in "\n".join(terminal.screen())


def test_an_adapter_that_does_not_help_is_called_so() -> None:
    helping = [committed(index) for index in range(3)]
    worse = [committed(index, gain=-0.02) for index in range(3)]
    worse_on_given = [*helping[:2], committed(2, gain=-0.01, origin="human")]
    assert "not helping" not in status(*helping)
    assert "not helping" not in status(*worse[:2])
    assert "not helping" in status(*worse)
    assert "not helping" in status(*worse_on_given)
    assert "not helping" not in status(*worse, *helping)


def test_the_status_does_not_jump() -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        heights = []
        for index, gain in enumerate([-0.1, -0.1, -0.1, 0.2]):
            view.show(committed(index, gain=gain))
            heights.append(len(terminal.screen()))
    assert heights[0] == heights[1] < heights[2] == heights[3]


def test_a_second_session_takes_over_the_status() -> None:
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


def test_status_of_a_gpu() -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal, gpu_bytes=lambda: 5_120_000_000) as view:
        view.show(opened())
        assert ", GPU 5.1 GB" in terminal.screen()[-1]


def test_status_is_drawn_while_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal_view, "REFRESH_SECONDS", 0.01)
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        drawn, until = len(terminal.getvalue()), time.monotonic() + 10
        while len(terminal.getvalue()) == drawn and time.monotonic() < until:
            time.sleep(0.01)
        assert len(terminal.getvalue()) > drawn


# The whole of a run


def test_a_run_in_a_terminal() -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        view.show(STARTED)
        texts(view, ["The lamp\n\nburned", " on"])
        for event in (LEARNT, committed(), FINISHED):
            view.show(event)
    assert terminal.screen() == [
        "session quiet-harbour",
        "smollm2-135m (float32) on cpu · recipe paper · window 512 + chunk 100 tokens · goal 450 tokens",
        "",
        "The lamp",
        "",
        "burned on",
        "",
        "finished: 310 words, 450 tokens, 4 chunks",
        "mean gain over the last chunks: +0.040 nats/token",
        "written to /home/me/harbour.txt",
        "448 MB on disk; to free some: templora sessions shrink quiet-harbour",
        "To continue:",
        COMMAND,
    ]


def test_what_was_not_learnt_is_told_at_the_end() -> None:
    def last_lines(*indices: int, learn: bool = True) -> list[str]:
        marked = tuple(events.Unlearnt(index, "it loops") for index in indices)
        terminal = Terminal()
        with TerminalView(io.StringIO(), terminal) as view:
            view.show(opened(learn=learn))
            view.show(events.Finished("harbour", 12, 450, 1, None, None, 9_000_000, marked))
        return terminal.screen(140)[4:]

    assert last_lines() == ["finished: 1 word, 450 tokens, 12 chunks"]
    assert last_lines(3)[1:] == ["1 of 12 chunks was not learnt: chunk 4 (it loops)"]
    two = "2 of 12 chunks were not learnt: chunk 4 (it loops), chunk 9 (it loops)"
    assert last_lines(3, 8)[1:] == [two]
    many = "chunk 1 (it loops), chunk 2 (it loops), chunk 3 (it loops)"
    told = f"5 of 12 chunks were marked: {many} and 2 more"
    shown = "to list all: templora sessions show harbour"
    assert last_lines(*range(5), learn=False)[1:] == [told, shown]


def test_a_run_in_a_log_file() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    with TerminalView(stdout, stderr) as view:
        view.show(events.Working("loading"))
        view.show(opened(quantize="nf4", chunks=1, tokens=100, done=100))
        view.show(STARTED)
        texts(view, ["The lamp\n"])
        view.show(committed(1, seconds={"decode": 10.0, "train": 14.54}))
        view.show(events.Notice("one \x1b[2J"))
        view.show(INTERRUPTED)
    lines = stderr.getvalue().splitlines()
    assert re.sub(r"memory [0-9.]+ GB$", "memory", lines.pop(1)) == (
        "chunk 2 of 5 · 100 tokens · 10.0 tokens/s · loss 2.600, 2.500 · gain +0.040 nats/token · "
        "repetition 3.1% · decode 10.0 s, train 14.5 s · memory"
    )
    assert lines == [
        "session quiet-harbour · smollm2-135m (nf4, float32) on cpu · recipe paper · "
        "window 512 + chunk 100 tokens · goal 450 tokens · so far: 1 chunk, 100 tokens",
        "note: one ␛[2J",
        "stopped: 17 tokens of the unfinished chunk dropped, 3 committed chunks safe",
        "To continue:",
        COMMAND,
    ]


def test_a_log_file_is_told_once_that_the_adapter_does_not_help() -> None:
    stderr = io.StringIO()
    with TerminalView(io.StringIO(), stderr) as view:
        view.show(opened())
        for index in range(5):
            view.show(committed(index, gain=-0.02))
    assert stderr.getvalue().count("not helping") == 1


@pytest.mark.parametrize("name", ["NO_COLOR", "TERM"])
def test_a_plain_terminal_is_respected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "dumb")
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        texts(view, ["Tide"])
        view.show(FINISHED)
    assert set(re.findall(r"\x1b\[([0-9;]+)m", terminal.getvalue())) <= {"0", "1", "2"}
    assert ("\x1b" in terminal.getvalue()) == (name == "NO_COLOR")
    assert {"Tide", COMMAND} <= set(terminal.screen(200))


def test_force_color_brings_no_bars_into_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    stderr = io.StringIO()
    with TerminalView(io.StringIO(), stderr) as view:
        view.show(opened())
        view.show(FINISHED)
    assert "\x1b" not in stderr.getvalue() and "finished" in stderr.getvalue()


def test_a_terminal_gets_the_words_that_the_model_goes_on_from() -> None:
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
            texts(view, [" the sea." if opening.strip() == opening else "the sea."])
            view.show(committed(2, text=" the sea."))
        rows = [row for row in terminal.screen() if row]
        assert rows[-len(shown) :] == shown


@pytest.mark.parametrize("stderr", [io.StringIO(), Terminal()])
def test_a_pipe_gets_the_prose_as_it_is(stderr: io.StringIO) -> None:
    bytes_out = io.BytesIO()
    prose = "The [b]lamp[/b] \x1b[31m灯\t" + "word " * 60 + "\r\n\n"
    with TerminalView(io.TextIOWrapper(bytes_out, "utf-8", newline=""), stderr) as view:
        view.show(opened())
        texts(view, [prose[:5], prose[5:]])
        assert bytes_out.getvalue() == b"", "a chunk that is not committed can be rejected"
        view.show(events.ChunkRejected(0, "it loops"))
        texts(view, [prose])
        view.show(committed(text=prose))
        assert bytes_out.getvalue() == prose.encode()
        view.show(FINISHED)
        assert bytes_out.getvalue() == prose.encode()
    assert "lamp" not in stderr.getvalue() and "finished" in stderr.getvalue()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.sampled_from("ab. \n"), max_size=9), max_size=4), st.booleans())
def test_status_begins_on_a_line_of_its_own_where_it_goes_where_the_prose_goes(
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


def test_a_file_gets_the_opening_too_but_not_a_text_that_is_read() -> None:
    for opening_tokens, wanted in ((100, "Once there was a fox."), (0, " was a fox.")):
        stdout = io.StringIO()
        with TerminalView(stdout, io.StringIO()) as view:
            view.show(opened(opening_tokens=opening_tokens))
            view.show(committed(0, origin="human", text="Once there", total_tokens=100, done=0))
            view.show(committed(1, text=" was a fox.", total_tokens=200))
        assert stdout.getvalue() == wanted


def test_a_chunk_that_is_written_again_begins_on_a_line_of_its_own() -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        view.show(STARTED)
        texts(view, ["The tide", " the tide"])
        view.show(events.ChunkRejected(0, "it loops: 81% of its 4-grams are repeated"))
        texts(view, ["The lamp"])
        view.close()
    screen = [row for row in terminal.screen() if row.strip()]
    assert screen[-3:] == [
        "The tide the tide",
        "chunk 1 of 5 is rejected and written again: it loops: 81% of its 4-grams are repeated",
        "The lamp",
    ]


def test_quiet_leaves_only_errors_on_standard_error() -> None:
    stdout, stderr = io.StringIO(), Terminal()
    with TerminalView(stdout, stderr, quiet=True) as view:
        view.show(events.Working("loading"))
        view.show(opened())
        texts(view, ["Tide."])
        for event in (events.Notice("x"), committed(), FINISHED):
            view.show(event)
        assert (stdout.getvalue(), stderr.getvalue()) == ("Tide.", "")
        view.fail(TemploraError("the disk is full"))
    assert stderr.screen() == ["error: the disk is full"]


def test_quiet_prose_on_a_terminal_is_harmless_and_ends_its_line() -> None:
    stdout = Terminal()
    with TerminalView(stdout, Terminal(), quiet=True) as view:
        texts(view, ["a\x1b[2J", ""])
    assert stdout.getvalue() == "a␛[2J\n"


@pytest.mark.parametrize("event", [FINISHED, INTERRUPTED])
def test_the_command_stands_whole_on_its_own_line(event: events.Event, window: dict[str, int]) -> None:
    window["columns"] = 40
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        view.show(event)
    lines = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", terminal.getvalue()).split("\n")
    assert COMMAND in lines


def test_the_terminal_is_given_back_whatever_happens() -> None:
    terminal, streams = Terminal(), (sys.stdout, sys.stderr)
    view = TerminalView(terminal, terminal)
    with pytest.raises(KeyboardInterrupt), view:
        view.show(opened())
        view.show(STARTED)
        texts(view, ["Tide came"])
        view.show(events.Notice("x"))
        assert sys.stderr is not streams[1]
        assert terminal.getvalue().rindex("\x1b[?25l") > terminal.getvalue().find("\x1b[?25h")
        drawn = len(terminal.getvalue())
        raise KeyboardInterrupt
    assert (sys.stdout, sys.stderr) == streams
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")
    assert terminal.screen()[3:] == ["note: x", "Tide came"]
    written = terminal.getvalue()
    assert "chunk 1" in written[:drawn] and "chunk 1" not in written[drawn:]
    view.close()
    assert terminal.getvalue() == written


def test_what_libraries_print_stands_above_the_status() -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        print("a warning", file=sys.stderr)
        assert terminal.screen()[3:5] == ["a warning", ""]
    assert terminal.screen()[3:] == ["a warning"]


def test_an_encoding_that_lacks_characters_does_not_stop_the_book() -> None:
    bytes_out, bytes_err = io.BytesIO(), io.BytesIO()
    stderr = io.TextIOWrapper(bytes_err, "ascii")
    with TerminalView(io.TextIOWrapper(bytes_out, "ascii"), stderr) as view:
        view.show(opened())
        view.show(committed(text="a灯"))
        view.show(FINISHED)
    assert bytes_out.getvalue() == b"a?"
    assert b"(float32) on cpu | recipe paper |" in bytes_err.getvalue()


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("make", [lambda: TerminalView(Gone(), io.StringIO()), lambda: JsonView(Gone())])
def test_a_reader_that_went_away_is_the_commands_business(make: object) -> None:
    with pytest.raises(BrokenPipeError), make() as view:  # type: ignore[operator]
        view.show(committed())


def comes_to_show(terminal: Terminal, text: str, row: int = 0) -> bool:
    """In that row, which a thread draws."""
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
        assert comes_to_show(terminal, "compiling", row=1), "a notice does not end what is going on"
        assert "note: x" in terminal.screen()[0]
    assert terminal.screen() == ["note: x"], "the terminal is given back"
    with TerminalView(file, file) as view, JsonView(file) as lines:
        view.show(loading)
        lines.show(loading)
    assert file.getvalue() == ""


def test_what_the_model_is_not_shown_is_told() -> None:
    stderr = io.StringIO()
    with TerminalView(io.StringIO(), stderr) as view:
        view.show(opened())
        view.show(STARTED)
        view.show(events.SectionCut(0, "glossary", 3, 7))
    told = "chunk 1 of 5: the glossary was shortened to fit the prompt: 3 of 7 entries"
    assert stderr.getvalue().splitlines()[-1] == told


# Errors


def test_an_error_is_told_with_its_hint() -> None:
    hint = f"to continue: {COMMAND}"
    assert error_lines(TemploraError("no")) == ["error: no"]
    assert error_lines(TemploraError("no", hint)) == ["error: no", f"hint: {hint}"]
    plain, terminal = io.StringIO(), Terminal()
    show_error(plain, TemploraError("a [b]\x1b[2J", hint))
    assert plain.getvalue() == f"error: a [b]␛[2J\nhint: {hint}\n"
    show_error(terminal, TemploraError("no", hint))
    assert terminal.screen(200) == ["error: no", f"hint: {hint}"] and "\x1b[1;31m" in terminal.getvalue()


def test_a_long_error_is_broken_between_words_but_its_hint_is_not(window: dict[str, int]) -> None:
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


def test_an_error_wipes_the_status() -> None:
    terminal = Terminal()
    with TerminalView(terminal, terminal) as view:
        view.show(opened())
        view.fail(TemploraError("the disk is full", "free some space"))
    assert terminal.screen()[3:] == ["error: the disk is full", "hint: free some space"]


# --json


def test_json_is_one_object_a_line() -> None:
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


def test_the_document_has_every_event_and_field_and_no_other() -> None:
    documented = {}
    for section in re.split(r"^## ", DOCUMENT.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        names = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
        example = json.loads(re.findall(r"```json\n(.*)\n```", section)[0])
        assert list(example) == ["event", *names]
        assert section.startswith(f"`{example['event']}`\n")
        documented[example["event"]] = names
    assert documented.pop("error") == ["message", "hint"]
    shown = set(events.Event.__subclasses__()) - {events.ChunkLearnt, events.Working}
    snake = {re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower(): kind for kind in shown}
    assert documented == {name: [field.name for field in fields(kind)] for name, kind in snake.items()}
