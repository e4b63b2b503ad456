"""Write a book page by page: after each one its author decides what becomes of it (`--ask`)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from templora_cli.commands.editor import find_editor, run_editor
from templora_cli.commands.terminal import follow, say
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Notice, Proposed, RebuildStarted, TextBefore, TextDecoded
from templora_cli.interrupts import STOPPED, ignore_ctrl_c
from templora_cli.render.error_view import show_error
from templora_cli.render.figures import count_of

if TYPE_CHECKING:
    from templora_cli.render.view import View
    from templora_cli.run import Run

Ask = Annotated[
    Optional[Literal["chunk", "chapter"]],
    typer.Option(
        help="Stop after each chunk (--ask) or chapter (--ask chapter), and decide about it.",
        metavar="[chunk|chapter]",
    ),
]
QUESTION = "[Enter] keep  [e]dit  [r]ewrite  [n]ote  [u]ndo  [p]rompt  [q]uit  [?] > "
HELP = """\
Enter  keep it: it is learnt as text that you accepted
e      edit it in your editor; what you change is learnt as yours
r      write it again; r3 writes three versions to choose from
n      give a note for what comes next
u      drop this page, and decide about the one before it again
p      show the prompt that it was written from
q      stop; it waits for you"""
MAX_CANDIDATES = 9

Read = Callable[[str], Optional[str]]
"""Shows a question and returns the answer; None at the end of the input."""


def read_line(question: str) -> str | None:
    """Ask on standard error, and read a line of standard input that is typed after the question."""
    if sys.stdin and sys.stdin.isatty():
        with suppress(ImportError, OSError):  # there is no termios on Windows
            import termios

            termios.tcflush(sys.stdin, termios.TCIFLUSH)
    print(question, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline() if sys.stdin else ""
    if not line:
        print(file=sys.stderr)
    return line.strip() if line else None


def check_ask(ask: str | None, *, json: bool, has_chapters: bool = True) -> None:
    """Raise TemploraError if --ask is used where nobody could answer, or where there are no chapters."""
    if ask == "chapter" and not has_chapters:
        raise TemploraError("--ask chapter needs a plan of chapters", "use --ask, or --plan FILE")
    if ask is not None and json:
        raise TemploraError("--ask and --json cannot be combined", "leave one of them out")


def has_prose(ask: str | None) -> bool:
    """Does the prose go to standard output? A file or pipe would get pages that are not kept."""
    return ask is None or sys.stdout.isatty()


def write_book(
    run: Run, view: View, stop: threading.Event, ask: Literal["chunk", "chapter"] | None
) -> Event | None:
    """Write the book of a run to its end, and `ask` its author about each page; returns the last event."""
    if ask is None:
        return follow(run, run.events(stop), view, stop)
    if not run.kind.is_prose:
        raise TemploraError(f"{run.session.id} is no novel, and has no pages to ask about", "leave out --ask")
    return AskingAuthor(run, view, stop, ask).write()


@dataclass
class AskingAuthor:
    """Writes the book of a run page by page and asks its author about each."""

    run: Run
    view: View
    stop: threading.Event
    page: Literal["chunk", "chapter"]
    read: Read = read_line
    candidates: int | None = field(default=None, init=False)
    """How many versions of the next page to write."""
    _begun: bool = field(default=False, init=False)
    _is_on_screen: bool = field(default=False, init=False)
    """Was the text of the page shown while it was written?"""

    def write(self) -> Event | None:
        """Write and ask to the end of the book; returns the last event.

        Raises typer.Exit if the author stops.
        """
        if self.page == "chapter" and not self.run.kind.has_chapters:
            raise TemploraError(
                f"{self.run.session.id} has no plan, and so no chapters to stop after", "use --ask"
            )
        while True:
            events = self.run.events(self.stop, propose=self.page, candidates=self.candidates)
            last = follow(self.run, self._once(events), self.view, self.stop)
            if not isinstance(last, Proposed):
                return last
            self.view.pause()
            try:
                if self.candidates:
                    self._choose()
                elif not self._is_on_screen:
                    say(last.text.strip(), err=True)
                self.candidates = None
                self._decide()
            except KeyboardInterrupt:
                ignore_ctrl_c()
                self._say_that_it_waits()
                raise typer.Exit(STOPPED) from None

    def _once(self, events: Generator[Event, None, None]) -> Generator[Event, None, None]:
        """The events of one page. The text before it is shown once, and versions are listed later."""
        self._is_on_screen = False
        with closing(events):
            for event in events:
                is_old = isinstance(event, TextBefore) and self._begun
                is_listed = isinstance(event, TextDecoded) and self.candidates is not None
                self._is_on_screen |= isinstance(event, TextDecoded) and sys.stdout.isatty()
                if not is_old and not is_listed:
                    yield event
        self._begun = True

    def _decide(self) -> None:
        """Ask until the author has decided about the page."""
        actions: dict[str, Callable[[], bool]] = {
            "": self._keep,
            "e": self._edit,
            "r": self._rewrite,
            "n": self._note,
            "u": self._undo,
            "p": self._show_prompt,
            "?": self._help,
        }
        while True:
            answer = self.read(QUESTION)
            if answer is None or answer.lower() in ("q", "quit"):
                self._say_that_it_waits()
                raise typer.Exit(0)
            number = answer[1:].strip()
            if answer[:1].lower() == "r" and number.isdecimal():
                done = self._rewrite(int(number))
            elif (action := actions.get(answer.lower()[:1])) is not None and len(answer) <= 1:
                done = action()
            else:
                say(f"there is no answer {answer}", err=True)
                done = self._help()
            if done:
                return

    def _keep(self) -> bool:
        from templora_cli.novel.revised_chunks import accepted

        part = self.run.proposed
        self._change([accepted(c) if c["index"] in part else c for c in self.run.chunks])
        return True

    def _edit(self) -> bool:
        from templora_cli.novel.revised_chunks import ChunkReviser
        from templora_cli.novel.revision import revise
        from templora_cli.sessions.versions import Reason

        run = self.run
        chunks, part = run.chunks, run.proposed
        before = "".join(chunks[index]["text"] for index in part)
        try:
            path = self._edited_page(before)
            text = path.read_text("utf-8")
            revision = revise(before, text)
            if not revision.text.strip():
                path.unlink()
                raise TemploraError(
                    "nothing was left of the page: it is as it was", "to have it written again, press r"
                )
            reviser = ChunkReviser(run.model.tokenizer, run.session.manifest.longest_chunk)
            revised = reviser.revised(chunks[part.start :], revision, chunks[: part.start])
        except (TemploraError, OSError, UnicodeDecodeError) as error:
            show_error(sys.stderr, error if isinstance(error, TemploraError) else TemploraError(str(error)))
            return False
        if revision.paragraphs:
            reason = Reason("edit", f"a page: {count_of(revision.paragraphs, 'paragraph')}")
            self._change([*chunks[: part.start], *revised], reason)
            say(revision.text.strip(), err=True)
        else:
            say("nothing was changed", err=True)
        if path.read_text("utf-8") == text:
            path.unlink()
        return False

    def _edited_page(self, before: str) -> Path:
        """The file of the page after its author has edited it. Raises TemploraError if the editor fails."""
        from templora_cli.files import write_atomically
        from templora_cli.sessions.store import sha256_of

        editor, folder = find_editor(), self.run.session.path
        path = folder / f"page-{sha256_of(before)[:8]}.md"  # each page has a file of its own
        for other in folder.glob("page-*.md"):
            if other != path:
                say(f"your edit of another page was not applied; it is in {other}", err=True)
        if path.exists():
            say("your last edit of this page was not applied: it is open again", err=True)
        else:
            write_atomically(path, before)
        run_editor(editor, path, hint="press e to go on with it")
        return path

    def _rewrite(self, candidates: int = 1) -> bool:
        from templora_cli.sessions.steps import StepDamagedError
        from templora_cli.sessions.versions import Reason

        if candidates > 1 and self.page == "chapter":
            say("versions to choose from are written page by page: --ask without chapter", err=True)
            return False
        if not 1 <= candidates <= MAX_CANDIDATES:
            say(f"r1 to r{MAX_CANDIDATES}", err=True)
            return False
        reason, start = Reason("rewrite", "a page", redraws=True), self.run.proposed.start
        try:
            for event in self.run.take_back(start, reason=reason):
                self.view.show(event)
        except StepDamagedError:  # its checkpoint is not there
            self._change(self.run.chunks[:start], reason)
        self.candidates = candidates if candidates > 1 else None
        return True

    def _choose(self) -> None:
        """Let the author choose one of several versions of the page."""
        from templora_cli.sessions.steps import committed_steps, read_whole_chunk

        whole = read_whole_chunk(committed_steps(self.run.session.steps)[-1])
        own = {key: whole[key] for key in ("tokens", "text", "record", "unlearnt", "rejection_reason")}
        versions = [{**own, "number": whole["candidate"]}, *whole.get("others", ())]
        for number, version in enumerate(versions, 1):
            say(f"--- {number} ---\n{version['text'].strip()}", err=True)
        while True:
            answer = self.read(f"which one? [1-{len(versions)}] > ")
            if answer is None or answer in ("", "1"):
                say("it is version 1", err=True)
                return
            if answer.isdecimal() and 1 < int(answer) <= len(versions):
                break
        chosen = versions.pop(int(answer) - 1)
        values: dict[str, Any] = {key: chosen[key] for key in own}
        last = {**self.run.chunks[-1], **values, "candidate": chosen["number"], "others": versions}
        self._change([*self.run.chunks[:-1], last])

    def _note(self) -> bool:
        note = self.read("note for what comes next (Enter alone removes it) > ")
        if note is not None:
            try:
                self.run.set_note(note)
                say("it is in the prompt from the next page on" if note else "there is no note now", err=True)
            except TemploraError as error:
                show_error(sys.stderr, error)
        return False

    def _undo(self) -> bool:
        from templora_cli.sessions.versions import Reason

        chunks, first = self.run.chunks, self.run.proposed.start
        end = first - 1
        while (
            self.page == "chapter"
            and end > 0
            and chunks[end - 1]["origin"] != "human"
            and not self.run.kind.ends_chapter(chunks[:end])
        ):
            end -= 1
        while end > 0 and chunks[end].get("continues"):
            end -= 1
        if end < 0 or chunks[end]["origin"] == "human":
            say("there is no page before this one to take back", err=True)
            return False
        undecided = [{**c, "origin": "generated", "proposed": True} for c in chunks[end:first]]
        self._change([*chunks[:end], *undecided], Reason("undo", "a page", redraws=True))
        say("".join(chunk["text"] for chunk in undecided).strip(), err=True)
        return False

    def _show_prompt(self) -> bool:
        from templora_cli.sessions.steps import committed_steps, read_whole_chunk

        prompt = read_whole_chunk(committed_steps(self.run.session.steps)[self.run.proposed.start])["prompt"]
        for name, items in prompt["sections"].items():
            say(f"[{name}]\n" + "\n".join(items), err=True)
        context = count_of(len(prompt["context"]), "token")
        say(f"[the book]\nits last {context}" if prompt["context"] else "[the book]\nnothing yet", err=True)
        return False

    def _help(self) -> bool:
        say(HELP, err=True)
        return False

    def _change(self, chunks: list[dict[str, Any]], reason: Any = None) -> None:
        """Replace the chunks of the book; what is decided is learnt."""
        with closing(self.run.relearn(chunks, self.stop, reason=reason)) as events:
            for event in events:
                if not isinstance(event, RebuildStarted):
                    self.view.show(event)
        self.view.pause()
        if self.stop.is_set():  # Python may drop the exception of Ctrl-C
            raise KeyboardInterrupt

    def _say_that_it_waits(self) -> None:
        self.view.show(Notice(f"this page waits for you: {self.run.session.resume_command} --ask"))
