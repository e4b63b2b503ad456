"""The kernels compute what the textbook says, and what was compiled is kept where it can be."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

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
from templora_cli.engine.decoding.cpu.decoder import Decoder
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
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", TOKEN], env=environment, cwd=root, stdout=subprocess.PIPE)
    return done.stdout.decode().split()


def test_a_process_that_decodes_never_compiles() -> None:
    assert told_by_a_new_process()[0] == "0"
    assert numba_kernels.is_kept(), "another process did, for the types that are decoded with"


@pytest.mark.slow
def test_the_first_process_on_a_machine_says_what_later_ones_say(tmp_path: Path) -> None:
    """Bit for bit: a session that began in it is resumed by another."""
    first = told_by_a_new_process(tmp_path)
    assert first[0] == "0" and told_by_a_new_process(tmp_path) == first


def test_another_process_compiles_from_where_this_one_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(numba_cache, "is_kept", lambda *_: False)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    monkeypatch.setattr(
        numba_kernels.token, "_cache", numba_kernels.token._cache
    )  # put back when the test ends
    here: list[object] = []
    monkeypatch.setattr(numba_kernels.token, "compile", here.append)
    numba_kernels.prepare()
    ((python, *_, code),) = [command[:3] for command in commands]
    assert python == sys.executable and "compile_token()" in code and commands[0][3:] == sys.path
    assert isinstance(numba_kernels.token._cache, NullCache), (
        "it did not: nor does this one keep what it compiles"
    )
    assert here == [numba_kernels._signature()], "before the first token, while the screen says so"
    numba_kernels.prepare()
    assert len(commands) == 1, "nothing would be kept of it"


def double(x: np.ndarray) -> np.ndarray:
    return x * np.float32(2)


def test_a_full_disk_costs_only_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", full)
    assert numba_cache.kernel(double)(np.ones(2, np.float32)).tolist() == [2, 2]


def test_no_folder_to_keep_it_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: object) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(numba_cache, "_Kept", none)
    assert numba_cache.kernel(double)(np.ones(2, np.float32)).tolist() == [2, 2]


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
