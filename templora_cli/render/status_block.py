"""The status below the prose on a terminal: progress, current activity and measurements."""

from __future__ import annotations

import math
from collections.abc import Callable

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from templora_cli import events
from templora_cli.render.figures import in_nats, memory_in_use, seen_before, speed_of, time_left
from templora_cli.render.progress import Progress, already_done
from templora_cli.render.styles import SPINNER

BAR_COLUMNS, MIN_BAR_COLUMNS = 24, 8
SPINNER_SECONDS = 0.1


class LiveRegion(Live):
    """The part of the screen that is redrawn; it leaves no remains when the window is resized."""

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
        """Also erase the additional rows into which a narrowed terminal has broken those drawn before."""
        broken = sum(max(0, math.ceil(cells / self.console.width) - 1) for cells in self._drawn)
        up = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
        return [Control(*(up * broken)), *super().process_renderables(renderables)]


def status_rows(progress: Progress, gpu_bytes: int, columns: int) -> list[Text]:
    """The status as rows; facts that do not fit beside each other stand below each other."""
    rows = [_goal_facts(progress, columns), _activity_facts(progress), _measured_facts(progress, gpu_bytes)]
    if progress.warning is not None:
        rows.append([Text(progress.warning, "warn")])
    return [row for facts in rows for row in _flow(facts, columns)]


def _goal_facts(progress: Progress, columns: int) -> list[Text]:
    opened = progress.opened
    assert opened is not None
    if (part := progress.opening_part) is not None:
        return [_bar(part[0] - 1, part[1], f"your opening, part {part[0]} of {part[1]}", columns)]
    before = already_done(opened)
    done, goal = min(progress.current_progress, opened.goal) - before, opened.goal - before
    name = progress.chunk_name(progress.committed - (progress.done >= opened.goal))
    of_goal = events.in_words(goal, opened.unit, new=bool(opened.opening_tokens))
    facts = [_bar(done, goal, name, columns), Text(f"{int(done):,} of {of_goal}")]
    if opened.unit == "chapters":
        facts.append(Text(events.in_words(progress.words + progress.chunk_words, "words")))
    return facts


def _bar(done: float, goal: int, name: str, columns: int) -> Text:
    """A bar and a name beside it; the bar is shorter where both would not fit."""
    size = max(MIN_BAR_COLUMNS, min(BAR_COLUMNS, columns - len(name) - 2))
    full = int(size * done / max(1, goal))
    return Text.assemble(("━" * full, "bar"), ("─" * (size - full), "faint"), "  ", name)


def _activity_facts(progress: Progress) -> list[Text]:
    spinner = Text(SPINNER[int(progress.clock() / SPINNER_SECONDS) % len(SPINNER)], "bar")
    facts = [Text.assemble(spinner, " ", progress.doing)]
    if progress.tok_per_s is not None:
        facts.append(Text(speed_of(progress.tok_per_s)))
    if progress.seconds_left is not None:
        facts.append(Text(time_left(progress.seconds_left)))
    return facts


def _measured_facts(progress: Progress, gpu_bytes: int) -> list[Text]:
    facts = []
    if progress.loss is not None:
        facts.append(Text(f"loss {progress.loss:.3f}"))
    if (gain := progress.gain) is not None:
        style = "good" if gain > 0 else "warn" if gain < 0 else ""
        facts.append(Text(f"gain {in_nats(gain)}", style))
    if progress.repetition is not None:
        facts.append(Text(seen_before(progress.repetition)))
    gpu = f", GPU {gpu_bytes / 1e9:.1f} GB" if gpu_bytes else ""
    return [*facts, Text(f"{memory_in_use()}{gpu}")]


def _flow(facts: list[Text], columns: int) -> list[Text]:
    rows: list[Text] = []
    for fact in facts:
        if rows and rows[-1].cell_len + 3 + fact.cell_len <= columns:
            rows[-1] = Text.assemble(rows[-1], (" · ", "faint"), fact)
        else:
            rows.append(fact)
    return rows
