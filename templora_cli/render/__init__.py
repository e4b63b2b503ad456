"""Events on the screen: the only module that knows the terminal.

Prose goes to standard output, everything else to standard error. Where both are a terminal they share
the screen: finished lines of prose stay, the line in progress and a status block live below them.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from statistics import fmean
from typing import Any, Protocol, TextIO

import psutil
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.status import Status
from rich.text import Text
from rich.theme import Theme

from templora_cli import events
from templora_cli.errors import TemploraError
from templora_cli.render.progress import Progress, in_nats
from templora_cli.render.prose import ProseLines

SAID = {"said": "none", "session": "bold", "faint": "dim", "bar": "cyan", "good": "green", "warn": "yellow"}
COPIED = {"command": "bold cyan", "path": "none", "error": "bold red", "hint": "dim"}
"""Styles of lines that people copy from the screen: these are never broken."""
THEME = Theme({**SAID, **COPIED})

PROSE_COLUMNS = 100
BAR_COLUMNS = 24
REFRESH_SECONDS = 0.1
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
AS_ASCII = str.maketrans("·━─" + SPINNER, "|#-" + "-\\|/-\\|/-\\")
HARMLESS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)}
HARMLESS |= {9: "    ", 127: 0x2421, **dict.fromkeys(range(128, 160), 0xFFFD)}  # type: ignore[dict-item]


class View(Protocol):
    """Shows the events of a run; leaving its `with` block gives the terminal back as it was."""

    def __enter__(self) -> View:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def show(self, event: events.Event) -> None:
        """Show one event."""

    def fail(self, error: TemploraError) -> None:
        """Show the error that ends the run."""

    def close(self) -> None:
        """May be called more than once."""
        return None


class JsonView(View):
    """One JSON object a line on standard output (`docs/events.md`), always in UTF-8."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = _tolerant(stdout, encoding="utf-8")

    def show(self, event: events.Event) -> None:
        """Print the event, unless it is internal."""
        if not isinstance(event, (events.ChunkLearnt, events.Working)):
            self._write(event.as_json())

    def fail(self, error: TemploraError) -> None:
        """Print the error in the form of an event."""
        self._write({"event": "error", "message": error.message, "hint": error.hint})

    def _write(self, value: dict[str, Any]) -> None:
        self._stdout.write(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False) + "\n")
        self._stdout.flush()


class Region(Live):
    """The part of the screen that is drawn again and again; stays clean when the window is resized."""

    def __init__(self, console: Console, rows: Callable[[int], list[Text]], share_stdout: bool) -> None:
        self._rows = rows
        self._drawn: list[int] = []
        super().__init__(
            self,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=share_stdout,
            vertical_overflow="crop",
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = self._rows(options.max_width)
        self._drawn = [min(row.cell_len, options.max_width) for row in rows]
        yield from rows

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Go up over the additional rows too that a narrowed terminal has made of those drawn before."""
        broken = sum(max(0, math.ceil(cells / self.console.width) - 1) for cells in self._drawn)
        up = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
        return [Control(*(up * broken)), *super().process_renderables(renderables)]


class TerminalView(View):
    """Prose on `stdout`, all the rest on `stderr`; `quiet` leaves only errors there.

    `gpu_bytes` says how much memory of the GPU is in use, 0 where there is none.
    """

    def __init__(
        self,
        stdout: TextIO,
        stderr: TextIO,
        quiet: bool = False,
        *,
        clock: Callable[[], float] = time.monotonic,
        gpu_bytes: Callable[[], int] | None = None,
    ) -> None:
        self._stdout, self._stderr = _tolerant(stdout), _tolerant(stderr)
        self._console, self._quiet, self._gpu_bytes = _console(stderr), quiet, gpu_bytes
        self._live = self._console.is_interactive and not quiet
        self._on_screen = _is_terminal(stdout)
        self._shared = self._live and self._on_screen
        self._progress, self._prose = Progress(clock), ProseLines()
        self._process = psutil.Process()
        self._mid_line = self._warned = False
        self._region: Region | None = None
        self._spinner: Status | None = None
        self._size = (0, 0)
        self._lock, self._closed = threading.RLock(), threading.Event()

    def show(self, event: events.Event) -> None:
        """Show one event; BrokenPipeError where nobody reads the prose any more."""
        with self._lock:
            self._show_working(event)
            self._progress.update(event)
            if isinstance(event, events.TextDecoded) and self._on_screen:
                self._write(harmless(event.text))
            elif isinstance(event, events.ChunkCommitted) and self._is_prose(event) and not self._on_screen:
                self._write(event.text)  # a file or pipe gets what stays: no chunk that is written again
            elif isinstance(event, events.ChunkRejected):
                self._end_line()  # what is written in its place does not go on from there
            elif isinstance(event, (events.Finished, events.TranslationFinished, events.Interrupted)):
                self.close()
            if not self._quiet:
                for text, style in self._narrate(event):
                    self._say(self._own(text), style)
            if isinstance(event, events.SessionOpened) and self._live:
                self._region = Region(self._console, self._rows, self._shared)
                self._region.start()
                threading.Thread(target=self._keep_fresh, name="status", daemon=True).start()
            if self._region and not isinstance(event, events.TextDecoded):
                self._region.refresh()

    def _is_prose(self, event: events.ChunkCommitted) -> bool:
        opened = self._progress.opened
        return event.origin == "generated" and (opened is None or opened.unit != "paragraphs")

    def fail(self, error: TemploraError) -> None:
        """Show the error below what stands there."""
        self.close()
        show_error(self._stderr, error)

    def _show_working(self, event: events.Event) -> None:
        """What is slow before there is a status block: a spinner in a terminal, nothing elsewhere."""
        if isinstance(event, events.Notice):
            return  # of what is going on
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None
        if isinstance(event, events.Working) and self._live and self._region is None:
            kind = "dots" if _is_utf(self._stderr) else "line"
            self._spinner = self._console.status(Text(self._own(event.message)), spinner=kind)
            self._spinner.start()

    def close(self) -> None:
        """Wipe the status, finish the line of prose, show the cursor again."""
        with self._lock:
            self._closed.set()
            region, self._region = self._region, None
            if self._spinner is not None:
                self._spinner.stop()
                self._spinner = None
            try:
                self._end_line()
            finally:
                if region:
                    region.stop()

    def _write(self, text: str) -> None:
        if self._shared:
            lines = self._prose.feed(text, min(PROSE_COLUMNS, self._console.width - 1))
            if lines:
                self._say("\n".join(line.rstrip() for line, _ in lines), "path")
            return
        self._stdout.write(text)
        self._stdout.flush()
        self._mid_line = not text.endswith("\n") if text else self._mid_line

    def _end_line(self) -> None:
        """End the line of prose in progress, wherever it is."""
        rest, self._prose.rest = self._prose.rest.rstrip(), ""
        if rest:
            self._say(rest, "said")
        self._finish_line()

    def _finish_line(self) -> None:
        if self._mid_line and _is_terminal(self._stdout):
            self._stdout.write("\n")
            self._stdout.flush()
            self._mid_line = False

    def _own(self, text: str) -> str:
        return harmless(text) if _is_utf(self._stderr) else harmless(text).translate(AS_ASCII)

    def _say(self, text: str, style: str) -> None:
        if self._console.is_terminal:
            self._finish_line()
        self._console.print(Text(text, style), soft_wrap=not self._live or style in COPIED)

    def _keep_fresh(self) -> None:
        while not self._closed.wait(REFRESH_SECONDS):
            with self._lock:
                if self._region:
                    self._region.refresh()

    def _rows(self, columns: int) -> list[Text]:
        """The live region: the line of prose in progress, and the status block."""
        if self._closed.is_set():
            return [Text()]  # one row, which Live wipes; with none, older ones of rich leave a blank line
        parts = [row for parts in self._block() for row in _flow(parts, columns)]
        block = [line for row in parts for line in row.wrap(self._console, columns)]
        # It never gets lower while the width stays, so that the text above it does not jump.
        height = max(len(block), self._size[1] if self._size[0] == columns else 0)
        self._size = columns, height
        for row in block:
            row.plain = self._own(row.plain)
        prose = [Text(self._prose.rest.rstrip(), no_wrap=True, overflow="crop")] if self._shared else []
        return prose + [Text()] * (height - len(block) + 1) + block

    def _block(self) -> list[list[Text]]:
        """The status, as rows of parts; parts that do not fit beside each other go below each other."""
        now, opened = self._progress, self._progress.opened
        assert opened is not None
        done = min(now.done_now, opened.goal)
        full = BAR_COLUMNS * done // max(1, opened.goal)
        bar = ("━" * full, "bar"), ("─" * (BAR_COLUMNS - full), "faint")
        spinner = Text(SPINNER[int(now.clock() / REFRESH_SECONDS) % len(SPINNER)], "bar")
        gain_style = "good" if now.gain and now.gain > 0 else "warn" if now.gain and now.gain < 0 else ""
        in_gpu = self._gpu_bytes() if self._gpu_bytes else 0
        gpu = f", GPU {in_gpu / 1e9:.1f} GB" if in_gpu else ""
        return [
            [
                Text.assemble(*bar, "  ", now.chunk_name(now.committed - (now.done >= opened.goal))),
                Text(f"{done:,} of {opened.goal:,} {opened.unit}"),
            ],
            [
                Text.assemble(spinner, " ", now.doing),
                *_known(now.tok_per_s, lambda speed: f"{speed:.1f} tokens/s"),
                *_known(now.seconds_left, _time_left),
            ],
            [
                *_known(now.loss, lambda loss: f"loss {loss:.3f}"),
                *_known(now.gain, lambda gain: f"gain {in_nats(gain)}", gain_style),
                *_known(now.repetition, lambda share: f"repetition {share:.1%}"),
                Text(f"memory {self._process.memory_info().rss / 1e9:.1f} GB{gpu}"),
            ],
            [*_known(now.warning, str, "warn")],
        ]

    def _narrate(self, event: events.Event) -> Iterator[tuple[str, str]]:
        """What `event` leaves on standard error for good: lines and their styles."""
        now, blank = self._progress, [("", "said")] if self._live else []
        match event:
            case events.SessionOpened():
                name, facts = f"session {event.session}", _opening(event)
                apart = [(name, "session"), (facts, "faint"), *blank]
                yield from apart if self._live else [(f"{name} · {facts}", "said")]
            case events.Notice():
                yield f"note: {event.message}", "warn"
            case events.ParagraphTranslated():
                yield from _paragraph_lines(event, self._live)
            case events.SectionCut():
                name, place = event.section, now.chunk_name(event.index)
                yield f"{place}: no room for all of the {name}, {event.shown} of {event.items} shown", "warn"
            case events.ChunkRejected():
                yield f"{now.chunk_name(event.index)} is written again: {event.rejection_reason}", "warn"
            case events.ChunkScored() if event.rejection_reason:
                yield (
                    f"{now.chunk_name(event.index)} is kept but not learnt from: {event.rejection_reason}",
                    "warn",
                )
            case events.ChunkCommitted() if not self._live:
                yield _chunk_line(event, now, self._process.memory_info().rss), "said"
                if now.warning and not self._warned:
                    yield now.warning, "warn"
                self._warned = bool(now.warning)
            case events.Finished():
                counts = f"{event.words:,} words, {event.tokens:,} tokens, {_count(event.chunks, 'chunk')}"
                yield from [*blank, (f"finished: {counts}", "good")]
                if now.gains:
                    gain = fmean(gain for _, gain in now.gains)
                    yield f"mean gain over the last chunks: {in_nats(gain)}", "said"
                yield from [(now.warning, "warn")] if now.warning else []
                yield from [(f"written to {event.out}", "path")] if event.out else []
                if event.resume_command:
                    yield from [("to write on:", "said"), (event.resume_command, "command")]
            case events.TranslationFinished():
                yield from [*blank, *_translated_lines(event)]
            case events.Synced():
                taken = f"{_count(event.paragraphs, 'paragraph')} taken back"
                yield f"{taken}, {_count(event.chunks, 'chunk')} learnt anew", "good"
                if event.resume_command:
                    yield from [("to go on:", "said"), (event.resume_command, "command")]
            case events.Interrupted():
                dropped = f"{_count(event.dropped_tokens, 'token')} of the chunk in progress dropped"
                safe = f"all committed chunks safe ({event.chunks:,})"
                yield from [*blank, (f"stopped: {dropped}, {safe}", "warn")]
                yield from [("to go on:", "said"), (event.resume_command, "command")]


def error_lines(error: TemploraError) -> list[str]:
    """What to tell of an error: the message, and the hint where there is one."""
    return [f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else [])]


def show_error(stderr: TextIO, error: TemploraError) -> None:
    """Print `error` to `stderr`, in colour where that is a terminal."""
    console = _console(_tolerant(stderr))
    for text, style in zip(error_lines(error), ("error", "hint"), strict=False):
        console.print(Text(harmless(text), style), soft_wrap=True)


def harmless(text: str) -> str:
    """`text` without anything that a terminal would obey: controls are made visible, tabs are spaces."""
    return text.translate(HARMLESS)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _time_left(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min left" if minutes > 1 else "about a minute left"
    return f"about {minutes // 60} h {minutes % 60:02} min left"


def _opening(event: events.SessionOpened) -> str:
    quantized = "" if event.quantize == "none" else f"{event.quantize}, "
    facts = (
        f"{event.model} ({quantized}{event.dtype}) on {event.device}",
        f"recipe {event.recipe}" if event.learn else "not learning",
        f"window {event.context_tokens:,} + chunk {event.chunk_tokens:,} tokens",
        f"goal {event.goal:,} {event.unit}",
        f"already there: {_count(event.chunks, 'chunk')}, {event.tokens:,} tokens" if event.chunks else "",
    )
    return " · ".join(fact for fact in facts if fact)


def _chunk_line(event: events.ChunkCommitted, now: Progress, memory: int) -> str:
    speed = now.tok_per_s if event.origin == "generated" else None
    facts = (
        now.chunk_name(event.index) + (" (given)" if event.origin == "human" else ""),
        f"{event.tokens:,} tokens",
        *(part.plain for part in _known(speed, lambda speed: f"{speed:.1f} tokens/s")),
        f"loss {', '.join(f'{loss:.3f}' for loss in event.train_losses)}" if event.train_losses else "",
        *(part.plain for part in _known(event.gain, lambda gain: f"gain {in_nats(gain)}")),
        f"repetition {event.repetition:.1%}",
        ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in event.seconds.items()),
        f"memory {memory / 1e9:.1f} GB",
    )
    return " · ".join(fact for fact in facts if fact)


def _paragraph_lines(event: events.ParagraphTranslated, live: bool) -> Iterator[tuple[str, str]]:
    """The translation where somebody watches, and what is wrong with it everywhere."""
    if live:
        yield event.target, "said"
    if event.failed_checks:
        yield f"paragraph {event.number} failed: {'; '.join(event.failed_checks)}", "warn"


def _translated_lines(event: events.TranslationFinished) -> Iterator[tuple[str, str]]:
    mended = f"{event.retried:,} good after another try"
    by_hand = f", {event.corrected:,} corrected by hand" if event.corrected else ""
    counts = f"{event.good:,} good, {mended}{by_hand}, {event.failed:,} failed"
    style = "warn" if event.failed else "good"
    yield f"translated: {_count(event.paragraphs, 'paragraph')}, {counts}", style
    yield f"written to {event.out}", "path"
    yield f"side by side: {event.report}", "path"


def _known(value: Any, show: Callable[[Any], str], style: str = "") -> list[Text]:
    return [] if value is None else [Text(show(value), style)]


def _flow(parts: list[Text], columns: int) -> list[Text]:
    rows: list[Text] = []
    for part in parts:
        if rows and rows[-1].cell_len + 3 + part.cell_len <= columns:
            rows[-1] = Text.assemble(rows[-1], (" · ", "faint"), part)
        else:
            rows.append(part)
    return rows


def _finite(value: Any) -> Any:
    """`value` with null for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tolerant(stream: TextIO, **options: str) -> TextIO:
    """`stream`, writing a question mark for what its encoding cannot say."""
    if reconfigure := getattr(stream, "reconfigure", None):
        reconfigure(errors="replace", **options)
    return stream


def _console(stderr: TextIO) -> Console:
    return Console(file=stderr, force_terminal=_is_terminal(stderr), theme=THEME, highlight=False)


def _is_terminal(stream: TextIO) -> bool:
    return not stream.closed and stream.isatty()


def _is_utf(stream: TextIO) -> bool:
    return (stream.encoding or "utf-8").lower().startswith("utf")
