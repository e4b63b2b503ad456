"""`templora sessions`: list, show and export sessions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli.commands import housekeeping, undo
from templora_cli.commands.arguments import check_no_folder, save
from templora_cli.commands.paths import expand_home
from templora_cli.commands.terminal import engine_in_use, print_facts, print_json, print_table, say
from templora_cli.errors import TemploraError
from templora_cli.events import words_with_opening
from templora_cli.files import bytes_below, format_bytes
from templora_cli.render.figures import count_of

if TYPE_CHECKING:
    from templora_cli.documents.book import Book
    from templora_cli.sessions.kind import Export
    from templora_cli.sessions.manifest import Manifest

app = typer.Typer(help="List, show, export, rename and remove sessions.", no_args_is_help=True)
Reference = Annotated[
    Optional[str], typer.Argument(help="Id of a session, or its first letters (default: the last one).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_sessions(json: AsJson = False) -> None:
    """List all sessions: id, kind, state, length, model, gain, date and size."""
    from templora_cli.sessions.store import Store

    store = Store()
    rows: list[dict[str, Any]] = []
    for manifest in store.manifests():
        if isinstance(manifest, TemploraError):
            say(f"warning: {manifest.message}", err=True)
            continue
        rows.append(_summary(store.folder / manifest.id, manifest))
    if json:
        print_json(rows)
        return
    if not rows:
        say('no sessions yet; to begin one: templora write --premise "..."', err=True)
        return
    heads = ["words", "tokens", "chunks", "model", "gain", "last opened (UTC)", "disk"]
    print_table(
        ["session", "kind", "state", *heads],
        [
            [
                row["session"],
                row["kind"],
                row["state"],
                f"{row['words']}",
                f"{row['tokens']}",
                f"{row['chunks']}",
                row["model"],
                "-" if row["gain"] is None else f"{row['gain']:+.3f}",
                row["opened"][:16].replace("T", " "),
                format_bytes(row["disk_bytes"]),
            ]
            for row in rows
        ],
        texts=("model",),
        optional=("kind",),
    )
    _print_disk_use(store.folder, sum(row["disk_bytes"] for row in rows))


def _print_disk_use(folder: Path, used: int) -> None:
    say(f"{format_bytes(used)} in {folder}", err=True)
    say("to free some: templora sessions shrink SESSION", err=True)
    say("to remove one: templora sessions rm SESSION", err=True)


@app.command()
def show(session: Reference = None, json: AsJson = False) -> None:
    """Show a session: its settings, the measurements of its chunks, and the chunks that were not learnt."""
    from templora_cli.sessions.manifest import load_manifest
    from templora_cli.sessions.store import Store

    path = Store().find(session)
    manifest = load_manifest(path)
    summary = _summary(path, manifest)
    chunks, rows = _chunks_of(path)
    kind = engine_in_use().kinds.get(manifest.task)
    facts = {"kind": manifest.task, **(kind.facts(manifest) if kind else {})}
    if manifest.start is not None:
        facts["began with"] = f"the adapter of {manifest.start.get('session')}"
    unlearnt = [
        {"index": chunk["index"], "rejection_reason": chunk["rejection_reason"]}
        for chunk in chunks
        if chunk.get("rejection_reason")
    ]
    if json:
        figures = [{k: v for k, v in chunk.items() if k not in OMITTED_KEYS} for chunk in chunks]
        header = {**summary, "path": str(path), **facts}
        print_json({**header, "config": manifest.config, "not_learnt": unlearnt, "steps": figures})
        return
    disk = _disk_use(path, summary.pop("disk_bytes"))
    if kind and kind.has_opening(manifest):
        summary["words"] = words_with_opening(summary["words"], "words")
    print_facts({**summary, "disk": disk, "path": str(path), **facts})
    say()
    print_table(
        ["chunk", "origin", "tokens", "loss", "NLL base", "NLL adapter", "gain", "seen before", "seconds"],
        rows,
    )
    if unlearnt:
        label = "not learnt" if summary["learn"] else "marked by the gate"
        say(f"{label}: {len(unlearnt)} of {count_of(len(chunks), 'chunk')}")
        for chunk in unlearnt:
            say(f"  chunk {chunk['index'] + 1}: {chunk['rejection_reason']}")


def _chunks_of(folder: Path) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """The chunks of a session, and each as a row of the table. Raises TemploraError if one is damaged."""
    from templora_cli.sessions.steps import StepDamagedError, read_chunks
    from templora_cli.sessions.summary import MALFORMED

    try:
        chunks = read_chunks(folder / "steps")
        return chunks, [_chunk_row(chunk) for chunk in chunks]
    except StepDamagedError as damage:
        raise TemploraError(f"session {folder.name}: {damage}", f"templora resume {folder.name}") from None
    except MALFORMED:
        raise TemploraError(
            f"session {folder.name}: the chunk.json of a step is incomplete",
            f"to save its text: templora sessions export {folder.name}",
        ) from None


def _disk_use(folder: Path, used: int) -> str:
    """Disk use of a session, and the command that reduces it."""
    from templora_cli.sessions.housekeeping import older_checkpoints

    older = sum(file.stat().st_size for file in older_checkpoints(folder / "steps"))
    command = f"templora sessions shrink {folder.name}"
    hint = f", {format_bytes(older)} of it in older checkpoints; to delete them: {command}" if older else ""
    return f"{format_bytes(used)}{hint}"


@app.command()
def path(session: Reference = None) -> None:
    """Print the folder of a session."""
    from templora_cli.sessions.store import Store

    say(str(Store().find(session)))


@app.command()
def export(
    session: Reference = None,
    out: Annotated[
        Optional[Path],
        typer.Option(
            help="File to write: .md or .txt, or - for standard output (default: SESSION.md).",
            callback=expand_home,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace an existing file, and save a copy under another name."),
    ] = False,
) -> None:
    """Write the book so far to a file.

    A file that was exported earlier and has not been changed since is overwritten.
    """
    from templora_cli.documents.registry import check_book_suffix, render_book
    from templora_cli.sessions.steps import readable_text
    from templora_cli.sessions.store import Store

    folder = Store().find(session)
    if str(out) != "-" and (document := _document_export(folder)) is not None:
        _export(folder, document, out, force=force)
        return
    text, problems = readable_text(folder / "steps")
    for problem in problems:
        say(f"warning: {problem}", err=True)
    if not text.strip():
        raise TemploraError(f"session {folder.name} has no text yet", f"templora resume {folder.name}")
    if out is not None and str(out) == "-":
        say(text.strip())
        return
    target = out or Path(f"{folder.name}.md")
    check_no_folder(target, f"{folder.name}.md")
    check_book_suffix(target)
    save(folder, target, render_book(_book(folder, text), target), force=force)


def _book(folder: Path, text: str) -> Book:
    """The text of a session as a book, without headings if its manifest is damaged."""
    from templora_cli.documents.book import book_of_prose
    from templora_cli.sessions.manifest import load_manifest

    try:
        manifest = load_manifest(folder)
    except TemploraError:
        return book_of_prose(text)
    kind = engine_in_use().kinds.get(manifest.task)
    return book_of_prose(text) if kind is None else kind.book(folder, manifest, text)


def _document_export(folder: Path) -> Export | None:
    """The session as a document of its format; None if it is prose or damaged, which are saved as prose."""
    from templora_cli.sessions.manifest import load_manifest

    try:
        manifest = load_manifest(folder)
    except TemploraError:
        return None
    kind = engine_in_use().kinds.get(manifest.task)
    return None if kind is None else kind.export(folder, manifest)


def _export(folder: Path, document: Export, out: Path | None, *, force: bool) -> None:
    """Save the document with the translation so far."""
    target = out or Path(f"{folder.name}{document.suffix}")
    check_no_folder(target, f"{folder.name}{document.suffix}")
    if target.suffix.lower() != document.suffix:
        raise TemploraError(
            f"{target.name}: {folder.name} is exported as {document.suffix}",
            f"--out {target.stem}{document.suffix}",
        )
    save(folder, target, document.content(), force=force)


app.command()(undo.log)
app.command()(undo.restore)
app.command()(housekeeping.rename)
app.command()(housekeeping.shrink)
app.command("rm")(housekeeping.remove)

OMITTED_KEYS = ("tokens", "text", "record")


def _summary(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """The summary of a session for lists."""
    from templora_cli.sessions.steps import StepDamagedError
    from templora_cli.sessions.summary import (
        MALFORMED,
        Summary,
        cached_summary,
        goal_of,
        read_summary,
        state_of,
    )

    summary, kinds = Summary(0, 0, 0, None, {}, complete=False), engine_in_use().kinds
    if manifest.task not in kinds:
        state = "unknown"
    else:
        try:
            summary = cached_summary(folder) or read_summary(folder, kinds[manifest.task])
            cached = summary.state if summary.goal == goal_of(manifest) else None
            state = cached or state_of(summary, manifest, kinds[manifest.task])
        except (StepDamagedError, OSError, *MALFORMED):
            state = "damaged"
    train = manifest.config.get("train")
    return {
        "session": manifest.id,
        "kind": manifest.task,
        "state": state,
        "words": summary.words,
        "tokens": summary.tokens,
        "chunks": summary.chunks,
        "model": manifest.model,
        "quantize": manifest.quantize,
        "device": manifest.device,
        "learn": train.get("learn") if isinstance(train, dict) else None,
        "gain": summary.gain,
        "created": manifest.created,
        "opened": manifest.opened,
        "out": manifest.out,
        "disk_bytes": bytes_below(folder) if summary.disk is None else summary.disk,
    }


def _chunk_row(chunk: dict[str, Any]) -> list[str]:
    base, adapter = chunk["nll_base"], chunk["nll_adapter"]
    base = base if math.isfinite(base) else None  # a chunk without tokens
    return [
        f"{chunk['index'] + 1}",
        chunk["origin"],
        f"{len(chunk['tokens'])}",
        " ".join(f"{loss:.3f}" for loss in chunk["train_losses"]) or "-",
        "-" if base is None else f"{base:.3f}",
        "-" if adapter is None else f"{adapter:.3f}",
        "-" if adapter is None or base is None else f"{base - adapter:+.3f}",
        f"{chunk['repetition']:.3f}",
        f"{sum(chunk['seconds'].values()):.1f}",
    ]
