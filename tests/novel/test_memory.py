"""The texts of chapters, and the passages that are recalled for the next chunk."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tiny_model import byte_tokenizer
from templora_cli.memory.recall import Passage, Recall
from templora_cli.novel.memory import BLOCK, BookRecall, ChapterTexts
from templora_cli.text import decode

CHAT = byte_tokenizer()
DECODE = partial(decode, CHAT)
FILLER = "".join(
    f"Day {n} brought wind {n * 7} from the west, and sailor {n * 13} went down to boat {n * 3} to wait. "
    for n in range(60)
)


def ids(text: str) -> list[int]:
    return list(CHAT.encode(text, add_special_tokens=False))


def recall_of(max_tokens: int, context_tokens: int = 256) -> BookRecall:
    return BookRecall(DECODE, lambda text: len(ids(text)), Recall(), context_tokens, max_tokens)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3 * BLOCK)), max_size=4), st.integers(1, 5000))
def test_chapters_are_decoded_without_their_headings_whatever_the_pace(
    sizes: list[tuple[int, int]], pace: int
) -> None:
    book, spans = [], []
    texts = [""] if not sizes else []
    for number, (heading, body) in enumerate(sizes):
        spans.append((len(book), len(book) + heading))
        book += [ord("#")] * heading + [ord("a") + number] * body
        texts.append(chr(ord("a") + number) * body)
    growing = ChapterTexts(DECODE)
    for end in range(0, len(book), max(pace, 2000)):
        growing.of(book[:end], [span for span in spans if span[1] <= end])
    assert [text for text in growing.of(book, spans) if text] == [text for text in texts if text]


def test_finished_chapters_are_decoded_once() -> None:
    decoded: list[int] = []

    def counting(tokens: Sequence[int]) -> str:
        decoded.append(len(tokens))
        return DECODE(tokens)

    texts, book = ChapterTexts(counting), ids("a" * 9000)
    spans = [(start, start) for start in range(0, 9000, 500)]
    texts.of(book, spans)
    decoded.clear()
    texts.of([*book, ord("b")], spans)
    assert sum(decoded) == 501, "only the chapter that grows"


def test_a_passage_of_a_volume_is_marked() -> None:
    recall = recall_of(2048)
    recall.recall = Recall([("first.txt", "Ortwin Kessel keeps the silver key under the mill. " + FILLER)])
    recall.line = lambda passage, volume: f"{volume}: {passage}"
    (first, *_) = recall(ids("Then Ortwin Kessel came to the mill."), (), "")
    assert first.startswith("first.txt: Ortwin Kessel keeps")


def test_a_passage_that_left_the_window_comes_back() -> None:
    key = "Ortwin Kessel keeps the silver key under the third step of the mill. "
    book = ids(key + FILLER + "Then Ortwin Kessel came to the mill and looked for his key.")
    (first, *_) = recall_of(2048)(book, (), "")
    assert "under the third step" in first
    assert not any("looked for his key" in line for line in recall_of(2048)(book, (), "")), "it is in view"


def test_the_plan_of_the_chapter_is_looked_up_too() -> None:
    book = ids("The silver key lay under the third step of the mill. " + FILLER)

    def lines(plan: str) -> Sequence[str]:
        return recall_of(2048)(book, (), plan)

    assert any("third step" in line for line in lines("She looks for the silver key in the mill."))
    assert not any("third step" in line for line in lines(""))


def test_passages_keep_to_their_budget() -> None:
    book = ids(
        "".join(
            f"Mara Tolm opened door number {n} of the old house and saw {n * 3} chairs. " for n in range(200)
        )
    )
    for budget in (64, 512, 2048):
        lines = recall_of(budget)(book, (), "Mara Tolm and the doors of the old house.")
        assert sum(len(ids(line)) + 4 for line in lines) <= budget - 16


def test_names_of_the_ledger_are_looked_up_in_scripts_without_capitals() -> None:
    asked: list[Sequence[str]] = []

    class Spy(Recall):
        def find(self, query: str, *, names: Sequence[str] = (), **rest: Any) -> tuple[Passage, ...]:
            asked.append(names)
            return super().find(query, names=names, **rest)

    def names_in(recent: str, planned: str) -> Sequence[str]:
        return [name for name in ("李明", "王芳") if name in recent + planned]

    recall = BookRecall(DECODE, lambda text: len(ids(text)), Spy(), 256, 512, names_in=names_in)
    recall(ids("李明住在山上。" + FILLER), (), "王芳来了。")
    assert asked == [["王芳"]]
