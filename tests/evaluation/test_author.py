"""The measures of `eval author`: rows, the author's words, and drafts that are corrected."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.config import DecodeConfig
from templora_cli.editing import EditingTask
from templora_cli.engine.models.loading import load_tokenizer
from templora_cli.evaluation.author import Author, _edited, depth_rows, own_words_of, style_rows
from templora_cli.evaluation.burrows import Reference

AUTHOR = Author((0,), tuple(range(100)), seen=40, chunk=10, draft_every=1)


def test_the_chunks_of_a_book_end_with_it() -> None:
    assert [AUTHOR.place(index) for index in range(8)] == [40, 50, 60, 70, 80, 90, None, None]
    assert AUTHOR.chunk_at(1) == tuple(range(50, 60))


def test_rows_compare_each_arm_with_the_first() -> None:
    off = {index: {"nll": 2.0 + index} for index in range(4)}
    arms = {"off": off, "edited": {index: {"nll": 1.9 + index} for index in range(3)}}  # one is missing
    rows = depth_rows(AUTHOR, arms, step=20)
    assert [(row.arm, row.depth, row.tokens) for row in rows] == [
        *[("off", "40+", 20), ("edited", "40+", 20), ("off", "60+", 10), ("edited", "60+", 10)]
    ]
    assert [row.ppl for row in rows[:2]] == pytest.approx([math.exp(2.5), math.exp(2.4)])
    assert [row.change for row in rows[:2]] == pytest.approx([0, (math.exp(-0.1) - 1) * 100])


def test_the_words_of_an_author_are_not_those_of_others() -> None:
    text = "Ishmael saw the whale. The whale saw Ishmael; Queequeg saw neither."
    assert own_words_of(text, "She saw the harbour.") == {"ishmael", "whale"}
    assert own_words_of(text, "A whale!") == {"ishmael"}


@given(st.lists(st.sampled_from("abcd"), max_size=8), st.lists(st.sampled_from("abcd"), max_size=8))
def test_the_edit_distance_is_a_share_of_the_longer_text(one: list[str], other: list[str]) -> None:
    share = _edited(" ".join(one), " ".join(other))
    assert 0 <= share <= 100 and share == pytest.approx(_edited(" ".join(other), " ".join(one)))
    assert (share == 0) == (one == other)
    assert _edited("a b c d", "a x c d") == 25


def test_the_style_of_drafts_is_compared_with_unseen_text() -> None:
    texts = {10: "the the of of", 20: "the of of of"}  # the author's way, and the model's own
    reference = Reference(("the", "of"), {str(i): (4000.0 + 100 * i, 5000.0 - 50 * i) for i in range(9)})
    arms: dict[str, Any] = {
        "off": {0: {"nll": 1.0, "draft": [20], "probe": 2.0}},
        "edited": {0: {"nll": 1.0, "draft": [10], "probe": 2.1}},
    }
    rows = style_rows(
        AUTHOR,
        arms,
        lambda tokens: texts.get(tokens[0], "the the of of"),
        "the the of of",
        frozenset(["of"]),
        reference,
    )
    assert [row.arm for row in rows] == ["off", "edited"]
    assert rows[0].rank and rows[0].rank > 1 and rows[1].rank == 1
    assert rows[1].delta == 0 and rows[1].closed == 100 and rows[0].closed == 0
    assert [row.own_words for row in rows] == [750, 500]
    assert rows[1].probe == pytest.approx((math.exp(0.1) - 1) * 100) and rows[0].probe is None
    assert rows[1].edited == 0 and rows[0].edited == 25


@pytest.mark.parametrize(("share", "replaced"), [(0.0, []), (1.0, [0, 1, 2]), (0.5, [1])])
def test_an_author_replaces_one_paragraph_in_so_many(
    tiny_model: Path, share: float, replaced: list[int]
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    draft, true = "One.\n\nTwo.\n\nThree.", "First.\n\nSecond.\n\nThird."

    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special_tokens=False))

    task = EditingTask((0,), (), encode(true), share, DecodeConfig(chunk_tokens=64), tokenizer)
    chunk = task.edited(encode(draft), encode(true), paragraphs=0)
    paragraphs = [
        theirs if place in replaced else mine
        for place, (mine, theirs) in enumerate(zip(draft.split("\n\n"), true.split("\n\n"), strict=True))
    ]
    assert chunk.text == "\n\n".join(paragraphs)
    masks = {part.origin: part.loss_mask for part in chunk.parts}
    human = masks.get("human", (False,) * len(chunk.tokens))
    by_person = "".join(
        tokenizer.decode([token]) for token, is_human in zip(chunk.tokens, human, strict=True) if is_human
    )
    assert (
        by_person.split("\n\n")
        == [true.split("\n\n")[place] for place in replaced] + ([""] if replaced == [1] else [])
        or not replaced
    )
    assert chunk.record["replaced"] == len(replaced)
    assert task.edited(encode(draft), encode(true), paragraphs=1).record["replaced"] == {0.5: 2}.get(
        share, len(replaced)
    )
