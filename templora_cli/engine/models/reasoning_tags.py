"""The tags that enclose a model's reasoning before its answer.

They differ between models (<think>, [THINK], <seed:think>, <|START_THINKING|>, channels), so they are
recognised by the words in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_WORD = r"(?<![a-z])(?:think|thought|reason|reflect|scratchpad|analysis|inner|cot(?![a-z]))"
_TAG = re.compile(
    rf"<\|channel\|?>\s*(?:{_WORD})\w*|<channel\|>|<[^<>\s]{{1,40}}>|\[[A-Z_/]{{2,30}}\]|◁[^◁▷\s]{{1,20}}▷",
    re.IGNORECASE,
)
_ENDS = {"START": "END", "start": "end", "BEGIN": "END", "begin": "end", "PREFIX": "SUFFIX"}
_ENDS |= {"prefix": "suffix", "OPEN": "CLOSE", "open": "close"}


def is_reasoning_tag(text: str) -> bool:
    """Is this token a tag that opens or closes reasoning?"""
    return _TAG.fullmatch(text) is not None and re.search(_WORD, text, re.IGNORECASE) is not None


def open_tags(text: str) -> list[str]:
    """The tags in `text` that open reasoning and are not closed in it, in order."""
    opened: list[str] = []
    for match in _TAG.finditer(text):
        tag = match[0]
        if opened and (tag in _closings(opened[-1]) or (_is_channel(tag) and _is_channel(opened[-1]))):
            opened.pop()
        if re.search(_WORD, tag, re.IGNORECASE) and not _is_closing(tag):
            opened.append(tag)
    return opened


def closing_of(tag: str, vocabulary: str) -> str | None:
    """The tag that closes `tag`; None if it cannot be determined.

    `vocabulary` contains the tags of the model: its chat template and its special tokens.
    """
    closing = next((candidate for candidate in _closings(tag) if candidate in vocabulary), None)
    simple = re.fullmatch(r"(<|\[)([\w:.-]+)(>|\])", tag)
    return closing or (f"{simple[1]}/{simple[2]}{simple[3]}" if simple else None)


def _closings(tag: str) -> Iterator[str]:
    """Possible closing tags, the most common first."""
    if _is_channel(tag):
        yield "<channel|>"
        return
    name = tag.strip("<>[]|◁▷")
    before, after = tag[: tag.index(name)], tag[tag.index(name) + len(name) :]
    yield f"{before}/{name}{after}"
    yield f"{before[:1]}/{before[1:]}{name}{after}"
    for begin, end in _ENDS.items():
        if begin in name:
            yield f"{before}{name.replace(begin, end)}{after}"
    for form in ("end_{}", "end_of_{}", "endof{}", "{}_end", "END_{}", "{}_END"):
        yield f"{before}{form.format(name)}{after}"


def _is_closing(tag: str) -> bool:
    end = r"/|(?<![a-z])end(?![a-z])|end_?of|suffix|close"
    return re.search(end, tag, re.IGNORECASE) is not None


def _is_channel(tag: str) -> bool:
    """Does the tag begin a channel, and so end the previous one?"""
    return tag.lower().startswith("<|channel")
