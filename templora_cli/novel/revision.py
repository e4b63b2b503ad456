"""What a person changed in the text of a book: the new text, with what is old and what is new in it.

Line ends, wrapping, blank lines and the style of quotation marks, dashes and ellipses alone are no changes:
where only they differ, the text of the book stays as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import accumulate, chain, islice, pairwise

from templora_cli.scripts import CHARACTERS, UNSPACED

LONG = 2000
"""Words that are compared in full at once."""
MIN_KEPT_WORDS = 3
"""Fewer words in a row that stayed, between others that changed, are the same by chance and count as new."""

_UNSPACED = "".join(CHARACTERS[script] for script in sorted(UNSPACED))
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_LINE = re.compile(r"\S(?:[^\n]*\S)?")
_BLOCK = re.compile(r"\S(?:.*?\S)??(?=\s*\Z|[^\S\n]*\n[^\S\n]*\n)", re.DOTALL)
_HEADING = re.compile(r"#{1,6}[ \t]+(?=\S)")
_SAME = str.maketrans(
    dict.fromkeys("“”„‟«»〝〞＂", '"')
    | dict.fromkeys("‘’‚‛‹›＇ʼ", "'")
    | dict.fromkeys("—–―‒", "-")
    | {"…": "...", "\u00ad": "", "\u200b": "", "\ufeff": ""}
)
_DASHES = re.compile(r"-{2,}")
_BREAK = "\n"
"""The key of the end of a paragraph: paragraphs may be joined or divided."""


@dataclass(frozen=True)
class Piece:
    """A part of the new text."""

    text: str
    start: int | None = None
    """Where it stood in the old text; None if a person wrote it."""
    is_moved: bool = False
    """Did it stand somewhere else?"""

    @property
    def end(self) -> int:
        """Where it ended in the old text."""
        assert self.start is not None
        return self.start + len(self.text)


@dataclass(frozen=True)
class Revision:
    """The new text of a book, and how it came about."""

    pieces: tuple[Piece, ...]
    changed: int
    """Paragraphs that were changed or added."""
    deleted: int
    moved: int
    kept: int
    """Paragraphs that stayed as they were."""

    @property
    def text(self) -> str:
        """The new text."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def paragraphs(self) -> int:
        """Paragraphs that differ in any way."""
        return self.changed + self.deleted + self.moved


@dataclass(frozen=True)
class Word:
    """A word of a text, or a character of a script without spaces."""

    key: str
    """Its form for comparisons."""
    text: str
    start: int
    """Where it stands in its text."""
    gap: str
    """The white space before it on its line; not that between paragraphs."""
    opens: bool
    """Is it the first word of a paragraph?"""

    @property
    def end(self) -> int:
        """Where it ends in its text."""
        return self.start + len(self.text)


Paragraph = list[Word]
"""The words of a paragraph."""


def revise(before: str, after: str) -> Revision:
    """The revision that turns the text `before` into the text `after`.

    The mark of a Markdown heading is no text: files have some that the book has not.
    """
    old, new = divide(before, after)
    old_keys, new_keys = [key_of(each) for each in old], [key_of(each) for each in new]
    blocks = SequenceMatcher(None, old_keys, new_keys, autojunk=False).get_opcodes()
    places = _moved(blocks, old_keys, new_keys)
    first_words = [0, *accumulate(map(len, old))]
    spans = [range(start, end) for start, end in pairwise(first_words)]
    sources: list[Sequence[int | None]] = []  # of each word of each new paragraph, its index in the old text
    for kind, a, b, c, d in blocks:
        if kind == "equal":
            sources += spans[a:b]
            continue
        stayed = [index for index in range(a, b) if index not in places.values()]
        rest = [index for index in range(c, d) if index not in places]
        stayed_spans = [spans[index] for index in stayed]
        olds, news = [old[index] for index in stayed], [new[index] for index in rest]
        matched = iter(_match_paragraphs(olds, stayed_spans, news))
        for index in range(c, d):
            place = places.get(index)
            sources.append(next(matched) if place is None else spans[place])
    pieces = tuple(_pieces(before, old, new, sources, places))
    used = {source for words in sources for source in words}
    gone = sum(used.isdisjoint(span) for span in spans)
    same = sum(d - c for kind, _, _, c, d in blocks if kind == "equal")
    return Revision(pieces, len(new) - same - len(places), gone, len(places), same)


def divide(before: str, after: str) -> tuple[list[Paragraph], list[Paragraph]]:
    """The paragraphs of both texts: lines, or blocks between blank lines, whichever agree best."""
    ways = [(_LINE, _LINE), (_LINE, _BLOCK), (_BLOCK, _BLOCK), (_BLOCK, _LINE)]
    best: tuple[list[Paragraph], list[Paragraph]] = ([], [])
    most = -1
    for one, other in ways:
        old, new = list(paragraphs(before, one)), list(paragraphs(after, other))
        known = {key_of(paragraph) for paragraph in old}
        agreed = sum(len(paragraph) for paragraph in new if key_of(paragraph) in known)
        if agreed > most:
            best, most = (old, new), agreed
    return best


def paragraphs(text: str, pattern: re.Pattern[str] = _LINE) -> Iterator[Paragraph]:
    """The paragraphs of a text, as the pattern finds them; by default its lines."""
    for match in pattern.finditer(text):
        start, end = match.span()
        mark = _HEADING.match(text, start, end)
        at = start if mark is None else mark.end()
        words: Paragraph = []
        for word in _WORD.finditer(text, at, end):
            words.append(Word(_key(word[0]), word[0], word.start(), text[at : word.start()], not words))
            at = word.end()
        if words:
            yield words


@lru_cache(1 << 16)
def _key(word: str) -> str:
    return _DASHES.sub("-", unicodedata.normalize("NFC", word).translate(_SAME))


def key_of(paragraph: Paragraph) -> tuple[str, ...]:
    """The form of a paragraph for comparisons."""
    return tuple(word.key for word in paragraph)


def _moved(
    blocks: Sequence[tuple[str, int, int, int, int]],
    old: Sequence[tuple[str, ...]],
    new: Sequence[tuple[str, ...]],
) -> dict[int, int]:
    """The old index of each new paragraph that stood elsewhere, by its new index."""
    gone: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for kind, a, b, _, _ in blocks:
        for index in range(a, b) if kind != "equal" else ():
            gone[old[index]].append(index)
    places = {}
    for kind, _, _, c, d in blocks:
        for index in range(c, d) if kind != "equal" else ():
            if gone[new[index]]:
                places[index] = gone[new[index]].pop(0)
    return places


def _match_paragraphs(
    old: Sequence[Paragraph], indexes: Sequence[range], new: Sequence[Paragraph]
) -> list[list[int | None]]:
    """Like `_match`; as many paragraphs as before are compared one by one, which is far faster."""
    if len(old) != len(new) or len(old) < 2:
        return _match(old, indexes, new)
    pairs = list(zip(old, new, strict=True))
    if not all({*key_of(one)} & {*key_of(other)} or len(one) < MIN_KEPT_WORDS for one, other in pairs):
        return _match(old, indexes, new)
    return [
        matched
        for one, span, other in zip(old, indexes, new, strict=True)
        for matched in _match([one], [span], [other])
    ]


def _match(
    old: Sequence[Paragraph], indexes: Sequence[range], new: Sequence[Paragraph]
) -> list[list[int | None]]:
    """For each new paragraph, the index in the old text of each of its words; None for those that are new.

    `indexes` are those of the words of the `old` paragraphs.
    """
    flat_old = [each for words, span in zip(old, indexes, strict=True) for each in _keys(words, span)]
    flat_new = [key for words in new for key, _ in _keys(words, range(len(words)))]
    keys = [key for key, _ in flat_old]
    found: list[int | None] = [None] * len(flat_new)
    # In a long text the words that are everywhere are left out of the search, which would take hours.
    is_long = len(keys) > LONG
    for a, c, size in SequenceMatcher(None, keys, flat_new, autojunk=is_long).get_matching_blocks():
        is_inside = a and c and a + size < len(keys) and c + size < len(flat_new)
        if not is_inside or size >= MIN_KEPT_WORDS or _BREAK in keys[a : a + size]:
            found[c : c + size] = [index for _, index in flat_old[a : a + size]]
    rest = iter(found)
    return [list(islice(rest, len(words) + 1))[:-1] for words in new]


def _keys(paragraph: Paragraph, indexes: range) -> Iterator[tuple[str, int | None]]:
    """The keys and indexes of the words of a paragraph, and the key of its end."""
    yield from zip(key_of(paragraph), indexes, strict=True)
    yield _BREAK, None


def _pieces(
    before: str,
    old: Sequence[Paragraph],
    new: Sequence[Paragraph],
    sources: Sequence[Sequence[int | None]],
    places: Collection[int],
) -> Iterator[Piece]:
    """The pieces of the new text, with neighbours joined that stood next to each other."""
    words, gap = list(chain.from_iterable(old)), _usual_gap(before, old)
    texts: list[str] = []
    first: Piece | None = None
    end: int | None = None
    for piece in _small_pieces(before, words, new, sources, places, gap):
        if first is not None and (end, first.is_moved) != (piece.start, piece.is_moved):
            yield Piece("".join(texts), first.start, first.is_moved)
            first, texts = None, []
        first = first or piece
        texts.append(piece.text)
        end = None if piece.start is None else piece.end
    if first is not None:
        yield Piece("".join(texts), first.start, first.is_moved)


def _small_pieces(
    before: str,
    words: Sequence[Word],
    new: Sequence[Paragraph],
    sources: Sequence[Sequence[int | None]],
    places: Collection[int],
    gap: str,
) -> Iterator[Piece]:
    """A piece for each word, and for the white space before it."""
    ends, starts = [0, *(word.end for word in words)], [*(word.start for word in words), len(before)]
    opens = [*(word.opens for word in words), True]

    def space(word: Word, source: int | None) -> Piece:
        """The white space before a word: that of the old text if it stood there after the same word."""
        if after is not None and opens[after] == word.opens:
            old_gap = Piece(before[ends[after] : starts[after]], ends[after], was_moved)
            if source == after or (word.opens and after and old_gap.text.isspace()):
                return old_gap
        return Piece((gap if index else "") if word.opens else _on_one_line(word.gap))

    after: int | None = 0  # the index of the old word that followed the last one; None if that one is new
    was_moved = False
    for index, (paragraph, indexes) in enumerate(zip(new, sources, strict=True)):
        is_moved = index in places
        for word, source in zip(paragraph, indexes, strict=True):
            yield space(word, source)
            if source is None:
                yield Piece(word.text)
            else:
                yield Piece(words[source].text, words[source].start, is_moved)
            after, was_moved = None if source is None else source + 1, is_moved
    if words and new:  # the white space at the end of the text stays, whatever comes before it
        yield Piece(before[ends[-1] :], ends[-1], was_moved and after == len(words))


def _usual_gap(before: str, old: Sequence[Paragraph]) -> str:
    """The white space that most paragraphs of a text have between them."""
    gaps = Counter("\n" * before.count("\n", one[-1].end, other[0].start) for one, other in pairwise(old))
    return gaps.most_common(1)[0][0] if gaps else "\n\n"


def _on_one_line(gap: str) -> str:
    return " " if "\n" in gap else gap
