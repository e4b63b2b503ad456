"""What stands in the way of a book on a machine, and that each comes with what to do about it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from templora_cli.commands.obstacles import Probes, on_disk, why_no_gpu, why_not_quantized, why_not_written

GB = 10**9


def raises(error: Exception) -> Any:
    def fail() -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("probes", "told", "to_do"),
    [
        (Probes(platform="darwin"), "Apple GPUs are not supported", "choose a small model"),
        (
            Probes(platform="linux", has_nvidia=lambda: False),
            "no NVIDIA GPU was found",
            "choose a small model",
        ),
        (Probes(platform="win32", has_nvidia=lambda: True, cuda=None), "built without CUDA", "pytorch.org"),
        (Probes(platform="linux", has_nvidia=lambda: True, cuda="13.0"), "torch (CUDA 13.0)", "driver"),
    ],
)
def test_why_there_is_no_gpu(probes: Probes, told: str, to_do: str) -> None:
    line = ": ".join(why_no_gpu(probes))
    assert told in line and to_do in line and "\n" not in line


def test_a_gpu_without_bitsandbytes() -> None:
    missing = why_not_quantized("cuda", Probes(bitsandbytes=raises(ImportError("no module"))))
    assert missing == (
        "bitsandbytes, which quantizes models, is missing: "
        "pip install --upgrade bitsandbytes, or use --quantize none"
    )
    broken = why_not_quantized("cpu", Probes(bitsandbytes=raises(OSError("libx.so: bad\nat line 3"))))
    assert broken is not None and broken.startswith("bitsandbytes cannot be loaded (libx.so: bad): ")
    for_cpu = Probes(bitsandbytes=lambda: SimpleNamespace(compiled_with_cuda=False))
    assert why_not_quantized("cpu", for_cpu) is None
    told = why_not_quantized("cuda", for_cpu)
    assert told is not None and "no CUDA support" in told
    whole = Probes(bitsandbytes=lambda: SimpleNamespace(compiled_with_cuda=True))
    assert why_not_quantized("cuda", whole) is None


def test_the_bitsandbytes_of_this_machine_is_found() -> None:
    assert why_not_quantized("cpu") is None


def notes(
    free: int, checkpoints: int = 3 * GB, download: int = 16 * GB, hub: Path = Path("/hub")
) -> list[str]:
    return list(on_disk(checkpoints, download, hub, Probes(free=lambda folder: free)))


def test_a_disk_that_is_nearly_full(own_home: Path) -> None:
    assert notes(17 * GB) == []
    needed = "10.0 GB are free in /hub, and the model needs 16.0 GB"
    model = f"{needed}: free some space, or set HF_HOME to another disk"
    assert notes(10 * GB) == [model.replace("/hub", str(Path("/hub")))]
    first, second = notes(2 * GB)
    assert first == (
        f"2.0 GB are free in {own_home}, and a long book needs 3.0 GB: free some space, set "
        "TEMPLORA_HOME to another disk, or use --set grid_checkpoints=2"
    )
    assert second.startswith("2.0 GB are free in")
    assert len(notes(2 * GB, download=0)) == 1, "the model is already downloaded"


def test_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for name in ("TEMPLORA_HOME", "TEMPLORA_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "file" / "inside"))
    home, cache = notes(17 * GB)
    assert home.endswith("set TEMPLORA_HOME to another folder")
    assert cache.endswith("set TEMPLORA_CACHE to another folder")


def test_looking_makes_no_folder(tmp_path: Path) -> None:
    assert why_not_written(tmp_path / "a" / "b") is None
    assert not (tmp_path / "a").exists() and list(tmp_path.glob("tmp*")) == []


@pytest.mark.skipif(not Path("/proc/1").is_dir(), reason="needs a folder that nobody may write")
def test_a_folder_of_the_system() -> None:
    assert why_not_written(Path("/proc/nothing")) is not None
    assert why_not_written(Path("/proc")) is not None
