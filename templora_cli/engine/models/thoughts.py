"""The tags between which a model thinks before it answers: what opens one, and how it is closed.

They differ from model to model (<think>, [THINK], <seed:think>, <|START_THINKING|>, channels), so they are
told by what they are called.
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


def is_thought_tag(text: str) -> bool:
    """Does `text`, a token, open or close a thought?"""
    return _TAG.fullmatch(text) is not None and re.search(_WORD, text, re.IGNORECASE) is not None


def open_tags(text: str) -> list[str]:
    """The tags in `text` that open a thought which nothing there closes, the first one first."""
    opened: list[str] = []
    for found in _TAG.finditer(text):
        tag = found[0]
        if opened and (tag in _closings(opened[-1]) or (_is_channel(tag) and _is_channel(opened[-1]))):
            opened.pop()
        if re.search(_WORD, tag, re.IGNORECASE) and not _closes(tag):
            opened.append(tag)
    return opened


def closing_of(tag: str, known: str) -> str | None:
    """What closes the thought that `tag` opens; None where that cannot be told.

    `known` holds the tags that the model knows: its template and its own tokens.
    """
    found = next((closing for closing in _closings(tag) if closing in known), None)
    plain = re.fullmatch(r"(<|\[)([\w:.-]+)(>|\])", tag)
    return found or (f"{plain[1]}/{plain[2]}{plain[3]}" if plain else None)


def _closings(tag: str) -> Iterator[str]:
    """What may close `tag`, the usual one first."""
    if _is_channel(tag):
        yield "<channel|>"
        return
    bare = tag.strip("<>[]|◁▷")
    before, after = tag[: tag.index(bare)], tag[tag.index(bare) + len(bare) :]
    yield f"{before}/{bare}{after}"
    yield f"{before[:1]}/{before[1:]}{bare}{after}"
    for begin, end in _ENDS.items():
        if begin in bare:
            yield f"{before}{bare.replace(begin, end)}{after}"
    for form in ("end_{}", "end_of_{}", "endof{}", "{}_end", "END_{}", "{}_END"):
        yield f"{before}{form.format(bare)}{after}"


def _closes(tag: str) -> bool:
    ends = r"/|(?<![a-z])end(?![a-z])|end_?of|suffix|close"
    return re.search(ends, tag, re.IGNORECASE) is not None


def _is_channel(tag: str) -> bool:
    """Where a channel begins, the one before it ends."""
    return tag.lower().startswith("<|channel")
