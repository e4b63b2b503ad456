"""What the machine has: of a container what its limit leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from templora_cli.engine.memory.machine import CUDA_CONTEXT, imagined_device_memory, measure_device_memory


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """One that may use 8,000 bytes, and uses 5,000, of which 1,500 are pages of files."""
    (tmp_path / "memory.max").write_text("8000\n")
    (tmp_path / "memory.current").write_text("5000\n")
    (tmp_path / "memory.stat").write_text("anon 3000\ninactive_file 1500\n")
    return tmp_path


def test_a_container_has_what_its_limit_leaves(container: Path) -> None:
    here = measure_device_memory("cpu", container)
    assert (here.device, here.dtype, here.free, here.total) == ("cpu", "float32", 4500, 8000)
    assert here.held > 10**8 and here.libraries > 10**8
    (container / "memory.current").write_text("9999\n")
    assert measure_device_memory("cpu", container).free == 0


def test_without_a_limit_there_is_what_the_machine_has(container: Path, tmp_path: Path) -> None:
    (container / "memory.max").write_text("max\n")
    unlimited, no_container = (
        measure_device_memory("cpu", container),
        measure_device_memory("cpu", tmp_path / "none"),
    )
    assert unlimited.total == no_container.total > 10**9
    assert unlimited.free > 10**6 and no_container.free > 10**6


def test_an_imagined_machine_is_idle() -> None:
    gpu, cpu = imagined_device_memory("cuda", 8 * 10**9), imagined_device_memory("cpu", 8 * 10**9)
    assert gpu.free == 8 * 10**9 - CUDA_CONTEXT and gpu.bytes_each == 2
    assert cpu.free + cpu.held == 8 * 10**9 and cpu.bytes_each == 4
