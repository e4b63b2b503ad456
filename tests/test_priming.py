"""Priming: texts are learnt before a book, chunk by chunk, with an early stop on text that is held out."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from benchmarks.tiny_model import save_tiny_model
from templora_cli import runner
from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.events import ChunkCommitted, Interrupted, Primed
from templora_cli.novel.kind import NovelRequest
from templora_cli.novel.task import Goal
from templora_cli.priming import MAX_READINGS, PrimeRequest, best_reading, helped, reading_of, start_of
from templora_cli.run import Run
from templora_cli.sessions.housekeeping import shrink
from templora_cli.sessions.start import Start, begin_state, start_in
from templora_cli.sessions.steps import committed_steps
from templora_cli.sessions.store import Store
from tests.test_runner import config_of

TEXTS = (("one.txt", "The rain fell on the harbour. " * 9), ("two.txt", "She counted the ships again. "))
BOOK = NovelRequest("A storm.", goal=Goal(32, "tokens"), kind="drift")


@pytest.fixture
def config(tiny_model: Path) -> Config:
    return config_of(tiny_model)


def primed(config: Config, texts: Any = TEXTS) -> tuple[Run, Primed]:
    with runner.begin(PrimeRequest(texts), config, resume_same=True) as run:
        last = list(run.events())[-1]
        assert isinstance(last, Primed)
        return run, last


def start_of_run(run: Run) -> Start:
    start = start_of(run.session.path, run.session.manifest, run.chunks)
    assert start is not None
    return start


@given(st.lists(st.integers(1, 200), min_size=1, max_size=4), st.integers(8, 40))
def test_a_reading_has_every_token_once_and_ends_with_what_is_held_out(
    lengths: list[int], chunk: int
) -> None:
    parts = reading_of(lengths, chunk)
    tokens = [token for part in parts for token in range(*part.span)]
    assert sorted(tokens) == list(range(sum(lengths)))
    assert [part.ends_reading for part in parts] == [False] * (len(parts) - 1) + [True]
    held_out = [part.held_out for part in parts]
    assert held_out == sorted(held_out) and sum(held_out) <= len(parts) / 10 + 1
    whole = [part.span[1] - part.span[0] == chunk for part in parts if part.held_out]
    assert all(whole[:-1]) and (not whole or len(whole) > 1 or whole[0])
    for part in parts:
        assert part.begin == sum(lengths[: part.text]) <= part.span[0]
        assert part.span[1] <= part.begin + lengths[part.text] and part.span[1] - part.span[0] <= chunk
        assert not part.held_out or lengths[part.text] == max(lengths)


def chunks_of(*nlls: float, base: float = 3.0) -> list[dict[str, Any]]:
    """The chunks of readings after which the held-out text has these NLLs."""
    chunks = []
    for reading, nll in enumerate(nlls):
        for held_out in (False, True):
            record = {"reading": reading, "held_out": held_out, "ends_reading": held_out}
            values = {"record": record, "tokens": [1, 2], "nll_base": base}
            chunks.append(values | {"nll_adapter": nll if held_out else 99.0})
    return chunks


@pytest.mark.parametrize(
    ("nlls", "goes_on", "best"),
    [
        ((2.5,), True, 1),
        ((2.5, 2.4), True, 2),
        ((2.5, 2.4999), False, 2),  # it helped, but not enough for another
        ((2.5, 2.6), False, 1),
        ((3.2,), False, 0),
        ((float("nan"),), False, 0),
    ],
)
def test_reading_goes_on_while_it_helps(nlls: tuple[float, ...], goes_on: bool, best: int) -> None:
    assert (helped(chunks_of(*nlls)), best_reading(chunks_of(*nlls))) == (goes_on, best)


def test_a_short_text_is_read_once_and_whole(config: Config) -> None:
    run, event = primed(config, (("short.txt", "The rain fell on the harbour."),))
    assert (event.readings, event.best_reading, event.held_out_tokens) == (1, 1, 0)
    assert event.nll_base is event.nll_adapter is None
    assert all(chunk["train_losses"] for chunk in run.chunks)
    assert start_of_run(run).step == committed_steps(run.session.steps)[-1]


def test_held_out_text_is_scored_and_never_learnt(config: Config) -> None:
    run, event = primed(config)
    for chunk in run.chunks:
        assert bool(chunk["train_losses"]) != chunk["record"]["held_out"]
        assert chunk["rejection_reason"] is None
    assert 1 <= event.best_reading <= event.readings <= MAX_READINGS
    assert event.nll_base is not None and event.nll_adapter is not None
    assert event.nll_adapter < event.nll_base, "the text repeats itself, so learning it must help"
    held_out = [chunk for chunk in run.chunks if chunk["record"]["held_out"]]
    assert event.held_out_tokens * event.readings == sum(len(chunk["tokens"]) for chunk in held_out) > 0


def test_a_book_begins_with_the_adapter_of_the_best_reading(config: Config) -> None:
    run, event = primed(config)
    start = start_of_run(run)
    ends = [i for i, chunk in enumerate(run.chunks) if chunk["record"]["ends_reading"]]
    assert start.step.name == f"{ends[event.best_reading - 1]:06d}"
    with runner.begin(BOOK, config, start=start) as book:
        state = begin_state(book.session, book.model, book.config)
        saved = load_file(start.step / "adapter.safetensors")
        assert all(torch.equal(weight, saved[name]) for name, weight in state.adapter.items())
        assert (state.chunks, state.tokens) == (0, [])
        assert state.primed_chunks == int(start.step.name) + 1
        assert book.session.manifest.start == start.origin
        events = list(book.events())
    rates = [event.lr for event in events if isinstance(event, ChunkCommitted)]
    assert rates == [1e-2, 1e-2], "the warm-up has ended in the priming"
    with runner.begin(BOOK, config) as plain:
        list(plain.events())
    assert plain.text != book.text
    assert "harbour" not in book.text, "what was learnt first is no part of the book"


def test_priming_that_was_stopped_goes_on_and_is_used_again(config: Config) -> None:
    with runner.begin(PrimeRequest(TEXTS), config, resume_same=True) as run:
        stop = threading.Event()
        for event in run.events(stop):
            if isinstance(event, ChunkCommitted) and event.index == 4:
                stop.set()
        assert isinstance(event, Interrupted)
    resumed, _ = primed(config)
    assert resumed.session.id == run.session.id
    stopped_tensors = load_file(start_of_run(resumed).step / "adapter.safetensors")
    other = replace(config, seed=7, decode=replace(config.decode, temperature=0.3))
    with runner.begin(PrimeRequest(TEXTS), other, resume_same=True) as again:
        assert not [event for event in again.events() if isinstance(event, ChunkCommitted)]
    assert again.session.id == run.session.id, "how a book is drawn is nothing to its priming"
    with runner.begin(PrimeRequest(TEXTS), config) as whole:
        list(whole.events())
    whole_tensors = load_file(start_of_run(whole).step / "adapter.safetensors")
    assert all(torch.equal(whole_tensors[name], tensor) for name, tensor in stopped_tensors.items())


def test_what_undoes_all_chunks_leads_back_to_the_primed_adapter(config: Config) -> None:
    start = start_of_run(primed(config)[0])
    with runner.begin(BOOK, config, start=start) as book:
        list(book.events())
        text = book.text
        chunks = book.chunks
        list(book.relearn(chunks[:0]))
        assert not book.chunks
        list(book.events())
        assert book.text == text
        last = load_file(committed_steps(book.session.steps)[-1] / "adapter.safetensors")
        list(book.relearn([{**chunk, "record": "changed"} for chunk in book.chunks]))
        again = load_file(committed_steps(book.session.steps)[-1] / "adapter.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in last.items())


def test_checkpoints_at_the_ends_of_readings_are_kept(config: Config) -> None:
    run, event = primed(config)
    weights = [s.name for s in committed_steps(run.session.steps) if (s / "adapter.safetensors").is_file()]
    ends = [f"{i:06d}" for i, chunk in enumerate(run.chunks) if chunk["record"]["ends_reading"]]
    assert event.readings > 1 and set(ends) <= set(weights) and len(weights) <= len(ends) + 2


def test_a_book_can_begin_with_the_adapter_of_another_book(config: Config) -> None:
    with runner.begin(BOOK, config) as volume:
        list(volume.events())
    start = start_in(volume.session.path, volume.session.manifest)
    with runner.begin(
        NovelRequest("Another storm.", goal=Goal(16, "tokens"), kind="drift"), config, start=start
    ) as book:
        state = begin_state(book.session, book.model, book.config)
        saved = load_file(committed_steps(volume.session.steps)[-1] / "adapter.safetensors")
        assert all(torch.equal(weight, saved[name]) for name, weight in state.adapter.items())


def test_a_start_that_does_not_fit_is_refused(config: Config, tmp_path: Path) -> None:
    start = start_of_run(primed(config)[0])
    other = save_tiny_model(tmp_path / "other", seed=9)
    with pytest.raises(TemploraError, match="another model"):
        runner.begin(BOOK, replace(config, model=replace(config.model, name=str(other))), start=start)
    with pytest.raises(TemploraError, match="learns with rank 2, this book with 4"):
        runner.begin(BOOK, replace(config, train=replace(config.train, rank=4)), start=start)
    unlearnt = replace(config, train=replace(config.train, learn=False))
    with runner.begin(BOOK, unlearnt) as plain:
        list(plain.events())
    with pytest.raises(TemploraError, match="has learnt nothing"):
        start_in(plain.session.path, plain.session.manifest)


def test_a_damaged_start_is_found(config: Config) -> None:
    with runner.begin(BOOK, config, start=start_of_run(primed(config)[0])) as book:
        for file in sorted((book.session.path / "start").iterdir()):
            whole = file.read_bytes()
            for damage in (b"", b"{}", None):
                file.unlink(missing_ok=True)
                if damage is not None:
                    file.write_bytes(damage)
                with pytest.raises(TemploraError, match="that it began with is damaged") as raised:
                    begin_state(book.session, book.model, book.config)
                assert "sessions export" in str(raised.value.hint)
            file.write_bytes(whole)
        begin_state(book.session, book.model, book.config)


def test_shrinking_keeps_the_best_reading(config: Config) -> None:
    run, _ = primed(config)
    start = start_of_run(run)
    with Store().open(run.session.id) as session:
        shrink(session, run.kind)
    assert start_of_run(run).step == start.step and (start.step / "adapter.safetensors").is_file()


def test_a_priming_without_its_checkpoint_says_how_to_learn_again(config: Config) -> None:
    run, _ = primed(config)
    (start_of_run(run).step / "adapter.safetensors").unlink()
    with pytest.raises(TemploraError, match="has lost the checkpoint") as raised:
        start_of_run(run)
    assert raised.value.hint == f"to learn its texts again: templora sessions rm {run.session.id}"
