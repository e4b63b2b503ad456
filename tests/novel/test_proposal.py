"""Plans that a model proposes: questions, answers of all kinds, attempts, and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.config import Config, DecodeConfig, TrainConfig
from templora_cli.engine.decoding.protocols import DecodedToken, Sampler, Stop
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.errors import TemploraError
from templora_cli.novel.plan import Plan, PlannedChapter, plan_text, read_plan
from templora_cli.novel.plan_answer import MAX_TITLE_CHARS, Unusable, chapter_of, title_of
from templora_cli.novel.proposal import ATTEMPTS, ProposalRequest, Questions, propose
from templora_cli.prepare import ENGINE, prepare
from templora_cli.prompt_files import load_prompts

PREMISE = "A lighthouse keeper.\n\nA storm."
CONFIG = Config(train=TrainConfig(learn=False), decode=DecodeConfig(context_tokens=600))
TITLE = "The Light\n"
CHAPTERS = [
    " The Storm\nAnna rows out. The lamp fails.",
    " The Boat\nShe finds a boat. It is empty.",
    " The Port\nAnna comes home.",
]


class Answering:
    """A backend whose model gives these answers in order. A byte is a token."""

    exact = True

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.prompts: list[str] = []
        self.resets = 0

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        """See `Backend.decode`."""
        self.prompts.append(bytes(token for token in prompt if token < 256).decode())
        for byte in self.answers.pop(0).encode()[:max_tokens]:
            yield DecodedToken(byte)

    def reset(self) -> None:
        """See `Backend.reset`."""
        self.resets += 1

    def free_cache(self) -> None:
        """See `Backend.free_cache`."""

    adapter_changed = free_cache


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LanguageModel:
    return ENGINE.load(tiny_model, CONFIG)


def planned(
    model: LanguageModel, *answers: str, chapters: int = 3, config: Config = CONFIG
) -> tuple[Plan, Answering]:
    backend = Answering(*answers)
    *_, plan = propose(PREMISE, chapters, model, backend, config, seed=0)
    return plan, backend


# --- questions -------------------------------------------------------------------------------------------


def test_each_chapter_is_asked_for_in_view_of_those_before(model: LanguageModel) -> None:
    plan, backend = planned(model, TITLE, *CHAPTERS)
    assert [chapter.title for chapter in plan.chapters] == ["The Storm", "The Boat", "The Port"]
    assert plan.title == "The Light" and plan.premise == "A lighthouse keeper.\nA storm."
    title, *questions = backend.prompts
    assert PREMISE in title and "title" in title
    for number, question in enumerate(questions, 1):
        assert PREMISE in question and '"The Light"' in question and "in 3 chapters" in question
        assert f"Plan chapter {number} of 3." in question and question.endswith(f"{number}.")
        before = [f"{n}. {c.title}: {c.summary}" for n, c in enumerate(plan.chapters[: number - 1], 1)]
        assert ("\n".join(before) in question) if before else ("chapters before:" not in question)
        assert plan.chapters[number - 1].summary not in question
    assert [p in q for p, q in zip(("It is the first", "further", "its end"), questions, strict=True)] == [
        True
    ] * 3
    assert backend.resets == 4


def test_a_plan_grows_by_a_chapter(model: LanguageModel) -> None:
    plans = list(propose(PREMISE, 2, model, Answering(TITLE, *CHAPTERS), CONFIG, seed=0))
    assert [len(plan.chapters) for plan in plans] == [0, 1, 2]
    assert read_plan(plan_text(plans[-1])) == plans[-1]
    for before, after in pairwise(plans):
        assert plan_text(after).startswith(plan_text(before))


def test_what_does_not_fit_is_left_out_from_the_beginning(model: LanguageModel) -> None:
    small = replace(CONFIG, decode=DecodeConfig(context_tokens=110))
    backend, messages = Answering(TITLE, *CHAPTERS), list[str]()
    list(propose(PREMISE, 3, model, backend, small, seed=0, notify=messages.append))
    assert "The Storm" not in backend.prompts[-1] and "2. The Boat" in backend.prompts[-1]
    assert messages == ["chapter 3 was planned without chapter 1 in view: --context-tokens is too small"]


def test_no_prompt_is_longer_than_was_planned(model: LanguageModel) -> None:
    config = replace(CONFIG, decode=DecodeConfig(context_tokens=150))
    questions = Questions(model.tokenizer, load_prompts("plan", ""), PREMISE, 40, config)
    chapters = tuple(PlannedChapter("T" * 80, f"{n} " * 30, None, None) for n in range(39))
    plan = Plan("T" * 80, "", "", "", "", "", ())
    for count in (0, 1, 20, 39):
        assert len(questions.chapter(replace(plan, chapters=chapters[:count])).tokens) <= questions.max_tokens
    assert len(questions.title().tokens) <= questions.max_tokens


def test_special_tokens_in_texts_are_plain_text(model: LanguageModel) -> None:
    plan, backend = planned(model, TITLE, " A <|end|> b\nAnna says <|user|>.", CHAPTERS[1], chapters=2)
    assert "<|end|>" in plan.chapters[0].title
    assert "< |end|>" in backend.prompts[-1] and "< |user|>" in backend.prompts[-1]


# --- attempts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("", "the answer was empty"),
        (" The Boat", "it did not say in a complete sentence what happens"),
        (" The Boat\nShe finds a", "it did not say in a complete sentence what happens"),
        (" the STORM\nShe rows.", "its title was that of chapter 1"),
        (" The Boat\nAnna rows out. The lamp fails.", "its summary was that of chapter 1"),
        (" ...\nShe rows.", "it did not say in a complete sentence what happens"),
        (
            " I'm sorry, but as an AI language model I cannot write this.",
            "the model talked about the question",
        ),
        (f" {'word ' * 20}\nShe rows.", f"its title had more than {MAX_TITLE_CHARS} characters"),
        (" A\n<!-- She rows.", "the answer was not a title with sentences below it"),
    ],
)
def test_an_answer_that_is_not_usable_is_asked_for_again(bad: str, reason: str, model: LanguageModel) -> None:
    plan, backend = planned(model, TITLE, CHAPTERS[0], bad, bad, bad, *CHAPTERS[1:])
    assert [chapter.title for chapter in plan.chapters] == ["The Storm", "The Boat", "The Port"]
    assert len(set(backend.prompts[2:6])) == 1
    with pytest.raises(
        TemploraError, match=f"no usable answer for chapter 2 in {ATTEMPTS} attempts.*{reason}"
    ):
        planned(model, TITLE, CHAPTERS[0], *[bad] * ATTEMPTS)


def test_a_title_that_is_missing_is_asked_for_again(model: LanguageModel) -> None:
    assert planned(model, "", "...", TITLE, *CHAPTERS)[0].title == "The Light"
    with pytest.raises(TemploraError, match="no usable answer for the title"):
        planned(model, *[""] * ATTEMPTS)


class Greedy(Answering):
    """Draws one token from even logits, to see how it is drawn, and then answers."""

    def __init__(self, *answers: str) -> None:
        super().__init__(*answers)
        self.drawn: list[int] = []

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        """See `Backend.decode`."""
        import torch

        self.drawn.append(sampler.draw([], torch.zeros(200)))
        return super().decode(prompt, sampler=sampler, max_tokens=max_tokens, stop=stop)


def test_other_attempts_draw_other_tokens(model: LanguageModel) -> None:
    def drawn(temperature: float, seed: int) -> list[int]:
        config = replace(CONFIG, decode=DecodeConfig(temperature=temperature))
        backend = Greedy("", "", "", TITLE, CHAPTERS[0])
        list(propose(PREMISE, 1, model, backend, config, seed=seed))
        return backend.drawn

    assert len(set(drawn(0.8, 0))) > 2 and drawn(0.8, 0) == drawn(0.8, 0) != drawn(0.8, 1)
    assert len(set(drawn(0.0, 0)[1:4])) > 1  # the first answer is greedy, the others are not
    assert drawn(0.0, 0)[0] == drawn(0.0, 1)[0]


class Recording(Answering):
    """Decodes with the model itself, and records the tokens."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.backend = ENGINE.backend(model, "eager")
        self.tokens: list[int] = []

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        """See `Backend.decode`."""
        for token in self.backend.decode(prompt, sampler=sampler, max_tokens=max_tokens, stop=stop):
            self.tokens.append(token.id)
            yield token


def test_the_same_seed_gives_the_same_answers(model: LanguageModel) -> None:
    def tokens(seed: int) -> list[int]:
        backend = Recording(model)
        with suppress(TemploraError):  # random weights give no title
            list(propose(PREMISE, 1, model, backend, CONFIG, seed=seed))
        return backend.tokens

    assert tokens(1) == tokens(1) != tokens(2)


# --- models ----------------------------------------------------------------------------------------------


def test_a_base_model_is_refused_before_it_is_loaded(tiny_base_model: Path) -> None:
    config = Config(model=replace(Config().model, name=str(tiny_base_model)))
    engine = replace(ENGINE, load=lambda folder, config: pytest.fail("loaded"))
    with pytest.raises(TemploraError, match="is a base model") as raised:
        prepare(ProposalRequest(PREMISE, 3), config, engine=engine)
    assert "## The First Chapter" in str(raised.value.hint)


def test_the_model_is_loaded_without_an_adapter(tiny_model: Path) -> None:
    config = Config(model=replace(Config().model, name=str(tiny_model)))
    assert not prepare(ProposalRequest(PREMISE, 3), config).model.adapter


def test_a_premise_longer_than_the_window_is_an_error(tiny_model: Path) -> None:
    config = Config(model=replace(Config().model, name=str(tiny_model)))
    with pytest.raises(TemploraError, match="the premise has 6,000 tokens") as raised:
        prepare(ProposalRequest("a" * 6000, 3), config)
    assert "shorten the premise" in str(raised.value.hint)


# --- answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "The Storm\nAnna rows out. The lamp fails.",
        " The Storm\n\nAnna rows out. The lamp fails.\n",
        "**The Storm**\n\nAnna rows out. The lamp fails.",
        "# The Storm\nAnna rows out. The lamp fails.",
        "### Chapter 2: The Storm\n\nAnna rows out. The lamp fails.",
        "2. The Storm\nAnna rows out. The lamp fails.",
        '"The Storm"\nAnna rows out. The lamp fails.',
        "“The Storm.”\n\n“Anna rows out. The lamp fails.”",
        "Title: The Storm\nSummary: Anna rows out. The lamp fails.",
        '**Chapter 2: "The Storm"**\n**Summary:** Anna rows out. The lamp fails.',
        "The Storm (1,800 words)\nAnna rows out.\nThe lamp fails.",
        "The Storm\n- Anna rows out.\n- The lamp fails.",
        "The Storm\n> Anna rows *out*. The lamp fails.",
        "Here is the chapter:\n\nThe Storm\nAnna rows out. The lamp fails.",
        "The Storm: Anna rows out. The lamp fails.",
        "The Storm – Anna rows out. The lamp fails.",
        "The Storm\nAnna rows out. The lamp fails. She then tries to",
        "The Storm\nAnna rows out. The lamp fails.\n\nChapter 3: The Boat\nShe finds it.",
        "The Storm\nAnna rows out. The lamp fails.\n\n3. The Boat\nShe finds it.",
        "Sure! Here's chapter 2:\n\nTitle:\nThe Storm\nAnna rows out. The lamp fails.",
        "Chapter 2\n\nThe Storm\nAnna rows out. The lamp fails.",
        "The Storm\r\nAnna rows out. The lamp fails.\r\n...",
    ],
)
def test_a_chapter_is_read_from_an_answer(answer: str) -> None:
    expected = PlannedChapter("The Storm", "Anna rows out. The lamp fails.", None, None)
    assert chapter_of(answer, 2) == expected


def test_a_summary_has_at_most_four_sentences() -> None:
    assert chapter_of("A\nOne. Two! Three? Four. Five.", 1).summary == "One. Two! Three? Four."
    assert chapter_of("风暴\n安娜出海。灯灭了。", 1).summary == "安娜出海。灯灭了。"


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("The Light", "The Light"),
        ('Title: "The Light"\n\nIt is about', "The Light"),
        ("# **The Light**", "The Light"),
        ("The title is:\nThe Light.", "The Light"),
        ("《灯塔》", "灯塔"),
        ("“Who?” She Asked", "“Who?” She Asked"),
        ("And Then...", "And Then..."),
    ],
)
def test_a_title_is_read_from_an_answer(answer: str, title: str) -> None:
    assert title_of(answer) == title


READERS: tuple[Callable[[str], object], ...] = (title_of, lambda answer: chapter_of(answer, 1))


@given(
    st.text()
    | st.lists(st.sampled_from(["A", ". ", "\n", "# ", "- ", '"', "*", ":", "1.", "(3 words)", "`"])).map(
        "".join
    )
)
def test_any_answer_is_read_or_refused(answer: str) -> None:
    for read in READERS:
        try:
            result = read(answer)
        except Unusable:
            continue
        chapter = (
            result if isinstance(result, PlannedChapter) else PlannedChapter(str(result), "", None, None)
        )
        plan = Plan("T", "", "", "", "", "", (chapter,))
        assert read_plan(plan_text(plan)) == plan
