"""The loop: what is learnt, what is not, in which order, and that the state is whole."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.config import Config, DecodeConfig, GateConfig, LearningConfig, TrainConfig
from templora_cli.engine.decoding.base import Sampler, Stop, TokenOut
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.models import loading
from templora_cli.engine.training.loss import chunk_logits, chunk_nll
from templora_cli.engine.training.objectives import Window, objective
from templora_cli.events import (
    ChunkLearnt,
    ChunkRejected,
    ChunkScored,
    ChunkStarted,
    Event,
    Notice,
    TextDecoded,
    TrainStep,
)
from templora_cli.gate import flaw_of, repetition
from templora_cli.learning import learning_rate, windows
from templora_cli.novel.prompt import opening_tokens
from templora_cli.novel.task import Goal, NovelTask
from templora_cli.state import WritingState
from templora_cli.temp_lora import decode_chunk, score_chunk, write
from templora_cli.turn import Chunk

WHOLE = LearningConfig(lr=1e-2, epochs=2, context_tokens=2048, window_tokens=0)
"""Whole chunks after the whole context, in two passes, as in the paper."""
CONFIG = Config(
    decode=DecodeConfig(chunk_tokens=12, context_tokens=20),
    train=TrainConfig(rank=4, alpha=4, warmup_chunks=2, dropout=0.1),
    given=WHOLE,
    own=WHOLE,
    seed=3,
)


class FakeBackend:
    """Writes what it was told to write."""

    exact = True

    def __init__(self) -> None:
        self.queue: list[list[int]] = []
        self.prompts: list[Sequence[int]] = []
        self.changes = self.beginnings = self.ends = 0

    def enqueue(self, *chunks: str) -> FakeBackend:
        self.queue += [[ord(c) for c in chunk] for chunk in chunks]
        return self

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[TokenOut]:
        self.prompts.append(prompt)
        for token in self.queue.pop(0)[:max_tokens]:
            yield TokenOut(token)

    def chunk_begins(self) -> None:
        self.beginnings += 1

    def decoding_ends(self) -> None:
        self.ends += 1

    def adapter_changed(self) -> None:
        self.changes += 1


class Loop:
    """A loop over the tiny model."""

    def __init__(self, folder: Path, goal: int, *, opening: str = "", config: Config = CONFIG) -> None:
        self.config = config
        self.model = loading.load(folder, config.model, config.train, seed=config.seed)
        tokens = opening_tokens(self.model.tokenizer, opening)
        self.task = NovelTask((1, 2, 3), tokens, Goal(goal, "tokens"), config.decode, self.model.tokenizer)
        self.state = WritingState.begin(self.model, config)
        self.backend = FakeBackend()

    def run(self) -> list[Event]:
        return list(write(self.task, self.model, self.backend, self.state, self.config))


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events if not isinstance(event, TextDecoded)]


def learnt(events: list[Event]) -> list[ChunkLearnt]:
    return [event for event in events if isinstance(event, ChunkLearnt)]


def test_one_turn_is_decode_score_train(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 24)
    loop.backend.enqueue("Hello there.", "More of it..")
    events = loop.run()
    turn = ["ChunkStarted", "ChunkScored", "TrainStep", "TrainStep", "ChunkLearnt"]
    assert kinds(events) == turn * 2
    texts = ["".join(e.text for e in events if isinstance(e, TextDecoded) and e.index == i) for i in (0, 1)]
    assert texts == [e.text for e in learnt(events)]
    assert (
        loop.backend.changes == loop.backend.beginnings == loop.backend.ends == 2 and loop.state.chunks == 2
    )
    assert loop.state.tokens == [t for e in learnt(events) for t in e.tokens]


def test_the_prompt_is_the_header_and_the_window(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 36)
    loop.backend.enqueue("abcdefghijkl", "mnopqrstuvwx", "yz0123456789")
    loop.run()
    book = loop.state.tokens
    assert loop.backend.prompts == [(1, 2, 3), (1, 2, 3, *book[:12]), (1, 2, 3, *book[4:24])]


def test_the_adapter_learns_the_chunk_and_the_base_stays(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 72)
    loop.backend.enqueue(*["Hello there."] * 6)
    frozen = {n: p.clone() for n, p in loop.model.module.named_parameters() if not p.requires_grad}
    scores = [e for e in loop.run() if isinstance(e, ChunkScored)]
    assert scores[0].nll_adapter == scores[0].nll_base, "B is zero at first"
    gains = [e.nll_base - (e.nll_adapter or 0) for e in scores]
    assert gains[-1] > gains[1] > 0, gains
    assert all(torch.equal(p, frozen[n]) for n, p in loop.model.module.named_parameters() if n in frozen)


def test_scores_are_taken_before_training(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 24)
    loop.backend.enqueue("Hello there.", "More of it..")
    stream = write(loop.task, loop.model, loop.backend, loop.state, loop.config)
    for event in stream:
        if isinstance(event, ChunkScored) and event.index == 1:
            chunk = [ord(c) for c in "More of it.."]
            with torch.no_grad():
                now = chunk_nll(loop.model.module, loop.backend.prompts[-1], chunk).mean().item()
            assert event.nll_adapter == now
            return
    raise AssertionError("no second chunk")


def test_what_was_decoded_is_not_read_again_for_its_score(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its NLL is that which its tokens had when they were drawn, before penalties and temperature."""
    loop = Loop(tiny_model, 24)
    with torch.no_grad():
        for weight in loop.state.adapter.values():
            weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    turn = loop.task.next_turn([], [])
    assert turn is not None
    backend = EagerBackend(loop.model.module)
    stream = decode_chunk(loop.task, turn, loop.model, backend, loop.state, loop.config)
    chunk = yield_from(stream)
    with torch.no_grad():
        expected = chunk_nll(loop.model.module, turn.header, chunk.tokens).mean().item()
        with loop.model.without_adapter():
            base = chunk_nll(loop.model.module, turn.header, chunk.tokens).mean().item()
    passes = []

    def counted(*arguments: Any) -> torch.Tensor:
        passes.append(arguments)
        return chunk_nll(*arguments)

    monkeypatch.setattr("templora_cli.temp_lora.chunk_nll", counted)
    assert len(chunk.tokens) == 12 and abs(base - expected) > 0.01
    assert score_chunk(turn, chunk, loop.model) == pytest.approx((base, expected), abs=1e-4)
    assert len(passes) == 1


def yield_from(stream: Generator[Event, None, Chunk]) -> Chunk:
    """What a generator returns at its end."""
    try:
        while True:
            next(stream)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def test_loss_is_on_the_chunk_only(tiny_model: Path) -> None:
    """With dropout off, the first loss of a pass is the score of the chunk."""
    config = Config(
        decode=CONFIG.decode,
        train=TrainConfig(rank=4, alpha=4, dropout=0.0),
        own=replace(WHOLE, epochs=1),
    )
    loop = Loop(tiny_model, 24, config=config)
    loop.backend.enqueue("Hello there.", "More of it..")
    events = loop.run()
    scores = [e.nll_adapter for e in events if isinstance(e, ChunkScored)]
    losses = [e.loss for e in events if isinstance(e, TrainStep)]
    assert losses == pytest.approx(scores, abs=1e-6)


def test_training_shows_at_most_its_own_context(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, own=replace(WHOLE, context_tokens=5))
    loop = Loop(tiny_model, 36, config=config)
    loop.backend.enqueue("abcdefghijkl", "mnopqrstuvwx", "yz0123456789")
    seen = []

    def spy(
        module: torch.nn.Module, prompt: Sequence[int], chunk: Sequence[int], mask: Sequence[bool] = ()
    ) -> torch.Tensor:
        if torch.is_grad_enabled():
            seen.append(tuple(prompt))
        return chunk_nll(module, prompt, chunk, mask)

    monkeypatch.setattr("templora_cli.temp_lora.chunk_nll", spy)
    loop.run()
    book = loop.state.tokens
    assert seen == [(1, 2, 3)] * 2 + [(1, 2, 3, *book[7:12])] * 2 + [(1, 2, 3, *book[19:24])] * 2


def test_a_persons_opening_is_learnt_and_never_decoded(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12, opening="It was a dark night.")
    loop.backend.enqueue("And it went.")
    events = loop.run()
    assert [(e.origin, e.text) for e in learnt(events)] == [
        ("given", "It was a dar"),
        ("given", "k night."),
        ("own", "And it went."),
    ]
    assert all(e.train_losses for e in learnt(events))
    assert {e.index for e in events if isinstance(e, TextDecoded)} == {2}


def test_without_learning_nothing_is_trained_but_the_base_is_scored(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12, config=Config(decode=CONFIG.decode, train=TrainConfig(learn=False)))
    loop.backend.enqueue("Hello there.")
    events = loop.run()
    assert kinds(events) == ["ChunkStarted", "ChunkScored", "ChunkLearnt"]
    (chunk,) = learnt(events)
    assert chunk.nll_base > 0 and chunk.nll_adapter is None and chunk.train_losses == ()
    assert chunk.lr is None and loop.backend.changes == 0
    assert loop.backend.beginnings == loop.state.chunks, "what was decoded before is forgotten all the same"


def test_a_pass_that_is_not_finite_leaves_the_adapter(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 24)
    loop.backend.enqueue("Hello there.", "More of it..")
    stream = write(loop.task, loop.model, loop.backend, loop.state, loop.config)
    events: list[Event] = []
    parameter = next(p for n, p in loop.model.adapter.items() if "lora_B" in n)
    for event in stream:
        events.append(event)
        if isinstance(event, ChunkScored) and event.index == 1:
            hook = parameter.register_hook(lambda gradient: gradient * float("nan"))
            before = {n: p.clone() for n, p in loop.model.adapter.items()}
    hook.remove()
    assert any(isinstance(e, Notice) and "chunk 2: pass 1 of 2" in e.message for e in events)
    assert learnt(events)[1].train_losses == () and learnt(events)[1].lr is None
    assert all(torch.equal(p, before[n]) for n, p in loop.model.adapter.items())
    assert all(p.grad is None for p in loop.model.adapter.values())


def test_the_process_generator_is_neither_used_nor_moved(tiny_model: Path) -> None:
    outcomes = []
    for seed in (1, 2):
        loop = Loop(tiny_model, 24)
        loop.backend.enqueue("Hello there.", "More of it..")
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        outcomes.append([e.train_losses for e in learnt(loop.run())])
        assert torch.equal(torch.get_rng_state(), state)
    assert outcomes[0] == outcomes[1]


def test_dropout_draws_anew_in_every_pass(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    loop.backend.enqueue("Hello there.")
    before = loop.state.dropout.clone()
    loop.run()
    assert not torch.equal(loop.state.dropout, before)


def test_the_rate_grows_to_its_value_and_is_never_nothing() -> None:
    learning, train = LearningConfig(lr=1.0), TrainConfig(warmup_chunks=4)
    assert [learning_rate(i, learning, train) for i in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert learning_rate(0, learning, TrainConfig(warmup_chunks=0)) == 1.0


def test_the_rate_reaches_the_optimizer(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 24)
    loop.backend.enqueue("Hello there.", "More of it..")
    rates = []
    for event in write(loop.task, loop.model, loop.backend, loop.state, loop.config):
        if isinstance(event, TrainStep):
            assert loop.state.optimizer is not None
            rates.append((event.lr, loop.state.optimizer.param_groups[0]["lr"]))
    assert rates == [(5e-3, 5e-3)] * 2 + [(1e-2, 1e-2)] * 2


def test_given_and_own_text_are_learnt_each_in_its_way(tiny_model: Path) -> None:
    config = replace(CONFIG, given=LearningConfig(lr=2e-3, epochs=3), own=LearningConfig(lr=4e-3, epochs=1))
    loop = Loop(tiny_model, 12, opening="It was a dar", config=config)
    loop.backend.enqueue("k night then")
    given, own = learnt(loop.run())
    assert (given.origin, len(given.train_losses), given.lr) == ("given", 3, 1e-3)
    assert (own.origin, len(own.train_losses), own.lr) == ("own", 1, 4e-3)


DISTILL = LearningConfig(objective="distill", lr=1e-2, context_tokens=4, teacher_context_tokens=100, epochs=8)


def test_distilling_brings_the_adapter_towards_the_base_that_sees_more(tiny_model: Path) -> None:
    config = replace(CONFIG, own=DISTILL, train=replace(CONFIG.train, dropout=0.0))
    loop = Loop(tiny_model, 36, config=config)
    loop.backend.enqueue("abcdefghijkl", "mnopqrstuvwx", "yz0123456789")
    chunks = learnt(loop.run())
    assert chunks[0].train_losses == (), "both see the same there"
    for chunk in chunks[1:]:
        assert 0 < chunk.train_losses[-1] < 0.8 * chunk.train_losses[0]


def test_the_target_of_distilling_does_not_move_with_the_adapter(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 24, config=replace(CONFIG, own=DISTILL))
    chunk = [9, 10, 11]
    window = Window((1, 2, 3), (7, 8), (5, 6, 7, 8), tuple(chunk), ())
    with torch.no_grad():
        teacher = chunk_logits(loop.model.module, [1, 2, 3, 5, 6, 7, 8], chunk).log_softmax(-1)
        for name, parameter in loop.model.adapter.items():
            if "lora_B" in name:
                parameter += 0.1
        student = chunk_logits(loop.model.module, [1, 2, 3, 7, 8], chunk).log_softmax(-1)
        expected = (teacher.exp() * (teacher - student)).sum(-1).mean()
        assert objective(window, loop.model, DISTILL)() == pytest.approx(expected.item(), rel=1e-4)


def test_checkpointed_gradients_are_the_same(tiny_model: Path) -> None:
    adapters = []
    for checkpointing in ("on", "off"):
        train = TrainConfig(rank=4, alpha=4, dropout=0.3, gradient_checkpointing=checkpointing)
        loop = Loop(tiny_model, 24, config=replace(CONFIG, train=train))
        loop.backend.enqueue("Hello there.", "More of it..")
        loop.run()
        adapters.append({n: p.detach().clone() for n, p in loop.model.adapter.items()})
    for name, parameter in adapters[0].items():
        assert torch.equal(parameter, adapters[1][name]), "a session may go on with either"


def test_started_says_what_the_model_sees(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 30)
    loop.backend.enqueue("abcdefghijkl", "mnopqrstuvwx", "yz0123456789")
    started = [e for e in loop.run() if isinstance(e, ChunkStarted)]
    assert [(e.index, e.origin, e.context_tokens, e.max_tokens) for e in started] == [
        (0, "own", 0, 12),
        (1, "own", 12, 12),
        (2, "own", 20, 6),
    ]


def test_training_needs_no_terminal_and_no_disk(tiny_model: Path) -> None:
    """`train_on_chunk` alone can be driven by anyone with a model and a turn."""
    loop = Loop(tiny_model, 12)
    turn = loop.task.next_turn([])
    assert turn is not None
    steps = list(train_on_chunk(turn, Chunk((72, 73, 74), ""), loop.model, loop.state, CONFIG))
    assert [step.epoch for step in steps if isinstance(step, TrainStep)] == [1, 2]


def test_a_chunk_that_loops_is_written_again(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    loop.backend.enqueue("abababababab", "Hello there.")
    events = loop.run()
    (rejected,) = [e for e in events if isinstance(e, ChunkRejected)]
    assert rejected.index == 0 and rejected.flaw == "it loops: 78% of it stood there before"
    (chunk,) = learnt(events)
    assert chunk.text == "Hello there." and chunk.flaw is None and chunk.train_losses
    assert loop.state.tokens == [ord(c) for c in "Hello there."]


def test_a_chunk_that_loops_again_is_kept_and_not_learnt(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 24, config=CONFIG)
    loop.backend.enqueue("abababababab", "cdcdcdcdcdcd", "Hello there.")
    before = {n: p.detach().clone() for n, p in loop.model.adapter.items()}
    looping, sound = [], []
    for event in write(loop.task, loop.model, loop.backend, loop.state, loop.config):
        if isinstance(event, ChunkLearnt):
            (sound if looping else looping).append(event)
            same = all(torch.equal(p, before[n]) for n, p in loop.model.adapter.items())
            assert same == (event.index == 0)
    assert looping[0].text == "cdcdcdcdcdcd" and "loops" in (looping[0].flaw or "")
    assert looping[0].train_losses == () and looping[0].lr is None
    assert sound[0].flaw is None and sound[0].train_losses
    assert loop.state.own_nlls == [looping[0].nll_base, sound[0].nll_base]


def test_an_empty_chunk_is_not_learnt(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    loop.backend.enqueue(" " * 12, "\n" * 12)
    (chunk,) = learnt(loop.run())
    assert chunk.flaw == "it is empty" and chunk.train_losses == ()


@pytest.mark.parametrize("usual", [0.5, 20.0])
def test_a_chunk_that_leaves_the_range_of_those_before_is_not_learnt(usual: float, tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    loop.state.own_nlls += [100.0] * 3 + [usual] * 8
    loop.backend.enqueue("Hello there.", "More of it..")
    (chunk,) = learnt(loop.run())
    assert f"that of those before it {usual:.2f}" in (chunk.flaw or "")
    assert loop.state.own_nlls[11:] == [chunk.nll_base], "a lasting change is accepted in the end"
    fewer = Loop(tiny_model, 12)
    fewer.state.own_nlls += [usual] * 2
    fewer.backend.enqueue("Hello there.")
    assert learnt(fewer.run())[0].flaw is None, "two chunks are no range"


def test_an_nll_that_is_no_number_is_a_flaw_and_no_measure(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    turn, text = loop.task.next_turn([]), "Hello there."
    chunk = Chunk(tuple(text.encode()), text)
    assert turn is not None
    assert "not finite" in (flaw_of(turn, chunk, math.nan, loop.state, CONFIG) or "")
    loop.state.own_nlls += [2.0] * 3 + [math.nan] * 5
    assert flaw_of(turn, chunk, 2.5, loop.state, CONFIG) is None
    assert "that of those before it 2.00" in (flaw_of(turn, chunk, 3.5, loop.state, CONFIG) or "")
    assert flaw_of(turn, replace(chunk, tokens=chunk.tokens[:2]), 3.5, loop.state, CONFIG) is None, (
        "two tokens say little"
    )


def test_nothing_of_its_own_is_learnt_where_the_adapter_has_moved_too_far(tiny_model: Path) -> None:
    close = replace(CONFIG, gate=GateConfig(drift=1e-4))
    loop = Loop(tiny_model, 36, config=close)
    loop.backend.enqueue("Hello there.", "Hello there.", "More of it..")
    events = loop.run()
    first, second, _ = learnt(events)
    assert first.flaw is None and first.train_losses, "B is zero at first"
    gain = second.nll_base - (second.nll_adapter or 0)
    assert second.flaw == f"the adapter has moved {gain:.2f} nats/token away from the base"
    assert not second.train_losses and not any(isinstance(e, ChunkRejected) for e in events)
    opening = Loop(tiny_model, 12, opening="Hello there." * 3, config=close)
    opening.backend.enqueue("Hello there.")
    *given, own = learnt(opening.run())
    assert len(given) == 3 and not any(chunk.flaw for chunk in given), "a person's text passes"
    assert own.flaw is not None and "moved" in own.flaw
    off = replace(close, gate=GateConfig(enabled=False, drift=1e-4))
    free = Loop(tiny_model, 24, config=off)
    free.backend.enqueue("Hello there.", "Hello there.")
    assert learnt(free.run())[1].train_losses


def test_of_a_masked_chunk_the_gate_sees_what_is_learnt(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    mask = (True, False) * 12
    tokens = list(b"abcdefghijklmnopqrstuvwx")
    tokens[1::2] = b"zzzzzzzzzzzz"
    turn, chunk = loop.task.next_turn([]), Chunk(tuple(tokens), "text", mask)
    assert flaw_of(turn, chunk, 2.0, loop.state, CONFIG) is None
    looping = replace(chunk, loss_mask=tuple(not learnt for learnt in mask))
    assert "loops" in (flaw_of(turn, looping, 2.0, loop.state, CONFIG) or "")


def test_what_is_there_already_is_not_written_again(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    turns = iter([replace(loop.task.next_turn([]), given=tuple(b"abababababab")), None])
    loop.task = SimpleNamespace(
        next_turn=lambda book, records: next(turns), text_stream=loop.task.text_stream
    )
    events = loop.run()
    assert not any(isinstance(e, ChunkRejected) for e in events)
    assert learnt(events)[0].flaw and learnt(events)[0].origin == "own"


def test_greedy_does_not_write_the_same_again(tiny_model: Path) -> None:
    config = replace(CONFIG, decode=replace(CONFIG.decode, temperature=0.0))
    loop = Loop(tiny_model, 12, config=config)
    loop.backend.enqueue("abababababab")
    events = loop.run()
    assert not any(isinstance(e, ChunkRejected) for e in events)
    assert learnt(events)[0].flaw


def test_text_of_a_person_passes_and_the_gate_can_be_off(tiny_model: Path) -> None:
    opening = Loop(tiny_model, 12, opening="abababababab")
    opening.backend.enqueue("Hello there.")
    assert learnt(opening.run())[0].flaw is None
    off = Loop(tiny_model, 12, config=replace(CONFIG, gate=GateConfig(enabled=False)))
    off.backend.enqueue("abababababab")
    assert learnt(off.run())[0].train_losses


def test_a_mask_says_what_of_a_chunk_is_scored_and_learnt(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    mask = (False,) * 6 + (True,) * 6
    turn, chunk = replace(loop.task.next_turn([]), origin="given"), Chunk(tuple(b"Hello there."), "", mask)
    with torch.no_grad():
        expected = chunk_nll(loop.model.module, turn.header, chunk.tokens)[6:].mean().item()
    assert score_chunk(turn, chunk, loop.model)[0] == pytest.approx(expected)
    config = replace(CONFIG, train=replace(CONFIG.train, dropout=0.0))
    (first, *_) = train_on_chunk(turn, chunk, loop.model, loop.state, config)
    assert first.loss == pytest.approx(expected, rel=1e-5)


def test_a_chunk_is_learnt_in_windows_each_after_what_stands_before_it(tiny_model: Path) -> None:
    learning = replace(WHOLE, window_tokens=5, context_tokens=4)
    loop = Loop(tiny_model, 24, config=replace(CONFIG, own=learning))
    loop.backend.enqueue("abcdefghijkl", "mnopqrstuvwx")
    steps = 0
    optimizer = loop.state.optimizer
    step = optimizer.step

    def counted() -> None:
        nonlocal steps
        steps += 1
        step()

    optimizer.step = counted
    events = loop.run()
    assert steps == 2 * 2 * 3, "two chunks, two passes, three windows"
    assert kinds(events).count("TrainStep") == 4
    turn = replace(loop.task.next_turn([]), header=(1,), context=(2, 3))
    loop.state.tokens[:] = [8, 9]
    chunk = Chunk(tuple(range(10, 22)), "")
    first, second, third = windows(turn, chunk, loop.state, learning)
    assert (first.context, first.tokens) == ((2, 3), (10, 11, 12, 13, 14))
    assert (second.context, second.tokens) == ((11, 12, 13, 14), (15, 16, 17, 18, 19))
    assert (third.tokens, third.book) == ((20, 21), (8, 9, *range(10, 20)))
    masked = replace(chunk, loss_mask=(True,) * 4 + (False,) * 7 + (True,))
    assert [w.tokens[-1] for w in windows(turn, masked, loop.state, learning)] == [14, 21]
    (whole,) = windows(turn, replace(chunk, tokens=(10, 11)), loop.state, LearningConfig())
    assert whole.tokens == (10, 11)


@pytest.mark.parametrize(
    ("window", "chunk", "share"),
    [
        ([], [], 0.0),
        ([], [1, 2, 3], 0.0),
        ([], [1, 2, 3, 4], 0.0),
        ([1, 2, 3, 4], [1, 2, 3, 4], 1 / 4),
        ([], [1] * 10, 6 / 7),
        ([5, 6, 7, 8, 9], [6, 7, 8, 9], 1 / 4),
    ],
)
def test_repetition(window: list[int], chunk: list[int], share: float) -> None:
    assert repetition(window, chunk) == pytest.approx(share)


@given(st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(0, 3), max_size=40))
def test_repetition_is_a_share_and_counts_the_chunks_grams(window: list[int], chunk: list[int]) -> None:
    share = repetition(window, chunk)
    assert 0 <= share <= 1
    text = window + chunk
    ends = [i for i in range(len(text)) if i >= len(window) and i >= 3]
    earlier = [tuple(text[i - 3 : i + 1]) for i in range(3, len(text))]
    repeated = sum(tuple(text[i - 3 : i + 1]) in earlier[: i - 3] for i in ends)
    assert share == pytest.approx(repeated / len(ends) if ends else 0.0)
