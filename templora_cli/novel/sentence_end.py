"""Where a sentence ends, as far as its marks tell. What they do not tell counts as going on."""

from __future__ import annotations

import re

_SPACED = ".!?…‥‽‼⁇⁈⁉؟۔।॥։።፧។៕"
"""Marks that a blank follows."""
_UNSPACED = "。｡．！？︒།။"
"""Those of scripts without blanks between sentences."""
_UNMARKED = re.compile(r"[\u0e00-\u0eff]\Z")
"""Thai and Lao have no such mark: a blank parts their sentences."""
_CLOSING = "\"'”’“‘»«›‹)\\]}」』】）〉》〕］｝＂＇*_†‡"
"""Quotes, brackets, emphasis and daggers that belong to the sentence before them: those in front of the next
one have a blank before them."""
_NOTE = r"\[\^?\w{1,4}\]|[¹²³⁰-⁹]+"
_AFTER = rf"(?:[{_CLOSING}]|{_NOTE}|[ \u00a0\u202f]»)*"
_END = re.compile(rf"(?:[{_SPACED}{_UNSPACED}]|(?<=[\u0370-\u03ff\u1f00-\u1fff])[;;]){_AFTER}\Z")
_SPEECH = re.compile(rf"(?:[—–―-][\"”»]|[」』]){_AFTER}\Z")
"""Speech that is broken off, and speech in Japanese: a paragraph that ends so is whole."""
_LONGEST = 40
"""Characters that a mark and all that belongs to it may have."""

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
    """Does `text` end where a sentence does, white space after it apart?"""
    end = text.rstrip()
    return bool(_END.search(end[-_LONGEST:])) and not _is_abbreviated(end)


def ends_whole(text: str) -> bool:
    """Does it end where a sentence does, and with all quotes closed that its last paragraph opens?"""
    end = text.rstrip()
    if _UNMARKED.search(end):
        return len(end) < len(text)
    return ends_sentence(end) and not _in_quotes(end)


def ends_between(text: str, after: str) -> bool:
    """The same where it is known what comes `after`, in whole characters, so that a closing quote, the mark
    of a footnote and what goes on in small letters are no longer missed.
    """
    end, rest = text.rstrip(), after.lstrip()
    gap = text[len(end) :] + after[: len(after) - len(rest)]
    if "\n" in gap:
        return may_end(end) and not _in_quotes(end)
    if not rest or not ends_whole(end + gap):
        return False
    if gap:
        return not (rest[0].islower() or rest[0] == "»")
    return end[-1] in _UNSPACED and rest[0] not in f"{_SPACED}{_UNSPACED}{_CLOSING}[¹²³⁰⁴⁵⁶⁷⁸⁹"


def ends_paragraph(text: str) -> bool:
    """May a line end that follows `text` be the end of a paragraph, as after a sentence?"""
    end = text.rstrip()
    return ends_sentence(end) or bool(_SPEECH.search(end[-_LONGEST:]))


def may_end(text: str) -> bool:
    """May a sentence end where `text` does? This looks at its last marks only."""
    end = text.rstrip()
    return ends_paragraph(end) or bool(_UNMARKED.search(end))


def _is_abbreviated(text: str) -> bool:
    """Is the full stop that of an initial, a title or a number in a list?"""
    line = text[text.rfind("\n") + 1 :]
    word = _WORD_BEFORE.search(line)
    if word is None:
        return False
    initial = len(word[1]) == 1 and word[1].isupper() and word[1] != "I"
    return initial or word[1] in _ABBREVIATIONS or bool(_NUMBER.match(line))


def _in_quotes(text: str) -> bool:
    """Is a quotation of the last paragraph still open?"""
    line = text[text.rfind("\n") + 1 :]
    if line.count('"') % 2:
        return True
    if "„" in line:  # of German and its neighbours, which close with the mark that opens in English
        return line.count("„") > line.count("“") + line.count("”")
    angles = [char for char in line if char in "«»"]  # French «…», German »…«
    if angles and 2 * angles.count(angles[0]) > len(angles):
        return True
    return any(line.count(first) > line.count(last) for first, last in _QUOTES)
