"""`WritingState` to disk and back: one folder a chunk, there whole or not at all.

    steps/000012/chunk.json              the chunk: tokens, text, figures
                 prompt.json             what the model saw before it, as token ids and as text
                 adapter.safetensors     LoRA matrices under their PEFT names, float32
                 optimizer.safetensors   the optimizer's moments under the same names
                 state.json              counters and random states
                 checksums.json          SHA-256 of the files above

A step is written beside its place, flushed to the disk and renamed, so text never runs ahead of
weights. Old steps are thinned: the newest `keep_checkpoints` stay whole, of the others the text stays.
Tensors are safetensors: nothing here is ever unpickled.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from templora_cli.errors import TemploraError
from templora_cli.files import sync_folder
from templora_cli.state import WritingState

TENSORS = ("adapter.safetensors", "optimizer.safetensors")
THINNED = (*TENSORS, "state.json")
MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum")
"""What AdamW (the first three) and Muon remember of a parameter."""


class StepDamaged(Exception):
    """A step whose files do not match their checksums, or are not all there."""


def commit_step(steps: Path, index: int, chunk: dict[str, Any], state: WritingState) -> int:
    """Write step `index` in one atomic rename; returns its size in bytes.

    Raises TemploraError where the disk does not take it; then nothing has changed.
    """
    step, beside = steps / _name(index), steps / f".{_name(index)}.tmp"
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        _write_files(beside, chunk, state)
        size = sum(file.stat().st_size for file in beside.iterdir())
        sync_folder(beside)
        beside.replace(step)
        sync_folder(steps)
    except (OSError, SafetensorError) as error:
        raise _disk_error(error, steps) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return size


def restore_latest(steps: Path, state: WritingState) -> list[str]:
    """Put the newest good step into `state`, weights in place; returns what the user should be told.

    Damaged steps at the end are set aside as `000012.damaged`; their chunks will be written again.
    Where the only step is damaged, `state` stays as it is: that of the beginning.

    Raises TemploraError where text is lost or no step with weights is good.
    """
    for leftover in steps.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    damaged: list[tuple[Path, str]] = []
    for step in reversed(committed_steps(steps)):
        try:
            restore_step(steps, step, state)
        except (StepDamaged, OSError, ValueError, SafetensorError) as error:
            damaged.append((step, str(error)))
            continue
        return [_set_aside(step, reason) for step, reason in damaged]
    if len(damaged) == 1:
        return [_set_aside(*damaged[0])]
    if damaged:
        session = steps.parent.name
        raise TemploraError(
            f"session {session}: no good checkpoint is left ({damaged[0][1]})",
            f"the text can be saved: templora sessions export {session}",
        )
    return []


def restore_step(steps: Path, step: Path, state: WritingState) -> None:
    """Put a whole step into `state`, weights in place. Raises StepDamaged, OSError, ValueError or
    SafetensorError where it is not good; then `state` is as it was.
    """
    verify_step(step)
    chunks = read_chunks(steps, upto=step)
    tensors = [load_file(step / name) for name in TENSORS if (step / name).exists()]
    values = json.loads((step / "state.json").read_text("utf-8"))
    _restore(state, values, *(tensors or ({}, {})))
    state.tokens[:] = [token for chunk in chunks for token in chunk["tokens"]]
    state.records[:] = [chunk.get("record") for chunk in chunks]
    state.own_nlls[:] = [chunk["nll_base"] for chunk in chunks if chunk["origin"] == "own"]


def verify_step(step: Path) -> None:
    """Check every file of a whole (not thinned) step. Raises StepDamaged."""
    for name, wanted in _checksums(step).items():
        if not (step / name).is_file():
            raise StepDamaged(f"step {step.name}: {name} is missing")
        if _sha256(step / name) != wanted:
            raise StepDamaged(f"step {step.name}: {name} does not match its checksum")


def read_chunks(steps: Path, *, upto: Path | None = None) -> list[dict[str, Any]]:
    """The `chunk.json` of every step in order, each checked. Raises StepDamaged."""
    folders = committed_steps(steps)
    if upto is not None:
        folders = folders[: folders.index(upto) + 1]
    chunks = []
    for index, step in enumerate(folders):
        if step.name != _name(index):
            raise StepDamaged(f"step {_name(index)} is missing")
        _verify_chunk(step)
        chunks.append(json.loads((step / "chunk.json").read_text("utf-8")))
    return chunks


def _verify_chunk(step: Path) -> None:
    if _sha256(step / "chunk.json") != _checksums(step)["chunk.json"]:
        raise StepDamaged(f"step {step.name}: chunk.json does not match its checksum")


def readable_text(steps: Path) -> tuple[str, list[str]]:
    """The book's text as far as it can be read, and what is wrong with it; gaps are marked in it."""
    texts: list[str] = []
    problems: list[str] = []
    for step in committed_steps(steps):
        chunk = _readable(step)
        if chunk is None:
            problems.append(f"step {step.name}: its text is lost")
            texts.append("\n\n[a chunk is missing here]\n\n")
            continue
        texts.append(chunk["text"])
        try:
            _verify_chunk(step)
        except StepDamaged as damage:
            problems.append(str(damage))
    return "".join(texts), problems


def readable_chunks(steps: Path) -> list[dict[str, Any]]:
    """Every `chunk.json` that can be read at all, whatever its checksum says."""
    return [chunk for step in committed_steps(steps) if (chunk := _readable(step)) is not None]


def _readable(step: Path) -> dict[str, Any] | None:
    try:
        chunk = json.loads((step / "chunk.json").read_text("utf-8"))
        whole = isinstance(chunk["text"], str) and isinstance(chunk["tokens"], list) and "origin" in chunk
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return chunk if whole else None


def thin(steps: Path, *, keep_checkpoints: int, grid_checkpoints: int) -> None:
    """Remove the tensors of steps that need none; the text of all of them stays.

    The newest `keep_checkpoints` keep theirs, and so do at most `grid_checkpoints` at even distances over
    the book: a distance is a power of two, so a step that has lost its tensors is never asked for again.
    What cannot be removed now is removed after the next chunk.
    """
    folders = committed_steps(steps)
    apart = grid_distance(len(folders), grid_checkpoints)
    for number, step in enumerate(folders[:-keep_checkpoints], 1):
        if apart and number % apart == 0:
            continue
        for name in THINNED:
            with suppress(OSError):
                (step / name).unlink(missing_ok=True)


def grid_distance(chunks: int, checkpoints: int) -> int:
    """Chunks between checkpoints of the grid: the least power of two with which there are so few; 0 without.

    So a rewind goes too far by less than the share `2 / (checkpoints + 1)` of the book: 2/13 with twelve.
    """
    if not checkpoints:
        return 0
    apart = 1
    while chunks // apart > checkpoints:
        apart *= 2
    return apart


def set_aside_text(steps: Path, index: int) -> str:
    """The text of a damaged step that was set aside; "" without one."""
    chunk = _readable(steps / f"{_name(index)}.damaged")
    return "" if chunk is None else str(chunk["text"])


def committed_steps(steps: Path) -> list[Path]:
    """The step folders in order."""
    if not steps.is_dir():
        return []
    return sorted(p for p in steps.iterdir() if p.name.isdecimal() and len(p.name) >= 6)


def _name(index: int) -> str:
    return f"{index:06d}"


def _write_files(folder: Path, chunk: dict[str, Any], state: WritingState) -> None:
    shown, rest = chunk["prompt"], {name: value for name, value in chunk.items() if name != "prompt"}
    (folder / "chunk.json").write_text(json.dumps(rest, ensure_ascii=False), "utf-8")
    (folder / "prompt.json").write_text(json.dumps(shown, ensure_ascii=False), "utf-8")
    if state.optimizer is not None:
        save_file(dict(state.adapter), folder / "adapter.safetensors")
        save_file(dict(_moments(state)), folder / "optimizer.safetensors")
    values = {
        "chunks": state.chunks,
        "tokens": len(state.tokens),
        "sampling": _to_base64(state.sampling.get_state()),
        "dropout": _to_base64(state.dropout),
    }
    (folder / "state.json").write_text(json.dumps(values), "utf-8")
    checksums = {file.name: _sha256(file) for file in sorted(folder.iterdir())}
    (folder / "checksums.json").write_text(json.dumps(checksums, indent=2), "utf-8")
    for file in folder.iterdir():
        with file.open("r+b") as stream:
            os.fsync(stream.fileno())


def _moments(state: WritingState) -> Iterator[tuple[str, Tensor]]:
    """The optimizer's state by parameter name and `MOMENTS`."""
    assert state.optimizer is not None
    for name, parameter in state.adapter.items():
        for key, value in state.optimizer.state[parameter].items():
            yield f"{name}.{key}", value


def _restore(
    state: WritingState, values: dict[str, Any], adapter: dict[str, Tensor], moments: dict[str, Tensor]
) -> None:
    """Adapter weights are written in place, so that captured graphs stay valid."""
    if set(adapter) != set(state.adapter):
        raise TemploraError(
            "the session's adapter does not fit this model", "use the model it was begun with"
        )
    with torch.no_grad():
        for name, parameter in state.adapter.items():
            parameter.copy_(adapter[name])
            if state.optimizer is None:
                continue
            for key in MOMENTS:
                if (saved := moments.get(f"{name}.{key}")) is not None:
                    place = saved.device if key == "step" else parameter.device  # AdamW counts on the CPU
                    # A copy: load_file maps the file into memory, and the file will be thinned away.
                    state.optimizer.state[parameter][key] = saved.to(place, copy=True)
    state.chunks = values["chunks"]
    state.sampling.set_state(_from_base64(values["sampling"]))
    state.dropout = _from_base64(values["dropout"])


def _set_aside(step: Path, reason: str) -> str:
    aside = step.with_name(f"{step.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    step.replace(aside)
    sync_folder(step.parent)
    return f"{reason}: going back to what was before it, which is whole; kept as {aside}"


def _checksums(step: Path) -> dict[str, str]:
    try:
        sums = json.loads((step / "checksums.json").read_text("utf-8"))
    except (OSError, ValueError):
        raise StepDamaged(f"step {step.name}: checksums.json is missing or damaged") from None
    allowed = {"chunk.json", "prompt.json", *THINNED}
    if not isinstance(sums, dict) or "chunk.json" not in sums or not allowed.issuperset(sums):
        raise StepDamaged(f"step {step.name}: checksums.json is damaged")
    return sums


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise StepDamaged(f"step {file.parent.name}: {file.name} cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def _disk_error(error: Exception, steps: Path) -> TemploraError:
    session = steps.parent.name
    # safetensors reports the operating system's error as text only.
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    what = "the disk is full" if full else str(error)
    return TemploraError(
        f"chunk could not be saved: {what}. Everything up to the chunk before is safe in {steps.parent}",
        f"make room, then: templora resume {session}",
    )


def _to_base64(state: Tensor) -> str:
    return base64.b64encode(state.cpu().numpy().tobytes()).decode("ascii")


def _from_base64(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
