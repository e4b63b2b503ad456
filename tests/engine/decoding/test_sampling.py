"""Samplers draw from the distribution of `generate()`, with their own random generator."""

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
from templora_cli.engine.decoding.processors.candidates import FIXED_POINT_ONE, Candidates, DeviceCandidates
from templora_cli.engine.decoding.processors.processor import ScoreProcessor, TokenFilter
from templora_cli.engine.decoding.sampling import (
    BaseSampler,
    DeviceSampler,
    HostSampler,
    ProcessorTypes,
    distribution,
    sampler_for,
)
from templora_cli.errors import TemploraError

SAMPLERS = [DeviceSampler, HostSampler]
PROMPT = [72, 101, 108, 108, 111]
BANNED = [256, 257]
BREAKERS = [0]


@pytest.fixture(scope="module")
def module(tiny_model: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


def new_sampler(seed: int = 0, kind: type[BaseSampler] = HostSampler, **config: float) -> BaseSampler:
    neutral = {"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}
    return kind(DecodeConfig(**{**neutral, **config}), torch.Generator().manual_seed(seed), BANNED)


def tokens(module: torch.nn.Module, sampler: BaseSampler, count: int = 24) -> list[int]:
    backend = EagerBackend(module)
    return [t.id for t in backend.decode(PROMPT, sampler=sampler, max_tokens=count, stop=lambda chunk: False)]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_greedy_decoding_equals_generate(module: torch.nn.Module, kind: type[BaseSampler]) -> None:
    expected = module.generate(
        torch.tensor([PROMPT]),
        max_new_tokens=24,
        do_sample=False,
        repetition_penalty=1.3,
        suppress_tokens=BANNED,
        eos_token_id=None,
    )[0, len(PROMPT) :].tolist()
    assert tokens(module, new_sampler(0, kind, temperature=0, repetition_penalty=1.3)) == expected


def test_the_seed_determines_the_tokens(module: torch.nn.Module) -> None:
    assert tokens(module, new_sampler(1)) == tokens(module, new_sampler(1)) != tokens(module, new_sampler(2))


def test_the_global_generator_is_neither_used_nor_changed(module: torch.nn.Module) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = tokens(module, new_sampler(1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert tokens(module, new_sampler(1)) == first


@pytest.mark.parametrize("kind", SAMPLERS)
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
def test_only_allowed_tokens_are_drawn(
    kind: type[BaseSampler], config: dict[str, float], allowed: set[int]
) -> None:
    logits = torch.tensor([1.0, 1.9, 50.0, 2.0])
    sampler = kind(
        DecodeConfig(**{"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0, **config}),
        torch.Generator().manual_seed(0),
        [2],
    )
    assert {sampler.draw([3], logits) for _ in range(300)} == allowed


# --- the reference implementations, and the fast ones against them ----------------------------------


@given(
    seed=st.integers(0, 10_000),
    spread=st.sampled_from([0.05, 1.0, 4.0, 20.0]),
    penalty=st.sampled_from([0.7, 1.0, 1.3]),
    top_k=st.sampled_from([0, 1, 5, 40, 400]),
    top_p=st.sampled_from([0.01, 0.5, 0.95, 0.9999, 1.0]),
    min_p=st.sampled_from([0.0, 1e-6, 0.05, 1.0]),
)
def test_the_reference_equals_transformers(
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


def distribution_of(
    kind: type[Any],
    config: DecodeConfig,
    logits: Tensor,
    ids: Sequence[int],
    processor_types: ProcessorTypes = PROCESSORS,
) -> Tensor:
    """The distribution [V] that a sampler draws from, float64."""
    sampler = kind(config, torch.Generator().manual_seed(0), BANNED, processor_types, BREAKERS)
    scores = sampler.scores(ids, logits)
    if sampler.is_greedy:
        return torch.nn.functional.one_hot(torch.as_tensor(scores).argmax(), len(logits)).double()
    tokens, probs = map(torch.as_tensor, sampler.candidates(scores))
    return torch.zeros(len(logits), dtype=torch.float64).index_put(
        (tokens,), probs.double() / probs.double().sum()
    )


def compare_with_reference(
    config: DecodeConfig, logits: Tensor, ids: Sequence[int], processor_types: ProcessorTypes = PROCESSORS
) -> None:
    expected = distribution(config, BANNED, logits, ids, processor_types, BREAKERS)
    noise = 1e-5 * torch.randn(len(logits), generator=torch.Generator().manual_seed(1))
    disturbed = distribution(config, BANNED, logits + noise, ids, processor_types, BREAKERS)
    assume(torch.allclose(expected, disturbed, rtol=1e-3, atol=1e-6))  # else the result depends on rounding
    for kind in SAMPLERS:
        ours = distribution_of(kind, config, logits, ids, processor_types)
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=2e-6)
        assert torch.equal(ours > 1e-5, expected > 1e-5), kind
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
    "dry_multiplier": st.sampled_from([0.0, 0.0, 0.8, 3.0]),
    "dry_range": st.integers(0, 8),
    "dry_breakers": st.just(()),  # tests name their tokens: `BREAKERS`
}
IDS = st.lists(st.integers(0, 4), max_size=12)


def any_value(name: str) -> st.SearchStrategy[Any]:
    """The default or any value within its range, for a setting without values in `SETTINGS`."""
    (field,) = (field for field in fields(DecodeConfig) if field.name == name)
    min_value = field.metadata["at_least"] if field.metadata["above"] is None else field.metadata["above"]
    max_value = min(field.metadata["at_most"] or 10, 100)
    if isinstance(field.default, int):
        return st.just(field.default) | st.integers(math.ceil(min_value or 0), int(max_value))
    values = st.floats(min_value or 0, max_value, exclude_min=field.metadata["above"] is not None)
    return st.just(field.default) | values


SETTINGS |= {name: any_value(name) for kind in PROCESSORS for name in kind.fields if name not in SETTINGS}


@given(config=st.builds(DecodeConfig, **SETTINGS), logits=LOGITS, ids=IDS)
def test_both_samplers_match_the_reference(config: DecodeConfig, logits: Tensor, ids: list[int]) -> None:
    compare_with_reference(config, logits, ids)


def test_each_sampling_setting_belongs_to_one_processor() -> None:
    others = {"chunk_tokens", "context_tokens", "backend", "candidates", "recall"}
    others |= {f"{section}_tokens" for section in ("plan", "ledger", "recall", "note")}
    names = sorted(name for kind in PROCESSORS for name in kind.fields)
    assert names == sorted({field.name for field in fields(DecodeConfig)} - others)


def test_score_processors_come_before_filters() -> None:
    are_filters = [issubclass(kind, TokenFilter) for kind in PROCESSORS]
    assert are_filters == sorted(are_filters)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"top_k": 40}, True),
        ({"top_k": 60, "top_p": 0.1, "min_p": 0.5}, False),
        ({"top_p": 0.9}, True),
        ({"top_p": 0.99}, False),
        ({"top_p": 0.99, "min_p": 1e-4}, True),
        ({"top_p": 0.99, "min_p": 1e-5}, False),
    ],
)
def test_few_tokens_are_sorted_only_if_the_filters_allow_it(config: dict[str, Any], expected: bool) -> None:
    """With 50 tokens near the most likely one and a total probability of 0.95."""
    sampler = new_sampler(**config)
    assert isinstance(sampler, HostSampler) and sampler._covers_result(50, 0.95) is expected


# --- new processors ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExtendedConfig(DecodeConfig):
    """With the fields of three processors that exist only here."""

    typical_p: float = 0.5
    xtc_threshold: float = 0.1
    presence_penalty: float = 0.7


class Typical(TokenFilter):
    """Tokens of nearly average information, with a probability of `typical_p` together (arXiv 2202.00666)."""

    fields = ("typical_p",)

    def reference(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        logs = scores.log_softmax(-1)
        entropy = -(logs.exp() * logs).nansum()
        order = (-logs - entropy).abs().sort(stable=True).indices
        cumulative = logs.exp()[order].cumsum(-1)
        last = int((cumulative < self.config.typical_p).sum())  # type: ignore[attr-defined]
        return scores.index_fill(0, order[last + 1 :], -torch.inf)

    def apply(self, candidates: Candidates) -> None:
        xp, probs = candidates.xp, candidates.probs
        information = -xp.log(probs + 1e-38)
        entropy = (probs * information).sum()
        order = xp.argsort(abs(information - entropy))
        before = probs[order].cumsum(0) - probs[order]
        mask = before < 2  # all true
        mask[order] = before < self.config.typical_p  # type: ignore[attr-defined]
        candidates.restrict(mask)


class ExcludeTopChoices(TokenFilter):
    """Removes all tokens above a threshold but the least likely one (XTC, with a probability of 1)."""

    fields = ("xtc_threshold",)

    def reference(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        probs = scores.softmax(-1)
        above = probs >= self.config.xtc_threshold  # type: ignore[attr-defined]
        return scores.masked_fill(above & (probs > probs.where(above, torch.tensor(2.0)).min()), -torch.inf)

    def apply(self, candidates: Candidates) -> None:
        above = candidates.probs >= self.config.xtc_threshold  # type: ignore[attr-defined]
        candidates.restrict(~above | (above.cumsum(0) == above.sum()))


class PresencePenalty(ScoreProcessor):
    """Subtracts a penalty from the score of each token in the context."""

    fields = ("presence_penalty",)
    skipped_if_greedy = False

    def reference(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        scores = scores.clone()
        for token in set(ids):
            scores[token] -= self.config.presence_penalty  # type: ignore[attr-defined]
        return scores

    def apply_on_device(self, scores: Tensor, ids: Sequence[int]) -> Tensor:
        seen = torch.tensor(list(ids), dtype=torch.long).unique()
        return scores.index_add_(
            0,
            seen,
            torch.full_like(scores[seen], -self.config.presence_penalty),  # type: ignore[attr-defined]
        )


@given(
    config=st.builds(
        ExtendedConfig,
        top_k=st.sampled_from([0, 5]),
        top_p=st.sampled_from([0.5, 0.95, 1.0]),
        min_p=st.sampled_from([0.0, 0.05, 1.0]),
        typical_p=st.sampled_from([0.2, 0.9]),
        xtc_threshold=st.sampled_from([0.02, 0.3]),
    ),
    logits=LOGITS,
    ids=IDS,
    new_filter=st.sampled_from([Typical, ExcludeTopChoices]),
    index=st.integers(5, 8),
)
def test_a_new_processor_is_a_class_and_a_row(
    config: ExtendedConfig, logits: Tensor, ids: list[int], new_filter: type[TokenFilter], index: int
) -> None:
    """At any position among the filters."""
    processor_types: list[Any] = [PresencePenalty, *PROCESSORS]
    processor_types.insert(index, new_filter)
    compare_with_reference(config, logits, ids, processor_types)


def test_a_new_filter_sorts_all_tokens_by_default() -> None:
    config = ExtendedConfig(top_p=0.5)
    generator = torch.Generator().manual_seed(0)
    before, after = ([*PROCESSORS[:5], Typical, *PROCESSORS[5:]], [*PROCESSORS, Typical])
    assert not HostSampler(config, generator, (), before)._covers_result(50, 0.95)
    assert HostSampler(config, generator, (), after)._covers_result(50, 0.95), "only few tokens remain for it"


def test_a_gpu_sums_probabilities_as_integers() -> None:
    """So that the cumulative sums do not depend on the order of summation."""
    candidates = DeviceCandidates(torch.zeros(100_000))
    each = int(float(candidates.unmasked_probs[0]) * FIXED_POINT_ONE)
    expected = (torch.arange(100_000) * each).double().div(FIXED_POINT_ONE).float()
    assert torch.equal(candidates.cumulative_before, expected)


# --- draws -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_nan_logits_are_an_error(kind: type[BaseSampler], wrong: float) -> None:
    with pytest.raises(TemploraError, match="NaN logits"):
        new_sampler(0, kind).draw([0], torch.tensor([0.0, wrong, 1.0]))


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_special_token_beyond_the_vocabulary_is_ignored(kind: type[BaseSampler]) -> None:
    assert new_sampler(0, kind).draw([0], torch.tensor([0.0, -torch.inf])) == 0


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("penalty", [1.0, 2.0])
def test_drawing_does_not_change_the_logits(kind: type[BaseSampler], penalty: float) -> None:
    logits = torch.tensor([0.0, 1.0, -1.0])
    new_sampler(0, kind, repetition_penalty=penalty, temperature=0.5).draw([0, 1, 2], logits)
    assert logits.tolist() == [0, 1, -1], "their NLL is computed afterwards"


@pytest.mark.parametrize("kind", SAMPLERS)
def test_the_repetition_penalty_follows_the_context(kind: type[Any]) -> None:
    """When it grows, when it starts again, and for another vocabulary size."""
    sampler = new_sampler(0, kind, repetition_penalty=2.0)
    for ids, size in (([1, 2], 9), ([1, 2, 3], 9), ([1, 2, 3, 4, 5], 9), ([2, 6], 9), ([2], 9), ([2], 7)):
        scores = torch.as_tensor(sampler.scores(ids, torch.ones(size)))
        assert scores.tolist() == [0.5 if token in ids else 1.0 for token in range(size)]


def test_a_generator_on_the_cpu_gives_a_host_sampler() -> None:
    assert type(sampler_for(DecodeConfig(), torch.Generator(), ())) is HostSampler


@pytest.mark.parametrize("kind", SAMPLERS)
def test_tokens_are_drawn_by_their_probabilities(kind: type[BaseSampler]) -> None:
    sampler, logits = new_sampler(0, kind), torch.tensor([0.0, 1.0, 2.0, -torch.inf])
    counts = torch.bincount(torch.tensor([sampler.draw([0], logits) for _ in range(4000)]), minlength=4)
    torch.testing.assert_close(counts / 4000, logits.softmax(-1), rtol=0, atol=0.03)


def test_the_sampler_is_called_once_per_token_until_stop(module: torch.nn.Module) -> None:
    class Counting(HostSampler):
        calls = 0

        def draw(self, ids, logits):  # type: ignore[no-untyped-def]
            self.calls += 1
            return super().draw(ids, logits)

    counting = Counting(DecodeConfig(), torch.Generator().manual_seed(0), BANNED)
    out = list(
        EagerBackend(module).decode(PROMPT, sampler=counting, max_tokens=50, stop=lambda c: len(c) == 6)
    )
    assert len(out) == counting.calls == 6


def test_gradients_are_enabled_while_decoding_is_suspended(module: torch.nn.Module) -> None:
    stream = EagerBackend(module).decode(PROMPT, sampler=new_sampler(), max_tokens=5, stop=lambda c: False)
    next(stream)
    assert torch.is_grad_enabled()
    stream.close()
