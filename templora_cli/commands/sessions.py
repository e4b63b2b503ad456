"""`templora sessions`: what has been written so far."""

from __future__ import annotations

import json as json_module
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli.commands.terminal import print_table
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
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
    from templora_cli.sessions.checkpoint import StepDamaged, read_chunks
    from templora_cli.sessions.manifest import load_manifest
    from templora_cli.sessions.store import Store

    path = Store().find(session)
    manifest = load_manifest(path)
    summary = _summary(path, manifest)
    try:
        chunks = read_chunks(path / "steps")
    except StepDamaged as damage:
        raise TemploraError(f"session {path.name}: {damage}", f"templora resume {path.name}") from None
    if json:
        figures = [{k: _or_null(v) for k, v in chunk.items() if k not in NOT_FIGURES} for chunk in chunks]
        both = {**summary, "path": str(path), "config": manifest.config, "steps": figures}
        typer.echo(json_module.dumps(both, ensure_ascii=False, indent=2))
        return
    for name, value in {**summary, "path": str(path), "premise": manifest.premise}.items():
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
    from templora_cli.documents.book import book_of_prose
    from templora_cli.documents.registry import render_book
    from templora_cli.runner import check_out
    from templora_cli.sessions.checkpoint import readable_text
    from templora_cli.sessions.store import Store

    folder = Store().find(session)
    if str(out) != "-" and (manifest := _readable_manifest(folder)) and manifest.task == "translation":
        _export_translation(folder, manifest, out)
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


def _readable_manifest(folder: Path) -> Manifest | None:
    """None where it is damaged: then the text is saved as prose."""
    from templora_cli.sessions.manifest import load_manifest

    try:
        return load_manifest(folder)
    except TemploraError:
        return None


def _export_translation(folder: Path, manifest: Manifest, out: Path | None) -> None:
    """The document with what is translated so far."""
    from templora_cli.runner import check_writable
    from templora_cli.translation.session import TranslatedBook

    book = TranslatedBook(folder, manifest)
    suffix = book.request["suffix"]
    target = out or Path(f"{folder.name}{suffix}")
    if target.suffix.lower() != suffix:
        raise TemploraError(f"{target.name}: this translation is a {suffix}", f"--out {target.stem}{suffix}")
    _save(check_writable(target), book.rendered(book.readable_records()))


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
    from templora_cli.sessions.checkpoint import StepDamaged, read_chunks
    from templora_cli.sessions.recorder import done
    from templora_cli.text import count_words

    damaged = False
    try:
        chunks = read_chunks(folder / "steps")
    except StepDamaged:
        chunks, damaged = [], True
    reached = done(chunks, manifest.task, manifest.goal_unit)
    state = f"{reached}/{manifest.goal_amount} {manifest.goal_unit}"
    if reached >= manifest.goal_amount:
        state = "finished"
    gains = [c["nll_base"] - c["nll_adapter"] for c in chunks if c["nll_adapter"] is not None]
    return {
        "session": manifest.id,
        "state": "damaged" if damaged else state,
        "words": count_words("".join(chunk["text"] for chunk in chunks)),
        "tokens": sum(len(chunk["tokens"]) for chunk in chunks),
        "chunks": len(chunks),
        "model": manifest.model,
        "quantize": manifest.quantize,
        "device": manifest.device,
        "learn": manifest.config["train"]["learn"],
        "gain": sum(gains) / len(gains) if gains else None,
        "created": manifest.created,
        "opened": manifest.opened,
        "out": manifest.out,
    }


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
