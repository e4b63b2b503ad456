"""Prompts: what of each section is shown, what gives way, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from templora_cli.prompt import Dropped, Layout, Prompt, Section, build, fixed, longest, window

BEGIN, NAMED = 1000, 1001


def layout(shown: Mapping[str, Sequence[str]]) -> tuple[int, ...]:
    """One token that begins, then each section that shows something: its name, its items by letters."""
    tokens = [BEGIN]
    for name, items in shown.items():
        tokens += [NAMED, *"\n".join([name, *items]).encode()] if items else []
    return tuple(tokens)


def joined(shown: Mapping[str, Sequence[str]]) -> tuple[int, ...]:
    """Nothing that begins, and a blank line between what is shown."""
    return tuple("\n\n".join("\n".join(items) for items in shown.values() if items).encode())


def sections(*, with_room: bool) -> st.SearchStrategy[list[Section]]:
    """Up to four, some without a budget; with priorities, some of which are alike, where there is a room."""
    priority = st.none() | st.integers(0, 2) if with_room else st.none()
    one = st.tuples(
        st.lists(st.text("abc", max_size=6), max_size=6).map(tuple), st.none() | st.integers(0, 30), priority
    )
    return st.lists(one, max_size=4).map(
        lambda made: [Section(name, *parts) for name, parts in zip("pqrs", made, strict=False)]
    )


def shown_of(prompt: Prompt) -> dict[str, tuple[str, ...]]:
    return {section.name: section.items for section in prompt.sections}


def size_of(all_of_them: Sequence[Section], shown: Mapping[str, Sequence[str]], without: str = "") -> int:
    items = {one.name: shown.get(one.name, ()) if one.name != without else () for one in all_of_them}
    return len(layout(items))


@given(sections(with_room=True), st.none() | st.integers(0, 80))
def test_the_first_items_are_shown_and_the_rest_is_said_exactly(
    asked: list[Section], max_tokens: int | None
) -> None:
    try:
        prompt = build(asked, layout, (7, 8), max_tokens=max_tokens)
    except TemploraError:
        assume(False)
    shown = shown_of(prompt)
    dropped = {one.section: (one.shown, one.items) for one in prompt.dropped}
    for section in asked:
        kept = shown.get(section.name, ())
        assert kept == section.items[: len(kept)]
        whole = len(kept) == len(section.items)
        assert dropped.get(section.name) == (None if whole else (len(kept), len(section.items)))
    assert prompt.header == layout({one.name: shown.get(one.name, ()) for one in asked})
    assert all(section.items for section in prompt.sections)
    assert prompt.tokens == (*prompt.header, 7, 8)


@given(sections(with_room=False))
def test_each_section_keeps_to_its_budget_and_uses_it(asked: list[Section]) -> None:
    prompt = build(asked, layout, ())
    shown = shown_of(prompt)
    for section in asked:
        kept = shown.get(section.name, ())
        if section.budget is None:
            assert kept == section.items
            continue
        others = size_of(asked, shown, without=section.name)
        assert size_of(asked, shown) - others <= section.budget
        if len(kept) < len(section.items):
            more = {**shown, section.name: section.items[: len(kept) + 1]}
            assert size_of(asked, more) - others > section.budget, "one more would have had room"


@given(sections(with_room=True), st.integers(0, 80))
def test_the_lowest_priority_gives_way_first_and_the_last_no_more_than_it_must(
    asked: list[Section], max_tokens: int
) -> None:
    alone = shown_of(build(asked, layout, ()))
    may_not = {one.name: alone.get(one.name, ()) if one.priority is None else () for one in asked}
    if len(layout(may_not)) > max_tokens:
        with pytest.raises(TemploraError, match=f"{len(layout(may_not))} tokens, .* room for {max_tokens}$"):
            build(asked, layout, (), max_tokens=max_tokens)
        return
    prompt = build(asked, layout, (), max_tokens=max_tokens)
    assert len(prompt.header) <= max_tokens
    shown = shown_of(prompt)
    order = sorted((one for one in asked if one.priority is not None), key=lambda one: one.priority or 0)
    names = [one.name for one in order]
    cut = [name for name in names if len(shown.get(name, ())) < len(alone.get(name, ()))]
    assert all(shown.get(one.name) == alone.get(one.name) for one in asked if one.name not in cut)
    if cut:
        assert not any(shown.get(name) for name in names[: names.index(cut[-1])]), "they went before it"
        more = {**shown, cut[-1]: alone[cut[-1]][: len(shown.get(cut[-1], ())) + 1]}
        assert size_of(asked, more) > max_tokens, "one more would have had room"


@pytest.mark.parametrize("layout", [layout, joined])
@given(sections(with_room=True), st.none() | st.integers(0, 80))
def test_no_header_is_longer_than_the_planner_was_told(
    layout: Layout, asked: list[Section], max_tokens: int | None
) -> None:
    try:
        prompt = build(asked, layout, (), max_tokens=max_tokens)
    except TemploraError:
        assume(False)
    assert len(prompt.header) <= longest(asked, layout)


def test_the_planner_is_not_told_much_too_much() -> None:
    asked = [Section("plan", ("a", "b"), budget=30), Section("premise", ("A storm.",))]
    assert longest(asked, layout) == len(layout({"premise": ("A storm.",)})) + 30
    assert longest([], layout) == 1


def test_what_may_not_be_cut_and_has_no_room_is_refused() -> None:
    asked = [Section("premise", ("A long storm.",)), Section("plan", ("Rain.",), 100, 1)]
    needed = len(layout({"premise": ("A long storm.",)}))
    assert build(asked, layout, (), max_tokens=needed).dropped == (Dropped("plan", 0, 1),)
    with pytest.raises(TemploraError) as caught:
        build(asked, layout, (), max_tokens=needed - 1)
    assert caught.value.message == (
        f"instruction and premise have {needed} tokens, and there is room for {needed - 1}"
    )
    assert caught.value.hint == "a shorter premise, or a larger --context-tokens"


def test_what_is_committed_of_a_prompt() -> None:
    asked = [Section("plan", ("He goes.", "She stays.", "It rains."), 18), Section("note", (), 10)]
    prompt = build(asked, layout, (7, 8))
    assert prompt.as_json() == {
        "header": list(layout({"plan": ("He goes.",)})),
        "context": [7, 8],
        "sections": {"plan": ["He goes."]},
        "dropped": {"plan": 2},
    }


@given(st.lists(st.integers(), max_size=30), st.integers(0, 40))
def test_the_window_is_the_end_of_the_book(book: list[int], tokens: int) -> None:
    seen = window(book, tokens)
    assert len(seen) == min(tokens, len(book)) and list(seen) == book[len(book) - len(seen) :]
    assert fixed((1, 2), tokens)(book) == Prompt((1, 2), seen)
