"""The prompt of a turn: sections with budgets and priorities, then the window, the last tokens of the book.

A prompt is built for each turn. What of it was shown is committed with the chunk; what had no room is said.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from templora_cli.errors import TemploraError

Layout = Callable[[Mapping[str, Sequence[str]]], tuple[int, ...]]
"""From the items of each section that are shown to the token ids of all of them, as the model reads them."""


@dataclass(frozen=True)
class Section:
    """A part of the prompt that is not the book."""

    name: str
    """Such as "instruction", "plan", "ledger", "glossary": one word that a person understands."""
    items: tuple[str, ...]
    """What it holds, the most important first: what has no room goes from the end, one item at a time."""
    budget: int | None = None
    """Tokens that it may add to the prompt; None for as many as it has."""
    priority: int | None = None
    """Where all sections together have no room, the one with the lowest gives way first; None never does."""


@dataclass(frozen=True)
class Dropped:
    """What of a section had no room."""

    section: str
    shown: int
    """Items that are shown."""
    items: int
    """Items that there are."""


@dataclass(frozen=True)
class Prompt:
    """What the model sees before a chunk."""

    header: tuple[int, ...]
    """The sections as token ids. Never empty."""
    context: tuple[int, ...]
    """The window: the last tokens of the book."""
    sections: tuple[Section, ...] = ()
    """What the header shows, as text."""
    dropped: tuple[Dropped, ...] = ()

    @property
    def tokens(self) -> tuple[int, ...]:
        """All of it."""
        return self.header + self.context

    def as_json(self) -> dict[str, Any]:
        """As it is committed with its chunk."""
        return {
            "header": list(self.header),
            "context": list(self.context),
            "sections": {section.name: list(section.items) for section in self.sections},
            "dropped": {one.section: one.items - one.shown for one in self.dropped},
        }


def build(
    sections: Sequence[Section], layout: Layout, context: tuple[int, ...], *, max_tokens: int | None = None
) -> Prompt:
    """The prompt with as much of each section as its budget and `max_tokens` for all of them allow.

    Raises TemploraError where what may not be cut has no room.
    """
    items = {section.name: section.items for section in sections}

    def fit(section: Section, most: int, without: int = 0) -> None:
        """Keep the first items with which the whole has at most so many tokens beside `without` them."""
        whole = items[section.name]

        def size(count: int) -> int:
            return len(layout({**items, section.name: whole[:count]})) - without

        count = bisect_right(range(1, len(whole) + 1), most, key=size)
        items[section.name] = whole[:count]

    for section in sections:
        if section.budget is not None and section.items:
            fit(section, section.budget, without=len(layout({**items, section.name: ()})))
    header = layout(items)
    for section in sorted((s for s in sections if s.priority is not None), key=_priority):
        if max_tokens is not None and len(header) > max_tokens:
            fit(section, max_tokens)
            header = layout(items)
    if max_tokens is not None and len(header) > max_tokens:
        raise TemploraError(
            f"instruction and premise have {len(header)} tokens, and there is room for {max_tokens}",
            "a shorter premise, or a larger --context-tokens",
        )
    shown = tuple(Section(s.name, items[s.name], s.budget, s.priority) for s in sections if items[s.name])
    dropped = tuple(
        Dropped(s.name, len(items[s.name]), len(s.items))
        for s in sections
        if len(items[s.name]) < len(s.items)
    )
    return Prompt(header, context, shown, dropped)


def _priority(section: Section) -> int:
    assert section.priority is not None
    return section.priority


def longest(sections: Sequence[Section], layout: Layout) -> int:
    """Tokens of a header whose sections fill their budgets: what the planner and the window check count."""
    fixed = {section.name: section.items if section.budget is None else () for section in sections}
    return len(layout(fixed)) + sum(section.budget or 0 for section in sections)


def window(book: Sequence[int], tokens: int) -> tuple[int, ...]:
    """The last so many tokens of the book."""
    return tuple(book[max(0, len(book) - tokens) :])


def fixed(header: tuple[int, ...], context_tokens: int) -> Callable[[Sequence[int]], Prompt]:
    """Prompts whose header is the same before every chunk."""
    return lambda book: Prompt(header, window(book, context_tokens))
