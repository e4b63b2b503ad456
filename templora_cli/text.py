"""Text from tokens as they are decoded; sentences; counting words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

Decode = Callable[[Sequence[int]], str]
"""Decodes a sequence of token ids to text."""

_LOOKBACK_TOKENS = 8
"""Earlier tokens that the text of a token can depend on (a leading space, bytes of one character)."""

_REPLACEMENT = "\ufffd"

# Chinese, Japanese and Korean prose has no spaces: each character counts as a word, as editors count.
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")


def count_words(text: str) -> int:
    """Number of words: runs without white space, and each Chinese or Japanese character."""
    return sum(1 for _ in _words(text))


def _words(text: str) -> Iterator[str]:
    return (match[0] for match in _WORD.finditer(text) if any(map(str.isalnum, match[0])))


def have_words(texts: Iterable[str], count: int) -> bool:
    """Whether texts have at least `count` words; only as many of them are counted as that takes."""
    words = (word for text in texts for word in _words(text))
    return sum(1 for _ in islice(words, count)) == count


def decode(tokenizer: Any, tokens: Sequence[int]) -> str:
    """Decode token ids to text as it is in the book, without special tokens."""
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))


# The end of a sentence, with closing quotes and brackets. In scripts with spaces a space must follow.
# Abbreviations are not recognised, so a piece may be shorter than a sentence.
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
    """Decodes tokens one at a time; the pieces, joined, are the text of all tokens.

    The text of a token depends on its neighbours: the bytes of a character may be spread over several tokens,
    and some tokenizers drop a leading space. So a token is decoded together with a few before it and the
    difference is returned. Incomplete characters are held back.
    """

    def __init__(self, decode: Decode, past: Sequence[int] = ()) -> None:
        """Start after the tokens `past`, as if they had been pushed."""
        self._decode = decode
        self._ids: list[int] = []
        self._returned = 0  # tokens of _ids whose text was returned
        tail = 4 * _LOOKBACK_TOKENS
        while tail < len(past) and not decode(past[-tail:]).strip(_REPLACEMENT):
            tail *= 2  # incomplete bytes only: the stream has held them back since an earlier token
        for token in past[-tail:]:
            self.push(token)

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is incomplete."""
        self._ids.append(token)
        now = self._decode(self._ids)
        if now.endswith(_REPLACEMENT):
            return ""
        text = now[len(self._decode(self._ids[: self._returned])) :]
        del self._ids[:-_LOOKBACK_TOKENS]
        self._returned = len(self._ids)
        return text
