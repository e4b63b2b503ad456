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
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Notice, Unit
from templora_cli.novel.opening import Opening, headings_of, opening_of
from templora_cli.novel.prompt import NovelPrompt, opening_tokens
from templora_cli.novel.sentence_end import ends_complete
from templora_cli.novel.task import Goal, NovelTask
from templora_cli.novel.task import Unit as GoalUnit
from templora_cli.prompt import Section, max_header_tokens
from templora_cli.prompt_files import PromptFile, load_prompts
from templora_cli.sessions.book_file import BookFile
from templora_cli.sessions.kind import TaskKind, Values
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.new import SHORTER_PROMPTS, HeaderPart, NewSession
from templora_cli.sessions.store import Session
from templora_cli.text import count_words

if TYPE_CHECKING:
    from templora_cli.documents.book import Book
    from templora_cli.engine.models.loading import LanguageModel

PROMPTS = "novel"
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

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """See `Request.new_session`."""
        opening = Opening("") if self.opening is None else opening_of(self.opening)
        if not self.premise and not opening.text:
            raise TemploraError("nothing to write about", 'templora write --premise "A lighthouse keeper..."')
        if self.out is not None:
            check_book_suffix(self.out)
        texts = load_prompts(PROMPTS, config.prompts)
        prompt = _prompt(tokenizer, texts, self.premise, self.opening is not None, config)
        return NewSession(
            self.kind,
            config,
            named_after=self.premise or opening.title or opening.text,
            goal=(self.goal.amount, self.goal.unit),
            header_tokens=max_header_tokens(prompt.sections, prompt.layout),
            header_parts=tuple(_header_part(tokenizer, section) for section in prompt.sections),
            request={"premise": self.premise, "opened": self.opening is not None, **opening.request},
            prompts=(texts,),
            opening=() if self.opening is None else opening_tokens(tokenizer, opening.text),
            source=self.opening.text if isinstance(self.opening, Manuscript) else self.opening,
            out=None if self.out is None else self.out.absolute(),
            measured_by=self.measured_by,
        )


class Novel(TaskKind):
    """A book that the model writes; a human opening does not count towards its length."""

    units: tuple[Unit, ...] = ("tokens", "words", "chunks")
    request_keys = frozenset(("premise", "opened", "opening_title", "opening_chapters"))
    prompts = frozenset((PROMPTS,))
    can_be_extended = True

    def __init__(self, name: str = "novel", *, whole_sentences: bool = True) -> None:
        """With `whole_sentences` a book ends with a complete sentence, otherwise exactly at its goal."""
        self.name, self.whole_sentences = name, whole_sentences

    def task(self, session: Session, model: LanguageModel, config: Config) -> NovelTask:
        """See `TaskKind.task`."""
        manifest = session.manifest
        texts = PromptFile(PROMPTS, manifest.prompts[PROMPTS], "")
        request = manifest.request
        prompt = _prompt(model.tokenizer, texts, request["premise"], request["opened"], config)
        return NovelTask(
            prompt,
            session.opening(),
            _goal(manifest),
            config.decode.chunk_tokens,
            model.tokenizer,
            whole_sentences=self.whole_sentences,
        )

    def counts(self, chunk: Values) -> bool:
        """See `TaskKind.counts`."""
        return bool(chunk["origin"] == "generated")

    def done(self, chunks: Sequence[Values], unit: str) -> int:
        """See `TaskKind.done`."""
        return sum(map(self.counts, chunks)) if unit == "chunks" else super().done(chunks, unit)

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
        return len(session.opening())

    def has_opening(self, manifest: Manifest) -> bool:
        """See `TaskKind.has_opening`."""
        return bool(manifest.request.get("opened"))

    def check_out(self, manifest: Manifest, out: Path) -> None:
        """See `TaskKind.check_out`."""
        check_book_suffix(out)

    def book_file(self, session: Session) -> BookFile | None:
        """See `TaskKind.book_file`."""
        out = session.manifest.out
        return None if out is None else BookFile(session, Path(out), partial(self.book, session.manifest))

    def book(self, manifest: Manifest, text: str) -> Book:
        """See `TaskKind.book`."""
        from templora_cli.documents.book import book_of_prose

        headings = headings_of(manifest.request["opening_chapters"])
        return book_of_prose(text, manifest.request["opening_title"], headings=headings)

    def facts(self, manifest: Manifest) -> dict[str, str]:
        """See `TaskKind.facts`."""
        return {"premise": str(manifest.request.get("premise", ""))}


def _goal(manifest: Manifest) -> Goal:
    return Goal(manifest.goal_amount, cast(GoalUnit, manifest.goal_unit))


def _header_part(tokenizer: Any, section: Section) -> HeaderPart:
    text = "\n\n".join(section.items)
    tokens = len(tokenizer.encode(text, add_special_tokens=False))
    return HeaderPart(f"the {section.name}", tokens, count_words(text), ALTERNATIVES.get(section.name, ""))


def _text(chunks: Sequence[Values]) -> str:
    return "".join(chunk["text"] for chunk in chunks)


def _prompt(
    tokenizer: Any, texts: PromptFile, premise: str, has_opening: bool, config: Config
) -> NovelPrompt:
    return NovelPrompt(tokenizer, texts, premise, has_opening, config.decode.context_tokens)
