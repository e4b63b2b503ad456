"""Streamed text equals the decoded text; words are counted as editors count them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.tiny_model import byte_tokenizer
from templora_cli.text import TextStream, count_words, have_words

TOKENIZER = byte_tokenizer()


def decode(ids: list[int]) -> str:
    return TOKENIZER.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def test_a_character_of_several_tokens_is_not_split() -> None:
    ids = TOKENIZER.encode("a猫😀", add_special_tokens=False)
    stream = TextStream(decode)
    assert [stream.push(i) for i in ids] == ["a", "", "", "猫", "", "", "", "😀"]


@given(st.text(max_size=60), st.integers(0, 60))
def test_streamed_text_equals_decoded_text_after_a_resume(text: str, cut: int) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    first = TextStream(decode)
    beginning = "".join(first.push(i) for i in ids[:cut])
    resumed = TextStream(decode, ids[:cut])
    uninterrupted = [first.push(i) for i in ids[cut:]]
    assert [resumed.push(i) for i in ids[cut:]] == uninterrupted
    assert beginning + "".join(uninterrupted) == decode(ids) == text


@settings(max_examples=300)
@given(st.lists(st.integers(0, 255), max_size=60), st.integers(0, 60))
def test_invalid_bytes_are_streamed_the_same_after_a_resume(ids: list[int], cut: int) -> None:
    first = TextStream(decode)
    pieces = [first.push(i) for i in ids]
    resumed = TextStream(decode, ids[:cut])
    assert [resumed.push(i) for i in ids[cut:]] == pieces[cut:]
    # No readable text is lost; at most one unfinished character is still held back.
    readable = decode(ids).replace("\ufffd", "")
    assert readable.startswith("".join(pieces).replace("\ufffd", ""))
    assert len(readable) == len("".join(pieces).replace("\ufffd", ""))


@pytest.mark.parametrize(
    ("text", "words"),
    [("", 0), ("  \n", 0), ("one", 1), ("It's a dog-eared\nbook — yes!", 5), ("他来了。ok", 4), ("かな", 2)],
)
def test_words_are_counted(text: str, words: int) -> None:
    assert count_words(text) == words


def test_only_as_many_words_are_counted_as_it_takes() -> None:
    assert have_words(["It rained. –", "", "雨 fell"], 4) and not have_words(["It rained. –", "雨"], 4)
    assert have_words([], 0) and have_words(itertools.repeat("rain"), 5)
