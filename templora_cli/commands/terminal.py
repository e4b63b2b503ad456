"""What every command says the same way: its view, its failures, its tables."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from templora_cli.errors import TemploraError, of_os_error
from templora_cli.events import Event, Interrupted
from templora_cli.render.error_view import show_error
from templora_cli.render.escapes import as_json, harmless, one_line
from templora_cli.render.json_view import JsonView
from templora_cli.render.lines import fact_lines, screen_lines, terminal_width
from templora_cli.render.table import layout_table
from templora_cli.render.terminal_view import TerminalView
from templora_cli.render.view import View

if TYPE_CHECKING:
    from templora_cli.prepare import Engine
    from templora_cli.runner import Run


@contextmanager
def open_view(*, json: bool, quiet: bool, prose: bool = True) -> Iterator[tuple[View, threading.Event]]:
    """The view that the flags ask for, with `prose` on standard output or without, and what Ctrl-C sets.

    Ctrl-C raises KeyboardInterrupt too; Python drops one that comes while an object is finalised, and then
    the run looks at what was set. Errors inside are shown by the view; they and Ctrl-C set the exit status.
    """
    stop = threading.Event()

    def interrupt(number: int, frame: object) -> None:
        stop.set()
        raise KeyboardInterrupt

    # A kill that asks gets the same end as Ctrl-C; one that does not ask loses nothing either.
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # a shell's background job is to ignore Ctrl-C
        signal.signal(signal.SIGINT, interrupt)
    stdout = sys.stdout if prose else Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    on_screen = TerminalView(stdout, sys.stderr, quiet, gpu_bytes=_gpu_bytes)
    with JsonView(sys.stdout) if json else on_screen as view:
        try:
            yield view, stop
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            raise typer.Exit(1) from None
        except (TemploraError, OSError) as error:
            if debugging():
                raise
            told = of_os_error(error) if isinstance(error, OSError) else error
            try:
                view.fail(told)
            except OSError:  # the stream that takes the events may be what has failed
                show_error(sys.stderr, told)
            raise typer.Exit(2) from None


def follow(run: Run, events: Generator[Event, None, None], view: View, stop: threading.Event) -> Event | None:
    """Show the events of a run to their end; returns the last one.

    Ctrl-C: says what is kept and how to go on, exits with 130. An error of a file or stream, such as a full
    disk under `> book.txt`, becomes a TemploraError.
    """
    last = None
    try:
        with closing(events):
            for event in events:
                view.show(event)
                last = event
    except (KeyboardInterrupt, BrokenPipeError) as error:
        with suppress(BrokenPipeError):
            view.show(run.interrupted())
        raise typer.Exit(130 if isinstance(error, KeyboardInterrupt) else 1) from None
    except OSError as error:
        safe = run.interrupted()
        kept = f"All committed chunks are safe ({safe.chunks:,})"
        raise of_os_error(error, kept=kept, hint=f"correct this, then run: {safe.resume_command}") from error
    if isinstance(last, Interrupted):
        raise typer.Exit(130)
    return last


_engine: ContextVar[Engine | None] = ContextVar("engine", default=None)


@contextmanager
def computing_with(engine: Engine | None) -> Iterator[None]:
    """Let the commands that are called inside compute with `engine`; None is the usual."""
    before = _engine.set(engine)
    try:
        yield
    finally:
        _engine.reset(before)


def engine_in_use() -> Engine:
    """What the runs of a command compute with."""
    from templora_cli.prepare import ENGINE

    return _engine.get() or ENGINE


@contextmanager
def usable_streams() -> Iterator[None]:
    """Standard streams as the commands need them: there, in UTF-8 unless a terminal says otherwise.

    A terminal gets a question mark for what it cannot show, a pipe the bytes of a path that is no UTF-8.
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
        except OSError:  # said already; the interpreter would say it again, with a traceback
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def silence_libraries() -> None:
    """Keep the warnings and the advice of the libraries off the screen, for the rest of the process."""
    # Those that have no handler of their own write to standard error without one.
    logging.getLogger().addHandler(logging.NullHandler())
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    warnings.simplefilter("ignore")


def debugging() -> bool:
    """Was a traceback asked for (`--debug`, TEMPLORA_DEBUG)?"""
    return bool(os.environ.get("TEMPLORA_DEBUG"))


def _gpu_bytes() -> int:
    """What torch holds on the GPU; asks only where torch is loaded and uses one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return int(torch.cuda.memory_reserved())


def confirm(question: str, hint: str) -> bool:
    """Ask a person. Raises TemploraError with `hint` where standard input is no terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise TemploraError("cannot ask for confirmation, because standard input is not a terminal", hint)
    return typer.confirm(question, err=True)


def say(text: str = "", *, err: bool = False) -> None:
    """Print a line: as it is into a pipe, and on a terminal harmless and broken between words."""
    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        text = "\n".join(screen_lines(text, terminal_width(stream)))
    print(
        harmless(text) if err else text, file=stream, flush=True
    )  # typer.echo leaves out what looks like colours


def print_json(value: Any) -> None:
    """Print a value as JSON over several lines."""
    typer.echo(as_json(value, indent=2))


def print_facts(facts: Mapping[str, Any]) -> None:
    """A line for each fact, "-" for none; what goes on in further lines is indented."""
    width = terminal_width(sys.stdout) if sys.stdout.isatty() else None
    for line in fact_lines(facts, width):
        typer.echo(line)


def print_table(columns: list[str], rows: list[list[str]], *, texts: Collection[str] = ()) -> None:
    """A table on standard output: laid out for the width of a terminal, tab-separated in a pipe.

    `texts` are the columns whose cells may be broken over several lines; figures and ids never are.
    """
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            typer.echo("\t".join(map(one_line, row)))
        return
    width = terminal_width(sys.stdout)
    # With a height too, without which rich takes a dumb terminal to be 80 columns wide.
    Console(width=width, height=25).print(layout_table(columns, rows, width, texts=texts), crop=False)
