"""Events on a terminal, in a pipe or in a log file.

Prose goes to standard output, everything else to standard error. If both are terminals, they share the
screen: finished lines of prose scroll up; the line in progress and a status block are redrawn below them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TextIO

from rich.status import Status
from rich.text import Text

from templora_cli import events
from templora_cli.errors import TemploraError
from templora_cli.render.error_view import show_error
from templora_cli.render.escapes import harmless
from templora_cli.render.figures import time_left
from templora_cli.render.line_breaker import ProseLines, last_lines
from templora_cli.render.lines import command_in, fact_rows, screen_lines
from templora_cli.render.narration import Narrator
from templora_cli.render.progress import Progress
from templora_cli.render.status_block import LiveRegion, status_rows
from templora_cli.render.streams import have_same_destination, is_terminal, is_utf, replacing_errors
from templora_cli.render.styles import UNWRAPPED_STYLES, console_on, printable
from templora_cli.render.view import View

PROSE_COLUMNS = 100
BEFORE_LABEL, BEFORE_MARK = "the book so far ends:", "│ "
REFRESH_SECONDS = 0.1


class TerminalView(View):
    """Prose on `stdout`, everything else on `stderr`; with `quiet`, only errors and important notices
    on `stderr`.

    `gpu_bytes` returns the GPU memory in use, 0 without a GPU.
    """

    def __init__(
        self,
        stdout: TextIO,
        stderr: TextIO,
        quiet: bool = False,
        *,
        clock: Callable[[], float] = time.monotonic,
        gpu_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self._stdout, self._stderr = replacing_errors(stdout), replacing_errors(stderr)
        self._is_same_output = have_same_destination(stdout, stderr)
        self._console, self._quiet, self._gpu_bytes = console_on(stderr), quiet, gpu_bytes
        self._is_live = self._console.is_interactive and not quiet
        self._has_screen = is_terminal(stdout)
        self._shares_screen = self._is_live and self._has_screen
        self._clock, self._progress, self._prose = clock, Progress(clock), ProseLines()
        self._narrator = Narrator(self._is_live)
        self._is_mid_line = self._is_after_break = self._is_refreshing = self._is_paused = False
        self._region: LiveRegion | None = None
        self._spinner: Status | None = None
        self._block_columns = self._block_height = 0
        self._lock, self._closed = threading.RLock(), threading.Event()

    def show(self, event: events.Event) -> None:
        """Show one event. Raises BrokenPipeError if the reader of the prose has gone."""
        with self._lock:
            self._show_working(event)
            if isinstance(event, events.SessionOpened):  # an evaluation opens several
                self._progress = Progress(self._clock)
            self._progress.update(event)
            self._show_prose(event)
            if isinstance(event, (events.Finished, events.TranslationFinished, events.Interrupted)):
                self.close()
            goes_on = self._is_paused and isinstance(event, events.SessionOpened)
            self._is_paused = self._is_paused and not goes_on
            if not goes_on and (not self._quiet or (isinstance(event, events.Notice) and event.important)):
                for text, style in self._narrator.lines(event, self._progress):
                    is_whole = style in UNWRAPPED_STYLES and not command_in(text)
                    rows = text if is_whole else self._in_rows(text)
                    self._print(printable(rows, self._stderr), style)
            if isinstance(event, events.SessionOpened) and self._is_live and self._region is None:
                self._start_region()
            if self._region and not isinstance(event, events.TextDecoded):
                self._region.refresh()

    def _in_rows(self, text: str) -> str:
        """The facts of a message in rows that fit on a terminal."""
        if not self._console.is_terminal:
            return text
        width = self._console.width
        return "\n".join(screen_lines(text, width)) if command_in(text) else fact_rows(text, width)

    def fail(self, error: TemploraError) -> None:
        """Show the error below the text on the screen."""
        self.close()
        self._begin_line()
        show_error(self._stderr, error)

    def pause(self) -> None:
        """See `View.pause`."""
        with self._lock:
            self._stop_spinner()
            region, self._region = self._region, None
            self._is_paused = True
            self._end_prose_line()
            if region:
                region.stop()

    def close(self) -> None:
        """Erase the status, finish the line of prose, show the cursor again."""
        with self._lock:
            self._closed.set()
            region, self._region = self._region, None
            self._stop_spinner()
            try:
                self._end_prose_line()
            finally:
                if region:
                    region.stop()

    def _show_working(self, event: events.Event) -> None:
        """Show a spinner for a slow step before the status block exists, on a terminal only."""
        if isinstance(event, events.Notice):
            return  # the slow step continues
        self._stop_spinner()
        if isinstance(event, events.Working) and self._is_live and self._region is None:
            kind = "dots" if is_utf(self._stderr) else "line"
            left = "" if event.seconds_left is None else f", {time_left(event.seconds_left)}"
            text = printable(f"{event.message}{left}", self._stderr)
            self._spinner = self._console.status(Text(text), spinner=kind)
            self._spinner.start()

    def _stop_spinner(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    def _show_prose(self, event: events.Event) -> None:
        if isinstance(event, events.TextBefore):
            if self._has_screen and not self._quiet:
                self._show_before(event.text)
        elif isinstance(event, events.TextDecoded) and self._has_screen:
            text = event.text.lstrip() if self._is_after_break else event.text
            self._is_after_break = self._is_after_break and not text
            self._write(harmless(text))
        elif isinstance(event, events.ChunkCommitted) and self._is_prose(event):
            # A file or pipe gets only committed text, no rejected chunks.
            text = self._unfinished_opening(event) if self._has_screen else event.text
            self._is_after_break = event.origin == "human" and not text
            self._write(text)
        elif isinstance(event, events.ChunkRejected):
            self._end_prose_line()  # the next candidate does not continue the rejected one

    def _show_before(self, text: str) -> None:
        """The last lines of the book that goes on, each with a mark; prose on a terminal only."""
        columns = min(PROSE_COLUMNS, self._console.width - 1) - len(BEFORE_MARK)
        for line in [BEFORE_LABEL, *(BEFORE_MARK + line for line in last_lines(harmless(text), columns)), ""]:
            line = printable(line.rstrip(), self._stdout)
            if self._shares_screen:
                self._print(line, "before")
            else:
                self._stdout.write(f"{line}\n")
        self._is_after_break = True

    def _is_prose(self, event: events.ChunkCommitted) -> bool:
        """Whether the chunk belongs to a book or its opening; not to a translation or a text that is read."""
        opened = self._progress.opened
        if opened is None or event.origin == "generated":
            return opened is None or opened.unit != "paragraphs"
        return event.total_tokens <= opened.opening_tokens

    def _unfinished_opening(self, event: events.ChunkCommitted) -> str:
        """The last line of an opening, which the model continues; "" for all other chunks.

        The screen already shows generated text.
        """
        opened = self._progress.opened
        if event.origin == "generated" or opened is None or event.total_tokens < opened.opening_tokens:
            return ""
        line = event.text[event.text.rfind("\n") + 1 :]
        return harmless(line if len(line) <= PROSE_COLUMNS else f"…{line[-PROSE_COLUMNS:]}")

    def _write(self, text: str) -> None:
        if self._shares_screen:
            lines = self._prose.feed(text, min(PROSE_COLUMNS, self._console.width - 1))
            if lines:
                self._print("\n".join(line.rstrip() for line, _ in lines), "path")
            return
        self._stdout.write(text)
        self._stdout.flush()
        self._is_mid_line = not text.endswith("\n") if text else self._is_mid_line

    def _end_prose_line(self) -> None:
        """End the line of prose in progress, on a terminal."""
        rest, self._prose.rest = self._prose.rest.rstrip(), ""
        if rest:
            self._print(rest, "message")
        if self._is_mid_line and is_terminal(self._stdout):
            self._write_newline()

    def _begin_line(self) -> None:
        """Begin a new line for a message that goes to the same terminal or file as the prose."""
        if self._is_mid_line and self._is_same_output:
            self._write_newline()

    def _write_newline(self) -> None:
        self._stdout.write("\n")
        self._stdout.flush()
        self._is_mid_line = False

    def _print(self, text: str, style: str) -> None:
        self._begin_line()
        is_unwrapped = style in UNWRAPPED_STYLES or not self._console.is_terminal
        is_unwrapped = is_unwrapped or command_in(text.rpartition("\n")[2]) is not None
        self._console.print(Text(text, style), soft_wrap=is_unwrapped)

    def _start_region(self) -> None:
        self._region = LiveRegion(self._console, self._rows, self._shares_screen)
        self._region.start()
        if not self._is_refreshing:
            threading.Thread(target=self._refresh_until_closed, name="status", daemon=True).start()
            self._is_refreshing = True

    def _refresh_until_closed(self) -> None:
        while not self._closed.wait(REFRESH_SECONDS):
            with self._lock:
                if self._region:
                    self._region.refresh()

    def _rows(self, columns: int) -> list[Text]:
        """The live region: the line of prose in progress, and the status block."""
        if self._closed.is_set() or self._is_paused:
            # One row, which Live erases; without any, older versions of rich leave a blank line.
            return [Text()]
        rows = status_rows(self._progress, self._gpu_bytes(), columns)
        block = [line for row in rows for line in row.wrap(self._console, columns)]
        # The block never shrinks while the width is the same, so that the text above it does not jump.
        height = max(len(block), self._block_height if self._block_columns == columns else 0)
        self._block_columns, self._block_height = columns, height
        for row in block:
            row.plain = printable(row.plain, self._stderr)
        prose = []
        if self._shares_screen:
            prose = [Text(self._prose.rest.rstrip(), no_wrap=True, overflow="crop")]
        return prose + [Text()] * (height - len(block) + 1) + block
