"""Novels as a kind of task: their request and their sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from templora_cli.config import Config
from templora_cli.documents.manuscript import Manuscript
from templora_cli.documents.registry import check_book_suffix
from templora_cli.engine.decoding.banned_phrases import checked_phrases
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Notice, Unit, in_words
from templora_cli.languages import language
from templora_cli.novel.chapter_headings import heading_ranges
from templora_cli.novel.chapters import PlannedTask
from templora_cli.novel.opening import (
    Opening,
    headings_in_book,
    headings_of,
    normalized_opening,
    opening_in_book,
    opening_of,
)
from templora_cli.novel.plan import Plan, plan_text, read_plan
from templora_cli.novel.prompt import NovelPrompt, opening_tokens
from templora_cli.novel.sentence_end import ends_complete
from templora_cli.novel.shown import (
    Shown,
    banned_phrases,
    check_note,
    novel_prompt,
    prose_of,
    shown_in,
    volume_file,
)
from templora_cli.novel.task import Goal, NovelTask
from templora_cli.novel.task import Unit as GoalUnit
from templora_cli.prompt import Section, max_header_tokens, passing_tokens
from templora_cli.prompt_files import PromptFile, load_prompts
from templora_cli.sessions.book_file import BookFile
from templora_cli.sessions.kind import TaskKind, Values
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.new import SHORTER_PROMPTS, HeaderPart, NewSession
from templora_cli.sessions.steps import readable_chunks
from templora_cli.sessions.store import LEDGER_FILE, PLAN_FILE, Session
from templora_cli.text import count_words
from templora_cli.turn import Task

if TYPE_CHECKING:
    from templora_cli.documents.book import Book
    from templora_cli.engine.models.loading import LanguageModel

PROMPTS, SECTIONS = "novel", "sections"
PLANNED = "planned novel"
"""The kind of a novel with a plan of its chapters."""
ALTERNATIVES = {
    "premise": "use --from if the text is the beginning of the book",
    "instruction": SHORTER_PROMPTS,
}
DEFAULT_GOAL = Goal(4096, "tokens")


@dataclass(frozen=True)
class NovelRequest:
    """A book from a premise, from an opening, or from both."""

    premise: str = ""
    opening: Manuscript | str | None = None
    """Human text that is learnt first and then continued, without the white space at its ends."""
    goal: Goal = DEFAULT_GOAL
    out: Path | None = None
    """Output file of the book; its suffix must be that of a format with a writer."""
    kind: str = "novel"
    measured_by: str | None = None
    plan: Plan | None = None
    """The chapters of a `PlannedRequest`; they are its goal."""
    ledger: str = ""
    """The ledger as TOML."""
    volumes: tuple[tuple[str, str], ...] = ()
    """Names and texts of earlier volumes, for recall."""
    note: str = ""
    """The author's note."""
    banned: tuple[str, ...] = ()
    """Words and phrases that the model must not write."""

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """See `Request.new_session`."""
        opening = Opening("") if self.opening is None else opening_of(self.opening)
        if not self.premise and not opening.text and self.plan is None:
            raise TemploraError("nothing to write about", 'templora write --premise "A lighthouse keeper..."')
        if self.out is not None:
            check_book_suffix(self.out)
        if self.plan is not None and self.plan.language:
            language(self.plan.language)  # raises TemploraError for a name that is none
        prompts = tuple(load_prompts(name, config.prompts) for name in (PROMPTS, SECTIONS))
        files = {PLAN_FILE: plan_text(self.plan)} if self.plan else {}
        files |= {LEDGER_FILE: self.ledger} if self.ledger else {}
        files |= {volume_file(index): text for index, (_, text) in enumerate(self.volumes)}
        request = {"premise": self.premise, "opened": self.opening is not None, "note": self.note}
        request |= {"volumes": [name for name, _ in self.volumes]}
        request |= {"banned": list(checked_phrases(self.banned))}
        shown = Shown(self.plan, self.ledger, self.volumes)
        banned_phrases(request, shown)  # raises TemploraError for a phrase that cannot be banned
        prompt = novel_prompt(tokenizer, prompts, request, config.decode, shown)
        check_note(tokenizer, self.note, config.decode)
        goal: tuple[int, str] = (self.goal.amount, self.goal.unit)
        title = "" if self.plan is None else self.plan.title
        return NewSession(
            self.kind,
            config,
            named_after=next(filter(None, (self.premise, title, opening.title, opening.text)), "book"),
            goal=(len(self.plan.chapters), "chapters") if self.plan else goal,
            header_tokens=max_header_tokens(prompt.max_sections, prompt.layout),
            passing_tokens=passing_tokens(prompt.max_sections, prompt.layout),
            header_parts=tuple(_header_part(tokenizer, section) for section in prompt.sections),
            request={**request, **opening.request},
            prompts=prompts,
            opening=() if self.opening is None else opening_tokens(tokenizer, opening.text),
            source=self.opening.text if isinstance(self.opening, Manuscript) else self.opening,
            files=files,
            out=None if self.out is None else self.out.absolute(),
            measured_by=self.measured_by,
        )


@dataclass(frozen=True)
class PlannedRequest(NovelRequest):
    """A book with a `plan` of its chapters."""

    kind: str = PLANNED


class Novel(TaskKind):
    """A book that the model writes; a human opening does not count towards its length."""

    units: tuple[Unit, ...] = ("tokens", "words", "chunks")
    request_keys = frozenset(
        ("premise", "opened", "opening_title", "opening_chapters", "note", "volumes", "banned")
    )
    prompts = frozenset((PROMPTS, SECTIONS))
    can_be_extended = True
    is_prose = True

    def __init__(self, name: str = "novel", *, whole_sentences: bool = True) -> None:
        """With `whole_sentences` a book ends with a complete sentence, otherwise exactly at its goal."""
        self.name, self.whole_sentences = name, whole_sentences

    def task(self, session: Session, model: LanguageModel, config: Config) -> Task:
        """See `TaskKind.task`."""
        shown = shown_in(session)
        prompt = self._prompt(session, model, config, shown)
        chunks = readable_chunks(session.steps)
        opening = opening_in_book(session.opening(), chunks)
        read = [chunk for chunk in chunks if chunk["origin"] == "human"]
        is_read = sum(len(chunk["tokens"]) for chunk in read) == len(opening)
        return NovelTask(
            prompt,
            opening,
            _goal(session.manifest),
            config.decode.chunk_tokens,
            model.tokenizer,
            uncounted_chunks=len(chunks) - sum(map(_counts_as_chunk, chunks)) if is_read else None,
            whole_sentences=self.whole_sentences,
            prose=prose_of(prompt, shown, config),
            banned=banned_phrases(session.manifest.request, shown),
        )

    def _prompt(self, session: Session, model: LanguageModel, config: Config, shown: Shown) -> NovelPrompt:
        """The prompt of a session, with what it is shown and the note that it has now.

        Raises TemploraError if a ledger or a note that the session did not begin with has no room.
        """
        manifest = session.manifest
        prompts = tuple(PromptFile(name, manifest.prompts[name], "") for name in (PROMPTS, SECTIONS))
        prompt = novel_prompt(model.tokenizer, prompts, manifest.request, config.decode, shown)
        header = max_header_tokens(prompt.max_sections, prompt.layout)
        if header > manifest.header_tokens:
            _require_room(session, header, config)
            passing = passing_tokens(prompt.max_sections, prompt.layout)
            session.update(header_tokens=header, passing_tokens=passing)
        return prompt

    def counts(self, chunk: Values) -> bool:
        """See `TaskKind.counts`."""
        return bool(chunk["origin"] != "human")

    def done(self, chunks: Sequence[Values], unit: str) -> int:
        """See `TaskKind.done`."""
        return sum(map(_counts_as_chunk, chunks)) if unit == "chunks" else super().done(chunks, unit)

    def complete(self, chunks: Sequence[Values]) -> bool:
        """See `TaskKind.complete`: the sentence that reaches the goal is completed first."""
        return not self.whole_sentences or ends_complete(_text(chunks))

    def reached(self, manifest: Manifest, done: int, *, complete: bool) -> bool:
        """See `TaskKind.reached`."""
        return _goal(manifest).is_reached(done, complete=complete)

    def end(self, session: Session, chunks: Sequence[Values]) -> Iterator[Event]:
        """See `TaskKind.end`."""
        if not self.complete(chunks):
            overrun, unit = _goal(session.manifest).max_overrun, session.manifest.goal_unit
            excess = "chunk" if overrun == 1 else f"{overrun:,} {unit}"
            yield Notice(
                f"no sentence ended within a further {excess}, so the book ends in the middle of one"
            )
        yield from super().end(session, chunks)

    def opening_tokens(self, session: Session) -> int:
        """See `TaskKind.opening_tokens`."""
        return len(opening_in_book(session.opening(), readable_chunks(session.steps)))

    def has_opening(self, manifest: Manifest) -> bool:
        """See `TaskKind.has_opening`."""
        return bool(manifest.request.get("opened"))

    def check_out(self, manifest: Manifest, out: Path) -> None:
        """See `TaskKind.check_out`."""
        check_book_suffix(out)

    def check_note(self, note: str, model: LanguageModel, config: Config) -> None:
        """See `TaskKind.check_note`."""
        check_note(model.tokenizer, note, config.decode)

    def book_file(self, session: Session) -> BookFile | None:
        """See `TaskKind.book_file`."""
        out = session.manifest.out
        if out is None:
            return None
        return BookFile(session, Path(out), partial(self.book, session.path, session.manifest))

    def book(self, folder: Path, manifest: Manifest, text: str) -> Book:
        """See `TaskKind.book`."""
        from templora_cli.documents.book import book_of_prose

        headings = _opening_headings(folder, manifest, text)
        return book_of_prose(text, manifest.request["opening_title"], headings=headings)

    def facts(self, manifest: Manifest) -> dict[str, str]:
        """See `TaskKind.facts`."""
        facts = {"premise": str(manifest.request.get("premise", ""))}
        banned = manifest.request.get("banned")
        return {**facts, "banned": in_words(len(banned), "phrases")} if banned else facts


class PlannedNovel(Novel):
    """A book that the model writes chapter by chapter, after a plan."""

    units: tuple[Unit, ...] = ("chapters",)
    can_be_extended = False
    has_chapters = True

    def task(self, session: Session, model: LanguageModel, config: Config) -> Task:
        """See `TaskKind.task`. Raises TemploraError if a written chapter was changed in the plan."""
        shown = shown_in(session)
        prompt = self._prompt(session, model, config, shown)
        assert prompt.plan is not None
        check_written(session, prompt.plan)
        if len(prompt.plan.chapters) != session.manifest.goal_amount:
            session.update(goal_amount=len(prompt.plan.chapters))
        return PlannedTask(
            prompt,
            opening_in_book(session.opening(), readable_chunks(session.steps)),
            prompt.plan,
            config.decode.chunk_tokens,
            model.tokenizer,
            end_tokens=model.end_tokens,
            prose=prose_of(prompt, shown, config),
            banned=banned_phrases(session.manifest.request, shown),
        )

    def done(self, chunks: Sequence[Values], unit: str) -> int:
        """See `TaskKind.done`."""
        if unit == "chapters":
            return written_chapters(chunks)
        return super().done(chunks, unit)

    def complete(self, chunks: Sequence[Values]) -> bool:
        """See `TaskKind.complete`: a chapter has its end in its own chunk."""
        return True

    def reached(self, manifest: Manifest, done: int, *, complete: bool) -> bool:
        """See `TaskKind.reached`."""
        return done >= manifest.goal_amount

    def check_chunks(self, session: Session, chunks: Sequence[Values]) -> None:
        """See `TaskKind.check_chunks`."""
        plan = shown_in(session).plan
        assert plan is not None
        check_written(session, plan, chunks)

    def chapter_starts(self, chunks: Sequence[Values]) -> list[int]:
        """See `TaskKind.chapter_starts`."""
        starts: dict[int, int] = {}
        for index, chunk in enumerate(chunks):
            for record in _chapter_records([chunk]):
                starts.setdefault(record["chapter"], index)
        return [starts[chapter] for chapter in sorted(starts)]

    def ends_chapter(self, chunks: Sequence[Values]) -> bool:
        """See `TaskKind.ends_chapter`."""
        return any(record.get("chapter_end") for record in _chapter_records(chunks[-1:]))

    def extend_command(self, session: Session) -> str | None:
        """See `TaskKind.extend_command`: more chapters are added to the plan."""
        return f"templora plan {session.id} --edit"

    def book(self, folder: Path, manifest: Manifest, text: str) -> Book:
        """See `TaskKind.book`. A damaged plan costs the headings their marks, not the book its file."""
        from templora_cli.documents.book import book_of_prose

        try:
            plan = read_plan((folder / PLAN_FILE).read_text("utf-8"))
        except (OSError, UnicodeDecodeError, TemploraError):
            return super().book(folder, manifest, text)
        sections = PromptFile(SECTIONS, manifest.prompts[SECTIONS], "")
        of_opening = _opening_headings(folder, manifest, text)
        start = max((end for _, end in of_opening), default=0)
        headings = [*of_opening, *heading_ranges(text, plan, sections, start)]
        return book_of_prose(
            text,
            manifest.request["opening_title"] or plan.title,
            plan.author,
            language(plan.language).code if plan.language else "",
            headings=headings,
        )


def _counts_as_chunk(chunk: Values) -> bool:
    """Does a chunk count for a goal in chunks? A page that became too long is one, however it is divided."""
    return bool(chunk["origin"] != "human" and not chunk.get("continues"))


def _opening_headings(folder: Path, manifest: Manifest, text: str) -> list[tuple[int, int]]:
    """The ranges of the headings of the opening in the text of a book."""
    headings = headings_of(manifest.request["opening_chapters"])
    if not headings:
        return []
    try:
        given = normalized_opening((folder / "source.txt").read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return headings
    return headings_in_book(headings, given, text)


def written_chapters(chunks: Sequence[Values]) -> int:
    """The number of chapters of a plan that are written to their ends."""
    return sum(bool(record.get("chapter_end")) for record in _chapter_records(chunks))


def begun_chapters(chunks: Sequence[Values]) -> int:
    """The number of chapters of a plan that are begun or written."""
    return max((record["chapter"] + 1 for record in _chapter_records(chunks)), default=0)


def check_written(session: Session, plan: Plan, chunks: Sequence[Values] | None = None) -> None:
    """Raise TemploraError if chapters of the plan that are written were changed, or begun ones renamed.

    `chunks` are those of the session, or those that it is to have.
    """
    chunks = readable_chunks(session.steps) if chunks is None else chunks
    written = written_chapters(chunks)
    for record in _chapter_records(chunks):
        index = record["chapter"]
        chapter = plan.chapters[index] if index < len(plan.chapters) else None
        is_same = chapter is not None and chapter.title == record.get("title")
        if chapter is None or not is_same or record.get("digest") not in (None, chapter.digest):
            name = f", {record['title']}," if record.get("title") else ""
            is_written = index < written
            fault = "written and must stay as it is" if is_written else "begun and must keep title and number"
            raise TemploraError(
                f"{session.plan_path}: chapter {index + 1}{name} is {fault}",
                f"put it back: templora plan {session.id} --edit",
            )


def _chapter_records(chunks: Sequence[Values]) -> Iterator[dict[str, Any]]:
    """The records of chunks that belong to a chapter. Damaged ones are left out: restoring reports them."""
    for chunk in chunks:
        record = chunk.get("record")
        if isinstance(record, dict) and isinstance(record.get("chapter"), int) and record["chapter"] >= 0:
            yield record


def _require_room(session: Session, header: int, config: Config) -> None:
    """Raise TemploraError if a header of this length, the window and a chunk are too long for the model."""
    from templora_cli.engine.models.shape import most_tokens

    max_tokens = most_tokens(Path(session.manifest.folder))
    needed = header + config.decode.context_tokens + session.manifest.longest_chunk
    if max_tokens is not None and needed > max_tokens:
        raise TemploraError(
            f"with the ledger and the note a prompt may have {needed:,} tokens; "
            f"this model reads {max_tokens:,}",
            f'remove the note: {session.resume_command} --note "", or empty the ledger: '
            f"templora ledger {session.id} edit",
        )


def _goal(manifest: Manifest) -> Goal:
    return Goal(manifest.goal_amount, cast(GoalUnit, manifest.goal_unit))


def _header_part(tokenizer: Any, section: Section) -> HeaderPart:
    text = "\n\n".join(section.items)
    tokens = len(tokenizer.encode(text, add_special_tokens=False))
    return HeaderPart(f"the {section.name}", tokens, count_words(text), ALTERNATIVES.get(section.name, ""))


def _text(chunks: Sequence[Values]) -> str:
    return "".join(chunk["text"] for chunk in chunks)
