"""Prompts: the items of each section that fit, which sections are cut first, and the report of cuts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from templora_cli.prompt import (
    Dropped,
    Layout,
    Prompt,
    Section,
    build_prompt,
    fixed_header,
    max_header_tokens,
    passing_tokens,
    window,
)

BEGIN, NAMED = 1000, 1001


def layout(sections: Mapping[str, Sequence[str]]) -> tuple[int, ...]:
    """A first token, then each section that has items: a mark, its name and its items in bytes."""
    tokens = [BEGIN]
    for name, items in sections.items():
        tokens += [NAMED, *"\n".join([name, *items]).encode()] if items else []
    return tuple(tokens)


def joined(sections: Mapping[str, Sequence[str]]) -> tuple[int, ...]:
    """No first token, and a blank line between sections."""
    return tuple("\n\n".join("\n".join(items) for items in sections.values() if items).encode())


def sections(*, with_priorities: bool) -> st.SearchStrategy[list[Section]]:
    """Up to four sections, some without a budget; on request with priorities, which may be equal."""
    priority = st.none() | st.integers(0, 2) if with_priorities else st.none()
    parts = st.tuples(
        st.lists(st.text("abc", max_size=6), max_size=6).map(tuple), st.none() | st.integers(0, 30), priority
    )
    return st.lists(parts, max_size=4).map(
        lambda drawn: [Section(name, *values) for name, values in zip("pqrs", drawn, strict=False)]
    )


def items_of(prompt: Prompt) -> dict[str, tuple[str, ...]]:
    return {section.name: section.items for section in prompt.sections}


def size_of(requested: Sequence[Section], items: Mapping[str, Sequence[str]], without: str = "") -> int:
    """The number of tokens of a header with these items; `without` names a section to leave out."""
    names = [section.name for section in requested]
    return len(layout({name: items.get(name, ()) if name != without else () for name in names}))


@given(sections(with_priorities=True), st.none() | st.integers(0, 80))
def test_the_first_items_that_fit_are_included_and_the_rest_is_reported(
    requested: list[Section], max_tokens: int | None
) -> None:
    try:
        prompt = build_prompt(requested, layout, (7, 8), max_tokens=max_tokens)
    except TemploraError:
        assume(False)
    items = items_of(prompt)
    dropped = {cut.section: (cut.shown, cut.items) for cut in prompt.dropped}
    for section in requested:
        included = items.get(section.name, ())
        assert included == section.items[: len(included)]
        complete = len(included) == len(section.items)
        assert dropped.get(section.name) == (None if complete else (len(included), len(section.items)))
    assert prompt.header == layout({section.name: items.get(section.name, ()) for section in requested})
    assert all(section.items for section in prompt.sections)
    assert prompt.tokens == (*prompt.header, 7, 8)


@given(sections(with_priorities=False))
def test_each_section_fills_its_budget(requested: list[Section]) -> None:
    prompt = build_prompt(requested, layout, ())
    items = items_of(prompt)
    for section in requested:
        included = items.get(section.name, ())
        if section.budget is None:
            assert included == section.items
            continue
        others = size_of(requested, items, without=section.name)
        assert size_of(requested, items) - others <= section.budget
        if len(included) < len(section.items):
            more = {**items, section.name: section.items[: len(included) + 1]}
            assert size_of(requested, more) - others > section.budget, "one more item would have fitted"


@given(sections(with_priorities=True), st.integers(0, 80))
def test_sections_are_cut_in_order_of_priority_and_no_more_than_needed(
    requested: list[Section], max_tokens: int
) -> None:
    alone = items_of(build_prompt(requested, layout, ()))
    required = {
        section.name: alone.get(section.name, ()) if section.priority is None else () for section in requested
    }
    if len(layout(required)) > max_tokens:
        message = f": {len(layout(required))} tokens, .* above the limit of {max_tokens}$"
        with pytest.raises(TemploraError, match=message):
            build_prompt(requested, layout, (), max_tokens=max_tokens)
        return
    prompt = build_prompt(requested, layout, (), max_tokens=max_tokens)
    assert len(prompt.header) <= max_tokens
    items = items_of(prompt)
    order = sorted(
        (section for section in requested if section.priority is not None),
        key=lambda section: section.priority or 0,
    )
    names = [section.name for section in order]
    cut = [name for name in names if len(items.get(name, ())) < len(alone.get(name, ()))]
    assert all(
        items.get(section.name) == alone.get(section.name) for section in requested if section.name not in cut
    )
    if cut:
        assert not any(items.get(name) for name in names[: names.index(cut[-1])]), (
            "sections before it are empty"
        )
        more = {**items, cut[-1]: alone[cut[-1]][: len(items.get(cut[-1], ())) + 1]}
        assert size_of(requested, more) > max_tokens, "one more item would have fitted"


@pytest.mark.parametrize("layout", [layout, joined])
@given(sections(with_priorities=True), st.none() | st.integers(0, 80))
def test_no_header_is_longer_than_the_planned_maximum(
    layout: Layout, requested: list[Section], max_tokens: int | None
) -> None:
    try:
        prompt = build_prompt(requested, layout, (), max_tokens=max_tokens)
    except TemploraError:
        assume(False)
    assert len(prompt.header) <= max_header_tokens(requested, layout)


def test_the_planned_maximum_is_not_much_too_high() -> None:
    requested = [Section("plan", ("a", "b"), budget=30), Section("premise", ("A storm.",))]
    assert max_header_tokens(requested, layout) == len(layout({"premise": ("A storm.",)})) + 30
    assert max_header_tokens([], layout) == 1


def test_passing_sections_are_counted_apart() -> None:
    requested = [Section("plan", ("a",), budget=30, passing=True), Section("note", ("bcd",), passing=True)]
    lasting = [Section("premise", ("A storm.",))]
    passing = passing_tokens([*requested, *lasting], layout)
    assert passing == 30 + len(layout({"note": ("bcd",)})) - 1, "without the first token"
    assert passing_tokens(lasting, layout) == 0


def test_a_long_section_is_not_tokenised_whole() -> None:
    sizes: list[int] = []

    def layout(items: Mapping[str, Sequence[str]]) -> tuple[int, ...]:
        text = " ".join(items["plan"])
        sizes.append(len(text))
        return tuple(range(len(text.split()) + 1))

    prompt = build_prompt([Section("plan", ("She goes on.",) * 5000, budget=50)], layout, ())
    assert len(prompt.header) <= 51 and len(prompt.sections[0].items) >= 15
    assert max(sizes) <= 2000


def test_required_sections_that_do_not_fit_are_refused() -> None:
    requested = [Section("premise", ("A long storm.",)), Section("plan", ("Rain.",), 100, 1)]
    needed = len(layout({"premise": ("A long storm.",)}))
    assert build_prompt(requested, layout, (), max_tokens=needed).dropped == (Dropped("plan", 0, 1),)
    with pytest.raises(TemploraError) as caught:
        build_prompt(requested, layout, (), max_tokens=needed - 1)
    assert caught.value.message == f"premise: {needed} tokens, 1 above the limit of {needed - 1}"
    assert f"until {needed - 1} are left" in str(caught.value.hint)


def test_a_prompt_is_committed_with_its_sections_and_cuts() -> None:
    requested = [Section("plan", ("He goes.", "She stays.", "It rains."), 18), Section("note", (), 10)]
    prompt = build_prompt(requested, layout, (7, 8))
    assert prompt.as_json() == {
        "header": list(layout({"plan": ("He goes.",)})),
        "context": [7, 8],
        "sections": {"plan": ["He goes."]},
        "dropped": {"plan": 2},
        "lasting": None,
    }


@given(st.booleans(), st.integers(0, 30))
def test_a_committed_prompt_is_read_again(passing: bool, budget: int) -> None:
    requested = [
        Section("plan", ("He goes.", "She stays."), budget, passing=passing),
        Section("note", ("Hm.",)),
    ]
    prompt = build_prompt(requested, layout, (7, 8))
    again = Prompt.from_json(json.loads(json.dumps(prompt.as_json())))
    assert again.as_json() == prompt.as_json()
    assert (again.tokens, again.training_header) == (prompt.tokens, prompt.training_header)


@given(st.lists(st.integers(), max_size=30), st.integers(0, 40))
def test_the_window_is_the_end_of_the_book(book: list[int], tokens: int) -> None:
    context = window(book, tokens)
    assert len(context) == min(tokens, len(book)) and list(context) == book[len(book) - len(context) :]
    assert fixed_header((1, 2), tokens)(book) == Prompt((1, 2), context)
