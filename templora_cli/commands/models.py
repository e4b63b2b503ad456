"""`templora models`: list, download and locate models."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from templora_cli.commands.terminal import print_json, print_table, say
from templora_cli.files import format_bytes

if TYPE_CHECKING:
    from templora_cli.engine.models.catalog import ListedModel

app = typer.Typer(help="List, download and locate models.", no_args_is_help=True)


@app.command("list")
def list_models(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List models for `--model`: aliases, converted GGUF files, and downloaded Hugging Face models.

    `templora models pull` downloads an alias or any other Hugging Face model.
    """
    from templora_cli.engine.models.catalog import listing

    models = listing()
    if json:
        print_json([asdict(model) for model in models])
        return
    columns = ["model", "kind", "licence", "disk", "download"]
    print_table(columns, [_row(model) for model in models], texts=("licence",))


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="Alias (templora models list) or Hugging Face id.")],
) -> None:
    """Download a model, check it and convert it if necessary. Prints its folder.

    For a model that is already downloaded, this gets the newest version. Models never update by themselves.
    """
    from templora_cli.engine.models import catalog

    say(str(catalog.pull(name, _report)))


@app.command()
def path(
    name: Annotated[str, typer.Argument(help="Alias, Hugging Face id, local folder or .gguf file.")],
) -> None:
    """Print the folder from which a model is loaded. Downloads nothing; converts a new .gguf file."""
    from templora_cli.engine.models import catalog

    say(str(catalog.resolve(name, _report)))


def _report(text: str) -> None:
    say(text, err=True)


def _row(model: ListedModel) -> list[str]:

    sizes = (model.bytes, None) if model.path is not None else (None, model.download_bytes)
    shown = ["-" if size is None else format_bytes(size) for size in sizes]
    return [model.name, model.kind or "-", model.licence or "-", *shown]
