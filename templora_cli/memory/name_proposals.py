"""Names that a text has and its ledger lacks."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from templora_cli.languages import Language, detect_language
from templora_cli.memory.ledger import Ledger
from templora_cli.term_proposals import Proposal, propose_terms
from templora_cli.text import sentences

MAX_CHARACTERS = 160
"""A longer sentence is cut around the name."""
ENGLISH = Language("en", "English")


def propose_names(text: str, ledger: Ledger, *, limit: int) -> list[Proposal]:
    """At most `limit` names of `text` that `ledger` lacks, the most frequent first, each with its sentence.

    Words of a text whose language is not recognised are names if they have capitals within sentences.
    """
    paragraphs = list(_prose(text))
    language = detect_language(text) or ENGLISH
    proposals = propose_terms(paragraphs, language, existing=(), limit=sys.maxsize)
    lacking = [
        proposal
        for proposal in proposals
        if ledger.owner_of(proposal.source) is None and not _is_abbreviation(proposal, paragraphs)
    ]
    return [
        replace(proposal, example=_sentence_with(proposal.source, paragraphs) or proposal.example)
        for proposal in sorted(lacking[:limit], key=lambda proposal: -proposal.count)
    ]


def _prose(text: str) -> Iterator[str]:
    """The paragraphs, each in one line, without headings, whose words have capitals anyway."""
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        if not line.startswith("#") and not line.isupper():
            yield line


def _is_abbreviation(proposal: Proposal, paragraphs: Sequence[str]) -> bool:
    """Does a full stop follow the word nearly always, as in "Mr. Pym"?"""
    stops = sum(paragraph.count(f"{proposal.source}. ") for paragraph in paragraphs)
    return stops > 0.8 * proposal.count


def _sentence_with(name: str, paragraphs: Sequence[str]) -> str:
    """The first sentence with the name as a word, or else within one; "" if there is none."""
    word = re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])")
    for pattern in (word, re.compile(re.escape(name))):
        for paragraph in paragraphs:
            if name in paragraph and (match := pattern.search(paragraph)):
                for sentence in map(str.strip, sentences(paragraph)):
                    if in_sentence := pattern.search(sentence):
                        return _around(sentence, *in_sentence.span())
                return _around(paragraph, *match.span())  # "Mr. Pym" looks like two sentences
    return ""


def _around(sentence: str, start: int, end: int) -> str:
    """The words of a sentence around a part of it, "…" where it is cut."""
    if len(sentence) <= MAX_CHARACTERS:
        return sentence
    first = max(0, min((start + end - MAX_CHARACTERS) // 2, len(sentence) - MAX_CHARACTERS))
    last = first + MAX_CHARACTERS
    part = sentence[first:last]
    if first and " " in sentence[first:start]:
        part = f"…{part.partition(' ')[2]}"
    if last < len(sentence) and " " in sentence[end:last]:
        part = f"{part.rpartition(' ')[0]}…"
    return part
