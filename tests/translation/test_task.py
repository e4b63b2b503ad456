"""Paragraphs to chunks: what is asked, what is tried again, and what of it is learnt."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tiny_model import byte_tokenizer
from templora_cli.config import DecodeConfig, TranslationConfig
from templora_cli.documents.aligned_text import AlignedPair
from templora_cli.documents.readers.text_file import TextDocument
from templora_cli.events import ParagraphTranslated, SectionCut, TextDecoded
from templora_cli.prompt import Dropped
from templora_cli.prompt_files import load_prompts
from templora_cli.text import sentences
from templora_cli.translation import task as translation
from templora_cli.translation.checks import FailedCheck
from templora_cli.translation.corrections import Correction
from templora_cli.translation.languages import language
from templora_cli.translation.long_paragraphs import CutDocument, cuts_of
from templora_cli.translation.pair_format import PairFormat, pair_format
from templora_cli.translation.task import TranslationTask, corrected
from templora_cli.translation.terminology import Glossary, Term
from templora_cli.turn import Chunk, ChunkPart, Compose
from tests.loop import CONFIG, Loop, learnt

FORM = PairFormat(byte_tokenizer(), load_prompts("translation", ""), language("de"), language("en"))
Said = Callable[[str, float], str]


def only_a_question_mark_is_wrong(source: str, target: str, *others: object) -> list[FailedCheck]:
    """The checks have tests of their own."""
    return [FailedCheck("numbers", "it asks")] * target.count("?")


def task(*texts: str, size: int = 400, terms: Sequence[Term] = (), **config: Any) -> TranslationTask:
    decode = DecodeConfig(chunk_tokens=size, context_tokens=400)
    how, glossary = TranslationConfig(**config), Glossary(tuple(terms))
    check = only_a_question_mark_is_wrong
    return TranslationTask(FORM, list(enumerate(texts, 10)), glossary, decode, how, frozenset(), check=check)


class Translator:
    """Stands for the loop: says what `said` makes of the last source of a prompt."""

    def __init__(self, said: Said) -> None:
        self.said = said
        self.prompts: list[str] = []

    def __call__(
        self, after: Sequence[int], *, max_tokens: int, ends: Collection[int], temperature: float
    ) -> Iterator[int]:
        self.prompts.append(text_of(after))
        source = self.prompts[-1].rsplit("German: ", 1)[1].split("\n")[0]
        return iter([*f" {self.said(source, temperature)}".encode(), *ends][:max_tokens])


def text_of(tokens: Sequence[int]) -> str:
    return str(FORM.tokenizer.decode(list(tokens)))


def write(turn: Compose | None, translator: Translator) -> tuple[Chunk, list[ParagraphTranslated]]:
    assert turn is not None
    events = []
    writing = turn.writer(0, translator)
    try:
        while True:
            events.append(next(writing))
    except StopIteration as stop:
        counted = [event.tokens for event in events if isinstance(event, TextDecoded)]
        assert counted == list(range(1, len(counted) + 1))
        return stop.value, [event for event in events if isinstance(event, ParagraphTranslated)]


def shout(source: str, temperature: float) -> str:
    return source.upper()


def test_paragraphs_are_translated_one_after_the_other_and_learnt_together() -> None:
    translator = Translator(shout)
    chunk, told = write(task("eins", "zwei").next_turn([]), translator)
    pairs = [AlignedPair("eins", "EINS"), AlignedPair("zwei", "ZWEI")]
    assert chunk.tokens == FORM.pair_tokens(pairs) and chunk.text == "EINS\nZWEI\n" and chunk.failure is None
    learnt = [token for token, learn in zip(chunk.tokens, chunk.loss_mask, strict=True) if learn]
    assert text_of(learnt) == " EINS\n ZWEI\n"
    assert translator.prompts[1] == text_of(FORM.pair_tokens(pairs[:1]) + FORM.source_tokens("zwei"))
    assert [(one.paragraph, one.target, one.attempts, one.failed_checks) for one in told] == [
        (10, "EINS", 1, ()),
        (11, "ZWEI", 1, ()),
    ]


def test_what_fails_is_tried_again_then_in_pieces_and_is_not_learnt() -> None:
    said: list[tuple[str, float]] = []

    def stubborn(source: str, temperature: float) -> str:
        said.append((source, temperature))
        return "a" if source.startswith("gut") else "b??" if len(said) == 2 else "b?"

    paragraphs = ("gut", "Eins. Zwei.", "gut")
    chunk, told = write(task(*paragraphs, temperature=0.1).next_turn([]), Translator(stubborn))
    assert said == [
        ("gut", 0.1),
        *[("Eins. Zwei.", 0.1), ("Eins. Zwei.", 0.7), ("Eins.", 0.1), ("Zwei.", 0.1)],
        ("gut", 0.1),
    ]
    assert (told[1].attempts, told[1].failed_checks, told[1].target) == (3, ("it asks",), "b?"), (
        "the best of them"
    )
    assert chunk.tokens == FORM.pair_tokens([AlignedPair("gut", "a")] * 2), (
        "what failed is in no later prompt"
    )
    assert [bool(one["failed_checks"]) for one in chunk.record["paragraphs"]] == [False, True, False]


def test_a_second_try_that_passes_is_good() -> None:
    again = Translator(lambda source, temperature: "a" if temperature == 0.7 else "?")
    chunk, (one,) = write(task("eins").next_turn([]), again)
    assert (one.attempts, one.failed_checks, chunk.text) == (2, (), "a\n")


def test_a_chunk_of_which_nothing_passed_is_not_learnt() -> None:
    chunk, (one,) = write(task("eins", attempts=1).next_turn([]), Translator(lambda *said: "?"))
    assert (
        one.attempts == 1
        and chunk.tokens == ()
        and chunk.failure == "none of its paragraphs passed its checks"
    )


@given(st.lists(st.text("abc .", min_size=1, max_size=60), min_size=1, max_size=12), st.integers(40, 300))
def test_chunks_hold_every_paragraph_once(texts: list[str], size: int) -> None:
    book = task(*texts, size=size)
    records: list[Any] = []
    while (turn := book.next_turn([], records)) is not None:
        chunk, _ = write(turn, Translator(shout))
        records.append(chunk.record)
        assert turn.max_tokens <= size or len(chunk.record["paragraphs"]) == 1
    assert [one["paragraph"] for record in records for one in record["paragraphs"]] == [
        *range(10, 10 + len(texts))
    ]


def test_the_window_holds_the_last_pairs_that_passed() -> None:
    book = task("eins", "zwei", "drei", "vier", size=60, context_pairs=2)
    done = [
        {"paragraph": 10, "target": "one", "attempts": 1, "failed_checks": []},
        {"paragraph": 11, "target": "two", "attempts": 1, "failed_checks": []},
        {"paragraph": 12, "target": "?", "attempts": 3, "failed_checks": [{"check": "echo", "message": "x"}]},
    ]
    turn = book.next_turn([], [{"paragraphs": done[:1]}, {"paragraphs": done[1:]}])
    assert turn is not None
    assert turn.prompt.context == FORM.pair_tokens([AlignedPair("eins", "one"), AlignedPair("zwei", "two")])
    shorter = task("eins", "zwei", "drei", "vier", context_pairs=1).next_turn([], [{"paragraphs": done}])
    assert shorter is not None and shorter.prompt.context == FORM.pair_tokens([AlignedPair("zwei", "two")])


def test_what_is_translated_again_sees_the_pairs_before_itself() -> None:
    book = task("eins", "zwei", "drei", "vier", context_pairs=2)
    bad = [{"check": "numbers", "message": "it asks"}]
    done = [
        {
            "paragraph": 10 + n,
            "target": said,
            "attempts": 1,
            "failed_checks": bad if "?" in said else [],
            "by": "model",
        }
        for n, said in enumerate(["one", "?", "three", "?"])
    ]
    book = replace(book, paragraphs=[*book.paragraphs, (11, "zwei"), (13, "vier")])
    turn = book.next_turn([], [{"paragraphs": done}])
    translator = Translator(shout)
    write(turn, translator)
    assert turn is not None and turn.prompt.context == ()
    contexts = [AlignedPair("eins", "one")], [AlignedPair("zwei", "ZWEI"), AlignedPair("drei", "three")]
    assert translator.prompts == [
        text_of(FORM.pair_tokens(pairs) + FORM.source_tokens(source))
        for pairs, source in zip(contexts, ("zwei", "vier"), strict=True)
    ]


def test_terms_that_occur_stand_before_the_pairs() -> None:
    terms = [Term("Turm", "tower"), Term("Meer", "sea")]
    turn = task("Der Turm steht.", terms=terms).next_turn([])
    assert turn is not None and turn.prompt.header == FORM.header + FORM.pair_tokens(
        [AlignedPair("Turm", "tower")]
    )


TOWNS = [Term(f"Ort{one}", f"Town{one}", "far" if one in "bdf" else "") for one in "abcdefgh"]


@pytest.mark.parametrize("form", [FORM, pair_format(FORM.tokenizer, FORM.prompts, FORM.source, FORM.target)])
@given(st.lists(st.sampled_from(TOWNS), unique=True), st.integers(0, 500))
def test_terms_have_half_of_the_window_and_the_first_of_them_stay(
    form: PairFormat, terms: list[Term], window: int
) -> None:
    book = replace(task("x", terms=terms), format=form)
    book = replace(book, decode=replace(book.decode, context_tokens=window))
    prompt = book.prompt(" ".join(term.source for term in terms), (7, 8))
    shown = sum(len(section.items) for section in prompt.sections)
    assert prompt.header == form.header_with(terms[:shown]) and prompt.context == (7, 8)
    assert len(prompt.header) <= len(form.header) + book.glossary_budget == len(form.header) + window // 2
    if shown < len(terms):
        assert len(form.header_with(terms[: shown + 1])) > len(form.header) + book.glossary_budget
        assert prompt.dropped == (Dropped("glossary", shown, len(terms)),)
    else:
        assert prompt.dropped == ()


def test_of_a_glossary_that_is_too_long_the_loop_says_what_was_cut(tiny_model: Path) -> None:
    book = task("OrtA und OrtB und OrtC.", terms=[Term(f"Ort{one}", f"Town{one}") for one in "ABC"])
    room = len(FORM.pair_tokens([AlignedPair("OrtA", "TownA")] * 2))
    book = replace(book, decode=replace(book.decode, context_tokens=2 * room))
    loop = Loop(tiny_model, 0, config=replace(CONFIG, decode=book.decode), task=book)
    loop.backend.enqueue(" TownA.\n")
    events = loop.run()
    assert [e for e in events if isinstance(e, SectionCut)] == [SectionCut(0, "glossary", 2, 3)]
    (committed,) = [chunk.prompt for chunk in learnt(events)]
    assert committed["sections"] == {"glossary": ["OrtA: TownA", "OrtB: TownB"]}
    assert committed["dropped"] == {"glossary": 1}


def test_what_is_committed_is_what_every_paragraph_saw_and_then_its_own_part(tiny_model: Path) -> None:
    book = task("eins", "zwei", "drei", size=50, terms=[Term("zwei", "two")])
    loop = Loop(tiny_model, 0, config=replace(CONFIG, decode=book.decode), task=book)
    loop.backend.enqueue(" one\n", " two\n", " three\n")
    chunks = learnt(loop.run())
    committed = [(*chunk.prompt["header"], *chunk.prompt["context"]) for chunk in chunks]
    seen = [tuple(prompt) for prompt in loop.backend.prompts]
    pairs = [AlignedPair("eins", "one"), AlignedPair("zwei", "two")]
    parts = [FORM.source_tokens(source) for source in ("eins", "zwei", "drei")]
    assert len(chunks) == 3 and seen == [shown + part for shown, part in zip(committed, parts, strict=True)]
    assert committed == [
        FORM.header,
        FORM.header + FORM.pair_tokens([AlignedPair("zwei", "two"), pairs[0]]),
        FORM.header + FORM.pair_tokens(pairs),
    ]


def as_committed(chunk: Chunk, failure: str | None = None) -> dict[str, Any]:
    return {
        "tokens": list(chunk.tokens),
        "origin": "generated",
        "record": chunk.record,
        "rejection_reason": failure,
    }


def test_a_committed_chunk_comes_again_and_nothing_is_decoded() -> None:
    book = task("eins", "schlecht", "drei", size=80)
    records: list[Any] = []
    while (turn := book.next_turn([], records)) is not None:
        chunk, _ = write(turn, Translator(lambda source, _: "?" if source[0] == "s" else source.upper()))
        again = book.replay(as_committed(chunk), [], records)
        assert again.prompt == turn.prompt and again.max_tokens == turn.max_tokens
        assert write(again, Translator(lambda *said: pytest.fail("decoded"))) == (chunk, [])
        records.append(chunk.record)
    assert len(records) > 1


def test_what_a_person_put_right_comes_again_as_theirs() -> None:
    book = task("eins", "zwei", "drei", correction_weight=4)
    chunk, _ = write(book.next_turn([]), Translator(lambda source, _: "?" if source == "drei" else "x"))
    assert chunk.parts == ()
    (record,) = corrected([chunk.record], [Correction(11, "x", "two"), Correction(12, "?", "three")])
    again, _ = write(book.replay({**as_committed(chunk), "record": record}, [], []), Translator(shout))
    own, right = again.parts
    assert (own, right) == (ChunkPart("generated", own.loss_mask), ChunkPart("human", right.loss_mask, 4))

    def learnt_of(part: ChunkPart) -> str:
        return text_of([t for t, of_it in zip(again.tokens, part.loss_mask, strict=True) if of_it])

    assert (learnt_of(own), learnt_of(right)) == (" x\n", " two\n three\n")
    assert again.failure is None and again.text == "x\ntwo\nthree\n"
    assert [one["by"] for one in again.record["paragraphs"]] == ["model", "person", "person"]


@given(st.text("ab. 。", min_size=0, max_size=3000))
def test_a_paragraph_that_is_too_long_is_cut_and_joined(text: str) -> None:
    book = task(text, size=200, attempts=1)
    pieces = book._pieces(text, 100)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(len(FORM.source_tokens(piece)) <= 100 for piece in pieces)


def test_a_paragraph_of_200_000_characters_is_learnt_chunk_by_chunk() -> None:
    text = ("Das Meer war still, und das Licht ging an. " * 5000)[:200_000].strip()
    document = TextDocument(f"Vorher.\n\n{text}\n\nNachher.\n".encode(), "book.txt", None)
    cuts = cuts_of(document.paragraphs, lambda part: len(FORM.source_tokens(part)), 2000)
    cut = CutDocument(document, cuts)
    book = task(*(paragraph.text for paragraph in cut.paragraphs), size=4000)
    records: list[Any] = []
    while (turn := book.next_turn([], records)) is not None:
        chunk, _ = write(turn, Translator(shout))
        assert chunk.failure is None and len(chunk.tokens) <= translation.MAX_LEARNT * 4000
        records.append(chunk.record)
    assert len(records) > 90
    done = translation.best_of(records)
    targets = {number: done[number + 10]["target"] for number in range(len(cut.paragraphs))}
    assert cut.render(targets, "en").decode() == f"VORHER.\n\n{text.upper()}\n\nNACHHER.\n"


@given(st.text('ab.!。 ”")…', max_size=200))
def test_sentences_are_the_text(text: str) -> None:
    assert "".join(sentences(text)) == text


def test_where_sentences_end() -> None:
    assert sentences('He said: "No." Then 3.5 more! 好。“真的？”他问。') == [
        'He said: "No." ',
        "Then 3.5 more! ",
        "好。",
        "“真的？”",
        "他问。",
    ]


def test_pieces_are_joined_as_the_language_does() -> None:
    for code, joined in (("en", "EINS. ZWEI."), ("ja", "EINS.ZWEI.")):
        form = PairFormat(FORM.tokenizer, FORM.prompts, language("de"), language(code))
        said = task("Eins. Zwei.", attempts=2)
        book = replace(said, format=form)
        pieces = Translator(lambda source, _: "?" if source == "Eins. Zwei." else source.upper())
        assert write(book.next_turn([]), pieces)[0].record["paragraphs"][0]["target"] == joined


def test_from_a_language_without_spaces_markup_gets_its_own() -> None:
    said = task("eins")
    for code, joined in (
        ("zh", "has <1>12</1> levels (<2>x</2>)."),
        ("de", "has<1>12</1>levels (<2>x</2>)."),
    ):
        form = PairFormat(FORM.tokenizer, FORM.prompts, language(code), language("en"))
        book = replace(said, format=form)
        assert book._spaced("has<1>12</1>levels (<2>x</2>).") == joined
