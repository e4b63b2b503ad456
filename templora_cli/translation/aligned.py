"""Aligned text as a kind of task: runs of pairs whose targets are learnt (`eval translate`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from templora_cli.config import Config
from templora_cli.documents.aligned_text import AlignedPair
from templora_cli.events import Origin, Unit
from templora_cli.prompt import Prompt
from templora_cli.prompt_files import PromptFile, load_prompts
from templora_cli.sessions.kind import TaskKind
from templora_cli.sessions.new import NewSession
from templora_cli.sessions.store import Session
from templora_cli.text import TextStream, decode
from templora_cli.translation.languages import Language, language
from templora_cli.translation.pair_format import PairFormat, Tokens, pair_format
from templora_cli.turn import Given

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel

PROMPTS = "translation"
MEASURED = "measured.json"
"""The file of a session that holds what was measured of each run, translations among it."""
LearnFrom = Literal["reference", "output"]


@dataclass(frozen=True)
class PairsTask:
    """Runs of pairs, each a chunk whose source is shown and whose target is learnt.

    Implements `turn.Task`.
    """

    format: PairFormat
    runs: Sequence[Sequence[AlignedPair]]
    """The pairs of the file; those targets are learnt unless `targets` says otherwise."""
    context_pairs: int
    """Pairs before a run that training shows."""
    origin: Origin
    targets: Callable[[int], Sequence[str]]
    """The targets to learn of a run, by its index; asked when the run's turn comes."""
    _lengths: dict[int, int] = field(default_factory=dict)
    """Tokens of the runs that were read."""

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Given | None:
        """The run that follows the runs in `book`."""
        read = 0
        for index in range(len(self.runs)):
            if read == len(book):
                return self._turn(self.format.pair_tokens(self._before(index)), self._learnt(index))
            if index not in self._lengths:
                self._lengths[index] = len(self.format.pair_tokens(self._learnt(index)))
            read += self._lengths[index]
        return None

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Given:
        """See `turn.Task`: what a run brings does not change."""
        turn = self.next_turn(book, records)
        assert turn is not None
        return turn

    def _before(self, index: int) -> list[AlignedPair]:
        """The last `context_pairs` pairs before run `index`."""
        pairs: list[AlignedPair] = []
        while index > 0 and len(pairs) < self.context_pairs:
            index -= 1
            pairs = self._learnt(index) + pairs
        return pairs[max(0, len(pairs) - self.context_pairs) :]

    def _learnt(self, index: int) -> list[AlignedPair]:
        sources = (pair.source for pair in self.runs[index])
        return [AlignedPair(*pair) for pair in zip(sources, self.targets(index), strict=True)]

    def _turn(self, context: Tokens, run: Sequence[AlignedPair]) -> Given:
        human: list[int] = []
        mask: list[bool] = []
        for pair in run:
            shown, said, learnt = self.format.training_example(pair)
            human += shown + said
            mask += [False] * len(shown) + learnt
        return Given(Prompt(self.format.header, context), tuple(human), self.origin, tuple(mask))

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return TextStream(lambda tokens: decode(self.format.tokenizer, tokens), book).push


@dataclass(frozen=True)
class PairSizes:
    """Of runs of pairs, in tokens."""

    run: int
    """The longest one."""
    mean: int
    """Of a run: what a screen shows as a chunk."""
    context: int
    """The longest context before a run."""
    all: int

    @classmethod
    def of(cls, form: PairFormat, runs: Sequence[Sequence[AlignedPair]], context_pairs: int) -> PairSizes:
        """Measure them."""
        sizes = [[len(form.pair_tokens([pair])) for pair in run] for run in runs]
        flat = [size for run in sizes for size in run]
        begins = [sum(map(len, sizes[:index])) for index in range(len(sizes))]
        contexts = [sum(flat[max(0, begin - context_pairs) : begin]) for begin in begins]
        mean = max(8, -(-sum(flat) // len(sizes)))
        return cls(max(map(sum, sizes)), mean, max(contexts), sum(flat))


@dataclass(frozen=True)
class PairsRequest:
    """Aligned text whose runs are learnt one after the other."""

    runs: Sequence[Sequence[AlignedPair]]
    languages: tuple[Language, Language]
    name: str
    """What the session is named after."""
    measured_by: str
    context_pairs: int = 3
    learn_from: LearnFrom = "reference"
    limit_tokens: int | None = None
    """End after the run in which the references reach this many tokens."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    """What else the figures hang on."""
    kind: str = "pairs"

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """See `Request.new_session`. Chunk and context of the settings become those of the runs."""
        texts = load_prompts(PROMPTS, config.prompts)
        form = pair_format(tokenizer, texts, *self.languages)
        runs = limited(self.runs, form, self.limit_tokens)
        sizes = PairSizes.of(form, runs, self.context_pairs)
        decode = replace(config.decode, chunk_tokens=sizes.mean, context_tokens=sizes.context)
        teacher = min(config.human.teacher_context_tokens, sizes.all)
        human = replace(config.human, teacher_context_tokens=teacher)
        generated = replace(
            config.generated, teacher_context_tokens=min(config.generated.teacher_context_tokens, sizes.all)
        )
        request = {
            **self.asked,
            "context_pairs": self.context_pairs,
            "learn_from": self.learn_from,
            "limit_tokens": self.limit_tokens,
            "languages": [one.code for one in self.languages],
        }
        listed = [[asdict(pair) for pair in run] for run in runs]
        return NewSession(
            self.kind,
            replace(config, decode=decode, human=human, generated=generated),
            named_after=f"eval {self.name}",
            goal=(sum(len(form.pair_tokens(run)) for run in runs), "tokens"),
            header_tokens=len(form.header),
            request=request,
            prompts=(texts,),
            source=json.dumps({"runs": listed}, ensure_ascii=False, indent=1),
            measured_by=self.measured_by,
            chunk_tokens=sizes.run,
            hint="shorter runs (--run-pairs), --quantize nf4, or a smaller --model",
            window_hint="a smaller --context-pairs, or shorter runs (--run-pairs)",
        )


def limited(
    runs: Sequence[Sequence[AlignedPair]], form: PairFormat, limit: int | None
) -> list[Sequence[AlignedPair]]:
    """The first runs, to the one in which the references reach `limit` tokens."""
    kept: list[Sequence[AlignedPair]] = []
    tokens = 0
    for run in runs:
        if limit is not None and tokens >= limit:
            break
        kept.append(run)
        tokens += sum(len(form.target_tokens(pair.target)) for pair in run)
    return kept


class Pairs(TaskKind):
    """Aligned text that is translated, measured and learnt run by run."""

    units: tuple[Unit, ...] = ("tokens",)
    asked = frozenset(("languages", "context_pairs", "learn_from"))
    prompts = frozenset((PROMPTS,))

    def __init__(self, name: str = "pairs") -> None:
        self.name = name

    def task(self, session: Session, model: LanguageModel, config: Config) -> PairsTask:
        """See `TaskKind.task`. What is learnt of its own output was measured before it is asked for."""
        asked = session.manifest.request
        texts = PromptFile(PROMPTS, session.manifest.prompts[PROMPTS], "")
        form = pair_format(model.tokenizer, texts, *map(language, asked["languages"]))
        listed = json.loads(session.source())["runs"]
        runs = [[AlignedPair(**pair) for pair in run] for run in listed]

        def outputs(index: int) -> Sequence[str]:
            measured = json.loads((session.path / MEASURED).read_text("utf-8"))
            said: list[str] = measured[str(index)]["adapter" if model.adapter else "base"]["outputs"]
            return said

        def references(index: int) -> Sequence[str]:
            return [pair.target for pair in runs[index]]

        if asked["learn_from"] == "output":
            return PairsTask(form, runs, asked["context_pairs"], "generated", outputs)
        return PairsTask(form, runs, asked["context_pairs"], "human", references)
