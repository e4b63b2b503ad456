"""Edited drafts, for measurements: the model writes each chunk of a book, and its author corrects some of it.

The author is played by the true text of the book: one paragraph of `1 / share` is replaced by the true one
that stands in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templora_cli.config import Config, DecodeConfig
from templora_cli.events import Event, TextDecoded, Unit
from templora_cli.novel.revised_chunks import ChunkReviser, Scope
from templora_cli.novel.revision import revise
from templora_cli.prompt import fixed_header
from templora_cli.reading import reading_tokens
from templora_cli.sessions.kind import TaskKind, Values
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.new import NewSession
from templora_cli.sessions.store import Session
from templora_cli.text import TextStream, decode, sentences
from templora_cli.turn import Chunk, ChunkPart, Compose, Decode, Given, mask_of, replay_turn

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel

PARAGRAPH = "\n\n"


@dataclass(frozen=True)
class EditingRequest:
    """A book of which the model drafts each chunk after the first `seen_tokens`."""

    text: str
    name: str
    limit_tokens: int
    seen_tokens: int
    share: float
    """The share of paragraphs that the author replaces."""
    measured_by: str
    scope: Scope | None = None
    """If set, only a sentence of these paragraphs is replaced; so much is learnt with it as the author's."""
    kind: str = "editing"

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """See `Request.new_session`."""
        header, tokens = reading_tokens(tokenizer, self.text)
        tokens = tokens[: self.limit_tokens]
        return NewSession(
            self.kind,
            config,
            named_after=f"eval {Path(self.name).stem}",
            goal=(-(-(len(tokens) - self.seen_tokens) // config.decode.chunk_tokens), "chunks"),
            header_tokens=len(header),
            request={
                "header": list(header),
                "seen_tokens": self.seen_tokens,
                "share": self.share,
                "scope": self.scope,
            },
            opening=tokens,
            source=self.text,
            measured_by=self.measured_by,
        )


@dataclass(frozen=True)
class EditingTask:
    """Drafts each chunk of a text, and replaces some of its paragraphs. Implements `turn.Task`."""

    header: tuple[int, ...]
    before: tuple[int, ...]
    """The text before the first draft."""
    text: tuple[int, ...]
    """The true text that follows."""
    share: float
    config: DecodeConfig
    tokenizer: Any
    scope: Scope | None = None

    def next_turn(self, book: Sequence[int], records: Sequence[Any]) -> Compose | None:
        """The next draft."""
        size = self.config.chunk_tokens
        true = self.text[len(records) * size : (len(records) + 1) * size]
        if not true:
            return None
        paragraphs = records[-1]["paragraphs"] if records else 0

        def compose(index: int, decoding: Decode) -> Generator[Event, None, Chunk]:
            tokens = []
            for token in decoding((), max_tokens=size, stop_tokens=(), temperature=self.config.temperature):
                tokens.append(token)
                yield TextDecoded(index, "", len(tokens))
            return self.edited(tuple(tokens), true, paragraphs)

        return Compose(self._prompt(book), size, compose)

    def edited(self, draft: tuple[int, ...], true: Sequence[int], paragraphs: int) -> Chunk:
        """The draft with paragraphs of the true text in some places; `paragraphs` came before it."""
        if self.scope is not None:
            return self._with_sentences(draft, true, paragraphs)
        own, authors = (decode(self.tokenizer, tokens).split(PARAGRAPH) for tokens in (draft, true))
        tokens: list[int] = []
        is_human: list[bool] = []
        replaced = 0
        for place, paragraph in enumerate(own):
            # One paragraph of 1 / share is replaced, counted over the whole book.
            replaces = int((paragraphs + place + 1) * self.share) > int((paragraphs + place) * self.share)
            if replaces:
                paragraph = authors[min(place, len(authors) - 1)]
                replaced += 1
            end = PARAGRAPH if place < len(own) - 1 else ""
            piece = self.tokenizer.encode(paragraph + end, add_special_tokens=False)
            tokens += piece
            is_human += [replaces] * len(piece)
        if not replaced:  # exactly what was drawn
            tokens, is_human = list(draft), [False] * len(draft)
        masks = {"human": tuple(is_human), "generated": tuple(not human for human in is_human)}
        record = {"paragraphs": paragraphs + len(own), "replaced": replaced}
        return Chunk(
            tuple(tokens),
            decode(self.tokenizer, tokens),
            parts=tuple(ChunkPart(origin, mask) for origin, mask in masks.items() if any(mask)),  # type: ignore[arg-type]
            record=record,
        )

    def _with_sentences(self, draft: tuple[int, ...], true: Sequence[int], paragraphs: int) -> Chunk:
        """The draft with one true sentence in some of its paragraphs."""
        assert self.scope is not None
        own, authors = (decode(self.tokenizer, tokens).split(PARAGRAPH) for tokens in (draft, true))
        edited = list(own)
        for place, paragraph in enumerate(own):
            if int((paragraphs + place + 1) * self.share) > int((paragraphs + place) * self.share):
                old, new = sentences(paragraph), sentences(authors[min(place, len(authors) - 1)])
                at = (paragraphs + place) % len(old)
                end = old[at][len(old[at].rstrip()) :]
                old[at] = new[min(at, len(new) - 1)].rstrip() + end
                edited[place] = "".join(old)
        before = PARAGRAPH.join(own)
        chunk = {"tokens": list(draft), "text": before, "origin": "generated", "record": None}
        reviser = ChunkReviser(self.tokenizer, 4 * self.config.chunk_tokens, self.scope)
        (revised,) = reviser.revised([chunk], revise(before, PARAGRAPH.join(edited)))
        tokens = tuple(revised["tokens"])
        human = mask_of(revised.get("human", ()), len(tokens))
        masks = {"human": human, "generated": tuple(not each for each in human)}
        return Chunk(
            tokens,
            revised["text"],
            parts=tuple(ChunkPart(origin, mask) for origin, mask in masks.items() if any(mask)),  # type: ignore[arg-type]
            record={
                "paragraphs": paragraphs + len(own),
                "replaced": sum(a != b for a, b in zip(own, edited, strict=True)),
            },
        )

    def _prompt(self, book: Sequence[int]) -> Any:
        return fixed_header(self.header, self.config.context_tokens)((*self.before, *book))

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Given:
        """See `turn.Task`. Only measurements use this kind, and they change no chunks."""
        return replay_turn(self._prompt(book), chunk)

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return TextStream(lambda tokens: decode(self.tokenizer, tokens), book).push


class Editing(TaskKind):
    """A book whose drafts its author corrects."""

    name = "editing"
    can_be_changed = False
    units: tuple[Unit, ...] = ("chunks",)
    request_keys = frozenset(("header", "seen_tokens", "share", "scope"))

    def task(self, session: Session, model: LanguageModel, config: Config) -> EditingTask:
        """See `TaskKind.task`."""
        request, text = session.manifest.request, session.opening()
        seen = request["seen_tokens"]
        header, share = tuple(request["header"]), request["share"]
        scope = request["scope"]
        return EditingTask(header, text[:seen], text[seen:], share, config.decode, model.tokenizer, scope)

    def done(self, chunks: Sequence[Values], unit: str) -> int:
        """See `TaskKind.done`."""
        return len(chunks)

    def reached(self, manifest: Manifest, done: int, *, complete: bool) -> bool:
        """See `TaskKind.reached`."""
        return done >= manifest.goal_amount

    def end(self, session: Session, chunks: Sequence[Values]) -> Iterator[Event]:
        """See `TaskKind.end`: there is no final event, because the measuring command prints a table."""
        yield from ()
