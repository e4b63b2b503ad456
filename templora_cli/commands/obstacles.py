"""Problems of this machine that would stop a book, each with its remedy."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from templora_cli.engine.models.folders import cache_dir, in_words
from templora_cli.sessions.store import home

GET_TORCH = "https://pytorch.org/get-started/locally shows the command that installs torch with CUDA"


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:  # some file systems do not say
        return sys.maxsize


def _has_nvidia() -> bool:
    return shutil.which("nvidia-smi") is not None


def _bitsandbytes() -> Any:
    return import_module("bitsandbytes.cextension").lib


@dataclass(frozen=True)
class Looks:
    """How the machine is looked at; tests put something else in its place."""

    free: Callable[[Path], int] = _free
    """Bytes that are free where a folder lies."""
    has_nvidia: Callable[[], bool] = _has_nvidia
    """Is there a driver of NVIDIA's?"""
    cuda: str | None = torch.version.cuda
    """The CUDA that this torch was made with."""
    platform: str = sys.platform
    bitsandbytes: Callable[[], Any] = _bitsandbytes
    """Its library of compiled functions. Raises what its import does."""


LOOKS = Looks()


def why_no_gpu(looks: Looks = LOOKS) -> tuple[str, str]:
    """Why nothing runs on a GPU, and what to do."""
    on_cpu = "templora uses the CPU; choose a small model"
    if looks.platform == "darwin":
        return "there is no CUDA GPU, and Apple GPUs are not supported", on_cpu
    if not looks.has_nvidia():
        return "no NVIDIA GPU was found", on_cpu
    if looks.cuda is None:
        return "there is an NVIDIA GPU, but this torch was built without CUDA", GET_TORCH
    return (
        f"this torch (CUDA {looks.cuda}) cannot use the NVIDIA GPU",
        "update the driver of the GPU",
    )


def why_not_quantized(device: str, looks: Looks = LOOKS) -> str | None:
    """Why nothing can be held in 4 or 8 bits on a device, and what to do; None where it can."""
    again = "pip install --upgrade bitsandbytes, or use --quantize none"
    try:
        library = looks.bitsandbytes()
    except ImportError:
        return f"bitsandbytes, which quantizes models, is missing: {again}"
    except Exception as error:  # its compiled part fails in its own ways
        first = next(iter(str(error).splitlines()), type(error).__name__)
        return f"bitsandbytes cannot be loaded ({first}): {again}"
    if device == "cuda" and not getattr(library, "compiled_with_cuda", False):
        return f"bitsandbytes has no CUDA support: {again}"
    return None


def on_disk(checkpoints: int, download: int, hub: Path, looks: Looks = LOOKS) -> Iterator[str]:
    """What is wrong with the folders: of sessions, which come to hold `checkpoints` bytes; of models, into
    which `download` bytes go; `hub` is the cache of the Hugging Face Hub.
    """
    sessions, cache = home(), cache_dir()
    if reason := why_not_written(sessions):
        yield f"{sessions} cannot be written ({reason}): set TEMPLORA_HOME to another folder"
    elif (free := looks.free(_nearest(sessions))) < checkpoints:
        yield (
            f"{in_words(free)} are free in {sessions}, and a long book needs {in_words(checkpoints)}: "
            "free some space, set TEMPLORA_HOME to another disk, or use --set grid_checkpoints=2"
        )
    if reason := why_not_written(cache):
        yield f"{cache} cannot be written ({reason}): set TEMPLORA_CACHE to another folder"
    if download and (free := looks.free(_nearest(hub))) < download:
        yield (
            f"{in_words(free)} are free in {hub}, and the model needs {in_words(download)}: "
            "free some space, or set HF_HOME to another disk"
        )


def why_not_written(folder: Path) -> str | None:
    """Why nothing can be written into a folder, which need not be there yet; None where it can."""
    try:
        with tempfile.TemporaryFile(dir=_nearest(folder)):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    # os.path, unlike Path, takes what may not be looked at for what is not there.
    while not os.path.exists(folder) and folder != folder.parent:  # noqa: PTH110
        folder = folder.parent
    return folder
