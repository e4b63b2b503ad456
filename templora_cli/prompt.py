"""The prompt of a turn: sections with budgets and priorities, followed by the window (the end of the book).

A prompt is built for each turn and committed with its chunk. Items that did not fit are reported.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from templora_cli.errors import TemploraError

MAX_CHARACTERS = 16
"""Characters that a token of a long text has at most, on average."""
Layout = Callable[[Mapping[str, Sequence[str]]], tuple[int, ...]]
"""Renders the items of all sections to token ids."""


@dataclass(frozen=True)
class Section:
    """A part of the prompt other than the book."""

    name: str
    """One plain word: "instruction", "premise" or "glossary"."""
    items: tuple[str, ...]
    """Its content, the most important item first. Items that do not fit are dropped from the end."""
    budget: int | None = None
    """Maximum number of tokens that it may add to the prompt; None for no limit."""
    priority: int | None = None
    """If all sections together do not fit, the section with the lowest priority is shortened first; None
    never is.
    """
    passing: bool = False
    """Does it change from chunk to chunk? Then training does not see it: a step would take three times as
    long, and the model would learn to need it.
    """


@dataclass(frozen=True)
class Dropped:
    """A section that was shortened."""

    section: str
    shown: int
    """Number of items in the prompt."""
    items: int
    """Number of items in all."""


@dataclass(frozen=True)
class Prompt:
    """The tokens that the model reads before a chunk."""

    header: tuple[int, ...]
    """The rendered sections. Never empty."""
    context: tuple[int, ...]
    """The window: the last tokens of the book."""
    sections: tuple[Section, ...] = ()
    """The sections with the items that fit, as text."""
    dropped: tuple[Dropped, ...] = ()
    lasting: tuple[int, ...] | None = None
    """The header without passing sections; None if there are none."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """Header and window."""
        return self.header + self.context

    @property
    def training_header(self) -> tuple[int, ...]:
        """The header that training sees."""
        return self.header if self.lasting is None else self.lasting

    def items(self, section: str) -> tuple[str, ...]:
        """The items of a section that fit; () without that section."""
        return next((each.items for each in self.sections if each.name == section), ())

    def as_json(self) -> dict[str, Any]:
        """The prompt as a JSON object, as it is committed with its chunk."""
        return {
            "header": list(self.header),
            "context": list(self.context),
            "sections": {section.name: list(section.items) for section in self.sections},
            "dropped": {cut.section: cut.items - cut.shown for cut in self.dropped},
            "lasting": None if self.lasting is None else list(self.lasting),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Prompt:
        """The prompt that was committed with a chunk."""
        sections = {name: tuple(items) for name, items in values["sections"].items()}
        dropped = {name: (len(sections.get(name, ())), count) for name, count in values["dropped"].items()}
        return cls(
            tuple(values["header"]),
            tuple(values["context"]),
            tuple(Section(name, items) for name, items in sections.items()),
            tuple(Dropped(name, shown, shown + count) for name, (shown, count) in dropped.items()),
            None if values.get("lasting") is None else tuple(values["lasting"]),
        )


def build_prompt(
    sections: Sequence[Section], layout: Layout, context: tuple[int, ...], *, max_tokens: int | None = None
) -> Prompt:
    """Build the prompt, shortening sections to their budgets and to `max_tokens` for the whole header.

    Raises TemploraError if the sections that may not be shortened do not fit.
    """
    items = {section.name: section.items for section in sections}

    def fit(section: Section, most: int, without: int = 0) -> None:
        """Drop items from the end until the layout, less `without` tokens, has at most `most` tokens."""
        whole = items[section.name]

        def size(count: int) -> int:
            return len(layout({**items, section.name: whole[:count]})) - without

        # Prose has some four characters a token: what is far too long need not be tokenised.
        lengths = accumulate(len(item) for item in whole)
        possible = sum(length <= most * MAX_CHARACTERS for length in lengths)
        count = bisect_right(range(1, possible + 1), most, key=size)
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
        excess = len(header) - max_tokens
        names = " and ".join(name for name, shown in items.items() if shown) or "header"
        raise TemploraError(
            f"{names}: {len(header):,} tokens, {excess:,} above the limit of {max_tokens:,}",
            f"shorten the longest part until {max_tokens:,} are left, or use a --model with a larger context "
            "window",
        )
    shown = tuple(replace(section, items=items[section.name]) for section in sections if items[section.name])
    dropped = tuple(
        Dropped(s.name, len(items[s.name]), len(s.items))
        for s in sections
        if len(items[s.name]) < len(s.items)
    )
    passing = [section.name for section in shown if section.passing]
    lasting = layout({**items, **dict.fromkeys(passing, ())}) if passing else None
    return Prompt(header, context, shown, dropped, lasting)


def _priority(section: Section) -> int:
    assert section.priority is not None
    return section.priority


def max_header_tokens(sections: Sequence[Section], layout: Layout) -> int:
    """Tokens of a header whose sections fill their budgets, for the planner and the window check."""
    unlimited = {section.name: section.items if section.budget is None else () for section in sections}
    return len(layout(unlimited)) + sum(section.budget or 0 for section in sections)


def passing_tokens(sections: Sequence[Section], layout: Layout) -> int:
    """How many of the `max_header_tokens` are of sections that training does not see."""
    lasting = [section for section in sections if not section.passing]
    return max_header_tokens(sections, layout) - max_header_tokens(lasting, layout)


def window(book: Sequence[int], tokens: int) -> tuple[int, ...]:
    """The last `tokens` tokens of the book."""
    return tuple(book[max(0, len(book) - tokens) :])


def fixed_header(header: tuple[int, ...], context_tokens: int) -> Callable[[Sequence[int]], Prompt]:
    """A prompt builder with the same header for every chunk."""
    return lambda book: Prompt(header, window(book, context_tokens))
