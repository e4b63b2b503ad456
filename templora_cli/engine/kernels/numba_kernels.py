"""One token through a Llama-like model, compiled by numba for the CPU that it runs on.

Decoding a token reads every weight once and does little with it, so what counts is that few bytes are read,
from memory that lies in one piece (and so in huge pages), and that nothing happens between: matrices are
int8 with a scale a row, keys and values bfloat16, their products are taken with float32 vectors as they are,
and a token is one call.
No sum hangs on how many threads there are.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import prange
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from templora_cli.engine.kernels import numba_cache
from templora_cli.engine.kernels.numba_cache import inlined, kernel, parallel_kernel

Floats = NDArray[np.float32]
Whole = NDArray[np.int64]
Halves = NDArray[np.int16]
"""bfloat16, for which numpy has no type: the upper half of the bits of a float32."""

_MIN_EXPONENT, _LOG2_E = np.float32(-87), np.float32(1 / math.log(2))
_SERIES = tuple(np.float32(math.log(2) ** n / math.factorial(n)) for n in range(7))
_POWERS = np.array([2.0**n for n in range(-126, 1)], np.float32)
"""Of 2, down to the least that float32 holds in full."""
LINE, AHEAD = 64, 4096
"""Bytes that memory gives at once, and how far ahead of what is read it is asked for more."""
PIECE = 512
"""Places of attention in one piece of work at most: keys and values of a group stay in the second cache."""


@intrinsic  # type: ignore[untyped-decorator]
def _fetch(context: Any, array: Any, at: Any) -> Any:
    """Ask for a place of a 1D array to be brought into the cache; nothing waits for it."""

    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(array)(context, builder, arguments[0])
        byte, whole = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, whole, whole, whole])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.bitcast(builder.gep(view.data, [arguments[1]]), byte)
        builder.call(prefetch, [place, whole(0), whole(3), whole(1)])  # to read, often, data
        return context.get_dummy_value()

    return types.void(array, types.intp), made


@kernel
def _fetch_row(row: NDArray[Any]) -> None:
    """Eight lines at a time: a loop of one cost a fifth of the product that it goes with."""
    line = LINE // row.itemsize
    at = 0
    while at + 8 * line <= len(row):
        _fetch(row, at)
        _fetch(row, at + line)
        _fetch(row, at + 2 * line)
        _fetch(row, at + 3 * line)
        _fetch(row, at + 4 * line)
        _fetch(row, at + 5 * line)
        _fetch(row, at + 6 * line)
        _fetch(row, at + 7 * line)
        at += 8 * line
    while at < len(row):
        _fetch(row, at)
        at += line


@kernel
def _fetch_after(rows: NDArray[Any], row: int) -> None:
    """Ask for the row that comes `AHEAD` bytes after one of `rows`: left to itself the CPU waits for memory
    at the beginning of each."""
    ahead = row + max(1, AHEAD // (rows.shape[1] * rows.itemsize))
    if ahead < len(rows):
        _fetch_row(rows[ahead])


class Matrix(NamedTuple):
    """A linear layer; several of the model's that share an input are one below the other."""

    weight: NDArray[Any]
    """[out, in], int8."""
    scales: Floats
    """[out]; a row of the layer is that of `weight` times its scale."""
    bias: Floats
    """[out]."""


class BlockWeights(NamedTuple):
    """The weights of a block; with one more axis in front, those of all blocks. A norm that it has not is
    empty."""

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


class ModelSizes(NamedTuple):
    """What the blocks of a model have in common, and in what they differ beside their weights."""

    heads: int
    groups: int
    """Heads of keys and values."""
    eps: float
    """Of the norms."""
    scaling: float
    """Of queries times keys."""
    activation: int
    """The number that `families.ACTIVATIONS` gives it."""
    windows: Whole
    """[layers]; how many places each sees, its own among them. 0: all of them."""
    angles: Whole
    """[layers]; which of `Cache.cos` and `Cache.sin` are a layer's."""


class ModelWeights(NamedTuple):
    """All that a token meets after its embedding."""

    blocks: BlockWeights
    common: ModelSizes
    norm: Floats
    """Before the head."""
    head: Matrix


class Cache(NamedTuple):
    """What was left by the tokens so far, and the angles of all places."""

    keys: Halves
    """[layers, groups, size, places]."""
    values: Halves
    cos: Floats
    """Of the rotary embeddings, [kinds, places, size]."""
    sin: Floats
    """The same; the first half of size is negated."""


@kernel
def token(x: Floats, model: ModelWeights, cache: Cache, at: int) -> Floats:
    """The logits [V] that follow a token, x [hidden], at place `at`. Its keys and values are written into
    the cache; x is written over."""
    blocks, common, norm, head = model
    for layer in range(len(common.windows)):
        _block(x, _one(blocks, layer), common, cache, layer, at)
    return product(head, normed(x, norm, common.eps))


def is_cached() -> bool:
    """Has `token` been compiled for the 8-bit copy of a model, on a CPU like this one?"""
    return numba_cache.is_cached(token, _signature())


def prepare() -> None:
    """Compile `token` where that has not been done: half a minute, once on a machine."""
    numba_cache.compile_once(token, _signature(), compile_token)


def compile_token() -> None:
    """Compile and keep it, in this process."""
    token.compile(_signature())  # type: ignore[attr-defined]


def _signature() -> tuple[Any, ...]:
    """The types of what `token` is called with, whatever the model."""
    one, two, three = (np.empty((0,) * axes, np.float32) for axes in (1, 2, 3))
    blocks = Matrix(np.empty((0, 0, 0), np.int8), two, two)
    head = Matrix(np.empty((0, 0), np.int8), one, one)
    whole, halves = np.empty(0, np.int64), np.empty((0, 0, 0, 0), np.int16)
    common = ModelSizes(1, 1, 1e-6, 1.0, 0, windows=whole, angles=whole)
    block = BlockWeights(two, blocks, two, two, blocks, two, two, blocks, blocks, two)
    arguments = (one, ModelWeights(block, common, one, head), Cache(halves, halves, three, three), 0)
    return tuple(map(numba.typeof, arguments))


@inlined
def _one(blocks: BlockWeights, layer: int) -> BlockWeights:
    return BlockWeights(
        blocks.before_attention[layer],
        _matrix(blocks.qkv, layer),
        blocks.q_norm[layer],
        blocks.k_norm[layer],
        _matrix(blocks.out, layer),
        blocks.after_attention[layer],
        blocks.before_mlp[layer],
        _matrix(blocks.gate_up, layer),
        _matrix(blocks.down, layer),
        blocks.after_mlp[layer],
    )


@inlined
def _matrix(matrices: Matrix, layer: int) -> Matrix:
    return Matrix(matrices.weight[layer], matrices.scales[layer], matrices.bias[layer])


@inlined
def _block(x: Floats, weights: BlockWeights, common: ModelSizes, cache: Cache, layer: int, at: int) -> None:
    attended = _attention(normed(x, weights.before_attention, common.eps), weights, common, cache, layer, at)
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
        _fetch_after(weight, row)
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
        _fetch_after(weight, row)
        _fetch_after(weight, half + row)
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


@inlined
def _attention(
    x: Floats, weights: BlockWeights, common: ModelSizes, cache: Cache, layer: int, at: int
) -> Floats:
    keys, values, kind = cache.keys[layer], cache.values[layer], common.angles[layer]
    cos, sin = cache.cos[kind, at], cache.sin[kind, at]
    size, groups = keys.shape[1], common.groups
    heads = product(weights.qkv, x).reshape(-1, size)  # of queries, then keys, then values
    for head in range(common.heads):
        _rotate(heads[head], weights.q_norm, common.eps, cos, sin)
    for group in range(groups):
        key = heads[common.heads + group]
        _rotate(key, weights.k_norm, common.eps, cos, sin)
        keep(key, keys[group, :, at])
        keep(heads[common.heads + groups + group], values[group, :, at])
    queries = heads[: common.heads] * np.float32(common.scaling)
    window = common.windows[layer]
    first = max(0, at + 1 - window) if window else 0
    return product(weights.out, _attend(queries, keys, values, first, at + 1))


@inlined
def keep(x: Floats, halves: Halves) -> None:
    """Round x [n] to the nearest, of two as near to the even one, as torch does."""
    bits = x.view(np.int32)
    for i in range(len(x)):
        halves[i] = (bits[i] + 0x7FFF + ((bits[i] >> 16) & 1)) >> 16


@inlined
def _wide(half: int) -> Any:
    return np.int32(np.int32(half) << np.int32(16)).view(np.float32)


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
def _attend(queries: Floats, keys: Halves, values: Halves, first: int, end: int) -> Floats:
    """What each of the queries [heads, size] draws from places `first` to `end`; [heads * size].

    By pieces of the places, which threads share out.
    """
    (heads, size), groups = queries.shape, len(keys)
    shared, (pieces, places) = heads // groups, in_pieces(end - first)
    drawn = np.empty((pieces, heads, size), np.float32)
    highest = np.empty((pieces, heads), np.float32)
    totals = np.empty((pieces, heads), np.float32)
    for part in prange(groups * pieces):
        group, piece = part // pieces, part % pieces
        start = first + piece * places
        those = slice(group * shared, (group + 1) * shared)
        _draw(
            queries[those],
            keys[group],
            values[group],
            start,
            min(start + places, end),
            drawn[piece, those],
            highest[piece, those],
            totals[piece, those],
        )
    return _joined(drawn, highest, totals)


@inlined
def in_pieces(places: int) -> tuple[int, int]:
    """How many pieces, and places in each; the last may have fewer, but never none.

    They are about as long: threads wait for the longest.
    """
    pieces, line = -(-places // PIECE), LINE // 2
    return pieces, -(-places // (pieces * line)) * line


@kernel
def _draw(
    queries: Floats,
    keys: Halves,
    values: Halves,
    start: int,
    stop: int,
    drawn: Floats,
    highest: Floats,
    totals: Floats,
) -> None:
    """What the queries [heads, size] of a group draw from places `start` to `stop` of its keys and values
    [size, places]: into `drawn` [heads, size], not divided by the sums of their shares, which go into
    `totals`, and too small by exp of their highest scores, which go into `highest`."""
    shares = _scores(queries, keys, start, stop)
    for head in range(len(queries)):
        highest[head] = shares[head].max()
        totals[head] = _exp(shares[head], highest[head])
    _weighted(shares, values, start, stop, drawn)


@kernel
def _joined(drawn: Floats, highest: Floats, totals: Floats) -> Floats:
    """drawn [pieces, heads, size], each piece with a softmax of its own, under one (arXiv 2205.14135, 3.1);
    [heads * size]."""
    pieces, heads, size = drawn.shape
    out = np.zeros((heads, size), np.float32)
    for head in range(heads):
        weights = highest[:, head].copy()
        _exp(weights, weights.max())
        total = _dot(totals[:, head], weights)
        for piece in range(pieces):
            out[head] += drawn[piece, head] * (weights[piece] / total)
    return out.reshape(-1)


@kernel
def _four(rows: Halves, i: int, start: int, stop: int) -> tuple[Halves, Halves, Halves, Halves]:
    """Row i and the three after it, between two places; the next four are asked for.

    Rows are read in fours, and by all heads of a group while they are near: what they are multiplied with, or
    summed up into, is read for each of them again.
    """
    if i + 8 <= len(rows):
        for row in range(i + 4, i + 8):
            _fetch_row(rows[row, start:stop])
    return rows[i, start:stop], rows[i + 1, start:stop], rows[i + 2, start:stop], rows[i + 3, start:stop]


@kernel
def _scores(queries: Floats, keys: Halves, start: int, stop: int) -> Floats:
    """queries [heads, size] times keys [size, places] from `start` to `stop`; [heads, places]."""
    heads, size = queries.shape
    scores = np.zeros((heads, stop - start), np.float32)
    whole = size - size % 4
    for i in range(0, whole, 4):
        k, m, n, o = _four(keys, i, start, stop)
        for head in range(heads):
            a, b, c, d = queries[head, i], queries[head, i + 1], queries[head, i + 2], queries[head, i + 3]
            score = scores[head]
            for place in range(len(k)):
                score[place] += (
                    a * _wide(k[place]) + b * _wide(m[place]) + c * _wide(n[place]) + d * _wide(o[place])
                )
    for i in range(whole, size):
        for head in range(heads):
            score, a, k = scores[head], queries[head, i], keys[i, start:stop]
            for place in range(len(k)):
                score[place] += a * _wide(k[place])
    return scores


@kernel
def _weighted(shares: Floats, values: Halves, start: int, stop: int, sums: Floats) -> None:
    """Values [size, places] from `start` to `stop` times shares [heads, places]; into sums [heads, size]."""
    whole = len(values) - len(values) % 4
    for i in range(0, whole, 4):
        k, m, n, o = _four(values, i, start, stop)
        for head in range(len(shares)):
            share = shares[head]
            a = b = c = d = np.float32(0)
            for place in range(len(k)):
                a += share[place] * _wide(k[place])
                b += share[place] * _wide(m[place])
                c += share[place] * _wide(n[place])
                d += share[place] * _wide(o[place])
            sums[head, i], sums[head, i + 1], sums[head, i + 2], sums[head, i + 3] = a, b, c, d
    for i in range(whole, len(values)):
        for head in range(len(shares)):
            share, k, a = shares[head], values[i, start:stop], np.float32(0)
            for place in range(len(k)):
                a += share[place] * _wide(k[place])
            sums[head, i] = a


@kernel
def _exp(x: Floats, most: float) -> Any:
    """exp of x [n] - `most`, of which none is above 0; in place. Returns the sum.

    2 to a whole number, from a table, times 2 to what is left by its series: unlike a call of the C library
    it is taken for many at once. Off by less than 1e-5 of the value; what is below e^-87 is that.
    """
    total = np.float32(0)
    for i in range(len(x)):
        power = max(x[i] - most, _MIN_EXPONENT) * _LOG2_E
        whole = np.int32(power - np.float32(0.5))
        rest = power - np.float32(whole)
        series = _SERIES[6]
        for place in range(5, -1, -1):
            series = series * rest + _SERIES[place]
        x[i] = series * _POWERS[min(max(whole, np.int32(-126)), np.int32(0)) + 126]
        total += x[i]
    return total
