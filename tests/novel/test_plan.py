"""Plans: what people write, bad input with its line, writing and reading again, and changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from templora_cli.novel import plan_headings
from templora_cli.novel.plan import MAX_CHAPTERS, Plan, PlannedChapter, changes, plan_text, read_plan
from templora_cli.novel.plan_markdown import clean

EMPTY = Plan("", "", "", "", "", "", ())
BOOK = """---
author: Jane Doe
language: English
point of view: first person
tense: past
style: dry, short sentences
---

# The Light

A keeper guards a lamp that must not go out.

## The Storm (1,800 words)

Anna rows out at night.
The lamp fails.

- She finds a boat.
- The boat is *empty*.

## The Boat
"""


def titles(text: str) -> list[str]:
    return [chapter.title for chapter in read_plan(text).chapters]


def chapter(
    title: str, summary: str = "", words: int | None = None, part: str | None = None
) -> PlannedChapter:
    return PlannedChapter(title, summary, words, part)


# --- what people write ---------------------------------------------------------------------------------


def test_a_plan_has_front_matter_title_premise_and_chapters() -> None:
    storm = chapter(
        "The Storm", "Anna rows out at night. The lamp fails.\nShe finds a boat.\nThe boat is empty.", 1800
    )
    assert read_plan(BOOK) == Plan(
        "The Light",
        "Jane Doe",
        "English",
        "first person",
        "past",
        "dry, short sentences",
        (storm, chapter("The Boat")),
        "A keeper guards a lamp that must not go out.",
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace("\n", " \n"),
        lambda text: f"\n\n{text}\n\n",
        lambda text: text.replace("# The Light\n", "The Light\n=========\n"),
        lambda text: text.replace("# The Light", "# **The Light**").replace("## The Boat", "## The Boat ##"),
        lambda text: text.replace("## The Boat", "<!-- nothing\n\n## here -->\n## The Boat <!-- yet -->"),
        lambda text: text.replace("- She", "> She").replace("- The", "\n1. The"),
        lambda text: text.replace("- The boat is *empty*.", "- The boat is empty.\n\n---"),
        lambda text: text.replace("author: Jane Doe", 'Author: "Jane Doe"').replace("point of", "point_of"),
        lambda text: text.replace("style: dry, short", "style: >\n  dry,\n  short"),
        lambda text: text.replace("- She finds a boat.\n- ", "```\nShe finds a boat.\n```\n").replace(
            "*", ""
        ),
    ],
)
def test_a_plan_may_be_written_in_other_ways(change: object) -> None:
    expected = read_plan(BOOK)
    assert callable(change)
    plan = read_plan(change(BOOK))
    if plan.chapters[0].summary.count("\n") == 3:  # two spaces at the end of a line break it
        summary = plan.chapters[0].summary.replace("night.\nThe lamp", "night. The lamp")
        plan = replace(plan, chapters=(replace(plan.chapters[0], summary=summary), *plan.chapters[1:]))
    assert plan == expected


@pytest.mark.parametrize(
    ("heading", "title"),
    [
        ("Chapter 3: The Storm", "The Storm"),
        ("CHAPTER THREE", ""),
        ("Chapter Three The Storm", "The Storm"),
        ("**Chapter 3:** The Storm", "The Storm"),
        ("Chapter XII. The *Storm*", "The Storm"),
        ("Ch. 3 – The Storm", "The Storm"),
        ("3. The Storm", "The Storm"),
        ("3) The Storm", "The Storm"),
        ("3 - The Storm", "The Storm"),
        ("3", ""),
        ("IV", ""),
        ("iv. The Storm", "The Storm"),
        ("Twenty-One", ""),
        ("Kapitel 3: Der Sturm", "Der Sturm"),
        ("3. Kapitel", ""),
        ("Capítulo 3", ""),
        ("Глава первая. Буря", "Буря"),
        ("第一章 风暴", "风暴"),
        ("第一章　风暴", "风暴"),
        ("第12章：风暴", "风暴"),
        ("第三十二回", ""),
        ("一、风暴", "风暴"),
        ("제3장 폭풍", "폭풍"),
        ("The Storm", "The Storm"),
        ("1984", "1984"),
        ("9:15 to Vienna", "9:15 to Vienna"),
        ("7.5 Million", "7.5 Million"),
        ("3-Way", "3-Way"),
        ("1914–1918", "1914–1918"),
        ("One Day", "One Day"),
        ("Three Men in a Boat", "Three Men in a Boat"),
        ("I, Claudius", "I, Claudius"),
        ("Babi", "Babi"),
        ("Chapters of an Accident", "Chapters of an Accident"),
        ("D. H. Lawrence", "D. H. Lawrence"),
        ("And then...", "And then..."),
        (r"3\. The Storm", "3. The Storm"),
        ("The Trial (Reprise)", "The Trial (Reprise)"),
        ("Chapter 3 - 11 Days Later", "11 Days Later"),
    ],
)
def test_a_title_has_no_number(heading: str, title: str) -> None:
    assert titles(f"# Book\n\n## {heading}\n") == [title]


@pytest.mark.parametrize(
    "text",
    [
        "## Storm (1,800 words)",
        "## Storm (1800 words)",
        "## Storm\nLength: 1,800 words",
        "## Storm\nTarget length: 1800 words",
        "## Storm (1.800 Wörter)",
        "## Storm (1 800 mots)",
        "## Storm [about 1,800 words]",
        "## Storm *(~1800 words)*",
        "## Storm（1800字）",
        "## Storm (１８００ words)",
        "## Storm\n(1,800 words)",
        "## Storm\n\n(1,800 words)\n",
        "## Storm\n**Length:** 1,800 words",
        "## Storm\nWord count: 1800",
        "## Storm\n\n*(1,800 words)*\n",
        "## Storm (1,800 words)\n\n(1,800 words)",
    ],
)
def test_a_length_is_in_the_heading_or_on_its_own_line(text: str) -> None:
    assert read_plan(text).chapters == (chapter("Storm", "", 1800),)


def test_a_length_between_lines_is_not_part_of_the_summary() -> None:
    plan = read_plan("## Storm\nAnna rows.\n(300 words)\nThe lamp fails.\n")
    assert plan.chapters == (chapter("Storm", "Anna rows.\nThe lamp fails.", 300),)


def test_parts_have_chapters_below_them() -> None:
    text = "# Book\n## Prologue\n## Part One: Out\n### A\n### B\n## Part Two\n### C\n## Epilogue\n"
    found = [(chapter.title, chapter.part) for chapter in read_plan(text).chapters]
    parts = [("A", "Part One: Out"), ("B", "Part One: Out"), ("C", "Part Two")]
    assert found == [("Prologue", None), *parts, ("Epilogue", None)]
    assert read_plan(text).title == "Book"


def test_parts_may_be_the_first_level_and_count_chapters_again() -> None:
    text = "# Part One\n## Chapter 1\n## Chapter 2\n# Part Two\n## Chapter 1\n"
    plan = read_plan(text)
    assert [chapter.part for chapter in plan.chapters] == ["Part One", "Part One", "Part Two"]
    assert plan.title == ""


def test_headings_below_a_numbered_chapter_are_lines_of_it() -> None:
    plan = read_plan("# Book\n## Chapter 1: Out\nAnna.\n### Scene 1\nA boat.\n### Scene 2\n## Chapter 2\n")
    assert plan.chapters == (chapter("Out", "Anna.\nScene 1\nA boat.\nScene 2"), chapter(""))


def test_a_rule_below_a_line_is_no_heading_where_headings_have_hash_marks() -> None:
    assert read_plan("## A\nAnna rows.\n---\n## B\n").chapters == (chapter("A", "Anna rows."), chapter("B"))
    assert titles("Book\n====\n\nA\n---\n\nB\n---\n") == ["A", "B"]


def test_the_title_may_have_the_level_of_the_chapters() -> None:
    plan = read_plan("# The Light\n# Prologue\n# Chapter 1\nAnna.\n# Chapter 2\n")
    assert (plan.title, len(plan.chapters)) == ("The Light", 3)
    assert titles("# Prologue\n# Chapter 1\n") == ["Prologue", ""]
    assert titles("# The Light\n# The Boat\n") == ["The Light", "The Boat"]


def test_wrapped_chinese_has_no_spaces() -> None:
    assert read_plan("## 第一章\n安娜出海，\n灯灭了。\n").chapters[0].summary == "安娜出海，灯灭了。"


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "the plan is empty", "## The Storm"),
        ("\ufeff \r\n", "the plan is empty", "## The Storm"),
        ("Anna rows out.\n", "the plan has no headings", "## The Storm"),
        ("Book\n\nChapter 1: Out\n", 'line 3: "Chapter 1: Out" is not a heading', "## Chapter 1: Out"),
        ("# The Light\n\nA lamp.\n", 'line 1: the only heading, "The Light", is the title', "## The Storm"),
        ("# T\n\n## A\n\n## B\n\n## a\n", 'line 7: a chapter called "a" is in line 3', "name of its own"),
        ("## 1. A\n## 5. A\n", "line 2: a chapter called", "name of its own"),
        ("## Chapter 1\n## Chapter 1\n", 'line 2: a chapter called "Chapter 1"', "number of its own"),
        ("## A\n## ...\n", 'line 2: "..." is in place of chapters', "heading for each"),
        ("## A\nAnna.\n\n…\n\n## Z\n", 'line 4: "…" is in place of chapters', "heading for each"),
        ("## A\n- and so on\n", 'line 2: "and so on"', "heading for each"),
        ("## A\n## Chapters 4–10: and so on\n", 'line 2: "Chapters 4–10: and so on"', "heading for each"),
        ("## A\n## Chapter 4 to 10\n", 'line 2: "Chapter 4 to 10"', "heading for each"),
        ("## A\n## 4-10\n", 'line 2: "4-10"', "heading for each"),
        ("## A\n## 第四章至第十章\n", 'line 2: "第四章至第十章"', "heading for each"),
        ("## A\n**Chapters 4-10:** more\n", 'line 2: "Chapters 4-10: more"', "heading for each"),
        ("## A (0 words)\n", "line 1: a length of 0 words; a chapter has from 10", "(1,500 words)"),
        ("## A\n\nLength: 9\n", "line 3: a length of 9 words", "(1,500 words)"),
        ("## A (900,000 words)\n", "line 1: a length of 900,000 words", "(1,500 words)"),
        ("## A (2k words)\n", 'line 1: "2k words" is not a length', "(1,800 words)"),
        ("## A (1,500–2,000 words)\n", 'line 1: "1,500–2,000 words" is not a length', "(1,800 words)"),
        ("## A (ten words)\n", 'line 1: "ten words" is not a length', "(1,800 words)"),
        ("## A (about two thousand words)\n", 'line 1: "about two thousand words" is not', "(1,800 words)"),
        ("## A (5 pages)\n", 'line 1: "5 pages" is not a length', "(1,800 words)"),
        ("## A (1,800 tokens)\n", 'line 1: "1,800 tokens" is not a length', "(1,800 words)"),
        ("## A (1,80 words)\n", 'line 1: "1,80 words" is not a length', "(1,800 words)"),
        ("## A (300 words)\n\n(400 words)", "line 3: this chapter has a length of 300 words", "remove one"),
        ("---\nauthor: x\n\n# T\n## A\n", "line 1: the front matter that begins here is not closed", "---"),
        ("---\npov: first\n---\n## A\n", 'line 2: "pov" is not a key', "point of view"),
        ("---\ntitle: T\n---\n## A\n", 'line 2: "title" is not a key', "# The Light"),
        ("---\nJane\n---\n## A\n", 'line 2: "Jane" is not a key with its value', "author: Jane Doe"),
        ("---\ntense: past\nTense: now\n---\n## A\n", "line 3: tense is here for the second time", "remove"),
        (
            "```markdown\n# T\n## A\n```\n",
            "line 2: this heading is inside a code block",
            "remove the line ```",
        ),
        ("## A\n<!-- Anna\n## B\n", "line 2: the comment <!-- is not closed", "-->"),
        ("# T\n##\n", "line 2: this heading is empty", "title"),
        ("## Part One\nAnna.\n### A\n", 'line 2: "Part One" has chapters below it and text', "move the text"),
        ("## Part One\n### A\n## Part Two\n", 'line 3: "Part Two" has no chapters', "add one"),
        ("## a\n### b\n#### c\n", 'line 3: "c" is a heading of a third level', "list"),
        ("### Scene\n## Chapter 1\n### Scene\n", 'line 1: "Scene" is below no chapter', "## The Storm"),
        ("---\ntense: past\n---\n\n## A (0 words)\n", "line 5: a length of 0", "(1,500 words)"),
    ],
)
def test_bad_input_names_the_line_and_the_next_step(text: str, message: str, hint: str) -> None:
    with pytest.raises(TemploraError) as raised:
        read_plan(text)
    assert raised.value.message.startswith(message)
    assert raised.value.hint is not None and hint in raised.value.hint
    assert "\n" not in f"{raised.value.message}{raised.value.hint}"


def test_a_plan_has_at_most_500_chapters() -> None:
    assert len(titles("".join(f"## A{i}\n" for i in range(MAX_CHAPTERS)))) == MAX_CHAPTERS
    with pytest.raises(TemploraError, match="line 1001: this is chapter 501"):
        read_plan("".join(f"## A{i}\n\n" for i in range(MAX_CHAPTERS + 20)))


@given(st.text())
@example("---\n---\n# a\n## b")
@example("#\t# \\")
def test_any_text_is_a_plan_or_an_error(text: str) -> None:
    try:
        plan = read_plan(text)
    except TemploraError:
        return
    assert read_plan(plan_text(plan)) == plan


PIECES = (
    *(
        "\n# ",
        "\n## ",
        "\n## ",
        "\n### ",
        "\n",
        "\n\n",
        " ",
        "  \n",
        "---",
        "===",
        "- ",
        "> ",
        "1. ",
        "```",
        "    ",
    ),
    *(
        "Chapter 1",
        "Chapter 2: A",
        "Part One",
        "第一章",
        "(300 words)",
        "(x words)",
        "...",
        "Prologue",
        "4-10",
    ),
    *(
        "*",
        "**",
        "_",
        "`",
        "\\",
        "<!--",
        "-->",
        "[a](b)",
        "&amp;",
        "&#10;",
        "<b>",
        ":",
        "author: x",
        "A",
        "b",
    ),
    *("\t", "!", "|", "I", "4", "Length: 300", "海", "。", "，\n", "and so on"),
)
MARKDOWN = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@given(MARKDOWN)
def test_what_is_read_is_written_and_read_again(text: str) -> None:
    test_any_text_is_a_plan_or_an_error.hypothesis.inner_test(text)  # type: ignore[attr-defined]


# --- writing ---------------------------------------------------------------------------------------------

LINES = st.one_of(st.text(min_size=1, max_size=40), MARKDOWN).map(clean).filter(bool)
SUMMARIES = st.lists(LINES, max_size=4).map("\n".join)
LENGTHS = st.none() | st.integers(plan_headings.MIN_WORDS, plan_headings.MAX_WORDS)
PARTS = LINES.filter(lambda part: not plan_headings.names_chapter(part))
CHAPTERS = st.builds(PlannedChapter, LINES | st.just(""), SUMMARIES, LENGTHS, st.none() | PARTS)
TEXT = LINES | st.just("")
PLANS = st.builds(
    Plan, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, st.lists(CHAPTERS, min_size=1, max_size=6).map(tuple), SUMMARIES
)


@given(PLANS)
def test_a_plan_that_is_written_is_read_as_it_was(plan: Plan) -> None:
    names = [chapter.title for chapter in plan.chapters if chapter.title]
    assume(len({name.casefold() for name in names}) == len(names))
    try:
        text = plan_text(plan)
        again = read_plan(text)
    except TemploraError as error:
        assert "called" in error.message, error  # names that are equal in another encoding
        return
    assert again == plan


def test_a_plan_is_written_for_people() -> None:
    assert plan_text(read_plan(BOOK)) == BOOK.replace(
        "night.\nThe lamp fails.\n\n- She finds a boat.\n- The boat is *empty*.",
        "night. The lamp fails.\n\nShe finds a boat.\n\nThe boat is empty.",
    )
    plan = read_plan("# Part One\n## Chapter 1\n## 2. The Boat\n# Epilogue\n")
    assert plan_text(plan) == "## Part One\n\n### Chapter 1\n\n### The Boat\n\n## Epilogue\n"


# --- changes ---------------------------------------------------------------------------------------------

OLD = replace(
    EMPTY, chapters=tuple(chapter(title, f"{title} happens.") for title in ("One day", "Boat", "Fog", "Port"))
)


def with_chapters(*chapters: PlannedChapter) -> Plan:
    return replace(OLD, chapters=chapters)


def test_no_change() -> None:
    assert changes(OLD, OLD, 4) == []


def test_later_chapters_may_be_changed_moved_added_and_removed() -> None:
    day, boat, fog, port = OLD.chapters
    new = with_chapters(
        day, port, chapter("Reef"), replace(fog, summary="Thick.", words=300, part="Part Two")
    )
    assert changes(OLD, new, 1) == [
        'added: chapter 3, "Reef"',
        'moved: chapter 4, "Fog", from 3',
        'chapter 4, "Fog": what happens has changed',
        'chapter 4, "Fog": length 1,500 words -> 300 words',
        'chapter 4, "Fog": part none -> "Part Two"',
        'removed: "Boat", which was chapter 2',
    ]
    assert changes(OLD, with_chapters(day, chapter("Ship", boat.summary), fog, port), 1) == [
        'chapter 2, "Ship": title "Boat" -> "Ship"'
    ]
    assert changes(OLD, replace(OLD, tense="past", style="x" * 70), 4) == [
        'tense: none -> "past"',
        f'style: none -> "{"x" * 59}…"',
    ]


def test_chapters_without_a_title_are_compared_by_text_and_position() -> None:
    old = with_chapters(chapter("", "A."), chapter("", "B."), chapter("", ""))
    swapped = changes(old, with_chapters(chapter("", "B."), chapter("", "A."), chapter("", "")), 0)
    assert swapped == ["moved: chapter 2, without a title, from 1"]
    assert changes(old, with_chapters(chapter("", "A."), chapter("", "C."), chapter("", "")), 1) == [
        "chapter 2, without a title: what happens has changed"
    ]


@pytest.mark.parametrize(
    ("new", "fault"),
    [
        (lambda c: (c[0], replace(c[1], summary="Other."), c[2], c[3]), "what happens has changed"),
        (lambda c: (c[0], replace(c[1], title="Ship"), c[2], c[3]), 'title "Boat" -> "Ship"'),
        (lambda c: (c[0], replace(c[1], words=300), c[2], c[3]), "length 1,500 words -> 300 words"),
        (lambda c: (c[0], c[2], c[1], c[3]), "moved to position 3"),
        (lambda c: (c[0], chapter("New"), *c[1:]), "moved to position 3"),
        (lambda c: (c[0], c[2], c[3]), "removed"),
        (lambda c: (c[0],), "removed"),
    ],
)
def test_written_chapters_are_frozen(new: object, fault: str) -> None:
    assert callable(new)
    with pytest.raises(TemploraError) as raised:
        changes(OLD, with_chapters(*new(OLD.chapters)), 2)
    assert raised.value.message == f'chapter 2, "Boat", is written and cannot be changed: {fault}'
    changes(OLD, with_chapters(*new(OLD.chapters)), 1)


@given(st.permutations(range(6)))
def test_only_chapters_out_of_order_are_moved(order: list[int]) -> None:
    old = with_chapters(*(chapter(f"T{index}") for index in range(6)))
    new = with_chapters(*(old.chapters[index] for index in order))
    moved = changes(old, new, 0)
    assert all(line.startswith("moved: ") for line in moved)
    remaining = [index for index in order if not any(f'"T{index}"' in line for line in moved)]
    assert remaining == sorted(remaining) and len(remaining) >= 1
    assert (order == sorted(order)) == (not moved)
