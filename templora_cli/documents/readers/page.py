"""The prose of an HTML or XHTML text as blocks with inline markup, and the text with translated blocks.

Only the ranges of translated blocks change; every other character stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape

from templora_cli.documents.document import Kind, is_right_to_left
from templora_cli.documents.inline import (
    Inline,
    Mark,
    has_words,
    is_translatable_description,
    number_markup,
    strip_tags,
)
from templora_cli.documents.markup import (
    Splice,
    Token,
    apply_splices,
    attribute_value,
    attributes_of,
    escape,
    tokens_of,
)
from templora_cli.documents.readers.page_tokens import (
    BLOCK_ELEMENTS,
    ELEMENT_KINDS,
    RUBY_READINGS,
    TRANSPARENT,
    block_boundaries,
    join_opaque,
    partners_of,
)


@dataclass(frozen=True)
class PageBlock:
    """Prose between two block tags, or the description in an attribute."""

    start: int
    end: int
    inline: Inline[str]
    kind: Kind
    level: int
    """1 to 6 for headings, else 0."""
    element: tuple[Token, Token] | None
    """The opening and closing tag around it, if it is their whole content."""
    is_attribute: bool = False
    """Whether it describes an image or the page. It may then be inside another block."""


class Page:
    """An HTML or XHTML text; `blocks` are its prose and descriptions, in order."""

    def __init__(self, text: str, *, xml: bool, is_contents: bool = False) -> None:
        """With `is_contents`, a table of contents: two languages then share a line."""
        self.text = text
        self.xml = xml
        self._is_contents = is_contents
        self._tokens = join_opaque(text, tokens_of(text))
        blocks = [*_blocks(text, self._tokens), *_descriptions(text, self._tokens)]
        self.blocks = sorted(blocks, key=lambda block: block.start)
        self._prose = [index for index, block in enumerate(self.blocks) if not block.is_attribute]

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> str:
        """The text with the `translations` of blocks; the same text if none of them has words."""
        described = self._translate_descriptions(translations, bilingual=bilingual)
        if described == self.text:
            return self._translate_prose(translations, language, bilingual=bilingual)
        # The prose is the same, at other offsets.
        page = Page(described, xml=self.xml, is_contents=self._is_contents)
        new_index = dict(zip(self._prose, page._prose, strict=True))
        prose = {new_index[index]: text for index, text in translations.items() if index in new_index}
        return page._translate_prose(prose, language, bilingual=bilingual)

    def _translate_descriptions(self, translations: Mapping[int, str], *, bilingual: bool) -> str:
        """The text with translated descriptions, in both languages if `bilingual`."""
        splices = []
        for index, translation in translations.items():
            block = self.blocks[index]
            if block.is_attribute and has_words(translation):
                words = strip_tags(translation)
                words = f"{strip_tags(block.inline.text)} / {words}" if bilingual else words
                is_quoted = self.text[block.start - 1] in "\"'"
                value = escape(words).replace('"', "&quot;").replace("'", "&#39;")
                splices.append(Splice(block.start, block.end, value if is_quoted else f'"{value}"'))
        return apply_splices(self.text, splices)

    def _translate_prose(self, translations: Mapping[int, str], language: str, *, bilingual: bool) -> str:
        splices = []
        for index, translation in sorted(translations.items()):
            block = self.blocks[index]
            pieces = block.inline.restore_markup(translation)
            if pieces is None or block.is_attribute:
                continue
            if bilingual:
                splices.append(self._bilingual_splice(block, pieces, language))
            else:
                splices.append(self._replacement(block, pieces))
        if splices and not bilingual:
            splices += self._language_splices(language)
        return apply_splices(self.text, splices)

    def _replacement(self, block: PageBlock, pieces: list[str | Mark[str]]) -> Splice:
        content = _to_html([*block.inline.lead, *pieces, *block.inline.trail])
        return Splice(block.start, block.end, content)

    def _bilingual_splice(self, block: PageBlock, pieces: list[str | Mark[str]], language: str) -> Splice:
        """The translation after the source: in a new paragraph, or after a line break in the same element
        where a new element could break a list or table. Titles and contents stay on one line."""
        inline = block.inline
        if block.kind == "metadata" or self._is_contents:
            source = inline.restore_markup(inline.text) or []
            return self._replacement(block, [*source, " / ", *map(_copy_piece, pieces)])
        words = _to_html([_copy_piece(piece) for piece in (*inline.lead, *pieces, *inline.trail)]).strip()
        lang = f'{"xml:lang" if self.xml else "lang"}="{escape(language)}"'
        lang += ' dir="rtl"' if is_right_to_left(language) else ""
        if block.element is not None and block.element[0].name == "p":
            opening, closing = block.element
            tag = re.sub(r"\s(?:xml:)?lang\s*=\s*(\"[^\"]*\"|'[^']*')", "", _without_ids(self._raw(opening)))
            copy = f"{tag[:-1].rstrip()} {lang}>{words}{self._raw(closing)}"
            return Splice(closing.end, closing.end, f"\n{copy}")
        line_break = "<br/>" if self.xml else "<br>"
        blank = len(self.text[block.start : block.end]) - len(self.text[block.start : block.end].rstrip())
        end = block.end - blank
        return Splice(end, end, f"{line_break}<span {lang}>{words}</span>")

    def _language_splices(self, language: str) -> Iterator[Splice]:
        """Set the language and direction of the root, and of blocks that declare those of the root."""
        root = next((t for t in self._tokens if t.name == "html" and t.kind == "open"), None)
        if root is None:
            return
        old = attribute_value(self._raw(root), "lang")
        right_to_left = is_right_to_left(language)
        wrong, right = ("ltr", "rtl") if right_to_left else ("rtl", "ltr")
        added = "" if old is not None else f' {"xml:lang" if self.xml else "lang"}="{escape(language)}"'
        added += ' dir="rtl"' if right_to_left and attribute_value(self._raw(root), "dir") is None else ""
        yield Splice(root.end - 1, root.end - 1, added)
        for token in self._tokens:
            if token.kind != "open" or token.name not in BLOCK_ELEMENTS:
                continue
            for attribute in attributes_of(self._raw(token)):
                start, end = token.start + attribute.start, token.start + attribute.end
                name, value = attribute.name, attribute.value.lower()
                if name in ("lang", "xml:lang") and old and value == old.lower():
                    yield Splice(start, end, escape(language))
                elif name == "dir" and value == wrong:
                    yield Splice(start, end, right)

    def _raw(self, token: Token) -> str:
        return self.text[token.start : token.end]


def _to_html(pieces: list[str | Mark[str]]) -> str:
    return "".join(escape(p) if isinstance(p, str) else p.raw for p in pieces)


def _copy_piece(piece: str | Mark[str]) -> str | Mark[str]:
    """A piece for a second copy of the paragraph: without ids, images and notes, which must be unique."""
    if isinstance(piece, str):
        return piece
    if piece.form == "void" and not re.match(r"<(?:br|code|kbd|math)\b", piece.raw):
        return ""
    return Mark(piece.form, _without_ids(piece.raw))


def _without_ids(tag: str) -> str:
    return re.sub(r"""\s(?:xml:)?(?:id|name)\s*=\s*("[^"]*"|'[^']*'|[^\s>]+)""", "", tag)


def _blocks(text: str, tokens: list[Token]) -> Iterator[PageBlock]:
    partners = partners_of(tokens)
    ends = block_boundaries(text, tokens, partners)
    open_kinds: list[tuple[int, Kind, int]] = []  # index of closing tag, kind, heading level
    first = 0
    kind_and_level: tuple[Kind, int] = ("text", 0)
    for index, is_end in enumerate([*ends, True]):
        if not is_end:
            continue
        block = _block(text, tokens, range(first, index), partners, kind_and_level)
        if block is not None:
            yield block
        first = index + 1
        while open_kinds and open_kinds[-1][0] <= index:
            open_kinds.pop()
        enclosing: tuple[Kind, int] = open_kinds[-1][1:] if open_kinds else ("text", 0)
        token = tokens[index] if index < len(tokens) else None
        if token is not None and token.kind == "open" and token.name in ELEMENT_KINDS:
            kind_and_level = (
                ELEMENT_KINDS[token.name],
                int(token.name[1]) if token.name[1:].isdigit() else 0,
            )
            if index in partners:
                open_kinds.append((partners[index], *kind_and_level))
        else:
            kind_and_level = enclosing


def _block(
    text: str, tokens: list[Token], span: range, partners: dict[int, int], kind_and_level: tuple[Kind, int]
) -> PageBlock | None:
    """The block of the tokens in `span`; None if it has nothing to translate."""
    if not any(tokens[i].kind in ("text", "cdata") for i in span):
        return None
    inline = number_markup(_pieces(text, tokens, span, partners))
    if not has_words(inline.text):
        return None
    before, after = span.start - 1, span.stop
    fills_element = before >= 0 and partners.get(before) == after
    element = (tokens[before], tokens[after]) if fills_element else None
    return PageBlock(tokens[span[0]].start, tokens[span[-1]].end, inline, *kind_and_level, element)


def _descriptions(text: str, tokens: list[Token]) -> Iterator[PageBlock]:
    """The descriptions of images and of the page, in attributes."""
    for token in tokens:
        if token.kind not in ("open", "empty") or token.name not in ("img", "meta"):
            continue
        tag = text[token.start : token.end]
        if token.name == "meta" and (attribute_value(tag, "name") or "").lower() != "description":
            continue
        kind: Kind = "caption" if token.name == "img" else "metadata"
        for attribute in attributes_of(tag):
            if attribute.name.lower() == ("alt" if token.name == "img" else "content"):
                inline: Inline[str] = number_markup([attribute.value])
                start, end = token.start + attribute.start, token.start + attribute.end
                if is_translatable_description(attribute.value):
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
        elif token.name in RUBY_READINGS or token.name in TRANSPARENT:
            continue
        elif token.kind == "other":
            yield Mark("void", raw, is_hidden=True)
        elif token.kind == "open" and index in partners:
            yield Mark("open", raw, is_link=token.name == "a", is_anchor=" id" in raw or " name" in raw)
        elif token.kind == "close" and index in closing:
            yield Mark("close", raw)
        else:
            yield Mark("void", raw, is_optional=token.name == "br")
