"""Aligned text as a task kind: runs of pairs whose targets are learnt (`eval translate`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from templora_cli.config import Config
from templora_cli.documents.aligned_text import AlignedPair
from templora_cli.events import Origin, Unit
from templora_cli.languages import Language, language
from templora_cli.prompt import Prompt
from templora_cli.prompt_files import PromptFile, load_prompts
from templora_cli.sessions.kind import TaskKind
from templora_cli.sessions.new import NewSession
from templora_cli.sessions.store import Session
from templora_cli.text import TextStream, decode
from templora_cli.translation.pair_format import PairFormat, Tokens, choose_pair_format
from templora_cli.turn import Given

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel

PROMPTS = "translation"
MEASURED = "measured.json"
"""The file of a session with the measurements of each run, including its translations."""
LearnFrom = Literal["reference", "output"]


@dataclass(frozen=True)
class PairsTask:
    """Runs of pairs. Each run is a chunk whose targets are learnt. Implements `turn.Task`."""

    format: PairFormat
    runs: Sequence[Sequence[AlignedPair]]
    """The pairs of the file."""
    context_pairs: int
    """Number of pairs before a run that are in its prompt."""
    origin: Origin
    targets: Callable[[int], Sequence[str]]
    """Returns the targets to learn of a run, by its index. It is called when it is the turn of the run."""
    _run_tokens: dict[int, int] = field(default_factory=dict)
    """Number of tokens of earlier runs, by index."""

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Given | None:
        """The run after those in `book`."""
        tokens = 0
        for index in range(len(self.runs)):
            if tokens == len(book):
                return self._turn(self.format.pair_tokens(self._pairs_before(index)), self._learnt(index))
            if index not in self._run_tokens:
                self._run_tokens[index] = len(self.format.pair_tokens(self._learnt(index)))
            tokens += self._run_tokens[index]
        return None

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Given:
        """See `turn.Task`. The content of a run never changes."""
        turn = self.next_turn(book, records)
        assert turn is not None
        return turn

    def _pairs_before(self, index: int) -> list[AlignedPair]:
        """The last `context_pairs` pairs before run `index`."""
        pairs: list[AlignedPair] = []
        while index > 0 and len(pairs) < self.context_pairs:
            index -= 1
            pairs = self._learnt(index) + pairs
        return pairs[max(0, len(pairs) - self.context_pairs) :]

    def _learnt(self, index: int) -> list[AlignedPair]:
        """The pairs of run `index` with the targets to learn."""
        sources = (pair.source for pair in self.runs[index])
        return [AlignedPair(*pair) for pair in zip(sources, self.targets(index), strict=True)]

    def _turn(self, context: Tokens, run: Sequence[AlignedPair]) -> Given:
        tokens: list[int] = []
        mask: list[bool] = []
        for pair in run:
            source, target, target_mask = self.format.training_example(pair)
            tokens += source + target
            mask += [False] * len(source) + target_mask
        return Given(Prompt(self.format.header, context), tuple(tokens), self.origin, tuple(mask))

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return TextStream(lambda tokens: decode(self.format.tokenizer, tokens), book).push


@dataclass(frozen=True)
class PairSizes:
    """Sizes of runs of pairs, in tokens."""

    max_run: int
    mean_run: int
    max_context: int
    total: int

    @classmethod
    def of(
        cls, pair_format: PairFormat, runs: Sequence[Sequence[AlignedPair]], context_pairs: int
    ) -> PairSizes:
        """The sizes of `runs`."""
        sizes = [[len(pair_format.pair_tokens([pair])) for pair in run] for run in runs]
        flat = [size for run in sizes for size in run]
        starts = [sum(map(len, sizes[:index])) for index in range(len(sizes))]
        contexts = [sum(flat[max(0, start - context_pairs) : start]) for start in starts]
        mean = max(8, -(-sum(flat) // len(sizes)))
        return cls(max(map(sum, sizes)), mean, max(contexts), sum(flat))


@dataclass(frozen=True)
class PairsRequest:
    """Aligned text whose runs are learnt one after the other."""

    runs: Sequence[Sequence[AlignedPair]]
    languages: tuple[Language, Language]
    name: str
    """The base of the session's name."""
    measured_by: str
    context_pairs: int = 3
    learn_from: LearnFrom = "reference"
    limit_tokens: int | None = None
    """End after the run in which the references reach this number of tokens."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Other options that change the results."""
    kind: str = "pairs"

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """See `Request.new_session`. The sizes of the runs replace chunk and context of the settings."""
        prompt_file = load_prompts(PROMPTS, config.prompts)
        pair_format = choose_pair_format(tokenizer, prompt_file, *self.languages)
        runs = limit_runs(self.runs, pair_format, self.limit_tokens)
        sizes = PairSizes.of(pair_format, runs, self.context_pairs)
        decode = replace(config.decode, chunk_tokens=sizes.mean_run, context_tokens=sizes.max_context)
        teacher = min(config.human.teacher_context_tokens, sizes.total)
        human = replace(config.human, teacher_context_tokens=teacher)
        teacher = min(config.generated.teacher_context_tokens, sizes.total)
        generated = replace(config.generated, teacher_context_tokens=teacher)
        request = {
            **self.options,
            "context_pairs": self.context_pairs,
            "learn_from": self.learn_from,
            "limit_tokens": self.limit_tokens,
            "languages": [language.code for language in self.languages],
        }
        source_runs = [[asdict(pair) for pair in run] for run in runs]
        return NewSession(
            self.kind,
            replace(config, decode=decode, human=human, generated=generated),
            named_after=f"eval {self.name}",
            goal=(sum(len(pair_format.pair_tokens(run)) for run in runs), "tokens"),
            header_tokens=len(pair_format.header),
            request=request,
            prompts=(prompt_file,),
            source=json.dumps({"runs": source_runs}, ensure_ascii=False, indent=1),
            measured_by=self.measured_by,
            chunk_tokens=sizes.max_run,
            hint="shorter runs (--run-pairs), --quantize nf4, or a smaller --model",
            window_hint="a smaller --context-pairs, or shorter runs (--run-pairs)",
        )


def limit_runs(
    runs: Sequence[Sequence[AlignedPair]], pair_format: PairFormat, limit_tokens: int | None
) -> list[Sequence[AlignedPair]]:
    """The first runs, up to the one in which the references reach `limit_tokens`; all if it is None."""
    selected: list[Sequence[AlignedPair]] = []
    tokens = 0
    for run in runs:
        if limit_tokens is not None and tokens >= limit_tokens:
            break
        selected.append(run)
        tokens += sum(len(pair_format.target_tokens(pair.target)) for pair in run)
    return selected


class Pairs(TaskKind):
    """The task kind of aligned text that is translated, measured and learnt run by run."""

    units: tuple[Unit, ...] = ("tokens",)
    request_keys = frozenset(("languages", "context_pairs", "learn_from"))
    prompts = frozenset((PROMPTS,))

    def __init__(self, name: str = "pairs") -> None:
        self.name = name

    def task(self, session: Session, model: LanguageModel, config: Config) -> PairsTask:
        """See `TaskKind.task`. Outputs to learn must be in `MEASURED` before it is the turn of their run."""
        request = session.manifest.request
        prompt_file = PromptFile(PROMPTS, session.manifest.prompts[PROMPTS], "")
        languages = map(language, request["languages"])
        pair_format = choose_pair_format(model.tokenizer, prompt_file, *languages)
        source_runs = json.loads(session.source())["runs"]
        runs = [[AlignedPair(**pair) for pair in run] for run in source_runs]

        def outputs(index: int) -> Sequence[str]:
            measured = json.loads((session.path / MEASURED).read_text("utf-8"))
            translations: list[str] = measured[str(index)]["adapter" if model.adapter else "base"]["outputs"]
            return translations

        def references(index: int) -> Sequence[str]:
            return [pair.target for pair in runs[index]]

        if request["learn_from"] == "output":
            return PairsTask(pair_format, runs, request["context_pairs"], "generated", outputs)
        return PairsTask(pair_format, runs, request["context_pairs"], "human", references)
