"""The task that reads an existing text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tiny_model import byte_tokenizer
from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.prompt import fixed_header
from templora_cli.reading import ReadingRequest, ReadingTask, reading_tokens

TOKENIZER = byte_tokenizer()


@given(st.integers(1, 200), st.integers(8, 40), st.integers(0, 60))
def test_the_whole_text_is_read_once(length: int, chunk: int, context: int) -> None:
    text = tuple(range(length))
    task = ReadingTask(fixed_header((300,), context), text, chunk, TOKENIZER)
    book: list[int] = []
    while (turn := task.next_turn(book)) is not None:
        assert turn.prompt.header == (300,) and turn.max_tokens == len(turn.tokens) <= chunk
        assert turn.prompt.context == tuple(book[max(0, len(book) - context) :])
        committed = {"tokens": list(turn.tokens), "origin": "human", "rejection_reason": None, "record": None}
        again = task.replay(committed, book, [])
        assert (again.prompt, again.tokens, again.origin) == (turn.prompt, turn.tokens, turn.origin)
        book += turn.tokens
    assert tuple(book) == text


def test_without_a_bos_token_the_first_token_is_the_header() -> None:
    ids = TOKENIZER.encode("abc", add_special_tokens=False)
    assert reading_tokens(TOKENIZER, "abc") == ((ids[0],), tuple(ids[1:]))


def test_the_bos_token_is_the_header() -> None:
    class BosTokenizer:
        def encode(self, text: str, add_special_tokens: bool = True, **_: object) -> list[int]:
            return ([1] if add_special_tokens else []) + TOKENIZER.encode(text, add_special_tokens=False)

    ids = TOKENIZER.encode("abc", add_special_tokens=False)
    assert reading_tokens(BosTokenizer(), "abc") == ((1,), tuple(ids))


@pytest.mark.parametrize(
    ("text", "limit", "hint"),
    [
        ("a" * 101, None, "--chunk-tokens 12"),
        ("a" * 20, None, "--chunk-tokens 8"),
        ("a" * 5, None, "take a longer text"),
        ("a" * 500, 5, "read more of it"),
    ],
)
def test_a_text_that_is_shorter_than_a_chunk(text: str, limit: int | None, hint: str) -> None:
    with pytest.raises(TemploraError, match=r"a\.txt: \d+ tokens are less than a chunk of 1024") as caught:
        ReadingRequest(text, "a.txt", limit).new_session(TOKENIZER, Config())
    assert caught.value.hint == hint
