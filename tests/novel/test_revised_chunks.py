"""The chunks of a book that a person has revised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.tiny_model import byte_tokenizer
from templora_cli.errors import TemploraError
from templora_cli.novel.opening import headings_in_book, opening_in_book
from templora_cli.novel.revised_chunks import ChunkReviser, Scope, accepted
from templora_cli.novel.revision import revise
from templora_cli.text import TextStream, decode

TOKENIZER = byte_tokenizer()
TEXT = (
    "The rain fell. He went home, and said nothing.\n\nShe waited all night. The dog barked. It was late.\n\n"
    "In the morning the boats were gone. “Where?” he asked. Nobody knew.\n\nÄgir, 雨, the end.\n"
)


def chunks_of(text: str, size: int = 64, **values: Any) -> list[dict[str, Any]]:
    tokens = TOKENIZER.encode(text, add_special_tokens=False)
    parts = [tokens[start : start + size] for start in range(0, len(tokens), size)]
    lengths = [len(decode(TOKENIZER, tokens[: size * n]).rstrip("\ufffd")) for n in range(len(parts))]
    texts = [text[a:b] for a, b in pairwise([*lengths, len(text)])]
    base = {"origin": "generated", "record": None, "rejection_reason": None, "unlearnt": [], "human": []}
    return [
        {**base, "index": n, "tokens": part, "text": words, **values}
        for n, (part, words) in enumerate(zip(parts, texts, strict=True))
    ]


def revised(
    chunks: Sequence[Mapping[str, Any]], new: str, scope: Scope = "sentence", size: int = 64
) -> list[dict[str, Any]]:
    revision = revise("".join(chunk["text"] for chunk in chunks), new)
    return ChunkReviser(TOKENIZER, size, scope).revised(chunks, revision)


def text_of(chunks: Sequence[Mapping[str, Any]]) -> str:
    return decode(TOKENIZER, [token for chunk in chunks for token in chunk["tokens"]])


def human(chunk: Mapping[str, Any]) -> list[str]:
    return [decode(TOKENIZER, chunk["tokens"][start:end]).strip() for start, end in chunk["human"]]


def test_only_changed_chunks_get_new_tokens() -> None:
    chunks = chunks_of(TEXT)
    new = revised(chunks, TEXT.replace("boats", "ships"))
    assert text_of(new) == TEXT.replace("boats", "ships")
    assert [one["tokens"] == other["tokens"] for one, other in zip(chunks, new, strict=True)] == [
        True,
        False,
        True,
        True,
    ]
    assert revised(chunks, TEXT) == chunks
    before = chunks[1]["tokens"]
    assert new[1]["tokens"][:20] == before[:20], "the tokens before the change stay"


@pytest.mark.parametrize(
    ("scope", "learnt"),
    [
        ("change", ["cat"]),
        ("sentence", ["The cat barked."]),
        ("paragraph", ["She waited all night. The cat barked. It was late."]),
    ],
)
def test_the_words_around_a_change_are_learnt_with_it(scope: Scope, learnt: list[str]) -> None:
    new = revised(chunks_of(TEXT, 512), TEXT.replace("dog", "cat"), scope, 512)
    assert [text for chunk in new for text in human(chunk)] == learnt


def test_a_sentence_from_which_words_were_taken_is_a_persons() -> None:
    new = revised(
        chunks_of(TEXT, 512), TEXT.replace("In the morning the", "The").replace(" all night", ""), size=512
    )
    assert human(new[0]) == ["She waited.", "The boats were gone."]


@pytest.mark.parametrize(
    "version",
    [
        TEXT.replace("She waited all night. The dog barked. It was late.\n\n", ""),
        TEXT.replace("home, ", "home, \n\n"),
    ],
)
def test_nothing_is_learnt_where_nothing_was_said(version: str) -> None:
    new = revised(chunks_of(TEXT, 512), version, size=512)
    assert text_of(new) == version.replace(", \n", ",\n") and not human(new[0])


def test_moved_text_stays_the_models() -> None:
    first, rest = TEXT.split("\n\n", 1)
    new = revised(chunks_of(TEXT, 512), f"{rest}\n\n{first}", size=512)
    assert text_of(new).split() == f"{rest} {first}".split() and not human(new[0])


def test_what_a_person_wrote_earlier_stays_theirs() -> None:
    once = revised(chunks_of(TEXT, 512), TEXT.replace("dog", "cat"), size=512)
    twice = revised(once, TEXT.replace("dog", "cat").replace("rain", "snow"), size=512)
    assert human(twice[0]) == ["The snow fell.", "The cat barked."]


def test_what_became_too_long_is_divided_after_paragraphs_and_sentences() -> None:
    added = "\n\n".join(f"Paragraph number {n} is new." for n in range(6))
    new = revised(chunks_of(TEXT), TEXT.replace("late.", f"late.\n\n{added}"))
    assert text_of(new).split() == TEXT.replace("late.", f"late.\n\n{added}").split()
    assert all(0 < len(chunk["tokens"]) <= 64 for chunk in new)
    assert [chunk["index"] for chunk in new] == list(range(len(new)))
    ends = [chunk["text"].rstrip()[-1] for chunk in new if "Paragraph" in chunk["text"]]
    assert ends.count(".") >= len(ends) - 1


def test_what_became_empty_is_left_out() -> None:
    chunks = chunks_of(TEXT, 16)
    new = revised(chunks, TEXT.replace("She waited all night. The dog barked. It was late.\n\n", ""), size=16)
    assert len(new) < len(chunks) and all(chunk["text"].strip() for chunk in new)
    assert text_of(new) == TEXT.replace("She waited all night. The dog barked. It was late.\n\n", "")


def test_an_edited_opening_is_still_a_persons() -> None:
    opening, rest = chunks_of("It began.\n\n", origin="human"), chunks_of(TEXT)
    new = revised([*opening, *rest], "It ended badly.\n\n" + TEXT)
    assert (new[0]["origin"], new[0]["text"], new[0]["human"]) == ("human", "It ended badly.\n\n", [])
    given = opening[0]["tokens"]
    assert opening_in_book(given, opening) == tuple(given)
    assert opening_in_book([*given, 1, 2], opening) == (*given, 1, 2), "it is not read to its end"
    assert opening_in_book([*given, 1, 2], new) == opening_in_book(given, new[:1]) == tuple(new[0]["tokens"])
    assert revised([*opening, *rest], "It began.\n\n" + TEXT.replace("dog", "cat"))[0]["record"] is None


def test_headings_of_an_edited_opening_are_found() -> None:
    given = "One\n\nIt began.\n\nTwo\n\nIt went on."
    headings = [(0, 5), (16, 21)]
    assert headings_in_book(headings, given, given + " So it was.") == headings
    text = given.replace("It began.", "It all began there.") + " So it was."
    assert [text[start:end] for start, end in headings_in_book(headings, given, text)] == ["One", "Two"]
    assert len(headings_in_book(headings, given, text.replace("Two\n\n", ""))) == 1


def planned(sizes: Sequence[int] = (40, 512)) -> list[dict[str, Any]]:
    """A book of two chapters; the first has two chunks."""
    heading = "Chapter 1: Rain\n\n"
    one, two = TEXT[:48], TEXT[48:]
    start = len(heading.encode())
    record = {"chapter": 0, "title": "Rain", "heading": 0, "body": start, "chapter_end": False}
    first = chunks_of(heading + one[:20], 512, record=record, unlearnt=[[0, start]])
    end = {**record, "chapter_end": True, "end": "paragraph", "digest": "d"}
    second = chunks_of(one[20:], 512, record=end)
    at = start + len(one)
    later = {"chapter": 1, "title": "Sea", "heading": at, "body": at + len("Chapter 2: Sea\n\n")}
    later |= {"chapter_end": True, "end": "paragraph", "digest": "e"}
    third = chunks_of(
        "Chapter 2: Sea\n\n" + two, 512, record=later, unlearnt=[[0, len("Chapter 2: Sea\n\n")]]
    )
    return [*first, *second, *third]


def test_headings_stay_and_are_not_learnt() -> None:
    chunks = planned()
    text = text_of(chunks)
    assert text == f"Chapter 1: Rain\n\n{TEXT[:48]}Chapter 2: Sea\n\n{TEXT[48:]}"
    new = revised(chunks, text.replace("She waited", "They slept"), size=512)
    heading = len("Chapter 2: Sea\n\n")
    assert new[2]["tokens"][:heading] == chunks[2]["tokens"][:heading]
    assert new[2]["unlearnt"] == [[0, heading]]
    assert human(new[2]) == ["They slept all night."]
    for version in (text.replace("2: Sea", "2: See"), text.replace("Chapter 2: Sea\n\n", "")):
        with pytest.raises(TemploraError, match="the heading of chapter 2, Sea, was changed"):
            revised(chunks, version, size=512)


def test_a_chapter_ends_with_its_last_chunk() -> None:
    chunks = planned()
    cut = text_of(chunks).replace(" went home, and said nothing.", "")
    new = revised(chunks, cut, size=512)
    assert [chunk["record"]["chapter_end"] for chunk in new] == [True, True]
    assert new[0]["record"]["digest"] == "d"
    long = revised(chunks, text_of(chunks).replace("nothing.", "nothing. " + "He waited. " * 60), size=512)
    assert [chunk["record"]["chapter_end"] for chunk in long] == [False, False, True, True]
    assert [chunk["record"].get("digest") for chunk in long] == [None, None, "d", "e"]


def test_accepted_chunks_keep_their_text() -> None:
    chunk = chunks_of(TEXT)[0]
    assert accepted(chunk) == {**chunk, "origin": "accepted", "proposed": False}
    assert accepted({**chunk, "origin": "human"})["origin"] == "human"


class Prefixing:
    """Puts a space before each text, as tokenizers like that of Llama 2 do, and takes it away again."""

    def encode(self, text: str, **options: Any) -> list[int]:
        return list(TOKENIZER.encode(" " + text, **options)) if text else []

    def decode(self, tokens: Sequence[int], **options: Any) -> str:
        return str(TOKENIZER.decode(tokens, **options)).removeprefix(" ")


@pytest.mark.parametrize(
    ("old", "new"),
    [("dog", "old cat"), ("In the morning", "Later"), ("It was late.", ""), ("The rain", "A rain")],
)
def test_no_space_is_added_where_a_tokenizer_adds_one(old: str, new: str) -> None:
    tokens = Prefixing().encode(TEXT, add_special_tokens=False)
    parts = [tokens[start : start + 64] for start in range(0, len(tokens), 64)]
    stream = TextStream(partial(decode, Prefixing()))
    texts = ["".join(map(stream.push, part)) for part in parts]
    chunks = [
        {**chunks_of("x")[0], "tokens": part, "text": text} for part, text in zip(parts, texts, strict=True)
    ]
    revision = revise(TEXT, TEXT.replace(old, new))
    changed = ChunkReviser(Prefixing(), 64).revised(chunks, revision)
    whole = [token for chunk in changed for token in chunk["tokens"]]
    assert decode(Prefixing(), whole) == revision.text == "".join(chunk["text"] for chunk in changed)


WORDS = st.sampled_from(["rain", "sea.", "the", "“He", "said.”", "Äther", "雨。", "é"])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=8).map(" ".join), min_size=1, max_size=6).map(
    "\n\n".join
)


@settings(max_examples=200, deadline=None)
@given(before=TEXTS, after=TEXTS, size=st.integers(8, 40))
def test_chunks_hold_the_new_text_whatever_it_is(before: str, after: str, size: int) -> None:
    new = revised(chunks_of(before, size), after, size=size)
    assert text_of(new) == "".join(chunk["text"] for chunk in new)
    assert text_of(new) == revise(before, after).text
    for chunk in new:
        assert 0 < len(chunk["tokens"]) <= size + 2, "but for white space of chunks that are gone"
        assert all(0 <= start < end <= len(chunk["tokens"]) for start, end in chunk["human"])
