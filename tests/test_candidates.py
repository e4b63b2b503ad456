"""Candidates: attempts go on after the good part of a rejected one, and the best of several is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from templora_cli.config import Config, GateConfig
from templora_cli.engine.training.objective import Window
from templora_cli.errors import StuckError
from templora_cli.events import ChunkRejected, Event, TextDecoded
from templora_cli.learning import Recipe, windows
from templora_cli.turn import Chunk, Fault, Generate, Turn
from tests.loop import CONFIG, HEADER, Loop, Turns, learnt

STRICT = replace(CONFIG, gate=GateConfig(max_attempts=4, stop=True))


def bad(tokens: Sequence[int]) -> Fault | None:
    """A fault at the first "!"."""
    return Fault("it shouts", list(tokens).index(ord("!"))) if ord("!") in tokens else None


def loop_of(folder: Path, config: Config = STRICT, **turn: object) -> Loop:
    loop = Loop(folder, 12, config=config)
    asked = loop.next_turn()
    assert isinstance(asked, Generate)
    loop.task = Turns(replace(asked, fault=bad, **turn), like=loop.task)  # type: ignore[arg-type]
    return loop


def shown(events: Sequence[Event]) -> list[str]:
    """The text decoded by each attempt."""
    texts = [""]
    for event in events:
        if isinstance(event, ChunkRejected):
            texts.append("")
        elif isinstance(event, TextDecoded):
            texts[-1] += event.text
    return texts


def test_decoding_goes_on_after_the_good_part(tiny_model: Path) -> None:
    loop = loop_of(tiny_model)
    loop.backend.enqueue("Hello !!!!!!", "there.")
    events = loop.run()
    (chunk,) = learnt(events)
    assert (chunk.text, chunk.rejection_reason, chunk.candidate) == ("Hello there.", None, 1)
    assert chunk.train_losses and loop.state.tokens == list(b"Hello there.")
    assert loop.backend.prompts == [HEADER, (*HEADER, *b"Hello ")]
    assert [e.rejection_reason for e in events if isinstance(e, ChunkRejected)] == ["it shouts"]
    assert shown(events) == ["Hello !!!!!!", "Hello there."]
    assert chunk.nll_adapter is not None, "that of the good part needs a pass of its own"


def test_a_later_attempt_keeps_what_earlier_ones_found_good(tiny_model: Path) -> None:
    loop = loop_of(tiny_model)
    loop.backend.enqueue("Hel!!!!!!!!!", "lo !!!!!!", "there.")
    (chunk,) = learnt(loop.run())
    assert chunk.text == "Hello there." and chunk.candidate == 2
    assert loop.backend.prompts[1:] == [(*HEADER, *b"Hel"), (*HEADER, *b"Hello ")]


def test_the_beginning_of_a_scene_is_written_but_not_learnt(tiny_model: Path) -> None:
    def restart(attempt: int, good: Sequence[int]) -> tuple[int, ...]:
        return tuple(b"Then ") if attempt == 2 and list(good) == list(b"Hi.") else ()

    chunks: list[Chunk] = []

    def spy(turn: Turn, chunk: Chunk, *rest: Any) -> list[Window]:
        chunks.append(chunk)
        return windows(turn, chunk, *rest)

    loop = loop_of(tiny_model, restart=restart)
    loop.recipe = Recipe(windows=spy)
    loop.backend.enqueue("Hi.!!!!!!!!!", "!!!!!!!!!", "he!!", "slept")
    (chunk,) = learnt(loop.run())
    assert chunk.text == "Hi.Then hesl" and chunk.candidate == 3
    assert chunks[0].loss_mask == (True,) * 3 + (False,) * 5 + (True,) * 4


def test_a_scene_that_leaves_no_room_is_not_begun(tiny_model: Path) -> None:
    loop = loop_of(tiny_model, restart=lambda attempt, good: tuple(b"Then "))
    loop.backend.enqueue("Hello you!!!", "too")
    (chunk,) = learnt(loop.run())
    assert chunk.text == "Hello youtoo" and len(chunk.tokens) == 12


def test_the_run_stops_if_no_attempt_passes(tiny_model: Path) -> None:
    loop = loop_of(tiny_model)
    loop.backend.enqueue(*["!" * 12] * 9)
    events: list[Event] = []
    with pytest.raises(StuckError, match=r"chunk 1 was written 4 times and cannot stay: it shouts") as caught:
        events.extend(loop.stream())
    assert caught.value.exit_status == 3
    assert loop.state.tokens == [] and loop.state.chunks == 0 and len(loop.backend.prompts) == 4


def test_without_stopping_the_last_attempt_stays_and_is_not_learnt(tiny_model: Path) -> None:
    loop = loop_of(tiny_model, replace(CONFIG, gate=GateConfig(max_attempts=2, stop=False)))
    loop.backend.enqueue("!" * 12, "!!!!!!!!!!!!")
    (chunk,) = learnt(loop.run())
    assert chunk.rejection_reason == "it shouts" and not chunk.train_losses and chunk.candidate == 1


def test_without_checks_of_prose_nothing_is_looked_for(tiny_model: Path) -> None:
    loop = loop_of(tiny_model, replace(CONFIG, gate=GateConfig(prose=False)))
    loop.backend.enqueue("Hello there!")
    (chunk,) = learnt(loop.run())
    assert chunk.rejection_reason is None


def test_an_opening_is_in_the_chunk_and_not_learnt(tiny_model: Path) -> None:
    loop = loop_of(tiny_model, opening=tuple(b"ONE\n"), record=lambda tokens: {"length": len(tokens)})
    loop.backend.enqueue("Hello there.")
    events = loop.run()
    (chunk,) = learnt(events)
    assert chunk.text == "ONE\nHello there." and loop.state.tokens == list(b"ONE\nHello there.")
    assert loop.backend.prompts == [(*HEADER, *b"ONE\n")] and chunk.record == {"length": 12}
    assert shown(events) == ["ONE\nHello there."]
    alone = loop_of(tiny_model)
    alone.backend.enqueue("Hello there.")
    (without,) = learnt(alone.run())
    assert chunk.nll_base != without.nll_base, "the heading is seen"


def test_an_end_token_ends_the_chunk_and_is_not_part_of_it(tiny_model: Path) -> None:
    loop = loop_of(tiny_model, end_tokens=frozenset((ord("#"),)))
    loop.backend.enqueue("Hello.#never")
    (chunk,) = learnt(loop.run())
    assert chunk.text == "Hello."


def test_the_best_of_several_candidates_is_chosen_and_shown(tiny_model: Path) -> None:
    config = replace(STRICT, decode=replace(CONFIG.decode, candidates=3))
    loop = loop_of(tiny_model, config)
    loop.backend.enqueue("abcdabcdefgh", "shouting!!!!", "Hello there.")
    events = loop.run()
    (chunk,) = learnt(events)
    assert (chunk.text, chunk.candidate) == ("Hello there.", 2)
    assert "".join(e.text for e in events if isinstance(e, TextDecoded)) == "Hello there."
    assert [(other["text"], other["rejection_reason"]) for other in chunk.others] == [
        ("abcdabcdefgh", None),
        ("shouting!!!!", "it shouts"),
    ]
    assert chunk.others[0]["tokens"] == list(b"abcdabcdefgh")


def test_candidates_that_all_fail_are_written_again_after_the_longest_good_part(tiny_model: Path) -> None:
    config = replace(STRICT, decode=replace(CONFIG.decode, candidates=2))
    loop = loop_of(tiny_model, config)
    loop.backend.enqueue("He!!!!!!!!!!", "Hello !!!!!!", "there.", "where.")
    (chunk,) = learnt(loop.run())
    assert chunk.text in ("Hello there.", "Hello where.") and chunk.candidate in (2, 3)
    assert loop.backend.prompts[2:] == [(*HEADER, *b"Hello ")] * 2
