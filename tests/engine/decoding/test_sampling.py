"""Tokens are drawn as `generate()` would, with randomness that is ours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from templora_cli.config import DecodeConfig
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.decoding.processors import PROCESSORS
from templora_cli.engine.decoding.processors.candidates import ONE, Candidates, DeviceCandidates
from templora_cli.engine.decoding.processors.processor import Cut, ScoreProcessor
from templora_cli.engine.decoding.sampling import (
    DeviceSampler,
    HostSampler,
    Kinds,
    Sampler,
    distribution,
    sampler_for,
)
from templora_cli.errors import TemploraError

KINDS = [DeviceSampler, HostSampler]
PROMPT = [72, 101, 108, 108, 111]
BANNED = [256, 257]


@pytest.fixture(scope="module")
def module(tiny_model: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


def sampler(seed: int = 0, kind: type[Sampler] = HostSampler, **config: float) -> Sampler:
    plain = {"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}
    return kind(DecodeConfig(**{**plain, **config}), torch.Generator().manual_seed(seed), BANNED)


def tokens(module: torch.nn.Module, sampler: Sampler, count: int = 24) -> list[int]:
    backend = EagerBackend(module)
    return [t.id for t in backend.decode(PROMPT, sampler=sampler, max_tokens=count, stop=lambda chunk: False)]


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_equals_generate(module: torch.nn.Module, kind: type[Sampler]) -> None:
    wanted = module.generate(
        torch.tensor([PROMPT]),
        max_new_tokens=24,
        do_sample=False,
        repetition_penalty=1.3,
        suppress_tokens=BANNED,
        eos_token_id=None,
    )[0, len(PROMPT) :].tolist()
    assert tokens(module, sampler(0, kind, temperature=0, repetition_penalty=1.3)) == wanted


def test_the_seed_decides(module: torch.nn.Module) -> None:
    assert tokens(module, sampler(1)) == tokens(module, sampler(1)) != tokens(module, sampler(2))


def test_the_process_generator_is_neither_used_nor_moved(module: torch.nn.Module) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = tokens(module, sampler(1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert tokens(module, sampler(1)) == first


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        ({"top_k": 2}, {3, 1}),
        ({"top_p": 0.6}, {3, 1}),
        ({"min_p": 0.5}, {3, 1}),
        ({"temperature": 0.01}, {3}),
        ({"temperature": 1e-30}, {3}),
        ({}, {0, 1, 3}),
        ({"repetition_penalty": 10.0, "temperature": 0.1}, {1}),
        ({"repetition_penalty": 10.0, "temperature": 0.0}, {1}),
    ],
)
def test_what_can_come_out(kind: type[Sampler], config: dict[str, float], allowed: set[int]) -> None:
    logits = torch.tensor([1.0, 1.9, 50.0, 2.0])
    chooser = kind(
        DecodeConfig(**{"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0, **config}),
        torch.Generator().manual_seed(0),
        [2],
    )
    assert {chooser.draw([3], logits) for _ in range(300)} == allowed


# --- the definitions, and what is held against them --------------------------------------------------


@given(
    seed=st.integers(0, 10_000),
    spread=st.sampled_from([0.05, 1.0, 4.0, 20.0]),
    penalty=st.sampled_from([0.7, 1.0, 1.3]),
    top_k=st.sampled_from([0, 1, 5, 40, 400]),
    top_p=st.sampled_from([0.01, 0.5, 0.95, 0.9999, 1.0]),
    min_p=st.sampled_from([0.0, 1e-6, 0.05, 1.0]),
)
def test_the_definition_is_that_of_transformers(
    seed: int, spread: float, penalty: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = spread * torch.randn(300, generator=torch.Generator().manual_seed(seed)).double()
    warpers = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(penalty),
            SuppressTokensLogitsProcessor(BANNED),
            TemperatureLogitsWarper(0.8),
            *([TopKLogitsWarper(top_k)] if top_k else []),
            *([TopPLogitsWarper(top_p)] if top_p < 1 else []),
            *([MinPLogitsWarper(min_p)] if min_p else []),
        ]
    )
    theirs = warpers(torch.tensor([PROMPT]), logits[None].clone())[0].softmax(-1)
    config = DecodeConfig(temperature=0.8, repetition_penalty=penalty, top_k=top_k, top_p=top_p, min_p=min_p)
    torch.testing.assert_close(distribution(config, BANNED, logits, PROMPT), theirs)


def drawn_from(
    kind: type[Any], config: DecodeConfig, logits: Tensor, ids: Sequence[int], kinds: Kinds = PROCESSORS
) -> Tensor:
    """The probability [V] of each token by a fast path, float64."""
    chooser = kind(config, torch.Generator().manual_seed(0), BANNED, kinds)
    scores = chooser.scores(ids, logits)
    if chooser.is_greedy:
        return torch.nn.functional.one_hot(torch.as_tensor(scores).argmax(), len(logits)).double()
    tokens, shares = map(torch.as_tensor, chooser.candidates(scores))
    return torch.zeros(len(logits), dtype=torch.float64).index_put(
        (tokens,), shares.double() / shares.double().sum()
    )


def hold_against_the_definition(
    config: DecodeConfig, logits: Tensor, ids: Sequence[int], kinds: Kinds = PROCESSORS
) -> None:
    wanted = distribution(config, BANNED, logits, ids, kinds)
    noise = 1e-5 * torch.randn(len(logits), generator=torch.Generator().manual_seed(1))
    near = distribution(config, BANNED, logits + noise, ids, kinds)
    assume(torch.allclose(wanted, near, rtol=1e-3, atol=1e-6))  # else rounding decides
    for kind in KINDS:
        ours = drawn_from(kind, config, logits, ids, kinds)
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=2e-6)
        assert torch.equal(ours > 1e-5, wanted > 1e-5), kind
        assert not ours[[token for token in BANNED if token < len(ours)]].any(), kind


LOGITS = st.builds(
    lambda size, spread, seed: spread * torch.randn(size, generator=torch.Generator().manual_seed(seed)),
    st.sampled_from([5, 300, 2000]),
    st.sampled_from([0.05, 1.0, 4.0, 20.0]),
    st.integers(0, 10_000),
)
SETTINGS = {
    "temperature": st.sampled_from([0.0, 0.009, 0.3, 0.8, 1.5]),
    "repetition_penalty": st.sampled_from([0.5, 1.0, 1.1, 3.0]),
    "top_k": st.sampled_from([0, 1, 5, 40, 400]),
    "top_p": st.sampled_from([1e-30, 0.01, 0.5, 0.95, 0.9999, 1.0]),
    "min_p": st.sampled_from([0.0, 1e-6, 1e-4, 0.05, 1.0]),
}
IDS = st.lists(st.integers(0, 4), max_size=6)


def any_value(name: str) -> st.SearchStrategy[Any]:
    """Of a setting that has no values of its own above: off, or something within its range."""
    (field,) = (field for field in fields(DecodeConfig) if field.name == name)
    least = field.metadata["at_least"] if field.metadata["above"] is None else field.metadata["above"]
    most = min(field.metadata["at_most"] or 10, 100)
    if isinstance(field.default, int):
        return st.just(field.default) | st.integers(math.ceil(least or 0), int(most))
    within = st.floats(least or 0, most, exclude_min=field.metadata["above"] is not None)
    return st.just(field.default) | within


SETTINGS |= {name: any_value(name) for kind in PROCESSORS for name in kind.fields if name not in SETTINGS}


@given(config=st.builds(DecodeConfig, **SETTINGS), logits=LOGITS, ids=IDS)
def test_both_ways_draw_from_what_is_defined(config: DecodeConfig, logits: Tensor, ids: list[int]) -> None:
    hold_against_the_definition(config, logits, ids)


def test_each_field_of_drawing_belongs_to_one_processor() -> None:
    others = {"chunk_tokens", "context_tokens", "backend"}
    known = sorted(name for kind in PROCESSORS for name in kind.fields)
    assert known == sorted({field.name for field in fields(DecodeConfig)} - others)


def test_scores_are_made_before_tokens_are_cut() -> None:
    cuts = [issubclass(kind, Cut) for kind in PROCESSORS]
    assert cuts == sorted(cuts)


@pytest.mark.parametrize(
    ("config", "enough"),
    [
        ({"top_k": 40}, True),
        ({"top_k": 60, "top_p": 0.1, "min_p": 0.5}, False),
        ({"top_p": 0.9}, True),
        ({"top_p": 0.99}, False),
        ({"top_p": 0.99, "min_p": 1e-4}, True),
        ({"top_p": 0.99, "min_p": 1e-5}, False),
    ],
)
def test_few_tokens_are_sorted_only_where_every_cut_allows_it(config: dict[str, Any], enough: bool) -> None:
    """50 near ones, which hold 0.95."""
    chooser = sampler(**config)
    assert isinstance(chooser, HostSampler) and chooser._are_enough(50, 0.95) is enough


# --- a processor that comes later --------------------------------------------------------------------


@dataclass(frozen=True)
class LaterConfig(DecodeConfig):
    """With the fields of three that there are not."""

    typical_p: float = 0.5
    xtc_threshold: float = 0.1
    presence_penalty: float = 0.7


class Typical(Cut):
    """Tokens whose information is nearest to the entropy, until they hold `typical_p` (arXiv 2202.00666)."""

    fields = ("typical_p",)

    def by_definition(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        logs = scores.log_softmax(-1)
        entropy = -(logs.exp() * logs).nansum()
        order = (-logs - entropy).abs().sort(stable=True).indices
        held = logs.exp()[order].cumsum(-1)
        last = int((held < self.config.typical_p).sum())  # type: ignore[attr-defined]
        return scores.index_fill(0, order[last + 1 :], -torch.inf)

    def cut(self, candidates: Candidates) -> None:
        xp, shares = candidates.xp, candidates.probabilities
        information = -xp.log(shares + 1e-38)
        entropy = (shares * information).sum()
        order = xp.argsort(abs(information - entropy))
        before = shares[order].cumsum(0) - shares[order]
        kept = before < 2  # all
        kept[order] = before < self.config.typical_p  # type: ignore[attr-defined]
        candidates.keep(kept)


class ExcludeTopChoices(Cut):
    """Of tokens above a threshold only the least likely one stays (XTC, with a probability of 1)."""

    fields = ("xtc_threshold",)

    def by_definition(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        shares = scores.softmax(-1)
        above = shares >= self.config.xtc_threshold  # type: ignore[attr-defined]
        return scores.masked_fill(above & (shares > shares.where(above, torch.tensor(2.0)).min()), -torch.inf)

    def cut(self, candidates: Candidates) -> None:
        above = candidates.probabilities >= self.config.xtc_threshold  # type: ignore[attr-defined]
        candidates.keep(~above | (above.cumsum(0) == above.sum()))


class PresencePenalty(ScoreProcessor):
    """Taken from the score of every token of the window."""

    fields = ("presence_penalty",)
    warps = False

    def by_definition(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        scores = scores.clone()
        for token in set(ids):
            scores[token] -= self.config.presence_penalty  # type: ignore[attr-defined]
        return scores

    def on_device(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        seen = torch.tensor(list(ids), dtype=torch.long).unique()
        return scores.index_add_(
            0,
            seen,
            torch.full_like(scores[seen], -self.config.presence_penalty),  # type: ignore[attr-defined]
        )


@given(
    config=st.builds(
        LaterConfig,
        top_k=st.sampled_from([0, 5]),
        top_p=st.sampled_from([0.5, 0.95, 1.0]),
        min_p=st.sampled_from([0.0, 0.05, 1.0]),
        typical_p=st.sampled_from([0.2, 0.9]),
        xtc_threshold=st.sampled_from([0.02, 0.3]),
    ),
    logits=LOGITS,
    ids=IDS,
    later=st.sampled_from([Typical, ExcludeTopChoices]),
    place=st.integers(4, 7),
)
def test_a_later_one_is_a_class_and_a_row(
    config: LaterConfig, logits: Tensor, ids: list[int], later: type[Cut], place: int
) -> None:
    """Wherever it stands among the cuts."""
    kinds: list[Any] = [PresencePenalty, *PROCESSORS]
    kinds.insert(place, later)
    hold_against_the_definition(config, logits, ids, kinds)


def test_a_later_one_needs_all_tokens_until_it_says_otherwise() -> None:
    few = LaterConfig(top_p=0.5)
    generator = torch.Generator().manual_seed(0)
    before, behind = ([*PROCESSORS[:4], Typical, *PROCESSORS[4:]], [*PROCESSORS, Typical])
    assert not HostSampler(few, generator, (), before)._are_enough(50, 0.95)
    assert HostSampler(few, generator, (), behind)._are_enough(50, 0.95), "it sees what is left"


def test_a_gpu_adds_up_shares_in_whole_numbers() -> None:
    """So that what is before a token does not hang on the order in which they are added."""
    candidates = DeviceCandidates(torch.zeros(100_000))
    each = int(float(candidates.shares[0]) * ONE)
    assert torch.equal(candidates.before, (torch.arange(100_000) * each).double().div(ONE).float())


# --- what is drawn -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_told(kind: type[Sampler], wrong: float) -> None:
    with pytest.raises(TemploraError, match="not numbers"):
        sampler(0, kind).draw([0], torch.tensor([0.0, wrong, 1.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_special_token_that_the_model_has_no_logits_for(kind: type[Sampler]) -> None:
    assert sampler(0, kind).draw([0], torch.tensor([0.0, -torch.inf])) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", [1.0, 2.0])
def test_logits_stay_as_they_are(kind: type[Sampler], penalty: float) -> None:
    logits = torch.tensor([0.0, 1.0, -1.0])
    sampler(0, kind, repetition_penalty=penalty, temperature=0.5).draw([0, 1, 2], logits)
    assert logits.tolist() == [0, 1, -1], "their NLL is taken afterwards"


@pytest.mark.parametrize("kind", KINDS)
def test_a_penalty_follows_the_window(kind: type[Any]) -> None:
    """It goes on, begins anew, and is of another vocabulary."""
    chooser = sampler(0, kind, repetition_penalty=2.0)
    for ids, size in (([1, 2], 9), ([1, 2, 3], 9), ([1, 2, 3, 4, 5], 9), ([2, 6], 9), ([2], 9), ([2], 7)):
        scores = torch.as_tensor(chooser.scores(ids, torch.ones(size)))
        assert scores.tolist() == [0.5 if token in ids else 1.0 for token in range(size)]


def test_the_host_draws_on_the_host() -> None:
    assert type(sampler_for(DecodeConfig(), torch.Generator(), ())) is HostSampler


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_comes_as_often_as_it_is_likely(kind: type[Sampler]) -> None:
    chooser, logits = sampler(0, kind), torch.tensor([0.0, 1.0, 2.0, -torch.inf])
    counts = torch.bincount(torch.tensor([chooser.draw([0], logits) for _ in range(4000)]), minlength=4)
    torch.testing.assert_close(counts / 4000, logits.softmax(-1), rtol=0, atol=0.03)


def test_a_sampler_is_asked_once_a_token_and_stop_is_obeyed(module: torch.nn.Module) -> None:
    class Counting(HostSampler):
        asked = 0

        def draw(self, ids, logits):  # type: ignore[no-untyped-def]
            self.asked += 1
            return super().draw(ids, logits)

    counting = Counting(DecodeConfig(), torch.Generator().manual_seed(0), BANNED)
    out = list(
        EagerBackend(module).decode(PROMPT, sampler=counting, max_tokens=50, stop=lambda c: len(c) == 6)
    )
    assert len(out) == counting.asked == 6


def test_a_consumer_of_a_suspended_decode_can_take_gradients(module: torch.nn.Module) -> None:
    stream = EagerBackend(module).decode(PROMPT, sampler=sampler(), max_tokens=5, stop=lambda c: False)
    next(stream)
    assert torch.is_grad_enabled()
    stream.close()
