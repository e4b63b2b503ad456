"""A translation as a file that a person corrects, and the corrections in it.

A paragraph is three lines and more: its number with what its checks say, `<` and the source, `>` and the
translation. A person changes what stands after `>`, or puts `=` in its place to say that it is right.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice

from templora_cli.errors import TemploraError
from templora_cli.translation.name_hints import HAN
from templora_cli.translation.report import Line
from templora_cli.translation.scripts import CHARACTERS, UNSPACED, without_tags

_TITLE = re.compile(r"# (\S+): change what stands after a > .*")
_NUMBER = re.compile(r"@(\d+(?:\.\d+)?) \[([0-9a-f]{8})\].*")


def review_text(lines: Iterable[Line], session: str) -> str:
    """The file that a person corrects."""
    parts = [
        f"# {session}: change what stands after a > to correct a translation, or put = in place of the > to\n"
        f"# say that it is right as it is; both are learnt. Then: templora sync {session} THIS_FILE\n"
    ]
    for line in lines:
        said = "; ".join(failure["message"] for failure in line.failed_checks)
        shown = _shown(line.target)
        parts.append(f"\n@{line.told} [{shown}] {line.state}{': ' if said else ''}{said}\n")
        parts.append(f"< {line.source}\n> {line.target}\n")
    return "".join(parts)


def _shown(target: str) -> str:
    """By this a translation is known that nobody has changed, also where it is another one by now."""
    return hashlib.sha256(" ".join(target.split()).encode("utf-8")).hexdigest()[:8]


@dataclass(frozen=True)
class Correction:
    """What a person says a paragraph is to be."""

    paragraph: int
    """Its place in the document, from 0."""
    before: str
    """What the model had written."""
    target: str
    """The same where it was approved."""


def corrections_of(text: str, lines: Mapping[int, Line], session: str, name: str) -> list[Correction]:
    """What was changed or approved in the file `name`; `lines` are the paragraphs as they are.

    Raises TemploraError that names the line: a file of another session, an unknown paragraph, one with the
    source of another, a translation that was emptied, a line that is none of the file's.
    """
    title = _TITLE.match(text.lstrip("\ufeff"))
    if title and title[1] != session:
        raise TemploraError(
            f"{name} is a review of {title[1]}, not of {session}",
            f"templora sync {title[1]} {shlex.quote(name)}",
        )
    by_number = {line.told: line for line in lines.values()}
    sources = {line.source for line in lines.values()}
    found: dict[int, Correction] = {}
    current: Line | None = None
    shown = ""
    for number, row in enumerate(text.split("\n"), 1):
        place = f"{name}, line {number}"
        if match := _NUMBER.fullmatch(row.strip()):
            current, shown = by_number.get(match[1]), match[2]
            if current is None:
                raise TemploraError(f"{place}: there is no paragraph {match[1]}", "leave the @ lines alone")
        elif row.startswith((">", "=")):
            if current is None:
                raise TemploraError(f"{place}: belongs to no paragraph", "one > or = line below each @ line")
            if (correction := _correction(current, row, shown, place)) is not None:
                found[current.paragraph] = correction
            current = None
        elif row.startswith("<") and current and row[1:].strip() in sources - {current.source}:
            # Files from before parts were told as such have other numbers.
            raise TemploraError(
                f"{place}: is the source of another paragraph than {current.told}",
                f"write the file anew: templora review {session}",
            )
        elif row.strip() and not (row.startswith("#") or (row.startswith("<") and current is not None)):
            raise TemploraError(f"{place}: is no line of a review", "a translation is one line, after its >")
    return [found[paragraph] for paragraph in sorted(found)]


def _correction(line: Line, row: str, shown: str, place: str) -> Correction | None:
    target = " ".join(row[1:].split())
    if row.startswith(">") and _shown(target) == shown:
        return None
    if not target:
        raise TemploraError(f"{place}: the translation is empty", "write one, or take the lines out")
    return Correction(line.paragraph, line.target, target)


_MARKS = ".,;:!?\"'“”‘’()[]…—-。、，；：！？「」『』（）《》〈〉【】·"
_MAX_FRAGMENT = 4
"""Words; a longer run is a sentence put otherwise, not a term that can come back."""
_ANEW = 0.5
"""Likeness (`difflib`) of a translation and its correction below which it was translated anew."""
_MAX_UNSPACED = 8
"""The same in characters, where there are no spaces."""
_MIN_FRAGMENT = {"Hani": 2, "Hira": 3, "Thai": 3}
"""Pieces of a script without spaces that may be a word; fewer are looked at with their neighbours."""
_PIECE = re.compile(
    rf"(?P<Kana>[{CHARACTERS['Kana']}]+)|(?P<Hani>[{CHARACTERS['Hani']}])|(?P<Hira>[{CHARACTERS['Hira']}])"
    r"|(?P<Thai>[\u0e40-\u0e44]?[\u0e01-\u0e2e][\u0e2f-\u0e3a\u0e45-\u0e4e]*)"
    rf"|(?P<word>[^\s{''.join(CHARACTERS[script] for script in sorted(UNSPACED))}]+)"
)
"""What may be replaced as a whole: a word, a run of katakana, a character, a Thai one with its marks."""

Change = list[tuple[str, str]]
"""Old and new text of one change; several extents of it where there are no spaces that show the word."""


def replaced(before: str, after: str) -> list[Change]:
    """What of `before` the text `after` has otherwise, in order."""
    old, new = [*_PIECE.finditer(before)], [*_PIECE.finditer(after)]
    was, now = ([piece.group() for piece in pieces] for pieces in (old, new))
    changes = []
    for kind, a, b, c, d in SequenceMatcher(None, was, now, autojunk=False).get_opcodes():
        extents = [] if kind == "equal" else _extents(old, a, b)
        change = [(_text(old, i, j), _text(new, c - (a - i), d + (j - b))) for i, j in extents]
        changes.append([pair for pair in change if all(pair)])
    return [change for change in changes if change]


def _text(pieces: Sequence[re.Match[str]], start: int, end: int) -> str:
    if not 0 <= start < end <= len(pieces):
        return ""
    return pieces[start].string[pieces[start].start() : pieces[end - 1].end()].strip(_MARKS)


def _extents(pieces: Sequence[re.Match[str]], a: int, b: int) -> list[tuple[int, int]]:
    """The pieces `a` to before `b`, or what may be the word around them where those are no whole one."""
    script = pieces[min(a, len(pieces) - 1)].lastgroup if pieces else None
    size = max(b - a, _MIN_FRAGMENT.get(str(script), 1))
    if size == b - a:
        return [(a, b)]
    found = []
    for i in range(max(0, b - size), min(a, len(pieces) - size) + 1):
        around = pieces[i : i + size]
        inside = i < a < i + size or b > a  # what was put in has pieces on both its sides
        if (
            inside
            and all(piece.lastgroup == script for piece in around)
            and _may_be_word(_text(around, 0, size))
        ):
            found.append((i, i + size))
    return found


def _may_be_word(text: str) -> bool:
    """Chinese words of grammar, such as 了 and 在, are no part of the word beside them."""
    return not (set(text) & set(HAN.inner) or text[0] in HAN.first or text[-1] in HAN.last)


def relapses(corrections: Iterable[Correction], lines: Iterable[Line]) -> dict[int, list[str]]:
    """Corrections that came back wrong, in words, by the paragraph of `lines` in which they did.

    A short run of text that a person replaced counts where it stands again in a later paragraph and what
    replaced it does not. Words that stand in what a person approved are no mistakes.
    """
    corrections = list(corrections)
    right = " ".join(one.target for one in corrections)
    wrong: list[tuple[int, Change]] = []
    for one in (one for one in corrections if one.before != one.target):  # the others were approved
        before, after = without_tags(one.before), without_tags(one.target)
        anew = SequenceMatcher(None, before, after, autojunk=False).ratio() < _ANEW
        for change in replaced(before, after):
            terms = [
                (old, new)
                for old, new in change
                if _is_term(old)
                and _is_short(new)
                and not _stands(old, new, right)
                # Where all was put otherwise, words that stand opposite each other are names or chance.
                and not (anew and old.islower())
            ]
            wrong.append((one.paragraph, terms))
    by_hand = {one.paragraph for one in corrections}
    lines = list(lines)
    numbers = {line.paragraph: line.told for line in lines}
    found: dict[int, list[str]] = {}
    for line in lines:
        for paragraph, terms in wrong if line.paragraph not in by_hand else ():
            again = (term for term in terms if line.paragraph > paragraph and _is_back(*term, line.target))
            for old, new in islice(again, 1):
                number = numbers.get(paragraph, paragraph + 1)
                told = f"“{old}” stands here, which paragraph {number} corrected to “{new}”"
                found.setdefault(line.paragraph, []).append(told)
    return found


def _is_term(text: str) -> bool:
    scripts = {piece.lastgroup for piece in _PIECE.finditer(text)}
    return _is_short(text) and any(map(str.isalpha, text)) and scripts != {"Hira"}


def _is_short(text: str) -> bool:
    pieces = [*_PIECE.finditer(text)]
    words = sum(piece.lastgroup == "word" for piece in pieces)
    return words <= _MAX_FRAGMENT and len(pieces) - words <= _MAX_UNSPACED


def _is_back(old: str, new: str, text: str) -> bool:
    return _stands(old, new, text) and new not in (text.replace(old, "\n") if new in old else text)


def _stands(old: str, new: str, text: str) -> bool:
    """Does `old` stand in the text as a whole, and not as a part of `new`?"""
    if old not in text:
        return False
    return bool(_whole(old).search(text.replace(new, "\n") if old in new else text))


def _whole(fragment: str) -> re.Pattern[str]:
    before, after = (_word_characters(end) for end in (fragment[0], fragment[-1]))
    return re.compile(rf"(?<!{before}){re.escape(fragment)}(?!{after})")


def _word_characters(end: str) -> str:
    """A class of what would go on with a word that begins or ends with this; a script without spaces
    does not show it."""
    piece = _PIECE.fullmatch(end)
    if piece is None or piece.lastgroup in _MIN_FRAGMENT:
        return r"[^\s\S]"
    if piece.lastgroup == "Kana":
        return rf"[{CHARACTERS['Kana']}]"
    return rf"[^\W{''.join(CHARACTERS[script] for script in sorted(UNSPACED))}]"
