"""`templora plan`: a plan that a model proposes, and the plan of a session."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from templora_cli.commands import flags
from templora_cli.commands.arguments import check_no_folder, check_writable, read_file, read_premise
from templora_cli.commands.editor import find_editor, run_editor
from templora_cli.commands.paths import expand_home
from templora_cli.commands.settings import GivenSettings, flag_name
from templora_cli.commands.terminal import engine_in_use, noting, open_view, say, working
from templora_cli.errors import TemploraError, of_os_error
from templora_cli.files import unused_name, write_atomically
from templora_cli.interrupts import STOPPED, ignore_ctrl_c
from templora_cli.render.figures import count_of
from templora_cli.render.lines import screen_lines, terminal_width

if TYPE_CHECKING:
    from templora_cli.config import Config
    from templora_cli.novel.plan import Plan, PlannedChapter
    from templora_cli.render.view import View
    from templora_cli.sessions.store import Session

DEFAULT_CHAPTERS = 12
EDITED = "plan.edited.md"
"""The plan while it is edited, in the folder of its session. An edit with a mistake stays in it."""
EXAMPLE = 'templora plan --premise "A lighthouse keeper..." --chapters 12 --out book.plan.md'
PANEL = "Plan"


@flags.takes_settings(
    *("model.name", "model.quantize", "model.device", "decode.context_tokens", "decode.temperature"),
    *("decode.top_p", "seed"),
    prefer="generated",
    task="novel",
    help={
        "decode.context_tokens": "Tokens of earlier chapters that the model sees (0 or more, default 2048)."
    },
)
def plan(
    session: Annotated[
        Optional[str],
        typer.Argument(
            help="Session with a plan: its id, or the first letters (default: the last one with a plan)."
        ),
    ] = None,
    premise: Annotated[
        Optional[str],
        typer.Option(help="Subject of a new plan; - reads it from standard input.", rich_help_panel=PANEL),
    ] = None,
    premise_file: Annotated[
        Optional[Path],
        typer.Option(help="File with the premise.", rich_help_panel=PANEL, callback=expand_home),
    ] = None,
    chapters: Annotated[
        Optional[int],
        typer.Option(
            help=f"Number of chapters of a new plan (default {DEFAULT_CHAPTERS}).", rich_help_panel=PANEL
        ),
    ] = None,
    out: Annotated[
        Optional[Path],
        typer.Option(help="File for a new plan (.md).", rich_help_panel=PANEL, callback=expand_home),
    ] = None,
    edit: Annotated[
        bool,
        typer.Option("--edit", help="Edit the plan of the session in your editor.", rich_help_panel=PANEL),
    ] = False,
    *,
    settings: GivenSettings,
) -> None:
    """Propose a plan from a premise, or show or edit the plan of a session.

    With --premise, a model that follows instructions proposes a title, and then what happens in each chapter.
    You can change the file before a book is written from it. While it is written, the chapters that are not
    written yet can be changed, moved, added and removed with --edit.
    """
    is_new = any(value is not None for value in (premise, premise_file, chapters, out))
    if is_new and (session is not None or edit):
        other = "--edit" if edit else f"the session {session}"
        raise TemploraError(f"{other} and the flags of a new plan cannot be combined", EXAMPLE)
    if is_new:
        _propose(premise, premise_file, DEFAULT_CHAPTERS if chapters is None else chapters, out, settings)
        return
    settings.resolve()  # raises TemploraError for a value that is not valid
    for setting in settings.flags:
        raise TemploraError(f"{flag_name(setting)} is for a new plan, which needs --premise", EXAMPLE)
    if edit:
        _edit(_folder(session))
    else:
        _show(_folder(session))


# --- a new plan ------------------------------------------------------------------------------------------


def _propose(
    premise: str | None, premise_file: Path | None, chapters: int, out: Path | None, settings: GivenSettings
) -> None:
    """Let a model propose a plan, and print and save it while it grows."""
    with open_view(json=False, quiet=False, prose=False) as (view, _):
        config = settings.resolve()
        _check_count(chapters)
        text = read_premise(premise, premise_file, required=True, notify=noting(view), command="plan")
        path = None if out is None else _checked_out(out)
        _follow(_plans(text, chapters, config, view), chapters, path)


def propose_for_book(premise: str, chapters: int, book: Path | None, config: Config) -> Plan:
    """Let a model propose the plan of a book that is written next; prints and saves it.

    The file stands beside that of the `book`, or in the working folder.
    """
    plan = unused_name((book or Path("book.md")).with_suffix(".plan.md"))
    with open_view(json=False, quiet=False, prose=False) as (view, _):
        path = _checked_out(plan)
        _follow(_plans(premise, chapters, config, view), chapters, path, err=True)
    return read_plan_file(path)


def check_chapters(chapters: int, name: str | None) -> None:
    """Raise TemploraError for a wrong number of chapters, or if a session has the `name` of the new book."""
    from templora_cli.sessions.names import checked_name
    from templora_cli.sessions.store import Store

    _check_count(chapters)
    if name is not None:
        Store().require_free(checked_name(name, "--name {}"))


def _plans(premise: str, chapters: int, config: Config, view: View) -> Iterator[Plan]:
    """The growing plan; loads the model first."""
    from templora_cli.novel.proposal import ProposalRequest, propose
    from templora_cli.prepare import prepare

    engine = engine_in_use()
    prepared = prepare(ProposalRequest(premise, chapters), config, notify=view.show, engine=engine)
    backend = engine.backend(prepared.model, config.decode.backend)
    view.close()
    return propose(premise, chapters, prepared.model, backend, config, seed=config.seed, notify=_note)


def _check_count(chapters: int) -> None:
    from templora_cli.novel.plan import MAX_CHAPTERS

    if not 1 <= chapters <= MAX_CHAPTERS:
        raise TemploraError(f"--chapters {chapters}: must be from 1 to {MAX_CHAPTERS}", "--chapters 12")


def _checked_out(out: Path) -> Path:
    """The absolute path for a new plan. Raises TemploraError if it cannot be written, or exists."""
    check_no_folder(out, "book.plan.md")
    if out.suffix.lower() != ".md":
        raise TemploraError(
            f"{out.name}: a plan is written as .md", f"--out {shlex.quote(str(out.with_suffix('.md')))}"
        )
    return check_writable(out)


def _note(message: str) -> None:
    say(f"note: {message}", err=True)


def _follow(plans: Iterator[Plan], chapters: int, path: Path | None, *, err: bool = False) -> None:
    """Print a plan while it grows, with `err` to standard error, and save it from its first chapter on.

    Raises TemploraError if it cannot be completed; the error names the chapters that there are.
    """
    from templora_cli.novel.plan import plan_text

    done, text = 0, ""
    try:
        while True:
            asked = f"planning chapter {done + 1} of {chapters}" if text else "planning the title"
            with working(asked):
                grown = next(plans, None)
            if grown is None:
                break
            before, text, done = text, plan_text(grown), len(grown.chapters)
            if path is not None and done:
                write_atomically(path, text)
            say(text[len(before) :].removesuffix("\n"), err=err)
    except KeyboardInterrupt:
        ignore_ctrl_c()
        _note(f"stopped; {_existing(done, path)}")
        raise typer.Exit(STOPPED) from None
    except TemploraError as error:
        raise TemploraError(f"{error.message}; {_existing(done, path)}", error.hint) from None
    if path is not None:
        say(f"the plan is in {path}", err=True)
        if not err:
            say(f"to write it: templora write --plan {shlex.quote(str(path))}", err=True)


def _existing(chapters: int, path: Path | None) -> str:
    """Which chapters of a plan there are when it cannot be completed."""
    if not chapters:
        return "no chapter was planned"
    place = "printed above" if path is None else f"in {path}"
    return f"{count_of(chapters, 'chapter')} {'is' if chapters == 1 else 'are'} {place}"


# --- the plan of a session -------------------------------------------------------------------------------


def _folder(reference: str | None) -> Path:
    """The folder of a session with a plan. Raises TemploraError if there is none."""
    from templora_cli.novel.kind import PLANNED
    from templora_cli.sessions.store import Store

    if reference is not None and os.path.isfile(reference):  # noqa: PTH113  (False for impossible names)
        raise TemploraError(
            f"{reference} is a file, not a session",
            f"to write it: templora write --plan {shlex.quote(reference)}",
        )
    store = Store()
    begin = "to begin a book with one: templora write --plan FILE"
    if reference is None and (reference := store.last(PLANNED)) is None:
        raise TemploraError(f"no session in {store.folder} has a plan", begin)
    path = store.find(reference)
    if not _plan_file(path).is_file():
        raise TemploraError(f"session {path.name} has no plan", begin)
    return path


def _plan_file(folder: Path) -> Path:
    from templora_cli.sessions.store import PLAN_FILE

    return folder / PLAN_FILE


def read_plan_file(file: Path, encoding: str | None = None) -> Plan:
    """The plan in a file. Raises TemploraError that names the file and the line."""
    from templora_cli.novel.plan import plan_in

    return plan_in(file, read_file(file, "the plan", encoding))


def _written(folder: Path) -> tuple[int, int]:
    """The number of chapters of a session that are written, and of those that are at least begun."""
    from templora_cli.novel.kind import begun_chapters, written_chapters
    from templora_cli.sessions.steps import readable_chunks

    chunks = readable_chunks(folder / "steps")
    return written_chapters(chunks), begun_chapters(chunks)


def _show(folder: Path) -> None:
    """Print the plan of a session, with a mark for each chapter that is written or begun."""
    plan, (written, begun) = read_plan_file(_plan_file(folder)), _written(folder)
    facts = (plan.author, plan.language, plan.point_of_view, plan.tense, plan.style)
    for text in (plan.title, " · ".join(filter(None, facts)), plan.premise):
        if text:
            _print(text)
    part = None
    for number, chapter in enumerate(plan.chapters, 1):
        if chapter.part not in (None, part):
            _print(f"\n{chapter.part}")
        part = chapter.part
        say()
        mark = "[x] " if number <= written else "[~] " if number <= begun else "[ ] "
        _print_chapter(chapter, number, mark)
    say()
    say(f"{written:,} of {count_of(len(plan.chapters), 'chapter')} written")


def _print_chapter(chapter: PlannedChapter, number: int, mark: str) -> None:
    length = "" if chapter.words is None else f"({chapter.words:,} words)"
    heading = " ".join(filter(None, (f"{number}.", chapter.title, length)))
    _print(heading, mark)
    for line in chapter.summary.split("\n"):
        if line:
            _print(line, "    ")


def _print(text: str, indent: str = "") -> None:
    """Print text after an indent that its further lines keep on a terminal."""
    width = terminal_width(sys.stdout) if sys.stdout.isatty() else None
    for line in screen_lines(text, width, indent, hanging=" " * len(indent)):
        print(line, flush=True)


def _edit(folder: Path) -> None:
    """Let a person edit the plan of a session; check it, and say what changed.

    The session is locked meanwhile, so that no chapter is written from the plan before.
    """
    from templora_cli.sessions.store import Store

    editor, draft = find_editor(), folder / EDITED
    again = f"templora plan {folder.name} --edit"
    with Store().open(folder.name) as book:
        if draft.exists():
            _note(f"this is your last edit, which was not applied; to begin from the plan, delete {draft}")
        else:
            write_atomically(draft, book.plan_path.read_bytes())
        run_editor(editor, draft, remark="; the plan is unchanged", hint=again)
        try:
            lines = _apply(book, draft)
        except (TemploraError, OSError) as error:
            fault = of_os_error(error) if isinstance(error, OSError) else error
            hint = fault.hint or "correct this"
            raise TemploraError(
                f"{fault.message}; the plan is unchanged, and your edit is in {draft}",
                hint if hint.endswith(again) else f"{hint}; to open it again: {again}",
            ) from None
    for line in lines or ["the plan is unchanged"]:
        _print(line)


def _apply(book: Session, draft: Path) -> list[str]:
    """Replace the plan of a session by an edited one; returns the changes in words.

    Raises TemploraError if it is not a plan, or if a chapter that is written was changed.
    """
    from templora_cli.novel.kind import check_written
    from templora_cli.novel.plan import changes

    new = read_plan_file(draft)
    lines = changes(read_plan_file(book.plan_path), new, _written(book.path)[0])
    check_written(book, new)
    write_atomically(book.plan_path, draft.read_bytes())
    draft.unlink()
    if book.manifest.goal_unit == "chapters" and book.manifest.goal_amount != len(new.chapters):
        book.update(goal_amount=len(new.chapters))
    return lines
