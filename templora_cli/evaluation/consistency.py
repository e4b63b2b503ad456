"""Consistency: does a model remember what is so in a book? Measured with planted facts, as a cloze.

A book with planted facts (`planted_book.py`) is read and learnt chunk by chunk. At each distance after a fact
the question is put at the end of the text so far, and four answers are scored: the right one and three that
are right for other questions. The arms differ in what the model has beside the text in its window.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any

import torch

from templora_cli.config import Config
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.forward import logits_at
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.evaluation.planted_book import Encode, PlantedBook, Question, plant
from templora_cli.evaluation.planted_facts import GROUP, KINDS, groups_of_facts
from templora_cli.novel.kind import PROMPTS, SECTIONS
from templora_cli.novel.prompt import Memory, NovelPrompt, opening_tokens
from templora_cli.novel.shown import Shown, novel_prompt
from templora_cli.prompt import Prompt, max_header_tokens, passing_tokens
from templora_cli.prompt_files import PromptFile, load_prompts
from templora_cli.sessions.new import NewSession

KIND, MEASURED_BY = "consistency", "templora eval consistency"
DISTANCES = (2048, 8192, 32768)
QUESTIONS = 420


@dataclass(frozen=True)
class Arm:
    """What the model has beside the text in its window."""

    name: str
    adapter: bool = False
    recall: bool = False
    ledger: bool = False
    has_fact: bool = False
    """Is the fact stated once more, within the window?"""


WINDOW, FACT, RECALL, RECALL_ADAPTER = "window", "fact in window", "recall", "recall + adapter"
ARMS = (
    Arm(WINDOW),
    Arm(FACT, has_fact=True),
    Arm("adapter", adapter=True),
    Arm(RECALL, recall=True),
    Arm(RECALL_ADAPTER, recall=True, adapter=True),
    Arm("ledger", ledger=True),
    Arm("all", adapter=True, recall=True, ledger=True),
)


@dataclass(frozen=True)
class ConsistencyRequest:
    """A book with planted facts, to be read and learnt."""

    prose: tuple[str, ...]
    """The paragraphs of prose (`paragraphs_of`)."""
    name: str
    """File name of the prose; the session is named after it."""
    groups: int
    """Groups of facts to ask about."""
    distances: tuple[int, ...] = DISTANCES
    chapters: int = 20
    kind: str = KIND

    def book(self, tokenizer: Any, seed: int) -> PlantedBook:
        """The book for a tokenizer. Raises TemploraError as `plant` does."""
        return plant(
            self.prose,
            groups_of_facts(f"{seed} {self.name}", "\n".join(self.prose)),
            encoder(tokenizer),
            name=self.name,
            asked=self.groups,
            distances=self.distances,
            chapters=self.chapters,
        )

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """See `Request.new_session`. The book is learnt after the header that a novel from an opening has."""
        book = self.book(tokenizer, config.seed)
        prompts = tuple(load_prompts(name, config.prompts) for name in (PROMPTS, SECTIONS))
        prompt = full_prompt(tokenizer, prompts, config, book)
        return NewSession(
            self.kind,
            config,
            named_after=f"eval {self.name}",
            goal=(len(book.tokens), "tokens"),
            header_tokens=max_header_tokens(prompt.max_sections, prompt.layout),
            passing_tokens=passing_tokens(prompt.max_sections, prompt.layout),
            request={
                "header": list(without_memory(prompt)(()).header),
                "distances": list(self.distances),
                "questions_sha256": digest_of(book),
            },
            prompts=prompts,
            opening=book.tokens,
            source=book.text,
            measured_by=MEASURED_BY,
        )


def encoder(tokenizer: Any) -> Encode:
    """The token ids of a text as in a book."""
    return lambda text: opening_tokens(tokenizer, text)


def digest_of(book: PlantedBook) -> str:
    """A digest of all questions, so that answers to others are not taken for theirs."""
    questions = [asdict(question) for question in book.questions]
    return hashlib.sha256(json.dumps(questions).encode("utf-8")).hexdigest()


def full_prompt(
    tokenizer: Any, prompts: Sequence[PromptFile], config: Config, book: PlantedBook
) -> NovelPrompt:
    """The prompt of a novel from an opening, with the ledger of the book and, unless it is off, recall."""
    request = {"premise": "", "opened": True, "note": ""}
    return novel_prompt(tokenizer, prompts, request, config.decode, Shown(ledger=book.ledger))


def without_memory(prompt: NovelPrompt) -> NovelPrompt:
    """The prompt without ledger and recall."""
    return replace(prompt, memory=Memory())


Answers = dict[str, Any]
"""The answers to a question as JSON: "tokens" of each option, whether recall "found" the sentence of the fact
(None without recall), and by arm the log-likelihoods of the options after the question ("question") and after
a cue without a subject ("empty"), in nats.
"""


class ConsistencyProbe:
    """Asks questions of a model as it is now, without changing it."""

    def __init__(
        self, model: AdaptedModel, prompt: Callable[[], NovelPrompt], book: PlantedBook, context_tokens: int
    ) -> None:
        """`prompt` makes a `full_prompt`. Each question gets one of its own, because the index of recall is
        for a book that only grows, and a question is no part of it.
        """
        self.model, self.prompt, self.book, self.context_tokens = model, prompt, book, context_tokens
        self._plain = without_memory(prompt())
        self._base_empty: dict[tuple[str, str], float] = {}
        has_recall = prompt().memory.recall is not None
        self.arms = tuple(
            arm for arm in ARMS if arm.adapter <= bool(model.adapter) and arm.recall <= has_recall
        )

    def measure(self, question: Question) -> Answers:
        """The answers of all arms. The adapter should have learnt the chunks before the question."""
        cue, options = cloze_tokens(self.book.encode, question.fact.cue, question.options)
        prompts = QuestionPrompts(self.prompt(), self.book, question, cue, self.context_tokens)
        self.model.module.eval()
        empty = {learns: self._empty(question, learns) for learns in {arm.adapter for arm in self.arms}}
        arms = {}
        for arm in self.arms:
            likelihoods = self._likelihoods(prompts.of(arm).tokens, options, arm.adapter)
            arms[arm.name] = {"question": likelihoods, "empty": empty[arm.adapter]}
        found = prompts.has_recalled_fact if any(arm.recall for arm in self.arms) else None
        return {"tokens": [len(option) for option in options], "found": found, "arms": arms}

    def _empty(self, question: Question, with_adapter: bool) -> list[float]:
        """The log-likelihoods of the options after the empty cue, without any text of the book."""
        kind = question.fact.kind
        keys = [(kind, option) for option in question.options]
        if not with_adapter and all(key in self._base_empty for key in keys):
            return [self._base_empty[key] for key in keys]
        cue, options = cloze_tokens(self.book.encode, KINDS[kind].empty_cue, question.options)
        likelihoods = self._likelihoods(self._plain(cue).tokens, options, with_adapter)
        if not with_adapter:  # the base does not change
            self._base_empty.update(zip(keys, likelihoods, strict=True))
        return likelihoods

    def _likelihoods(
        self, prompt: Sequence[int], options: Sequence[Sequence[int]], with_adapter: bool
    ) -> list[float]:
        with nullcontext() if with_adapter else self.model.without_adapter():
            return log_likelihoods(self.model.module, prompt, options)


@dataclass(frozen=True)
class QuestionPrompts:
    """The prompts of one question; arms that differ in the adapter alone share one."""

    full: NovelPrompt
    book: PlantedBook
    question: Question
    cue: tuple[int, ...]
    context_tokens: int

    def of(self, arm: Arm) -> Prompt:
        """The prompt of an arm."""
        if arm.has_fact:
            text = self.book.with_fact(self.question, self.context_tokens - len(self.cue))
            return without_memory(self.full)((*text, *self.cue))
        recalled = (lambda *_: self._recalled) if arm.recall else None
        memory = Memory(self.full.memory.ledger if arm.ledger else None, recalled)
        return replace(self.full, memory=memory)(self._text)

    @property
    def has_recalled_fact(self) -> bool:
        """Does the prompt with recall have the sentence of the fact?"""
        sections = self.of(Arm(RECALL, recall=True)).sections
        shown = [item for section in sections if section.name == "recall" for item in section.items]
        return any(self.question.fact.sentence in item for item in shown)

    @cached_property
    def _text(self) -> tuple[int, ...]:
        return (*self.book.before(self.question.position), *self.cue)

    @cached_property
    def _recalled(self) -> Sequence[str]:
        """The recalled passages; the book is indexed once per question."""
        assert self.full.memory.recall is not None
        return self.full.memory.recall(self._text, (), "")


def cloze_tokens(
    encode: Encode, cue: str, options: Sequence[str]
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """The tokens of a cue, and those of each option after it.

    They are encoded together, because some tokenizers join characters across the blank between them.
    """
    whole = [tuple(encode(f"{cue} {option}")) for option in options]
    columns = zip(encode(cue), *whole, strict=False)
    shared = tuple(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns))
    return shared, [ids[len(shared) :] for ids in whole]


def log_likelihoods(module: Any, prompt: Sequence[int], options: Sequence[Sequence[int]]) -> list[float]:
    """The log-likelihood of each option after `prompt`, in nats. The prompt is computed once."""
    with torch.no_grad():
        logits, cache = logits_at(module, prompt, [len(prompt) - 1], use_cache=True)
        first = logits[0].float().log_softmax(-1)
        return [_log_likelihood(module, prompt, option, first, cache) for option in options]


def _log_likelihood(
    module: Any, prompt: Sequence[int], option: Sequence[int], first: torch.Tensor, cache: Any
) -> float:
    """`first` are the log-probabilities of the token after the prompt, and `cache` is that of the prompt."""
    if len(option) > 1 and cache is None:  # the model caches nothing
        return -float(chunk_nll(module, prompt, option).sum())
    likelihood = float(first[option[0]])
    if len(option) > 1:
        positions = range(len(option) - 1)
        copied = deepcopy(cache)  # not every kind of cache can be cut back
        logits, _ = logits_at(module, option[:-1], positions, cache=copied, use_cache=True, start=len(prompt))
        targets = torch.tensor([option[1:]], device=logits.device).T
        likelihood += float(logits.float().log_softmax(-1).gather(1, targets).sum())
    return likelihood


def full_answers(questions: Sequence[Question], answers: Mapping[int, Answers]) -> list[dict[str, Any]]:
    """The questions with their answers, as JSON objects: one line each in the file of `--out`."""
    lines = []
    for number, question in enumerate(questions):
        fact = {key: value for key, value in asdict(question.fact).items() if key != "entry"}
        values = {key: value for key, value in asdict(question).items() if key != "fact"}
        lines.append({**values, **fact, "right": question.right, **answers[number]})
    return lines


def groups_per_file(questions: int, distances: int, files: int) -> list[int]:
    """How many groups of facts each file has, so that there are at least `questions` questions."""
    groups = max(files, -(-questions // (GROUP * distances)))
    return [groups // files + (number < groups % files) for number in range(files)]
