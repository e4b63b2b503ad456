"""Markdown files: CommonMark with tables, strikethrough, footnotes and front matter.

Only the ranges of paragraphs that are translated change. Links by reference become direct ones there. What an
image shows, its alt text, is a paragraph of its own. Front matter, code, HTML blocks and definitions of links
stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt

from templora_cli.documents.document import Found, Kind, chapter_starts, in_chapters
from templora_cli.documents.encoding import decode
from templora_cli.documents.inline import Inline, Mark, has_words, inline_of, is_description, one_line, plain
from templora_cli.documents.markup import Splice, spliced
from templora_cli.documents.readers.markdown_inline import (
    FOOTNOTE,
    alt_of,
    inline_of_tokens,
    is_named_by_alt,
    located_image,
    masked,
    unmasked,
    written,
    written_alt,
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
    """A paragraph, heading, cell or alt text: where its words stand, and what begins lines that it is on."""

    start: int
    end: int
    inline: Inline[str]
    kind: Kind
    level: int
    indent: str
    """Of a further paragraph in the same quote or item."""
    next_line: str
    """What begins a further line of this paragraph."""
    after: int
    """Where a further paragraph begins."""
    is_alt: bool = False
    """Does it say what an image shows? Then it stands inside another block."""


class MarkdownDocument:
    """A .md file."""

    suffix = ".md"

    def __init__(
        self,
        content: bytes,
        name: str,
        encoding: str | None = None,
        *,
        write_alt: Callable[[str], str] = written_alt,
    ) -> None:
        """`write_alt` makes Markdown of what an image shows; prose that it would change is kept from it."""
        self._content = content
        self._write_alt = write_alt
        self._marked = content.startswith(b"\xef\xbb\xbf")
        self._text = decode(content, name, encoding)
        self._parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
        self._parser.inline.ruler.at("image", located_image)
        self._definitions: dict[str, Any] = {}
        found = _LINE.search(self._text)
        self._line_end = found[0] if found else "\n"
        self._blocks = self._read(self._text)
        paragraphs = [Found(block.inline.text, block.kind, block.level) for block in self._blocks]
        self.paragraphs, self.chapters = in_chapters(paragraphs, chapter_starts(paragraphs))

    def render(self, translations: Mapping[int, str], language: str, *, bilingual: bool = False) -> bytes:
        """See `Document`. Each translation is one line, but for line breaks; the file comes out in UTF-8."""
        described = spliced(self._text, self._alts(translations, bilingual=bilingual))
        prose = [index for index, block in enumerate(self._blocks) if not block.is_alt]
        read = self._blocks if described == self._text else self._read(described)
        # The same prose, at other offsets; if ever it is another, alt texts are worth less.
        blocks = [block for block in read if not block.is_alt]
        if [block.inline.text for block in blocks] != [self._blocks[index].inline.text for index in prose]:
            described, blocks = self._text, [self._blocks[index] for index in prose]
        splices = []
        for index, block in zip(prose, blocks, strict=True):
            placed = block.inline.place(translations.get(index, ""))
            if placed is None:
                continue
            pieces = [*block.inline.lead, *placed, *block.inline.trail]
            splices.append(self._beside(block, pieces) if bilingual else self._instead(block, pieces))
        if described == self._text and not splices:
            return self._content
        text = spliced(described, splices)
        return b"\xef\xbb\xbf" * self._marked + text.encode("utf-8", "replace")

    def _read(self, text: str) -> list[_MarkdownBlock]:
        return [
            block
            for block in _Reader(text, self._parser, self._definitions).blocks()
            if has_words(block.inline.text) and not block.inline.text.startswith(_FENCED_DIV)
        ]

    def _alts(self, translations: Mapping[int, str], *, bilingual: bool) -> Iterator[Splice]:
        """What images show, in both languages where it is `bilingual`."""
        for index, translation in translations.items():
            block = self._blocks[index]
            if block.is_alt and has_words(words := plain(one_line(translation))):
                words = f"{plain(block.inline.text)} / {words}" if bilingual else words
                yield Splice(block.start, block.end, self._write_alt(words))

    def _instead(self, block: _MarkdownBlock, pieces: list[str | Mark[str]]) -> Splice:
        words = self._words(block, pieces).replace("\n", self._line_end + block.next_line)
        return Splice(block.start, block.end, words)

    def _beside(self, block: _MarkdownBlock, pieces: list[str | Mark[str]]) -> Splice:
        """The translation in a paragraph of its own, without images and notes; after a break in a cell."""
        note = any(isinstance(p, Mark) and FOOTNOTE.match(p.raw) for p in block.inline.lead)
        kept = [p for p in pieces if isinstance(p, str) or p.form != "void" or p.spare or p.raw[0] == "`"]
        words = self._words(block, kept).strip()
        if block.kind == "cell":
            return Splice(block.end, block.end, f"<br>{words}")
        indent = block.indent + "    " * note
        words = words.replace("\n", self._line_end + indent)
        marks = "#" * block.level + " " * (block.level > 0)
        blank = self._line_end + indent.rstrip()
        return Splice(block.after, block.after, f"{blank}{self._line_end}{indent}{marks}{words}")

    def _words(self, block: _MarkdownBlock, pieces: list[str | Mark[str]]) -> str:
        """`pieces` as Markdown that reads as they do: emphasis as tags where asterisks would not do, as
        between Chinese characters and quotation marks."""
        text = written(pieces)
        if any(isinstance(piece, Mark) for piece in pieces) and not self._reads_as(text, pieces):
            text = written(pieces, html=True)
        if block.kind == "cell":
            text = re.sub(r"\\?\|", r"\\|", text.replace("\\\n", "<br>"))
        elif block.kind == "heading":
            text = re.sub(r"#$", r"\\#", text.replace("\\\n", "<br>"))
        return text

    def _reads_as(self, text: str, pieces: list[str | Mark[str]]) -> bool:
        tokens = self._parser.parseInline(masked(text), self._definitions)[0].children or []
        return inline_of_tokens(tokens).text == inline_of(pieces).text


class _Reader:
    """Finds what markdown-it parsed in the text again: it gives lines, and offsets are wanted."""

    def __init__(self, text: str, parser: MarkdownIt, definitions: dict[str, Any]) -> None:
        """`definitions` are filled with those of links and images."""
        ends = [match.end() for match in _LINE.finditer(text)]
        self._starts = [0, *ends]
        self._text = text
        front = _FRONT_MATTER.match(text)
        hidden = "".join(_LINE.findall(front[0])) if front else ""
        self._tokens = parser.parse(masked(hidden + text[front.end() :] if front else text), definitions)
        self._cell_from = (-1, 0)

    def blocks(self) -> Iterator[_MarkdownBlock]:
        items = 0
        around: Token | None = None
        for token in self._tokens:
            items += (token.type == "list_item_open") - (token.type == "list_item_close")
            if token.type == "inline":
                block = self._block(token, around, items > 0)
                if block is not None:
                    yield block
                    yield from self._alts(token, block)
            else:
                around = token

    def _block(self, token: Token, around: Token | None, in_item: bool) -> _MarkdownBlock | None:
        if around is None or token.map is None or not token.content.strip():
            return None
        inline = inline_of_tokens(token.children or [])
        first = token.map[0]
        if around.type in ("th_open", "td_open"):
            span = self._cell(first, unmasked(token.content))
            return None if span is None else _MarkdownBlock(*span, inline, "cell", 0, "", "", span[1])
        lines = [unmasked(line) for line in token.content.split("\n")]
        start = self._found(first, lines[0])
        last = self._found(first + len(lines) - 1, lines[-1])
        if start is None or last is None:
            return None
        prefix = self._text[self._starts[first] : start]
        second = self._found(first + 1, lines[1]) if len(lines) > 1 else None
        next_line = self._text[self._starts[first + 1] : second] if second is not None else ""
        heading = around.type == "heading_open"
        level = int(around.tag[1]) if heading else 0
        kind: Kind = "heading" if heading else "item" if in_item else "text"
        prefix = re.sub(r"#+\s*$", "", prefix) if heading else prefix
        indent = re.sub(r"[^>\s]", " ", prefix)
        after = self._line_text_end(around.map[1] - 1) if heading and around.map else last + len(lines[-1])
        return _MarkdownBlock(start, last + len(lines[-1]), inline, kind, level, indent, next_line, after)

    def _alts(self, token: Token, block: _MarkdownBlock) -> Iterator[_MarkdownBlock]:
        """What the images in a block show, where it is said in words and nothing goes by them."""
        for image in token.children or ():
            if image.type != "image" or is_named_by_alt(image) or not is_description(alt := alt_of(image)):
                continue
            first = image.meta["start"] + 1
            last = first + 1 + len(image.content)
            start, end = self._within(token, block, first), self._within(token, block, last)
            if start is not None and end is not None:
                yield _MarkdownBlock(start + 1, end, inline_of([alt]), "caption", 0, "", "", end, is_alt=True)

    def _within(self, token: Token, block: _MarkdownBlock, at: int) -> int | None:
        """Where a sign of the content of `token`, which is that of `block`, stands in the text."""
        content = unmasked(token.content)
        if block.kind == "cell":
            return block.start + len(content[:at].replace("|", "\\|"))
        assert token.map is not None
        number = content.count("\n", 0, at)
        column = at - content.rfind("\n", 0, at) - 1
        line = content.split("\n")[number]
        words = line.lstrip()  # the parser may have widened what stands before them
        found = self._found(token.map[0] + number, words)
        return None if found is None else found + column - (len(line) - len(words))

    def _line_text_end(self, line: int) -> int:
        end = self._starts[line + 1] if line + 1 < len(self._starts) else len(self._text)
        return self._starts[line] + len(self._text[self._starts[line] : end].rstrip("\r\n"))

    def _found(self, line: int, content: str) -> int | None:
        """Where `content`, which ends the line but for signs, stands in a line."""
        at = self._text.rfind(content, self._starts[line], self._line_text_end(line))
        if at < 0:  # the parser widened a tab, or dropped a null
            at = self._text.rfind(content.strip(), self._starts[line], self._line_text_end(line))
        return None if at < 0 else at

    def _cell(self, line: int, content: str) -> tuple[int, int] | None:
        """Where the next cell of a row stands: cells are asked for in order."""
        content = content.replace("|", "\\|")
        begin = self._cell_from[1] if self._cell_from[0] == line else self._starts[line]
        at = self._text.find(content, begin, self._line_text_end(line))
        if at < 0:
            return None
        self._cell_from = (line, at + len(content))
        return at, at + len(content)
