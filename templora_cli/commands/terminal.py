"""Input and output that all commands share: views, errors, Ctrl-C, tables."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from templora_cli.errors import TemploraError, of_os_error
from templora_cli.events import Event, Interrupted, Notice, Working
from templora_cli.interrupts import STOPPED, ignore_ctrl_c
from templora_cli.render.error_view import show_error
from templora_cli.render.escapes import as_json, harmless, one_line
from templora_cli.render.json_view import JsonView
from templora_cli.render.lines import fact_lines, screen_lines, terminal_width
from templora_cli.render.table import layout_table
from templora_cli.render.terminal_view import TerminalView
from templora_cli.render.view import View

if TYPE_CHECKING:
    from templora_cli.prepare import Engine
    from templora_cli.run import Run


UNCHANGED = "stopped before anything was changed; type the same command again"
"""The message of Ctrl-C while the model of an existing session is loaded."""
REPEATABLE = "stopped; to continue, type the same command again"
"""The message of Ctrl-C between the sessions of an evaluation."""


@contextmanager
def open_view(
    *, json: bool, quiet: bool, prose: bool = True, stopped: str = UNCHANGED
) -> Iterator[tuple[View, threading.Event]]:
    """The view for the flags, with or without `prose` on standard output, and the event that Ctrl-C sets.

    Ctrl-C also raises KeyboardInterrupt. Python drops that exception while an object is finalised; then the
    run checks the event. Errors inside are shown by the view; they and Ctrl-C set the exit status. `stopped`
    is shown if Ctrl-C comes before the run, which has its own message.
    """
    stop = threading.Event()

    def interrupt(number: int, frame: object) -> None:
        stop.set()
        raise KeyboardInterrupt

    # SIGTERM ends a run like Ctrl-C; SIGKILL loses no committed chunk either.
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # background jobs of a shell ignore Ctrl-C
        signal.signal(signal.SIGINT, interrupt)
    stdout = sys.stdout if prose else Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    on_screen = TerminalView(stdout, sys.stderr, quiet, gpu_bytes=_gpu_bytes)
    with JsonView(sys.stdout) if json else on_screen as view:
        try:
            yield view, stop
        except typer.Exit:
            raise
        except BrokenPipeError:
            raise typer.Exit(1) from None
        except (KeyboardInterrupt, Exception) as error:
            # A library that is being imported may answer Ctrl-C with an error of its own.
            if isinstance(error, KeyboardInterrupt) or stop.is_set():
                ignore_ctrl_c()
                view.show(Notice(stopped))
                raise typer.Exit(STOPPED) from None
            if debugging() or not isinstance(error, (TemploraError, OSError)):
                raise
            failure = of_os_error(error) if isinstance(error, OSError) else error
            try:
                view.fail(failure)
            except OSError:  # the stream for events may be the one that failed
                show_error(sys.stderr, failure)
            raise typer.Exit(failure.exit_status) from None


def noting(view: View) -> Callable[[str], None]:
    """A function that shows a text as a notice."""
    return lambda text: view.show(Notice(text))


def follow(run: Run, events: Generator[Event, None, None], view: View, stop: threading.Event) -> Event | None:
    """Show the events of a run to their end; returns the last one.

    On Ctrl-C it shows the saved state and the command to continue, and exits with 130. An error
    of a file or stream, such as a full disk under `> book.txt`, becomes a TemploraError.
    """
    last = None
    try:
        with closing(events):
            for event in events:
                view.show(event)
                last = event
    except (KeyboardInterrupt, BrokenPipeError) as error:
        ignore_ctrl_c()
        with suppress(BrokenPipeError):
            try:
                view.show(run.interrupted())
            except TemploraError as gone:
                view.fail(gone)
        raise typer.Exit(STOPPED if isinstance(error, KeyboardInterrupt) else 1) from None
    except OSError as error:
        stopped = run.interrupted()
        assurance = f"All committed chunks are safe ({stopped.chunks:,})"
        hint = f"correct this, then run: {stopped.resume_command}"
        raise of_os_error(error, assurance=assurance, hint=hint) from error
    if isinstance(last, Interrupted):
        raise typer.Exit(STOPPED)
    return last


_engine: ContextVar[Engine | None] = ContextVar("engine", default=None)


@contextmanager
def computing_with(engine: Engine | None) -> Iterator[None]:
    """Let commands called inside use `engine`; None is the default engine."""
    before = _engine.set(engine)
    try:
        yield
    finally:
        _engine.reset(before)


def engine_in_use() -> Engine:
    """The engine for the runs of a command."""
    from templora_cli.prepare import ENGINE

    return _engine.get() or ENGINE


@contextmanager
def usable_streams() -> Iterator[None]:
    """Make standard streams usable: open, and in UTF-8 unless they are terminals with another encoding.

    Terminals get question marks for characters they cannot show; pipes get the bytes of paths that are not
    UTF-8.
    """
    for name, in_pipe in (("stdout", "surrogateescape"), ("stderr", "backslashreplace")):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller (`>&-`), or a Windows program without a console
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif stream.isatty():
            stream.reconfigure(errors="replace")
        else:
            stream.reconfigure(encoding="utf-8", errors=in_pipe)
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        except OSError:  # reported already; the interpreter would report it again, with a traceback
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def silence_libraries() -> None:
    """Suppress the warnings and the advice of libraries for the rest of the process."""
    # Without a handler at the root, loggers that have none write to standard error.
    logging.getLogger().addHandler(logging.NullHandler())
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    warnings.simplefilter("ignore")


def debugging() -> bool:
    """Whether tracebacks are requested (`--debug`, TEMPLORA_DEBUG)."""
    return bool(os.environ.get("TEMPLORA_DEBUG"))


def _gpu_bytes() -> int:
    """GPU memory reserved by torch; 0 if torch is not loaded or uses no GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return int(torch.cuda.memory_reserved())


def confirm(question: str, hint: str) -> bool:
    """Ask for confirmation. Raises TemploraError with `hint` if standard input is not a terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise TemploraError("cannot ask for confirmation, because standard input is not a terminal", hint)
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C or the end of the input
        raise typer.Exit(STOPPED) from None


def say(text: str = "", *, err: bool = False) -> None:
    """Print a line; on a terminal, without control characters and wrapped between words."""
    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        text = "\n".join(screen_lines(text, terminal_width(stream)))
    print(harmless(text) if err else text, file=stream, flush=True)  # typer.echo removes escape codes


def say_command(text: str) -> None:
    """Print a command, or a line that contains one: never broken, so that it can be copied."""
    print(harmless(text), flush=True)


@contextmanager
def working(message: str) -> Iterator[None]:
    """Show on a terminal, on standard error, that a slow step is in progress."""
    with TerminalView(sys.stdout, sys.stderr) as view:
        view.show(Working(message))
        yield


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    typer.echo(as_json(value, indent=2))


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print a line for each fact, "-" for None; further lines of a value are indented."""
    width = terminal_width(sys.stdout) if sys.stdout.isatty() else None
    for line in fact_lines(facts, width):
        typer.echo(line)


def print_table(
    columns: list[str],
    rows: list[list[str]],
    *,
    texts: Collection[str] = (),
    optional: Collection[str] = (),
) -> None:
    """Print a table: fitted to the width of a terminal, tab-separated in a pipe.

    `texts` are the columns whose cells can be broken over several lines; numbers and ids never are.
    `optional` columns are shown if they fit.
    """
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            typer.echo("\t".join(map(one_line, row)))
        return
    width = terminal_width(sys.stdout)
    # Without a height rich assumes 80 columns for a dumb terminal.
    table = layout_table(columns, rows, width, texts=texts, optional=optional)
    Console(width=width, height=25).print(table, crop=False)
