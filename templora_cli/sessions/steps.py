"""The committed chunks of a session on disk, without their weights: this module does not need torch.

    steps/000012/chunk.json              the chunk: tokens, text, measurements
                 prompt.json             the prompt of the chunk, as token ids and as text
                 candidates.json         the candidates that were not chosen, if there were several
                 adapter.safetensors     LoRA matrices under their PEFT names, float32
                 optimizer.safetensors   the optimizer's moments under the same names
                 state.json              counters and the random state of dropout
                 checksums.json          SHA-256 of the files above

`checkpoint.py` writes the steps and restores their weights. Most old steps lose their weights, but no
step loses its text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from templora_cli.errors import TemploraError

TENSORS = ("adapter.safetensors", "optimizer.safetensors", "samples.safetensors")
THINNED = (*TENSORS, "state.json")
BESIDE_CHUNK = {"prompt": "prompt.json", "others": "candidates.json"}
"""The values of a chunk that are in files of their own."""


class StepDamagedError(Exception):
    """A step with files that are missing or do not match their checksums."""


def folder_is_gone(session: Path) -> TemploraError:
    """The error if the folder of an open session is no longer there."""
    return TemploraError(
        f"{session} was deleted, moved or replaced while session {session.name} was open",
        f"if it was moved, move it back, then: templora resume {session.name}",
    )


def verify_step(step: Path) -> None:
    """Check every file of a step that has its weights. Raises StepDamagedError."""
    verify_files(step, checksums_of(step))


def verify_files(step: Path, names: Iterable[str]) -> None:
    """Check these files of a folder with checksums. Raises StepDamagedError."""
    checksums = read_checksums(step)
    for name in names:
        if not (step / name).is_file():
            raise StepDamagedError(f"step {step.name}: {name} is missing")
        if sha256_of_file(step / name) != checksums.get(name):
            raise StepDamagedError(f"step {step.name}: {name} does not match its checksum")


def read_chunks(steps: Path, *, upto: Path | None = None) -> list[dict[str, Any]]:
    """The `chunk.json` of every step in order, each checked. Raises StepDamagedError."""
    folders = committed_steps(steps)
    if upto is not None:
        folders = folders[: folders.index(upto) + 1]
    chunks = []
    for index, step in enumerate(folders):
        if step.name != step_name(index):
            raise StepDamagedError(f"step {step_name(index)} is missing")
        _verify_chunk(step)
        if (chunk := _readable(step)) is None:
            raise StepDamagedError(f"step {step.name}: chunk.json is not a chunk")
        chunks.append(chunk)
    return chunks


def read_whole_chunks(steps: Path) -> list[dict[str, Any]]:
    """The values of `read_chunks` with the prompt of each chunk, and its other candidates if it has some."""
    read_chunks(steps)  # none is missing
    return [read_whole_chunk(step) for step in committed_steps(steps)]


def read_whole_chunk(step: Path) -> dict[str, Any]:
    """The values of one step for `read_whole_chunks`. Raises StepDamagedError."""
    _verify_chunk(step)
    if (chunk := _readable(step)) is None:
        raise StepDamagedError(f"step {step.name}: chunk.json is not a chunk")
    for key, name in BESIDE_CHUNK.items():
        if (step / name).is_file():
            verify_files(step, [name])
            chunk[key] = json.loads((step / name).read_text("utf-8"))
    return chunk


def _verify_chunk(step: Path) -> None:
    if sha256_of_file(step / "chunk.json") != checksums_of(step)["chunk.json"]:
        raise StepDamagedError(f"step {step.name}: chunk.json does not match its checksum")


def readable_text(steps: Path) -> tuple[str, list[str]]:
    """The readable text of the book, with gaps marked, and descriptions of its damage."""
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
        except StepDamagedError as damage:
            problems.append(str(damage))
    return "".join(texts), problems


def readable_chunks(steps: Path) -> list[dict[str, Any]]:
    """Every `chunk.json` that can be read, even if its checksum does not match."""
    return [chunk for step in committed_steps(steps) if (chunk := _readable(step)) is not None]


def _readable(step: Path) -> dict[str, Any] | None:
    try:
        chunk = json.loads((step / "chunk.json").read_text("utf-8"))
        is_valid = isinstance(chunk["text"], str) and isinstance(chunk["tokens"], list) and "origin" in chunk
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return chunk if is_valid else None


def proposed_in(chunks: Sequence[Mapping[str, Any]]) -> range:
    """The chunks at the end of a book that are only proposed: they wait for their author's decision."""
    count = sum(1 for _ in takewhile(lambda chunk: chunk.get("proposed"), reversed(chunks)))
    return range(len(chunks) - count, len(chunks))


def before_proposal(chunks: Sequence[Mapping[str, Any]]) -> range:
    """The two chunks before those that are only proposed; none if nothing is.

    Learning starts after the second one when the author decides, and after the first one if that is taken
    back.
    """
    proposed = proposed_in(chunks)
    return range(max(0, proposed.start - 2), proposed.start) if proposed else range(0)


def thin(steps: Path, *, keep_checkpoints: int, grid_checkpoints: int, needed: Collection[int] = ()) -> None:
    """Delete the tensors of most old steps; the text of all steps stays.

    The newest `keep_checkpoints` steps keep their tensors, and so do at most `grid_checkpoints` steps at
    equal distances over the book. The distance is a power of two, so a step that has lost its tensors is
    never needed again. So do those after the chunks with the indexes in `needed`. A file that cannot be
    deleted now is deleted after the next chunk.
    """
    folders = committed_steps(steps)
    distance = grid_distance(len(folders), grid_checkpoints)
    for number, step in enumerate(folders[:-keep_checkpoints], 1):
        if (distance and number % distance == 0) or number - 1 in needed:
            continue
        for name in THINNED:
            with suppress(OSError):
                (step / name).unlink(missing_ok=True)


def grid_distance(chunks: int, checkpoints: int) -> int:
    """Chunks between checkpoints of the grid: the smallest power of two that needs at most `checkpoints`.

    It is 0 if `checkpoints` is 0. A rewind goes too far by less than `2 / (checkpoints + 1)` of the book:
    2/13 with 12 checkpoints.
    """
    if not checkpoints:
        return 0
    distance = 1
    while chunks // distance > checkpoints:
        distance *= 2
    return distance


def set_aside_text(steps: Path, index: int) -> str:
    """The text of a damaged step that was set aside; "" if there is none."""
    chunk = _readable(steps / f"{step_name(index)}.damaged")
    return "" if chunk is None else str(chunk["text"])


def committed_steps(steps: Path) -> list[Path]:
    """The step folders in order."""
    if not steps.is_dir():
        return []
    return sorted(path for path in steps.iterdir() if is_step(path.name))


def is_step(name: str) -> bool:
    """Is a folder with this name a committed step?"""
    return name.isdecimal() and len(name) >= 6


def step_name(index: int) -> str:
    """The name of the step folder of a chunk."""
    return f"{index:06d}"


def checksums_of(step: Path) -> dict[str, str]:
    """The SHA-256 of each file of a step, stored at its commit. Raises StepDamagedError."""
    sums = read_checksums(step)
    if "chunk.json" not in sums:
        raise StepDamagedError(f"step {step.name}: checksums.json is damaged")
    return sums


def read_checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a folder, from its `checksums.json`. Raises StepDamagedError."""
    try:
        sums = json.loads((folder / "checksums.json").read_text("utf-8"))
    except (OSError, ValueError):
        raise StepDamagedError(f"step {folder.name}: checksums.json is missing or damaged") from None
    allowed = {"chunk.json", "prompt.json", "candidates.json", *THINNED}
    if not isinstance(sums, dict) or not allowed.issuperset(sums):
        raise StepDamagedError(f"step {folder.name}: checksums.json is damaged")
    return sums


def sha256_of_file(file: Path) -> str:
    """The SHA-256 of a file of a step, in hexadecimal. Raises StepDamagedError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise StepDamagedError(
            f"step {file.parent.name}: {file.name} cannot be read: {error.strerror}"
        ) from None
    return digest.hexdigest()
