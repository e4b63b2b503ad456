"""What a novel asks for next: openings, lengths, windows; and how a chunk of it comes again."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.tiny_model import byte_tokenizer
from templora_cli.novel.prompt import opening_tokens
from templora_cli.novel.task import Goal, NovelTask
from templora_cli.prompt import fixed
from templora_cli.turn import Generate, Given

CHAT = byte_tokenizer()


def task(goal: Goal, opening: str = "", context_tokens: int = 16) -> NovelTask:
    return NovelTask(fixed((1, 2), context_tokens), opening_tokens(CHAT, opening), goal, 10, CHAT)


def own(novel: NovelTask, book: list[int]) -> Generate:
    turn = novel.next_turn(book)
    assert isinstance(turn, Generate)
    return turn


def test_a_book_has_exactly_its_tokens_in_chunks() -> None:
    novel, book, lengths = task(Goal(25, "tokens")), [], []
    while (turn := novel.next_turn(book)) is not None:
        lengths.append(turn.max_tokens)
        book += [7] * turn.max_tokens
    assert lengths == [10, 10, 5]


def test_the_window_slides_and_the_header_stays() -> None:
    prompt = own(task(Goal(100, "tokens")), list(range(40))).prompt
    assert prompt.header == (1, 2)
    assert prompt.context == tuple(range(24, 40))


def test_no_window() -> None:
    novel = task(Goal(100, "tokens"), context_tokens=0)
    assert own(novel, list(range(40))).prompt.context == ()


def test_an_opening_is_learnt_first_and_not_counted() -> None:
    novel = task(Goal(10, "tokens"), "It was a dark night.")
    book: list[int] = []
    given = []
    while isinstance(turn := novel.next_turn(book), Given):
        assert turn.origin == "human"
        given.append(len(turn.tokens))
        book += turn.tokens
    assert given == [10, 10]
    assert CHAT.decode(book) == "It was a dark night."
    assert turn is not None and turn.max_tokens == 10 and turn.prompt.context == tuple(book[-16:])
    assert turn.origin == "generated"
    assert novel.next_turn([*book, *[7] * 10]) is None


def test_a_length_in_words_ends_with_a_sentence() -> None:
    turn = own(task(Goal(4, "words")), [])
    text = "one two three four five. six"
    ids = CHAT.encode(text, add_special_tokens=False)
    ends = [text[:n] for n in range(1, len(ids) + 1) if turn.complete(ids[:n])]
    assert ends[0] == "one two three four five."


def test_a_length_in_words_ends_without_a_sentence_end_too() -> None:
    turn = own(task(Goal(4, "words")), [])
    assert not turn.complete(CHAT.encode("word " * 53, add_special_tokens=False))
    assert turn.complete(CHAT.encode("word " * 54, add_special_tokens=False))


@pytest.mark.parametrize("origin", ["generated", "human"])
@pytest.mark.parametrize("rejection_reason", [None, "it loops"])
def test_a_committed_chunk_comes_again_as_it_was(origin: str, rejection_reason: str | None) -> None:
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
    assert again.prompt == own(novel, book).prompt, "after the prompt of this book, whatever it was once"


def test_special_tokens_in_a_persons_text_are_plain_text() -> None:
    ids = opening_tokens(CHAT, "a<|end|>b")
    assert CHAT.eos_token_id not in ids
    assert CHAT.decode(list(ids)) == "a<|end|>b"
