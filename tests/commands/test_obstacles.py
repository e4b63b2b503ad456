"""Problems of a machine are reported, each with its remedy."""

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
    ("probes", "reason", "remedy"),
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
def test_the_reason_for_a_missing_gpu_is_reported(probes: Probes, reason: str, remedy: str) -> None:
    line = ": ".join(why_no_gpu(probes))
    assert reason in line and remedy in line and "\n" not in line


def test_problems_of_bitsandbytes_are_reported() -> None:
    missing = why_not_quantized("cuda", Probes(bitsandbytes=raises(ImportError("no module"))))
    assert missing == (
        "bitsandbytes, which quantises models, is missing: "
        "pip install --upgrade bitsandbytes, or use --quantize none"
    )
    broken = why_not_quantized("cpu", Probes(bitsandbytes=raises(OSError("libx.so: bad\nat line 3"))))
    assert broken is not None and broken.startswith("bitsandbytes cannot be loaded (libx.so: bad): ")
    for_cpu = Probes(bitsandbytes=lambda: SimpleNamespace(compiled_with_cuda=False))
    assert why_not_quantized("cpu", for_cpu) is None
    cpu_only = why_not_quantized("cuda", for_cpu)
    assert cpu_only is not None and "no CUDA support" in cpu_only
    working = Probes(bitsandbytes=lambda: SimpleNamespace(compiled_with_cuda=True))
    assert why_not_quantized("cuda", working) is None


def test_the_bitsandbytes_of_this_machine_works() -> None:
    assert why_not_quantized("cpu") is None


def notes(
    free: int, checkpoints: int = 3 * GB, download: int = 16 * GB, hub: Path = Path("/hub")
) -> list[str]:
    return list(on_disk(checkpoints, download, hub, Probes(free=lambda folder: free)))


def test_a_nearly_full_disk_is_reported(own_home: Path) -> None:
    assert notes(17 * GB) == []
    too_full = "10.0 GB are free in /hub, and the model needs 16.0 GB"
    note = f"{too_full}: free some space, or set HF_HOME to another disk"
    assert notes(10 * GB) == [note.replace("/hub", str(Path("/hub")))]
    first, second = notes(2 * GB)
    assert first == (
        f"2.0 GB are free in {own_home}, and a long book needs 3.0 GB: free some space, set "
        "TEMPLORA_HOME to another disk, or use --set grid_checkpoints=2"
    )
    assert second.startswith("2.0 GB are free in")
    assert len(notes(2 * GB, download=0)) == 1, "the model is already downloaded"


def test_folders_that_cannot_be_written_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for name in ("TEMPLORA_HOME", "TEMPLORA_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "file" / "inside"))
    home, cache = notes(17 * GB)
    assert home.endswith("set TEMPLORA_HOME to another folder")
    assert cache.endswith("set TEMPLORA_CACHE to another folder")


def test_the_check_of_a_folder_does_not_create_it(tmp_path: Path) -> None:
    assert why_not_written(tmp_path / "a" / "b") is None
    assert not (tmp_path / "a").exists() and list(tmp_path.glob("tmp*")) == []


@pytest.mark.skipif(not Path("/proc/1").is_dir(), reason="needs a folder that nobody may write")
def test_a_system_folder_cannot_be_written() -> None:
    assert why_not_written(Path("/proc/nothing")) is not None
    assert why_not_written(Path("/proc")) is not None
