"""Markdown files: CommonMark with tables, strikethrough, footnotes and front matter.

Only the ranges of translated paragraphs change; reference links in them become inline links. The alt text of
an image is a paragraph of its own. Front matter, code, HTML blocks and link definitions stay.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt

from templora_cli.documents.document import Kind, ReadParagraph, chapter_starts, split_into_chapters
from templora_cli.documents.encoding import decode
from templora_cli.documents.inline import (
    Inline,
    Mark,
    has_words,
    is_translatable_description,
    number_markup,
    one_line,
    strip_tags,
)
from templora_cli.documents.markup import Splice, apply_splices
from templora_cli.documents.readers.markdown_inline import (
    FOOTNOTE,
    alt_text,
    escape_alt,
    has_alt_as_label,
    locate_image,
    mask_footnotes,
    number_tokens,
    to_markdown,
    unmask_footnotes,
)

if TYPE_CHECKING:
    from markdown_it.token import Token

_FRONT_MATTER = re.compile(
    r"(?:\ufeff)?---[ \t]*\r?\n(?:.*?\r?\n)?(?:---|\.\.\.)[ \t]*(?:\r?\n|$)", re.DOTALL
)
_LINE = re.compile(r"\r\n|\r|\n")
_FENCED_DIV = ":::"


@dataclass(frozen=True)
class _MarkdownBlock:
    """A paragraph, heading, cell or alt text: the range of its words, and the prefixes of its lines."""

    start: int
    end: int
    inline: Inline[str]
    kind: Kind
    level: int
    paragraph_prefix: str
    """The line prefix of another paragraph in the same quote or item."""
    line_prefix: str
    """The prefix of another line of this paragraph."""
    after: int
    """The offset for another paragraph after it."""
    is_alt: bool = False
    """Whether it is the alt text of an image. It is then inside another block."""


class MarkdownDocument:
    """A .md file."""

    suffix = ".md"

    def __init__(
        self,
        content: bytes,
        name: str,
        encoding: str | None = None,
        *,
        write_alt: Callable[[str], str] = escape_alt,
    ) -> None:
        """`write_alt` writes an alt text as Markdown. If its result changes the prose, alt texts stay."""
        self._content = content
        self._write_alt = write_alt
        self._byte_order_mark = BOM_UTF8 if content.startswith(BOM_UTF8) else b""
        self._text = decode(content, name, encoding)
        self._parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
        self._parser.inline.ruler.at("image", locate_image)
        self._definitions: dict[str, Any] = {}
        match = _LINE.search(self._text)
        self._line_end = match[0] if match else "\n"
        self._blocks = self._read_blocks(self._text)
        paragraphs = [ReadParagraph(block.inline.text, block.kind, block.level) for block in self._blocks]
        self.paragraphs, self.chapters = split_into_chapters(paragraphs, chapter_starts(paragraphs))

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> bytes:
        """See `Document`. Each translation is one line, except for its line breaks. Written as UTF-8."""
        described = apply_splices(self._text, self._alt_splices(translations, bilingual=bilingual))
        prose = [index for index, block in enumerate(self._blocks) if not block.is_alt]
        new_blocks = self._blocks if described == self._text else self._read_blocks(described)
        # The prose must be the same, at other offsets. If it is not, the alt texts stay untranslated.
        blocks = [block for block in new_blocks if not block.is_alt]
        if [block.inline.text for block in blocks] != [self._blocks[index].inline.text for index in prose]:
            described, blocks = self._text, [self._blocks[index] for index in prose]
        splices = []
        for index, block in zip(prose, blocks, strict=True):
            translated = block.inline.restore_markup(translations.get(index, ""))
            if translated is None:
                continue
            pieces = [*block.inline.lead, *translated, *block.inline.trail]
            splice = self._bilingual_splice if bilingual else self._replacement
            splices.append(splice(block, pieces))
        if described == self._text and not splices:
            return self._content
        text = apply_splices(described, splices)
        return self._byte_order_mark + text.encode("utf-8", "replace")

    def _read_blocks(self, text: str) -> list[_MarkdownBlock]:
        return [
            block
            for block in _BlockReader(text, self._parser, self._definitions).blocks()
            if has_words(block.inline.text) and not block.inline.text.startswith(_FENCED_DIV)
        ]

    def _alt_splices(self, translations: Mapping[int, str], *, bilingual: bool) -> Iterator[Splice]:
        """The translated alt texts, in both languages if `bilingual`."""
        for index, translation in translations.items():
            block = self._blocks[index]
            if block.is_alt and has_words(words := strip_tags(one_line(translation))):
                words = f"{strip_tags(block.inline.text)} / {words}" if bilingual else words
                yield Splice(block.start, block.end, self._write_alt(words))

    def _replacement(self, block: _MarkdownBlock, pieces: list[str | Mark[str]]) -> Splice:
        words = self._write_words(block, pieces).replace("\n", self._line_end + block.line_prefix)
        return Splice(block.start, block.end, words)

    def _bilingual_splice(self, block: _MarkdownBlock, pieces: list[str | Mark[str]]) -> Splice:
        """The translation after its source, as a paragraph, or a line in a cell; without images and notes."""
        in_note = any(isinstance(p, Mark) and FOOTNOTE.match(p.raw) for p in block.inline.lead)
        repeatable = [
            p for p in pieces if isinstance(p, str) or p.form != "void" or p.is_optional or p.raw[0] == "`"
        ]
        words = self._write_words(block, repeatable).strip()
        if block.kind == "cell":
            return Splice(block.end, block.end, f"<br>{words}")
        prefix = block.paragraph_prefix + "    " * in_note
        words = words.replace("\n", self._line_end + prefix)
        marks = "#" * block.level + " " * (block.level > 0)
        blank_line = self._line_end + prefix.rstrip()
        return Splice(block.after, block.after, f"{blank_line}{self._line_end}{prefix}{marks}{words}")

    def _write_words(self, block: _MarkdownBlock, pieces: list[str | Mark[str]]) -> str:
        """`pieces` as Markdown that parses to the same text. Emphasis is written as HTML tags where asterisks
        do not work, for example between Chinese characters and quotation marks."""
        text = to_markdown(pieces)
        if any(isinstance(piece, Mark) for piece in pieces) and not self._parses_to(text, pieces):
            text = to_markdown(pieces, html=True)
        if block.kind == "cell":
            text = re.sub(r"\\?\|", r"\\|", text.replace("\\\n", "<br>"))
        elif block.kind == "heading":
            text = re.sub(r"#$", r"\\#", text.replace("\\\n", "<br>"))
        return text

    def _parses_to(self, text: str, pieces: list[str | Mark[str]]) -> bool:
        tokens = self._parser.parseInline(mask_footnotes(text), self._definitions)[0].children or []
        return number_tokens(tokens).text == number_markup(pieces).text


class _BlockReader:
    """Finds the offsets of the blocks of a text; markdown-it reports only their lines."""

    def __init__(self, text: str, parser: MarkdownIt, definitions: dict[str, Any]) -> None:
        """Link definitions are added to `definitions`."""
        ends = [match.end() for match in _LINE.finditer(text)]
        self._line_starts = [0, *ends]
        self._text = text
        front = _FRONT_MATTER.match(text)
        blank = "".join(_LINE.findall(front[0])) if front else ""  # keeps the line numbers
        source = blank + text[front.end() :] if front else text
        self._tokens = parser.parse(mask_footnotes(source), definitions)
        self._last_cell_end = (-1, 0)  # line, offset

    def blocks(self) -> Iterator[_MarkdownBlock]:
        item_depth = 0
        opening: Token | None = None
        for token in self._tokens:
            item_depth += (token.type == "list_item_open") - (token.type == "list_item_close")
            if token.type == "inline":
                block = self._block(token, opening, item_depth > 0)
                if block is not None:
                    yield block
                    yield from self._alt_blocks(token, block)
            else:
                opening = token

    def _block(self, token: Token, opening: Token | None, in_item: bool) -> _MarkdownBlock | None:
        if opening is None or token.map is None or not token.content.strip():
            return None
        inline = number_tokens(token.children or [])
        first = token.map[0]
        if opening.type in ("th_open", "td_open"):
            span = self._find_cell(first, unmask_footnotes(token.content))
            return None if span is None else _MarkdownBlock(*span, inline, "cell", 0, "", "", span[1])
        lines = [unmask_footnotes(line) for line in token.content.split("\n")]
        start = self._find_in_line(first, lines[0])
        last = self._find_in_line(first + len(lines) - 1, lines[-1])
        if start is None or last is None:
            return None
        prefix = self._text[self._line_starts[first] : start]
        second = self._find_in_line(first + 1, lines[1]) if len(lines) > 1 else None
        line_prefix = self._text[self._line_starts[first + 1] : second] if second is not None else ""
        is_heading = opening.type == "heading_open"
        level = int(opening.tag[1]) if is_heading else 0
        kind: Kind = "heading" if is_heading else "item" if in_item else "text"
        prefix = re.sub(r"#+\s*$", "", prefix) if is_heading else prefix
        paragraph_prefix = re.sub(r"[^>\s]", " ", prefix)
        end = after = last + len(lines[-1])
        if is_heading and opening.map:
            after = self._line_end_offset(opening.map[1] - 1)
        return _MarkdownBlock(start, end, inline, kind, level, paragraph_prefix, line_prefix, after)

    def _alt_blocks(self, token: Token, block: _MarkdownBlock) -> Iterator[_MarkdownBlock]:
        """The alt texts of the images in a block that have words and are not link labels."""
        for image in token.children or ():
            if (
                image.type != "image"
                or has_alt_as_label(image)
                or not is_translatable_description(alt := alt_text(image))
            ):
                continue
            first = image.meta["start"] + 1
            last = first + 1 + len(image.content)
            start, end = self._text_offset(token, block, first), self._text_offset(token, block, last)
            if start is not None and end is not None:
                inline: Inline[str] = number_markup([alt])
                yield _MarkdownBlock(start + 1, end, inline, "caption", 0, "", "", end, is_alt=True)

    def _text_offset(self, token: Token, block: _MarkdownBlock, at: int) -> int | None:
        """The offset in the text of character `at` of `token`, the content of `block`; None if not found."""
        content = unmask_footnotes(token.content)
        if block.kind == "cell":
            return block.start + len(content[:at].replace("|", "\\|"))
        assert token.map is not None
        line_index = content.count("\n", 0, at)
        column = at - content.rfind("\n", 0, at) - 1
        line = content.split("\n")[line_index]
        words = line.lstrip()  # the parser may have expanded tabs before them
        start = self._find_in_line(token.map[0] + line_index, words)
        return None if start is None else start + column - (len(line) - len(words))

    def _line_end_offset(self, line: int) -> int:
        end = self._line_starts[line + 1] if line + 1 < len(self._line_starts) else len(self._text)
        return self._line_starts[line] + len(self._text[self._line_starts[line] : end].rstrip("\r\n"))

    def _find_in_line(self, line: int, content: str) -> int | None:
        """The offset of `content` in a line, searched from the end; None if not found."""
        offset = self._text.rfind(content, self._line_starts[line], self._line_end_offset(line))
        if offset < 0:  # the parser expanded a tab, or dropped a null character
            offset = self._text.rfind(content.strip(), self._line_starts[line], self._line_end_offset(line))
        return None if offset < 0 else offset

    def _find_cell(self, line: int, content: str) -> tuple[int, int] | None:
        """The range of the next cell of a row; None if not found. Cells must be requested in order."""
        content = content.replace("|", "\\|")
        last_line, last_end = self._last_cell_end
        begin = last_end if last_line == line else self._line_starts[line]
        start = self._text.find(content, begin, self._line_end_offset(line))
        if start < 0:
            return None
        self._last_cell_end = (line, start + len(content))
        return start, start + len(content)
