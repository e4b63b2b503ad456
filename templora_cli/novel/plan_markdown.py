"""The Markdown of a plan: front matter, headings and lines of text, with their line numbers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from markdown_it.token import Token

FRONT_MATTER_KEYS = ("author", "language", "point of view", "tense", "style")

_PARSER = MarkdownIt("commonmark").disable(["html_block", "reference"])
_COMMENT = re.compile(r"(?<!\\)<!--.*?-->", re.DOTALL)
_OPEN_COMMENT = re.compile(r"(?<!\\)<!--")
_BEFORE_FRONT_MATTER = re.compile(r"(?:\s|<!--.*?-->)*", re.DOTALL)
_KEY_AND_VALUE = re.compile(r"([^:：]*[^:：\s])\s*[:：](?:\s+(.*)|$)")
_HEADING_LINE = re.compile(r"\s{0,3}#{1,6}\s", re.MULTILINE)
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_CJK = r"[\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uff65]"
_CJK_AT_END, _CJK_AT_START = re.compile(rf"{_CJK}\Z"), re.compile(_CJK)


@dataclass(frozen=True)
class Block:
    """A heading or a line of text."""

    raw: str
    """Its inline Markdown, without line ends."""
    line: int
    """The number of its first line in the file, from 1."""
    level: int = 0
    """The level of a heading; 0 for text."""


def error_at(line: int, message: str, hint: str) -> TemploraError:
    """The error for a line of a plan."""
    return TemploraError(f"line {line}: {message}", hint)


def clean(text: str) -> str:
    """`text` in one line: without control characters, and with single spaces."""
    text = "".join(c for c in text if c.isspace() or (unicodedata.category(c) != "Cc" and c != "\ufeff"))
    return " ".join(text.split())


def split_front_matter(text: str) -> tuple[dict[str, str], str]:
    """The values of the front matter by key, and the text with its lines blank.

    `text` must have "\\n" as line ends. Raises TemploraError.
    """
    before = _BEFORE_FRONT_MATTER.match(text)
    start = before.end() if before else 0
    lines = text[start:].split("\n")
    if lines[0].rstrip() != "---" or start != text.rfind("\n", 0, start) + 1:
        return {}, text
    first = text.count("\n", 0, start) + 1
    end = next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() in ("---", "...")), None)
    if end is None:
        raise error_at(
            first,
            "the front matter that begins here is not closed",
            "add a line --- after its last key, or remove this line",
        )
    values = _read_values(lines[1:end], first + 1)
    return values, text[:start] + "\n" * (end + 1) + "\n".join(lines[end + 1 :])


def _read_values(lines: Iterable[str], first: int) -> dict[str, str]:
    """The values of `key: value` lines; an indented line continues the value before it."""
    values: dict[str, list[str]] = {}
    key = None
    for number, line in enumerate(lines, first):
        if not line.strip() or line.startswith("#"):
            continue
        if line[0].isspace() and key is not None:
            values[key].append(line)
            continue
        match = _KEY_AND_VALUE.fullmatch(line.strip())
        if match is None:
            raise error_at(
                number,
                f'"{clean(line)}" is not a key with its value',
                "write it as in author: Jane Doe, or close the front matter with a line ---",
            )
        key = re.sub(r"[\s_-]+", " ", match[1].strip("\"'")).lower()
        if key not in FRONT_MATTER_KEYS:
            keys = f"the keys are {', '.join(FRONT_MATTER_KEYS)}"
            hint = f"write the title below, as in # The Light; {keys}" if key == "title" else keys
            raise error_at(number, f'"{clean(match[1])}" is not a key', hint)
        if key in values:
            raise error_at(number, f"{key} is here for the second time", "remove one of the two lines")
        values[key] = [match[2] or ""]
    return {key: _value(parts) for key, parts in values.items()}


def _value(parts: list[str]) -> str:
    """A value from its lines, without the quotes around it."""
    if re.fullmatch(r"[|>][+-]?\s*", parts[0]):
        parts = parts[1:]
    value = clean(" ".join(parts))
    if value.startswith("#"):  # a comment in place of a value
        return ""
    return clean(value[1:-1]) if _is_quoted(value) else value


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"


def front_matter_value(value: str) -> str:
    """`value` as it is written in front matter."""
    is_special = _is_quoted(value) or value.startswith("#") or re.fullmatch(r"[|>][+-]?", value)
    return f'"{value}"' if is_special else value


def read_blocks(text: str) -> list[Block]:
    """The headings and lines of text of a plan without front matter.

    Comments are skipped. Lists, quotes and code are lines of text. Raises TemploraError for a comment that is
    not closed, and for headings inside code.
    """
    text = _COMMENT.sub(lambda match: "\n" * match[0].count("\n"), text)
    if unclosed := _OPEN_COMMENT.search(text):
        line = text.count("\n", 0, unclosed.start()) + 1
        raise error_at(line, "the comment <!-- is not closed", "add --> at its end")
    tokens = _PARSER.parse(text)
    has_hash_marks = any(t.type == "heading_open" and t.markup in ("#", "##") for t in tokens)
    blocks: list[Block] = []
    for opening, token in zip([None, *tokens], tokens):  # noqa: B905  (one of them is longer)
        if token.type in ("fence", "code_block"):
            blocks += _lines_of_code(token)
        elif token.type == "inline" and opening is not None and token.map is not None:
            # A line of hyphens below a paragraph is meant as a rule if other headings have hash marks.
            is_rule = opening.markup == "-" and has_hash_marks
            is_heading = opening.type == "heading_open" and token.level == 1 and not is_rule
            level = int(opening.tag[1]) if is_heading else 0
            blocks += _blocks_of(token.content, token.map[0] + 1, level)
    return blocks


def _lines_of_code(token: Token) -> Iterator[Block]:
    first = (token.map[0] if token.map else 0) + (2 if token.type == "fence" else 1)
    if token.type == "fence" and (heading := _HEADING_LINE.search(token.content)):
        raise error_at(
            first + token.content.count("\n", 0, heading.start()),
            "this heading is inside a code block",
            f"remove the line {token.markup} above it, or close the block before it",
        )
    for number, line in enumerate(token.content.split("\n"), first):
        if line.strip():
            yield Block(line.strip(), number)


def _blocks_of(content: str, first: int, level: int) -> Iterator[Block]:
    """A heading, or the lines of a paragraph, joined where the author wrapped them."""
    raw, begun = "", first
    for number, line in enumerate(content.split("\n"), first):
        breaks = not level and (line.endswith(("  ", "\\")) or is_alone(line.strip()))
        joined = line.strip().removesuffix("\\") if breaks and line.endswith("\\") else line.strip()
        if raw and is_alone(joined) and not level:
            yield Block(raw, begun)
            raw = ""
        if not raw:
            begun = number
        is_unspaced = _CJK_AT_END.search(raw) and _CJK_AT_START.match(joined)
        raw = f"{raw}{joined}" if is_unspaced else f"{raw} {joined}".strip()
        if breaks:
            yield Block(raw, begun)
            raw = ""
    if raw or level:
        yield Block(raw, begun, level)


is_alone: Callable[[str], object] = re.compile(r"[*_]*[(\[（【][^()\[\]（）【】]*[)\]）】][*_]*").fullmatch
"""Is a line of a paragraph in brackets as a whole? Such a line, as "(1,800 words)", is not part of the
paragraph."""


def plain_text(raw: str) -> str:
    """The text of inline Markdown in one line, without marks of emphasis and links."""
    tokens = _PARSER.parseInline(raw)[0].children or []
    return clean("".join(" " if token.type.endswith("break") else token.content for token in tokens))


def escaped(text: str) -> str:
    """`text` with a backslash before each ASCII punctuation character."""
    return _PUNCTUATION.sub(r"\\\1", text)


def escaped_fully(text: str) -> str:
    """`text` as Markdown that nothing in a plan is read into: its first character is an entity."""
    return f"&#{ord(text[0])};{escaped(text[1:])}"
