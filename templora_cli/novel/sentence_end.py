"""Find the ends of sentences by their punctuation. Unclear cases count as unfinished."""

from __future__ import annotations

import re

_SPACED = ".!?…‥‽‼⁇⁈⁉؟۔।॥։።፧។៕"
"""Marks that end a sentence and are followed by a space."""
_UNSPACED = "。｡．！？︒།။"
"""Marks of scripts without spaces between sentences."""
_UNMARKED = re.compile(r"[\u0e00-\u0eff]\Z")
"""Thai and Lao have no such mark: a space separates their sentences."""
_CLOSING = "\"'”’“‘»«›‹)\\]}」』】）〉》〕］｝＂＇*_†‡"
"""Quotes, brackets, emphasis and daggers that belong to the sentence before them: those of the next sentence
follow a space."""
_NOTE = r"\[\^?\w{1,4}\]|[¹²³⁰-⁹]+"
_AFTER = rf"(?:[{_CLOSING}]|{_NOTE}|[ \u00a0\u202f]»)*"
_END = re.compile(rf"(?:[{_SPACED}{_UNSPACED}]|(?<=[\u0370-\u03ff\u1f00-\u1fff])[;;]){_AFTER}\Z")
_SPEECH = re.compile(rf"(?:[—–―-][\"”»]|[」』]){_AFTER}\Z")
"""The end of interrupted speech and of Japanese speech, which can end a paragraph."""
_MAX_MARK = 40
"""The maximum number of characters of a mark with its closing quotes and notes."""

_WORD_BEFORE = re.compile(r"(?:\A|[^\w.])(\w+)\.\Z")
_NUMBER = re.compile(r"\s*\d+\.\Z")
_ABBREVIATIONS = frozenset(
    (
        *("Mr", "Mrs", "Ms", "Mx", "Messrs", "Dr", "Prof", "Rev", "Hon", "Gov", "Sen", "St", "Mt", "vs"),
        *("Capt", "Lt", "Col", "Maj", "Gen", "Sgt", "Mme", "Mlle", "Hr", "Fr", "Sr", "Sra"),
    )
)
_QUOTES = (("“", "”"), ("「", "」"), ("『", "』"))


def ends_sentence(text: str) -> bool:
    """Does `text` end with a sentence, ignoring white space after it?"""
    end = text.rstrip()
    return bool(_END.search(end[-_MAX_MARK:])) and not _is_abbreviated(end)


def ends_complete(text: str) -> bool:
    """Does `text` end with a sentence, and outside the quotes of its last paragraph?"""
    end = text.rstrip()
    if _UNMARKED.search(end):
        return len(end) < len(text)
    return ends_sentence(end) and not _in_quotes(end)


def ends_complete_before(text: str, after: str) -> bool:
    """Like `ends_complete(text)`, but checks the text that comes `after`, in whole characters.

    So a closing quote, a footnote mark or a lower-case continuation after `text` is recognised.
    """
    end, rest = text.rstrip(), after.lstrip()
    gap = text[len(end) :] + after[: len(after) - len(rest)]
    if "\n" in gap:
        return may_end_sentence(end) and not _in_quotes(end)
    if not rest or not ends_complete(end + gap):
        return False
    if gap:
        return not (rest[0].islower() or rest[0] == "»")
    return end[-1] in _UNSPACED and rest[0] not in f"{_SPACED}{_UNSPACED}{_CLOSING}[¹²³⁰⁴⁵⁶⁷⁸⁹"


def may_end_paragraph(text: str) -> bool:
    """Can a line end after `text` be the end of a paragraph?"""
    end = text.rstrip()
    return ends_sentence(end) or bool(_SPEECH.search(end[-_MAX_MARK:]))


def may_end_sentence(text: str) -> bool:
    """Can a sentence end with `text`? This checks only its last marks."""
    end = text.rstrip()
    return may_end_paragraph(end) or bool(_UNMARKED.search(end))


def _is_abbreviated(text: str) -> bool:
    """Does the final full stop belong to an initial, a title or a number in a list?"""
    line = text[text.rfind("\n") + 1 :]
    word = _WORD_BEFORE.search(line)
    if word is None:
        return False
    initial = len(word[1]) == 1 and word[1].isupper() and word[1] != "I"
    return initial or word[1] in _ABBREVIATIONS or bool(_NUMBER.match(line))


def _in_quotes(text: str) -> bool:
    """Is a quotation in the last paragraph still open?"""
    line = text[text.rfind("\n") + 1 :]
    if line.count('"') % 2:
        return True
    if "„" in line:  # German and others close with the mark that opens in English
        return line.count("„") > line.count("“") + line.count("”")
    angles = [char for char in line if char in "«»"]  # French «…», German »…«
    if angles and 2 * angles.count(angles[0]) > len(angles):
        return True
    return any(line.count(first) > line.count(last) for first, last in _QUOTES)
