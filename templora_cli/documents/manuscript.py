"""A manuscript by a person, to learn and continue: chapters in order, without covers, notes and such."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from templora_cli.documents.manuscript_blocks import GAP, ManuscriptBlock, ManuscriptSource
from templora_cli.documents.manuscript_sections import divided
from templora_cli.documents.registry import parse_manuscript_source
from templora_cli.documents.text_input import has_text, unreadable
from templora_cli.errors import TemploraError


@dataclass(frozen=True)
class ManuscriptChapter:
    """A chapter; `title` and heading are "" for text before the first heading."""

    title: str
    text: str
    """Its paragraphs without the heading, as they stand in the text of the manuscript."""
    start: int
    """The offset of its heading, or of its text without one, in the text of the manuscript."""
    text_start: int
    """The offset of `text`."""


@dataclass(frozen=True)
class Manuscript:
    """A manuscript. Its `text` is learnt and continued: headings are paragraphs of their own."""

    title: str
    """The title of the book; "" if it is unknown. It is not part of the text."""
    text: str
    chapters: tuple[ManuscriptChapter, ...]
    left_out: tuple[str, ...] = ()
    """Names of what was left out, for people: "contents", "3 comments"."""


def read_manuscript(
    path: Path, *, encoding: str | None = None, notify: Callable[[str], None] | None = None
) -> Manuscript:
    """The manuscript in a file; the suffix is its format. Files with an unknown suffix are plain text.

    `encoding` is that of a text file; without it, the encoding is detected, and `notify` is told of a guess.
    Raises TemploraError: missing, unreadable, too large, and all that `parse_manuscript` raises.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    return parse_manuscript(content, path.suffix, str(path), encoding=encoding, notify=notify)


def parse_manuscript(
    content: bytes,
    suffix: str,
    name: str,
    *,
    encoding: str | None = None,
    notify: Callable[[str], None] | None = None,
    hint: str = "use a file that contains text",
) -> Manuscript:
    """The manuscript in the bytes of a file; `name` names the file in errors.

    Raises TemploraError: content of another format, damaged, protected or too large; an unknown or wrong
    encoding; no text, with `hint`.
    """
    if not content.strip():
        raise TemploraError(f"{name} is empty", hint)
    source = parse_manuscript_source(content, suffix, name, encoding=encoding, notify=notify)
    manuscript = build_manuscript(source)
    if not has_text(manuscript.text):
        raise TemploraError(f"{name} is empty", hint)
    return manuscript


def build_manuscript(source: ManuscriptSource) -> Manuscript:
    """The manuscript of the blocks that a reader returned."""
    division = divided(source)
    written: list[str] = []
    length = 0
    chapters = []
    for section in division.sections:
        if not written and _same(source.blocks[0], section.first):
            written.append(source.blocks[0].gap.rpartition("\n")[2])  # an indent
        elif written:
            written.append(section.first.gap)
        start = length = length + len(written[-1]) if written else 0
        heading, text = _joined(section.headings), _joined(section.body)
        gap = section.body[0].gap if heading and text else ""
        text_start = start + len(heading) + len(gap)
        written += [heading, gap, text]
        length = text_start + len(text)
        chapters.append(ManuscriptChapter(section.title, text, start, text_start))
    last = division.sections[-1].last if division.sections else None
    ending = source.ending if last is not None and _same(source.blocks[-1], last) else GAP
    return Manuscript(division.title, "".join(written) + ending, tuple(chapters), tuple(division.left_out))


def _joined(blocks: Sequence[ManuscriptBlock]) -> str:
    return "".join((block.gap if index else "") + block.text for index, block in enumerate(blocks))


def _same(block: ManuscriptBlock, other: ManuscriptBlock) -> bool:
    """Whether two blocks have the same text; their kinds may differ."""
    return (block.text, block.gap) == (other.text, other.gap)
