"""Tokens to text as they come, and counting words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, the whole sequence at once."""

_MEMORY = 8
"""Tokens of the past that a token's text can depend on (a leading space, bytes of one character)."""

_REPLACEMENT = "\ufffd"

# Chinese, Japanese and Korean prose has no spaces: each character counts as a word, as editors count.
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")


def count_words(text: str) -> int:
    """Words of `text`: runs without white space, and each Chinese or Japanese character."""
    return sum(1 for match in _WORD.finditer(text) if any(c.isalnum() for c in match.group()))


def decode(tokenizer: Any, tokens: Sequence[int]) -> str:
    """Token ids to text, as it stands in the book."""
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))


# What ends a sentence, with the quotes and brackets that close after it. Of scripts with spaces one must
# follow; abbreviations are not known, so a piece may be shorter than a sentence.
_CLOSING = r"""["'”’»)\]」』】）]*"""
_SENTENCE = re.compile(rf"[。！？…]+{_CLOSING}\s*|[.!?…]+{_CLOSING}\s+")


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph, each with the space after it; joined they are `text`."""
    parts: list[str] = []
    start = 0
    for match in _SENTENCE.finditer(text):
        parts.append(text[start : match.end()])
        start = match.end()
    return [*parts, text[start:]] if start < len(text) or not parts else parts


class TextStream:
    """The text of tokens as they come, one at a time; joined, it is the text of them all.

    A token's text depends on its neighbours: a character may be spread over several tokens (its
    bytes), and some tokenizers drop a leading space. So a few tokens are decoded together with their
    past and the difference is handed out; what is not whole yet is held back.
    """

    def __init__(self, decode: Decode, past: Sequence[int] = ()) -> None:
        """Begin after the tokens `past`, so that a book goes on as if it had never stopped."""
        self._decode = decode
        self._ids: list[int] = []
        self._told = 0  # tokens of _ids whose text has been handed out
        tail = 4 * _MEMORY
        while tail < len(past) and not decode(past[-tail:]).strip(_REPLACEMENT):
            tail *= 2  # broken bytes all the way: the stream has held them back since before that
        for token in past[-tail:]:
            self.push(token)

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is not whole."""
        self._ids.append(token)
        now = self._decode(self._ids)
        if now.endswith(_REPLACEMENT):
            return ""
        text = now[len(self._decode(self._ids[: self._told])) :]
        del self._ids[:-_MEMORY]
        self._told = len(self._ids)
        return text
