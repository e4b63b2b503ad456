"""The translation of a book: paragraph by paragraph, each checked, chunk by chunk learnt."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, TypedDict

from templora_cli.config import DecodeConfig, TranslationConfig
from templora_cli.documents.aligned_text import AlignedPair
from templora_cli.events import Event, ParagraphTranslated, TextDecoded
from templora_cli.prompt import Prompt, Section, build
from templora_cli.text import TextStream, decode
from templora_cli.translation.checks import FailedCheck, run_checks
from templora_cli.translation.corrections import Correction
from templora_cli.translation.languages import Language
from templora_cli.translation.long_paragraphs import parts_of
from templora_cli.translation.pair_format import PairFormat, Tokens
from templora_cli.translation.terminology import Glossary, Term
from templora_cli.turn import Chunk, ChunkPart, Compose, Decode, Writer

TARGET_GROWTH = 1.5
"""Tokens that a translation is expected to have for each of its source; the size of chunks hangs on it."""
MAX_TARGET, MIN_TARGET = 3, 32
"""A translation of so many times the tokens of its source and so many more has lost its way: cut off."""
MAX_LEARNT, MAX_SEEN = 2, 3
"""Times `chunk_tokens`: what is learnt of a chunk at most, and what the model sees beside the context."""

_TAG_AFTER_WORD = re.compile(r"(\w)(<\d+>\w)")
_TAG_BEFORE_WORD = re.compile(r"(\w</\d+>)(\w)")


class ParagraphRecord(TypedDict):
    """What is kept of a paragraph."""

    paragraph: int
    """Its place in the document."""
    target: str
    attempts: int
    failed_checks: list[dict[str, str]]
    """What its checks still found: `check` and `message`; empty where it is good."""
    by: Literal["model", "person"]
    """Whose it is: a person's is right whatever the checks say."""
    before: str
    """What the model had written where a person corrected it, else empty."""


def best_of(records: Sequence[Any]) -> dict[int, ParagraphRecord]:
    """What counts of each paragraph: what a person says, or the newest of those with the fewest flaws.

    Its attempts are all of them.
    """
    best: dict[int, ParagraphRecord] = {}
    for one in (one for record in records for one in record["paragraphs"]):
        known = best.get(one["paragraph"])
        attempts = one["attempts"] + (known["attempts"] if known else 0)
        better: ParagraphRecord = one
        if known is not None and one["by"] == "model":
            better = (
                known
                if known["by"] == "person" or len(known["failed_checks"]) < len(one["failed_checks"])
                else one
            )
        better = better.copy()
        better["attempts"] = attempts
        best[one["paragraph"]] = better
    return best


def corrected(records: Sequence[Any], corrections: Iterable[Correction]) -> list[Any]:
    """The `records` with what a person says some paragraphs are to be."""
    said = {one.paragraph: one for one in corrections}

    def put_right(one: ParagraphRecord) -> ParagraphRecord:
        if (right := said.get(one["paragraph"])) is None:
            return one
        before = one["before"] or one["target"]
        return {**one, "target": right.target, "failed_checks": [], "by": "person", "before": before}

    return [{**record, "paragraphs": [put_right(one) for one in record["paragraphs"]]} for record in records]


def corrections_in(records: Sequence[Any]) -> list[Correction]:
    """What a person has corrected or approved so far."""
    best = best_of(records).values()
    return [
        Correction(one["paragraph"], one["before"], one["target"]) for one in best if one["by"] == "person"
    ]


Check = Callable[[str, str, tuple[Language, Language], list[Term]], list[FailedCheck]]
"""From source, target, their languages and the terms in the source to what is wrong."""


def _known(paragraph: int, records: Sequence[Any]) -> bool:
    """Has it been translated already, so that it is translated again?"""
    return any(one["paragraph"] == paragraph for record in records for one in record["paragraphs"])


@dataclass(frozen=True)
class TranslationTask:
    """Gathers paragraphs into chunks, translates and checks each. Implements `turn.Task`."""

    format: PairFormat
    paragraphs: Sequence[tuple[int, str]]
    """What is to be translated, in order: its place in the document, and its text on one line."""
    glossary: Glossary
    decode: DecodeConfig
    config: TranslationConfig
    stops: frozenset[int]
    """Tokens that end a translation besides those of the format."""
    numbers: Mapping[int, str] = field(default_factory=dict)
    """What a person calls a paragraph, by its place, where that is not the place from 1."""
    check: Check = run_checks
    """What is wrong with a translation."""
    _sizes: dict[int, int] = field(default_factory=dict)

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Compose | None:
        """The paragraphs that follow those in `records` and fit into a chunk, one at least."""
        begin = end = sum(len(record["paragraphs"]) for record in records)
        size = 0
        while end < len(self.paragraphs) and (
            end == begin or size + self._size(end) <= self.decode.chunk_tokens
        ):
            size += self._size(end)
            end += 1
        if begin == end:
            return None
        return self._turn(begin, end, records, partial(self._write, self.paragraphs[begin:end], records))

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Compose:
        """See `turn.Task`."""
        begin = sum(len(record["paragraphs"]) for record in records)
        record = chunk["record"]
        return self._turn(begin, begin + len(record["paragraphs"]), records, partial(self._take, record))

    def _turn(self, begin: int, end: int, records: Sequence[Any], writer: Writer) -> Compose:
        taken = self.paragraphs[begin:end]
        first = taken[0][0]
        # What is translated again stands here and there in the book: there is no context to all of it.
        context = () if _known(first, records) else self.format.pair_tokens(self._before(first, records))
        prompt = self.prompt("\n".join(text for _, text in taken), context)
        return Compose(prompt, sum(map(self._size, range(begin, end))), writer)

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return TextStream(lambda tokens: decode(self.format.tokenizer, tokens), book).push

    def _size(self, place: int) -> int:
        """Tokens that a paragraph and its translation are expected to take."""
        if place not in self._sizes:
            source = self._tokens(self.paragraphs[place][1])
            self._sizes[place] = source + int(TARGET_GROWTH * source)
        return self._sizes[place]

    def prompt(self, text: str, context: Tokens = ()) -> Prompt:
        """With the terms that occur in `text`, as far as they fit into half of the window."""
        terms = {f"{term.source}: {term.target}": term for term in self.glossary.occurring_in(text)}

        def layout(shown: Mapping[str, Sequence[str]]) -> Tokens:
            return self.format.header_with([terms[line] for line in shown.get("glossary", ())])

        return build([Section("glossary", tuple(terms), self.glossary_budget)], layout, context)

    @property
    def glossary_budget(self) -> int:
        """Tokens that terms may add to the prompt."""
        return self.decode.context_tokens // 2

    def _before(self, paragraph: int, records: Sequence[Any]) -> list[AlignedPair]:
        """The last good pairs before a paragraph, as many as are asked for and fit into the window."""
        good = {number: one for number, one in best_of(records).items() if not one["failed_checks"]}
        pairs: list[AlignedPair] = []
        size = 0
        nearest = sorted((number for number in good if number < paragraph), reverse=True)
        for number in nearest[: self.config.context_pairs]:
            pair = AlignedPair(self._sources[number], good[number]["target"])
            size += len(self.format.pair_tokens([pair]))
            if size > self.decode.context_tokens:
                break
            pairs.insert(0, pair)
        return pairs

    @cached_property
    def _sources(self) -> dict[int, str]:
        return dict(self.paragraphs)

    def _write(
        self, taken: Sequence[tuple[int, str]], records: Sequence[Any], index: int, decode: Decode
    ) -> Generator[Event, None, Chunk]:
        """Translate `taken`; the chunk holds what passed its checks, the record all of it."""
        record: list[ParagraphRecord] = []
        counted = _Counted(index)
        again = _known(taken[0][0], records)
        for paragraph, source in taken:
            if again:
                before = self._before(paragraph, [*records, {"paragraphs": record}])
            else:  # below the context of the chunk
                good = (one for one in record if not one["failed_checks"])
                before = [AlignedPair(self._sources[one["paragraph"]], one["target"]) for one in good]
            one = yield from self._paragraph(paragraph, source, partial(self._piece, before, decode, counted))
            record.append(one)
            failed_checks = tuple(failure["message"] for failure in one["failed_checks"])
            number = self.numbers.get(paragraph, str(paragraph + 1))
            target, attempts = one["target"], one["attempts"]
            yield ParagraphTranslated(index, paragraph, number, source, target, attempts, failed_checks)
        return self._chunk(record)

    def _take(self, record: Any, index: int, decode: Decode) -> Generator[Event, None, Chunk]:
        """What was translated before, as it stands."""
        yield from ()
        return self._chunk(record["paragraphs"])

    def _chunk(self, record: Sequence[ParagraphRecord]) -> Chunk:
        tokens: Tokens = ()
        mask: list[bool] = []
        by_person: list[bool] = []
        for one in record:
            if one["failed_checks"]:
                continue
            shown, said, learnt = self.format.training_example(
                AlignedPair(self._sources[one["paragraph"]], one["target"])
            )
            if len(tokens) + len(shown + said) > MAX_LEARNT * self.decode.chunk_tokens:
                continue  # more than a step can take: it stands in the book and is not learnt
            tokens += shown + said
            mask += [False] * len(shown) + learnt
            by_person += [False] * len(shown) + [of_it and one["by"] == "person" for of_it in learnt]
        return Chunk(
            tokens,
            "".join(f"{one['target']}\n" for one in record),
            tuple(mask),
            self._parts(mask, by_person) if any(by_person) else (),
            record={"paragraphs": list(record)},
            rejection_reason=None if tokens else self._nothing_learnt(record),
        )

    def _parts(self, mask: Sequence[bool], by_person: Sequence[bool]) -> tuple[ChunkPart, ...]:
        """The model's own text is learnt first, then what a person put right in it."""
        own = tuple(learnt and not right for learnt, right in zip(mask, by_person, strict=True))
        return ChunkPart("generated", own), ChunkPart(
            "human", tuple(by_person), self.config.correction_weight
        )

    @staticmethod
    def _nothing_learnt(record: Sequence[ParagraphRecord]) -> str:
        good = any(not one["failed_checks"] for one in record)
        return "it is too long to be learnt" if good else "none of its paragraphs passed its checks"

    def _paragraph(
        self, paragraph: int, source: str, piece: Piece
    ) -> Generator[Event, None, ParagraphRecord]:
        """Translate a paragraph until it passes its checks; the best of the attempts where none does."""
        languages = self.format.source, self.format.target
        terms: list[Term] = self.glossary.occurring_in(source)
        best: tuple[str, list[FailedCheck]] | None = None
        attempts = 0
        for temperature, parts in self._attempts(source):
            attempts += 1
            targets: list[AlignedPair] = []
            lost = 0
            for part in parts:
                target, ended = yield from piece(targets, part, temperature)
                targets.append(AlignedPair(part, target))
                lost += not ended
            target = self._joined([pair.target for pair in targets])
            failed_checks = self.check(source, target, languages, terms)
            if lost:
                failed_checks = [
                    FailedCheck("long", "it did not come to an end, and was cut off"),
                    *failed_checks,
                ]
            if best is None or len(failed_checks) < len(best[1]):
                best = target, failed_checks
            if not failed_checks:
                break
        assert best is not None
        found = [{"check": failure.check, "message": failure.message} for failure in best[1]]
        return {
            "paragraph": paragraph,
            "target": best[0],
            "attempts": attempts,
            "failed_checks": found,
            "by": "model",
            "before": "",
        }

    def _attempts(self, source: str) -> Iterator[tuple[float, list[str]]]:
        """Temperature and pieces of each attempt: whole, whole with other draws, and in smaller pieces."""
        whole = self._pieces(source, self.decode.chunk_tokens // 2)
        yield self.config.temperature, whole
        for _ in range(self.config.attempts - 2):
            yield self.config.retry_temperature, whole
        if self.config.attempts > 1:
            smaller = self._pieces(source, 0)
            again = self.config.retry_temperature if smaller == whole else self.config.temperature
            yield again, smaller

    def _pieces(self, text: str, most: int) -> list[str]:
        """The text whole where it has at most `most` tokens, else cut at the ends of sentences."""
        if self._tokens(text) <= most:
            return [text]
        pieces = parts_of(text, self._tokens, together=most, longest=self.decode.chunk_tokens // 2)
        return [piece.strip() for piece in pieces if piece.strip()]

    def _tokens(self, source: str) -> int:
        return len(self.format.source_tokens(source))

    def _piece(
        self,
        before: Sequence[AlignedPair],
        decode: Decode,
        counted: _Counted,
        done: Sequence[AlignedPair],
        source: str,
        temperature: float,
    ) -> Generator[Event, None, tuple[str, bool]]:
        """Translate one piece after what was translated before it; also, whether it came to an end."""
        shown = self.format.source_tokens(source)
        after = self._last_pairs([*before, *done]) + shown
        most = MAX_TARGET * len(shown) + MIN_TARGET
        ends = self.format.ends | self.stops
        tokens: list[int] = []
        for token in decode(after, max_tokens=most, ends=ends, temperature=temperature):
            tokens.append(token)
            yield counted.next()
        ended = bool(tokens) and tokens[-1] in ends
        return self._spaced(self.format.target_text(tokens)), ended

    def _last_pairs(self, pairs: Sequence[AlignedPair]) -> Tokens:
        """As many of the last ones as a chunk has room for."""
        tokens: Tokens = ()
        for pair in reversed(pairs):
            if len(more := self.format.pair_tokens([pair]) + tokens) > self.decode.chunk_tokens:
                break
            tokens = more
        return tokens

    def _spaced(self, target: str) -> str:
        """With the spaces around markup that a source without spaces does not show a model."""
        if self.format.source.has_spaces or not self.format.target.has_spaces:
            return target
        return _TAG_AFTER_WORD.sub(r"\1 \2", _TAG_BEFORE_WORD.sub(r"\1 \2", target))

    def _joined(self, targets: Sequence[str]) -> str:
        space = " " if self.format.target.has_spaces else ""
        return space.join(target for target in targets if target)


Piece = Callable[[Sequence[AlignedPair], str, float], Generator[Event, None, tuple[str, bool]]]
"""From the pieces of a paragraph that are done, the next one and a temperature to its translation, and
whether that came to an end."""


@dataclass
class _Counted:
    """The tokens decoded for a chunk, attempts that failed among them; its text comes with paragraphs."""

    index: int
    tokens: int = 0

    def next(self) -> TextDecoded:
        self.tokens += 1
        return TextDecoded(self.index, "", self.tokens)
