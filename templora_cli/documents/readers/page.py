"""The prose of an HTML or XHTML text: its blocks with their inline markup, and the text with some replaced.

Only the ranges of blocks that are translated change; every other character stays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from itertools import accumulate

from templora_cli.documents.document import Kind, is_right_to_left
from templora_cli.documents.inline import Inline, Mark, has_words, inline_of, is_description, plain
from templora_cli.documents.markup import (
    Splice,
    Token,
    attribute,
    attributes_of,
    element_names,
    escape,
    spliced,
    tokens_of,
)

_BLOCKS = element_names(
    "address article aside base blockquote body caption center col colgroup dd details dialog dir div dl "
    "dt fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr "
    "html legend li link main menu meta nav ol optgroup option p pre search section summary table tbody "
    "td tfoot th thead title tr ul"
)
_NO_PROSE = element_names(
    "script style textarea xmp iframe noembed noframes template svg math pre code object applet audio "
    "video canvas select"
)
_READINGS = element_names("rt rp rtc")
_TRANSPARENT = element_names("ruby rb wbr")
"""Markup of the source's words that means nothing around a translation."""
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), "heading"),
    **dict.fromkeys(("li", "dt", "dd"), "item"),
    **dict.fromkeys(("td", "th"), "cell"),
    **dict.fromkeys(("caption", "figcaption", "legend"), "caption"),
    "title": "metadata",
}
_NOTE_MARK_CHARS = 8


@dataclass(frozen=True)
class PageBlock:
    """A stretch of prose between two block tags, or the words in an attribute."""

    start: int
    end: int
    inline: Inline[str]
    kind: Kind
    level: int
    """Of a heading: 1 to 6; else 0."""
    element: tuple[Token, Token] | None
    """The tags around it, where it is all that is between them."""
    is_attribute: bool = False
    """Does it describe an image or the page? Then it may stand inside another block."""


class Page:
    """An HTML or XHTML text; `blocks` are its words in order."""

    def __init__(self, text: str, *, xml: bool, entries: bool = False) -> None:
        """`entries` says that it is a table of contents, in which two languages share a line."""
        self.text = text
        self.xml = xml
        self._entries = entries
        self._tokens = _without_opaque(text, tokens_of(text))
        found = [*_blocks(text, self._tokens), *_descriptions(text, self._tokens)]
        self.blocks = sorted(found, key=lambda block: block.start)
        self._prose = [index for index, block in enumerate(self.blocks) if not block.is_attribute]

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> str:
        """The text with the `translations` of blocks; the text as it is where none has words."""
        described = self._described(translations, bilingual=bilingual)
        if described == self.text:
            return self._translated(translations, language, bilingual=bilingual)
        # Prose is the same there, at other offsets.
        page = Page(described, xml=self.xml, entries=self._entries)
        moved = dict(zip(self._prose, page._prose, strict=True))
        prose = {moved[index]: text for index, text in translations.items() if index in moved}
        return page._translated(prose, language, bilingual=bilingual)

    def _described(self, translations: Mapping[int, str], *, bilingual: bool) -> str:
        """The text with what the attributes say translated, in both languages where it is `bilingual`."""
        splices = []
        for index, translation in translations.items():
            block = self.blocks[index]
            if block.is_attribute and has_words(translation):
                words = plain(translation)
                words = f"{plain(block.inline.text)} / {words}" if bilingual else words
                quoted = self.text[block.start - 1] in "\"'"
                value = escape(words).replace('"', "&quot;").replace("'", "&#39;")
                splices.append(Splice(block.start, block.end, value if quoted else f'"{value}"'))
        return spliced(self.text, splices)

    def _translated(self, translations: Mapping[int, str], language: str, *, bilingual: bool) -> str:
        splices = []
        for index, translation in sorted(translations.items()):
            block = self.blocks[index]
            placed = block.inline.place(translation)
            if placed is None or block.is_attribute:
                continue
            splices.append(
                self._beside(block, placed, language) if bilingual else self._instead(block, placed)
            )
        if splices and not bilingual:
            splices += self._language(language)
        return spliced(self.text, splices)

    def _instead(self, block: PageBlock, placed: list[str | Mark[str]]) -> Splice:
        pieces = [*block.inline.lead, *placed, *block.inline.trail]
        return Splice(block.start, block.end, _written(pieces))

    def _beside(self, block: PageBlock, placed: list[str | Mark[str]], language: str) -> Splice:
        """The translation after the source: in a paragraph of its own, or after a line break in the same
        element where a second one could break a list, a table or a table of contents."""
        inline = block.inline
        if block.kind == "metadata" or self._entries:
            source = inline.place(inline.text) or []
            return self._instead(block, [*source, " / ", *map(_copy, placed)])
        words = _written([_copy(piece) for piece in (*inline.lead, *placed, *inline.trail)]).strip()
        lang = f'{"xml:lang" if self.xml else "lang"}="{escape(language)}"'
        lang += ' dir="rtl"' if is_right_to_left(language) else ""
        if block.element is not None and block.element[0].name == "p":
            opening, closing = block.element
            tag = re.sub(r"\s(?:xml:)?lang\s*=\s*(\"[^\"]*\"|'[^']*')", "", _no_ids(self._raw(opening)))
            copy = f"{tag[:-1].rstrip()} {lang}>{words}{self._raw(closing)}"
            return Splice(closing.end, closing.end, f"\n{copy}")
        line_break = "<br/>" if self.xml else "<br>"
        blank = len(self.text[block.start : block.end]) - len(self.text[block.start : block.end].rstrip())
        end = block.end - blank
        return Splice(end, end, f"{line_break}<span {lang}>{words}</span>")

    def _language(self, language: str) -> Iterator[Splice]:
        """Sets the language and direction of the root, and of blocks that say the same as the root."""
        root = next((t for t in self._tokens if t.name == "html" and t.kind == "open"), None)
        if root is None:
            return
        old = attribute(self._raw(root), "lang")
        to_left = is_right_to_left(language)
        wrong, right = ("ltr", "rtl") if to_left else ("rtl", "ltr")
        added = "" if old is not None else f' {"xml:lang" if self.xml else "lang"}="{escape(language)}"'
        added += ' dir="rtl"' if to_left and attribute(self._raw(root), "dir") is None else ""
        yield Splice(root.end - 1, root.end - 1, added)
        for token in self._tokens:
            if token.kind != "open" or token.name not in _BLOCKS:
                continue
            for found in attributes_of(self._raw(token)):
                start, end = token.start + found.start, token.start + found.end
                if found.name in ("lang", "xml:lang") and old and found.value.lower() == old.lower():
                    yield Splice(start, end, escape(language))
                elif found.name == "dir" and found.value.lower() == wrong:
                    yield Splice(start, end, right)

    def _raw(self, token: Token) -> str:
        return self.text[token.start : token.end]


def _written(pieces: list[str | Mark[str]]) -> str:
    return "".join(escape(p) if isinstance(p, str) else p.raw for p in pieces)


def _copy(piece: str | Mark[str]) -> str | Mark[str]:
    """What a second rendering of the same paragraph holds of a mark: nothing that may be there only once."""
    if isinstance(piece, str):
        return piece
    if piece.form == "void" and not re.match(r"<(?:br|code|kbd|math)\b", piece.raw):
        return ""
    return Mark(piece.form, _no_ids(piece.raw))


def _no_ids(tag: str) -> str:
    return re.sub(r"""\s(?:xml:)?(?:id|name)\s*=\s*("[^"]*"|'[^']*'|[^\s>]+)""", "", tag)


def _partners(tokens: list[Token]) -> dict[int, int]:
    """The index of the closing tag of every opening tag that has one."""
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


def _without_opaque(text: str, tokens: list[Token]) -> list[Token]:
    """`tokens` with each element that holds no prose as one token "empty", readings of ruby as "other"."""
    partners = _partners(tokens)
    kept = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        last = partners.get(index)
        if last is not None and (token.name in _READINGS or _is_opaque(text, tokens, index, last)):
            kept.append(Token("empty", token.start, tokens[last].end, token.name))
            index = last
        else:
            kept.append(token)
        index += 1
    return kept


def _is_opaque(text: str, tokens: list[Token], first: int, last: int) -> bool:
    token = tokens[first]
    if token.name in _NO_PROSE:
        return True
    tag = text[token.start : token.end]
    if "translate" in tag and attribute(tag, "translate") == "no":
        return True
    if token.name == "nav":
        return "page-list" in (attribute(tag, "type") or "")
    if token.name not in ("a", "sup") or tokens[last].start - token.end > 500:
        return False
    if "noteref" in tag:
        return True
    # a number or a star that leads to a note; a year in a link is text
    words = "".join(text[t.start : t.end] for t in tokens[first:last] if t.kind == "text")
    leads = token.name == "sup" or "#" in (attribute(tag, "href") or "")
    return leads and 0 < len(words.strip()) <= _NOTE_MARK_CHARS and not has_words(unescape(words))


def _boundaries(text: str, tokens: list[Token], partners: dict[int, int]) -> list[bool]:
    """Which tokens end a block: block tags, line breaks on end, and inline elements around any of these."""
    ends = [token.name in _BLOCKS for token in tokens]
    last_break: int | None = None
    for index, token in enumerate(tokens):
        if token.name == "br" and token.kind != "close":
            if last_break is not None:
                ends[index] = ends[last_break] = True
            last_break = index
        elif not (token.kind == "text" and not text[token.start : token.end].strip()) and token.name != "br":
            last_break = None
    before = [0, *accumulate(ends)]
    around = [pair for pair in partners.items() if before[pair[1]] - before[pair[0]]]
    for first, last in around:
        ends[first] = ends[last] = True
    return ends


def _blocks(text: str, tokens: list[Token]) -> Iterator[PageBlock]:
    partners = _partners(tokens)
    ends = _boundaries(text, tokens, partners)
    open_kinds: list[tuple[int, Kind, int]] = []  # index of the closing tag, kind, level of heading
    first = 0
    here: tuple[Kind, int] = ("text", 0)
    for index, is_end in enumerate([*ends, True]):
        if not is_end:
            continue
        block = _block(text, tokens, range(first, index), partners, here)
        if block is not None:
            yield block
        first = index + 1
        while open_kinds and open_kinds[-1][0] <= index:
            open_kinds.pop()
        around: tuple[Kind, int] = open_kinds[-1][1:] if open_kinds else ("text", 0)
        token = tokens[index] if index < len(tokens) else None
        if token is not None and token.kind == "open" and token.name in _KINDS:
            here = (_KINDS[token.name], int(token.name[1]) if token.name[1:].isdigit() else 0)
            if index in partners:
                open_kinds.append((partners[index], *here))
        else:
            here = around


def _block(
    text: str, tokens: list[Token], span: range, partners: dict[int, int], here: tuple[Kind, int]
) -> PageBlock | None:
    """The block of the tokens in `span`; None if there is nothing to translate in it."""
    if not any(tokens[i].kind in ("text", "cdata") for i in span):
        return None
    inline = inline_of(_pieces(text, tokens, span, partners))
    if not has_words(inline.text):
        return None
    before, after = span.start - 1, span.stop
    whole = before >= 0 and partners.get(before) == after
    element = (tokens[before], tokens[after]) if whole else None
    return PageBlock(tokens[span[0]].start, tokens[span[-1]].end, inline, *here, element)


def _descriptions(text: str, tokens: list[Token]) -> Iterator[PageBlock]:
    """What images show, and what the page is about, where an attribute says it in words."""
    for token in tokens:
        if token.kind not in ("open", "empty") or token.name not in ("img", "meta"):
            continue
        tag = text[token.start : token.end]
        if token.name == "meta" and (attribute(tag, "name") or "").lower() != "description":
            continue
        kind: Kind = "caption" if token.name == "img" else "metadata"
        for found in attributes_of(tag):
            if found.name.lower() == ("alt" if token.name == "img" else "content"):
                inline: Inline[str] = inline_of([found.value])
                start, end = token.start + found.start, token.start + found.end
                if is_description(found.value):
                    yield PageBlock(start, end, inline, kind, 0, None, is_attribute=True)


def _pieces(
    text: str, tokens: list[Token], span: range, partners: dict[int, int]
) -> Iterator[str | Mark[str]]:
    closing = {partners[i] for i in span if i in partners}
    for index in span:
        token = tokens[index]
        raw = text[token.start : token.end]
        if token.kind == "text":
            yield unescape(raw)
        elif token.kind == "cdata":
            yield raw[9:].removesuffix("]]>")
        elif token.name in _READINGS or token.name in _TRANSPARENT:
            continue
        elif token.kind == "other":
            yield Mark("void", raw, hidden=True)
        elif token.kind == "open" and index in partners:
            yield Mark("open", raw, link=token.name == "a", anchor=" id" in raw or " name" in raw)
        elif token.kind == "close" and index in closing:
            yield Mark("close", raw)
        else:
            yield Mark("void", raw, spare=token.name == "br")
