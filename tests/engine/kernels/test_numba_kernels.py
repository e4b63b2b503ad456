"""The kernels compute what the textbook says, and what was compiled is kept where it can be."""

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

PRODUCT = """
import numpy as np
from templora_cli.engine.kernels.numba_kernels import _dot
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


TOKEN = """
import hashlib
import torch
from tests.engine.decoding.cpu.test_decoder import IDS, adapted
from templora_cli.engine.kernels import numba_kernels
from templora_cli.engine.decoding.cpu.int8_decoder import Decoder
from templora_cli.engine.decoding.cpu.quantize import rounded
torch.set_num_threads(1)
decoder = Decoder(adapted("llama"), rounded)
with torch.no_grad():
    logits = [decoder.logits_after(IDS[:40])] + [decoder.logits_after([token]) for token in IDS[40:]]
digest = hashlib.sha256(torch.stack(logits).numpy().tobytes()).hexdigest()
print(sum(numba_kernels.token.stats.cache_misses.values()), digest)
"""


def told_by_a_new_process(cache: Path | None = None) -> list[str]:
    environment = {**os.environ, **({"NUMBA_CACHE_DIR": str(cache)} if cache else {})}
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", TOKEN], env=environment, cwd=root, stdout=subprocess.PIPE)
    return done.stdout.decode().split()


def test_a_process_that_decodes_never_compiles() -> None:
    assert told_by_a_new_process()[0] == "0"
    assert numba_kernels.is_cached(), "another process did, for the types that are decoded with"


@pytest.mark.slow
def test_the_first_process_on_a_machine_says_what_later_ones_say(tmp_path: Path) -> None:
    """Bit for bit: a session that began in it is resumed by another."""
    first = told_by_a_new_process(tmp_path)
    assert first[0] == "0" and told_by_a_new_process(tmp_path) == first


def double(x: np.ndarray) -> np.ndarray:
    return x * np.float32(2)


def triple(x: np.ndarray) -> np.ndarray:
    return x * np.float32(3)


def never_called() -> None:
    pytest.fail("this process compiles what another one did")


def test_another_process_compiles_from_where_this_one_looks() -> None:
    commands: list[list[str]] = []
    signature, kernel = (numba.float32[::1],), numba_cache.kernel(double)
    here: list[int] = []

    def compile_here() -> None:
        here.append(1)

    def run(command: list[str], **options: object) -> None:
        commands.append(command)

    def prepare() -> None:
        numba_cache.compile_once(kernel, signature, compile_here, run=run)

    prepare()
    ((python, *_, code),) = [command[:3] for command in commands]
    assert python == sys.executable and "compile_here()" in code and commands[0][3:] == sys.path
    assert here == [1], "it did not: this one does, before the first token, while the screen says so"
    assert isinstance(kernel._cache, NullCache), "and keeps nothing of it"  # type: ignore[attr-defined]
    prepare()
    assert len(commands) == 1, "nothing would be kept of it"


def test_what_another_process_compiled_is_not_compiled_again() -> None:
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


def test_no_folder_to_keep_it_in() -> None:
    """As of code that came from no file."""
    namespace: dict[str, Any] = {}
    exec("def half(x):\n    return x / 2", namespace)
    kernel = numba_cache.kernel(namespace["half"])
    assert isinstance(kernel._cache, NullCache)
    assert kernel(np.ones(2, np.float32)).tolist() == [0.5, 0.5]


@given(st.lists(st.floats(-200, 0, width=32), min_size=1, max_size=70))
def test_exp_is_exp(values: list[float]) -> None:
    x = np.array(values, np.float32)
    most = x.max()
    wanted = np.exp(x.astype(np.float64) - most)
    total = numba_kernels._exp(x, most)
    np.testing.assert_allclose(x, wanted, rtol=1e-5, atol=1e-37)
    assert total == pytest.approx(wanted.sum(), rel=1e-5)


def test_exp_of_what_is_no_number_is_none() -> None:
    assert np.isnan(numba_kernels._exp(np.array([0, np.nan, -1], np.float32), np.float32(0)))


def test_pieces_are_about_as_long() -> None:
    for places in range(1, 40 * numba_kernels.PIECE, 7):
        pieces, each = numba_kernels.in_pieces(places)
        assert (pieces - 1) * each < places <= pieces * each and each <= numba_kernels.PIECE
        assert each - (places - (pieces - 1) * each) < 32 * pieces, "all that differs is rounding to a line"


@pytest.mark.parametrize("size", [2, 7, 64])
@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("end", [37, numba_kernels.PIECE, 2 * numba_kernels.PIECE + 5])
def test_attention_is_the_textbooks(size: int, first: int, end: int) -> None:
    random = np.random.default_rng(size)
    queries = random.standard_normal((4, size), np.float32)
    kept = [torch.from_numpy(random.standard_normal((2, size, end + 3), np.float32)).bfloat16() for _ in "kv"]
    keys, values = (part.float().numpy() for part in kept)
    wanted = []
    for head, query in enumerate(queries):
        shares = np.exp(query @ keys[head // 2, :, first:end])
        wanted.append(values[head // 2, :, first:end] @ (shares / shares.sum()))
    ours = numba_kernels._attend(queries, *(part.view(torch.int16).numpy() for part in kept), first, end)
    np.testing.assert_allclose(ours, np.concatenate(wanted), rtol=1e-4, atol=1e-5)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40))
def test_what_is_kept_is_rounded_as_torch_does(values: list[float]) -> None:
    x = np.array(values, np.float32)
    halves = np.empty(len(x), np.int16)
    numba_kernels.keep(x, halves)
    assert halves.tolist() == torch.from_numpy(x).bfloat16().view(torch.int16).tolist()
