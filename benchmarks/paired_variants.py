"""The recipes of `benchmarks.paired` by name, and their parts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.variants import train_only
from templora_cli.config import DecodeConfig, LearningConfig
from templora_cli.documents.text_input import read_text
from templora_cli.engine.decoding.choose import backend_for
from templora_cli.engine.decoding.sampling import sampler_for
from templora_cli.engine.models import loading
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.loss import chunk_logits, chunk_nll, kl_divergence
from templora_cli.engine.training.nll import NegativeLogLikelihood
from templora_cli.engine.training.objective import Loss, Window
from templora_cli.learning import RECIPE, Recipe, windows
from templora_cli.reading import reading_tokens
from templora_cli.turn import Chunk, Turn


@dataclass(frozen=True)
class PairedVariant:
    """A recipe: settings as for `--set`, and other parts of learning that it replaces."""

    settings: tuple[str, ...] = ()
    recipe: Callable[[loading.LanguageModel], Recipe] = lambda model: RECIPE
    prepare: Callable[[loading.LanguageModel], None] = lambda model: None
    """Called once after loading: it selects or initialises the matrices that learn."""
    after_chunk: Callable[[loading.LanguageModel, dict[str, Tensor]], None] | None = None
    """Called after each chunk with the adapter as it was before the chunk."""


@dataclass(frozen=True)
class MarkedWindow(Window):
    """A window in which some tokens are learnt whatever their probability."""

    always: tuple[bool, ...] = ()


@dataclass(frozen=True)
class BandNll(NegativeLogLikelihood):
    """The NLL of the tokens that the model finds neither certain nor out of place, and of names."""

    above: float = 0.01
    below: float = 0.9

    def loss(self, window: Window, model: AdaptedModel, learning: LearningConfig) -> Loss:
        """See `Objective.loss`."""
        prompt, tokens, mask = window.header + window.context, window.tokens, window.loss_mask
        always = window.always if isinstance(window, MarkedWindow) else ()
        marks = [mark for i, mark in enumerate(always) if not mask or mask[i]] or [False] * sum(mask)

        def loss() -> Tensor:
            nlls = chunk_nll(model.module, prompt, tokens, mask)
            learnt = (nlls > -math.log(self.below)) & (nlls < -math.log(max(self.above, 1e-30)))
            learnt = learnt.detach() | torch.tensor(marks or [False] * len(nlls))
            return (nlls * learnt).sum() / learnt.sum().clamp(min=1)

        return loss


@dataclass(frozen=True)
class SampledNll(NegativeLogLikelihood):
    """The NLL under the distribution of the samples: after repetition penalty and temperature.

    Text that is drawn at 0.8 is surer of itself than the model, and a model that learns it becomes surer too.
    Under the distribution of the samples the expected gradient is 0: only the chunk itself is learnt.
    """

    context: int = 512
    """Tokens before the chunk that the penalty was applied to."""

    def extra_context_tokens(self, learning: LearningConfig) -> int:
        """See `Objective.extra_context_tokens`."""
        return self.context

    def loss(self, window: Window, model: AdaptedModel, learning: LearningConfig) -> Loss:
        """See `Objective.loss`."""
        prompt, tokens, config = window.header + window.context, window.tokens, DecodeConfig()
        earlier = list(window.header + window.longer_context)

        def loss() -> Tensor:
            logits = chunk_logits(model.module, prompt, tokens)
            seen = torch.zeros(logits.shape, dtype=torch.bool)
            seen[:, earlier] = True
            for place, token in enumerate(tokens[:-1]):
                seen[place + 1 :, token] = True
            strength = config.repetition_penalty
            penalised = torch.where(logits > 0, logits / strength, logits * strength)
            scores = torch.where(seen, penalised, logits) / config.temperature
            return cross_entropy(scores, torch.tensor(list(tokens)))

        return loss


_NAME = re.compile(r"(?<=[\w,;:—-] )[^\W\d_a-z][^\W\d_]+")
"""A word with a capital letter in the middle of a sentence."""


def new_tokens(model: loading.LanguageModel) -> Callable[..., list[Window]]:
    """Windows in which only new 4-grams and names are scored. Names are marked."""

    def select(
        turn: Turn, chunk: Chunk, book: Sequence[int], learning: LearningConfig, extra: int = 0
    ) -> list[Window]:
        seen = {tuple(book[i : i + 4]) for i in range(len(book) - 3)}
        text, names = [*book[-3:], *chunk.tokens], name_tokens(model.tokenizer, chunk.tokens)
        mask = []
        for i in range(len(chunk.tokens)):
            end = len(text) - len(chunk.tokens) + i + 1
            gram = tuple(text[max(0, end - 4) : end])
            mask.append(gram not in seen or names[i])
            seen.add(gram)
        size = learning.window_tokens or len(chunk.tokens)
        plain = windows(turn, Chunk(chunk.tokens, "", tuple(mask)), book, learning, extra)
        starts = [start for start in range(0, len(mask), size) if any(mask[start : start + size])]
        return [
            MarkedWindow(**vars(window), always=tuple(names[start : start + size]))
            for window, start in zip(plain, starts, strict=True)
        ]

    return select


def name_tokens(tokenizer: Any, chunk: Sequence[int]) -> list[bool]:
    """Which tokens of a chunk belong to a name."""
    pieces = [tokenizer.decode([token]) for token in chunk]
    ends, total = [], 0
    for piece in pieces:
        total += len(piece)
        ends.append(total)
    spans = [match.span() for match in _NAME.finditer("".join(pieces))]
    begins = [end - len(piece) for end, piece in zip(ends, pieces, strict=True)]
    return [any(a < end and b > begin for a, b in spans) for begin, end in zip(begins, ends, strict=True)]


@dataclass
class WithReplay(NegativeLogLikelihood):
    """Another objective, and the KL divergence from the base on samples of the base."""

    inner: NegativeLogLikelihood
    samples: int = 4
    tokens: int = 256
    weight: float = 1.0
    top: int = 0
    """How many of the base's tokens are compared, the rest as one; 0 for all."""
    replayed: list[tuple[tuple[int, ...], tuple[int, ...], Tensor]] = field(default_factory=list)
    turn: int = 0

    def loss(self, window: Window, model: AdaptedModel, learning: LearningConfig) -> Loss:
        """See `Objective.loss`."""
        if not self.replayed:  # the adapter still has no effect
            self.replayed = [self._sample(model, window.header, seed) for seed in range(self.samples)]
        loss = self.inner.loss(window, model, learning)
        assert loss is not None
        prompt, tokens, base = self.replayed[self.turn % len(self.replayed)]
        self.turn += 1

        def both() -> Tensor:
            student = chunk_logits(model.module, prompt, tokens)
            if not self.top:
                return loss() + self.weight * kl_divergence(base, student).mean()
            logs, ids = base.topk(self.top, -1)
            return loss() + self.weight * divergence_of_top(logs, ids, student).mean()

        return both

    def _sample(
        self, model: Any, header: tuple[int, ...], seed: int
    ) -> tuple[tuple[int, ...], tuple[int, ...], Tensor]:
        config = DecodeConfig()
        sampler = sampler_for(config, torch.Generator().manual_seed(1000 + seed), model.banned_tokens)
        stream = backend_for(model, "auto").decode(
            header, sampler=sampler, max_tokens=self.tokens, stop=lambda tokens: False
        )
        tokens = tuple(token.id for token in stream)
        with torch.no_grad(), model.without_adapter():
            return header, tokens, chunk_logits(model.module, header, tokens).log_softmax(-1)


@dataclass
class WithHumanText(NegativeLogLikelihood):
    """Another objective, and the NLL of human text with a small weight."""

    inner: NegativeLogLikelihood
    path: Path
    share: float = 0.05
    turn: int = 0

    def loss(self, window: Window, model: Any, learning: LearningConfig) -> Loss:
        """See `Objective.loss`."""
        header, text = reading_tokens(model.tokenizer, read_text(self.path)[:400_000])
        tokens = text[self.turn * 256 : (self.turn + 1) * 256]
        self.turn += 1
        loss = self.inner.loss(window, model, learning)
        assert loss is not None

        def both() -> Tensor:
            human = chunk_nll(model.module, header, tokens).mean()
            return (1 - self.share) * loss() + self.share * human

        return both


@dataclass(frozen=True)
class FromOpenings(NegativeLogLikelihood):
    """The chunk in the teacher: the base that sees the chunk goes on from openings that name someone of it.

    The student is base + adapter without the chunk; the loss is the KL divergence over the teacher's `top`
    tokens and the rest (arXiv 2503.08727).
    """

    openings: int = 4
    opening_tokens: int = 16
    sampled: int = 64
    top: int = 20
    weight_of_base: float = 0.0

    def loss(self, window: Window, model: Any, learning: LearningConfig) -> Loss | None:
        """See `Objective.loss`."""
        chunk = window.tokens
        starts = self._starts(model.tokenizer, chunk)
        if not starts:
            return None
        model.module.eval()
        header = list(window.header)
        openings = [list(chunk[start : start + self.opening_tokens]) for start in starts]
        with torch.no_grad(), model.without_adapter(), torch.random.fork_rng():
            torch.manual_seed(sum(chunk) % (1 << 31))
            seen = [[*header, *chunk, *opening] for opening in openings]
            whole = model.module.generate(
                input_ids=torch.tensor(seen),
                attention_mask=torch.ones(len(seen), len(seen[0]), dtype=torch.long),
                do_sample=True,
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                min_new_tokens=self.sampled,
                max_new_tokens=self.sampled,
                pad_token_id=0,
            )
            sampled = whole[:, len(seen[0]) :]
            logits = model.module(input_ids=whole).logits[:, len(seen[0]) - 1 : -1].float()
            logs, ids = logits.log_softmax(-1).topk(self.top, -1)
        ids_in = torch.cat([torch.tensor([[*header, *o] for o in openings]), sampled], 1)
        first = len(header) + self.opening_tokens - 1

        def loss() -> Tensor:
            student = model.module(input_ids=ids_in).logits[:, first:-1].float()
            return divergence_of_top(logs, ids, student).mean()

        return loss

    def _starts(self, tokenizer: Any, chunk: Sequence[int]) -> list[int]:
        """Where the openings begin: spread over the chunk, each with a name if there are enough of them."""
        names = name_tokens(tokenizer, chunk)
        last = len(chunk) - self.opening_tokens
        named = [i for i in range(0, max(0, last), 4) if any(names[i + 2 : i + self.opening_tokens])]
        choices = named if len(named) >= self.openings else list(range(0, max(0, last), 4))
        if not choices:
            return []
        return [choices[k * len(choices) // self.openings] for k in range(self.openings)]


def divergence_of_top(logs: Tensor, ids: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) over the teacher's likeliest tokens [..., top] and all others as one."""
    theirs, mine = logs.exp(), student.log_softmax(-1).gather(-1, ids)
    rest = (1 - theirs.sum(-1)).clamp(min=1e-6)
    my_rest = (1 - mine.exp().sum(-1)).clamp(min=1e-6)
    return (theirs * (logs - mine)).sum(-1) + rest * (rest.log() - my_rest.log())


def decay(share: float) -> Callable[[loading.LanguageModel, dict[str, Tensor]], None]:
    """Move the adapter towards zero by `share` after each chunk."""

    def after_chunk(model: loading.LanguageModel, before: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in model.adapter.items():
                if "lora_B" in name:
                    weight.mul_(1 - share)

    return after_chunk


def average(model: loading.LanguageModel, before: dict[str, Tensor]) -> None:
    """Take the mean of the adapter and the one before the chunk."""
    with torch.no_grad():
        for name, weight in model.adapter.items():
            weight.lerp_(before[name], 0.5)


def as_sampled(model: loading.LanguageModel) -> Recipe:
    """The NLL under the distribution of the samples."""
    return Recipe(objectives={"nll": SampledNll()})


def masked(model: loading.LanguageModel) -> Recipe:
    """Only new 4-grams, only probabilities within the band; names always."""
    return Recipe(objectives={"nll": BandNll()}, windows=new_tokens(model))


def uncertain(model: loading.LanguageModel) -> Recipe:
    """Only new 4-grams, only probabilities up to 0.9; names always."""
    return Recipe(objectives={"nll": BandNll(above=0.0)}, windows=new_tokens(model))


def uncertain_and_replayed(model: loading.LanguageModel) -> Recipe:
    """The same, with replay of the base."""
    return Recipe(objectives={"nll": WithReplay(BandNll(above=0.0))}, windows=new_tokens(model))


def grams_only(model: loading.LanguageModel) -> Recipe:
    """Only new 4-grams, and names."""
    return Recipe(windows=new_tokens(model))


def replayed(model: loading.LanguageModel) -> Recipe:
    """The NLL, with replay of the base."""
    return Recipe(objectives={"nll": WithReplay(NegativeLogLikelihood())})


def replayed_top(model: loading.LanguageModel) -> Recipe:
    """The NLL, with replay of 16 shorter samples of the base, of which the likeliest tokens are stored."""
    return Recipe(objectives={"nll": WithReplay(NegativeLogLikelihood(), samples=16, tokens=128, top=64)})


def masked_and_replayed(model: loading.LanguageModel) -> Recipe:
    """Both."""
    return Recipe(objectives={"nll": WithReplay(BandNll())}, windows=new_tokens(model))


def with_human_text(path: str) -> Callable[[loading.LanguageModel], Recipe]:
    """The NLL, and 5 % human text."""
    return lambda model: Recipe(objectives={"nll": WithHumanText(NegativeLogLikelihood(), Path(path))})


def from_openings(model: loading.LanguageModel) -> Recipe:
    """The chunk in the teacher, form (b)."""
    return Recipe(objectives={"nll": FromOpenings()})


def rate(lr: str) -> tuple[str, ...]:
    """The learning rate, in windows of 256 tokens without context."""
    return (f"generated.lr={lr}", "generated.context_tokens=0", "generated.replay_samples=0")


def teacher(lr: str) -> tuple[str, ...]:
    """The chunk in the teacher, form (a): the base sees a window twice as long."""
    return (
        f"generated.lr={lr}",
        "generated.objective=distill",
        "generated.teacher_context_tokens=1024",
        "generated.context_tokens=512",
        "generated.window_tokens=0",
        "generated.replay_samples=0",
    )


def openings(lr: str, passes: int) -> tuple[str, ...]:
    """The learning rate and passes for whole chunks without context."""
    whole = ("generated.window_tokens=0", "generated.context_tokens=0", "generated.replay_samples=0")
    return (f"generated.lr={lr}", f"generated.epochs={passes}", *whole)


def kept(lr: str, samples: int = 16) -> tuple[str, ...]:
    """The learning rate, and replay as templora has it."""
    return (f"generated.lr={lr}", f"generated.replay_samples={samples}")


def rank_8(lr: str) -> tuple[str, ...]:
    """The learning rate, and a lower rank."""
    return (*rate(lr), "rank=8", "alpha=8")


VARIANTS: dict[str, Callable[[str], PairedVariant]] = {
    "off": lambda lr: PairedVariant(("learn=false",)),
    "default": lambda lr: PairedVariant(),
    "nll RATE": lambda lr: PairedVariant(rate(lr)),
    "nll, down_proj RATE": lambda lr: PairedVariant(rate(lr), prepare=train_only("down_proj")),
    "nll, rank 8 RATE": lambda lr: PairedVariant(rank_8(lr)),
    "nll, average RATE": lambda lr: PairedVariant(rate(lr), after_chunk=average),
    "nll, decay 0.1 RATE": lambda lr: PairedVariant(rate(lr), after_chunk=decay(0.1)),
    "mask RATE": lambda lr: PairedVariant(rate(lr), masked),
    "mask, down_proj RATE": lambda lr: PairedVariant(rate(lr), masked, train_only("down_proj")),
    "mask, rank 8 RATE": lambda lr: PairedVariant(rank_8(lr), masked),
    "mask, average RATE": lambda lr: PairedVariant(rate(lr), masked, after_chunk=average),
    "mask, decay 0.1 RATE": lambda lr: PairedVariant(rate(lr), masked, after_chunk=decay(0.1)),
    "mask and replay RATE": lambda lr: PairedVariant(rate(lr), masked_and_replayed),
    "4-grams RATE": lambda lr: PairedVariant(rate(lr), grams_only),
    "uncertain RATE": lambda lr: PairedVariant(rate(lr), uncertain),
    "uncertain, down_proj RATE": lambda lr: PairedVariant(rate(lr), uncertain, train_only("down_proj")),
    "uncertain and replay RATE": lambda lr: PairedVariant(rate(lr), uncertain_and_replayed),
    "replay RATE": lambda lr: PairedVariant(rate(lr), replayed),
    "replay 16 RATE": lambda lr: PairedVariant(rate(lr), replayed_top),
    "replay, down_proj RATE": lambda lr: PairedVariant(rate(lr), replayed, train_only("down_proj")),
    "replay, rank 8 RATE": lambda lr: PairedVariant(rank_8(lr), replayed),
    "replay, average RATE": lambda lr: PairedVariant(rate(lr), replayed, after_chunk=average),
    "replay, decay 0.1 RATE": lambda lr: PairedVariant(rate(lr), replayed, after_chunk=decay(0.1)),
    "kept RATE": lambda lr: PairedVariant(kept(lr)),
    "kept RATE, 4 samples": lambda lr: PairedVariant(kept(lr, 4)),
    "kept RATE, 8 samples": lambda lr: PairedVariant(kept(lr, 8)),
    "kept RATE, 32 samples": lambda lr: PairedVariant(kept(lr, 32)),
    "sampled RATE": lambda lr: PairedVariant(rate(lr), as_sampled),
    "sampled, kept RATE": lambda lr: PairedVariant(kept(lr), as_sampled),
    "human text RATE": lambda lr: PairedVariant(rate(lr), with_human_text("1684.txt")),
    "openings RATE, 3 passes": lambda lr: PairedVariant(openings(lr, 3), from_openings),
    "openings RATE, 6 passes": lambda lr: PairedVariant(openings(lr, 6), from_openings),
    "teacher RATE": lambda lr: PairedVariant(teacher(lr)),
}
"""How a recipe is made from its learning rate, which stands for RATE in its name (`nll 2e-5`)."""

_RATE = re.compile(r"\b\d+(\.\d+)?e-\d+\b")


def variant_of(recipe: str) -> PairedVariant | None:
    """The recipe with this name; None if there is none."""
    lr = _RATE.search(recipe)
    name = recipe.replace(lr[0], "RATE") if lr else recipe
    if name not in VARIANTS or ("RATE" in name and lr is None):
        return None
    return VARIANTS[name](lr[0] if lr else "")
