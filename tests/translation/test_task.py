"""Translation of paragraphs in chunks: prompts, retries, and the parts that are learnt."""

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
from templora_cli.languages import language
from templora_cli.prompt import Dropped
from templora_cli.prompt_files import load_prompts
from templora_cli.text import sentences
from templora_cli.translation import task as translation
from templora_cli.translation.checks import FailedCheck
from templora_cli.translation.corrections import Correction
from templora_cli.translation.long_paragraphs import SplitDocument, find_splits
from templora_cli.translation.pair_format import PairFormat, choose_pair_format
from templora_cli.translation.task import TranslationTask, apply_corrections
from templora_cli.translation.terminology import Glossary, Term
from templora_cli.turn import Chunk, ChunkPart, Compose
from tests.loop import CONFIG, Loop, learnt

FORM = PairFormat(byte_tokenizer(), load_prompts("translation", ""), language("de"), language("en"))
Translate = Callable[[str, float], str]


def reject_question_marks(source: str, target: str, *others: object) -> list[FailedCheck]:
    """The real checks have tests of their own."""
    return [FailedCheck("numbers", "it asks")] * target.count("?")


def task(*texts: str, size: int = 400, terms: Sequence[Term] = (), **config: Any) -> TranslationTask:
    decode = DecodeConfig(chunk_tokens=size, context_tokens=400)
    settings, glossary = TranslationConfig(**config), Glossary(tuple(terms))
    paragraphs, check = list(enumerate(texts, 10)), reject_question_marks
    return TranslationTask(FORM, paragraphs, glossary, decode, settings, frozenset(), check=check)


class Translator:
    """In place of the loop: decodes the result of `translate` for the last source of the prompt."""

    def __init__(self, translate: Translate) -> None:
        self.translate = translate
        self.prompts: list[str] = []

    def __call__(
        self, after: Sequence[int], *, max_tokens: int, stop_tokens: Collection[int], temperature: float
    ) -> Iterator[int]:
        self.prompts.append(text_of(after))
        source = self.prompts[-1].rsplit("German: ", 1)[1].split("\n")[0]
        return iter([*f" {self.translate(source, temperature)}".encode(), *stop_tokens][:max_tokens])


def text_of(tokens: Sequence[int]) -> str:
    return str(FORM.tokenizer.decode(list(tokens)))


def write(turn: Compose | None, translator: Translator) -> tuple[Chunk, list[ParagraphTranslated]]:
    assert turn is not None
    events = []
    writing = turn.composer(0, translator)
    try:
        while True:
            events.append(next(writing))
    except StopIteration as stop:
        counted = [event.tokens for event in events if isinstance(event, TextDecoded)]
        assert counted == list(range(1, len(counted) + 1))
        return stop.value, [event for event in events if isinstance(event, ParagraphTranslated)]


def shout(source: str, temperature: float) -> str:
    return source.upper()


def test_paragraphs_are_translated_in_order_and_learnt_together() -> None:
    translator = Translator(shout)
    chunk, events = write(task("eins", "zwei").next_turn([]), translator)
    pairs = [AlignedPair("eins", "EINS"), AlignedPair("zwei", "ZWEI")]
    assert chunk.tokens == FORM.pair_tokens(pairs) and chunk.text == "EINS\nZWEI\n"
    assert chunk.rejection_reason is None
    learnt = [token for token, learn in zip(chunk.tokens, chunk.loss_mask, strict=True) if learn]
    assert text_of(learnt) == " EINS\n ZWEI\n"
    assert translator.prompts[1] == text_of(FORM.pair_tokens(pairs[:1]) + FORM.source_tokens("zwei"))
    assert [(event.paragraph, event.target, event.attempts, event.failed_checks) for event in events] == [
        (10, "EINS", 1, ()),
        (11, "ZWEI", 1, ()),
    ]


def test_a_failed_paragraph_is_retried_then_split_and_not_learnt() -> None:
    calls: list[tuple[str, float]] = []

    def fail(source: str, temperature: float) -> str:
        calls.append((source, temperature))
        return "a" if source.startswith("gut") else "b??" if len(calls) == 2 else "b?"

    paragraphs = ("gut", "Eins. Zwei.", "gut")
    chunk, events = write(task(*paragraphs, temperature=0.1).next_turn([]), Translator(fail))
    assert calls == [
        ("gut", 0.1),
        *[("Eins. Zwei.", 0.1), ("Eins. Zwei.", 0.7), ("Eins.", 0.1), ("Zwei.", 0.1)],
        ("gut", 0.1),
    ]
    failed = events[1]
    assert (failed.attempts, failed.failed_checks, failed.target) == (3, ("it asks",), "b?"), "the best one"
    assert chunk.tokens == FORM.pair_tokens([AlignedPair("gut", "a")] * 2), "without the failed one"
    assert [bool(record["failed_checks"]) for record in chunk.record["paragraphs"]] == [False, True, False]


def test_a_second_attempt_that_passes_is_good() -> None:
    translator = Translator(lambda source, temperature: "a" if temperature == 0.7 else "?")
    chunk, (event,) = write(task("eins").next_turn([]), translator)
    assert (event.attempts, event.failed_checks, chunk.text) == (2, (), "a\n")


def test_a_chunk_without_a_good_paragraph_is_not_learnt() -> None:
    chunk, (event,) = write(task("eins", attempts=1).next_turn([]), Translator(lambda *_: "?"))
    assert event.attempts == 1 and chunk.tokens == ()
    assert chunk.rejection_reason == "none of its paragraphs passed its checks"


@given(st.lists(st.text("abc .", min_size=1, max_size=60), min_size=1, max_size=12), st.integers(40, 300))
def test_chunks_hold_every_paragraph_once(texts: list[str], size: int) -> None:
    book = task(*texts, size=size)
    records: list[Any] = []
    while (turn := book.next_turn([], records)) is not None:
        chunk, _ = write(turn, Translator(shout))
        records.append(chunk.record)
        assert turn.max_tokens <= size or len(chunk.record["paragraphs"]) == 1
    translated = [paragraph["paragraph"] for record in records for paragraph in record["paragraphs"]]
    assert translated == [*range(10, 10 + len(texts))]


def test_the_context_is_the_last_good_pairs() -> None:
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


def test_the_context_of_a_retried_paragraph_is_the_pairs_before_it() -> None:
    book = task("eins", "zwei", "drei", "vier", context_pairs=2)
    failed = [{"check": "numbers", "message": "it asks"}]
    done = [
        {
            "paragraph": index,
            "target": target,
            "attempts": 1,
            "failed_checks": failed if "?" in target else [],
            "origin": "generated",
        }
        for index, target in enumerate(["one", "?", "three", "?"], 10)
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


def test_terms_that_occur_precede_the_pairs() -> None:
    terms = [Term("Turm", "tower"), Term("Meer", "sea")]
    turn = task("Der Turm steht.", terms=terms).next_turn([])
    assert turn is not None and turn.prompt.header == FORM.header + FORM.pair_tokens(
        [AlignedPair("Turm", "tower")]
    )


TOWNS = [Term(f"Ort{letter}", f"Town{letter}", "far" if letter in "bdf" else "") for letter in "abcdefgh"]
CHAT_FORM = choose_pair_format(FORM.tokenizer, FORM.prompts, FORM.source, FORM.target)


@pytest.mark.parametrize("form", [FORM, CHAT_FORM])
@given(st.lists(st.sampled_from(TOWNS), unique=True), st.integers(0, 500))
def test_the_first_terms_that_fit_into_half_of_the_window_are_in_the_prompt(
    form: PairFormat, terms: list[Term], window: int
) -> None:
    book = replace(task("x", terms=terms), format=form)
    book = replace(book, decode=replace(book.decode, context_tokens=window))
    prompt = book.prompt(" ".join(term.source for term in terms), (7, 8))
    count = sum(len(section.items) for section in prompt.sections)
    assert prompt.header == form.header_with(terms[:count]) and prompt.context == (7, 8)
    assert len(prompt.header) <= len(form.header) + book.glossary_budget == len(form.header) + window // 2
    if count < len(terms):
        assert len(form.header_with(terms[: count + 1])) > len(form.header) + book.glossary_budget
        assert prompt.dropped == (Dropped("glossary", count, len(terms)),)
    else:
        assert prompt.dropped == ()


def test_a_shortened_glossary_is_reported(tiny_model: Path) -> None:
    terms = [Term(f"Ort{letter}", f"Town{letter}") for letter in "ABC"]
    book = task("OrtA und OrtB und OrtC.", terms=terms)
    budget = len(FORM.pair_tokens([AlignedPair("OrtA", "TownA")] * 2))
    book = replace(book, decode=replace(book.decode, context_tokens=2 * budget))
    loop = Loop(tiny_model, 0, config=replace(CONFIG, decode=book.decode), task=book)
    loop.backend.enqueue(" TownA.\n")
    events = loop.run()
    assert [e for e in events if isinstance(e, SectionCut)] == [SectionCut(0, "glossary", 2, 3)]
    (committed,) = [chunk.prompt for chunk in learnt(events)]
    assert committed["sections"] == {"glossary": ["OrtA: TownA", "OrtB: TownB"]}
    assert committed["dropped"] == {"glossary": 1}


def test_the_committed_prompt_is_the_beginning_of_every_decoded_prompt(tiny_model: Path) -> None:
    book = task("eins", "zwei", "drei", size=50, terms=[Term("zwei", "two")])
    loop = Loop(tiny_model, 0, config=replace(CONFIG, decode=book.decode), task=book)
    loop.backend.enqueue(" one\n", " two\n", " three\n")
    chunks = learnt(loop.run())
    committed = [(*chunk.prompt["header"], *chunk.prompt["context"]) for chunk in chunks]
    decoded = [tuple(prompt) for prompt in loop.backend.prompts]
    pairs = [AlignedPair("eins", "one"), AlignedPair("zwei", "two")]
    sources = [FORM.source_tokens(source) for source in ("eins", "zwei", "drei")]
    expected = [prompt + source for prompt, source in zip(committed, sources, strict=True)]
    assert len(chunks) == 3 and decoded == expected
    assert committed == [
        FORM.header,
        FORM.header + FORM.pair_tokens([AlignedPair("zwei", "two"), pairs[0]]),
        FORM.header + FORM.pair_tokens(pairs),
    ]


def as_committed(chunk: Chunk) -> dict[str, Any]:
    return {
        "tokens": list(chunk.tokens),
        "origin": "generated",
        "record": chunk.record,
        "rejection_reason": None,
    }


def test_a_committed_chunk_is_replayed_without_decoding() -> None:
    book = task("eins", "schlecht", "drei", size=80)
    records: list[Any] = []
    while (turn := book.next_turn([], records)) is not None:
        chunk, _ = write(turn, Translator(lambda source, _: "?" if source[0] == "s" else source.upper()))
        replayed = book.replay(as_committed(chunk), [], records)
        assert replayed.prompt == turn.prompt and replayed.max_tokens == turn.max_tokens
        assert write(replayed, Translator(lambda *_: pytest.fail("decoded"))) == (chunk, [])
        records.append(chunk.record)
    assert len(records) > 1


def test_corrections_are_replayed_as_human_text() -> None:
    book = task("eins", "zwei", "drei", correction_weight=4)
    chunk, _ = write(book.next_turn([]), Translator(lambda source, _: "?" if source == "drei" else "x"))
    assert chunk.parts == ()
    corrections = [Correction(11, "x", "two"), Correction(12, "?", "three")]
    (record,) = apply_corrections([chunk.record], corrections)
    replayed, _ = write(book.replay({**as_committed(chunk), "record": record}, [], []), Translator(shout))
    generated, human = replayed.parts
    assert generated == ChunkPart("generated", generated.loss_mask)
    assert human == ChunkPart("human", human.loss_mask, 4)

    def learnt_text(part: ChunkPart) -> str:
        return text_of([t for t, learnt in zip(replayed.tokens, part.loss_mask, strict=True) if learnt])

    assert (learnt_text(generated), learnt_text(human)) == (" x\n", " two\n three\n")
    assert replayed.rejection_reason is None and replayed.text == "x\ntwo\nthree\n"
    origins = [paragraph["origin"] for paragraph in replayed.record["paragraphs"]]
    assert origins == ["generated", "human", "human"]


@given(st.text("ab. 。", min_size=0, max_size=3000))
def test_the_pieces_of_a_long_paragraph_are_its_text(text: str) -> None:
    book = task(text, size=200, attempts=1)
    pieces = book._pieces(text, 100)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(len(FORM.source_tokens(piece)) <= 100 for piece in pieces)


def test_a_paragraph_of_200_000_characters_is_learnt_chunk_by_chunk() -> None:
    text = ("Das Meer war still, und das Licht ging an. " * 5000)[:200_000].strip()
    document = TextDocument(f"Vorher.\n\n{text}\n\nNachher.\n".encode(), "book.txt", None)
    splits = find_splits(document.paragraphs, lambda part: len(FORM.source_tokens(part)), 2000)
    split = SplitDocument(document, splits)
    book = task(*(paragraph.text for paragraph in split.paragraphs), size=4000)
    records: list[Any] = []
    while (turn := book.next_turn([], records)) is not None:
        chunk, _ = write(turn, Translator(shout))
        assert chunk.rejection_reason is None
        assert len(chunk.tokens) <= translation.MAX_LEARNT_RATIO * 4000
        records.append(chunk.record)
    assert len(records) > 90
    best = translation.best_translations(records)
    targets = {index: best[index + 10]["target"] for index in range(len(split.paragraphs))}
    assert split.render(targets, "en").decode() == f"VORHER.\n\n{text.upper()}\n\nNACHHER.\n"


@given(st.text('ab.!。 ”")…', max_size=200))
def test_sentences_joined_are_the_text(text: str) -> None:
    assert "".join(sentences(text)) == text


def test_where_sentences_end() -> None:
    assert sentences('He said: "No." Then 3.5 more! 好。“真的？”他问。') == [
        'He said: "No." ',
        "Then 3.5 more! ",
        "好。",
        "“真的？”",
        "他问。",
    ]


def test_pieces_are_joined_with_the_spaces_of_the_language() -> None:
    for code, joined in (("en", "EINS. ZWEI."), ("ja", "EINS.ZWEI.")):
        form = PairFormat(FORM.tokenizer, FORM.prompts, language("de"), language(code))
        book = replace(task("Eins. Zwei.", attempts=2), format=form)
        translator = Translator(lambda source, _: "?" if source == "Eins. Zwei." else source.upper())
        assert write(book.next_turn([]), translator)[0].record["paragraphs"][0]["target"] == joined


def test_tags_get_spaces_if_the_source_language_has_none() -> None:
    for code, expected in (
        ("zh", "has <1>12</1> levels (<2>x</2>)."),
        ("de", "has<1>12</1>levels (<2>x</2>)."),
    ):
        form = PairFormat(FORM.tokenizer, FORM.prompts, language(code), language("en"))
        book = replace(task("eins"), format=form)
        assert book._with_spaces_around_tags("has<1>12</1>levels (<2>x</2>).") == expected
