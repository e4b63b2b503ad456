"""Names in a text: whole words, in any typography, the longest of those that overlap.

How a name matches:

- Typography is ignored: curly quotes, kinds of hyphens and blanks, line ends within a paragraph, composed or
  decomposed accents, full-width letters (NFKC).
- Whole words only: "Tom" is not in "Tomorrow" and "Don" not in "Don't", but "Tom" is in "Tom's", "Tom-like"
  and "d'Tom". In scripts without spaces between words a name matches anywhere; in Korean a particle may
  follow it.
- A capital in the name must be a capital in the text, so "Will" is not in "will". A small letter may be a
  capital in the text: "the Captain" is in "The Captain", and "Mira" in the heading "MIRA".
- A name within a longer one does not count: "Old Tom" does not name "Tom", if both are in the list.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from templora_cli.scripts import CHARACTERS, UNSPACED

_TYPOGRAPHY = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛ʼ", "'"),
        **dict.fromkeys("“”„‟", '"'),
        **dict.fromkeys("‐‑", "-"),
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", ""),  # soft hyphens, and other invisible ones
        "ß": "ss",  # in capitals Weiß is WEISS
        "ẞ": "SS",
        "İ": "I",  # str.lower() makes two characters of it
        "ı": "i",
    }
)
_BLANKS = re.compile(r"\s{2,}|[^\S ]")
"""Blanks other than a single space."""
_UNSPACED_CHARACTERS = (
    "".join(CHARACTERS[script] for script in sorted(UNSPACED))
    + "\u0e80-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Lao, Tibetan, Burmese, Khmer
)
_HANGUL = CHARACTERS["Hang"]
_UNSPACED = re.compile(f"[{_UNSPACED_CHARACTERS}]")
_LETTER = re.compile(r"[^\W_]")
_PIECES = re.compile(rf"[^\W_{_UNSPACED_CHARACTERS}{_HANGUL}]+|.", re.DOTALL).findall
"""Words, and all other characters; those of scripts in which the end of a word is not visible are single."""
_HANGUL_SYLLABLE = re.compile("[가-힣]")


class Occurrence(NamedTuple):
    """A name in a text: the index of its owner, and its offsets in the text as `normalise` returns it."""

    owner: int
    start: int
    end: int


class _Node:
    """A node of the tree of names: where a name that is read up to here can go on, and where it ends."""

    __slots__ = ("following", "spellings")

    def __init__(self) -> None:
        self.following: dict[str, _Node] = {}
        self.spellings: list[tuple[str, int]] = []
        """The names that end here, each with its owner."""


class NameMatcher:
    """Finds many names at once. Time grows with the length of the text, not with the number of names."""

    def __init__(self, names: Iterable[tuple[str, int]]) -> None:
        """`names` are spellings, each with the index of its owner. Spellings that differ only in their
        capitals must have one owner.
        """
        self._root = _Node()
        for name, owner in names:
            if spelling := searched_form(name):
                node = self._root
                for piece in _PIECES(fold(spelling)):
                    node = node.following.setdefault(piece, _Node())
                node.spellings.append((spelling, owner))

    def occurrences(self, text: str) -> Iterator[Occurrence]:
        """The names in `text` in order, without those that lie within a longer one."""
        text = normalise(text)
        pieces = _PIECES(fold(text))
        start = covered = 0
        for index, piece in enumerate(pieces):
            if piece in self._root.following:
                names = list(self._names_at(text, pieces, index, start))
                if names and names[-1].end > covered:
                    yield names[-1]
                    covered = names[-1].end
            start += len(piece)

    def _names_at(self, text: str, pieces: list[str], index: int, start: int) -> Iterator[Occurrence]:
        """The names that begin with the piece at `index`, the shortest first."""
        node, end = self._root, start
        while index < len(pieces) and (following := node.following.get(pieces[index])) is not None:
            node, end, index = following, end + len(pieces[index]), index + 1
            if node.spellings and _is_whole(text, start, end):
                part = text[start:end]
                for spelling, owner in node.spellings:
                    if _has_capitals_of(spelling, part):
                        yield Occurrence(owner, start, end)
                        break


def normalise(text: str) -> str:
    """`text` in one typography: see the module. Paragraphs stay apart."""
    text = unicodedata.normalize("NFKC", text).translate(_TYPOGRAPHY)
    return _BLANKS.sub(lambda blanks: "\n\n" if blanks[0].count("\n") > 1 else " ", text)


def fold(text: str) -> str:
    """A normalised text in lower case, with the same offsets."""
    return text.lower().replace("ς", "σ")


def name_key(name: str) -> str:
    """The same text for names that differ in typography or capitals only; "" without letters and digits."""
    return fold(searched_form(name))


def searched_form(name: str) -> str:
    """The name, normalised, from its first letter or digit on; "" without any."""
    name = normalise(name).strip()
    first = _LETTER.search(name)
    return "" if first is None else name[first.start() :]


def _is_whole(text: str, start: int, end: int) -> bool:
    """Is the part from `start` to `end` not a part of a longer word?"""
    if _is_inside_word(text, start):
        return False
    if _is_inside_word(text, end):
        return _HANGUL_SYLLABLE.match(text, end) is not None
    return not (text.startswith(("'t", "'T"), end) and not _is_letter(text[end + 2 : end + 3]))


def _is_inside_word(text: str, offset: int) -> bool:
    """Do the characters before and after `offset` belong to the same word?"""
    before, after = text[offset - 1 : offset] if offset else "", text[offset : offset + 1]
    if unicodedata.category(after or " ")[0] == "M":
        return _is_letter(before)
    return (
        _is_letter(before) and _is_letter(after) and not (_UNSPACED.match(before) or _UNSPACED.match(after))
    )


def _is_letter(char: str) -> bool:
    """Is it a letter, digit or accent? False for ""."""
    return char.isalnum() or unicodedata.category(char or " ")[0] == "M"


def _has_capitals_of(spelling: str, part: str) -> bool:
    """Is each capital of `spelling` one in `part`, which has the same letters?"""
    return spelling == part or all(
        letter.isupper() for capital, letter in zip(spelling, part, strict=True) if capital.isupper()
    )
