"""Foreign scripts, repeated characters, and words or sentences without spaces between them."""

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
"""Letters of foreign scripts in quotation marks, brackets or italics, in one chunk."""
MAX_LATIN_RUN = 48
"""Latin letters without a letter of another script between them, in a text of another script."""
MAX_RUNS = {"letter": 7, "Han": 9, "mark": 6, "dash": 5, "hyphen": 8, "dot": 12, "line": 80}
"""Times that a character may be repeated. "hyphen" has underlines and asterisks too; "line" is any of these
in a line of its own, which separates scenes. In PG-19 3125 and GuoFeng 102 the maximum is 5."""
MAX_WORD_LETTERS = 36
"""In a script with spaces. In the human books the maximum is 19; German has compounds of over 30."""
MIN_GLUED_SENTENCES = 5
"""Ends of sentences without a space, in a chunk. In the human books the maximum is 3."""
MIN_GLUED_WORDS = 4
"""Capitals inside of words, in a chunk."""

_KNOWN = "".join(CHARACTERS.values())
_OTHER_LETTER = rf"[^\W\d_{_KNOWN}\u02b0-\u02ff\u1d00-\u1dbf\u2070-\u209c\u2100-\u214f]"
"""Letters of scripts without a row in `CHARACTERS`, but no modifiers, superscripts or letter-like signs."""
_QUOTES = re.compile(
    r"[\"“„«「『(（\[_*‘'《][^\"”“»」』)）\]_*’'》]{1,80}[\"”“»」』)）\]_*’'》]",
)
_LATIN = CHARACTERS["Latn"]
_LATIN_RUN = re.compile(rf"[{_LATIN}](?:[{_LATIN}\s\d'’,.;:!?\"“”()-]*[{_LATIN}])?")
_RUN = re.compile(r"(\S)\1{5,}")
_GROUPS = re.compile(r"(\S{2,6}?)\1{6,}")
_BROKEN = re.compile(r"[\ufffd\ue000-\uf8ff\x00-\x08\x0b\x0e-\x1f\x7f]")
_UNSPACED = "".join(CHARACTERS[name] for name in sorted(UNSPACED))
_LONG_WORD = re.compile(rf"[^\W\d_{_UNSPACED}]{{{MAX_WORD_LETTERS + 1},}}")
_HYPHENATED = re.compile(r"-(?:\w{1,20}-){5,}")
_GLUED_SENTENCE = re.compile(r"[.!?](?<=[a-zà-ÿ]{2}.)[A-ZÀ-Þ]?[a-zà-ÿ]{2}")
_GLUED_WORD = re.compile(r"[A-ZÀ-Þ](?<=[a-zà-ÿ]{2}.)(?=[a-zà-ÿ]{2})")


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
    matches = [
        match for match in _foreign(allowed).finditer(passage.text) if not _is_symbol(passage.text, match)
    ]
    if not matches:
        return
    quoted = [quote.span() for quote in _QUOTES.finditer(passage.text)]
    letters = sum(len(match[0]) for match in matches)
    for match in matches:
        inside = any(start < match.start() and match.end() < end for start, end in quoted)
        if not inside or letters > MAX_QUOTED_LETTERS:
            name = next((name for name, _ in script_runs(match[0])), "unknown")
            yield match.start(), match.end(), f"it has letters of another script ({name})"


def _is_symbol(text: str, match: re.Match[str]) -> bool:
    """Is it a single letter that stands alone: α, π?"""
    around = text[max(0, match.start() - 1) : match.start()] + text[match.end() : match.end() + 1]
    return len(match[0]) == 1 and not any(char.isalpha() for char in around)


@lru_cache(maxsize=32)
def _foreign(allowed: frozenset[str]) -> re.Pattern[str]:
    """Runs of letters of scripts that are neither allowed nor Latin."""
    chars = "".join(chars for name, chars in CHARACTERS.items() if name not in {*allowed, "Latn"})
    return re.compile(rf"[{chars}]+|(?:{_OTHER_LETTER})+")


def _scripts_of_book(passage: Passage) -> frozenset[str]:
    """The scripts of the text before; of the new text, if that is too short, the most frequent one."""
    counts = Counter[str]()
    for name, run in script_runs(passage.before + passage.text[: passage.offset]):
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
    for match in _RUN.finditer(passage.text):
        if len(match[0]) > MAX_RUNS[_kind_of_run(passage.text, match)]:
            yield match.start(), match.end(), "it repeats characters"
    for match in _GROUPS.finditer(passage.text):
        if len(set(match[1])) > 1:
            yield match.start(), match.end(), "it repeats characters"
    # A character may be incomplete at the ends of a chunk.
    end = len(passage.text.rstrip("\ufffd"))
    for match in _BROKEN.finditer(passage.text, passage.offset + 1, end):
        yield match.start(), match.end(), "it has broken characters"


def _kind_of_run(text: str, match: re.Match[str]) -> str:
    char = match[1]
    if char in "*=~_—–―─－-＿＊":
        start, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.end())
        line = text[start : end if end >= 0 else len(text)]
        if not any(other.isalnum() and other != "_" for other in line):
            return "line"
        return "dash" if char in "—–―─－" else "hyphen"
    if char.isalnum():
        return "Han" if "\u3040" <= char <= "\u9fff" else "letter"
    return "dot" if char in ".…。·" else "mark"


def missing_spaces(passage: Passage) -> Iterator[Match]:
    """Words and sentences without spaces between them."""
    if max(map(len, passage.text.split()), default=0) > MAX_WORD_LETTERS:
        for match in _LONG_WORD.finditer(passage.text):
            yield match.start(), match.end(), "it has words without spaces"
    for match in _HYPHENATED.finditer(passage.text):
        yield match.start(), match.end(), "it has chains of words with hyphens"
    for pattern, minimum in ((_GLUED_SENTENCE, MIN_GLUED_SENTENCES), (_GLUED_WORD, MIN_GLUED_WORDS)):
        matches = list(pattern.finditer(passage.text))
        if len(matches) >= minimum:
            yield matches[0].start(), matches[-1].end(), "it has no spaces between sentences or words"
