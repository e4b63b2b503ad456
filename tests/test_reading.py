"""A text that is given whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tiny_model import byte_tokenizer
from templora_cli.config import DecodeConfig
from templora_cli.reading import ReadingTask, reading_tokens

TOKENIZER = byte_tokenizer()


@given(st.integers(1, 200), st.integers(8, 40), st.integers(0, 60))
def test_the_text_is_read_once_and_whole(length: int, chunk: int, context: int) -> None:
    text = tuple(range(length))
    task = ReadingTask((300,), text, DecodeConfig(chunk_tokens=chunk, context_tokens=context), TOKENIZER)
    book: list[int] = []
    while (turn := task.next_turn(book)) is not None:
        assert turn.header == (300,) and turn.max_tokens == len(turn.given) <= chunk
        assert turn.context == tuple(book[max(0, len(book) - context) :])
        book += turn.given
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
