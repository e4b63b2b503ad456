"""Write a novel chapter by chapter, after its plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from templora_cli.engine.decoding.banned_phrases import NO_PHRASES, BannedPhrases
from templora_cli.novel.chapter_headings import part_heading
from templora_cli.novel.marks import story_end
from templora_cli.novel.memory import Span
from templora_cli.novel.plan import DEFAULT_WORDS, Plan
from templora_cli.novel.prompt import ChapterView, NovelPrompt
from templora_cli.novel.prose import Prose
from templora_cli.novel.sentence_end import ends_complete_before, may_end_paragraph
from templora_cli.novel.task import REPLACEMENT
from templora_cli.text import TextStream, count_words, decode
from templora_cli.turn import Generate, Given, given_turn, replay_turn

SHORTEST, CLOSING, USUAL, LONGEST = 0.85, 0.9, 0.95, 1.15
"""Shares of the planned length. From the first on the model may end the chapter, from the second on it is
asked to, from the third on the chapter ends with the paragraph, and by the last it is cut.
"""
MAX_WORDS = 8
"""Tokens have at most this number of words on average; in a script without spaces one may have several."""
TAIL = 8
"""The maximum number of tokens of a line end and the mark before it."""
LEAD = 512
"""Tokens before a chunk that are read to see whether a sentence ends in it."""
LOOKBACK = 256
"""Tokens that are searched for the end of a sentence when a chapter is cut."""


@dataclass(frozen=True)
class Position:
    """Where a planned book stands: the chapter that the next chunk belongs to."""

    chapter: int
    """Its index; the number of chapters once the book is finished."""
    body: int | None
    """Where its text begins, in tokens of the book; None if its heading is not written yet."""
    spans: tuple[Span, ...] = ()
    """Where heading and text of each chapter so far begin."""


def position_after(records: Sequence[Any]) -> Position:
    """The position after chunks with these records."""
    chapters = [record for record in records if isinstance(record, dict) and "chapter" in record]
    spans = tuple(dict.fromkeys((record["heading"], record["body"]) for record in chapters))
    if not chapters:
        return Position(0, None)
    last = chapters[-1]
    if last["chapter_end"]:
        return Position(last["chapter"] + 1, None, spans)
    return Position(last["chapter"], last["body"], spans)


@dataclass
class ChapterChunk:
    """The end of a chunk in a chapter: where decoding stops, and whether the chapter ends there."""

    decode: Callable[[Sequence[int]], str]
    words: int
    """The planned length of the chapter."""
    before: int
    """Words of the chapter before the chunk."""
    is_closing: bool
    max_tokens: int
    lead: tuple[int, ...] = ()
    """The last tokens of the chapter before the chunk."""
    may_finish: bool = False
    """Does the book end when the model writes "The End"?"""
    _decided: tuple[tuple[int, ...], str | None] = ((), None)
    """Tokens with which the chunk ends, and how the chapter ends with them: see `ends`."""
    _counted: tuple[tuple[int, ...], int] = ((), 0)
    """Tokens of the chunk that were counted last, and the words of the chapter with them."""

    def ends(self, tokens: Sequence[int]) -> str | None:
        """How the chapter ends with a chunk of these tokens: at a "paragraph", at a "sentence" or "anywhere".

        None if it goes on.
        """
        if self._decided[0] == tuple(tokens):
            return self._decided[1]
        return "paragraph" if len(tokens) < self.max_tokens else None  # the model ended its text

    def done(self, tokens: Sequence[int]) -> float:
        """The share of the planned length after these tokens of the chunk."""
        return self._words_after(tokens) / self.words

    def reaches(self, tokens: Sequence[int], share: float) -> bool:
        """Is this share of the length written after these tokens? Counts words only where it may be."""
        counted, words = self._counted
        if tuple(tokens[: len(counted)]) != counted:
            counted, words = (), self.before
        words = max(words, self.before)
        if words < share * self.words <= words + MAX_WORDS * (len(tokens) - len(counted)):
            words = self._words_after(tokens)
            self._counted = tuple(tokens), words
        return words >= share * self.words

    def may_end(self, tokens: Sequence[int]) -> bool:
        """See `Generate.may_end`: at the end of a paragraph, late in the chapter."""
        if not tokens or not self.reaches(tokens, SHORTEST):
            return False
        return may_end_paragraph(self._tail(tokens))

    def complete(self, tokens: Sequence[int]) -> int | None:
        """See `Generate.complete`."""
        end, how = self._end(tokens)
        self._decided = ((), None) if end is None else (tuple(tokens[:end]), how)
        return end

    def _end(self, tokens: Sequence[int]) -> tuple[int | None, str | None]:
        """The length at which the chunk ends, and how the chapter ends there; None for none."""
        if not self.is_closing:
            return (len(tokens), None) if self.reaches(tokens, CLOSING) else (None, None)
        if self.before > LONGEST * self.words:  # its plan was shortened
            return self._next_end(tokens)
        if self.reaches(tokens, LONGEST):
            return self._cut(tokens)
        end = self._book_end(tokens) if self.may_finish else None
        if end is None:
            end = self._paragraph_end(tokens, USUAL)
        return end, None if end is None else "paragraph"

    def _words_after(self, tokens: Sequence[int]) -> int:
        """Words of the chapter after these tokens, which may begin within a word."""
        joint = self.lead[-TAIL:]
        return self.before - count_words(self.decode(joint)) + count_words(self.decode((*joint, *tokens)))

    def _paragraph_end(self, tokens: Sequence[int], share: float) -> int | None:
        """The length up to a paragraph's end that the last token shows, if `share` is written by then."""
        last = self.decode(tokens[-1:])
        if "\n" not in last or not may_end_paragraph(self._tail(tokens)):
            return None
        end = len(tokens) - (not last.strip())
        return end if end and self.done(tokens[:end]) >= share else None

    def _tail(self, tokens: Sequence[int], count: int = TAIL) -> str:
        """The text of the last tokens, which may be tokens before the chunk."""
        before = max(0, count - len(tokens))
        return self.decode((*self.lead[len(self.lead) - before :], *tokens[-count:])).rstrip()

    def _book_end(self, tokens: Sequence[int]) -> int | None:
        """The length up to a line "The End" that the last token shows."""
        last = self.decode(tokens[-1:])
        if "\n" not in last:
            return None
        text = self._tail(tokens, 2 * TAIL)
        end = story_end(text)
        return max(1, len(tokens) - (not last.strip())) if end is not None and end[1] == len(text) else None

    def _next_end(self, tokens: Sequence[int]) -> tuple[int | None, str | None]:
        """The end of the next paragraph or sentence, or of `LOOKBACK` tokens."""
        if (end := self._paragraph_end(tokens, 0.0)) is not None:
            return end, "paragraph"
        if len(tokens) > 1 and self._ends_sentence(tokens, len(tokens) - 1):
            return len(tokens) - 1, "sentence"
        return (len(tokens), "anywhere") if len(tokens) >= LOOKBACK else (None, None)

    def _cut(self, tokens: Sequence[int]) -> tuple[int, str]:
        """The last end of a paragraph, else of a sentence, at which the chapter may end."""
        lengths = range(len(tokens), max(0, len(tokens) - LOOKBACK), -1)
        allowed = [end for end in lengths if SHORTEST <= self.done(tokens[:end]) <= LONGEST]
        for end in allowed:
            if (paragraph := self._paragraph_end(tokens[:end], SHORTEST)) is not None:
                return paragraph, "paragraph"
        for end in allowed:
            if self._ends_sentence(tokens, end):
                return end, "sentence"
        whole = (end for end in allowed if not self.decode(tokens[:end]).endswith(REPLACEMENT))
        return next(whole, len(tokens)), "anywhere"

    def _ends_sentence(self, tokens: Sequence[int], end: int) -> bool:
        """Does a sentence end before token number `end`?"""
        text = self.decode((*self.lead, *tokens[:end]))
        after = self.decode((*self.lead, *tokens))[len(text) :]
        return not text.endswith(REPLACEMENT) and ends_complete_before(text, after)


@dataclass(frozen=True)
class PlannedTask:
    """The turns of a planned novel: a human opening, if there is one, then its chapters.

    Implements `turn.Task`.
    """

    prompt: NovelPrompt
    opening: tuple[int, ...]
    """Token ids of the human opening."""
    plan: Plan
    chunk_tokens: int
    tokenizer: Any
    end_tokens: frozenset[int] = frozenset()
    """Tokens by which the model ends its text."""
    prose: Prose | None = None
    """Checks the prose; None for no checks."""
    banned: BannedPhrases = NO_PHRASES
    """Phrases that the model must not write."""

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Given | Generate | None:
        """The next chunk of the opening, then of a chapter; None when all chapters are written."""
        if len(book) < len(self.opening):
            return given_turn(self.prompt, book, self.opening, self.chunk_tokens)
        position = position_after(records)
        if position.chapter >= len(self.plan.chapters):
            return None
        chapter = self.plan.chapters[position.chapter]
        heading = self._heading(book, position.chapter) if position.body is None else ()
        start = len(book) if position.body is None else position.spans[-1][0]
        body = start + len(heading) if position.body is None else position.body
        words = chapter.words or DEFAULT_WORDS
        before = count_words(self.decode(book[body:]))
        is_closing = before >= CLOSING * words
        max_tokens = max(1, self.chunk_tokens - len(heading))
        is_last = position.chapter == len(self.plan.chapters) - 1
        chunk = ChapterChunk(
            self.decode,
            words,
            before,
            is_closing,
            max_tokens,
            lead=tuple(book[max(body, len(book) - LEAD) :]),
            may_finish=is_closing and is_last,
        )
        prompt = self.prompt(book, ChapterView(position.chapter, is_closing, position.spans))
        checks = {}
        if self.prose is not None:
            checks = self.prose.checks((*book, *heading), prompt.items("recall"), may_finish=chunk.may_finish)
        return Generate(
            prompt,
            max_tokens,
            chunk.complete,
            opening=heading,
            end_tokens=self.end_tokens,
            may_end=chunk.may_end,
            banned=self.banned,
            **checks,
            record=lambda tokens: self._record(position.chapter, (start, body), chunk, tokens),
        )

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Given:
        """See `turn.Task`. The chapter may begin elsewhere than when it was written."""
        record = chunk["record"]
        if isinstance(record, dict) and "chapter" in record:
            position = position_after(records)
            heading = len(book) if position.body is None else position.spans[-1][0]
            record = {**record, "heading": heading, "body": heading + record["body"] - record["heading"]}
        return replay_turn(self.prompt(book), {**chunk, "record": record})

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return TextStream(self.decode, book).push

    def decode(self, tokens: Sequence[int]) -> str:
        """Decode token ids to the text of the book."""
        return decode(self.tokenizer, tokens)

    def _heading(self, book: Sequence[int], chapter: int) -> tuple[int, ...]:
        """The tokens of a heading, with blank lines around it, and of that of a part which begins with it."""
        part = part_heading(self.plan, chapter)
        text = f"{part}\n\n" if part else ""
        text += f"{self.prompt.heading(chapter)}\n\n"
        end = self.decode(book[-TAIL:])
        gap = "\n" * max(0, 2 - (len(end) - len(end.rstrip("\n")))) if book else ""
        return tuple(self.tokenizer.encode(gap + text, add_special_tokens=False, split_special_tokens=True))

    def _record(self, chapter: int, span: Span, chunk: ChapterChunk, tokens: Sequence[int]) -> dict[str, Any]:
        """What is committed with a chunk: its chapter, and how the chapter ended, if it did."""
        end, planned = chunk.ends(tokens), self.plan.chapters[chapter]
        record: dict[str, Any] = {"chapter": chapter, "title": planned.title}
        record |= {"heading": span[0], "body": span[1], "chapter_end": end is not None}
        return {**record, "end": end, "digest": planned.digest} if end else record
