"""The memory of a machine; in a container, what its limit leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from templora_cli.engine.memory.machine import CUDA_CONTEXT, imagined_device_memory, measure_device_memory


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """A container with a limit of 8,000 bytes; it uses 5,000, and 1,500 of these are pages of files."""
    (tmp_path / "memory.max").write_text("8000\n")
    (tmp_path / "memory.current").write_text("5000\n")
    (tmp_path / "memory.stat").write_text("anon 3000\ninactive_file 1500\n")
    return tmp_path


def test_the_limit_of_a_container_is_used(container: Path) -> None:
    memory = measure_device_memory("cpu", container)
    assert (memory.device, memory.dtype, memory.free, memory.total) == ("cpu", "float32", 4500, 8000)
    assert memory.in_use > 10**8 and memory.libraries > 10**8
    (container / "memory.current").write_text("9999\n")
    assert measure_device_memory("cpu", container).free == 0


def test_without_a_limit_the_memory_of_the_machine_is_used(container: Path, tmp_path: Path) -> None:
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
    assert cpu.free + cpu.in_use == 8 * 10**9 and cpu.bytes_each == 4
