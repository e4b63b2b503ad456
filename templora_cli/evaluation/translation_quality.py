"""Translation with and without learning, after the paper's protocol on GuoFeng (section 4.3).

Runs of paragraphs are translated one after the other. Before a run is learnt, each of its paragraphs is
translated greedily under the base and under the adapter, with the same number of pairs before it, and the
reference is scored teacher-forced. What is learnt then is the reference, or what the adapter said.
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
from templora_cli.translation.languages import Language
from templora_cli.translation.pair_format import PairFormat, Tokens

SIDES = ("base", "adapter")
MIN_PARAGRAPHS = 10

GREEDY = DecodeConfig(temperature=0.0, repetition_penalty=1.0)

CHINESE = dict.fromkeys(("zh", "cmn", "yue", "wuu", "lzh"), "zh")
TOKENIZERS = {**CHINESE, "ja": "ja-mecab", "ko": "ko-mecab"}
"""sacrebleu's tokenizers by language; those of other languages with spaces is its usual one, 13a."""
WITHOUT_SPACES = ("th", "lo", "km", "my", "bo", "dz")
"""Languages that write no spaces and for which sacrebleu has no tokenizer that comes with it."""


class TranslationProbe:
    """Translates and scores a run under base and adapter as they are (`temp_lora` goes on afterwards)."""

    def __init__(
        self,
        model: AdaptedModel,
        backend: Backend,
        form: PairFormat,
        runs: Sequence[Sequence[AlignedPair]],
        *,
        context_pairs: int,
        from_output: bool,
        banned: Sequence[int],
        translate: bool = True,
    ) -> None:
        """`from_output` puts translations of its own before a paragraph, not references.

        Without `translate` references are only scored.
        """
        self.model, self.backend, self.form, self.runs = model, backend, form, runs
        self.context_pairs = context_pairs
        self.from_output, self.translates = from_output, translate
        self.ends = {*form.ends, *banned} if translate else set()
        self.sides = SIDES if model.adapter else SIDES[:1]

    def measure(self, index: int, before: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
        """Run `index`, `before` being what this returned for the runs before it.

        Returns by side "outputs" (a text a pair), "nll" (nats, of all the reference's tokens, a number a
        pair) and "tokens" (of the reference, a number a pair).
        """
        measured: dict[str, Any] = {}
        for side in self.sides:
            if side == "adapter" and index == 0:  # nothing is learnt yet, so it says what the base says
                measured[side] = measured["base"]
                continue
            bare = side == "base" and self.model.adapter
            with self.model.without_adapter() if bare else nullcontext():
                self.backend.adapter_changed()
                measured[side] = self._side(side, index, before)
        return measured

    def _side(self, side: str, index: int, before: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
        run = self.runs[index]
        known = [pair for earlier in range(index) for pair in self._known(side, earlier, before)]
        self.model.module.eval()
        outputs: list[str] = []
        nlls: list[float] = []
        for pair in run:
            prompt = self._prompt(known, pair)
            nlls.append(self._nll(prompt, pair))
            if self.translates:
                outputs.append(self._translate(prompt, pair))
            known.append(AlignedPair(pair.source, outputs[-1]) if self.from_output else pair)
        tokens = [len(self.form.target_tokens(pair.target)) for pair in run]
        return {"outputs": outputs, "nll": nlls, "tokens": tokens}

    def _known(self, side: str, index: int, before: Mapping[int, Mapping[str, Any]]) -> list[AlignedPair]:
        run = self.runs[index]
        return _as_pairs(run, before[index][side]["outputs"]) if self.from_output else list(run)

    def _prompt(self, seen: Sequence[AlignedPair], pair: AlignedPair) -> Tokens:
        context = self.form.pair_tokens(seen[max(0, len(seen) - self.context_pairs) :])
        return self.form.header + context + self.form.source_tokens(pair.source)

    def _nll(self, prompt: Tokens, pair: AlignedPair) -> float:
        with torch.no_grad():
            return chunk_nll(self.model.module, prompt, self.form.target_tokens(pair.target)).sum().item()

    def _translate(self, prompt: Tokens, pair: AlignedPair) -> str:
        # Twice the source: prose that is longer has lost its way.
        most = 2 * len(self.form.source_tokens(pair.source)) + 32
        sampler = sampler_for(GREEDY, torch.Generator(self.model.device), banned=())

        def ended(tokens: Sequence[int]) -> bool:
            return bool(tokens) and tokens[-1] in self.ends

        said = self.backend.decode(prompt, sampler=sampler, max_tokens=most, stop=ended)
        return self.form.target_text([token.id for token in said])


def _as_pairs(run: Sequence[AlignedPair], targets: Iterable[str]) -> list[AlignedPair]:
    return [AlignedPair(pair.source, target) for pair, target in zip(run, targets, strict=True)]


@dataclass(frozen=True)
class Judged:
    """A paragraph, its translations and how likely its reference was."""

    depth: int
    """Tokens of the references before it."""
    pair: AlignedPair
    tokens: int
    """Of its reference."""
    nll: dict[str, float]
    """By side, nats, of all the reference's tokens."""
    outputs: dict[str, str]
    """By side; empty where nothing was translated."""


def judged(runs: Sequence[Sequence[AlignedPair]], measured: Mapping[int, Mapping[str, Any]]) -> list[Judged]:
    """Every paragraph of the `measured` runs, in order."""
    all_of_it: list[Judged] = []
    depth = 0
    for index in sorted(measured):
        sides = measured[index]
        for place, pair in enumerate(runs[index]):
            tokens = sides["base"]["tokens"][place]
            nll = {side: sides[side]["nll"][place] for side in sides}
            outputs = {side: sides[side]["outputs"][place] for side in sides if sides[side]["outputs"]}
            all_of_it.append(Judged(depth, pair, tokens, nll, outputs))
            depth += tokens
    return all_of_it


@dataclass(frozen=True)
class Interval:
    """A figure with the half-width of its 95 % bootstrap interval."""

    value: float
    half_width: float


@dataclass(frozen=True)
class QualityRow:
    """One side over one range of depth."""

    depth: str
    side: str
    pairs: int
    tokens: int
    ppl: float
    """exp of the mean NLL of the references' tokens."""
    bleu: Interval | None
    chrf: Interval | None
    p: float | None
    """Of BLEU: how often chance alone makes a difference to the base as large (paired bootstrap). None for
    the base, which is the first side, and for fewer than `MIN_PARAGRAPHS` paragraphs."""


def table(
    paragraphs: Sequence[Judged], target: Language, *, step: int, bleu: bool = True, samples: int = 1000
) -> list[QualityRow]:
    """A row a side for every `step` tokens of depth, and for all of them.

    Raises TemploraError as `metrics_for` does.
    """
    groups: dict[int, list[Judged]] = {}
    for one in paragraphs:
        groups.setdefault(one.depth // step, []).append(one)
    named = [(f"{n * step:,}-{(n + 1) * step:,}", group) for n, group in sorted(groups.items())]
    rows: list[QualityRow] = []
    for depth, group in [*named, ("all", list(paragraphs))]:
        rows += _rows(depth, group, target, bleu=bleu, samples=samples)
    return rows


def _rows(
    depth: str, group: Sequence[Judged], target: Language, *, bleu: bool, samples: int
) -> list[QualityRow]:
    from sacrebleu.significance import PairedTest

    sides = list(group[0].nll)
    tokens = sum(one.tokens for one in group)
    scores: dict[str, Any] = {}
    if group[0].outputs:
        systems = [(side, [one.outputs[side] for one in group]) for side in sides]
        metrics = metrics_for(target, [one.pair.target for one in group], bleu=bleu)
        _, scores = PairedTest(systems, metrics, None, test_type="bs", n_samples=samples)()
    rows = []
    for place, side in enumerate(sides):
        found: dict[str, Any] = {name: scores[name][place] for name in ("BLEU", "chrF2") if name in scores}
        intervals = {name: Interval(float(one.score), float(one.ci)) for name, one in found.items()}
        rows.append(
            QualityRow(
                depth,
                side,
                len(group),
                tokens,
                math.exp(math.fsum(one.nll[side] for one in group) / tokens),
                intervals.get("BLEU"),
                intervals.get("chrF2"),
                _p(group, side, sides[0], found) if place else None,
            )
        )
    return rows


def _p(group: Sequence[Judged], side: str, first: str, found: Mapping[str, Any]) -> float | None:
    if "BLEU" not in found or len(group) < MIN_PARAGRAPHS:
        return None
    # sacrebleu counts differences above the one seen, and of 0 there is none.
    same = all(one.outputs[side] == one.outputs[first] for one in group)
    return 1.0 if same else float(found["BLEU"].p_value)


def metrics_for(target: Language, references: Sequence[str], *, bleu: bool = True) -> dict[str, Any]:
    """sacrebleu's metrics for texts in `target`, by name.

    Raises TemploraError where it is not installed or has no tokenizer for the language.
    """
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError:
        raise TemploraError(
            "translations are judged by sacrebleu, which is not installed", "pip install 'templora[bleu]'"
        ) from None
    metrics: dict[str, Any] = {"chrF2": CHRF(references=[list(references)])}
    if not bleu:
        return metrics
    if target.base in WITHOUT_SPACES:
        raise TemploraError(
            f"sacrebleu has no tokenizer for {target.name}, so BLEU means nothing there", "--no-bleu"
        )
    try:
        tokenize = TOKENIZERS.get(target.base, "13a")
        return {"BLEU": BLEU(tokenize=tokenize, references=[list(references)]), **metrics}
    except (ImportError, RuntimeError):
        raise TemploraError(
            f"BLEU for {target.name} needs a tokenizer that is not installed",
            f"pip install 'sacrebleu[{target.base}]', or --no-bleu",
        ) from None


def comet(command: str, paragraphs: Sequence[Judged]) -> dict[str, float]:
    """COMET of each side, by the `comet-score` that `command` names.

    Raises TemploraError where it cannot be run or fails.
    """
    sides = list(paragraphs[0].outputs)
    again = "mend that, and give the command again: nothing is translated twice"
    with tempfile.TemporaryDirectory() as folder:
        files = {"source": [p.pair.source for p in paragraphs], "ref": [p.pair.target for p in paragraphs]}
        files.update({side: [p.outputs[side] for p in paragraphs] for side in sides})
        paths = {name: Path(folder) / name for name in files}
        for name, lines in files.items():
            # A line is a text: whatever else a reader takes for a line break becomes a space.
            flat = (" ".join(line.splitlines()) for line in lines)
            paths[name].write_text("".join(f"{line}\n" for line in flat), "utf-8")
        hypotheses = [str(paths[side]) for side in sides]
        files_of = ["-s", str(paths["source"]), "-t", *hypotheses, "-r", str(paths["ref"])]
        try:
            done = subprocess.run(
                [command, *files_of, "--quiet", "--only_system"], capture_output=True, text=True, check=True
            )
        except OSError:
            raise TemploraError(f"COMET: {command} cannot be run", again) from None
        except subprocess.CalledProcessError as error:
            reason = (error.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise TemploraError(f"COMET: {command} failed: {reason}", again) from None
    scores = [line.rsplit("score:", 1)[1] for line in done.stdout.splitlines() if "score:" in line]
    if len(scores) != len(sides):
        raise TemploraError(f"COMET: {command} gave {len(scores)} of {len(sides)} scores", again)
    return {side: float(score) for side, score in zip(sides, scores, strict=True)}
