"""Questions to the tiny model: likelihoods, the prompts of the arms, and what changes the answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from templora_cli.config import Config, DecodeConfig, ModelConfig, TrainConfig
from templora_cli.engine.models import loading
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.evaluation.consistency import (
    ARMS,
    Arm,
    ConsistencyProbe,
    ConsistencyRequest,
    QuestionPrompts,
    cloze_tokens,
    full_answers,
    full_prompt,
    groups_per_file,
    log_likelihoods,
)
from templora_cli.evaluation.planted_book import PlantedBook
from templora_cli.prompt_files import load_prompts

PROSE = tuple(
    f"The keeper went up stair number {number}, and then he came down again." for number in range(90)
)
REQUEST = ConsistencyRequest(PROSE, "book.txt", groups=1, distances=(600,), chapters=2)
CONFIG = Config(decode=DecodeConfig(context_tokens=400, ledger_tokens=2000, recall_tokens=2000))


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LanguageModel:
    return loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=4, alpha=4), seed=0)


@pytest.fixture
def learnt(model: LanguageModel) -> Iterator[LanguageModel]:
    """The model with an adapter that has an effect."""
    before = {name: parameter.detach().clone() for name, parameter in model.adapter.items()}
    with torch.no_grad():
        for name, parameter in model.adapter.items():
            if "lora_B" in name:
                parameter += 0.05
    yield model
    with torch.no_grad():
        for name, parameter in model.adapter.items():
            parameter.copy_(before[name])


@pytest.fixture(scope="module")
def book(model: LanguageModel) -> PlantedBook:
    return REQUEST.book(model.tokenizer, 0)


def probe_of(model: LanguageModel, book: PlantedBook, config: Config = CONFIG) -> ConsistencyProbe:
    prompts = [load_prompts(name, "") for name in ("novel", "sections")]
    return ConsistencyProbe(
        model,
        lambda: full_prompt(model.tokenizer, prompts, config, book),
        book,
        config.decode.context_tokens,
    )


def test_likelihoods_with_a_cache_are_those_without(learnt: LanguageModel) -> None:
    prompt, options = list(range(40, 90)), [[5], [6, 7, 8, 9], [10, 11]]
    for context in (learnt.without_adapter, lambda: torch.no_grad()):
        with context(), torch.no_grad():
            expected = [-chunk_nll(learnt.module, prompt, option).sum().item() for option in options]
            assert log_likelihoods(learnt.module, prompt, options) == pytest.approx(expected, abs=1e-4)


def test_options_are_encoded_after_the_cue() -> None:
    tokens = {"It lay": [1, 2], "It lay here": [1, 3], "It lay there": [1, 2, 4], "It lay far": [1, 3, 5]}
    cue, options = cloze_tokens(tokens.__getitem__, "It lay", ["there", "here", "far"])
    assert (cue, options) == ((1,), [(2, 4), (3,), (3, 5)])
    assert cloze_tokens(tokens.__getitem__, "It lay", ["there"]) == ((1, 2), [(4,)])


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_what_an_arm_shows(arm: Arm, model: LanguageModel, book: PlantedBook) -> None:
    probe = probe_of(model, book)
    for question in book.questions:
        cue, _ = cloze_tokens(book.encode, question.fact.cue, question.options)
        prompts = QuestionPrompts(probe.prompt(), book, question, cue, CONFIG.decode.context_tokens)
        text = model.tokenizer.decode(list(prompts.of(arm).tokens))
        assert text.endswith(question.fact.cue)
        in_window = text[-CONFIG.decode.context_tokens :]
        assert (question.fact.sentence in in_window) == arm.has_fact
        assert (question.fact.sentence in text.replace(in_window, "")) == arm.recall
        assert prompts.has_recalled_fact
        line = "People, places and things:" in text
        assert line == arm.ledger and (not line or question.fact.answer in text)
        if not (arm.has_fact or arm.recall or arm.ledger):
            assert not any(option in text for option in question.options)


def test_all_arms_answer_and_only_those_with_the_adapter_learn(
    model: LanguageModel, book: PlantedBook
) -> None:
    question = book.questions[0]
    before = probe_of(model, book).measure(question)["arms"]
    for base, adapted in (("window", "adapter"), ("recall", "recall + adapter")):
        assert before[base] == before[adapted], "the adapter begins without an effect"
    assert before.keys() == {arm.name for arm in ARMS}
    assert len({tuple(values["question"]) for values in before.values()}) == 5, "prompts differ"
    with torch.no_grad():
        for name, parameter in model.adapter.items():
            if "lora_B" in name:
                parameter += 0.05
    after = probe_of(model, book).measure(question)["arms"]
    with torch.no_grad():
        for name, parameter in model.adapter.items():
            if "lora_B" in name:
                parameter -= 0.05
    for arm in ARMS:
        for part in ("question", "empty"):
            assert (before[arm.name][part] == after[arm.name][part]) == (not arm.adapter)


def test_answers_do_not_depend_on_the_questions_before(model: LanguageModel, book: PlantedBook) -> None:
    first, *_, last = book.questions
    probe = probe_of(model, book)
    probe.measure(first)
    assert probe.measure(last) == probe_of(model, book).measure(last)


def test_arms_without_their_memory_are_left_out(model: LanguageModel, book: PlantedBook) -> None:
    without_recall = replace(CONFIG, decode=replace(CONFIG.decode, recall=False))
    probe = probe_of(model, book, without_recall)
    assert [arm.name for arm in probe.arms] == ["window", "fact in window", "adapter", "ledger"]


def test_answers_as_lines(model: LanguageModel, book: PlantedBook) -> None:
    answers = {number: {"tokens": [1], "arms": {}} for number in range(len(book.questions))}
    lines = full_answers(book.questions, answers)
    assert [line["options"][line["right"]] for line in lines] == [line["answer"] for line in lines]
    assert all(line["position"] - line["fact_end"] >= line["distance"] == 600 for line in lines)


@pytest.mark.parametrize(
    ("questions", "distances", "files", "expected"),
    [(420, 3, 1, [35]), (400, 3, 1, [34]), (420, 3, 2, [18, 17]), (1, 3, 2, [1, 1])],
)
def test_groups_of_each_file(questions: int, distances: int, files: int, expected: list[int]) -> None:
    assert groups_per_file(questions, distances, files) == expected
