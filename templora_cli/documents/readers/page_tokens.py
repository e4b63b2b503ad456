"""The tokens of an HTML or XHTML text that begin and end blocks of prose, and those that hold none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from html import unescape
from itertools import accumulate

from templora_cli.documents.document import Kind
from templora_cli.documents.inline import has_words
from templora_cli.documents.markup import Token, attribute_value, element_names

BLOCK_ELEMENTS = element_names(
    "address article aside base blockquote body caption center col colgroup dd details dialog dir div dl "
    "dt fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr "
    "html legend li link main menu meta nav ol optgroup option p pre search section summary table tbody "
    "td tfoot th thead title tr ul"
)
NO_PROSE = element_names(
    "script style textarea xmp iframe noembed noframes template svg math pre code object applet audio "
    "video canvas select"
)
RUBY_READINGS = element_names("rt rp rtc")
TRANSPARENT = element_names("ruby rb wbr")
"""Markup that applies to the words of the source only."""
ELEMENT_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), "heading"),
    **dict.fromkeys(("li", "dt", "dd"), "item"),
    **dict.fromkeys(("td", "th"), "cell"),
    **dict.fromkeys(("caption", "figcaption", "legend"), "caption"),
    "title": "metadata",
}
_NOTE_MARK_CHARS = 8


def partners_of(tokens: list[Token]) -> dict[int, int]:
    """The index of the closing tag of each opening tag that has one."""
    partners = {}
    stack: list[int] = []
    names: Counter[str] = Counter()
    for index, token in enumerate(tokens):
        if token.kind == "open":
            stack.append(index)
            names[token.name] += 1
        elif token.kind == "close" and names[token.name]:
            while tokens[stack[-1]].name != token.name:
                names[tokens[stack.pop()].name] -= 1
            names[token.name] -= 1
            partners[stack.pop()] = index
    return partners


def join_opaque(
    text: str, tokens: list[Token], is_opaque: Callable[[str, list[Token], int, int], bool] | None = None
) -> list[Token]:
    """`tokens` with each ruby reading, and each element without prose, as one token of kind "empty".

    `is_opaque` gets the indexes of the tags of an element. The default is that of a translation, which leaves
    code and notes as they are.
    """
    is_opaque = is_opaque or _is_opaque
    partners = partners_of(tokens)
    joined = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        last = partners.get(index)
        if last is not None and (token.name in RUBY_READINGS or is_opaque(text, tokens, index, last)):
            joined.append(Token("empty", token.start, tokens[last].end, token.name))
            index = last
        else:
            joined.append(token)
        index += 1
    return joined


def _is_opaque(text: str, tokens: list[Token], first: int, last: int) -> bool:
    token = tokens[first]
    if token.name in NO_PROSE:
        return True
    tag = text[token.start : token.end]
    if "translate" in tag and attribute_value(tag, "translate") == "no":
        return True
    if token.name == "nav":
        return "page-list" in (attribute_value(tag, "type") or "")
    if token.name not in ("a", "sup") or tokens[last].start - token.end > 500:
        return False
    if "noteref" in tag:
        return True
    # a number or asterisk that links to a note; a year in a link is text
    words = "".join(text[t.start : t.end] for t in tokens[first:last] if t.kind == "text")
    is_reference = token.name == "sup" or "#" in (attribute_value(tag, "href") or "")
    return is_reference and 0 < len(words.strip()) <= _NOTE_MARK_CHARS and not has_words(unescape(words))


def block_boundaries(text: str, tokens: list[Token], partners: dict[int, int]) -> list[bool]:
    """Whether each token ends a block: block tags, repeated line breaks, inline elements around these."""
    ends = [token.name in BLOCK_ELEMENTS for token in tokens]
    last_break: int | None = None
    for index, token in enumerate(tokens):
        if token.name == "br" and token.kind != "close":
            if last_break is not None:
                ends[index] = ends[last_break] = True
            last_break = index
        elif not (token.kind == "text" and not text[token.start : token.end].strip()) and token.name != "br":
            last_break = None
    ends_before = [0, *accumulate(ends)]
    enclosing = [pair for pair in partners.items() if ends_before[pair[1]] - ends_before[pair[0]]]
    for first, last in enclosing:
        ends[first] = ends[last] = True
    return ends
