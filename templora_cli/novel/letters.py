"""Foreign scripts, characters that are repeated, and words or sentences without spaces between them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from functools import lru_cache

from templora_cli.novel.marks import Match
from templora_cli.novel.passage import Passage
from templora_cli.scripts import CHARACTERS, UNSPACED, script_runs

MIN_KNOWN_LETTERS = 200
"""Letters of the text before that are enough to know the scripts of a book."""
MIN_SCRIPT_SHARE = 0.02
"""A script with a smaller share of them is not one of the book."""
MAX_QUOTED_LETTERS = 24
"""Letters of foreign scripts that may stand in quotation marks, brackets or italics."""
MAX_LATIN_RUN = 80
"""Latin letters in a row, with spaces and punctuation, in a text of another script: a name or a phrase."""
MAX_WORD = 40
"""Letters of the longest word in a script with spaces."""
MAX_HYPHENS = 6
"""Hyphens in a word."""
MIN_GLUED = 6
"""Sentences or words without a space between them, in one chunk."""

OTHER = "other"
_KNOWN = "".join(CHARACTERS.values())
_OTHER_LETTER = re.compile(rf"[^\W\d_{_KNOWN}\u02b0-\u02ff\u1d00-\u1dbf\u2070-\u209c\u2100-\u214f]")
_QUOTES = re.compile(r"[\"“„«「『(（\[_*‘'《][^\"”“»」』)）\]_*’'》]{1,80}[\"”“»」』)）\]_*’'》]")
_LATIN_RUN = re.compile(
    rf"[{CHARACTERS['Latn']}](?:[{CHARACTERS['Latn']}\s\d'’,.;:!?\"“”()-]*[{CHARACTERS['Latn']}])?"
)
_REPEATED = (
    re.compile(r"([^\W\d_])\1{11,}"),
    re.compile(r"([^\w\s.…*=~_—–―─－-])\1{9,}"),
    re.compile(r"([.…。·])\1{15,}"),
    re.compile(r"(?<=[^\s*=~_—–―─－-])([*=~_—–―─－-])\1{9,}|([*=~_—–―─－-])\2{9,}(?=[^\s*=~_—–―─－-])"),
    re.compile(r"([*=~_—–―─－-])\1{80,}"),
    re.compile(r"(\S{2,6}?)\1{7,}"),
    re.compile(r"\b(\d)\1{7,}"),
)
_BROKEN = re.compile(r"\ufffd|[\ue000-\uf8ff]|[\x00-\x08\x0b\x0e-\x1f\x7f]")
_LONG_WORD = re.compile(rf"[^\W\d_{''.join(CHARACTERS[name] for name in sorted(UNSPACED))}]{{{MAX_WORD},}}")
_HYPHENATED = re.compile(rf"\w+(?:-\w+){{{MAX_HYPHENS},}}")
_GLUED_SENTENCE = re.compile(r"[a-zà-ÿ]{2}[.!?,;][A-Z]?[a-zà-ÿ]{2}")
_GLUED_WORD = re.compile(r"(?<=[a-zà-ÿ]{2})[A-ZÀ-Þ](?=[a-zà-ÿ]{2})")


def foreign_scripts(passage: Passage, scripts: Collection[str] | None) -> Iterator[Match]:
    """Letters of a script that is not one of `scripts`, unless a short word of it is quoted.

    Latin letters are accepted in a text of another script: names and loans, not whole sentences.
    """
    allowed = frozenset(scripts) if scripts else _scripts_of_book(passage)
    if not allowed:
        return
    if "Latn" not in allowed:
        for match in _LATIN_RUN.finditer(passage.text):
            if sum(char.isalpha() for char in match[0]) > MAX_LATIN_RUN:
                yield match.start(), match.end(), "it changes to another script (Latn)"
    foreign = _foreign(allowed)
    matches = [
        match
        for match in foreign.finditer(passage.text)
        if len(match[0]) > 1 or _adjoins(passage.text, match)
    ]
    if not matches:
        return
    quoted = [quote.span() for quote in _QUOTES.finditer(passage.text)]
    letters = sum(len(match[0]) for match in matches)
    for match in matches:
        inside = any(start < match.start() and match.end() < end for start, end in quoted)
        if not inside or letters > MAX_QUOTED_LETTERS:
            name = next((name for name, _ in script_runs(match[0])), OTHER)
            yield match.start(), match.end(), f"it has letters of another script ({name})"


def _adjoins(text: str, match: re.Match[str]) -> bool:
    """Is a single foreign letter part of a word? One that stands alone may be a symbol: α, π."""
    around = text[max(0, match.start() - 1) : match.start()] + text[match.end() : match.end() + 1]
    return any(char.isalpha() for char in around)


@lru_cache(maxsize=32)
def _foreign(allowed: frozenset[str]) -> re.Pattern[str]:
    """Runs of letters of scripts that are neither allowed nor Latin."""
    chars = "".join(chars for name, chars in CHARACTERS.items() if name not in {*allowed, "Latn"})
    return re.compile(rf"[{chars}]+|(?:{_OTHER_LETTER.pattern})+")


def _scripts_of_book(passage: Passage) -> frozenset[str]:
    """The scripts of the text before; of the new text, if that is too short, the most frequent one."""
    lead = passage.text[: passage.offset]
    counts = Counter[str]()
    for name, run in script_runs(passage.before + lead):
        counts[name] += len(run)
    if (total := sum(counts.values())) >= MIN_KNOWN_LETTERS:
        found = {name for name, count in counts.items() if count >= MIN_SCRIPT_SHARE * total}
    else:
        for name, run in script_runs(passage.text[passage.offset :]):
            counts[name] += len(run)
        found = {name for name, _ in counts.most_common(1)}
    return frozenset(found | {"Hani", "Hira", "Kana"} if found & {"Hira", "Kana"} else found)


def repeated_characters(passage: Passage) -> Iterator[Match]:
    """Characters, or groups of up to six, that are repeated; characters that are no text."""
    for pattern in _REPEATED:
        for match in pattern.finditer(passage.text):
            yield match.start(), match.end(), "it repeats characters"
    for match in _BROKEN.finditer(passage.text.rstrip("\ufffd")):
        if match.start() > passage.offset:
            yield match.start(), match.end(), "it has broken characters"


def missing_spaces(passage: Passage) -> Iterator[Match]:
    """Words without spaces between them."""
    for pattern in (_LONG_WORD, _HYPHENATED):
        for match in pattern.finditer(passage.text):
            yield match.start(), match.end(), "it writes words without spaces"
    for pattern, what in ((_GLUED_SENTENCE, "sentences"), (_GLUED_WORD, "words")):
        matches = list(pattern.finditer(passage.text))
        if len(matches) >= MIN_GLUED:
            yield matches[0].start(), matches[-1].end(), f"it writes {what} without spaces"
