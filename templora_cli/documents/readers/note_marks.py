"""The marks of notes and comments on a page: links with a number or a sign to a note, and links back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape
from typing import Literal

from templora_cli.documents.markup import Token, attribute_value

Mark = Literal["note", "comment"]

_SURE_MARK = re.compile(r"[\[(]\s*\w{1,4}\s*[\])]|\d{1,3}[.)]?|[*†‡§¶]{1,4}|[↩↑←⏎⤴]\S?")
_MARK = re.compile(rf"{_SURE_MARK.pattern}|[ivxlc]{{1,6}}|[a-z]{{1,3}}\d{{0,3}}|\d{{4}}", re.IGNORECASE)
_NOTE_TARGET = re.compile(r"#.*(?:cmnt|ftn|edn|fn|note|comment|msocom)", re.IGNORECASE)
_COMMENT = re.compile(r"cmnt|comment|msocom", re.IGNORECASE)
_MAX_MARK_CHARS = 500
"""A longer element is no mark, whatever tags it has."""


def mark_of(text: str, tokens: Sequence[Token], first: int, last: int) -> Mark | None:
    """The kind of the mark that the element with the tags `first` and `last` is; None if it is none."""
    token = tokens[first]
    if token.name not in ("a", "sup") or tokens[last].start - token.end > _MAX_MARK_CHARS:
        return None
    tag = text[token.start : token.end]
    words = unescape("".join(text[t.start : t.end] for t in tokens[first:last] if t.kind == "text")).strip()
    href = attribute_value(tag, "href") or ""
    if "noteref" in tag:
        return "note"
    if token.name == "sup":
        is_power = text[max(0, token.start - 1) : token.start].isdigit()
        return "note" if words and _SURE_MARK.fullmatch(words) and not is_power else None
    if "#" not in href or _is_whole_heading(tokens, first, last):
        return None
    if _SURE_MARK.fullmatch(words) or (_NOTE_TARGET.search(href) and _MARK.fullmatch(words)):
        return "comment" if _COMMENT.search(href) else "note"
    return None


def _is_whole_heading(tokens: Sequence[Token], first: int, last: int) -> bool:
    """Whether a link fills a heading, as that of a chapter with a number, which leads to the contents."""
    before, after = tokens[max(0, first - 1)], tokens[min(last + 1, len(tokens) - 1)]
    return before.name == after.name and re.fullmatch("h[1-6]", before.name) is not None
