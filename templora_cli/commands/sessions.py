"""`templora sessions`: what has been written so far."""

from __future__ import annotations

import json as json_module
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli.commands.terminal import engine_in_use, print_table
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.sessions.kind import Export
    from templora_cli.sessions.manifest import Manifest

app = typer.Typer(help="Look at books in progress, and take them out as files.", no_args_is_help=True)

Reference = Annotated[
    Optional[str], typer.Argument(help="Session id or the beginning of one (default: the last).")
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command("list")
def list_sessions(json: AsJson = False) -> None:
    """What there is: id, state, length, model, gain, when last written to."""
    from templora_cli.sessions.store import Store

    store = Store()
    rows: list[dict[str, Any]] = []
    for manifest in store.manifests():
        if isinstance(manifest, TemploraError):
            typer.echo(f"warning: {manifest.message}", err=True)
            continue
        rows.append(_summary(store.folder / manifest.id, manifest))
    if json:
        typer.echo(json_module.dumps(rows, ensure_ascii=False, indent=2))
        return
    if not rows:
        typer.echo('no sessions yet; begin one: templora write --premise "..."', err=True)
        return
    print_table(
        ["session", "state", "words", "tokens", "chunks", "model", "gain", "last opened (UTC)"],
        [
            [
                row["session"],
                row["state"],
                f"{row['words']}",
                f"{row['tokens']}",
                f"{row['chunks']}",
                row["model"],
                "-" if row["gain"] is None else f"{row['gain']:+.3f}",
                row["opened"][:16].replace("T", " "),
            ]
            for row in rows
        ],
    )


@app.command()
def show(session: Reference = None, json: AsJson = False) -> None:
    """One session: its settings and its chunks with their figures."""
    from templora_cli.sessions.manifest import load_manifest
    from templora_cli.sessions.steps import StepDamaged, read_chunks
    from templora_cli.sessions.store import Store

    path = Store().find(session)
    manifest = load_manifest(path)
    summary = _summary(path, manifest)
    try:
        chunks = read_chunks(path / "steps")
    except StepDamaged as damage:
        raise TemploraError(f"session {path.name}: {damage}", f"templora resume {path.name}") from None
    kind = engine_in_use().kinds.get(manifest.task)
    facts = {"kind": manifest.task, **(kind.facts(manifest) if kind else {})}
    if json:
        figures = [{k: _or_null(v) for k, v in chunk.items() if k not in NOT_FIGURES} for chunk in chunks]
        told = {**summary, "path": str(path), **facts}
        both = {**told, "config": manifest.config, "steps": figures}
        typer.echo(json_module.dumps(both, ensure_ascii=False, indent=2))
        return
    for name, value in {**summary, "path": str(path), **facts}.items():
        typer.echo(f"{name:10} {'-' if value is None else value}")
    print_table(
        ["chunk", "origin", "tokens", "loss", "NLL base", "NLL adapter", "gain", "repetition", "seconds"],
        [_chunk_row(chunk) for chunk in chunks],
    )


@app.command()
def path(session: Reference = None) -> None:
    """The folder of a session."""
    from templora_cli.sessions.store import Store

    typer.echo(str(Store().find(session)))


@app.command()
def export(
    session: Reference = None,
    out: Annotated[
        Optional[Path], typer.Option(help="Book file, .md or .txt, or - (default: SESSION.md).")
    ] = None,
) -> None:
    """Write the book so far to a file. - is standard output."""
    from templora_cli.commands.arguments import check_out
    from templora_cli.documents.book import book_of_prose
    from templora_cli.documents.registry import render_book
    from templora_cli.sessions.steps import readable_text
    from templora_cli.sessions.store import Store

    folder = Store().find(session)
    if str(out) != "-" and (own := _own_form(folder)) is not None:
        _export(folder, own, out)
        return
    text, problems = readable_text(folder / "steps")
    for problem in problems:
        typer.echo(f"warning: {problem}", err=True)
    if not text.strip():
        raise TemploraError(f"session {folder.name} holds no text yet", f"templora resume {folder.name}")
    if out is not None and str(out) == "-":
        typer.echo(text.strip())
        return
    target = check_out(out or Path(f"{folder.name}.md"))
    _save(target, render_book(book_of_prose(text), target))


def _own_form(folder: Path) -> Export | None:
    """The session as its own kind of file; None where it is prose, or damaged: then it is saved as prose."""
    from templora_cli.sessions.manifest import load_manifest

    try:
        manifest = load_manifest(folder)
    except TemploraError:
        return None
    kind = engine_in_use().kinds.get(manifest.task)
    return None if kind is None else kind.export(folder, manifest)


def _export(folder: Path, own: Export, out: Path | None) -> None:
    """The document with what is translated so far."""
    from templora_cli.commands.arguments import check_writable

    target = out or Path(f"{folder.name}{own.suffix}")
    if target.suffix.lower() != own.suffix:
        raise TemploraError(
            f"{target.name}: {folder.name} is saved as {own.suffix}", f"--out {target.stem}{own.suffix}"
        )
    _save(check_writable(target), own.content())


def _save(target: Path, content: str | bytes) -> None:
    from templora_cli.files import write_atomically

    try:
        write_atomically(target, content)
    except OSError as error:
        raise TemploraError(f"{target} cannot be written: {error.strerror}", "choose another --out") from None
    typer.echo(str(target))


NOT_FIGURES = ("tokens", "text", "record")


def _or_null(value: Any) -> Any:
    """JSON has no NaN, which a chunk without tokens has for its likelihood."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _summary(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """What a list says of a session."""
    from templora_cli.sessions.steps import StepDamaged
    from templora_cli.sessions.summary import Summary, cached_summary, read_summary

    found, kinds = Summary(0, 0, 0, None, {}), engine_in_use().kinds
    if manifest.task not in kinds:
        state = "unknown"
    else:
        try:
            found = cached_summary(folder) or read_summary(folder, kinds[manifest.task])
            state = _state(found.done.get(manifest.goal_unit, 0), manifest)
        except StepDamaged:
            state = "damaged"
    return {
        "session": manifest.id,
        "state": state,
        "words": found.words,
        "tokens": found.tokens,
        "chunks": found.chunks,
        "model": manifest.model,
        "quantize": manifest.quantize,
        "device": manifest.device,
        "learn": manifest.config.get("train", {}).get("learn"),
        "gain": found.gain,
        "created": manifest.created,
        "opened": manifest.opened,
        "out": manifest.out,
    }


def _state(reached: int, manifest: Manifest) -> str:
    goal = manifest.goal_amount
    return "finished" if reached >= goal else f"{reached}/{goal} {manifest.goal_unit}"


def _chunk_row(chunk: dict[str, Any]) -> list[str]:
    adapter = chunk["nll_adapter"]
    return [
        f"{chunk['index'] + 1}",
        chunk["origin"],
        f"{len(chunk['tokens'])}",
        " ".join(f"{loss:.3f}" for loss in chunk["train_losses"]) or "-",
        f"{chunk['nll_base']:.3f}",
        "-" if adapter is None else f"{adapter:.3f}",
        "-" if adapter is None else f"{chunk['nll_base'] - adapter:+.3f}",
        f"{chunk['repetition']:.3f}",
        f"{sum(chunk['seconds'].values()):.1f}",
    ]
