"""Measures of prose: how much it repeats itself, how varied its words are, and how it is built.

Shares are from 0 to 1. Repetition and variety depend on the length of a text, so most of their measures are
taken of windows of `WINDOW` words. A shorter text is one window, and looks better than it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean, pstdev

from templora_cli.evaluation.prose_text import ParsedParagraph, ProseChapter, name_counts, parse_paragraph

WINDOW = 8000
"""Words in which repetition and distinct n-grams are counted."""
N = 4
"""Words of a repeated n-gram."""
MATTR_WINDOW = 500
"""Words of a window of the moving-average type-token ratio."""
MAX_DEPTHS, MIN_STEP = 24, 500
"""Limit for the ranges of depth, and the minimum of their length in words."""


@dataclass(frozen=True)
class ChapterMeasures:
    """The measures of one chapter; None if it is shorter than an n-gram, or has no chapter before it."""

    title: str
    words: int
    repetition_within: float | None
    """Share of its 4-grams that occur earlier in the chapter, at most `WINDOW` words before."""
    repetition_across: float | None
    """Share of its 4-grams that occur in an earlier chapter, at most `WINDOW` words before."""
    repetition_from_any: float | None
    """Share of its 4-grams that occur in any earlier chapter."""


@dataclass(frozen=True)
class DepthMeasures:
    """The measures of a range of depth, from the paragraphs that begin in it; None if it is too short."""

    depth: int
    """Words before the range."""
    words: int
    repetition: float | None
    """Share of 4-grams that occur at most `WINDOW` words before, in any chapter."""
    mattr_500: float | None
    """Of the 500 words from each word of the range on."""
    sentence_words: float
    questions: float
    dialogue: float


@dataclass(frozen=True)
class ProseMeasures:
    """The measures of a text; a measure is None if the text is too short for it."""

    words: int
    chapters: int
    repetition_first: float | None
    """Share of 4-grams of words that occur earlier in the first `WINDOW` words."""
    repetition_mean: float | None
    """The mean of that share over all windows; the last window ends with the text."""
    repetition_max: float | None
    """The highest share of a window."""
    repetition_within_chapters: float | None
    """`ChapterMeasures.repetition_within`, over the 4-grams of all chapters."""
    repetition_across_chapters: float | None
    """`ChapterMeasures.repetition_across`, over the 4-grams of all chapters but the first."""
    repetition_from_any_chapter: float | None
    """`ChapterMeasures.repetition_from_any`, over the same. It grows with the length of the book."""
    distinct_1: float | None
    """Number of distinct words relative to that of all words; the mean over the windows."""
    distinct_2: float | None
    distinct_3: float | None
    mattr_500: float | None
    """Mean share of distinct words in 500 words in a row (Covington and McFall 2010)."""
    sentences: int
    sentence_words: float
    """Mean length of a sentence, in words."""
    sentence_words_sd: float
    """Standard deviation of the length of sentences."""
    paragraphs: int
    paragraph_words: float
    paragraph_words_sd: float
    questions: float
    """Share of sentences with a question mark."""
    dialogue: float
    """Share of words in quotation marks, or in paragraphs that begin with a dash."""
    names: int | None
    """Distinct words that are names (`name_counts`); None in scripts without capitals."""
    names_once: float | None
    """Share of them that appear once. It falls with the length of the book."""
    by_chapter: tuple[ChapterMeasures, ...]
    by_depth: tuple[DepthMeasures, ...]


def measure(chapters: Sequence[ProseChapter]) -> ProseMeasures:
    """The measures of a text, which must have a word."""
    parsed = [[parse_paragraph(text) for text in chapter.paragraphs] for chapter in chapters]
    chapter_words = [[word for paragraph in chapter for word in paragraph.words] for chapter in parsed]
    paragraphs = [paragraph for chapter in parsed for paragraph in chapter]
    words = [word for chapter in chapter_words for word in chapter]
    by_chapter = measure_chapters([chapter.title for chapter in chapters], chapter_words)
    all_windows = windows(words)
    repeated = [share for window in all_windows if (share := repetition(window)) is not None]
    sentence_lengths = [length for paragraph in paragraphs for length in paragraph.sentence_words]
    paragraph_lengths = [len(paragraph.words) for paragraph in paragraphs]
    names = name_counts([text for chapter in chapters for text in chapter.paragraphs])
    return ProseMeasures(
        words=len(words),
        chapters=len(chapters),
        repetition_first=repeated[0] if repeated else None,
        repetition_mean=fmean(repeated) if repeated else None,
        repetition_max=max(repeated, default=None),
        repetition_within_chapters=_pooled(by_chapter, "repetition_within"),
        repetition_across_chapters=_pooled(by_chapter, "repetition_across"),
        repetition_from_any_chapter=_pooled(by_chapter, "repetition_from_any"),
        distinct_1=_mean_distinct(all_windows, 1),
        distinct_2=_mean_distinct(all_windows, 2),
        distinct_3=_mean_distinct(all_windows, 3),
        mattr_500=mattr(words),
        sentences=len(sentence_lengths),
        sentence_words=fmean(sentence_lengths),
        sentence_words_sd=pstdev(sentence_lengths),
        paragraphs=len(paragraphs),
        paragraph_words=fmean(paragraph_lengths),
        paragraph_words_sd=pstdev(paragraph_lengths),
        questions=sum(paragraph.questions for paragraph in paragraphs) / len(sentence_lengths),
        dialogue=sum(paragraph.spoken_words for paragraph in paragraphs) / len(words),
        names=None if names is None else len(names),
        names_once=sum(count == 1 for count in names.values()) / len(names) if names else None,
        by_chapter=tuple(by_chapter),
        by_depth=tuple(measure_depths(paragraphs)),
    )


def ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """All sequences of `n` words, in order."""
    return zip(*(islice(words, start, None) for start in range(n)), strict=False)


def windows(words: Sequence[str], size: int = WINDOW) -> list[Sequence[str]]:
    """Windows of `size` words that cover `words`: one after another, but the last one ends with the text.

    A shorter text is one window.
    """
    starts = list(range(0, len(words) - size + 1, size)) or [0]
    if starts[-1] + size < len(words):
        starts.append(len(words) - size)
    return [words[start : start + size] for start in starts]


def repetition(words: Sequence[str], window: int = WINDOW) -> float | None:
    """Share of the 4-grams that occur at most `window` words before; None if there is no 4-gram."""
    flags = _repeated(words, window)
    return fmean(flags) if flags else None


def _repeated(words: Sequence[str], window: int = WINDOW) -> list[bool]:
    """For each 4-gram, whether it occurs at most `window` words before."""
    last: dict[tuple[str, ...], int] = {}
    flags = []
    for position, gram in enumerate(ngrams(words, N)):
        flags.append(position - last.get(gram, -window - 1) <= window)
        last[gram] = position
    return flags


def distinct(words: Sequence[str], n: int) -> float | None:
    """Number of distinct n-grams relative to that of all n-grams; None if there is none."""
    grams = list(ngrams(words, n))
    return len(set(grams)) / len(grams) if grams else None


def _mean_distinct(all_windows: Sequence[Sequence[str]], n: int) -> float | None:
    shares = [share for window in all_windows if (share := distinct(window, n)) is not None]
    return fmean(shares) if shares else None


def mattr(words: Sequence[str], size: int = MATTR_WINDOW) -> float | None:
    """Mean share of distinct words in all windows of `size` words in a row; None if `words` are fewer."""
    if len(words) < size:
        return None
    counts = Counter(words[:size])
    total = len(counts)
    for before, after in zip(words, words[size:], strict=False):
        counts[after] += 1
        counts[before] -= 1
        if not counts[before]:
            del counts[before]
        total += len(counts)
    return total / (size * (len(words) - size + 1))


def measure_chapters(
    titles: Sequence[str], chapters: Sequence[Sequence[str]], window: int = WINDOW
) -> list[ChapterMeasures]:
    """The measures of each chapter, by its words. 4-grams do not reach from one chapter into the next."""
    measures = []
    before: dict[tuple[str, ...], int] = {}
    offset = 0
    for title, words in zip(titles, chapters, strict=True):
        within, grams = _repeated(words, window), list(ngrams(words, N))
        last = [before.get(gram) for gram in grams]
        near = [p is not None and offset + i - p <= window for i, p in enumerate(last)]
        from_any = [position is not None for position in last]
        is_measured = bool(grams) and offset > 0
        measures.append(
            ChapterMeasures(
                title,
                len(words),
                repetition_within=fmean(within) if within else None,
                repetition_across=fmean(near) if is_measured else None,
                repetition_from_any=fmean(from_any) if is_measured else None,
            )
        )
        before.update((gram, offset + position) for position, gram in enumerate(grams))
        offset += len(words)
    return measures


def _pooled(chapters: Sequence[ChapterMeasures], name: str) -> float | None:
    """A measure of chapters, weighted by the number of their 4-grams."""
    shares = [(share, c.words - N + 1) for c in chapters if (share := getattr(c, name)) is not None]
    grams = sum(count for _, count in shares)
    return sum(share * count for share, count in shares) / grams if grams else None


def measure_depths(paragraphs: Sequence[ParsedParagraph]) -> list[DepthMeasures]:
    """The measures of consecutive ranges of at least `MIN_STEP` words, at most `MAX_DEPTHS` of them."""
    words = [word for paragraph in paragraphs for word in paragraph.words]
    step = MIN_STEP * max(1, math.ceil(len(words) / MAX_DEPTHS / MIN_STEP))
    groups: dict[int, list[ParsedParagraph]] = {}
    start = 0
    for paragraph in paragraphs:
        groups.setdefault(start // step, []).append(paragraph)
        start += len(paragraph.words)
    repeated, measures, depth = _repeated(words), [], 0
    for group in groups.values():
        length = sum(len(paragraph.words) for paragraph in group)
        flags = repeated[depth : depth + length]
        sentences = sum(len(paragraph.sentence_words) for paragraph in group)
        measures.append(
            DepthMeasures(
                depth,
                length,
                repetition=fmean(flags) if flags else None,
                mattr_500=mattr(words[depth : depth + length + MATTR_WINDOW - 1]),
                sentence_words=length / sentences,
                questions=sum(paragraph.questions for paragraph in group) / sentences,
                dialogue=sum(paragraph.spoken_words for paragraph in group) / length,
            )
        )
        depth += length
    return measures
