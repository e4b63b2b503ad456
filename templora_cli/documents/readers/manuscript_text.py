"""A plain text as a manuscript.

Where each line is a paragraph, every character stays, with its blank lines and indents. The lines of a text
that is wrapped at a width are joined to paragraphs, because a model would learn the line ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from templora_cli.documents.encoding import decode
from templora_cli.documents.front_matter import matter_of_title
from templora_cli.documents.manuscript_blocks import GAP, ManuscriptBlock, ManuscriptSource
from templora_cli.documents.readers.line_wrapping import (
    Line,
    line_blocks,
    lines_of,
    paragraph_spans,
    wrapped_width,
)
from templora_cli.documents.readers.page_furniture import without_pages
from templora_cli.documents.text_input import without_controls

_START = re.compile(
    r"^[ \t]*\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG (?:[^*]|\*(?!\*\*))*\*\*\*[ \t]*\n", re.M | re.I
)
_END = re.compile(
    r"^[ \t]*(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the )?Project Gutenberg['’s]* ).*",
    re.MULTILINE | re.IGNORECASE | re.DOTALL,
)
_CREDITS = re.compile(
    r"\s*(?:Produced by|E-?text prepared by|Transcribed (?:from|by)|This e-?(?:text|book) was (?:prod|prep))"
    r"[^\n]*(?:\n[^\n]*\S[^\n]*)*",
    re.IGNORECASE,
)
_TITLE = re.compile(r"^Title:[ \t]*(\S.*)$", re.MULTILINE)
_EDITORIAL = re.compile(
    r"\[(?:Illustration|Transcriber['’]s? Note|Editor['’]s Note|Blank Page)\b[^\[\]]*\]", re.IGNORECASE
)
_SIGN_CHARS = frozenset("*#~—–-_=+•·.⁂❦❧☙§¤◆◇○●★☆※＊～…　 \t")
_DASHES = "-–—"
_SPEECH_CHARS = frozenset(f"{_DASHES}.… ")
_MAX_SIGN_CHARS = 40
LICENCE = "licence"


def read_text_manuscript(content: bytes, name: str, encoding: str | None = None) -> ManuscriptSource:
    """The blocks of a text file. Raises TemploraError as `decode` does."""
    text = decode(content, name, encoding).replace("\r\n", "\n").replace("\r", "\n")
    text, title, left_out = _without_licence(text)
    text, pages = without_pages(text)
    text = without_controls(text).replace("\u00ad", "")
    groups = list(line_blocks(lines_of(text)))
    width = wrapped_width(groups)
    if width is None:
        lines = [line for group in groups for line in group]
        blocks = [_with_matter(block) for block in _line_paragraphs(text, lines)]
    else:
        blocks = [_with_matter(block) for block in _joined_paragraphs(text, groups, width)]
        pages = [*pages, "line breaks inside paragraphs"]
    return ManuscriptSource(title, blocks, [*left_out, *pages], text[len(text.rstrip()) :], is_verbatim=True)


def scene_break_or_text(text: str) -> ManuscriptBlock:
    """A block of one line, which is the sign of a scene break if it has neither letters nor digits."""
    return ManuscriptBlock(text, "break" if is_scene_break(text) else "text")


def is_scene_break(text: str) -> bool:
    """Whether a paragraph is only a sign such as "* * *". Dots and a single dash are speech that fails."""
    is_sign = 0 < len(text) <= _MAX_SIGN_CHARS and set(text) <= _SIGN_CHARS
    return is_sign and (not set(text) <= _SPEECH_CHARS or sum(map(text.count, _DASHES)) > 2)


def _without_licence(text: str) -> tuple[str, str, list[str]]:
    """The text without what Project Gutenberg adds, the title in that, and the names of what was removed."""
    start, end = _START.search(text), _END.search(text)
    if start is None and end is None:
        return text, "", []
    title = _TITLE.search(text[: start.start()]) if start else None
    text = text[start.end() if start else 0 : end.start() if end else len(text)]
    credits = _CREDITS.match(text)
    text = text[credits.end() if credits else 0 :]
    return text.rstrip() + GAP, title[1].strip() if title else "", [LICENCE]


def _line_paragraphs(text: str, lines: list[Line]) -> Iterator[ManuscriptBlock]:
    """A block for each line, with the white space before it as it is."""
    end = 0
    for line in lines:
        words = line.text.strip()
        start = line.start + line.text.index(words)
        yield scene_break_or_text(words)._replace(gap=text[end:start])
        end = start + len(words)


def _joined_paragraphs(text: str, groups: list[list[Line]], width: int) -> Iterator[ManuscriptBlock]:
    """The paragraphs of wrapped lines. Groups with more blank lines between them have a blank block there."""
    end: int | None = None
    for group in groups:
        if end is not None and text.count("\n", end, group[0].start) > 2:
            yield ManuscriptBlock("", "blank")
        end = group[-1].end
        spans = paragraph_spans(group, width)
        is_verse = len(spans) == len(group) > 1
        for index, span in enumerate(spans):
            gap = "\n" if is_verse and index else GAP
            yield scene_break_or_text(span.text)._replace(gap=gap, is_alone=not is_verse)


def _with_matter(block: ManuscriptBlock) -> ManuscriptBlock:
    """A block with the name of what is neither heading nor prose: "[Illustration]"."""
    if _EDITORIAL.fullmatch(block.text):
        matter = "illustrations" if block.text[1:].lower().startswith("illustration") else "editor's notes"
        return block._replace(matter=matter)
    if matter_of_title(block.text) == "contents" and block.is_alone:
        return block._replace(kind="heading", level=9)
    return block
