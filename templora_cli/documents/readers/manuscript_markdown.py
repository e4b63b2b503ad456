"""A Markdown file as a manuscript: its lines as they are, without front matter, comments, notes and pictures.

Emphasis, quotes, lists and escapes stay as the author wrote them, because books are written as Markdown too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from templora_cli.documents.encoding import decode
from templora_cli.documents.manuscript_blocks import ManuscriptBlock, ManuscriptSource, counted, tidy
from templora_cli.documents.readers.manuscript_text import scene_break_or_text

if TYPE_CHECKING:
    from markdown_it.token import Token

_FRONT_MATTER = re.compile(r"\s*---[ \t]*\n(?P<yaml>(?:.*\n)*?)(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_TITLE = re.compile(r"^title:[ \t]*(?P<quote>[\"']?)(?P<title>\S.*?)(?P=quote)[ \t]*$", re.MULTILINE | re.I)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)|\{>>[^{}]*<<\}|%%[^%\n]+%%", re.DOTALL)
_DELETED = re.compile(r"\{--[^{}]*--\}")
_SUBSTITUTED = re.compile(r"\{~~[^{}~]*~>([^{}~]*)~~\}")
_ADDED = re.compile(r"\{\+\+([^{}]*)\+\+\}|\{==([^{}]*)==\}")
_NOTE = re.compile(r"^\[\^[^\]\n]+\]:.*(?:\n(?:[ \t]+\S.*|[ \t]*(?=\n[ \t]+\S)))*", re.MULTILINE)
_NOTE_MARK = re.compile(r"\[\^[^\[\]\n]+\]|(?<!\^)\^\[[^\[\]\n]*\]")
_PICTURE = re.compile(r"!\[[^\[\]]*\](?:\([^)\s]*(?:\s+\"[^\"]*\")?\)|\[[^\]]*\])(?:\{[^}]*\})?")
_LINK = re.compile(r"(?<![!\\])\[([^\[\]]+)\]\((?:[^()\s]|\([^()\s]*\))*(?:\s+(?:\"[^\"]*\"|'[^']*'))?\)")
_ONLY_LINKS = re.compile(r"(?:[-*+]|\d+[.)])[ \t]+\[[^\]]+\]\([^)]*\)[ \t]*")
_ATTRIBUTES = re.compile(r"\s*\{[^{}]*\}\s*$")
_EMPHASIS = re.compile(r"(\*{1,3}|_{1,3})(?=\S)(.+?)(?<=\S)\1")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_MAX_TITLE_CHARS = 1000
_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_PAGE_BREAK = re.compile(r"\\(?:newpage|pagebreak|clearpage)\s*|:::.*")


def read_markdown_manuscript(content: bytes, name: str, encoding: str | None = None) -> ManuscriptSource:
    """The blocks of a Markdown file. Raises TemploraError as `decode` does."""
    text = decode(content, name, encoding).replace("\r\n", "\n").replace("\r", "\n")
    left_out = []
    front = _FRONT_MATTER.match(text)
    if front is not None:
        left_out.append("front matter")
        text = text[front.end() :]
    title = _TITLE.search(front["yaml"]) if front else None
    text, comments = _COMMENT.subn("", text)
    text, deletions = _DELETED.subn("", text)
    text = _ADDED.sub(lambda match: match[1] or match[2] or "", _SUBSTITUTED.sub(r"\1", text))
    text, notes = _NOTE.subn("", text)
    text = _NOTE_MARK.sub("", text) if notes else text
    counts = ((notes, "note"), (comments, "comment"), (deletions, "deletion"))
    left_out += [counted(count, name) for count, name in counts if count]
    ending = text[len(text.rstrip()) :]
    return ManuscriptSource(
        title["title"] if title else "", list(_blocks(text)), left_out, ending, is_verbatim=True
    )


def _blocks(text: str) -> Iterator[ManuscriptBlock]:
    parser = MarkdownIt("commonmark").enable("table")
    lines = text.split("\n")
    depth = 0
    tokens = parser.parse(text)
    for index, token in enumerate(tokens):
        if depth == 0 and token.map is not None and token.nesting >= 0:
            yield from _top_block(token, tokens[index + 1 : index + 2], lines[token.map[0] : token.map[1]])
        depth += token.nesting


def _top_block(token: Token, inside: list[Token], lines: list[str]) -> Iterator[ManuscriptBlock]:
    """The blocks of a block that is in no other."""
    if token.type == "heading_open":
        title = _plain_title(inside[0].content)
        if title:
            yield ManuscriptBlock(title, "heading", int(token.tag[1]))
    elif token.type == "hr":
        yield ManuscriptBlock(lines[0].strip(), "break")
    elif token.type == "html_block":
        words = tidy(_TAG.sub("", _LINE_BREAK.sub("\n", token.content)).replace("&nbsp;", " "))
        yield scene_break_or_text(words) if words else ManuscriptBlock("", "blank")
    elif token.type == "code_block":  # paragraphs that are indented by four blanks or a tab
        yield from (scene_break_or_text(text) for line in lines if (text := _prose(line)))
    elif token.type == "paragraph_open":
        yield from _paragraph(_joined_lines(lines))
    else:
        words = "\n".join(filter(None, map(str.rstrip, lines)))
        are_links = all(_ONLY_LINKS.fullmatch(line.strip()) for line in words.split("\n"))
        yield ManuscriptBlock(_prose(words, strip=False), matter="contents" if are_links else "")


def _paragraph(text: str) -> Iterator[ManuscriptBlock]:
    words = _prose(text)
    if words in ("&nbsp;", "\\"):
        yield ManuscriptBlock("", "blank")
    elif words and not _PAGE_BREAK.fullmatch(words):
        yield scene_break_or_text(words)


def _joined_lines(lines: list[str]) -> str:
    """The lines of a paragraph on one line, except for line breaks that the author marked."""
    text = ""
    for line in lines:
        is_break = line.endswith(("  ", "\\")) or _LINE_BREAK.search(line[-8:]) is not None
        words = _LINE_BREAK.sub("", line).strip().removesuffix("\\") if is_break else line.strip()
        blank = "" if not text or text.endswith("\n") or _are_unspaced(text[-1:], words[:1]) else " "
        text += blank + words + ("\n" if is_break else "")
    return text.strip()


def _are_unspaced(before: str, after: str) -> bool:
    """Whether two characters are of a script without blanks between words."""
    return all(
        char and "\u2e80" <= char[0] <= "\uffef" and not "\uac00" <= char[0] <= "\ud7a3"
        for char in (before, after)
    )


def _prose(text: str, *, strip: bool = True) -> str:
    """A text without pictures, and with the words of links alone."""
    text = _LINK.sub(r"\1", _PICTURE.sub("", text))
    return tidy(text) if strip else text.strip("\n")


def _plain_title(text: str) -> str:
    """The words of a heading."""
    text = text[:_MAX_TITLE_CHARS]
    title = _ATTRIBUTES.sub("", _prose(text.replace("\n", " ")))
    title = _EMPHASIS.sub(r"\2", _EMPHASIS.sub(r"\2", _TAG.sub(" ", title)))
    return " ".join(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", title).split())
