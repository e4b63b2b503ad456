"""Chapters: their headings and order, where they end, and what the prompt says about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tiny_model import byte_tokenizer
from templora_cli.config import DecodeConfig
from templora_cli.novel.chapter_headings import chapter_heading, heading_ranges
from templora_cli.novel.chapters import LONGEST, SHORTEST, ChapterChunk, PlannedTask, Position, position_after
from templora_cli.novel.plan import Plan, PlannedChapter
from templora_cli.novel.prompt import NovelPrompt
from templora_cli.prompt_files import load_prompts
from templora_cli.text import count_words
from templora_cli.turn import Generate, Given

CHAT = byte_tokenizer()
NOVEL, SECTIONS = load_prompts("novel", ""), load_prompts("sections", "")


def plan_of(*chapters: tuple[str, str, int], language: str = "", part: str | None = None) -> Plan:
    planned = tuple(PlannedChapter(title, summary, words, part) for title, summary, words in chapters)
    return Plan("The Lamp", "", language, "", "", "", planned)


THREE = plan_of(("Storm", "A ship breaks.", 40), ("Calm", "Tom wakes.", 40), ("Lamp", "They light it.", 40))


def task_of(plan: Plan, opening: str = "", chunk_tokens: int = 128) -> PlannedTask:
    decode = DecodeConfig(chunk_tokens=chunk_tokens, context_tokens=256)
    prompt = NovelPrompt(CHAT, NOVEL, SECTIONS, "", bool(opening), decode, plan=plan)
    tokens = tuple(CHAT.encode(opening, add_special_tokens=False))
    return PlannedTask(prompt, tokens, plan, chunk_tokens, CHAT, end_tokens=frozenset((CHAT.eos_token_id,)))


def decoded(turn: Generate, stream: Sequence[int]) -> list[int]:
    """The tokens of a chunk, without its opening, if the model goes on with `stream`."""
    body: list[int] = []
    for token in stream[: turn.max_tokens]:
        if token in turn.end_tokens:
            assert turn.may_end(body), "the end may not be drawn yet"
            break
        body.append(token)
        if (end := turn.complete(body)) is not None:
            return body[:end]
    return body


def written(task: PlannedTask, text: str) -> tuple[str, list[dict[str, Any]]]:
    """The book, and the records of its chunks, if the model repeats `text` without end."""
    book, records = list(task.opening), [None] * -(-len(task.opening) // task.chunk_tokens)
    stream = CHAT.encode(text * 200, add_special_tokens=False)
    position = 0
    while (turn := task.next_turn(book, records)) is not None:
        assert isinstance(turn, Generate) and len(records) < 500
        body = decoded(turn, stream[position:])
        position += len(body)
        assert body and len(turn.opening) + len(body) <= task.chunk_tokens
        records.append(turn.record(body))
        book += [*turn.opening, *body]
    return CHAT.decode(book), records


def shares(plan: Plan, records: Sequence[Any], book: str) -> list[float]:
    """The length of each chapter as a share of its plan."""
    tokens = CHAT.encode(book, add_special_tokens=False)
    spans = position_after(records).spans
    ends = [*(start for start, _ in spans[1:]), len(tokens)]
    return [
        count_words(CHAT.decode(tokens[body:end])) / chapter.words
        for (_, body), end, chapter in zip(spans, ends, plan.chapters, strict=True)
    ]


PARAGRAPHS = "The wind was in the west and the sea was grey.\n\nTom went down to the boat.\n\n"


def test_every_chapter_has_its_heading_once_and_in_order() -> None:
    book, records = written(task_of(THREE), PARAGRAPHS)
    headings = [line for line in book.split("\n") if line.startswith("Chapter")]
    assert headings == ["Chapter 1: Storm", "Chapter 2: Calm", "Chapter 3: Lamp"]
    assert book.startswith("Chapter 1: Storm\n\nThe wind")
    assert [record["chapter"] for record in records] == sorted(record["chapter"] for record in records)
    assert [record["title"] for record in records if record["chapter_end"]] == ["Storm", "Calm", "Lamp"]


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (PARAGRAPHS, "paragraph"),
        ("The wind was in the west. The sea was grey. Tom slept. ", "sentence"),
        ("the wind and the sea and the boat and ", "anywhere"),
        ("风从西边来，海是灰的。\n\n他走到船边。\n\n", "paragraph"),
        ("风从西边来，海是灰的。他走到船边。", "sentence"),
    ],
)
def test_chapters_end_where_they_can_within_their_length(text: str, end: str) -> None:
    book, records = written(task_of(THREE), text)
    assert [record["end"] for record in records if record["chapter_end"]] == [end] * 3
    assert all(SHORTEST <= share <= LONGEST for share in shares(THREE, records, book))


@given(
    words=st.integers(20, 120),
    chunk=st.integers(64, 200),
    sentences=st.lists(st.integers(2, 14), min_size=1, max_size=6),
    breaks=st.booleans(),
)
def test_any_prose_with_sentences_keeps_the_length(
    words: int, chunk: int, sentences: list[int], breaks: bool
) -> None:
    text = "".join("The " + "sea " * (n - 2) + ("end.\n\n" if breaks else "end. ") for n in sentences)
    plan = plan_of(("A", "", words), ("B", "", words))
    book, records = written(task_of(plan, chunk_tokens=chunk), text)
    most = LONGEST + 1 / words  # where a chunk ends just before the limit, the next has one word
    assert all(SHORTEST <= share <= most for share in shares(plan, records, book))
    assert [record["chapter"] for record in records if record["chapter_end"]] == [0, 1]


def test_the_model_may_end_a_chapter_late_and_with_a_paragraph() -> None:
    turn = task_of(plan_of(("A", "", 400)), chunk_tokens=2000).next_turn([], [])
    assert isinstance(turn, Generate)
    early, late, midway = (
        CHAT.encode(text, add_special_tokens=False)
        for text in ("sea " * 320 + "sea.", "sea " * 349 + "sea.", "sea " * 350)
    )
    assert turn.may_end(late) and not turn.may_end(early) and not turn.may_end(midway)
    body = decoded(turn, [*late, CHAT.eos_token_id, *late])
    record = turn.record(body)
    assert record["chapter_end"] and record["end"] == "paragraph" and body == late


def test_a_chapter_does_not_end_before_the_chunk_that_closes_it_begins() -> None:
    task = task_of(THREE, chunk_tokens=400)
    first = task.next_turn([], [])
    assert isinstance(first, Generate)
    body = decoded(first, CHAT.encode("The sea was grey. " * 40, add_special_tokens=False))
    closing = task.next_turn([*first.opening, *body], [first.record(body)])
    assert isinstance(closing, Generate) and not closing.may_end([])


@pytest.mark.parametrize("words", [10, 100])
@pytest.mark.parametrize("text", [PARAGRAPHS, "the wind and the sea and ", "Tom slept. " * 30 + "\n\n"])
def test_no_chapter_is_longer_than_115_percent(words: int, text: str) -> None:
    plan = plan_of(("A", "", words), ("B", "", words))
    book, records = written(task_of(plan, chunk_tokens=400), text)
    assert all(SHORTEST <= share <= LONGEST for share in shares(plan, records, book))


def test_the_last_tenth_is_a_chunk_that_is_asked_to_close() -> None:
    task = task_of(THREE, chunk_tokens=400)
    first = task.next_turn([], [])
    assert isinstance(first, Generate)
    stream = CHAT.encode("the sea was grey and " * 40, add_special_tokens=False)
    body = decoded(first, stream)
    record = first.record(body)
    assert not record["chapter_end"] and 0.9 <= count_words(CHAT.decode(body)) / 40 < 1.15
    second = task.next_turn([*first.opening, *body], [record])
    assert isinstance(second, Generate) and second.opening == ()
    closing, before = (CHAT.decode(list(turn.prompt.header)) for turn in (second, first))
    assert "nearly over" in closing and "nearly over" not in before


def test_the_prompt_tells_this_chapter_those_before_and_the_next() -> None:
    task = task_of(THREE)
    record = {"chapter": 0, "title": "Storm", "heading": 0, "body": 18, "chapter_end": True}
    turn = task.next_turn([7] * 20, [record])
    assert isinstance(turn, Generate)
    text = CHAT.decode(list(turn.prompt.header))
    now, after = text.index("In this chapter (Chapter 2: Calm): Tom wakes."), text.index("Not yet told")
    assert text.index("- Chapter 1: Storm: A ship breaks.") < now < after
    assert "They light it." in text[after:] and CHAT.decode(list(turn.opening)) == "\n\nChapter 2: Calm\n\n"


def test_a_long_plan_drops_the_chapters_that_are_furthest_away() -> None:
    many = plan_of(*((f"T{i}", f"Event number {i} happens here.", 40) for i in range(60)))
    records = [
        {"chapter": i, "title": f"T{i}", "heading": i, "body": i, "chapter_end": True} for i in range(50)
    ]
    turn = task_of(many).next_turn([7] * 60, records)
    assert isinstance(turn, Generate)
    (plan,) = (section for section in turn.prompt.sections if section.name == "plan")
    assert "number 50" in plan.items[0] and "number 51" in plan.items[1] and "number 49" in plan.items[2]
    (dropped,) = turn.prompt.dropped
    assert dropped.section == "plan" and dropped.shown == len(plan.items) < dropped.items == 52
    whole = len(turn.prompt.header) - len(turn.prompt.training_header)
    assert whole <= 256, "the plan has its budget"


def test_training_sees_neither_plan_nor_note() -> None:
    turn = task_of(THREE).next_turn([], [])
    assert isinstance(turn, Generate)
    trained = CHAT.decode(list(turn.prompt.training_header))
    assert "A ship breaks." not in trained and "The Lamp" in trained


def test_a_heading_is_in_the_language_of_the_plan() -> None:
    plan = plan_of(("Der Sturm", "", 40), ("", "", 40), language="German", part="Erster Teil")
    book, _ = written(task_of(plan), PARAGRAPHS)
    assert book.startswith("Erster Teil\n\nKapitel 1: Der Sturm\n\n") and "\n\nKapitel 2\n\n" in book
    assert book.count("Erster Teil") == 1


def test_the_end_of_the_story_is_the_end_of_the_book() -> None:
    stream = CHAT.encode("sea " * 36 + "\n\nThe End\n\nOnce upon a time", add_special_tokens=False)
    for chapters, ends in (((("A", "", 40), ("B", "", 40)), False), ((("B", "", 40),), True)):
        task = task_of(plan_of(*chapters), chunk_tokens=2000)
        first = task.next_turn([], [])
        assert isinstance(first, Generate)
        body = CHAT.encode("sea " * 36, add_special_tokens=False)
        assert first.complete(body) == len(body), "the chapter comes to its close"
        book, records = [*first.opening, *body], [first.record(body)]
        closing = task.next_turn(book, records)
        assert isinstance(closing, Generate)
        text = CHAT.decode(decoded(closing, stream[len(body) :]))
        assert (text == "\n\nThe End") is ends


def test_a_chapter_whose_plan_was_shortened_ends_with_its_sentence() -> None:
    task, stream = task_of(THREE, chunk_tokens=400), "He had slept. The sea was grey. Tom"
    first = task.next_turn([], [])
    assert isinstance(first, Generate)
    body = decoded(first, CHAT.encode("The sea was grey and " * 40, add_special_tokens=False))
    shorter = task_of(plan_of(("Storm", "", 10)), chunk_tokens=400)
    turn = shorter.next_turn([*first.opening, *body], [first.record(body)])
    assert isinstance(turn, Generate)
    end = decoded(turn, CHAT.encode(stream, add_special_tokens=False))
    assert CHAT.decode(end).rstrip() == "He had slept." and turn.record(end)["end"] == "sentence"


def test_how_a_chapter_ends_does_not_depend_on_another_attempt() -> None:
    task = task_of(plan_of(("A", "", 40)), chunk_tokens=2000)
    turn = task.next_turn([], [])
    assert isinstance(turn, Generate)
    decoded(turn, CHAT.encode("sea " * 60, add_special_tokens=False))
    ended = CHAT.encode("sea " * 35 + "sea.", add_special_tokens=False)
    assert turn.may_end(ended) and turn.record(ended)["end"] == "paragraph"


def test_words_are_counted_over_the_joint_of_two_chunks() -> None:
    """A tokenizer like SentencePiece drops the space before the first token."""

    def decode(tokens: Sequence[int]) -> str:
        return "".join((" the", " sea", "son")[token] for token in tokens).removeprefix(" ")

    for tokens, words in (([1], 3), ([2], 2), ([1, 2], 3)):
        chunk = ChapterChunk(decode, 10, 2, is_closing=False, max_tokens=8, lead=(0, 1))
        assert chunk.done(tokens) == words / 10


@pytest.mark.parametrize("language", ["", "German", "Chinese"])
def test_headings_are_found_in_the_text_of_the_book(language: str) -> None:
    plan = plan_of(("Storm (1)", "", 40), ("", "", 40), ("Lamp", "", 40), language=language, part="Part One")
    book, _ = written(task_of(plan), f"{PARAGRAPHS}He said: Chapter 3: Lamp\n\n")
    other = replace(
        plan, language="French", chapters=(*plan.chapters, PlannedChapter("More", "", None, None))
    )
    for after in (plan, other):
        ranges = heading_ranges(book, after, SECTIONS)
        found = [line for start, end in ranges for line in book[start:end].split("\n\n")]
        headings = [chapter_heading(plan, index, SECTIONS) for index in range(3)]
        assert found == ["Part One", *headings]
    damaged = book.replace(headings[0], "[a chunk is missing here]")
    assert len(list(heading_ranges(damaged, plan, SECTIONS))) == 2


def test_an_opening_comes_before_the_first_chapter() -> None:
    task = task_of(THREE, opening="It rained all day.")
    turn = task.next_turn([], [])
    assert isinstance(turn, Given) and turn.origin == "human"
    book, _ = written(task, PARAGRAPHS)
    assert book.startswith("It rained all day.\n\nChapter 1: Storm\n\n")


@pytest.mark.parametrize(
    ("records", "position"),
    [
        ([], Position(0, None)),
        ([None], Position(0, None)),
        ([{"chapter": 0, "heading": 0, "body": 9, "chapter_end": False}], Position(0, 9, ((0, 9),))),
        ([{"chapter": 1, "heading": 4, "body": 9, "chapter_end": True}], Position(2, None, ((4, 9),))),
    ],
)
def test_the_position_follows_from_the_records(records: list[Any], position: Position) -> None:
    assert position_after(records) == position
