"""One token through a block of a Llama-like model, compiled by numba for the CPU that it runs on.

Decoding a token reads every weight once and does little with it, so what counts is that few bytes are read
and that nothing happens between: matrices are int8 with a scale a row, their products are taken with float32
vectors as they are, and a block is one call. No sum hangs on how many threads there are.

numba keeps what it compiled as Python keeps its bytecode, beside this file or in the user's cache folder, and
trusts it as much.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numba import prange
from numba.core.caching import FunctionCache
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
Floats = NDArray[np.float32]

COMPILED: dict[str, Any] = {
    # All that lets sums be taken in parallel, but nan and inf stay what they are.
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
    "error_model": "numpy",
}


def kernel(function: F) -> F:
    """Compiled for this CPU when it is first called; sums may be taken in any order."""
    return _compiled(function)


def parallel_kernel(function: F) -> F:
    """A `kernel` whose `prange` is shared out between threads."""
    return _compiled(function, parallel=True)


def _compiled(function: F, **options: Any) -> F:
    compiled = numba.njit(**options, **COMPILED)(function)
    with suppress(RuntimeError):  # no folder to keep it in can be written: compiled anew in each process
        compiled._cache = _Kept(function)
    return cast(F, compiled)


class _Kept(FunctionCache):  # type: ignore[misc]
    """What was compiled, for the next process: a damaged file or a full disk costs time and nothing else."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # half a pickle raises whatever its rest looks like
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


_LEAST, _LOG2_E = np.float32(-87), np.float32(1 / math.log(2))
_SERIES = tuple(np.float32(math.log(2) ** n / math.factorial(n)) for n in range(7))
_POWERS = np.array([2.0**n for n in range(-126, 1)], np.float32)
"""Of 2, down to the least that float32 holds in full."""


class Matrix(NamedTuple):
    """A linear layer; several of the model's that share an input are one below the other."""

    weight: NDArray[Any]
    """[out, in], int8."""
    scales: Floats
    """[out]; a row of the layer is that of `weight` times its scale."""
    bias: Floats
    """[out]."""


class Block(NamedTuple):
    """The weights of a block. A norm that it has not is empty."""

    before_attention: Floats
    qkv: Matrix
    q_norm: Floats
    k_norm: Floats
    out: Matrix
    after_attention: Floats
    before_mlp: Floats
    gate_up: Matrix
    down: Matrix
    after_mlp: Floats


class Common(NamedTuple):
    """What the blocks of a model have in common."""

    heads: int
    groups: int
    """Heads of keys and values."""
    eps: float
    """Of the norms."""
    scaling: float
    """Of queries times keys."""
    activation: int
    """The number that `families.ACTIVATIONS` gives it."""


class Place(NamedTuple):
    """Where a token stands, and what it sees of those before it."""

    keys: Floats
    """[groups, size, places]; its own are written there."""
    values: Floats
    first: int
    """The first place that it sees."""
    at: int
    cos: Floats
    """Of its rotary embedding, [size]."""
    sin: Floats
    """The same; the first half is negated."""


@kernel
def block(x: Floats, weights: Block, common: Common, place: Place) -> None:
    """Put a token, x [hidden], through the block; in place."""
    attended = _attention(normed(x, weights.before_attention, common.eps), weights, common, place)
    if len(weights.after_attention):
        attended = normed(attended, weights.after_attention, common.eps)
    x += attended
    made = product(
        weights.down,
        _gated(weights.gate_up, normed(x, weights.before_mlp, common.eps), common.activation),
    )
    if len(weights.after_mlp):
        made = normed(made, weights.after_mlp, common.eps)
    x += made


@kernel
def normed(x: Floats, weight: Floats, eps: float) -> Floats:
    """RMSNorm (arXiv 1910.07467) of x [n]; [n]."""
    scale = np.float32(1 / math.sqrt(_dot(x, x) / len(x) + eps))
    return x * weight * scale  # type: ignore[no-any-return]


@parallel_kernel
def product(matrix: Matrix, x: Floats) -> Floats:
    """[in] -> [out]."""
    weight, scales, bias = matrix
    out = np.empty(len(weight), np.float32)
    for row in prange(len(weight)):
        out[row] = _dot(weight[row], x) * scales[row] + bias[row]
    return out


@kernel
def _dot(row: NDArray[Any], x: Floats) -> Any:
    total = np.float32(0)
    for i in range(len(x)):
        total += np.float32(row[i]) * x[i]
    return total


@parallel_kernel
def _gated(matrix: Matrix, x: Floats, activation: int) -> Floats:
    """The inner values of the MLP: the upper half of the rows, activated, times the lower half."""
    weight, scales, bias = matrix
    half = len(weight) // 2
    out = np.empty(half, np.float32)
    for row in prange(half):
        gate = _dot(weight[row], x) * scales[row] + bias[row]
        up = _dot(weight[half + row], x) * scales[half + row] + bias[half + row]
        out[row] = _activated(gate, activation) * up
    return out


@kernel
def _activated(x: float, activation: int) -> float:
    if activation == 0:
        return x / (1 + math.exp(-x))
    if activation == 1:
        return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


@kernel
def _attention(x: Floats, weights: Block, common: Common, place: Place) -> Floats:
    keys, values, first, at, cos, sin = place
    size, groups = keys.shape[1], common.groups
    heads = product(weights.qkv, x).reshape(-1, size)  # of queries, then keys, then values
    for head in range(common.heads):
        _rotate(heads[head], weights.q_norm, common.eps, cos, sin)
    for group in range(groups):
        key = heads[common.heads + group]
        _rotate(key, weights.k_norm, common.eps, cos, sin)
        keys[group, :, at] = key
        values[group, :, at] = heads[common.heads + groups + group]
    queries = heads[: common.heads] * np.float32(common.scaling)
    return product(weights.out, _attend(queries, keys, values, first, at + 1))


@kernel
def _rotate(head: Floats, norm: Floats, eps: float, cos: Floats, sin: Floats) -> None:
    """Norm and rotary embedding (arXiv 2104.09864) of a head [size], its halves as the pairs; in place."""
    if len(norm):
        head[:] = normed(head, norm, eps)
    half = len(head) // 2
    for i in range(half):
        low, high = head[i], head[half + i]
        head[i] = low * cos[i] + high * sin[i]
        head[half + i] = high * cos[half + i] + low * sin[half + i]


@parallel_kernel
def _attend(queries: Floats, keys: Floats, values: Floats, first: int, end: int) -> Floats:
    """What each of the queries [heads, size] draws from places `first` to `end`; [heads * size]."""
    heads, size = queries.shape
    shared = heads // len(keys)
    out = np.empty(heads * size, np.float32)
    for head in prange(heads):
        group = head // shared
        shares = _scores(queries[head], keys[group], first, end)
        total = _exp(shares, shares.max())
        for i in range(size):
            out[head * size + i] = _dot(values[group, i, first:end], shares) / total
    return out


@kernel
def _scores(query: Floats, keys: Floats, first: int, end: int) -> Floats:
    """query [size] times each of the keys [size, places] from `first` to `end`; four rows at a time, since
    what is summed up is written each time."""
    scores = np.zeros(end - first, np.float32)
    whole = len(query) - len(query) % 4
    for i in range(0, whole, 4):
        a, b, c, d = query[i], query[i + 1], query[i + 2], query[i + 3]
        k, m, n, o = keys[i, first:], keys[i + 1, first:], keys[i + 2, first:], keys[i + 3, first:]
        for place in range(end - first):
            scores[place] += a * k[place] + b * m[place] + c * n[place] + d * o[place]
    for i in range(whole, len(query)):
        for place in range(end - first):
            scores[place] += query[i] * keys[i, first + place]
    return scores


@kernel
def _exp(x: Floats, most: float) -> Any:
    """exp of x [n] - `most`, of which none is above 0; in place. Returns the sum.

    2 to a whole number, from a table, times 2 to what is left by its series: unlike a call of the C library
    it is taken for many at once. Off by less than 1e-5 of the value; what is below e^-87 is that.
    """
    total = np.float32(0)
    for i in range(len(x)):
        power = max(x[i] - most, _LEAST) * _LOG2_E
        whole = np.int32(power - np.float32(0.5))
        rest = power - np.float32(whole)
        series = _SERIES[6]
        for place in range(5, -1, -1):
            series = series * rest + _SERIES[place]
        x[i] = series * _POWERS[min(max(whole, np.int32(-126)), np.int32(0)) + 126]
        total += x[i]
    return total


@kernel
def logits(x: Floats, norm: Floats, head: Matrix, eps: float) -> Floats:
    """What follows the token whose last block gave x [hidden]; [V]."""
    return product(head, normed(x, norm, eps))
