"""The numba kernels compute the right values, and compiled code is cached."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numba.core.caching import NullCache

from templora_cli.engine.kernels import numba_cache, numba_kernels

DOT = """
import numpy as np
from templora_cli.engine.kernels.numba_kernels import _dot
assert _dot(np.arange(4, dtype=np.int8), np.ones(4, np.float32)) == 6
print(sum(_dot.stats.cache_hits.values()))
"""


def cache_hits_in_a_new_process(cache: Path) -> int:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    result = subprocess.run(
        [sys.executable, "-c", DOT], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return int(result.stdout)


def test_a_damaged_cache_is_replaced(tmp_path: Path) -> None:
    assert cache_hits_in_a_new_process(tmp_path) == 0
    assert cache_hits_in_a_new_process(tmp_path) == 1, "cached by the previous process"
    for index in tmp_path.rglob("*.nbi"):
        index.write_bytes(index.read_bytes()[:20])
    assert cache_hits_in_a_new_process(tmp_path) == 0
    assert cache_hits_in_a_new_process(tmp_path) == 1, "replaced by the previous process"
    for code in tmp_path.rglob("*.nbc"):
        code.write_bytes(code.read_bytes()[:20])
    assert cache_hits_in_a_new_process(tmp_path) == 0
    assert cache_hits_in_a_new_process(tmp_path) == 1


TOKEN = """
import hashlib
import torch
from tests.engine.decoding.cpu.test_int8_decoder import IDS, adapted_model
from templora_cli.engine.kernels import numba_kernels
from templora_cli.engine.decoding.cpu.int8_decoder import Int8Decoder
from templora_cli.engine.decoding.cpu.quantize import quantize_rows
torch.set_num_threads(1)
decoder = Int8Decoder(adapted_model("llama"), quantize_rows)
with torch.no_grad():
    logits = [decoder.logits_after(IDS[:40])] + [decoder.logits_after([token]) for token in IDS[40:]]
digest = hashlib.sha256(torch.stack(logits).numpy().tobytes()).hexdigest()
print(sum(numba_kernels.token.stats.cache_misses.values()), digest)
"""


def output_of_a_new_process(cache: Path | None = None) -> list[str]:
    environment = {**os.environ, **({"NUMBA_CACHE_DIR": str(cache)} if cache else {})}
    root = Path(__file__).parents[3]
    result = subprocess.run([sys.executable, "-c", TOKEN], env=environment, cwd=root, stdout=subprocess.PIPE)
    return result.stdout.decode().split()


def test_a_process_that_decodes_never_compiles() -> None:
    assert output_of_a_new_process()[0] == "0"
    assert numba_kernels.is_cached(), "another process compiled it, with the argument types for decoding"


@pytest.mark.slow
def test_the_first_process_on_a_machine_computes_the_same_bits_as_later_ones(tmp_path: Path) -> None:
    """A session that began in the first process is resumed by another."""
    first = output_of_a_new_process(tmp_path)
    assert first[0] == "0" and output_of_a_new_process(tmp_path) == first


def double(x: np.ndarray) -> np.ndarray:
    return x * np.float32(2)


def triple(x: np.ndarray) -> np.ndarray:
    return x * np.float32(3)


def never_called() -> None:
    pytest.fail("this process compiles although another one did")


def test_another_process_compiles_with_the_import_path_of_this_one() -> None:
    commands: list[list[str]] = []
    signature, kernel = (numba.float32[::1],), numba_cache.kernel(double)
    calls: list[str] = []

    def compile_here() -> None:
        calls.append("here")

    def run(command: list[str], **options: object) -> None:
        commands.append(command)

    def prepare() -> None:
        numba_cache.compile_once(kernel, signature, compile_here, run=run)

    prepare()
    ((python, *_, code),) = [command[:3] for command in commands]
    assert python == sys.executable and "compile_here()" in code and commands[0][3:] == sys.path
    assert calls == ["here"], "the other process did not compile, so this one does"
    assert isinstance(kernel._cache, NullCache), "without caching"  # type: ignore[attr-defined]
    prepare()
    assert len(commands) == 1, "without a cache no process is started"


def test_a_cached_function_is_not_compiled_again() -> None:
    kernel, values = numba_cache.kernel(triple), np.ones(2, np.float32)
    signature = (numba.typeof(values),)
    numba_cache.compile_once(kernel, signature, never_called, run=lambda *_, **__: kernel(values))
    assert numba_cache.is_cached(kernel, signature)
    numba_cache.compile_once(kernel, signature, never_called, run=lambda *_, **__: never_called())


def test_a_full_disk_costs_only_time() -> None:
    class Full:
        def load(self, key: object) -> None:
            return None

        def save(self, key: object, data: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    kernel = numba_cache.kernel(double)
    kernel._cache._cache_file = Full()  # type: ignore[attr-defined]
    assert kernel(np.ones(2, np.float32)).tolist() == [2, 2]


def test_a_kernel_runs_without_a_cache_folder() -> None:
    """For example, a function that is not from a file."""
    namespace: dict[str, Any] = {}
    exec("def half(x):\n    return x / 2", namespace)
    kernel = numba_cache.kernel(namespace["half"])
    assert isinstance(kernel._cache, NullCache)
    assert kernel(np.ones(2, np.float32)).tolist() == [0.5, 0.5]


@given(st.lists(st.floats(-200, 0, width=32), min_size=1, max_size=70))
def test_exp_and_sum_are_close_to_numpys(values: list[float]) -> None:
    x = np.array(values, np.float32)
    maximum = x.max()
    expected = np.exp(x.astype(np.float64) - maximum)
    total = numba_kernels._exp_and_sum(x, maximum)
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-37)
    assert total == pytest.approx(expected.sum(), rel=1e-5)


def test_exp_of_nan_is_nan() -> None:
    assert np.isnan(numba_kernels._exp_and_sum(np.array([0, np.nan, -1], np.float32), np.float32(0)))


def test_splits_are_of_nearly_equal_length() -> None:
    for positions in range(1, 40 * numba_kernels.MAX_SPLIT, 7):
        splits, each = numba_kernels.split_evenly(positions)
        assert (splits - 1) * each < positions <= splits * each and each <= numba_kernels.MAX_SPLIT
        last = positions - (splits - 1) * each
        assert each - last < 32 * splits, "they differ only by rounding to a cache line"


@pytest.mark.parametrize("head_dim", [2, 7, 64])
@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("end", [37, numba_kernels.MAX_SPLIT, 2 * numba_kernels.MAX_SPLIT + 5])
def test_attention_equals_its_definition(head_dim: int, first: int, end: int) -> None:
    random, shape = np.random.default_rng(head_dim), (2, head_dim, end + 3)
    queries = random.standard_normal((4, head_dim), np.float32)
    cached = [torch.from_numpy(random.standard_normal(shape, np.float32)).bfloat16() for _ in "kv"]
    keys, values = (part.float().numpy() for part in cached)
    expected = []
    for head, query in enumerate(queries):
        weights = np.exp(query @ keys[head // 2, :, first:end])
        expected.append(values[head // 2, :, first:end] @ (weights / weights.sum()))
    actual = numba_kernels._attend(queries, *(part.view(torch.int16).numpy() for part in cached), first, end)
    np.testing.assert_allclose(actual, np.concatenate(expected), rtol=1e-4, atol=1e-5)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40))
def test_bfloat16_is_rounded_as_torch_does(values: list[float]) -> None:
    x = np.array(values, np.float32)
    out = np.empty(len(x), np.int16)
    numba_kernels.store_bfloat16(x, out)
    assert out.tolist() == torch.from_numpy(x).bfloat16().view(torch.int16).tolist()
