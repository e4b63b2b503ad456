"""A book of prose by a person with planted facts, and the questions about them.

Facts are planted over the whole book, one after each `FACT_EVERY` tokens of prose, each as the last sentence
of a paragraph. Groups are asked about from the first on, as many as there are questions for. The facts after
them keep the text the same in kind up to the farthest question.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from templora_cli.errors import TemploraError
from templora_cli.evaluation.planted_facts import GROUP, Fact, Group

FACT_EVERY = 128
"""Tokens of prose between two facts, at least: a passage of recall then hardly ever has two."""
SENTENCE = 24
"""Tokens of a planted sentence, for an estimate of the length of a book."""
MAX_WORDS = 120
"""Words of a paragraph of prose, unless one sentence has more."""
BREAK = "\n\n"
_BETWEEN_SENTENCES = re.compile(r"(?:(?<=\w\w\w[.!?])|(?<=\w\w[.!?][\"”’']))\s+(?=[\"“‘'A-Z])")
"""Not after initials and most abbreviations."""

Encode = Callable[[str], Sequence[int]]
"""Token ids of a text, without special tokens."""


@dataclass(frozen=True)
class Question:
    """A question about a fact, `distance` tokens after it or a little more."""

    fact: Fact
    options: tuple[str, ...]
    """The answers of the facts of its group, in one order for all its questions."""
    group: int
    """The index of its group."""
    distance: int
    """The least number of tokens between the end of any fact of its group and the position."""
    fact_end: int
    """Tokens of the book up to the end of the fact's paragraph."""
    position: int
    """Tokens of the book before the question: up to the end of a paragraph."""

    @property
    def right(self) -> int:
        """The index of the right option."""
        return self.options.index(self.fact.answer)


@dataclass(frozen=True)
class PlantedBook:
    """A book with planted facts."""

    paragraphs: tuple[str, ...]
    """Headings and paragraphs of prose, the facts among them."""
    ends: tuple[int, ...]
    """Tokens of the book up to the end of each."""
    tokens: tuple[int, ...]
    headings: frozenset[int]
    """The indices of `paragraphs` that are headings of chapters."""
    facts: tuple[tuple[Fact, int], ...]
    """All planted facts in order, each with the index of its paragraph."""
    questions: tuple[Question, ...]
    """In the order of their positions."""
    encode: Encode

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(paragraph + BREAK for paragraph in self.paragraphs)

    @property
    def ledger(self) -> str:
        """The ledger of the book, as TOML: an entry for each fact."""
        return "\n".join(fact.entry for fact, _ in self.facts)

    def before(self, position: int) -> tuple[int, ...]:
        """The tokens of the book before a position."""
        return self.tokens[:position]

    def with_fact(self, question: Question, context_tokens: int) -> tuple[int, ...]:
        """The tokens before a question, with its fact a second time, half a window before the question."""
        index = self._paragraph_from(question.position - context_tokens // 2)
        start = self.ends[index - 1] if index else 0
        paragraph = self.encode(f"{self.paragraphs[index]} {question.fact.sentence}{BREAK}")
        return (*self.tokens[:start], *paragraph, *self.tokens[self.ends[index] : question.position])

    def _paragraph_from(self, position: int) -> int:
        return _prose_from(self.ends, self.headings, position)


@dataclass
class _Planting:
    """A book in the making."""

    encode: Encode
    chapters: int
    chapter_tokens: int | None
    """Tokens of a chapter; None for a book without headings."""

    def __post_init__(self) -> None:
        self.paragraphs: list[str] = []
        self.ends: list[int] = []
        self.tokens: list[int] = []
        self.headings: list[int] = []
        self.facts: list[tuple[Fact, int]] = []
        self._since_fact = 0

    @property
    def is_fact_due(self) -> bool:
        """Is there prose enough since the last fact?"""
        return self._since_fact >= FACT_EVERY

    def add(self, paragraph: str, fact: Fact | None) -> None:
        """Add a paragraph of prose, and `fact` at its end."""
        if self._is_heading_due:
            self.headings.append(len(self.paragraphs))
            self._append(f"Chapter {len(self.headings)}")
        start = len(self.tokens)
        if fact is None:
            self._append(paragraph)
            self._since_fact += len(self.tokens) - start
        else:
            self.facts.append((fact, len(self.paragraphs)))
            self._append(f"{paragraph} {fact.sentence}")
            self._since_fact = 0

    @property
    def _is_heading_due(self) -> bool:
        if self.chapter_tokens is None or len(self.headings) == self.chapters:
            return False
        return len(self.tokens) >= len(self.headings) * self.chapter_tokens

    def _append(self, paragraph: str) -> None:
        self.paragraphs.append(paragraph)
        self.tokens += self.encode(paragraph + BREAK)
        self.ends.append(len(self.tokens))


def plant(
    prose: Sequence[str],
    groups: Iterable[Group],
    encode: Encode,
    *,
    name: str,
    asked: int,
    distances: Sequence[int],
    chapters: int,
) -> PlantedBook:
    """The book of the paragraphs `prose` with `asked` groups of facts to ask about, each at all `distances`.

    It ends with the farthest question. `name` is that of the prose, for messages. Raises TemploraError if the
    prose is too short, the facts are too few, or the book is too short for its `chapters`.
    """
    available = list(groups)
    facts = [fact for group in available for fact in group]
    if len(available) < asked:
        most = len(available) * GROUP * len(distances)
        raise TemploraError(f"a book has at most {most:,} questions", f"--questions {most}, or more files")

    def planted(chapter_tokens: int | None) -> _Planting:
        planting = _Planting(encode, chapters, chapter_tokens)
        stream = iter(facts)
        for paragraph in prose:
            planting.add(paragraph, next(stream, None) if planting.is_fact_due else None)
            if len(planting.facts) >= GROUP * asked:
                last = planting.ends[planting.facts[GROUP * asked - 1][1]]
                if len(planting.tokens) >= last + max(distances):
                    return planting
        needed = asked * GROUP * (FACT_EVERY + SENTENCE) + max(distances)
        raise TemploraError(
            f"{name} is too short: {len(planting.tokens):,} tokens of about {needed:,} that are needed",
            "take a longer text, more files, fewer --questions or smaller --distances",
        )

    # The length of a chapter follows from that of the book without headings.
    size = -(-len(planted(None).tokens) // chapters)
    planting = planted(size)
    if len(planting.headings) < chapters:
        raise TemploraError(
            f"--chapters {chapters}: too many for a book of {len(planting.tokens):,} tokens",
            f"--chapters {len(planting.headings)}",
        )
    return PlantedBook(
        tuple(planting.paragraphs),
        tuple(planting.ends),
        tuple(planting.tokens),
        frozenset(planting.headings),
        tuple(planting.facts),
        _questions(planting, available[:asked], distances),
        encode,
    )


def _questions(
    planting: _Planting, groups: Sequence[Group], distances: Sequence[int]
) -> tuple[Question, ...]:
    """The questions about these groups, which are the first that were planted."""
    headings, ends = frozenset(planting.headings), planting.ends
    fact_ends = [ends[index] for _, index in planting.facts]
    questions = []
    for number, group in enumerate(groups):
        of_group = fact_ends[number * GROUP : (number + 1) * GROUP]
        options = tuple(fact.answer for fact in group)
        for distance in distances:
            position = ends[_prose_from(ends, headings, of_group[-1] + distance)]
            questions += [
                Question(fact, options, number, distance, end, position)
                for fact, end in zip(group, of_group, strict=True)
            ]
    return tuple(sorted(questions, key=lambda question: question.position))


def _prose_from(ends: Sequence[int], headings: frozenset[int], position: int) -> int:
    """The index of the first paragraph of prose that ends at `position` or later."""
    index = bisect_left(ends, position)
    return index + 1 if index in headings else index


def paragraphs_of(texts: Iterable[str]) -> list[str]:
    """Paragraphs of prose for a book: long ones are divided between sentences, lines in capitals left out."""
    pieces = (piece for text in texts for piece in _pieces(text))
    return [piece for piece in pieces if any(char.islower() for char in piece)]


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces of whole sentences. The passages of recall are not used: they may be cut otherwise one
    day, and the book must stay the same.
    """
    piece: list[str] = []
    for sentence in _BETWEEN_SENTENCES.split(text.strip()):
        if piece and len(" ".join((*piece, sentence)).split()) > MAX_WORDS:
            yield " ".join(piece)
            piece = []
        piece.append(sentence)
    yield " ".join(piece)
