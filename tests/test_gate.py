"""The gate: which generated chunks are learnt."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from templora_cli.config import GateConfig
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.events import ChunkLearnt, ChunkRejected
from templora_cli.gate import fault_of, harm_reason_of
from templora_cli.prompt import Prompt
from templora_cli.turn import Chunk, Compose, Generate, Given, Predictions
from tests.loop import CONFIG, HEADER, Loop, adapter_of, learnt, same

TURN = Generate(Prompt((1, 2, 3), ()), 12)
HELLO = Chunk(tuple(b"Hello there."), "Hello there.")


def reason_of(*arguments: Any) -> str | None:
    fault = fault_of(*arguments)
    return fault and fault.reason


def test_a_chunk_that_loops_is_written_again(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    loop.backend.enqueue("abababababab", "Hello there.")
    events = loop.run()
    (rejected,) = [e for e in events if isinstance(e, ChunkRejected)]
    assert rejected.index == 0 and rejected.rejection_reason == "it loops: it repeats 78% of its own phrases"
    (chunk,) = learnt(events)
    assert chunk.text == "Hello there." and chunk.rejection_reason is None and chunk.train_losses
    assert loop.state.tokens == [ord(c) for c in "Hello there."]


def test_a_second_looping_chunk_is_committed_and_not_learnt(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 24, config=CONFIG)
    loop.backend.enqueue("abababababab", "cdcdcdcdcdcd", "Hello there.")
    before = adapter_of(loop.state)
    looping, sound = [], []
    for event in loop.stream():
        if isinstance(event, ChunkLearnt):
            (sound if looping else looping).append(event)
            assert same(adapter_of(loop.state), before) == (event.index == 0)
    assert looping[0].text == "cdcdcdcdcdcd" and "loops" in (looping[0].rejection_reason or "")
    assert looping[0].train_losses == () and looping[0].lr is None
    assert sound[0].rejection_reason is None and sound[0].train_losses
    assert loop.state.generated_nlls == [looping[0].nll_base, sound[0].nll_base]


def test_an_empty_chunk_is_not_learnt(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    loop.backend.enqueue(" " * 12, "\n" * 12)
    (chunk,) = learnt(loop.run())
    assert chunk.rejection_reason == "it is empty" and chunk.train_losses == ()


@pytest.mark.parametrize("usual", [0.5, 20.0])
def test_a_chunk_with_an_nll_out_of_range_is_not_learnt(usual: float, tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    loop.state.generated_nlls += [100.0] * 3 + [usual] * 8
    loop.backend.enqueue("Hello there.", "More of it..")
    (chunk,) = learnt(loop.run())
    far, may = ("less", "be garbled") if usual < 1 else ("more", "be repeating itself")
    reason = chunk.rejection_reason or ""
    assert reason.startswith(f"the model expects this chunk far {far} than recent ones (")
    assert reason.endswith(f" against {usual:.2f} nats a token): it may {may}")
    assert loop.state.generated_nlls[11:] == [chunk.nll_base], "a lasting change is accepted"
    fewer = Loop(tiny_model, 12)
    fewer.state.generated_nlls += [usual] * 2
    fewer.backend.enqueue("Hello there.")
    assert learnt(fewer.run())[0].rejection_reason is None, "two chunks are too few for a range"


def test_a_nan_nll_is_rejected_and_does_not_change_the_range() -> None:
    assert "NaN or infinite" in (reason_of(TURN, HELLO, math.nan, [], CONFIG) or "")
    nlls = [2.0] * 3 + [math.nan] * 5
    assert reason_of(TURN, HELLO, 2.5, nlls, CONFIG) is None
    assert "(3.50 against 2.00 nats a token)" in (reason_of(TURN, HELLO, 3.5, nlls, CONFIG) or "")
    assert reason_of(TURN, replace(HELLO, tokens=HELLO.tokens[:2]), 3.5, nlls, CONFIG) is None, (
        "two tokens are too few to judge"
    )


def test_prose_is_not_learnt_after_too_much_drift(tiny_model: Path) -> None:
    close = replace(CONFIG, gate=GateConfig(entropy=1e-6))
    loop = Loop(tiny_model, 36, config=close)
    loop.backend.enqueue("Hello there.", "Hello there.", "More of it..")
    events = loop.run()
    first, second, _ = learnt(events)
    assert first.rejection_reason is None and first.train_losses, "B is zero at first"
    assert "narrows the model's choice of words" in (second.rejection_reason or "")
    assert not second.train_losses and not any(isinstance(e, ChunkRejected) for e in events)
    opening = Loop(tiny_model, 12, opening="Hello there." * 3, config=CONFIG)
    opening.backend.enqueue("Hello there.")
    *human, generated = learnt(opening.run())
    assert len(human) == 3 and not any(chunk.rejection_reason for chunk in human), "human text passes"
    assert generated.rejection_reason is not None and "repeat the book" in generated.rejection_reason
    off = replace(close, gate=GateConfig(enabled=False, entropy=1e-6))
    free = Loop(tiny_model, 24, config=off)
    free.backend.enqueue("Hello there.", "Hello there.")
    assert learnt(free.run())[1].train_losses


def test_only_the_learnt_tokens_of_a_masked_chunk_are_judged() -> None:
    mask = (True, False) * 12
    tokens = list(b"abcdefghijklmnopqrstuvwx")
    tokens[1::2] = b"zzzzzzzzzzzz"
    chunk = Chunk(tuple(tokens), "text", mask)
    assert reason_of(TURN, chunk, 2.0, [], CONFIG) is None
    looping = replace(chunk, loss_mask=tuple(not learnt for learnt in mask))
    assert "loops" in (reason_of(TURN, looping, 2.0, [], CONFIG) or "")


def test_human_text_passes_and_the_gate_can_be_disabled(tiny_model: Path) -> None:
    opening = Loop(tiny_model, 12, opening="abababababab")
    opening.backend.enqueue("Hello there.")
    assert learnt(opening.run())[0].rejection_reason is None
    off = Loop(tiny_model, 12, config=replace(CONFIG, gate=GateConfig(enabled=False)))
    off.backend.enqueue("abababababab")
    assert learnt(off.run())[0].train_losses


def test_a_rejection_by_the_task_counts_without_a_gate_too() -> None:
    rejected = replace(HELLO, rejection_reason="none of its paragraphs passed its checks")
    for enabled in (True, False):
        config = replace(CONFIG, gate=GateConfig(enabled=enabled))
        assert reason_of(TURN, rejected, 2.0, [], config) == rejected.rejection_reason


@pytest.mark.parametrize("rejection_reason", [None, "it loops"])
def test_a_judged_chunk_is_not_judged_again(rejection_reason: str | None) -> None:
    looping = Chunk(tuple(b"abababababab"), "abababababab", rejection_reason=rejection_reason)
    fresh = Given(TURN.prompt, looping.tokens, "generated", rejection_reason=rejection_reason)
    again = replace(fresh, judged=True)
    assert reason_of(again, looping, math.nan, [2.0] * 9, CONFIG) == rejection_reason
    assert reason_of(fresh, looping, math.nan, [2.0] * 9, CONFIG) is not None
    far = Predictions(9.0, 3.0, 0.0), Predictions(1.0, 3.0, 0.0)
    assert harm_reason_of(again, *far, CONFIG) is None
    assert (
        harm_reason_of(fresh, *far, CONFIG)
        == "learning has moved the model too far from where it began (8.00 nats a token)"
    )


REPEATS = "learning makes the model repeat the book ({} of its words in place of {})"
DULL = "learning narrows the model's choice of words too far (an entropy of 2.40 in place of 3.00 nats)"


@pytest.mark.parametrize(
    ("base", "adapter", "reason"),
    [
        ((3.0, 3.0, 0.02), (3.0, 3.0, 0.023), None),
        ((3.0, 3.0, 0.02), (3.0, 3.0, 0.06), REPEATS.format("6.0%", "2.0%")),
        ((3.0, 3.0, 0.001), (3.0, 3.0, 0.011), None),
        ((3.0, 3.0, 0.001), (3.0, 3.0, 0.03), REPEATS.format("3.0%", "0.1%")),
        ((3.0, 3.0, 0.02), (3.0, 2.75, 0.02), None),
        ((3.0, 3.0, 0.02), (3.0, 2.4, 0.02), DULL),
    ],
)
def test_an_adapter_that_repeats_the_book_or_is_too_sure_learns_nothing(
    base: tuple[float, ...], adapter: tuple[float, ...], reason: str | None
) -> None:
    predictions = Predictions(*base), Predictions(*adapter)
    assert harm_reason_of(TURN, *predictions, CONFIG) == reason
    off = replace(CONFIG, gate=GateConfig(enabled=False))
    human = Given(TURN.prompt, HELLO.tokens)
    composed = Compose(TURN.prompt, 12, lambda index, decode: iter(()))  # type: ignore[arg-type, return-value]
    for turn, config in ((TURN, off), (human, CONFIG), (composed, CONFIG)):
        assert harm_reason_of(turn, *predictions, config) is None


def test_a_translation_may_repeat_itself_and_stay_near_the_base() -> None:
    composed = Compose(TURN.prompt, 12, lambda index, decode: iter(()))  # type: ignore[arg-type, return-value]
    near, far = Predictions(2.3, 2.0, 0.5), Predictions(2.0, 2.0, 0.5)
    base = Predictions(3.0, 3.0, 0.02)
    assert harm_reason_of(composed, base, near, CONFIG) is None
    assert harm_reason_of(TURN, base, Predictions(1.0, 3.0, 0.02), CONFIG) is None, "prose has other limits"
    reason = harm_reason_of(composed, base, far, CONFIG)
    assert reason == "learning has moved the model too far from where it began (1.00 nats a token)"


def test_without_an_adapter_there_is_no_harm() -> None:
    assert harm_reason_of(TURN, Predictions(3.0, 3.0, 0.1), None, CONFIG) is None
    assert harm_reason_of(TURN, None, None, CONFIG) is None


def test_what_repeats_is_measured_against_the_whole_book(tiny_model: Path) -> None:
    """The window has 20 tokens; the 4-grams of the opening are known after 36."""
    opening, config = "Hello there.", replace(CONFIG, gate=GateConfig(completion=100, drift=100))
    loop = Loop(tiny_model, 36, opening=opening, config=config)
    loop.backend.enqueue("abcdefghijkl", "mnopqrstuvwx", "Hello there.")
    *_, new, again = learnt(loop.run())
    with torch.no_grad(), loop.model.without_adapter():
        book = list(b"Hello there.abcdefghijklmnopqrstuvwx")
        nlls = chunk_nll(loop.model.module, (*HEADER, *book[-20:]), again.tokens)
    assert new.completion_base == 0.0
    assert again.completion_base == pytest.approx(nlls[3:].neg().exp().sum().item() / 12, rel=1e-4)
