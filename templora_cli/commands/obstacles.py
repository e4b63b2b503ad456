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

from templora_cli.engine.models.folders import cache_dir
from templora_cli.files import format_bytes
from templora_cli.sessions.store import home

GET_TORCH = "https://pytorch.org/get-started/locally shows the command that installs torch with CUDA"


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:  # not supported by some file systems
        return sys.maxsize


def _has_nvidia() -> bool:
    return shutil.which("nvidia-smi") is not None


def _bitsandbytes() -> Any:
    return import_module("bitsandbytes.cextension").lib


@dataclass(frozen=True)
class Probes:
    """Functions that inspect the machine; tests replace them."""

    free: Callable[[Path], int] = _free
    """Free bytes on the disk of a folder."""
    has_nvidia: Callable[[], bool] = _has_nvidia
    """Whether an NVIDIA driver is installed."""
    cuda: str | None = torch.version.cuda
    """The CUDA version of this torch; None if it was built without CUDA."""
    platform: str = sys.platform
    bitsandbytes: Callable[[], Any] = _bitsandbytes
    """The compiled library of bitsandbytes. Raises the errors of its import."""


PROBES = Probes()


def why_no_gpu(probes: Probes = PROBES) -> tuple[str, str]:
    """The reason why no GPU is used, and the remedy."""
    on_cpu = "templora uses the CPU; choose a small model"
    if probes.platform == "darwin":
        return "there is no CUDA GPU, and Apple GPUs are not supported", on_cpu
    if not probes.has_nvidia():
        return "no NVIDIA GPU was found", on_cpu
    if probes.cuda is None:
        return "there is an NVIDIA GPU, but this torch was built without CUDA", GET_TORCH
    return (
        f"this torch (CUDA {probes.cuda}) cannot use the NVIDIA GPU",
        "update the driver of the GPU",
    )


def why_not_quantized(device: str, probes: Probes = PROBES) -> str | None:
    """Why quantisation is impossible on a device, with the remedy; None if it is possible."""
    remedy = "pip install --upgrade bitsandbytes, or use --quantize none"
    try:
        library = probes.bitsandbytes()
    except ImportError:
        return f"bitsandbytes, which quantises models, is missing: {remedy}"
    except Exception as error:  # its compiled part raises various errors
        first = next(iter(str(error).splitlines()), type(error).__name__)
        return f"bitsandbytes cannot be loaded ({first}): {remedy}"
    if device == "cuda" and not getattr(library, "compiled_with_cuda", False):
        return f"bitsandbytes has no CUDA support: {remedy}"
    return None


def on_disk(checkpoints: int, download: int, hub: Path, probes: Probes = PROBES) -> Iterator[str]:
    """Problems of the folders for sessions (`checkpoints` bytes needed) and models (`download` bytes needed).

    `hub` is the cache of the Hugging Face Hub.
    """
    sessions, cache = home(), cache_dir()
    if reason := why_not_written(sessions):
        yield f"{sessions} cannot be written ({reason}): set TEMPLORA_HOME to another folder"
    elif (free := probes.free(_existing_folder(sessions))) < checkpoints:
        yield (
            f"{format_bytes(free)} are free in {sessions}, and a long book needs "
            f"{format_bytes(checkpoints)}: free some space, "
            "set TEMPLORA_HOME to another disk, or use --set grid_checkpoints=2"
        )
    if reason := why_not_written(cache):
        yield f"{cache} cannot be written ({reason}): set TEMPLORA_CACHE to another folder"
    if download and (free := probes.free(_existing_folder(hub))) < download:
        yield (
            f"{format_bytes(free)} are free in {hub}, and the model needs {format_bytes(download)}: "
            "free some space, or set HF_HOME to another disk"
        )


def why_not_written(folder: Path) -> str | None:
    """Why a folder, which need not exist yet, cannot be written; None if it can."""
    try:
        with tempfile.TemporaryFile(dir=_existing_folder(folder)):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _existing_folder(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    # os.path.exists, unlike Path.exists, returns False without permission.
    while not os.path.exists(folder) and folder != folder.parent:  # noqa: PTH110
        folder = folder.parent
    return folder
