"""Learning a chunk: windows, parts, passes, rates, dropout, and rejected chunks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from templora_cli.config import LearningConfig, TrainConfig, TranslationConfig
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.engine.training.objective import Loss, Window
from templora_cli.engine.training.replay import Samples
from templora_cli.events import ChunkLearnt, ChunkScored, Event, Notice, TrainStep, Working
from templora_cli.learning import Recipe, learn_chunk, learning_rate, training_examples, windows
from templora_cli.prompt import Prompt
from templora_cli.turn import Chunk, ChunkPart, Compose, Generate, Given
from tests.loop import CONFIG, HEADER, WHOLE, Loop, Turns, adapter_of, kinds, learnt, passes_over, same

TURN = Generate(Prompt((1,), (2, 3)), 12)
NAN_NOTICE = "chunk 2: {} skipped because of NaN or infinite gradients"


def test_training_sees_at_most_its_own_context(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 36, config=replace(CONFIG, generated=replace(WHOLE, context_tokens=5)))
    loop.backend.enqueue("abcdefghijkl", "mnopqrstuvwx", "yz0123456789")
    with passes_over(loop.model) as passes:
        loop.run()
    book = loop.state.tokens
    contexts = [], book[7:12], book[19:24]
    inputs = [[*HEADER, *context, *book[12 * i : 12 * i + 11]] for i, context in enumerate(contexts)]
    assert [ids for training, ids in passes if training] == [ids for ids in inputs for _ in range(2)]


def test_a_pass_with_nan_gradients_does_not_change_the_adapter(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 24)
    loop.backend.enqueue("Hello there.", "More of it..")
    events: list[Event] = []
    parameter = next(p for n, p in loop.model.adapter.items() if "lora_B" in n)
    for event in loop.stream():
        events.append(event)
        if isinstance(event, ChunkScored) and event.index == 1:
            hook = parameter.register_hook(lambda gradient: gradient * float("nan"))
            before = adapter_of(loop.state)
    hook.remove()
    assert Notice(NAN_NOTICE.format("1 of 1 steps of pass 1 and all later passes")) in events
    assert learnt(events)[1].train_losses == () and learnt(events)[1].lr is None
    assert same(adapter_of(loop.state), before)
    assert all(p.grad is None for p in loop.model.adapter.values())


@pytest.mark.parametrize(
    ("bad_step", "skipped"),
    [(2, "1 of 3 steps of pass 1 and all later passes"), (5, "1 of 3 steps of pass 2")],
)
def test_steps_before_and_after_a_nan_are_taken_and_reported(
    bad_step: int, skipped: str, tiny_model: Path
) -> None:
    loop = Loop(tiny_model, 24, config=replace(CONFIG, generated=replace(WHOLE, window_tokens=5)))
    loop.backend.enqueue("Hello there.", "More of it..")
    parameter = next(p for n, p in loop.model.adapter.items() if "lora_B" in n)
    before: dict[str, torch.Tensor] = {}
    optimizer_steps: list[int] = []
    gradients: list[torch.Tensor] = []
    events: list[Event] = []
    assert loop.state.optimizer is not None
    loop.state.optimizer.register_step_post_hook(lambda *_: optimizer_steps.append(len(gradients)))

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        gradients.append(gradient)
        return gradient * float("nan") if len(gradients) == bad_step else gradient

    for event in loop.stream():
        events.append(event)
        if isinstance(event, ChunkScored) and event.index == 1:
            optimizer_steps.clear()
            hook = parameter.register_hook(spoil)
            before = adapter_of(loop.state)
    hook.remove()
    passes = [e for e in events if isinstance(e, TrainStep) and e.index == 1]
    last = learnt(events)[1]
    assert Notice(NAN_NOTICE.format(skipped)) in events
    taken = [step for step in range(1, 4 if bad_step == 2 else 7) if step != bad_step]
    assert optimizer_steps == taken and len(gradients) == (3 if bad_step == 2 else 6)
    assert last.train_losses == tuple(e.loss for e in passes) and all(map(math.isfinite, last.train_losses))
    assert len(passes) == (1 if bad_step == 2 else 2) and last.lr == 1e-2
    assert not same(adapter_of(loop.state), before)
    assert loop.backend.changes == 2, "the adapter changed"


def test_the_rate_of_a_chunk_with_corrections_is_that_of_its_last_pass(tiny_model: Path) -> None:
    train = replace(CONFIG.train, warmup_chunks=0)
    human, generated = LearningConfig(lr=1e-3, epochs=1), LearningConfig(lr=2e-3, epochs=1)
    config = replace(CONFIG, train=train, human=human, generated=generated)
    loop = Loop(tiny_model, 12, config=config)
    prompt = loop.next_turn().prompt

    def composer(index, decode):  # type: ignore[no-untyped-def]
        yield from ()
        return replace(MIXED, text="abcd")

    loop.task = Turns(Compose(prompt, 4, composer), like=loop.task)
    (chunk,) = learnt(loop.run())
    assert len(chunk.train_losses) == 4 and chunk.lr == 1e-3


def test_the_random_generator_of_the_process_is_not_used(tiny_model: Path) -> None:
    outcomes = []
    for seed in (1, 2):
        loop = Loop(tiny_model, 24)
        loop.backend.enqueue("Hello there.", "More of it..")
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        outcomes.append([e.train_losses for e in learnt(loop.run())])
        assert torch.equal(torch.get_rng_state(), state)
    assert outcomes[0] == outcomes[1]


def test_dropout_advances_its_random_state(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    loop.backend.enqueue("Hello there.")
    before = loop.state.dropout_rng_state.clone()
    loop.run()
    assert not torch.equal(loop.state.dropout_rng_state, before)


def test_the_rate_warms_up_and_is_never_0() -> None:
    learning, train = LearningConfig(lr=1.0), TrainConfig(warmup_chunks=4)
    assert [learning_rate(i, learning, train) for i in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert learning_rate(0, learning, TrainConfig(warmup_chunks=0)) == 1.0


def test_the_rate_reaches_the_optimizer(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 24)
    loop.backend.enqueue("Hello there.", "More of it..")
    rates = []
    for event in loop.stream():
        if isinstance(event, TrainStep):
            assert loop.state.optimizer is not None
            rates.append((event.lr, loop.state.optimizer.param_groups[0]["lr"]))
    assert rates == [(5e-3, 5e-3)] * 2 + [(1e-2, 1e-2)] * 2


def test_human_and_generated_text_have_their_own_recipes(tiny_model: Path) -> None:
    config = replace(
        CONFIG, human=LearningConfig(lr=2e-3, epochs=3), generated=LearningConfig(lr=4e-3, epochs=1)
    )
    loop = Loop(tiny_model, 12, opening="It was a dar", config=config)
    loop.backend.enqueue("k night then")
    human, generated = learnt(loop.run())
    assert (human.origin, len(human.train_losses), human.lr) == ("human", 3, 1e-3)
    assert (generated.origin, len(generated.train_losses), generated.lr) == ("generated", 1, 4e-3)


def test_checkpointed_gradients_are_the_same(tiny_model: Path) -> None:
    adapters = []
    for checkpointing in ("on", "off"):
        train = TrainConfig(rank=4, alpha=4, dropout=0.3, gradient_checkpointing=checkpointing)
        loop = Loop(tiny_model, 24, config=replace(CONFIG, train=train))
        loop.backend.enqueue("Hello there.", "More of it..")
        loop.run()
        adapters.append(adapter_of(loop.state))
    assert same(*adapters), "a session may be resumed with either"


def test_training_needs_no_terminal_and_no_disk(tiny_model: Path) -> None:
    """`learn_chunk` needs only a model, a turn and a state."""
    loop = Loop(tiny_model, 12)
    chunk = Chunk((72, 73, 74), "")
    steps = list(learn_chunk(loop.next_turn(), chunk, loop.model, loop.backend, loop.state, CONFIG))
    assert [step.epoch for step in steps if isinstance(step, TrainStep)] == [1, 2]


def test_only_the_tokens_in_the_mask_are_learnt(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    chunk = Chunk(tuple(b"Hello there."), "", (False,) * 6 + (True,) * 6)
    turn = Given(Prompt(HEADER, ()), chunk.tokens, loss_mask=chunk.loss_mask)
    with torch.no_grad():
        expected = chunk_nll(loop.model.module, HEADER, chunk.tokens)[6:].mean().item()
    config = replace(CONFIG, train=replace(CONFIG.train, dropout=0.0))
    (first, *_) = learn_chunk(turn, chunk, loop.model, loop.backend, loop.state, config)
    assert isinstance(first, TrainStep) and first.loss == pytest.approx(expected, rel=1e-5)


def test_a_chunk_is_learnt_in_windows_with_the_text_before_each(tiny_model: Path) -> None:
    learning = replace(WHOLE, window_tokens=5, context_tokens=4)
    loop = Loop(tiny_model, 24, config=replace(CONFIG, generated=learning))
    loop.backend.enqueue("abcdefghijkl", "mnopqrstuvwx")
    steps = []
    assert loop.state.optimizer is not None
    loop.state.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    events = loop.run()
    assert len(steps) == 2 * 2 * 3, "two chunks, two passes, three windows"
    assert kinds(events).count("TrainStep") == 4
    chunk = Chunk(tuple(range(10, 22)), "")
    first, second, third = windows(TURN, chunk, [8, 9], learning, 2)
    assert (first.context, first.tokens) == ((2, 3), (10, 11, 12, 13, 14))
    assert (second.context, second.tokens) == ((11, 12, 13, 14), (15, 16, 17, 18, 19))
    assert (third.tokens, third.longer_context) == ((20, 21), (8, 9, *range(10, 20)))
    masked = replace(chunk, loss_mask=(True,) * 4 + (False,) * 7 + (True,))
    assert [w.tokens[-1] for w in windows(TURN, masked, [8, 9], learning)] == [14, 21]
    (single,) = windows(TURN, replace(chunk, tokens=(10, 11)), [8, 9], LearningConfig())
    assert single.tokens == (10, 11)


GENERATED, CORRECTED = (True, False, True, False), (False, False, False, True)
MIXED = Chunk(
    (10, 11, 12, 13),
    "",
    (True, False, True, True),
    (ChunkPart("generated", GENERATED), ChunkPart("human", CORRECTED, 3)),
)
"""A generated chunk in which a person corrected the last token."""


def test_each_part_of_a_chunk_is_learnt_by_the_recipe_of_its_author() -> None:
    config = replace(
        CONFIG, human=LearningConfig(lr=1.0, epochs=2), generated=LearningConfig(lr=2.0, epochs=5)
    )
    generated, corrected = training_examples(TURN, MIXED, config, None)
    assert (generated[0].loss_mask, generated[1]) == (GENERATED, config.generated)
    assert corrected[0].loss_mask == CORRECTED
    assert corrected[1] == replace(config.human, epochs=6), "three passes for each one of the recipe"
    (only,) = training_examples(TURN, MIXED, config, "it loops")
    assert only == corrected, "human words are learnt even if the chunk is rejected"
    empty = replace(MIXED, parts=(ChunkPart("generated", (False,) * 4), ChunkPart("human", CORRECTED)))
    assert [chunk.loss_mask for chunk, _ in training_examples(TURN, empty, config, None)] == [CORRECTED]
    assert training_examples(TURN, replace(MIXED, parts=()), config, "it loops") == []


def test_corrections_are_learnt_last_with_their_own_rate(tiny_model: Path) -> None:
    config = replace(
        CONFIG,
        train=replace(CONFIG.train, warmup_chunks=0),
        human=LearningConfig(lr=1e-3, epochs=1),
        generated=LearningConfig(lr=2e-3, epochs=2),
        translation=TranslationConfig(correction_weight=7),
    )
    loop = Loop(tiny_model, 12, config=config)
    events = list(learn_chunk(TURN, MIXED, loop.model, loop.backend, loop.state, config))
    steps = [(e.epoch, e.epochs, e.lr) for e in events if isinstance(e, TrainStep)]
    assert steps == [(1, 2, 2e-3), (2, 2, 2e-3), (1, 3, 1e-3), (2, 3, 1e-3), (3, 3, 1e-3)]


class RecordingObjective:
    """An objective that records its windows; it learns no window that begins with the token `skip`."""

    def __init__(self, skip: int | None = None) -> None:
        self.windows: list[Window] = []
        self.skip = skip

    def loss(self, window: Window, model: AdaptedModel, learning: LearningConfig) -> Loss | None:
        self.windows.append(window)
        if window.tokens[0] == self.skip:
            return None
        return lambda: sum(weight.square().mean() for weight in model.adapter.values())

    def extra_context_tokens(self, learning: LearningConfig) -> int:
        return 0


def test_an_experiment_can_replace_objective_windows_and_rate(tiny_model: Path) -> None:
    config = replace(CONFIG, generated=replace(WHOLE, objective="recording", window_tokens=6, epochs=1))
    objective = RecordingObjective(skip=ord("H"))
    recipe = Recipe(
        {"recording": objective},
        lambda *arguments: windows(*arguments)[::-1],
        lambda chunk, learning, train: 0.25,
    )
    loop = Loop(tiny_model, 24, config=config, recipe=recipe)
    loop.backend.enqueue("Hello there.", "More of it..")
    steps = []
    assert loop.state.optimizer is not None
    loop.state.optimizer.register_step_post_hook(
        lambda optimizer, *_: steps.append(optimizer.param_groups[0]["lr"])
    )
    chunks = learnt(loop.run())
    texts = [bytes(window.tokens) for window in objective.windows]
    assert texts == [b"there.", b"Hello ", b"f it..", b"More o"]
    assert steps == [0.25] * 3, "a window without a loss takes no step"
    assert [chunk.lr for chunk in chunks] == [0.25, 0.25]


REPLAYED = replace(CONFIG, generated=replace(WHOLE, replay_samples=3, window_tokens=6, epochs=1))
SAMPLES = ("sample", "anothe", "third.")


def test_samples_are_drawn_before_the_first_own_chunk_is_learnt(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 24, opening="It was a dar", config=REPLAYED)
    loop.backend.enqueue("Hello there.", *SAMPLES, "More of it..")
    adapters, samples, working = [adapter_of(loop.state)], [], []
    for event in loop.stream():
        if isinstance(event, Working):
            working.append(loop.state.chunks)
        if isinstance(event, ChunkLearnt):
            adapters.append(adapter_of(loop.state))
            samples.append(loop.state.samples)
    assert working == [1] and samples[0] is None, "human text needs none"
    assert samples[1] is samples[2] and samples[1] is not None
    assert [bytes(tokens).decode() for tokens in samples[1].tokens.tolist()] == list(SAMPLES)
    assert samples[1].prompt == HEADER and loop.backend.prompts[1:4] == [HEADER] * 3
    assert loop.backend.cache_frees == 4, "for each chunk, for the opening, and after the samples"
    with torch.no_grad():
        for name, weight in loop.state.adapter.items():
            weight.copy_(adapters[1][name])
    again = samples[1].predicted(loop.model)
    assert torch.equal(again.ids, samples[1].ids) and torch.equal(again.logs, samples[1].logs), (
        "the predictions are those of the model that has read the opening"
    )


def test_each_step_keeps_the_predictions_for_another_sample(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 36, config=REPLAYED)
    loop.backend.enqueue("Hello there.", *SAMPLES, "More of it..", "And more....")
    with passes_over(loop.model) as passes:
        loop.run()
    assert loop.state.samples is not None
    ends = [tuple(ids[-5:]) for with_gradients, ids in passes if with_gradients]
    replayed = [ends.index(tuple(tokens[:5])) for tokens in loop.state.samples.tokens.tolist()]
    assert replayed == [1, 3, 5], "each after a window of the chunk"


class NoLoss(RecordingObjective):
    """An objective without a gradient: only replay moves the adapter."""

    def loss(self, window: Window, model: AdaptedModel, learning: LearningConfig) -> Loss | None:
        return lambda: sum((0 * weight).sum() for weight in model.adapter.values())


def test_replay_leads_the_model_back_to_what_it_predicted(tiny_model: Path) -> None:
    config = replace(REPLAYED, generated=replace(REPLAYED.generated, objective="none"))
    loop = Loop(tiny_model, 12, config=config)
    loop.state.samples = Samples(HEADER, torch.tensor([list(s.encode()) for s in SAMPLES])).predicted(
        loop.model
    )
    with torch.no_grad():
        for weight in loop.state.adapter.values():
            weight.normal_(std=0.2, generator=torch.Generator().manual_seed(0))

    def divergence() -> float:
        assert loop.state.samples is not None
        with torch.no_grad():
            return sum(loop.state.samples.divergence(i, loop.model)().item() for i in range(3))

    before, chunk = divergence(), Chunk(tuple(b"Hello there."), "Hello there.")
    for loop.state.chunks in range(6):
        events = list(
            learn_chunk(
                TURN, chunk, loop.model, loop.backend, loop.state, config, recipe=Recipe({"none": NoLoss()})
            )
        )
        assert [event.loss for event in events if isinstance(event, TrainStep)] == [0], "that of the chunk"
    assert divergence() < 0.8 * before, (before, divergence())


def test_human_text_may_change_what_is_kept(tiny_model: Path) -> None:
    turns = [
        Given(Prompt(HEADER, ()), tuple(b"Hello there."), origin)
        for origin in ("generated", "human", "generated")
    ]
    loop = Loop(tiny_model, 36, config=REPLAYED)
    loop.backend.enqueue(*SAMPLES)
    loop.task = Turns(*turns, like=loop.task)
    samples = [loop.state.samples for event in loop.stream() if isinstance(event, ChunkLearnt)]
    first, human, last = samples
    assert first and human and last and human.ids is None
    assert torch.equal(first.tokens, last.tokens)
    assert first.logs is not None and last.logs is not None and not torch.equal(first.logs, last.logs)


def test_nothing_is_sampled_for_a_chunk_without_a_loss(tiny_model: Path) -> None:
    generated = replace(REPLAYED.generated, objective="recording", window_tokens=0)
    config = replace(REPLAYED, generated=generated)
    recipe = Recipe({"recording": RecordingObjective(skip=ord("H"))})
    loop = Loop(tiny_model, 12, config=config, recipe=recipe)
    loop.backend.enqueue("Hello there.")
    loop.run()
    assert loop.state.samples is None


def test_samples_depend_on_the_seed_of_the_book_alone(tiny_model: Path) -> None:
    """So that a book which is learnt again after a rewind has the same."""
    drawn = []
    for seed, take, chunks in ((3, 0, 0), (3, 1, 2), (4, 0, 0)):
        loop = Loop(tiny_model, 12, config=replace(REPLAYED, seed=3))
        loop.state.seed, loop.state.take, loop.state.chunks = seed, take, chunks
        backend = EagerBackend(loop.model.module)
        chunk, before = Chunk(tuple(b"Hello there."), "Hello there."), torch.get_rng_state()
        list(learn_chunk(TURN, chunk, loop.model, backend, loop.state, REPLAYED))
        assert torch.equal(torch.get_rng_state(), before)
        assert loop.state.samples is not None and loop.state.samples.tokens.shape == (3, 6)
        assert not set(loop.state.samples.tokens.flatten().tolist()) & set(loop.model.banned_tokens)
        drawn.append(loop.state.samples.tokens)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert len({tuple(tokens) for tokens in drawn[0].tolist()}) == 3
