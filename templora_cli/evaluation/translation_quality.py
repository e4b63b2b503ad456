"""Quality of translations with and without learning, with the paper's protocol on GuoFeng (section 4.3).

Runs of paragraphs are translated one after the other. Before a run is learnt, each of its paragraphs is
translated greedily under the base and under base + adapter, with the same number of pairs in the prompt, and
the reference is scored with teacher forcing. Then the reference, or the adapter's translation, is learnt.
"""

from __future__ import annotations

import math
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from templora_cli.config import DecodeConfig
from templora_cli.documents.aligned_text import AlignedPair
from templora_cli.engine.decoding.protocols import Backend
from templora_cli.engine.decoding.sampling import sampler_for
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.errors import TemploraError
from templora_cli.languages import Language
from templora_cli.translation.pair_format import PairFormat, Tokens

SIDES = ("base", "adapter")
MIN_PARAGRAPHS = 10
"""Minimum number of paragraphs for a significance test."""

GREEDY = DecodeConfig(temperature=0.0, repetition_penalty=1.0)

CHINESE = dict.fromkeys(("zh", "cmn", "yue", "wuu", "lzh"), "zh")
TOKENIZERS = {**CHINESE, "ja": "ja-mecab", "ko": "ko-mecab"}
"""sacrebleu's tokenizers by language; other languages with spaces use its default, 13a."""
WITHOUT_TOKENIZER = ("th", "lo", "km", "my", "bo", "dz")
"""Languages without spaces for which sacrebleu has no tokenizer."""


class TranslationProbe:
    """Translates and scores runs under base and adapter as they are now, without changing them."""

    def __init__(
        self,
        model: AdaptedModel,
        backend: Backend,
        pair_format: PairFormat,
        runs: Sequence[Sequence[AlignedPair]],
        *,
        context_pairs: int,
        from_output: bool,
        banned: Sequence[int],
        translate: bool = True,
    ) -> None:
        """With `from_output`, the pairs in a prompt have the model's translations, not the references.

        Without `translate`, the references are only scored.
        """
        self.model, self.backend, self.format, self.runs = model, backend, pair_format, runs
        self.context_pairs = context_pairs
        self.from_output, self.translate = from_output, translate
        self.stop_tokens = {*pair_format.stop_tokens, *banned} if translate else set()
        self.sides = SIDES if model.adapter else SIDES[:1]

    def measure(self, index: int, earlier: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
        """Measure run `index`. `earlier` are the results of this method for the runs before it.

        Returns for each side lists with an item per pair: "outputs" (texts), "nll" (total of the reference,
        nats) and "tokens" (of the reference).
        """
        results: dict[str, Any] = {}
        for side in self.sides:
            if side == "adapter" and index == 0:  # nothing is learnt yet, so both sides are equal
                results[side] = results["base"]
                continue
            disable_adapter = side == "base" and self.model.adapter
            with self.model.without_adapter() if disable_adapter else nullcontext():
                self.backend.adapter_changed()
                results[side] = self._measure_side(side, index, earlier)
        return results

    def _measure_side(
        self, side: str, index: int, earlier: Mapping[int, Mapping[str, Any]]
    ) -> dict[str, Any]:
        run = self.runs[index]
        context = [pair for number in range(index) for pair in self._context_run(side, number, earlier)]
        self.model.module.eval()
        outputs: list[str] = []
        nlls: list[float] = []
        for pair in run:
            prompt = self._prompt(context, pair)
            nlls.append(self._nll(prompt, pair))
            if self.translate:
                outputs.append(self._translate(prompt, pair))
            context.append(AlignedPair(pair.source, outputs[-1]) if self.from_output else pair)
        tokens = [len(self.format.target_tokens(pair.target)) for pair in run]
        return {"outputs": outputs, "nll": nlls, "tokens": tokens}

    def _context_run(
        self, side: str, index: int, earlier: Mapping[int, Mapping[str, Any]]
    ) -> list[AlignedPair]:
        run = self.runs[index]
        return _as_pairs(run, earlier[index][side]["outputs"]) if self.from_output else list(run)

    def _prompt(self, context: Sequence[AlignedPair], pair: AlignedPair) -> Tokens:
        last_pairs = self.format.pair_tokens(context[max(0, len(context) - self.context_pairs) :])
        return self.format.header + last_pairs + self.format.source_tokens(pair.source)

    def _nll(self, prompt: Tokens, pair: AlignedPair) -> float:
        with torch.no_grad():
            return chunk_nll(self.model.module, prompt, self.format.target_tokens(pair.target)).sum().item()

    def _translate(self, prompt: Tokens, pair: AlignedPair) -> str:
        # A translation of more than twice the source's length is not going to end.
        max_tokens = 2 * len(self.format.source_tokens(pair.source)) + 32
        sampler = sampler_for(GREEDY, torch.Generator(self.model.device), banned=())

        def has_ended(tokens: Sequence[int]) -> bool:
            return bool(tokens) and tokens[-1] in self.stop_tokens

        tokens = self.backend.decode(prompt, sampler=sampler, max_tokens=max_tokens, stop=has_ended)
        return self.format.target_text([token.id for token in tokens])


def _as_pairs(run: Sequence[AlignedPair], targets: Iterable[str]) -> list[AlignedPair]:
    return [AlignedPair(pair.source, target) for pair, target in zip(run, targets, strict=True)]


@dataclass(frozen=True)
class ScoredPair:
    """A paragraph with its translations, and the NLL of its reference."""

    depth: int
    """Tokens of the references before it."""
    pair: AlignedPair
    tokens: int
    """Tokens of its reference."""
    nll: dict[str, float]
    """Total NLL of its reference by side, nats."""
    outputs: dict[str, str]
    """Translations by side; empty if nothing was translated."""


def scored_pairs(
    runs: Sequence[Sequence[AlignedPair]], measured: Mapping[int, Mapping[str, Any]]
) -> list[ScoredPair]:
    """The pairs of the `measured` runs (results of `TranslationProbe.measure` by index), in order."""
    pairs: list[ScoredPair] = []
    depth = 0
    for index in sorted(measured):
        sides = measured[index]
        for position, pair in enumerate(runs[index]):
            tokens = sides["base"]["tokens"][position]
            nll = {side: sides[side]["nll"][position] for side in sides}
            outputs = {side: sides[side]["outputs"][position] for side in sides if sides[side]["outputs"]}
            pairs.append(ScoredPair(depth, pair, tokens, nll, outputs))
            depth += tokens
    return pairs


@dataclass(frozen=True)
class Interval:
    """A value with the half-width of its 95 % bootstrap interval."""

    value: float
    half_width: float


@dataclass(frozen=True)
class QualityRow:
    """One side in one range of depth."""

    depth: str
    side: str
    pairs: int
    tokens: int
    ppl: float
    """Perplexity of the references: exp of the mean NLL of their tokens."""
    bleu: Interval | None
    chrf: Interval | None
    p: float | None
    """p-value of the difference in BLEU to the base (paired bootstrap). None for the base, which is the first
    side, and for fewer than `MIN_PARAGRAPHS` paragraphs."""


def table(
    pairs: Sequence[ScoredPair], target: Language, *, step: int, bleu: bool = True, samples: int = 1000
) -> list[QualityRow]:
    """A row for each side in each range of `step` tokens of depth, and for each side over all pairs.

    Raises TemploraError as `metrics_for` does.
    """
    groups: dict[int, list[ScoredPair]] = {}
    for pair in pairs:
        groups.setdefault(pair.depth // step, []).append(pair)
    named = [(f"{n * step:,}-{(n + 1) * step:,}", group) for n, group in sorted(groups.items())]
    rows: list[QualityRow] = []
    for depth, group in [*named, ("all", list(pairs))]:
        rows += _rows(depth, group, target, bleu=bleu, samples=samples)
    return rows


def _rows(
    depth: str, group: Sequence[ScoredPair], target: Language, *, bleu: bool, samples: int
) -> list[QualityRow]:
    from sacrebleu.significance import PairedTest

    sides = list(group[0].nll)
    tokens = sum(pair.tokens for pair in group)
    scores: dict[str, Any] = {}
    if group[0].outputs:
        systems = [(side, [pair.outputs[side] for pair in group]) for side in sides]
        metrics = metrics_for(target, [scored.pair.target for scored in group], bleu=bleu)
        _, scores = PairedTest(systems, metrics, None, test_type="bs", n_samples=samples)()
    rows = []
    for index, side in enumerate(sides):
        results: dict[str, Any] = {name: scores[name][index] for name in ("BLEU", "chrF2") if name in scores}
        intervals = {
            name: Interval(float(result.score), float(result.ci)) for name, result in results.items()
        }
        rows.append(
            QualityRow(
                depth,
                side,
                len(group),
                tokens,
                math.exp(math.fsum(pair.nll[side] for pair in group) / tokens),
                intervals.get("BLEU"),
                intervals.get("chrF2"),
                _p_value(group, side, sides[0], results) if index else None,
            )
        )
    return rows


def _p_value(
    group: Sequence[ScoredPair], side: str, baseline: str, results: Mapping[str, Any]
) -> float | None:
    if "BLEU" not in results or len(group) < MIN_PARAGRAPHS:
        return None
    # sacrebleu counts differences above the observed one; if that is 0 there are none, and p would be wrong.
    are_equal = all(pair.outputs[side] == pair.outputs[baseline] for pair in group)
    return 1.0 if are_equal else float(results["BLEU"].p_value)


def metrics_for(target: Language, references: Sequence[str], *, bleu: bool = True) -> dict[str, Any]:
    """sacrebleu's metrics for the language `target`, by name.

    Raises TemploraError if sacrebleu is not installed, or has no tokenizer for the language.
    """
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError:
        raise TemploraError(
            "BLEU and chrF need sacrebleu, which is not installed", "pip install 'templora[bleu]'"
        ) from None
    metrics: dict[str, Any] = {"chrF2": CHRF(references=[list(references)])}
    if not bleu:
        return metrics
    if target.base in WITHOUT_TOKENIZER:
        raise TemploraError(f"sacrebleu has no tokenizer for {target.name}, so there is no BLEU", "--no-bleu")
    try:
        tokenize = TOKENIZERS.get(target.base, "13a")
        return {"BLEU": BLEU(tokenize=tokenize, references=[list(references)]), **metrics}
    except (ImportError, RuntimeError):
        raise TemploraError(
            f"BLEU for {target.name} needs a tokenizer that is not installed",
            f"pip install 'sacrebleu[{target.base}]', or --no-bleu",
        ) from None


def comet_scores(command: str, pairs: Sequence[ScoredPair]) -> dict[str, float]:
    """COMET scores by side, from `command`, a `comet-score` program.

    Raises TemploraError if it cannot be run, or fails.
    """
    sides = list(pairs[0].outputs)
    hint = "correct that, and run the command again; saved translations are used"
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "source": [scored.pair.source for scored in pairs],
            "ref": [scored.pair.target for scored in pairs],
            **{side: [scored.outputs[side] for scored in pairs] for side in sides},
        }
        paths = {name: Path(folder) / name for name in files}
        for name, lines in files.items():
            # A text must be one line for any reader, so all kinds of line breaks become spaces.
            joined = (" ".join(line.splitlines()) for line in lines)
            paths[name].write_text("".join(f"{line}\n" for line in joined), "utf-8")
        outputs = [str(paths[side]) for side in sides]
        arguments = ["-s", str(paths["source"]), "-t", *outputs, "-r", str(paths["ref"])]
        try:
            done = subprocess.run(
                [command, *arguments, "--quiet", "--only_system"], capture_output=True, text=True, check=True
            )
        except OSError:
            raise TemploraError(f"COMET: {command} cannot be run", hint) from None
        except subprocess.CalledProcessError as error:
            reason = (error.stderr.strip().splitlines() or ["no error message"])[-1]
            raise TemploraError(f"COMET: {command} failed: {reason}", hint) from None
    scores = [line.rsplit("score:", 1)[1] for line in done.stdout.splitlines() if "score:" in line]
    if len(scores) != len(sides):
        raise TemploraError(f"COMET: {command} printed {len(scores)} of {len(sides)} scores", hint)
    return {side: float(score) for side, score in zip(sides, scores, strict=True)}
