"""`templora models`: which models there are, how one gets here, where one lies."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from templora_cli.commands.terminal import print_table

if TYPE_CHECKING:
    from templora_cli.engine.models.catalog import ListedModel

app = typer.Typer(help="See which models there are, and get one.", no_args_is_help=True)


@app.command("list")
def list_models(json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """What `--model` can name: aliases, converted GGUF files, models of the Hugging Face cache."""
    from templora_cli.engine.models.catalog import listing

    models = listing()
    if json:
        typer.echo(json_module.dumps([asdict(model) for model in models], ensure_ascii=False, indent=2))
        return
    print_table(["model", "title", "kind", "licence", "here"], [_row(model) for model in models])


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="Alias (templora models list) or Hugging Face id.")],
) -> None:
    """Download a model, check it, and make it ready. Prints its folder."""
    from templora_cli.engine.models import catalog

    typer.echo(str(catalog.pull(name, _report)))


@app.command()
def path(
    name: Annotated[str, typer.Argument(help="Alias, Hugging Face id, local folder or .gguf file.")],
) -> None:
    """The folder from which a model is loaded. Downloads nothing; converts a .gguf file seen first."""
    from templora_cli.engine.models import catalog

    typer.echo(str(catalog.resolve(name, _report)))


def _report(text: str) -> None:
    typer.echo(text, err=True)


def _row(model: ListedModel) -> list[str]:
    if model.path is not None:
        here = _megabytes(model.bytes)
    elif model.download_bytes is not None:
        here = f"no; pull gets {_megabytes(model.download_bytes)}"
    else:
        here = "no"
    return [model.name, model.title, model.kind or "-", model.licence or "-", here]


def _megabytes(size: int) -> str:
    return f"{max(1, round(size / 1e6))} MB"
