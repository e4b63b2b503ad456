"""Tokens are drawn as `generate()` would, with randomness that is ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from templora_cli.config import DecodeConfig
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.decoding.sampling import HostSampler, Sampler, sampler_for
from templora_cli.errors import TemploraError

KINDS = [Sampler, HostSampler]
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


@given(
    seed=st.integers(0, 10_000),
    spread=st.sampled_from([0.05, 1.0, 4.0, 20.0]),
    top_k=st.sampled_from([0, 1, 5, 40, 400]),
    top_p=st.sampled_from([0.01, 0.5, 0.95, 0.9999, 1.0]),
    min_p=st.sampled_from([0.0, 1e-6, 0.05, 1.0]),
)
def test_what_may_come_out_is_what_transformers_lets_through(
    seed: int, spread: float, top_k: int, top_p: float, min_p: float
) -> None:
    scores = spread * torch.randn(300, generator=torch.Generator().manual_seed(seed))
    scores[:3] = -torch.inf
    warpers = LogitsProcessorList()
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    held = warpers(None, scores[None].clone())[0].softmax(-1).sort(descending=True).values.cumsum(-1)
    assume(not top_p < 1 or (held - top_p).abs().min() > 1e-6)  # where rounding decides
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    if min_p:
        warpers.append(MinPLogitsWarper(min_p))
    left = warpers(None, scores[None].clone())[0].softmax(-1)
    host = HostSampler(
        DecodeConfig(top_k=top_k, top_p=top_p, min_p=min_p), torch.Generator().manual_seed(0), BANNED
    )
    on_host = tuple(map(torch.from_numpy, host.host_candidates(scores.numpy())))
    for found, probabilities in (host.candidates(scores), on_host):
        ours = torch.zeros(300).index_put((found,), probabilities / probabilities.sum())
        torch.testing.assert_close(ours, left, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_told(kind: type[Sampler], wrong: float) -> None:
    with pytest.raises(TemploraError, match="not numbers"):
        sampler(0, kind).draw([0], torch.tensor([0.0, wrong, 1.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_special_token_that_the_model_has_no_logits_for(kind: type[Sampler]) -> None:
    assert sampler(0, kind).draw([0], torch.tensor([0.0, -torch.inf])) == 0


def test_logits_stay_as_they_are() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0])
    sampler(repetition_penalty=2.0, temperature=0.5).draw([0, 1, 2], logits)
    assert logits.tolist() == [0, 1, -1], "their NLL is taken afterwards"


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
