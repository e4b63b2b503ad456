"""The loop: candidates are proposed, chosen, scored and learnt in order, and the state is complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from templora_cli.candidates import Candidate, choose, make_chunk, propose, score_chunk
from templora_cli.config import Config, GateConfig, TrainConfig
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.events import (
    ChunkRejected,
    ChunkScored,
    ChunkStarted,
    SectionCut,
    TextDecoded,
    TrainStep,
)
from templora_cli.ngrams import FourGrams
from templora_cli.prompt import Dropped, Prompt, Section
from templora_cli.turn import Chunk, Compose, Generate, Given
from tests.loop import CONFIG, HEADER, WHOLE, Loop, Turns, drained, kinds, learnt, passes_over

LOOPING = ("abababababab", "cdcdcdcdcdcd", "efefefefefef")


def test_a_turn_decodes_scores_and_trains(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 24)
    loop.backend.enqueue("Hello there.", "More of it..")
    events = loop.run()
    turn = ["ChunkStarted", "ChunkScored", "TrainStep", "TrainStep", "ChunkLearnt"]
    assert kinds(events) == turn * 2
    texts = ["".join(e.text for e in events if isinstance(e, TextDecoded) and e.index == i) for i in (0, 1)]
    assert texts == [e.text for e in learnt(events)]
    assert (
        loop.backend.changes == loop.backend.resets == loop.backend.cache_frees == 2
        and loop.state.chunks == 2
    )
    assert loop.state.tokens == [t for e in learnt(events) for t in e.tokens]


def test_the_prompt_consists_of_header_and_window(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 36)
    loop.backend.enqueue("abcdefghijkl", "mnopqrstuvwx", "yz0123456789")
    loop.run()
    book = loop.state.tokens
    assert loop.backend.prompts == [HEADER, (*HEADER, *book[:12]), (*HEADER, *book[4:24])]


def test_the_committed_prompt_is_the_one_used_for_decoding(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 36)
    loop.backend.enqueue("abcdefghijkl", "mnopqrstuvwx", "yz0123456789")
    prompts = [chunk.prompt for chunk in learnt(loop.run())]
    assert [(*prompt["header"], *prompt["context"]) for prompt in prompts] == loop.backend.prompts
    assert [len(prompt["context"]) for prompt in prompts] == [0, 12, 20]


def test_cut_sections_are_reported_before_decoding(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    dropped = (Dropped("plan", 1, 4), Dropped("ledger", 0, 2))
    prompt = Prompt(HEADER, (), (Section("plan", ("It rains.",)),), dropped)
    loop.task = Turns(Generate(prompt, 12), like=loop.task)
    loop.backend.enqueue("Hello there.")
    events = loop.run()
    assert [type(e) for e in events[:4]] == [ChunkStarted, SectionCut, SectionCut, TextDecoded]
    assert events[1:3] == [SectionCut(0, "plan", 1, 4), SectionCut(0, "ledger", 0, 2)]
    committed = learnt(events)[0].prompt
    assert committed["sections"] == {"plan": ["It rains."]}
    assert committed["dropped"] == {"plan": 3, "ledger": 2}


def test_the_adapter_learns_and_the_base_does_not_change(tiny_model: Path) -> None:
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
    for event in loop.stream():
        if isinstance(event, ChunkScored) and event.index == 1:
            chunk = list(b"More of it..")
            with torch.no_grad():
                now = chunk_nll(loop.model.module, loop.backend.prompts[-1], chunk).mean().item()
            assert event.nll_adapter == pytest.approx(now, rel=1e-6)
            return
    raise AssertionError("no second chunk")


def test_the_adapter_score_comes_from_decoding(tiny_model: Path) -> None:
    """The NLL of the tokens when they were drawn, before penalties and temperature: no further pass."""
    loop = Loop(tiny_model, 24)
    with torch.no_grad():
        for weight in loop.state.adapter.values():
            weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    turn = loop.next_turn()
    assert isinstance(turn, Generate)
    backend = EagerBackend(loop.model.module)
    generator = loop.state.generator(0, loop.model.device)
    stream = make_chunk(
        loop.task, turn, loop.model, backend, loop.state, loop.config, FourGrams(), generator=generator
    )
    _, chunk = drained(stream)
    with torch.no_grad():
        expected = chunk_nll(loop.model.module, HEADER, chunk.tokens).mean().item()
        with loop.model.without_adapter():
            base = chunk_nll(loop.model.module, HEADER, chunk.tokens).mean().item()
    assert len(chunk.tokens) == 12 and abs(base - expected) > 0.01
    with passes_over(loop.model) as passes:
        scores = score_chunk(turn.prompt, chunk, loop.model, FourGrams())
    assert [each.nll for each in scores if each] == pytest.approx([base, expected], abs=1e-4)
    assert scores[1] is chunk.predictions
    assert len(passes) == 1


@pytest.mark.parametrize(("keeps", "shown_by"), [(5, 5), (5, 6), (4, 6)])
def test_tokens_that_show_the_end_of_a_chunk_are_not_part_of_it(
    keeps: int, shown_by: int, tiny_model: Path
) -> None:
    """The last of them is never shown; those before it have brought no whole character yet."""
    loop = Loop(tiny_model, 12)
    asked = loop.next_turn()
    assert isinstance(asked, Generate)

    def complete(chunk: Sequence[int]) -> int | None:
        return keeps if len(chunk) == shown_by else None

    turn = replace(asked, complete=complete)
    chunks: list[Chunk] = []
    for one in (turn, replace(asked, max_tokens=keeps)):
        backend, generator = EagerBackend(loop.model.module), loop.state.generator(0, loop.model.device)
        made = make_chunk(
            loop.task, one, loop.model, backend, loop.state, loop.config, FourGrams(), generator=generator
        )
        events, chunk = drained(made)
        assert len(events) == max(keeps, shown_by - 1 if one is turn else 0)
        chunks.append(chunk)
    cut, whole = chunks
    assert len(cut.tokens) == keeps and cut.predictions is not None
    assert cut == whole


def test_the_loss_covers_only_the_chunk(tiny_model: Path) -> None:
    """Without dropout, the first loss equals the score of the chunk."""
    config = Config(
        decode=CONFIG.decode,
        train=TrainConfig(rank=4, alpha=4, dropout=0.0),
        generated=replace(WHOLE, epochs=1),
    )
    loop = Loop(tiny_model, 24, config=config)
    loop.backend.enqueue("Hello there.", "More of it..")
    events = loop.run()
    scores = [e.nll_adapter for e in events if isinstance(e, ChunkScored)]
    losses = [e.loss for e in events if isinstance(e, TrainStep)]
    assert losses == pytest.approx(scores, abs=1e-6)


def test_a_human_opening_is_learnt_and_not_decoded(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12, opening="It was a dark night.")
    loop.backend.enqueue("And it went.")
    events = loop.run()
    assert [(e.origin, e.text) for e in learnt(events)] == [
        ("human", "It was a dar"),
        ("human", "k night."),
        ("generated", "And it went."),
    ]
    assert all(e.train_losses for e in learnt(events))
    assert {e.index for e in events if isinstance(e, TextDecoded)} == {2}


def test_without_learning_only_the_base_is_scored(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12, config=Config(decode=CONFIG.decode, train=TrainConfig(learn=False)))
    loop.backend.enqueue("Hello there.")
    events = loop.run()
    assert kinds(events) == ["ChunkStarted", "ChunkScored", "ChunkLearnt"]
    (chunk,) = learnt(events)
    assert chunk.nll_base > 0 and chunk.nll_adapter is None and chunk.train_losses == ()
    assert chunk.lr is None and loop.backend.changes == 0
    assert loop.backend.resets == loop.state.chunks, "the backend still resets for each chunk"


def test_chunk_started_has_the_lengths_of_context_and_chunk(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 30)
    loop.backend.enqueue("abcdefghijkl", "mnopqrstuvwx", "yz0123456789")
    started = [e for e in loop.run() if isinstance(e, ChunkStarted)]
    assert [(e.index, e.origin, e.context_tokens, e.max_tokens) for e in started] == [
        (0, "generated", 0, 12),
        (1, "generated", 12, 12),
        (2, "generated", 20, 6),
    ]


def test_only_the_tokens_in_the_mask_are_scored(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    chunk = Chunk(tuple(b"Hello there."), "", (False,) * 6 + (True,) * 6)
    with torch.no_grad():
        expected = chunk_nll(loop.model.module, HEADER, chunk.tokens)[6:].mean().item()
    base, _ = score_chunk(loop.next_turn().prompt, chunk, loop.model, FourGrams())
    assert base is not None and base.nll == pytest.approx(expected)


def proposed(loop: Loop) -> tuple[list[str], list[Candidate]]:
    """The reported rejection reasons, and all candidates."""
    turn = loop.next_turn()
    stream = propose(loop.task, turn, loop.model, loop.backend, loop.state, loop.config, FourGrams())
    events, candidates = drained(stream)
    return [e.rejection_reason for e in events if isinstance(e, ChunkRejected)], candidates


def gated(**gate: object) -> Config:
    return replace(CONFIG, gate=GateConfig(**{"stop": False, **gate}))


@pytest.mark.parametrize("passing", [0, 1, 2])
def test_the_first_candidate_that_passes_is_chosen(passing: int, tiny_model: Path) -> None:
    texts = [*LOOPING[:passing], "Hello there.", "never used. "]
    loop = Loop(tiny_model, 12, config=gated(max_attempts=3))
    loop.backend.enqueue(*texts)
    (chunk,) = learnt(loop.run())
    assert (chunk.text, chunk.rejection_reason, chunk.candidate) == ("Hello there.", None, passing)
    assert chunk.train_losses and loop.state.tokens == list(b"Hello there.")
    assert len(loop.backend.prompts) == loop.backend.cache_frees == passing + 1 and loop.backend.resets == 1


def test_each_rejected_candidate_is_reported(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12, config=gated(max_attempts=3))
    loop.backend.enqueue(LOOPING[0], " " * 12, "Hello there.")
    reasons, candidates = proposed(loop)
    assert reasons == ["it loops: it repeats 78% of its own phrases", "it is empty"]
    assert [candidate.rejection_reason for candidate in candidates] == [*reasons, None]
    assert [candidate.number for candidate in candidates] == [0, 1, 2]
    assert choose(candidates, loop.next_turn(), loop.state) is candidates[2]


def test_if_no_candidate_passes_the_last_is_committed_as_rejected(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12, config=gated(max_attempts=3))
    loop.backend.enqueue(*LOOPING)
    events = loop.run()
    (chunk,) = learnt(events)
    assert (chunk.text, chunk.candidate) == (LOOPING[2], 2) and "loops" in (chunk.rejection_reason or "")
    assert chunk.train_losses == () and chunk.lr is None and loop.state.tokens == list(LOOPING[2].encode())
    assert len([e for e in events if isinstance(e, ChunkRejected)]) == 2, "none for the committed one"


@pytest.mark.parametrize("candidates", [1, 2, 5])
def test_the_number_of_candidates_is_limited(candidates: int, tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12, config=gated(max_attempts=candidates))
    loop.backend.enqueue(*[LOOPING[0]] * 9)
    assert len(proposed(loop)[1]) == len(loop.backend.prompts) == candidates


def test_greedy_decoding_does_not_write_a_second_candidate(tiny_model: Path) -> None:
    config = replace(CONFIG, decode=replace(CONFIG.decode, temperature=0.0))
    loop = Loop(tiny_model, 12, config=config)
    loop.backend.enqueue("abababababab")
    events = loop.run()
    assert not any(isinstance(e, ChunkRejected) for e in events)
    assert learnt(events)[0].rejection_reason


def test_without_a_gate_there_is_one_candidate(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12, config=gated(enabled=False, max_attempts=3))
    loop.backend.enqueue(*LOOPING)
    assert proposed(loop)[0] == [] and len(loop.backend.prompts) == 1


def test_an_existing_chunk_is_not_written_again(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    turn = Given(loop.next_turn().prompt, tuple(b"abababababab"), "generated")
    loop.task = Turns(turn, like=loop.task)
    events = loop.run()
    assert not any(isinstance(e, ChunkRejected) for e in events)
    assert learnt(events)[0].rejection_reason and learnt(events)[0].origin == "generated"


def test_a_composed_chunk_is_not_written_again(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 12)
    written = []

    def composer(index, decode):  # type: ignore[no-untyped-def]
        yield from ()
        tokens = tuple(decode((9,), max_tokens=12, stop_tokens=(), temperature=1.0))
        written.append(index)
        return Chunk(tokens, "ab" * 6)

    loop.task = Turns(Compose(loop.next_turn().prompt, 12, composer), like=loop.task)
    loop.backend.enqueue("abababababab", "never used. ")
    events = loop.run()
    assert written == [0] and not any(isinstance(e, ChunkRejected) for e in events)
    assert "loops" in (learnt(events)[0].rejection_reason or "")
    assert loop.backend.prompts == [(*HEADER, 9)]
