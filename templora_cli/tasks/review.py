"""A translation as a file that a person corrects, and the corrections in it.

A paragraph is three lines and more: its number with what its checks say, `<` and the source, `>` and the
translation. A person changes what stands after `>`, or puts `=` in its place to say that it is right.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher

from templora_cli.errors import TemploraError
from templora_cli.tasks.report import Line

_TITLE = re.compile(r"# (\S+): change what stands after a > .*")
_NUMBER = re.compile(r"@(\d+) \[([0-9a-f]{8})\].*")


def review_text(lines: Iterable[Line], session: str) -> str:
    """The file that a person corrects."""
    parts = [
        f"# {session}: change what stands after a > to correct a translation, or put = in place of the > to\n"
        f"# say that it is right as it is; both are learnt. Then: templora sync {session} THIS_FILE\n"
    ]
    for line in lines:
        said = "; ".join(flaw["message"] for flaw in line.flaws)
        shown = _shown(line.target)
        parts.append(f"\n@{line.paragraph + 1} [{shown}] {line.state}{': ' if said else ''}{said}\n")
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

    Raises TemploraError that names the line: a file of another session, an unknown paragraph, a translation
    that was emptied, a line that is none of the file's.
    """
    title = _TITLE.match(text.lstrip("\ufeff"))
    if title and title[1] != session:
        raise TemploraError(
            f"{name} is a review of {title[1]}, not of {session}", f"templora sync {title[1]} {name}"
        )
    found: dict[int, Correction] = {}
    current: Line | None = None
    shown = ""
    for number, row in enumerate(text.split("\n"), 1):
        place = f"{name}, line {number}"
        if match := _NUMBER.fullmatch(row.strip()):
            current, shown = lines.get(int(match[1]) - 1), match[2]
            if current is None:
                raise TemploraError(f"{place}: there is no paragraph {match[1]}", "leave the @ lines alone")
        elif row.startswith((">", "=")):
            if current is None:
                raise TemploraError(f"{place}: belongs to no paragraph", "one > or = line below each @ line")
            if (correction := _correction(current, row, shown, place)) is not None:
                found[current.paragraph] = correction
            current = None
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


def replaced(before: str, after: str) -> list[tuple[str, str]]:
    """The runs of words of `before` that `after` has otherwise."""
    old, new = before.split(), after.split()
    changes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [
        (" ".join(old[a:b]).strip(_MARKS), " ".join(new[c:d]).strip(_MARKS))
        for kind, a, b, c, d in changes
        if kind == "replace"
    ]


_MARKS = ".,;:!?\"'“”‘’()[]…—-"
_LONGEST_FRAGMENT = 4
"""Words; a longer run is a sentence put otherwise, not a term that can come back."""


def relapses(corrections: Iterable[Correction], lines: Iterable[Line]) -> dict[int, list[str]]:
    """Corrections that came back wrong, in words, by the paragraph of `lines` in which they did.

    A run of a few words that a person replaced counts where it stands again in a later paragraph and what
    replaced it does not. Words that stand in what a person approved are no mistakes.
    """
    corrections = list(corrections)
    right = " ".join(one.target for one in corrections)
    wrong: list[tuple[int, str, str, re.Pattern[str]]] = []
    for one in corrections:
        for old, new in replaced(one.before, one.target):
            short = 0 < len(old.split()) <= _LONGEST_FRAGMENT and any(map(str.isalpha, old))
            if short and new and not (pattern := _whole(old)).search(right):
                wrong.append((one.paragraph, old, new, pattern))
    by_hand = {one.paragraph for one in corrections}
    found: dict[int, list[str]] = {}
    for line in lines:
        for paragraph, old, new, pattern in wrong:
            after = line.paragraph > paragraph and line.paragraph not in by_hand
            if after and old in line.target and pattern.search(line.target) and new not in line.target:
                told = f"“{old}” stands here, which paragraph {paragraph + 1} corrected to “{new}”"
                found.setdefault(line.paragraph, []).append(told)
    return found


def _whole(fragment: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(fragment)}(?!\w)")
