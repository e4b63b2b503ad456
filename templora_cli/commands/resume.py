"""`templora resume`: go on with a book as if it had never stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli import runner
from templora_cli.commands import eval, translate
from templora_cli.commands.terminal import open_view
from templora_cli.config import from_dict
from templora_cli.errors import TemploraError
from templora_cli.events import Notice
from templora_cli.render import View

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel
    from templora_cli.sessions.store import Session


def resume(
    session: Annotated[
        Optional[str], typer.Argument(help="Session id or the beginning of one (default: the last).")
    ] = None,
    words: Annotated[Optional[int], typer.Option(help="Write this many words more.")] = None,
    tokens: Annotated[Optional[int], typer.Option(help="Write this many tokens more.")] = None,
    chunks: Annotated[Optional[int], typer.Option(help="Write this many chunks more.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON event a line on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the prose and errors.")] = False,
) -> None:
    """Go on with a book, token for token as if it had not been stopped.

    A finished book is extended with --words, --tokens or --chunks, counted from where it stands.
    """
    from templora_cli.sessions.store import MEASURED_BY, Store, now

    with open_view(json=json, quiet=quiet) as view, Store().open(session) as book:
        config = from_dict(book.manifest.config, str(book.path / "session.json"))
        more = runner.goal_of(words, tokens, chunks, config.decode.chunk_tokens)
        if book.manifest.task in MEASURED_BY:  # resumed here, its chunks would go by unmeasured
            raise TemploraError(f"{book.id} is measured while it is written", book.resume_command)
        if more is not None and book.manifest.task != "novel":
            raise TemploraError(
                f"{book.id} has the length of its text", f"without a length: {book.resume_command}"
            )
        if more is None and book.manifest.task == "novel" and _is_finished(book):
            _complete_file(book, view)
            raise TemploraError(
                f"{book.id} is finished ({book.manifest.goal_amount} {book.manifest.goal_unit})",
                f"extend it: {book.resume_command} --chunks 4",
            )
        model = load_as_begun(book, view)
        book.update(opened=now(), **({} if more is None else _goal_beyond(book, *more)))
        if book.manifest.task == "ppl":
            eval.finish(book, model, view)
        elif book.manifest.task == "translation":
            translate.finish(book, model, view)
        else:
            runner.write_session(book, model, view)


def load_as_begun(book: Session, view: View) -> LanguageModel:
    """The model of a session as it ran before, not as `auto` would choose today.

    Raises TemploraError where it is another one.
    """
    from templora_cli.translation.task import MOST_LEARNT

    config = from_dict(book.manifest.config, str(book.path / "session.json"))
    held = replace(config.model, quantize=book.manifest.quantize, device=book.manifest.device)
    folder = Path(book.manifest.folder)
    _use_threads(book)
    known = folder if folder.is_dir() else None
    longest = MOST_LEARNT * config.decode.chunk_tokens if book.manifest.task == "translation" else None
    hint = f"nothing is lost: close other programs, then {book.resume_command}"
    # Where it must be, gradients are checkpointed now: they are the same ones.
    train = replace(config.train, gradient_checkpointing="auto")
    begun = replace(config, model=held, train=train)
    _, _, model = runner.load_model(begun, view, known, chunk=longest, hint=hint)
    _require_same_model(book, model, view)
    return model


def _complete_file(book: Session, view: View) -> None:
    """A kill between the last commit and the end leaves the file of `--out` one chunk behind."""
    from templora_cli.sessions.book_file import BookFile

    if notice := BookFile(book).write():
        view.show(Notice(notice))


def _goal_beyond(book: Session, amount: int, unit: str) -> dict[str, Any]:
    """The goal that lies `amount` beyond what the book holds, damaged steps too: they are written again."""
    from templora_cli.sessions.checkpoint import readable_chunks
    from templora_cli.sessions.recorder import done

    return {
        "goal_amount": done(readable_chunks(book.steps), book.manifest.task, unit) + amount,
        "goal_unit": unit,
    }


def _is_finished(book: Session) -> bool:
    from templora_cli.sessions.checkpoint import StepDamaged, read_chunks
    from templora_cli.sessions.recorder import done

    manifest = book.manifest
    try:
        return done(read_chunks(book.steps), manifest.task, manifest.goal_unit) >= manifest.goal_amount
    except StepDamaged:
        return False  # restoring will say what is wrong, and go back to a good step


def _use_threads(book: Session) -> None:
    """Sums in floating point depend on how many threads split them."""
    import torch

    if book.manifest.device == "cpu":
        torch.set_num_threads(book.manifest.threads)


def _require_same_model(book: Session, model: LanguageModel, view: View) -> None:
    """Another model is refused; other libraries and hardware are said: sums may differ in the last bit."""
    if model.fingerprint != book.manifest.fingerprint:
        raise TemploraError(
            f"{book.id} was begun with another {book.manifest.model} than the one in {book.manifest.folder}",
            "put the model back that it was begun with, or begin a new book: templora write --from",
        )
    running, manifest = runner.runtime(model), book.manifest
    began, now = manifest.versions, running["versions"]
    # One may be missing on either side: Triton counts only where it compiles.
    changed = [
        f"{name} {began.get(name, 'none')} -> {now.get(name, 'none')}"
        for name in dict.fromkeys([*began, *now])
        if began.get(name) != now.get(name)
    ]
    for fact in ("hardware", "dtype"):
        if running[fact] != (before := getattr(manifest, fact)):
            changed.append(f"{before} -> {running[fact]}")
    if changed:
        view.show(
            Notice(
                f"the book was begun with others ({', '.join(changed)}): it goes on, but not necessarily "
                "token for token"
            )
        )
