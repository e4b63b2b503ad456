"""The translation of a book: paragraphs are translated and checked one by one, and learnt in chunks."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypedDict

from templora_cli.config import DecodeConfig, TranslationConfig
from templora_cli.documents.aligned_text import AlignedPair
from templora_cli.events import Event, Origin, ParagraphTranslated, TextDecoded
from templora_cli.languages import Language
from templora_cli.prompt import Prompt, Section, build_prompt
from templora_cli.text import TextStream, decode
from templora_cli.translation.checks import FailedCheck, run_checks
from templora_cli.translation.corrections import Correction
from templora_cli.translation.long_paragraphs import split_text
from templora_cli.translation.pair_format import PairFormat, Tokens
from templora_cli.translation.terminology import Glossary, Term
from templora_cli.turn import Chunk, ChunkPart, Compose, Composer, Decode

EXPECTED_RATIO = 1.5
"""Expected tokens of a translation per token of its source, which decides how many paragraphs a chunk has."""
MAX_RATIO, EXTRA_TARGET_TOKENS = 3, 32
"""A translation is cut off at MAX_RATIO times the tokens of its source plus EXTRA_TARGET_TOKENS."""
MAX_LEARNT_RATIO, MAX_READ_RATIO = 2, 3
"""Maximum tokens, relative to `chunk_tokens`, of the learnt text of a chunk, and of all that the model reads
after the prompt."""

_TAG_AFTER_WORD = re.compile(r"(\w)(<\d+>\w)")
_TAG_BEFORE_WORD = re.compile(r"(\w</\d+>)(\w)")


class ParagraphRecord(TypedDict):
    """The result of one paragraph, as it is stored with a chunk."""

    paragraph: int
    """Its index in the document."""
    target: str
    attempts: int
    failed_checks: list[dict[str, str]]
    """Each with `check` and `message`; empty if the translation is good."""
    origin: Origin
    """The author of the translation. Human translations are good, whatever the checks say."""
    before: str
    """The generated translation before a correction, else empty."""


def _paragraph_records(records: Iterable[Any]) -> Iterator[ParagraphRecord]:
    for record in records:
        yield from record["paragraphs"]


def best_translations(records: Sequence[Any]) -> dict[int, ParagraphRecord]:
    """The valid record of each paragraph by its index, with the attempts of all its records.

    A human translation is preferred, then the one that fails the fewest checks, then the newest.
    """
    best: dict[int, ParagraphRecord] = {}
    for record in _paragraph_records(records):
        previous = best.get(record["paragraph"])
        attempts = record["attempts"] + (previous["attempts"] if previous else 0)
        if previous is not None and record["origin"] == "generated":
            fails_fewer = len(previous["failed_checks"]) < len(record["failed_checks"])
            if previous["origin"] == "human" or fails_fewer:
                record = previous
        best[record["paragraph"]] = {**record, "attempts": attempts}
    return best


def apply_corrections(records: Sequence[Any], corrections: Iterable[Correction]) -> list[Any]:
    """The `records` with the corrected translations in them."""
    by_paragraph = {correction.paragraph: correction for correction in corrections}

    def corrected(record: ParagraphRecord) -> ParagraphRecord:
        if (correction := by_paragraph.get(record["paragraph"])) is None:
            return record
        before = record["before"] or record["target"]
        target = correction.target
        return {**record, "target": target, "failed_checks": [], "origin": "human", "before": before}

    return [{**record, "paragraphs": [*map(corrected, record["paragraphs"])]} for record in records]


def without_pair(records: Sequence[Any], paragraph: int) -> list[Any]:
    """The `records` with a paragraph whose translation is neither learnt nor shown as an example."""
    failed = [{"check": "forgotten", "message": "it was forgotten"}]

    def forgotten(record: ParagraphRecord) -> ParagraphRecord:
        is_meant = record["paragraph"] == paragraph
        return {**record, "failed_checks": failed, "origin": "generated"} if is_meant else record

    return [{**record, "paragraphs": [*map(forgotten, record["paragraphs"])]} for record in records]


def corrections_in(records: Sequence[Any]) -> list[Correction]:
    """All translations that a person has corrected or approved so far."""
    return [
        Correction(record["paragraph"], record["before"], record["target"])
        for record in best_translations(records).values()
        if record["origin"] == "human"
    ]


Check = Callable[[str, str, tuple[Language, Language], list[Term]], list[FailedCheck]]
"""Returns the failed checks for source, target, their languages and the terms in the source."""


def _is_translated(paragraph: int, records: Sequence[Any]) -> bool:
    return any(record["paragraph"] == paragraph for record in _paragraph_records(records))


@dataclass(frozen=True)
class TranslationTask:
    """Groups paragraphs into chunks, and translates and checks each. Implements `turn.Task`."""

    format: PairFormat
    paragraphs: Sequence[tuple[int, str]]
    """The paragraphs to translate, in order: index in the document, and text on one line."""
    glossary: Glossary
    decode: DecodeConfig
    config: TranslationConfig
    stop_tokens: frozenset[int]
    """Tokens that end a translation, besides those of the format."""
    numbers: Mapping[int, str] = field(default_factory=dict)
    """Numbers of paragraphs for people, by index; by default the index + 1."""
    check: Check = run_checks
    _expected_tokens_cache: dict[int, int] = field(default_factory=dict)

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Compose | None:
        """A turn with the paragraphs after those in `records`: as many as fit into a chunk, at least one."""
        begin = end = sum(len(record["paragraphs"]) for record in records)
        tokens = 0
        while end < len(self.paragraphs) and (
            end == begin or tokens + self._expected_tokens(end) <= self.decode.chunk_tokens
        ):
            tokens += self._expected_tokens(end)
            end += 1
        if begin == end:
            return None
        return self._turn(begin, end, records, partial(self._translate, self.paragraphs[begin:end], records))

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Compose:
        """See `turn.Task`."""
        begin = sum(len(record["paragraphs"]) for record in records)
        record = chunk["record"]
        return self._turn(begin, begin + len(record["paragraphs"]), records, partial(self._repeat, record))

    def _turn(self, begin: int, end: int, records: Sequence[Any], composer: Composer) -> Compose:
        paragraphs = self.paragraphs[begin:end]
        first = paragraphs[0][0]
        context: Tokens = ()
        if not _is_translated(first, records):  # retried paragraphs are far apart and share no context
            context = self.format.pair_tokens(self._context_pairs(first, records))
        prompt = self.prompt("\n".join(text for _, text in paragraphs), context)
        return Compose(prompt, sum(map(self._expected_tokens, range(begin, end))), composer)

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return TextStream(lambda tokens: decode(self.format.tokenizer, tokens), book).push

    def _expected_tokens(self, position: int) -> int:
        """Expected tokens of a paragraph with its translation, by position in `paragraphs`."""
        if position not in self._expected_tokens_cache:
            source = self._count_tokens(self.paragraphs[position][1])
            self._expected_tokens_cache[position] = source + int(EXPECTED_RATIO * source)
        return self._expected_tokens_cache[position]

    def prompt(self, text: str, context: Tokens = ()) -> Prompt:
        """The prompt with those terms that occur in `text` and fit into half of the window."""
        terms = {f"{term.source}: {term.target}": term for term in self.glossary.occurring_in(text)}

        def layout(items: Mapping[str, Sequence[str]]) -> Tokens:
            return self.format.header_with([terms[item] for item in items.get("glossary", ())])

        return build_prompt([Section("glossary", tuple(terms), self.glossary_budget)], layout, context)

    @property
    def glossary_budget(self) -> int:
        """Maximum tokens that terms may add to the prompt."""
        return self.decode.context_tokens // 2

    def _context_pairs(self, paragraph: int, records: Sequence[Any]) -> list[AlignedPair]:
        """The last good pairs before a paragraph: at most `context_pairs`, and as many as fit the window."""
        best = best_translations(records)
        good = {index: record for index, record in best.items() if not record["failed_checks"]}
        pairs: list[AlignedPair] = []
        tokens = 0
        nearest = sorted((index for index in good if index < paragraph), reverse=True)
        for index in nearest[: self.config.context_pairs]:
            pair = AlignedPair(self._sources[index], good[index]["target"])
            tokens += len(self.format.pair_tokens([pair]))
            if tokens > self.decode.context_tokens:
                break
            pairs.insert(0, pair)
        return pairs

    @cached_property
    def _sources(self) -> dict[int, str]:
        return dict(self.paragraphs)

    def _translate(
        self, paragraphs: Sequence[tuple[int, str]], records: Sequence[Any], index: int, decode: Decode
    ) -> Generator[Event, None, Chunk]:
        """Translate the paragraphs of a chunk. Failed ones are in its record and text, but are not learnt."""
        done: list[ParagraphRecord] = []
        counter = _TokenCounter(index)
        is_retry = _is_translated(paragraphs[0][0], records)
        for paragraph, source in paragraphs:
            if is_retry:
                pairs = self._context_pairs(paragraph, [*records, {"paragraphs": done}])
            else:  # the prompt has the pairs before the chunk
                pairs = [self._pair(record) for record in done if not record["failed_checks"]]
            translate_piece = partial(self._translate_piece, pairs, decode, counter)
            record = yield from self._translate_paragraph(paragraph, source, translate_piece)
            done.append(record)
            failed_checks = tuple(failure["message"] for failure in record["failed_checks"])
            number = self.numbers.get(paragraph, str(paragraph + 1))
            target, attempts = record["target"], record["attempts"]
            yield ParagraphTranslated(index, paragraph, number, source, target, attempts, failed_checks)
        return self._chunk(done)

    def _repeat(self, record: Any, index: int, decode: Decode) -> Generator[Event, None, Chunk]:
        """The chunk of a committed record; nothing is decoded."""
        yield from ()
        return self._chunk(record["paragraphs"])

    def _pair(self, record: ParagraphRecord) -> AlignedPair:
        return AlignedPair(self._sources[record["paragraph"]], record["target"])

    def _chunk(self, records: Sequence[ParagraphRecord]) -> Chunk:
        tokens: Tokens = ()
        mask: list[bool] = []
        human_mask: list[bool] = []
        for record in records:
            if record["failed_checks"]:
                continue
            source, target, target_mask = self.format.training_example(self._pair(record))
            if len(tokens) + len(source + target) > MAX_LEARNT_RATIO * self.decode.chunk_tokens:
                continue  # too much for a training step; the paragraph is in the book, but is not learnt
            tokens += source + target
            pair_mask = [False] * len(source) + target_mask
            mask += pair_mask
            human_mask += [learnt and record["origin"] == "human" for learnt in pair_mask]
        return Chunk(
            tokens,
            "".join(f"{record['target']}\n" for record in records),
            tuple(mask),
            self._parts(mask, human_mask) if any(human_mask) else (),
            record={"paragraphs": list(records)},
            rejection_reason=None if tokens else self._rejection_reason(records),
        )

    def _parts(self, mask: Sequence[bool], human_mask: Sequence[bool]) -> tuple[ChunkPart, ...]:
        """Generated text is learnt first, then the corrections."""
        generated = tuple(learnt and not human for learnt, human in zip(mask, human_mask, strict=True))
        return (
            ChunkPart("generated", generated),
            ChunkPart("human", tuple(human_mask), self.config.correction_weight),
        )

    @staticmethod
    def _rejection_reason(records: Sequence[ParagraphRecord]) -> str:
        passed = any(not record["failed_checks"] for record in records)
        return "it is too long to be learnt" if passed else "none of its paragraphs passed its checks"

    def _translate_paragraph(
        self, paragraph: int, source: str, translate_piece: TranslatePiece
    ) -> Generator[Event, None, ParagraphRecord]:
        """Translate a paragraph until it passes its checks, or return the best attempt."""
        languages = self.format.source, self.format.target
        terms: list[Term] = self.glossary.occurring_in(source)
        best: tuple[str, list[FailedCheck]] | None = None
        attempts = 0
        for temperature, pieces in self._attempts(source):
            attempts += 1
            pairs: list[AlignedPair] = []
            was_cut_off = False
            for piece in pieces:
                target, has_ended = yield from translate_piece(pairs, piece, temperature)
                pairs.append(AlignedPair(piece, target))
                was_cut_off |= not has_ended
            target = self._joined([pair.target for pair in pairs])
            failed_checks = self.check(source, target, languages, terms)
            if was_cut_off:
                failed_checks = [FailedCheck("long", "it did not end, and was cut off"), *failed_checks]
            if best is None or len(failed_checks) < len(best[1]):
                best = target, failed_checks
            if not failed_checks:
                break
        assert best is not None
        return {
            "paragraph": paragraph,
            "target": best[0],
            "attempts": attempts,
            "failed_checks": [{"check": failed.check, "message": failed.message} for failed in best[1]],
            "origin": "generated",
            "before": "",
        }

    def _attempts(self, source: str) -> Iterator[tuple[float, list[str]]]:
        """(temperature, pieces) of each attempt: first in large pieces, the last one sentence by sentence."""
        large = self._pieces(source, self.decode.chunk_tokens // 2)
        yield self.config.temperature, large
        for _ in range(self.config.attempts - 2):
            yield self.config.retry_temperature, large
        if self.config.attempts > 1:
            small = self._pieces(source, 0)
            is_same = small == large
            yield (self.config.retry_temperature if is_same else self.config.temperature), small

    def _pieces(self, text: str, group_tokens: int) -> list[str]:
        """The text in one piece if it has at most `group_tokens`, else split at the ends of sentences."""
        if self._count_tokens(text) <= group_tokens:
            return [text]
        max_tokens = self.decode.chunk_tokens // 2
        pieces = split_text(text, self._count_tokens, group_tokens=group_tokens, max_tokens=max_tokens)
        return [piece.strip() for piece in pieces if piece.strip()]

    def _count_tokens(self, source: str) -> int:
        return len(self.format.source_tokens(source))

    def _translate_piece(
        self,
        context: Sequence[AlignedPair],
        decode: Decode,
        counter: _TokenCounter,
        done: Sequence[AlignedPair],
        source: str,
        temperature: float,
    ) -> Generator[Event, None, tuple[str, bool]]:
        """Translate one piece after the pairs before it; returns the text, and whether it ended by itself."""
        source_tokens = self.format.source_tokens(source)
        after = self._last_pairs([*context, *done]) + source_tokens
        max_tokens = MAX_RATIO * len(source_tokens) + EXTRA_TARGET_TOKENS
        stop_tokens = self.format.stop_tokens | self.stop_tokens
        tokens: list[int] = []
        for token in decode(after, max_tokens=max_tokens, stop_tokens=stop_tokens, temperature=temperature):
            tokens.append(token)
            yield counter.count()
        has_ended = bool(tokens) and tokens[-1] in stop_tokens
        return self._with_spaces_around_tags(self.format.target_text(tokens)), has_ended

    def _last_pairs(self, pairs: Sequence[AlignedPair]) -> Tokens:
        """The last pairs, as many as fit into `chunk_tokens`."""
        tokens: Tokens = ()
        for pair in reversed(pairs):
            if len(more := self.format.pair_tokens([pair]) + tokens) > self.decode.chunk_tokens:
                break
            tokens = more
        return tokens

    def _with_spaces_around_tags(self, target: str) -> str:
        """Add spaces between words and tags, which the model omits if the source has no spaces."""
        if self.format.source.has_spaces or not self.format.target.has_spaces:
            return target
        return _TAG_AFTER_WORD.sub(r"\1 \2", _TAG_BEFORE_WORD.sub(r"\1 \2", target))

    def _joined(self, targets: Sequence[str]) -> str:
        space = " " if self.format.target.has_spaces else ""
        return space.join(target for target in targets if target)


TranslatePiece = Callable[[Sequence[AlignedPair], str, float], Generator[Event, None, tuple[str, bool]]]
"""Translates the next piece of a paragraph, given its pairs so far, the piece and a temperature. Returns the
text, and whether it ended by itself."""


@dataclass
class _TokenCounter:
    """Counts the tokens decoded for a chunk, including failed attempts."""

    index: int
    tokens: int = 0

    def count(self) -> TextDecoded:
        """Count a token. The event has no text: that comes with `ParagraphTranslated`."""
        self.tokens += 1
        return TextDecoded(self.index, "", self.tokens)
