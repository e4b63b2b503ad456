"""Files in which a person edits a book."""

from __future__ import annotations

import pytest

from templora_cli.novel.edited_file import Mark, merge, read_mark, without_title

BASE = "The rain fell.\n\nHe went home.\n\nShe waited.\n\nMorning came.\n"


@pytest.mark.parametrize("mark", [Mark("ferry-1a2b", 12, 3), Mark("灯台-1a2b", 1, 0, 4, "00c0ffee")])
def test_marks_are_read_again(mark: Mark) -> None:
    assert read_mark(f"{mark}{BASE}") == (mark, "\n" + BASE)
    assert read_mark(f"\n{mark}{BASE}")[0] == mark
    assert read_mark(BASE) == (None, BASE)


@pytest.mark.parametrize(
    ("text", "rest", "other"),
    [
        ("# Storm\n\nA. Writer\n\nThe rain fell.\n", "The rain fell.", ""),
        ("# Another\n\nThe rain fell.\n", "The rain fell.", "Another"),
        ("Storm\n\nA. Writer\n\nThe rain fell.\n", "The rain fell.", ""),
        ("The rain fell.\n", "The rain fell.", ""),
        ("# The rain fell.\n\nHe went.\n", "# The rain fell.\n\nHe went.", ""),
    ],
)
def test_title_and_author_are_not_part_of_the_text(text: str, rest: str, other: str) -> None:
    left, title = without_title(text, "Storm", "A. Writer", BASE)
    assert (left.strip(), title) == (rest, other)


def test_what_two_people_changed_comes_together() -> None:
    mine = BASE.replace("He went home.", "He ran home.\n\nSlowly.")
    theirs = BASE.replace("Morning came.", "Morning came late.\n\nThe end.")
    merged, conflicts = merge(BASE, mine, theirs)
    assert not conflicts
    assert merged.split("\n\n") == [
        *("The rain fell.", "He ran home.", "Slowly.", "She waited.", "Morning came late.", "The end.")
    ]


def test_what_both_changed_is_named() -> None:
    mine, theirs = BASE.replace("went", "ran"), BASE.replace("went", "walked")
    merged, conflicts = merge(BASE, mine, theirs)
    assert conflicts == ["He walked home."] and "He ran home." in merged
    assert merge(BASE, mine, mine) == (mine.strip(), [])
    assert merge(BASE, BASE, theirs) == (theirs.strip(), [])
    gone = BASE.replace("He went home.\n\n", "")
    assert merge(BASE, mine, gone)[1] == ["He went home."]
    assert merge(BASE, gone, theirs)[1] == ["He walked home."]
