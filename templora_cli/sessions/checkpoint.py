"""Save and restore `WritingState`: one folder per chunk, committed atomically (`steps.py` describes it).

A step is written to a temporary folder, flushed to disk and renamed, so the text never gets ahead of the
weights. Tensors are stored as safetensors: nothing is ever unpickled.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from templora_cli.engine.training.optimizers import COUNTERS, MOMENTS
from templora_cli.engine.training.replay import Samples
from templora_cli.errors import TemploraError, is_disk_full
from templora_cli.files import sync_folder
from templora_cli.sessions.steps import (
    TENSORS,
    StepDamagedError,
    committed_steps,
    read_chunks,
    sha256_of_file,
    step_name,
    verify_step,
)
from templora_cli.state import WritingState


def commit_step(
    steps: Path,
    index: int,
    chunk: dict[str, Any],
    state: WritingState | None,
    *,
    is_rebuild: bool = False,
) -> int:
    """Write step `index` in one atomic rename; returns its size in bytes. Without a `state` it has only text.

    Raises TemploraError if the disk refuses it; then nothing has changed. With `is_rebuild`, `steps` is a new
    folder that will replace the steps of the session, and the error says that the session is unchanged.
    """
    step, temporary = steps / step_name(index), steps / f".{step_name(index)}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _write_files(temporary, chunk, state)
        size = sum(file.stat().st_size for file in temporary.iterdir())
        sync_folder(temporary)
        temporary.replace(step)
        sync_folder(steps)
    except (OSError, SafetensorError) as error:
        raise _disk_error(error, steps, is_rebuild) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return size


def restore_latest(steps: Path, state: WritingState) -> list[str]:
    """Load the newest intact step into `state`, weights in place; returns notices for the user.

    Damaged steps at the end are set aside as `000012.damaged`; their chunks will be written again.
    If the only step is damaged, `state` is not changed: it is that of an empty book.

    Raises TemploraError if text is lost or no step with weights is intact.
    """
    for leftover in steps.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    damaged: list[tuple[Path, str]] = []
    for step in reversed(committed_steps(steps)):
        try:
            restore_step(steps, step, state)
        except (StepDamagedError, OSError, ValueError, SafetensorError) as error:
            damaged.append((step, str(error)))
            continue
        return [_set_aside(step, reason) for step, reason in damaged]
    if len(damaged) == 1:
        return [_set_aside(*damaged[0])]
    if damaged:
        session = steps.parent.name
        raise TemploraError(
            f"session {session}: no intact checkpoint remains ({damaged[0][1]})",
            f"to save its text: templora sessions export {session}",
        )
    return []


def restore_step(steps: Path, step: Path, state: WritingState) -> None:
    """Load a step that has its weights into `state`, in place.

    Raises StepDamagedError, OSError, ValueError or SafetensorError if it is damaged. Then `state` is
    unchanged.
    """
    verify_step(step)
    chunks = read_chunks(steps, upto=step)
    restore_weights(step, state)
    state.tokens[:] = [token for chunk in chunks for token in chunk["tokens"]]
    state.records[:] = [chunk.get("record") for chunk in chunks]
    state.generated_nlls[:] = [chunk["nll_base"] for chunk in chunks if chunk["origin"] != "human"]


def restore_weights(folder: Path, state: WritingState) -> None:
    """Load adapter, moments, samples, random state and number of chunks from verified files into `state`.

    Raises as `restore_step` does.
    """
    adapter, moments, samples = (
        load_file(folder / name) if (folder / name).exists() else {} for name in TENSORS
    )
    values = json.loads((folder / "state.json").read_text("utf-8"))
    saved = _samples_from(samples)
    _restore(state, values, adapter, moments)
    state.samples = saved


def _write_files(folder: Path, chunk: dict[str, Any], state: WritingState | None) -> None:
    apart = {"prompt.json": chunk["prompt"]} | (
        {"candidates.json": chunk["others"]} if chunk.get("others") else {}
    )
    rest = {name: value for name, value in chunk.items() if name not in ("prompt", "others")}
    for name, values in {"chunk.json": rest, **apart}.items():
        (folder / name).write_text(json.dumps(values, ensure_ascii=False), "utf-8")
    if state is not None:
        _write_state(folder, state)
    checksums = {file.name: sha256_of_file(file) for file in sorted(folder.iterdir())}
    (folder / "checksums.json").write_text(json.dumps(checksums, indent=2), "utf-8")
    for file in folder.iterdir():
        with file.open("r+b") as stream:
            os.fsync(stream.fileno())


def _write_state(folder: Path, state: WritingState) -> None:
    if state.optimizer is not None:
        save_file(dict(state.adapter), folder / "adapter.safetensors")
        save_file(dict(_moments(state)), folder / "optimizer.safetensors")
    if state.samples is not None:
        save_file(_samples_as_tensors(state.samples), folder / "samples.safetensors")
    values = {
        "chunks": state.chunks,
        "tokens": len(state.tokens),
        "dropout": _to_base64(state.dropout_rng_state),
    }
    (folder / "state.json").write_text(json.dumps(values), "utf-8")


def _moments(state: WritingState) -> Iterator[tuple[str, Tensor]]:
    """The optimizer's state by parameter name and key."""
    assert state.optimizer is not None
    for name, parameter in state.adapter.items():
        for key, value in state.optimizer.state[parameter].items():
            yield f"{name}.{key}", value


def _samples_as_tensors(samples: Samples) -> dict[str, Tensor]:
    tensors = {"prompt": torch.tensor(samples.prompt), "tokens": samples.tokens.contiguous()}
    if samples.ids is not None and samples.logs is not None:
        tensors |= {"ids": samples.ids, "logs": samples.logs}
    return tensors


def _samples_from(tensors: dict[str, Tensor]) -> Samples | None:
    """The samples of a step; None if it has none. Raises ValueError if they do not fit together."""
    if not tensors:
        return None
    # Copies: load_file maps the file into memory, and the file will be deleted by `thin`.
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    prompt, tokens = kept.get("prompt"), kept.get("tokens")
    ids, logs = kept.get("ids"), kept.get("logs")
    whole = (prompt, tokens) if ids is None and logs is None else (prompt, tokens, ids)
    if any(some is None or some.is_floating_point() or not some.numel() or some.min() < 0 for some in whole):
        raise ValueError("its samples are damaged")
    assert prompt is not None and tokens is not None
    if prompt.dim() != 1 or tokens.dim() != 2:
        raise ValueError("its samples are damaged")
    if ids is not None and (logs is None or ids.dim() != 3 or ids.shape[:2] != tokens.shape):
        raise ValueError("its samples are damaged")
    if ids is not None and logs is not None and (logs.shape != ids.shape or not logs.is_floating_point()):
        raise ValueError("its samples are damaged")
    return Samples(tuple(prompt.tolist()), tokens, ids, logs)


def _restore(
    state: WritingState, values: dict[str, Any], adapter: dict[str, Tensor], moments: dict[str, Tensor]
) -> None:
    """Copy the adapter weights in place, so that captured CUDA graphs stay valid."""
    if set(adapter) != set(state.adapter):
        raise TemploraError(
            "the session's adapter does not fit this model", "use the model that the session began with"
        )
    with torch.no_grad():
        for name, parameter in state.adapter.items():
            parameter.copy_(adapter[name])
            if state.optimizer is None:
                continue
            for key in (*COUNTERS, *MOMENTS):
                if (saved := moments.get(f"{name}.{key}")) is not None:
                    device = saved.device if key in COUNTERS else parameter.device
                    # A copy: load_file maps the file into memory, and the file will be deleted by `thin`.
                    state.optimizer.state[parameter][key] = saved.to(device, copy=True)
    state.chunks = values["chunks"]
    state.dropout_rng_state = _from_base64(values["dropout"])


def _set_aside(step: Path, reason: str) -> str:
    aside = step.with_name(f"{step.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    step.replace(aside)
    sync_folder(step.parent)
    return f"{reason}; its chunk will be made again, and the step is saved as {aside}"


def _disk_error(error: Exception, steps: Path, is_rebuild: bool) -> TemploraError:
    session = steps.parent.name
    is_full = is_disk_full(error)
    reason, remedy = ("the disk is full", "free disk space") if is_full else (str(error), "correct this")
    if is_rebuild:
        return TemploraError(
            f"the chunks could not be saved: {reason}. Session {session} is unchanged",
            f"{remedy}, then run the command again",
        )
    return TemploraError(
        f"the chunk could not be saved: {reason}. All earlier chunks are safe in {steps.parent}",
        f"{remedy}, then: templora resume {session}",
    )


def _to_base64(state: Tensor) -> str:
    return base64.b64encode(state.cpu().numpy().tobytes()).decode("ascii")


def _from_base64(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
