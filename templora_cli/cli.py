"""The `templora` command: its subcommands and exit statuses."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Annotated, Any

import typer

from templora_cli import __version__
from templora_cli.commands import eval, glossary, ledger, models, sessions
from templora_cli.commands.accept import accept
from templora_cli.commands.doctor import doctor
from templora_cli.commands.edit import edit
from templora_cli.commands.forget import forget
from templora_cli.commands.fork import fork
from templora_cli.commands.help import HelpGroup, use_help
from templora_cli.commands.plan import plan
from templora_cli.commands.resume import resume
from templora_cli.commands.review import retry, review
from templora_cli.commands.rewrite import rewrite
from templora_cli.commands.sync import sync
from templora_cli.commands.terminal import debugging, silence_libraries, usable_streams
from templora_cli.commands.translate import translate
from templora_cli.commands.undo import undo
from templora_cli.commands.write import write
from templora_cli.errors import TemploraError, of_os_error
from templora_cli.interrupts import STOPPED, quit_on_ctrl_c, raise_on_ctrl_c
from templora_cli.render.error_view import show_error


class _Commands(HelpGroup):
    """The commands. The error for one that belongs to a group, such as `export`, names the whole command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        groups = {name: getattr(command, "commands", {}) for name, command in self.commands.items()}
        if args[0] not in groups and not ctx.resilient_parsing:
            meant = [
                f"templora {name} {shlex.join(args)}" for name, group in groups.items() if args[0] in group
            ]
            if meant:
                raise TemploraError(f"there is no command {args[0]}", ", or ".join(meant))
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="templora",
    help="Write and translate book-length text with a local language model that learns the book meanwhile.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(write)
app.command()(plan)
app.command()(translate)
app.command()(resume)
app.command()(edit)
app.command()(sync)
app.command()(accept)
app.command()(undo)
app.command()(rewrite)
app.command()(forget)
app.command()(fork)
app.command()(review)
app.command()(retry)
app.command()(doctor)
app.add_typer(eval.app, name="eval")
app.add_typer(sessions.app, name="sessions")
app.add_typer(models.app, name="models")
app.add_typer(glossary.app, name="glossary")
app.add_typer(ledger.app, name="ledger")
use_help(app, _Commands)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"templora {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="TEMPLORA_DEBUG", help="Show the traceback of an error.")
    ] = False,
) -> None:
    os.environ["TEMPLORA_DEBUG"] = "1" if debug else ""
    if not debug:
        silence_libraries()


def main() -> None:
    """Run the command line.

    Exit status: 0 done, 1 bug or closed pipe, 2 bad input, 3 bad output of the model, 130 Ctrl-C.
    """
    raise_on_ctrl_c()
    try:
        with usable_streams():
            _run_app()
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    finally:
        quit_on_ctrl_c()  # libraries that clean up at the exit would show a traceback


def _run_app() -> None:
    try:
        app()
    except BrokenPipeError:
        sys.exit(1)
    except (TemploraError, OSError) as error:
        if debugging():
            raise
        failure = of_os_error(error) if isinstance(error, OSError) else error
        show_error(sys.stderr, failure)
        sys.exit(failure.exit_status)
