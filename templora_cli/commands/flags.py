"""The flags that several commands have, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from templora_cli.commands.settings import flag

ModelName = Annotated[Optional[str], flag("model", "name", "--model")]
Quantize = Annotated[Optional[str], flag("model", "quantize")]
Device = Annotated[Optional[str], flag("model", "device")]
Recipe = Annotated[Optional[str], flag("train", "recipe")]
ChunkTokens = Annotated[Optional[int], flag("decode", "chunk_tokens")]
ContextTokens = Annotated[Optional[int], flag("decode", "context_tokens")]
Seed = Annotated[Optional[int], flag("", "seed")]

Settings = Annotated[
    Optional[list[str]],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting, such as lr=2e-4 or decode.top_k=5; may be repeated.",
        rich_help_panel="Learning",
    ),
]
BaseOnly = Annotated[bool, typer.Option("--no-learn", help="Only the base.", rich_help_panel="Learning")]
TableAsJson = Annotated[bool, typer.Option("--json", help="The tables as JSON.")]
TableAsCsv = Annotated[bool, typer.Option("--csv", help="The tables as CSV.")]
Plot = Annotated[Optional[Path], typer.Option(help="Draw the curves, as .png or .svg.")]
OnlyTables = Annotated[bool, typer.Option("--quiet", "-q", help="Only the tables and errors.")]
