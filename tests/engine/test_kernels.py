"""What was compiled is kept, and where it cannot be, decoding does not notice."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from templora_cli.engine import kernels

PRODUCT = """
import numpy as np
from templora_cli.engine.kernels import _dot
assert _dot(np.arange(4, dtype=np.int8), np.ones(4, np.float32)) == 6
print(sum(_dot.stats.cache_hits.values()))
"""


def hits_in_a_new_process(cache: Path) -> int:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", PRODUCT], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return int(done.stdout)


def test_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    assert hits_in_a_new_process(tmp_path) == 0
    assert hits_in_a_new_process(tmp_path) == 1, "kept by the process before"
    for index in tmp_path.rglob("*.nbi"):
        index.write_bytes(index.read_bytes()[:20])
    assert hits_in_a_new_process(tmp_path) == 0
    assert hits_in_a_new_process(tmp_path) == 1, "mended by the process before"
    for code in tmp_path.rglob("*.nbc"):
        code.write_bytes(code.read_bytes()[:20])
    assert hits_in_a_new_process(tmp_path) == 0
    assert hits_in_a_new_process(tmp_path) == 1


def double(x: np.ndarray) -> np.ndarray:
    return x * np.float32(2)


def test_a_full_disk_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", full)
    assert kernels.kernel(double)(np.ones(2, np.float32)).tolist() == [2, 2]


def test_no_folder_to_keep_it_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: object) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(kernels, "_Kept", none)
    assert kernels.kernel(double)(np.ones(2, np.float32)).tolist() == [2, 2]
