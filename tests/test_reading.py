"""A text that is given whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tiny_model import byte_tokenizer
from templora_cli.prompt import fixed
from templora_cli.reading import ReadingTask, reading_tokens

TOKENIZER = byte_tokenizer()


@given(st.integers(1, 200), st.integers(8, 40), st.integers(0, 60))
def test_the_text_is_read_once_and_whole(length: int, chunk: int, context: int) -> None:
    text = tuple(range(length))
    task = ReadingTask(fixed((300,), context), text, chunk, TOKENIZER)
    book: list[int] = []
    while (turn := task.next_turn(book)) is not None:
        assert turn.prompt.header == (300,) and turn.max_tokens == len(turn.tokens) <= chunk
        assert turn.prompt.context == tuple(book[max(0, len(book) - context) :])
        committed = {"tokens": list(turn.tokens), "origin": "human", "rejection_reason": None, "record": None}
        again = task.replay(committed, book, [])
        assert (again.prompt, again.tokens, again.origin) == (turn.prompt, turn.tokens, turn.origin)
        book += turn.tokens
    assert tuple(book) == text


def test_a_tokenizer_without_a_beginning_gives_the_first_token_as_header() -> None:
    ids = TOKENIZER.encode("abc", add_special_tokens=False)
    assert reading_tokens(TOKENIZER, "abc") == ((ids[0],), tuple(ids[1:]))


def test_a_tokenizers_beginning_is_the_header() -> None:
    class Beginning:
        def encode(self, text: str, add_special_tokens: bool = True, **_: object) -> list[int]:
            return ([1] if add_special_tokens else []) + TOKENIZER.encode(text, add_special_tokens=False)

    ids = TOKENIZER.encode("abc", add_special_tokens=False)
    assert reading_tokens(Beginning(), "abc") == ((1,), tuple(ids))
