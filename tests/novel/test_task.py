"""The turns of a novel: openings, lengths, windows and replay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.tiny_model import byte_tokenizer
from templora_cli.novel.prompt import opening_tokens
from templora_cli.novel.task import Goal, NovelTask
from templora_cli.prompt import fixed_header
from templora_cli.turn import Generate, Given

CHAT = byte_tokenizer()


def task(goal: Goal, opening: str = "", context_tokens: int = 16, *, exact: bool = False) -> NovelTask:
    prompt, opening_ids = fixed_header((1, 2), context_tokens), opening_tokens(CHAT, opening)
    return NovelTask(prompt, opening_ids, goal, 10, CHAT, whole_sentences=not exact)


def ids_of(text: str) -> list[int]:
    return list(CHAT.encode(text, add_special_tokens=False))


def written(novel: NovelTask, text: str, opening: str = "") -> list[str]:
    """The generated chunks of a book if the model writes `text`."""
    book, records, chunks = [*novel.opening], [None] * -(-len(novel.opening) // 10), []
    remaining = ids_of(text)
    while (turn := novel.next_turn(book, records)) is not None:
        assert isinstance(turn, Generate) and remaining, "the book does not end"
        chunk = remaining[: turn.max_tokens]
        for size in range(1, len(chunk) + 1):
            if (end := turn.complete(chunk[:size])) is not None:
                chunk = chunk[:end]
                break
        book, remaining, records = [*book, *chunk], remaining[len(chunk) :], [*records, None]
        chunks.append(CHAT.decode(chunk))
    return chunks


def next_generate(novel: NovelTask, book: list[int]) -> Generate:
    turn = novel.next_turn(book)
    assert isinstance(turn, Generate)
    return turn


def test_without_whole_sentences_a_book_has_exactly_its_tokens() -> None:
    novel, book, lengths = task(Goal(25, "tokens"), exact=True), [], []
    while (turn := novel.next_turn(book)) is not None:
        lengths.append(turn.max_tokens)
        book += [7] * turn.max_tokens
    assert lengths == [10, 10, 5]


def test_the_window_slides_and_the_header_stays() -> None:
    prompt = next_generate(task(Goal(100, "tokens")), list(range(40))).prompt
    assert prompt.header == (1, 2)
    assert prompt.context == tuple(range(24, 40))


def test_with_0_context_tokens_the_window_is_empty() -> None:
    novel = task(Goal(100, "tokens"), context_tokens=0)
    assert next_generate(novel, list(range(40))).prompt.context == ()


def test_an_opening_is_learnt_first_and_not_counted() -> None:
    novel = task(Goal(10, "tokens"), "It was a dark night.", exact=True)
    book: list[int] = []
    lengths = []
    while isinstance(turn := novel.next_turn(book), Given):
        assert turn.origin == "human"
        lengths.append(len(turn.tokens))
        book += turn.tokens
    assert lengths == [10, 10]
    assert CHAT.decode(book) == "It was a dark night."
    assert turn is not None and turn.max_tokens == 10 and turn.prompt.context == tuple(book[-16:])
    assert turn.origin == "generated"
    assert novel.next_turn([*book, *[7] * 10]) is None


STORY = 'One two three four five. "Six," she said. "Seven.[1]" Eight nine ten eleven. Twelve. '


@pytest.mark.parametrize(
    ("goal", "book"),
    [
        (Goal(4, "words"), "One two three four five."),
        (Goal(6, "words"), 'One two three four five. "Six," she said.'),
        (Goal(9, "words"), 'One two three four five. "Six," she said. "Seven.[1]"'),
        (Goal(10, "words"), 'One two three four five. "Six," she said. "Seven.[1]" Eight nine ten eleven.'),
        (Goal(20, "tokens"), "One two three four five."),
        (Goal(24, "tokens"), "One two three four five."),
        (Goal(26, "tokens"), 'One two three four five. "Six," she said.'),
        (Goal(2, "chunks"), "One two three four five."),
        (Goal(5, "chunks"), 'One two three four five. "Six," she said. "Seven.[1]"'),
    ],
)
def test_a_book_ends_with_a_sentence_whatever_the_chunk(goal: Goal, book: str) -> None:
    chunks = written(task(goal), STORY)
    # A byte tokenizer needs the blank after a sentence to confirm its end.
    assert "".join(chunks).rstrip() == book and all(chunks)
    assert all(len(chunk) <= 10 for chunk in chunks)


def test_a_goal_in_chunks_ends_early_rather_than_late() -> None:
    assert written(task(Goal(2, "chunks")), "abcdefghijklmnopqr.\nstuv. ") == ["abcdefghij", "klmnopqr."]
    later = ["abcdefghij", "klmn. opqr", "stuvw."]
    assert written(task(Goal(2, "chunks")), "".join(later) + "\nxyz. ") == later


@pytest.mark.parametrize(
    ("text", "book"),
    [
        ("他走了很远的路。然后他回家了。他睡了。", "他走了很远的路。"),
        ("他说：“走吧。”然后他走了。他睡了。", "他说：“走吧。”然后他走了。"),
        ("هل ذهبت إلى هناك؟ لا. ", "هل ذهبت إلى هناك؟"),
        ("वह घर गया। वह सो गया। ", "वह घर गया।"),
    ],
)
def test_sentences_of_other_scripts(text: str, book: str) -> None:
    novel = replace(task(Goal(3, "words")), chunk_tokens=100)
    assert "".join(written(novel, text)).rstrip() == book


@pytest.mark.parametrize(
    ("goal", "min_words", "max_words"),
    [
        (Goal(4, "words"), 54, 54 + 16 // 3),
        (Goal(400, "words"), 500, 500 + 16 // 3),
        (Goal(2000, "words"), 2200, 2200 + 16 // 3),
    ],
)
def test_a_book_without_sentence_ends_ends_within_bounds(goal: Goal, min_words: int, max_words: int) -> None:
    text = "".join(written(task(goal), "ab " * 3000))
    assert min_words <= len(text.split()) <= max_words
    assert not goal.is_reached(goal.amount, complete=False) and goal.is_reached(min_words, complete=False)


def test_the_bounds_of_the_other_units() -> None:
    assert len("".join(written(task(Goal(20, "tokens")), "ab " * 100))) == 20 + 64
    assert len(written(task(Goal(3, "chunks")), "ab " * 100)) == 4


def test_an_extended_book_continues_where_it_ended() -> None:
    first = written(task(Goal(4, "words")), STORY)
    novel, book = task(Goal(7, "words")), ids_of("".join(first))
    turn = next_generate(novel, book)
    chunk = ids_of(' "Six," s')[: turn.max_tokens]
    assert turn.complete(chunk) is None
    assert novel.next_turn(ids_of("".join(first) + ' "Six," she said.')) is None


@pytest.mark.parametrize("origin", ["generated", "human"])
@pytest.mark.parametrize("rejection_reason", [None, "it loops"])
def test_replay_repeats_a_committed_chunk(origin: str, rejection_reason: str | None) -> None:
    novel, book = task(Goal(30, "tokens"), "It was a dark night."), list(range(40))
    chunk: dict[str, Any] = {
        "tokens": [7, 8, 9],
        "origin": origin,
        "rejection_reason": rejection_reason,
        "record": {"a": 1},
    }
    again = novel.replay(chunk, book, [])
    assert (again.tokens, again.origin, again.rejection_reason, again.record) == (
        (7, 8, 9),
        origin,
        rejection_reason,
        {"a": 1},
    )
    assert again.judged and not again.loss_mask
    assert again.prompt == next_generate(novel, book).prompt, "the prompt is built from this book"


def test_special_tokens_in_human_text_are_plain_text() -> None:
    ids = opening_tokens(CHAT, "a<|end|>b")
    assert CHAT.eos_token_id not in ids
    assert CHAT.decode(list(ids)) == "a<|end|>b"
