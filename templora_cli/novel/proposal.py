"""Plans that a model proposes: a title, then one chapter after another, each in view of those before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from templora_cli.candidates import decode_with
from templora_cli.chat import as_plain_words, chat_ids
from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.novel.plan import Plan, PlannedChapter, same_text
from templora_cli.novel.plan_answer import Unusable, chapter_of, title_of
from templora_cli.novel.plan_markdown import clean
from templora_cli.prompt import Prompt, Section, build_prompt, max_header_tokens
from templora_cli.prompt_files import PromptFile, load_prompts
from templora_cli.sessions.new import SHORTER_PROMPTS, HeaderPart, NewSession
from templora_cli.state import seeded_generator
from templora_cli.text import count_words, decode

if TYPE_CHECKING:
    from templora_cli.engine.decoding.protocols import Backend
    from templora_cli.engine.models.loading import LanguageModel

PROMPTS = "plan"
ATTEMPTS = 4
"""The maximum number of answers to a question."""
ANSWER_TOKENS = 256
"""The maximum number of tokens of an answer."""
RETRY_TEMPERATURE = 0.7
"""The minimum temperature after the first answer: greedy decoding would repeat it."""
EXAMPLE = "# The Title / ## The First Chapter / What happens in it."
NO_CHAT = f"use a --model that follows instructions, or write the plan by hand in three lines: {EXAMPLE}"

T = TypeVar("T")


def propose(
    premise: str,
    chapters: int,
    model: LanguageModel,
    backend: Backend,
    config: Config,
    *,
    seed: int,
    notify: Callable[[str], None] = lambda message: None,
) -> Iterator[Plan]:
    """Yield the plan with its title, then after each chapter that was added to it.

    The plan follows from the arguments: another `seed` gives another plan. `notify` gets a message where a
    prompt lacks chapters that did not fit into `decode.context_tokens`.

    Raises TemploraError for a model without a chat template, and if `ATTEMPTS` answers in a row are not
    usable.
    """
    require_chat(model.tokenizer, config.model.name)
    questions = Questions(model.tokenizer, load_prompts(PROMPTS, config.prompts), premise, chapters, config)
    answerer = _Answerer(model, backend, config, seed)
    title = answerer.first_usable("the title", questions.title(), title_of)
    lines = [line for line in map(clean, premise.splitlines()) if line]
    plan = Plan(title, "", "", "", "", "", (), "\n".join(lines))
    yield plan
    for number in range(1, chapters + 1):
        prompt = questions.chapter(plan)
        if prompt.dropped:
            notify(_left_out(number, prompt.dropped[0].items - prompt.dropped[0].shown))
        existing = plan.chapters

        def planned(answer: str, number: int = number, existing: Sequence[PlannedChapter] = existing) -> Any:
            return _new_chapter(chapter_of(answer, number), existing)

        chapter = answerer.first_usable(f"chapter {number}", prompt, planned)
        plan = replace(plan, chapters=(*existing, chapter))
        yield plan


def _left_out(number: int, dropped: int) -> str:
    missing = "chapter 1" if dropped == 1 else f"chapters 1 to {dropped}"
    return f"chapter {number} was planned without {missing} in view: --context-tokens is too small"


def require_chat(tokenizer: Any, name: str) -> None:
    """Raise TemploraError if a model has no chat template."""
    if not tokenizer.chat_template:
        raise TemploraError(
            f"{name} is a base model: it continues text and cannot be asked for a plan", NO_CHAT
        )


def _new_chapter(chapter: PlannedChapter, existing: Sequence[PlannedChapter]) -> PlannedChapter:
    """`chapter`. Raises Unusable if there is one with the same title or summary already."""
    for number, other in enumerate(existing, 1):
        for name in ("title", "summary"):
            if same_text(getattr(chapter, name), getattr(other, name)):
                raise Unusable(f"its {name} was that of chapter {number}")
    return chapter


@dataclass(frozen=True)
class _Answerer:
    """Gets answers from a model."""

    model: LanguageModel
    backend: Backend
    config: Config
    seed: int

    def first_usable(self, label: str, prompt: Prompt, read: Callable[[str], T]) -> T:
        """The first of at most `ATTEMPTS` answers that `read` can read. Raises TemploraError."""
        reason = ""
        for attempt in range(ATTEMPTS):
            try:
                return read(self._answer(label, prompt, attempt))
            except Unusable as fault:
                reason = str(fault)
        raise TemploraError(
            f"the model gave no usable answer for {label} in {ATTEMPTS} attempts; in the last, {reason}",
            "try another --seed or a larger --model, or write the plan by hand",
        )

    def _answer(self, label: str, prompt: Prompt, attempt: int) -> str:
        """The text of an answer, to its end or to `ANSWER_TOKENS`."""
        model, sampling = self.model, self.config.decode
        temperature = max(sampling.temperature, RETRY_TEMPERATURE) if attempt else sampling.temperature
        generator = seeded_generator(model.device, self.seed, "plan", label, attempt)
        self.backend.reset()
        stop_tokens = frozenset(model.banned_tokens)
        decode_answer = decode_with(prompt, model, self.backend, generator, self.config)
        tokens = list(
            decode_answer((), max_tokens=ANSWER_TOKENS, stop_tokens=stop_tokens, temperature=temperature)
        )
        return decode(model.tokenizer, tokens)


@dataclass(frozen=True)
class Questions:
    """Builds the prompts: one for the title, one for each chapter."""

    tokenizer: Any
    texts: PromptFile
    premise: str
    chapters: int
    config: Config

    def title(self) -> Prompt:
        """The prompt that asks for the title."""
        return build_prompt((self._premise(),), self._layout("title"), ())

    def chapter(self, plan: Plan) -> Prompt:
        """The prompt that asks for the chapter after those of `plan`. Of many, it has the last ones."""
        number = len(plan.chapters) + 1
        lines = [
            self._text("before", "line", number=f"{index}", title=chapter.title, summary=chapter.summary)
            for index, chapter in enumerate(plan.chapters, 1)
        ]
        before = Section("chapters before", tuple(reversed(lines)), self.config.decode.context_tokens)
        return build_prompt((self._premise(), before), self._layout("chapter", number, plan.title), ())

    @property
    def max_tokens(self) -> int:
        """The maximum number of tokens of a prompt."""
        before = Section("chapters before", ("",), self.config.decode.context_tokens)
        layout = self._layout("chapter", self.chapters, "title " * 40)
        return max_header_tokens((self._premise(), before), layout)

    def _premise(self) -> Section:
        return Section("premise", (as_plain_words(self.tokenizer, self.premise),))

    def _layout(
        self, key: str, number: int = 0, title: str = ""
    ) -> Callable[[Mapping[str, Sequence[str]]], tuple[int, ...]]:
        def layout(items: Mapping[str, Sequence[str]]) -> tuple[int, ...]:
            lines = "\n".join(reversed(items.get("chapters before", ())))
            values = {
                "premise": items["premise"][0],
                "title": title,
                "number": f"{number}",
                "chapters": f"{self.chapters}",
                "before": self._text("before", "chapters", lines=lines) if lines else "",
                "position": self._text("position", self._position(number)).strip(),
            }
            system = self.texts.text("chat", "system").strip()
            question = chat_ids(self.tokenizer, system, self._text("chat", key, **values).strip())
            if not number:
                return question
            answer = self._text("chat", "answer", number=f"{number}").strip()
            return (*question, *self.tokenizer.encode(answer, add_special_tokens=False))

        return layout

    def _text(self, table: str, key: str, **values: str) -> str:
        plain = {name: as_plain_words(self.tokenizer, value) for name, value in values.items()}
        return self.texts.text(table, key, **plain).removeprefix("\n")

    def _position(self, number: int) -> str:
        if self.chapters == 1:
            return "only"
        return "first" if number <= 1 else "last" if number == self.chapters else "middle"


@dataclass(frozen=True)
class ProposalRequest:
    """A request that `prepare.prepare` loads a model for; no session is created."""

    premise: str
    chapters: int
    kind: str = "novel"

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """See `Request.new_session`. Raises TemploraError for a model without a chat template."""
        require_chat(tokenizer, config.model.name)
        texts = load_prompts(PROMPTS, config.prompts)
        questions = Questions(tokenizer, texts, self.premise, self.chapters, config)
        tokens = len(tokenizer.encode(self.premise, add_special_tokens=False))
        # The chapters before are part of the header, and nothing is learnt.
        return NewSession(
            self.kind,
            replace(
                config,
                train=replace(config.train, learn=False),
                decode=replace(config.decode, context_tokens=0),
            ),
            named_after=self.premise,
            goal=(self.chapters, "chunks"),
            header_tokens=questions.max_tokens,
            header_parts=(HeaderPart("the premise", tokens, count_words(self.premise), SHORTER_PROMPTS),),
            prompts=(texts,),
            chunk_tokens=ANSWER_TOKENS,
            hint="use --quantize nf4 or a smaller --model",
            window_hint="shorten the premise, or choose a --model with a larger window",
        )
