"""The markup inside a paragraph as numbered tags: `so <1>much</1> of it<2/>`, on the way out and back.

A model sees `<1>`, `</1>` and `<2/>` and nothing of what they stand for. What comes back is not trusted:
`Inline.place` makes well nested markup of any answer and loses nothing that is not text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

T = TypeVar("T")

TAG = re.compile(r"[<＜]\s*(/?)\s*([0-9]{1,7})\s*(/?)\s*[>＞]")
"""As models write them back: with blanks, and in Chinese with wide brackets."""
_VOID = "\0"
_BETWEEN_WORDS = re.compile(rf"(?<=\w){_VOID}+(?=\w)")
_LINE_BREAKS = re.compile(r"[ \t\n\r\f\v\x1c-\x1e\x85\u2028\u2029]+")
_FILE_NAME = re.compile(r"\S+\.[A-Za-z]{3,4}")
_UNWRITABLE = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML forbids or that no text means."""


def markup_of(text: str) -> tuple[str, ...]:
    """The tags of a paragraph or of its translation, in order: `("<1>", "</1>", "<2/>")`."""
    return tuple(f"<{slash}{number}{end}>" for slash, number, end in TAG.findall(text))


def plain(text: str) -> str:
    """The words of a paragraph without its tags, on one line; what parts words still does."""
    text = TAG.sub(lambda tag: _VOID if tag[3] else "", text)
    return " ".join(_BETWEEN_WORDS.sub(" ", text).replace(_VOID, "").split())


def one_line(text: str) -> str:
    """A translation without line breaks and characters that no document holds; hard spaces stay."""
    return _LINE_BREAKS.sub(" ", _UNWRITABLE.sub("", text)).strip()


def has_words(text: str) -> bool:
    """Whether there is anything to translate: a letter of any script."""
    return any(char.isalpha() for char in text)


def is_description(text: str) -> bool:
    """Whether what stands for an image is words, and not the name of its file."""
    return has_words(text) and not _FILE_NAME.fullmatch(text.strip())


@dataclass(frozen=True)
class Mark(Generic[T]):
    """A piece of markup among the text of a paragraph; `raw` is what its format writes for it."""

    form: Literal["open", "close", "void"]
    raw: T
    link: bool = False
    """A link must not stand inside a link."""
    hidden: bool = False
    """A comment or the like: no model need see it, and it is kept at the end of the paragraph."""
    spare: bool = False
    """May be left out where a translation left it out: a line break, not an image."""
    anchor: bool = False
    """Something may point to it, so it stays even where a translation left its tag out."""


@dataclass
class LoneTag(Generic[T]):
    """Markup without words: one tag, however many marks stand side by side."""

    marks: list[Mark[T]]


@dataclass
class PairedTag(Generic[T]):
    """An element around words; `open` and `close` are several marks where elements share their ends."""

    open: list[Mark[T]]
    close: list[Mark[T]] = field(default_factory=list)
    children: list[str | LoneTag[T] | PairedTag[T]] = field(default_factory=list)

    @property
    def link(self) -> bool:
        """Whether it is a link, or one and something else."""
        return any(mark.link for mark in self.open)


Node = str | LoneTag[T] | PairedTag[T]


@dataclass(frozen=True)
class Inline(Generic[T]):
    """A paragraph: the text that a model sees, and what its tags stand for."""

    text: str
    lead: list[str | Mark[T]]
    """What stands before the first word, and around the whole of the words: blanks and marks."""
    trail: list[str | Mark[T]]
    tags: dict[int, LoneTag[T] | PairedTag[T]]
    literals: frozenset[int]
    """Numbers of what looks like a tag and is text."""

    def place(self, translation: str) -> list[str | Mark[T]] | None:
        """The text and marks of `translation`, to be written between `lead` and `trail`.

        Marks come well nested and once at most, whatever the tags of the translation are: unknown tags are
        dropped, open ones closed, and voids that are missing stand at the end. None where the translation
        is blank, and the paragraph had better stay as it is.
        """
        pieces = _Markup(self)
        at = 0
        translation = one_line(translation)
        for match in TAG.finditer(translation):
            pieces.text(translation[at : match.start()])
            pieces.tag(match)
            at = match.end()
        pieces.text(translation[at:])
        pieces.finish()
        return pieces.out if any(isinstance(p, str) and p.strip() for p in pieces.out) else None


class _Markup(Generic[T]):
    """Markup in the making: which pairs are open, and what was placed."""

    def __init__(self, inline: Inline[T]) -> None:
        self.inline = inline
        self.out: list[str | Mark[T]] = []
        self._open: list[int] = []
        self._placed: set[int] = set()

    def text(self, text: str) -> None:
        if text:
            self.out.append(text)

    def tag(self, match: re.Match[str]) -> None:
        closing, number, void = match[1], int(match[2]), match[3]
        known = self.inline.tags.get(number)
        if known is None:
            self.text(match[0] if number in self.inline.literals else "")
        elif closing:
            self._close(number)
        elif number not in self._placed and isinstance(known, LoneTag):
            self._placed.add(number)
            self.out += known.marks
        elif (
            number not in self._placed
            and isinstance(known, PairedTag)
            and not void
            and not self._nests(known)
        ):
            self._placed.add(number)
            self._open.append(number)
            self.out += known.open

    def finish(self) -> None:
        """Close what is open; append what must not be lost."""
        if self._open:
            self._close(self._open[0])
        for number, tag in self.inline.tags.items():
            if number in self._placed:
                continue
            if isinstance(tag, LoneTag):
                self.out += [mark for mark in tag.marks if not mark.spare]
            elif any(mark.anchor for mark in tag.open):
                self.out += [*tag.open, *tag.close]

    def _close(self, number: int) -> None:
        while number in self._open:
            self.out += self._pair(self._open.pop()).close

    def _nests(self, pair: PairedTag[T]) -> bool:
        return pair.link and any(self._pair(number).link for number in self._open)

    def _pair(self, number: int) -> PairedTag[T]:
        pair = self.inline.tags[number]
        assert isinstance(pair, PairedTag)
        return pair


def inline_of(pieces: Iterable[str | Mark[T]]) -> Inline[T]:
    """Number the marks of a paragraph; `pieces` are its text and marks in order, pairs well nested.

    Elements without words become void; voids side by side become one, and so do elements that begin and end
    together; what stands at the ends or around the whole is not numbered.
    """
    hidden: list[Mark[T]] = []
    children = _tree(pieces, hidden)
    lead: list[str | Mark[T]] = []
    trail: list[str | Mark[T]] = []
    while True:
        lead += _taken(children, 0)
        trail = _taken(children, -1)[::-1] + trail
        if len(children) != 1 or not isinstance(children[0], PairedTag):
            break
        pair = children[0]
        lead += pair.open
        trail = [*pair.close, *trail]
        children = pair.children
    literals = frozenset(int(n) for text in _strings(children) for _, n, _ in TAG.findall(text))
    text, tags = _numbered(children, literals)
    return Inline(" ".join(text.split()), lead, [*trail, *hidden], tags, literals)


def _tree(pieces: Iterable[str | Mark[T]], hidden: list[Mark[T]]) -> list[Node[T]]:
    root: list[Node[T]] = []
    stack: list[PairedTag[T]] = []
    for piece in pieces:
        siblings = stack[-1].children if stack else root
        if isinstance(piece, str):
            _add_text(siblings, piece)
        elif piece.hidden:
            hidden.append(piece)
        elif piece.form == "open":
            stack.append(PairedTag([piece]))
        elif piece.form == "void":
            _add_void(siblings, [piece])
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


def _add_void(siblings: list[Node[T]], marks: list[Mark[T]]) -> None:
    blank = siblings[-1] if siblings and isinstance(siblings[-1], str) and not siblings[-1].strip() else None
    before = siblings[-2:-1] if blank is not None else siblings[-1:]
    if before and isinstance(before[0], LoneTag):
        before[0].marks += marks
        del siblings[len(siblings) - (blank is not None) :]
    else:
        siblings.append(LoneTag(marks))


def _add_pair(siblings: list[Node[T]], pair: PairedTag[T]) -> None:
    """`pair` as it is, as one with the only pair inside it, or as a void where no word is inside it."""
    only = pair.children[0] if len(pair.children) == 1 else None
    if isinstance(only, PairedTag):
        siblings.append(PairedTag(pair.open + only.open, only.close + pair.close, only.children))
    elif any(
        isinstance(child, PairedTag) or (isinstance(child, str) and child.strip()) for child in pair.children
    ):
        siblings.append(pair)
    else:
        inside = [mark for child in pair.children if isinstance(child, LoneTag) for mark in child.marks]
        _add_void(siblings, pair.open + inside + pair.close)
        if any(isinstance(child, str) for child in pair.children):
            _add_text(siblings, " ")  # the words on its two sides need the blank that was inside


def _taken(children: list[Node[T]], end: Literal[0, -1]) -> list[str | Mark[T]]:
    """Blanks and voids taken off one end of `children`, the outermost first."""
    taken: list[str | Mark[T]] = []
    while children and not isinstance(children[end], PairedTag):
        child = children[end]
        if isinstance(child, LoneTag):
            taken += child.marks if end == 0 else child.marks[::-1]
            del children[end]
            continue
        assert isinstance(child, str)
        rest = child.lstrip() if end == 0 else child.rstrip()
        blank = child[: len(child) - len(rest)] if end == 0 else child[len(rest) :]
        taken += [blank] if blank else []
        if rest:
            children[end] = rest
            break
        del children[end]
    return taken


def _strings(nodes: list[Node[T]]) -> Iterator[str]:
    stack: list[Node[T]] = list(nodes)
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, PairedTag):
            stack += node.children


def _numbered(
    children: list[Node[T]], literals: frozenset[int]
) -> tuple[str, dict[int, LoneTag[T] | PairedTag[T]]]:
    """The text with tags, and the tags. Without recursion: elements may be nested a thousand deep."""
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
