"""Numbered tags in place of the markup inside a paragraph: `so <1>much</1> of it<2/>`.

A model sees `<1>`, `</1>` and `<2/>`, never the markup itself. Its answers are not trusted:
`Inline.restore_markup` makes well-nested markup from any answer and loses no image, note or anchor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

T = TypeVar("T")

TAG = re.compile(r"[<＜]\s*(/?)\s*([0-9]{1,7})\s*(/?)\s*[>＞]")
"""A numbered tag as models write it: with blanks in it, and with full-width brackets in Chinese."""
_LONE_TAG = "\0"
"""Placeholder for a lone tag."""
_BETWEEN_WORDS = re.compile(rf"(?<=\w){_LONE_TAG}+(?=\w)")
_LINE_BREAKS = re.compile(r"[ \t\n\r\f\v\x1c-\x1e\x85\u2028\u2029]+")
_FILE_NAME = re.compile(r"\S+\.[A-Za-z]{3,4}")
_UNWRITABLE = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML forbids, and control characters that have no meaning in a text."""


def tags_of(text: str) -> tuple[str, ...]:
    """The tags of a paragraph or its translation, in order: `("<1>", "</1>", "<2/>")`."""
    return tuple(f"<{slash}{number}{end}>" for slash, number, end in TAG.findall(text))


def strip_tags(text: str) -> str:
    """The words of a paragraph without tags, on one line. A lone tag between two words becomes a blank."""
    text = TAG.sub(lambda tag: _LONE_TAG if tag[3] else "", text)
    return " ".join(_BETWEEN_WORDS.sub(" ", text).replace(_LONE_TAG, "").split())


def one_line(text: str) -> str:
    """A translation without line breaks and unwritable characters; non-breaking spaces stay."""
    return _LINE_BREAKS.sub(" ", _UNWRITABLE.sub("", text)).strip()


def has_words(text: str) -> bool:
    """Whether `text` has anything to translate: a letter of any script."""
    return any(char.isalpha() for char in text)


def is_translatable_description(text: str) -> bool:
    """Whether the description of an image has words and is not just a file name."""
    return has_words(text) and not _FILE_NAME.fullmatch(text.strip())


@dataclass(frozen=True)
class Mark(Generic[T]):
    """A piece of markup in the text of a paragraph; `raw` is its form in the file format."""

    form: Literal["open", "close", "void"]
    raw: T
    is_link: bool = False
    """Links must not be nested."""
    is_hidden: bool = False
    """A comment or the like: it gets no tag and moves to the end of the paragraph."""
    is_optional: bool = False
    """Dropped if the translation drops its tag: a line break, not an image."""
    is_anchor: bool = False
    """A link may point to it, so it stays even if the translation drops its tag."""


@dataclass
class LoneTag(Generic[T]):
    """Markup without words: one tag for all adjacent marks."""

    marks: list[Mark[T]]


@dataclass
class PairedTag(Generic[T]):
    """An element around words; `open` and `close` have several marks if elements share the same content."""

    open: list[Mark[T]]
    close: list[Mark[T]] = field(default_factory=list)
    children: list[str | LoneTag[T] | PairedTag[T]] = field(default_factory=list)

    @property
    def is_link(self) -> bool:
        """Whether one of its elements is a link."""
        return any(mark.is_link for mark in self.open)


Node = str | LoneTag[T] | PairedTag[T]


@dataclass(frozen=True)
class Inline(Generic[T]):
    """A paragraph: the text for a model, and the markup behind its tags."""

    text: str
    lead: list[str | Mark[T]]
    """Blanks and marks before the first word, including those of elements around all words."""
    trail: list[str | Mark[T]]
    tags: dict[int, LoneTag[T] | PairedTag[T]]
    literals: frozenset[int]
    """Numbers of tags that are literal text in the source."""

    def restore_markup(self, translation: str) -> list[str | Mark[T]] | None:
        """The text and marks of `translation`, to be written between `lead` and `trail`.

        Marks are well nested and occur at most once, whatever tags the translation has: unknown tags are
        dropped, open ones closed, and missing lone tags appended. None if the translation is blank: the
        paragraph then stays as it is.
        """
        builder = _PieceBuilder(self)
        end = 0
        translation = one_line(translation)
        for match in TAG.finditer(translation):
            builder.add_text(translation[end : match.start()])
            builder.add_tag(match)
            end = match.end()
        builder.add_text(translation[end:])
        builder.finish()
        return builder.pieces if any(isinstance(p, str) and p.strip() for p in builder.pieces) else None


class _PieceBuilder(Generic[T]):
    """Builds the text and marks of a translation; knows which pairs are open and which tags were used."""

    def __init__(self, inline: Inline[T]) -> None:
        self.inline = inline
        self.pieces: list[str | Mark[T]] = []
        self._open: list[int] = []
        self._used: set[int] = set()

    def add_text(self, text: str) -> None:
        if text:
            self.pieces.append(text)

    def add_tag(self, match: re.Match[str]) -> None:
        is_closing, number, is_lone = bool(match[1]), int(match[2]), bool(match[3])
        tag = self.inline.tags.get(number)
        if tag is None:
            self.add_text(match[0] if number in self.inline.literals else "")
        elif is_closing:
            self._close(number)
        elif number not in self._used and isinstance(tag, LoneTag):
            self._used.add(number)
            self.pieces += tag.marks
        elif (
            number not in self._used
            and isinstance(tag, PairedTag)
            and not is_lone
            and not self._is_nested_link(tag)
        ):
            self._used.add(number)
            self._open.append(number)
            self.pieces += tag.open

    def finish(self) -> None:
        """Close open pairs; append marks that must not be lost."""
        if self._open:
            self._close(self._open[0])
        for number, tag in self.inline.tags.items():
            if number in self._used:
                continue
            if isinstance(tag, LoneTag):
                self.pieces += [mark for mark in tag.marks if not mark.is_optional]
            elif any(mark.is_anchor for mark in tag.open):
                self.pieces += [*tag.open, *tag.close]

    def _close(self, number: int) -> None:
        while number in self._open:
            self.pieces += self._pair(self._open.pop()).close

    def _is_nested_link(self, pair: PairedTag[T]) -> bool:
        return pair.is_link and any(self._pair(number).is_link for number in self._open)

    def _pair(self, number: int) -> PairedTag[T]:
        pair = self.inline.tags[number]
        assert isinstance(pair, PairedTag)
        return pair


def number_markup(pieces: Iterable[str | Mark[T]]) -> Inline[T]:
    """Replace the marks of a paragraph with numbered tags; `pieces` are text and marks, pairs well nested.

    An element without words becomes a lone tag. Adjacent lone tags become one, and so do elements with the
    same content. Marks at the ends of the paragraph, or around all of it, get no tag.
    """
    hidden: list[Mark[T]] = []
    children = _build_tree(pieces, hidden)
    lead: list[str | Mark[T]] = []
    trail: list[str | Mark[T]] = []
    while True:
        lead += _strip_end(children, 0)
        trail = _strip_end(children, -1)[::-1] + trail
        if len(children) != 1 or not isinstance(children[0], PairedTag):
            break
        pair = children[0]
        lead += pair.open
        trail = [*pair.close, *trail]
        children = pair.children
    literals = frozenset(int(n) for text in _strings(children) for _, n, _ in TAG.findall(text))
    text, tags = _number_tags(children, literals)
    return Inline(" ".join(text.split()), lead, [*trail, *hidden], tags, literals)


def _build_tree(pieces: Iterable[str | Mark[T]], hidden: list[Mark[T]]) -> list[Node[T]]:
    root: list[Node[T]] = []
    stack: list[PairedTag[T]] = []
    for piece in pieces:
        siblings = stack[-1].children if stack else root
        if isinstance(piece, str):
            _add_text(siblings, piece)
        elif piece.is_hidden:
            hidden.append(piece)
        elif piece.form == "open":
            stack.append(PairedTag([piece]))
        elif piece.form == "void":
            _add_lone_tag(siblings, [piece])
        else:
            pair = stack.pop()
            pair.close.append(piece)
            _add_pair(stack[-1].children if stack else root, pair)
    assert not stack, "a pair is not closed"
    return root


def _add_text(siblings: list[Node[T]], text: str) -> None:
    if siblings and isinstance(siblings[-1], str):
        siblings[-1] += text
    elif text:
        siblings.append(text)


def _add_lone_tag(siblings: list[Node[T]], marks: list[Mark[T]]) -> None:
    blank = siblings[-1] if siblings and isinstance(siblings[-1], str) and not siblings[-1].strip() else None
    before = siblings[-2:-1] if blank is not None else siblings[-1:]
    if before and isinstance(before[0], LoneTag):
        before[0].marks += marks
        del siblings[len(siblings) - (blank is not None) :]
    else:
        siblings.append(LoneTag(marks))


def _add_pair(siblings: list[Node[T]], pair: PairedTag[T]) -> None:
    """Add `pair`: merged with an only child that is a pair, or as a lone tag if it has no words."""
    only = pair.children[0] if len(pair.children) == 1 else None
    if isinstance(only, PairedTag):
        siblings.append(PairedTag(pair.open + only.open, only.close + pair.close, only.children))
    elif any(
        isinstance(child, PairedTag) or (isinstance(child, str) and child.strip()) for child in pair.children
    ):
        siblings.append(pair)
    else:
        inside = [mark for child in pair.children if isinstance(child, LoneTag) for mark in child.marks]
        _add_lone_tag(siblings, pair.open + inside + pair.close)
        if any(isinstance(child, str) for child in pair.children):
            _add_text(siblings, " ")  # the words before and after it need the blank inside it


def _strip_end(children: list[Node[T]], end: Literal[0, -1]) -> list[str | Mark[T]]:
    """Remove blanks and lone tags from one end of `children` and return them, the outermost first."""
    removed: list[str | Mark[T]] = []
    while children and not isinstance(children[end], PairedTag):
        child = children[end]
        if isinstance(child, LoneTag):
            removed += child.marks if end == 0 else child.marks[::-1]
            del children[end]
            continue
        assert isinstance(child, str)
        rest = child.lstrip() if end == 0 else child.rstrip()
        blank = child[: len(child) - len(rest)] if end == 0 else child[len(rest) :]
        removed += [blank] if blank else []
        if rest:
            children[end] = rest
            break
        del children[end]
    return removed


def _strings(nodes: list[Node[T]]) -> Iterator[str]:
    stack: list[Node[T]] = list(nodes)
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, PairedTag):
            stack += node.children


def _number_tags(
    children: list[Node[T]], literals: frozenset[int]
) -> tuple[str, dict[int, LoneTag[T] | PairedTag[T]]]:
    """The text with tags, and the tags. Not recursive: elements may be nested thousands deep."""
    text: list[str] = []
    tags: dict[int, LoneTag[T] | PairedTag[T]] = {}
    number = 0
    stack: list[Node[T] | tuple[int]] = list(reversed(children))
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            text.append(node)
            continue
        if isinstance(node, tuple):
            text.append(f"</{node[0]}>")
            continue
        number += 1
        while number in literals:
            number += 1
        tags[number] = node
        text.append(f"<{number}>" if isinstance(node, PairedTag) else f"<{number}/>")
        if isinstance(node, PairedTag):
            stack += [(number,), *reversed(node.children)]
    return "".join(text), tags
