"""`templora eval`: measure the benefit of learning on your own text and model."""

from __future__ import annotations

import typer

from templora_cli.commands.eval.author import author
from templora_cli.commands.eval.consistency import consistency
from templora_cli.commands.eval.drift import drift
from templora_cli.commands.eval.ppl import ppl, report_reading
from templora_cli.commands.eval.prose import HELP, prose
from templora_cli.commands.eval.translate import translate

__all__ = ["app", "report_reading"]

app = typer.Typer(help="Measure the benefit of learning, and prose.", no_args_is_help=True)
app.command()(ppl)
app.command()(translate)
app.command()(drift)
app.command(help=HELP)(prose)
app.command()(consistency)
app.command()(author)
