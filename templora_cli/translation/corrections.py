"""Review files, in which a person corrects a translation, and the mistakes that a translation repeats.

A review file has three lines for each paragraph: `@` with its number, state and failed checks, `<` with the
source, `>` with the translation. A person edits the text after `>`, or replaces `>` by `=` to approve it.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice

from templora_cli.errors import TemploraError
from templora_cli.name_hints import HAN
from templora_cli.scripts import CHARACTERS, UNSPACED, without_tags
from templora_cli.translation.report import ParagraphReport

_TITLE = re.compile(r"# (\S+): to correct a translation, .*")
_NUMBER = re.compile(r"@(\d+(?:\.\d+)?) \[([0-9a-f]{8})\].*")


def review_text(paragraphs: Iterable[ParagraphReport], session: str) -> str:
    """The text of a review file."""
    parts = [
        f"# {session}: to correct a translation, edit the text after its >; to approve it, replace the >\n"
        f"# by =. Both are learnt. Then run: templora sync {session} THIS_FILE\n"
    ]
    for paragraph in paragraphs:
        messages = "; ".join(failure["message"] for failure in paragraph.failed_checks)
        state = f"{paragraph.state}: {messages}" if messages else paragraph.state
        parts.append(f"\n@{paragraph.number} [{_digest(paragraph.target)}] {state}\n")
        parts.append(f"< {paragraph.source}\n> {paragraph.target}\n")
    return "".join(parts)


def _digest(target: str) -> str:
    """A hash that shows whether a person edited the translation, even if the session has a newer one now."""
    return hashlib.sha256(" ".join(target.split()).encode("utf-8")).hexdigest()[:8]


@dataclass(frozen=True)
class Correction:
    """A translation that a person corrected or approved."""

    paragraph: int
    """Index of the paragraph in the document, from 0."""
    before: str
    """The translation by the model."""
    target: str
    """The correct translation; equal to `before` if it was approved."""


def read_corrections(
    text: str,
    paragraphs: Mapping[int, ParagraphReport],
    session: str,
    file_name: str,
    *,
    former_ids: Sequence[str] = (),
) -> list[Correction]:
    """The corrections in the text of a review file; `paragraphs` is the current state, by index.

    The file may have one of the session's `former_ids` in place of `session`.

    Raises TemploraError with the line: a file of another session, an unknown paragraph, a paragraph with the
    source of another, an empty translation, a line that does not belong in a review file.
    """
    title = _TITLE.match(text.lstrip("\ufeff"))
    if title and title[1] not in (session, *former_ids):
        raise TemploraError(
            f"{file_name} is a review of {title[1]}, not of {session}",
            f"templora sync {title[1]} {shlex.quote(file_name)}",
        )
    by_number = {paragraph.number: paragraph for paragraph in paragraphs.values()}
    sources = {paragraph.source for paragraph in paragraphs.values()}
    corrections: dict[int, Correction] = {}
    current: ParagraphReport | None = None
    digest = ""
    for line_number, line in enumerate(text.split("\n"), 1):
        location = f"{file_name}, line {line_number}"
        if match := _NUMBER.fullmatch(line.strip()):
            current, digest = by_number.get(match[1]), match[2]
            if current is None:
                raise TemploraError(
                    f"{location}: there is no paragraph {match[1]}", "do not edit the @ lines"
                )
        elif line.startswith((">", "=")):
            if current is None:
                raise TemploraError(
                    f"{location} belongs to no paragraph", "one > or = line below each @ line"
                )
            if (correction := _correction(current, line, digest, location)) is not None:
                corrections[current.paragraph] = correction
            current = None
        elif line.startswith("<") and current and line[1:].strip() in sources - {current.source}:
            # Older files count the parts of long paragraphs differently.
            raise TemploraError(
                f"{location} is not the source of paragraph {current.number}",
                f"write the file again: templora review {session}",
            )
        elif line.strip() and not (line.startswith("#") or (line.startswith("<") and current is not None)):
            raise TemploraError(
                f"{location} does not belong in a review file", "put a translation on one line, after its >"
            )
    return [corrections[index] for index in sorted(corrections)]


def _correction(paragraph: ParagraphReport, line: str, digest: str, location: str) -> Correction | None:
    target = " ".join(line[1:].split())
    if line.startswith(">") and _digest(target) == digest:
        return None
    if not target:
        raise TemploraError(
            f"{location}: the translation is empty", "write one, or remove the lines of the paragraph"
        )
    return Correction(paragraph.paragraph, paragraph.target, target)


_MARKS = ".,;:!?\"'“”‘’()[]…—-。、，；：！？「」『』（）《》〈〉【】·"
_MAX_TERM_WORDS = 4
"""A longer text is a rephrased sentence, not a term that can be repeated."""
_MAX_TERM_CHARACTERS = 8
"""The same for scripts without spaces."""
_MIN_EDIT_SIMILARITY = 0.5
"""If a correction is less similar (`difflib`), the person translated the paragraph from scratch."""
_MIN_WORD_PIECES = {"Hani": 2, "Hira": 3, "Thai": 3}
"""Minimum number of pieces of a word in scripts without spaces; fewer are extended by their neighbours."""
_PIECE = re.compile(
    rf"(?P<Kana>[{CHARACTERS['Kana']}]+)|(?P<Hani>[{CHARACTERS['Hani']}])|(?P<Hira>[{CHARACTERS['Hira']}])"
    r"|(?P<Thai>[\u0e40-\u0e44]?[\u0e01-\u0e2e][\u0e2f-\u0e3a\u0e45-\u0e4e]*)"
    rf"|(?P<word>[^\s{''.join(CHARACTERS[script] for script in sorted(UNSPACED))}]+)"
)
"""The smallest unit of a replacement: a word, a run of katakana, or a character (in Thai with its marks)."""

Change = list[tuple[str, str]]
"""(old text, new text) of one change. In scripts without spaces, several pairs: one for each possible word
around the characters that differ."""


def find_changes(before: str, after: str) -> list[Change]:
    """The changes that turn `before` into `after`, in order."""
    old, new = [*_PIECE.finditer(before)], [*_PIECE.finditer(after)]
    old_texts, new_texts = ([piece.group() for piece in pieces] for pieces in (old, new))
    changes = []
    for kind, a, b, c, d in SequenceMatcher(None, old_texts, new_texts, autojunk=False).get_opcodes():
        spans = [] if kind == "equal" else _possible_words(old, a, b)
        change = [(_text(old, i, j), _text(new, c - (a - i), d + (j - b))) for i, j in spans]
        changes.append([pair for pair in change if all(pair)])
    return [change for change in changes if change]


def _text(pieces: Sequence[re.Match[str]], start: int, end: int) -> str:
    if not 0 <= start < end <= len(pieces):
        return ""
    return pieces[start].string[pieces[start].start() : pieces[end - 1].end()].strip(_MARKS)


def _possible_words(pieces: Sequence[re.Match[str]], a: int, b: int) -> list[tuple[int, int]]:
    """Spans of pieces that may be the changed word: `a` to `b`, or longer if that is too short for a word."""
    script = pieces[min(a, len(pieces) - 1)].lastgroup if pieces else None
    size = max(b - a, _MIN_WORD_PIECES.get(str(script), 1))
    if size == b - a:
        return [(a, b)]
    spans = []
    for i in range(max(0, b - size), min(a, len(pieces) - size) + 1):
        span = pieces[i : i + size]
        is_inside = i < a < i + size or b > a  # an insertion has pieces on both sides
        if (
            is_inside
            and all(piece.lastgroup == script for piece in span)
            and _may_be_word(_text(span, 0, size))
        ):
            spans.append((i, i + size))
    return spans


def _may_be_word(text: str) -> bool:
    """Whether `text` has no Chinese function words, such as 了 and 在, which belong to no other word."""
    return not (
        set(text) & set(HAN.never_in_names) or text[0] in HAN.never_first or text[-1] in HAN.never_last
    )


def find_repeated_mistakes(
    corrections: Iterable[Correction], paragraphs: Iterable[ParagraphReport]
) -> dict[int, list[str]]:
    """Mistakes that were corrected and that a later paragraph repeats: messages by index of the paragraph.

    A mistake is a short text that a person replaced. A later paragraph repeats it if it contains that text
    and not the replacement. Words that occur in a human translation are no mistakes.
    """
    corrections = list(corrections)
    human_text = " ".join(correction.target for correction in corrections)
    mistakes = [
        (correction.paragraph, terms)
        for correction in corrections
        if correction.before != correction.target  # the others were approved
        for terms in _wrong_terms(correction, human_text)
    ]
    human = {correction.paragraph for correction in corrections}
    paragraphs = list(paragraphs)
    numbers = {paragraph.paragraph: paragraph.number for paragraph in paragraphs}
    messages: dict[int, list[str]] = {}
    for paragraph in paragraphs:
        index, target = paragraph.paragraph, paragraph.target
        for corrected, terms in mistakes if index not in human else ():
            repeated = (term for term in terms if index > corrected and _is_repeated(*term, target))
            for old, new in islice(repeated, 1):
                number = numbers.get(corrected, corrected + 1)
                message = f"“{old}” is used again; paragraph {number} was corrected to “{new}”"
                messages.setdefault(index, []).append(message)
    return messages


def _wrong_terms(correction: Correction, human_text: str) -> Iterator[Change]:
    """The changes of a correction, with only those pairs that replace a term."""
    before, after = without_tags(correction.before), without_tags(correction.target)
    similarity = SequenceMatcher(None, before, after, autojunk=False).ratio()
    # In a translation from scratch, opposite words are either names or opposite by chance.
    only_names = similarity < _MIN_EDIT_SIMILARITY
    for change in find_changes(before, after):
        yield [
            (old, new)
            for old, new in change
            if _is_term(old)
            and _is_short(new)
            and not _contains(human_text, old, new)
            and not (only_names and old.islower())
        ]


def _is_term(text: str) -> bool:
    scripts = {piece.lastgroup for piece in _PIECE.finditer(text)}
    return _is_short(text) and any(map(str.isalpha, text)) and scripts != {"Hira"}


def _is_short(text: str) -> bool:
    pieces = [*_PIECE.finditer(text)]
    words = sum(piece.lastgroup == "word" for piece in pieces)
    return words <= _MAX_TERM_WORDS and len(pieces) - words <= _MAX_TERM_CHARACTERS


def _is_repeated(old: str, new: str, text: str) -> bool:
    return _contains(text, old, new) and new not in (text.replace(old, "\n") if new in old else text)


def _contains(text: str, old: str, new: str) -> bool:
    """Whether `text` contains `old` as whole words, and not only as a part of `new`."""
    if old not in text:
        return False
    return bool(_whole_words(old).search(text.replace(new, "\n") if old in new else text))


def _whole_words(term: str) -> re.Pattern[str]:
    before, after = (_word_characters(end) for end in (term[0], term[-1]))
    return re.compile(rf"(?<!{before}){re.escape(term)}(?!{after})")


def _word_characters(end: str) -> str:
    """A character class of neighbours that belong to the same word as `end`; it matches nothing in scripts
    without spaces.
    """
    piece = _PIECE.fullmatch(end)
    if piece is None or piece.lastgroup in _MIN_WORD_PIECES:
        return r"[^\s\S]"
    if piece.lastgroup == "Kana":
        return rf"[{CHARACTERS['Kana']}]"
    return rf"[^\W{''.join(CHARACTERS[script] for script in sorted(UNSPACED))}]"
