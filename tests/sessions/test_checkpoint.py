"""Steps on disk: committed atomically, checked, thinned, and never unpickled."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file

from templora_cli.config import Config, TrainConfig
from templora_cli.engine.models import loading
from templora_cli.engine.training.replay import Samples
from templora_cli.errors import TemploraError
from templora_cli.sessions import checkpoint
from templora_cli.sessions.checkpoint import commit_step, restore_latest, restore_step
from templora_cli.sessions.steps import (
    StepDamagedError,
    committed_steps,
    grid_distance,
    read_chunks,
    readable_text,
    sha256_of_file,
    thin,
    verify_step,
)
from templora_cli.state import WritingState

CONFIG = Config(train=TrainConfig(rank=2, alpha=2))


def state_of(folder: Path, config: Config = CONFIG) -> WritingState:
    return WritingState.begin(loading.load(folder, config.model, config.train, seed=0), config)


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    return tmp_path / "session" / "steps"


def advance(state: WritingState, steps: Path) -> dict[str, torch.Tensor]:
    """Change everything that a chunk changes, and commit it."""
    assert state.optimizer is not None
    for parameter in state.adapter.values():
        parameter.grad = torch.full_like(parameter, 0.1 * (state.chunks + 1))
    state.optimizer.step()
    state.dropout_rng_state = torch.Generator().manual_seed(state.chunks).get_state()
    tokens = [state.chunks * 10 + i for i in range(3)]
    state.tokens += tokens
    state.chunks += 1
    text = f"Text {state.chunks}. "
    origin = "human" if state.chunks == 3 else "generated"
    chunk = {"tokens": tokens, "text": text, "origin": origin, "nll_base": state.chunks / 4, "record": None}
    chunk["prompt"] = {"header": [1], "context": tokens, "sections": {"premise": ["A storm."]}, "dropped": {}}
    if origin == "generated":
        state.generated_nlls.append(state.chunks / 4)
    commit_step(steps, state.chunks - 1, chunk, state)
    return {name: p.detach().clone() for name, p in state.adapter.items()}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_state_is_restored_bit_for_bit_and_in_place(optimizer: str, tiny_model: Path, steps: Path) -> None:
    config = replace(CONFIG, train=replace(CONFIG.train, optimizer=optimizer))
    state = state_of(tiny_model, config)
    advance(state, steps)
    advance(state, steps)
    fresh = state_of(tiny_model, config)
    addresses = {name: p.data_ptr() for name, p in fresh.adapter.items()}
    assert restore_latest(steps, fresh) == []
    assert fresh.tokens == [0, 1, 2, 10, 11, 12] and fresh.chunks == 2
    assert fresh.optimizer is not None and state.optimizer is not None
    for name, parameter in fresh.adapter.items():
        assert torch.equal(parameter, state.adapter[name])
        assert parameter.data_ptr() == addresses[name], "captured graphs stay valid"
        for key, value in state.optimizer.state[state.adapter[name]].items():
            assert torch.equal(fresh.optimizer.state[parameter][key], value)
    assert torch.equal(fresh.dropout_rng_state, state.dropout_rng_state)
    assert fresh.generated_nlls == state.generated_nlls == [0.25, 0.5]
    # And both states continue equally.
    expected = advance(state, steps)
    for step in committed_steps(steps)[2:]:
        checkpoint.shutil.rmtree(step)
    resumed = advance(fresh, steps)
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    again = state_of(tiny_model, config)
    restore_latest(steps, again)
    assert again.generated_nlls == [0.25, 0.5], "the gate does not compare with human text"


def test_samples_are_restored_with_the_step_that_has_them(tiny_model: Path, steps: Path) -> None:
    state = state_of(tiny_model, CONFIG)
    advance(state, steps)
    bare = Samples((1, 2), torch.tensor([[3, 4, 5], [6, 7, 8]]))
    whole = replace(bare, ids=torch.ones(2, 3, 4, dtype=torch.int32), logs=torch.rand(2, 3, 4))
    for samples in (bare, whole):
        state.samples = samples
        advance(state, steps)
    fresh = state_of(tiny_model, CONFIG)
    for step, expected in zip(committed_steps(steps), (None, bare, whole), strict=True):
        restore_step(steps, step, fresh)
        restored = fresh.samples
        assert (restored is None) == (expected is None)
        if restored is None or expected is None:
            continue
        assert restored.prompt == expected.prompt and torch.equal(restored.tokens, expected.tokens)
        for found, saved in ((restored.ids, expected.ids), (restored.logs, expected.logs)):
            assert (found is None and saved is None) or torch.equal(found, saved)


WHOLE = {
    "prompt": torch.tensor([1, 2]),
    "tokens": torch.ones(2, 3, dtype=torch.int64),
    "ids": torch.ones(2, 3, 4, dtype=torch.int32),
    "logs": torch.ones(2, 3, 4),
}


@pytest.mark.parametrize(
    "tensors",
    [
        {"tokens": WHOLE["tokens"]},
        {"prompt": WHOLE["prompt"]},
        {name: tensor for name, tensor in WHOLE.items() if name != "logs"},
        {name: tensor for name, tensor in WHOLE.items() if name != "ids"},
        {**WHOLE, "prompt": torch.tensor(3)},
        {**WHOLE, "prompt": torch.ones(2)},
        {**WHOLE, "prompt": torch.zeros(0, dtype=torch.int64)},
        {**WHOLE, "tokens": torch.ones(3, dtype=torch.int64)},
        {**WHOLE, "tokens": torch.ones(2, 3)},
        {**WHOLE, "tokens": torch.ones(0, 3, dtype=torch.int64)},
        {**WHOLE, "ids": torch.full((2, 3, 4), -1, dtype=torch.int32)},
        {**WHOLE, "ids": torch.ones(2, 4, dtype=torch.int32)},
        {**WHOLE, "logs": torch.ones(2, 3, 5)},
        {**WHOLE, "logs": torch.ones(2, 3, 4, dtype=torch.int32)},
    ],
)
def test_samples_that_do_not_fit_together_are_damage(
    tensors: dict[str, torch.Tensor], tiny_model: Path, steps: Path
) -> None:
    state = state_of(tiny_model, CONFIG)
    advance(state, steps)
    step = steps / "000000"
    save_file(tensors, step / "samples.safetensors")
    sums = json.loads((step / "checksums.json").read_text())
    sums["samples.safetensors"] = sha256_of_file(step / "samples.safetensors")
    (step / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(ValueError, match="its samples"):
        restore_step(steps, step, state_of(tiny_model, CONFIG))


def test_nothing_to_restore(tiny_model: Path, steps: Path) -> None:
    assert restore_latest(steps, state_of(tiny_model)) == []


def test_without_learning_a_step_has_no_tensors(tiny_model: Path, steps: Path) -> None:
    config = Config(train=TrainConfig(learn=False))
    state = state_of(tiny_model, config)
    state.chunks = 1
    commit_step(
        steps, 0, {"tokens": [1], "text": "a", "origin": "generated", "nll_base": 2.0, "prompt": {}}, state
    )
    assert sorted(p.name for p in (steps / "000000").iterdir()) == [
        "checksums.json",
        "chunk.json",
        "prompt.json",
        "state.json",
    ]
    assert restore_latest(steps, state_of(tiny_model, config)) == []


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda step: flip(step / "adapter.safetensors"),
    "a flipped bit in the moments": lambda step: flip(step / "optimizer.safetensors"),
    "a truncated file": lambda step: truncate(step / "optimizer.safetensors"),
    "an empty state": lambda step: (step / "state.json").write_text(""),
    "a missing file": lambda step: (step / "adapter.safetensors").unlink(),
    "no checksums": lambda step: (step / "checksums.json").unlink(),
    "damaged text": lambda step: (step / "chunk.json").write_text("{}"),
    "a missing prompt": lambda step: (step / "prompt.json").unlink(),
    "checksums of other files": lambda step: (step / "checksums.json").write_text('{"../x": "y"}'),
}


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_step_falls_back_to_the_one_before(
    tiny_model: Path, steps: Path, damage: Callable[[Path], object]
) -> None:
    state = state_of(tiny_model)
    expected = advance(state, steps)
    advance(state, steps)
    damage(steps / "000001")
    fresh = state_of(tiny_model)
    (notice,) = restore_latest(steps, fresh)
    assert "000001" in notice and "its chunk will be made again" in notice
    assert fresh.chunks == 1 and fresh.tokens == [0, 1, 2]
    assert all(torch.equal(p, expected[name]) for name, p in fresh.adapter.items())
    assert (steps / "000001.damaged").is_dir(), "the damaged step is saved"
    advance(fresh, steps)
    assert [p.name for p in committed_steps(steps)] == ["000000", "000001"]


def test_several_damaged_steps_are_set_aside(tiny_model: Path, steps: Path) -> None:
    state = state_of(tiny_model)
    for _ in range(3):
        advance(state, steps)
    for name in ("000001", "000002"):
        flip(steps / name / "adapter.safetensors")
    fresh = state_of(tiny_model)
    notices = restore_latest(steps, fresh)
    assert [name in notice for name, notice in zip(("000002", "000001"), notices, strict=True)] == [True] * 2
    assert not any("intact" in notice for notice in notices), "the step before 000002 is damaged too"
    assert fresh.chunks == 1 and [step.name for step in committed_steps(steps)] == ["000000"]


def test_no_intact_step_with_weights_is_an_error(tiny_model: Path, steps: Path) -> None:
    state = state_of(tiny_model)
    for number in (0, 1):
        advance(state, steps)
        flip(steps / f"00000{number}" / "adapter.safetensors")
    with pytest.raises(TemploraError, match="no intact checkpoint remains") as caught:
        restore_latest(steps, state_of(tiny_model))
    assert caught.value.hint == "to save its text: templora sessions export session"
    assert readable_text(steps) == ("Text 1. Text 2. ", [])


def test_a_book_whose_only_step_is_damaged_starts_from_scratch(tiny_model: Path, steps: Path) -> None:
    advance(state_of(tiny_model), steps)
    flip(steps / "000000" / "adapter.safetensors")
    fresh, expected = state_of(tiny_model), state_of(tiny_model)
    (notice,) = restore_latest(steps, fresh)
    assert "000000" in notice and committed_steps(steps) == []
    assert fresh.chunks == 0 and fresh.tokens == []
    assert all(torch.equal(p, expected.adapter[name]) for name, p in fresh.adapter.items())


def test_restored_tensors_are_copies_of_the_file(tiny_model: Path, steps: Path) -> None:
    advance(state_of(tiny_model), steps)
    fresh = state_of(tiny_model)
    restore_latest(steps, fresh)
    assert fresh.optimizer is not None
    before = [s["exp_avg"].clone() for s in fresh.optimizer.state.values()]
    file = steps / "000000" / "optimizer.safetensors"
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        stream.write(b"\xff" * (file.stat().st_size // 2))
    after = [s["exp_avg"] for s in fresh.optimizer.state.values()]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_a_damaged_old_chunk_does_not_affect_the_text_after_it(tiny_model: Path, steps: Path) -> None:
    state = state_of(tiny_model)
    for _ in range(3):
        advance(state, steps)
    (steps / "000001" / "chunk.json").write_text("{")
    text, problems = readable_text(steps)
    assert text == "Text 1. \n\n[a chunk is missing here]\n\nText 3. "
    assert problems == ["step 000001: its text is lost"]


def test_a_missing_step_is_detected(tiny_model: Path, steps: Path) -> None:
    state = state_of(tiny_model)
    for _ in range(3):
        advance(state, steps)
    checkpoint.shutil.rmtree(steps / "000001")
    with pytest.raises(StepDamagedError, match="step 000001 is missing"):
        read_chunks(steps)


def test_thinned_steps_have_only_their_text(tiny_model: Path, steps: Path) -> None:
    state = state_of(tiny_model)
    for _ in range(4):
        advance(state, steps)
    thin(steps, keep_checkpoints=2, grid_checkpoints=0)
    files = [sorted(p.name for p in step.iterdir()) for step in committed_steps(steps)]
    assert files[:2] == [["checksums.json", "chunk.json", "prompt.json"]] * 2
    assert all("adapter.safetensors" in names for names in files[2:])
    assert readable_text(steps) == ("Text 1. Text 2. Text 3. Text 4. ", [])
    verify_step(steps / "000003")
    with pytest.raises(StepDamagedError):
        verify_step(steps / "000001")
    assert restore_latest(steps, state_of(tiny_model)) == []


@pytest.mark.parametrize(
    ("error", "reason", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full", "free disk space"),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "the disk is full",
            "free disk space",
        ),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied", "correct this"),
    ],
)
def test_a_failed_write_changes_nothing(
    tiny_model: Path, steps: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str, remedy: str
) -> None:
    state = state_of(tiny_model)
    expected = advance(state, steps)

    def fail(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", fail)
        with pytest.raises(TemploraError, match=reason) as caught:
            advance(state, steps)
    assert caught.value.hint == f"{remedy}, then: templora resume session"
    assert [p.name for p in steps.iterdir()] == ["000000"]
    fresh = state_of(tiny_model)
    assert restore_latest(steps, fresh) == []
    assert all(torch.equal(p, expected[name]) for name, p in fresh.adapter.items())


def test_leftovers_of_a_kill_are_deleted(tiny_model: Path, steps: Path) -> None:
    advance(state_of(tiny_model), steps)
    leftover = steps / ".000001.tmp"
    leftover.mkdir()
    (leftover / "adapter.safetensors").write_bytes(b"half")
    restore_latest(steps, state_of(tiny_model))
    assert not leftover.exists()


def test_an_adapter_of_another_shape_is_refused(tiny_model: Path, steps: Path) -> None:
    advance(state_of(tiny_model), steps)
    with pytest.raises(TemploraError, match="does not fit"):
        restore_latest(steps, state_of(tiny_model, Config(train=TrainConfig(learn=False))))


def test_nothing_is_pickled(tiny_model: Path, steps: Path) -> None:
    advance(state_of(tiny_model), steps)
    for file in (steps / "000000").iterdir():
        assert file.suffix in (".json", ".safetensors")
        if file.suffix == ".json":
            json.loads(file.read_text())


def test_the_prompt_of_each_chunk_is_retained_after_thinning(tiny_model: Path, steps: Path) -> None:
    state = state_of(tiny_model)
    for _ in range(3):
        advance(state, steps)
    thin(steps, keep_checkpoints=1, grid_checkpoints=0)
    for number, step in enumerate(committed_steps(steps)):
        prompt = json.loads((step / "prompt.json").read_text())
        assert prompt["context"] == [number * 10 + i for i in range(3)]
        assert prompt["sections"] == {"premise": ["A storm."]}
        assert "prompt" not in json.loads((step / "chunk.json").read_text()), "it is not read with the book"
    flip(steps / "000002" / "prompt.json")
    with pytest.raises(StepDamagedError, match=r"prompt\.json does not match"):
        verify_step(steps / "000002")


def needed(chunks: int, keep: int, grid: int) -> set[int]:
    """The steps that keep their tensors in a book with `chunks` chunks, counted from 1."""
    distance = grid_distance(chunks, grid)
    return set(range(max(1, chunks - keep + 1), chunks + 1)) | set(
        range(distance, chunks + 1, distance) if distance else ()
    )


def with_tensors(steps: Path) -> set[int]:
    return {int(file.parent.name) + 1 for file in steps.glob("*/state.json")}


@settings(max_examples=20)
@given(chunks=st.integers(1, 90), keep=st.integers(1, 4), grid=st.integers(0, 14))
def test_a_growing_book_has_exactly_the_tensors_that_it_needs(chunks: int, keep: int, grid: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, chunks + 1):
            step = Path(folder) / f"{number - 1:06d}"
            step.mkdir()
            (step / "state.json").write_text("{}")
            thin(Path(folder), keep_checkpoints=keep, grid_checkpoints=grid)
            assert with_tensors(Path(folder)) == needed(number, keep, grid)


@given(chunks=st.integers(1, 10**6), keep=st.integers(1, 4), grid=st.integers(0, 40))
def test_a_step_that_has_lost_its_tensors_is_never_needed_again(chunks: int, keep: int, grid: int) -> None:
    assert needed(chunks + 1, keep, grid) <= needed(chunks, keep, grid) | {chunks + 1}
    assert len(needed(chunks, keep, grid)) <= keep + grid


@given(chunks=st.integers(1, 10**6), grid=st.integers(1, 40), data=st.data())
def test_a_rewind_goes_too_far_by_a_bounded_share_of_the_book(
    chunks: int, grid: int, data: st.DataObject
) -> None:
    """By at most 2 / (grid + 1) of the book, less a chunk."""
    to = data.draw(st.integers(0, chunks))
    too_far = to % grid_distance(chunks, grid)
    assert too_far <= max(0, 2 * chunks / (grid + 1) - 1)


def test_with_twelve_checkpoints_a_rewind_goes_at_most_a_sixth_of_the_book_too_far() -> None:
    """At most 2/13 of it, less a chunk; books of 13 * 2**n chunks reach this bound."""
    worst = [
        max(to - max((n for n in needed(chunks, 2, 12) if n <= to), default=0) for to in range(chunks + 1))
        for chunks in range(1, 420)
    ]
    assert all(too_far <= max(0, 2 * n / 13 - 1) < n / 6 for n, too_far in enumerate(worst, 1))
    assert worst[103] == 15 == 2 * 104 / 13 - 1


def test_without_a_grid_only_the_newest_checkpoints_are_retained() -> None:
    assert needed(100, 3, 0) == {98, 99, 100}
