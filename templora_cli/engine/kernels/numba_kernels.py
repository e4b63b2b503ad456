"""The forward pass of one token through a Llama-like model, compiled by numba for this CPU.

Decoding a token reads each weight once and computes little with it, so memory traffic decides the speed.
Matrices are int8 with one scale per row, keys and values bfloat16; both are multiplied with float32 vectors
without conversion. Matrices are contiguous, and so in huge pages, and a token is a single call.
No sum depends on the number of threads.
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
Integers = NDArray[np.int64]
BFloat16s = NDArray[np.int16]
"""bfloat16, for which numpy has no dtype: the upper 16 bits of a float32."""

_MIN_EXPONENT, _LOG2_E = np.float32(-87), np.float32(1 / math.log(2))
_EXP2_SERIES = tuple(np.float32(math.log(2) ** n / math.factorial(n)) for n in range(7))
_POWERS_OF_TWO = np.array([2.0**n for n in range(-126, 1)], np.float32)
"""2^-126 (the smallest normal float32) to 1."""
CACHE_LINE, PREFETCH_DISTANCE = 64, 4096
"""Bytes of a cache line, and bytes between a row being read and the one being prefetched."""
MAX_SPLIT = 512
"""Maximum number of positions per split of attention: its keys and values of a key-value head fit in the L2
cache."""


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch(context: Any, array: Any, index: Any) -> Any:
    """Prefetch the cache line of an element of a 1D array, without waiting."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(array)(context, builder, arguments[0])
        pointer, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [pointer, int32, int32, int32])
        prefetch = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        address = builder.bitcast(builder.gep(view.data, [arguments[1]]), pointer)
        builder.call(prefetch, [address, int32(0), int32(3), int32(1)])  # read, high locality, data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@kernel
def _prefetch_row(row: NDArray[Any]) -> None:
    """Prefetch a row, with eight lines per iteration: a loop over single lines took a fifth of the time of
    the product."""
    line = CACHE_LINE // row.itemsize
    i = 0
    while i + 8 * line <= len(row):
        _prefetch(row, i)
        _prefetch(row, i + line)
        _prefetch(row, i + 2 * line)
        _prefetch(row, i + 3 * line)
        _prefetch(row, i + 4 * line)
        _prefetch(row, i + 5 * line)
        _prefetch(row, i + 6 * line)
        _prefetch(row, i + 7 * line)
        i += 8 * line
    while i < len(row):
        _prefetch(row, i)
        i += line


@kernel
def _prefetch_ahead(rows: NDArray[Any], row: int) -> None:
    """Prefetch the row `PREFETCH_DISTANCE` bytes after `row`. Without it the CPU waits for memory at the
    beginning of each row."""
    ahead = row + max(1, PREFETCH_DISTANCE // (rows.shape[1] * rows.itemsize))
    if ahead < len(rows):
        _prefetch_row(rows[ahead])


class Matrix(NamedTuple):
    """A linear layer, or several that share an input, stacked by rows."""

    weight: NDArray[Any]
    """[out, in], int8."""
    scales: Floats
    """[out]; a row of the layer is the row of `weight` times its scale."""
    bias: Floats
    """[out]."""


class BlockWeights(NamedTuple):
    """The weights of a block, or of all blocks with an additional first axis. A missing norm is empty."""

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
    """The parameters of a model's blocks other than weights."""

    num_heads: int
    num_kv_heads: int
    eps: float
    """Epsilon of the norms."""
    scaling: float
    """Factor of the attention scores."""
    activation: int
    """By `families.ACTIVATIONS`."""
    windows: Integers
    """[layers]: the number of positions that a layer attends to, including the current one; 0 for all."""
    rope_index: Integers
    """[layers]: the index of the layer's `Cache.cos` and `Cache.sin`."""


class ModelWeights(NamedTuple):
    """All weights after the embedding."""

    blocks: BlockWeights
    sizes: ModelSizes
    norm: Floats
    """The last norm, before the head."""
    head: Matrix


class Cache(NamedTuple):
    """The key-value cache, and cos and sin of the rotary embeddings."""

    keys: BFloat16s
    """[layers, num_kv_heads, head_dim, positions]."""
    values: BFloat16s
    """Like `keys`."""
    cos: Floats
    """[rope kinds, positions, head_dim]."""
    sin: Floats
    """Like `cos`; the first half of head_dim is negated."""


@kernel
def token(x: Floats, model: ModelWeights, cache: Cache, position: int) -> Floats:
    """The logits [V] after the token with embedding x [hidden] at `position`.

    Writes its keys and values into the cache, and overwrites x.
    """
    blocks, sizes, norm, head = model
    for layer in range(len(sizes.windows)):
        _block(x, _block_weights(blocks, layer), sizes, cache, layer, position)
    return product(head, rms_norm(x, norm, sizes.eps))


def is_cached() -> bool:
    """Is `token` in numba's cache, compiled for an 8-bit model and this type of CPU?"""
    return numba_cache.is_cached(token, _signature())


def prepare() -> None:
    """Compile `token` unless it is cached: half a minute, once per machine."""
    numba_cache.compile_once(token, _signature(), compile_token)


def compile_token() -> None:
    """Compile `token` in this process, and cache it."""
    token.compile(_signature())  # type: ignore[attr-defined]


def _signature() -> tuple[Any, ...]:
    """The argument types of `token`, which are the same for all models."""
    floats_1d, floats_2d, floats_3d = (np.empty((0,) * axes, np.float32) for axes in (1, 2, 3))
    blocks = Matrix(np.empty((0, 0, 0), np.int8), floats_2d, floats_2d)
    head = Matrix(np.empty((0, 0), np.int8), floats_1d, floats_1d)
    integers, bfloat16s = np.empty(0, np.int64), np.empty((0, 0, 0, 0), np.int16)
    sizes = ModelSizes(1, 1, 1e-6, 1.0, 0, windows=integers, rope_index=integers)
    block = BlockWeights(
        floats_2d, blocks, floats_2d, floats_2d, blocks, floats_2d, floats_2d, blocks, blocks, floats_2d
    )
    arguments = (
        floats_1d,
        ModelWeights(block, sizes, floats_1d, head),
        Cache(bfloat16s, bfloat16s, floats_3d, floats_3d),
        0,
    )
    return tuple(map(numba.typeof, arguments))


@inlined
def _block_weights(blocks: BlockWeights, layer: int) -> BlockWeights:
    return BlockWeights(
        blocks.before_attention[layer],
        _layer_matrix(blocks.qkv, layer),
        blocks.q_norm[layer],
        blocks.k_norm[layer],
        _layer_matrix(blocks.out, layer),
        blocks.after_attention[layer],
        blocks.before_mlp[layer],
        _layer_matrix(blocks.gate_up, layer),
        _layer_matrix(blocks.down, layer),
        blocks.after_mlp[layer],
    )


@inlined
def _layer_matrix(matrices: Matrix, layer: int) -> Matrix:
    return Matrix(matrices.weight[layer], matrices.scales[layer], matrices.bias[layer])


@inlined
def _block(
    x: Floats, weights: BlockWeights, sizes: ModelSizes, cache: Cache, layer: int, position: int
) -> None:
    attended = _attention(
        rms_norm(x, weights.before_attention, sizes.eps), weights, sizes, cache, layer, position
    )
    if len(weights.after_attention):
        attended = rms_norm(attended, weights.after_attention, sizes.eps)
    x += attended
    hidden = product(
        weights.down,
        _gated(weights.gate_up, rms_norm(x, weights.before_mlp, sizes.eps), sizes.activation),
    )
    if len(weights.after_mlp):
        hidden = rms_norm(hidden, weights.after_mlp, sizes.eps)
    x += hidden


@kernel
def rms_norm(x: Floats, weight: Floats, eps: float) -> Floats:
    """RMSNorm (arXiv 1910.07467), [n] -> [n]."""
    scale = np.float32(1 / math.sqrt(_dot(x, x) / len(x) + eps))
    return x * weight * scale  # type: ignore[no-any-return]


@parallel_kernel
def product(matrix: Matrix, x: Floats) -> Floats:
    """The linear layer, [in] -> [out]."""
    weight, scales, bias = matrix
    out = np.empty(len(weight), np.float32)
    for row in prange(len(weight)):
        _prefetch_ahead(weight, row)
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
    """The hidden values of the MLP: activation(gate) * up. `matrix` is gate above up."""
    weight, scales, bias = matrix
    half = len(weight) // 2
    out = np.empty(half, np.float32)
    for row in prange(half):
        _prefetch_ahead(weight, row)
        _prefetch_ahead(weight, half + row)
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
    x: Floats, weights: BlockWeights, sizes: ModelSizes, cache: Cache, layer: int, position: int
) -> Floats:
    keys, values, rope = cache.keys[layer], cache.values[layer], sizes.rope_index[layer]
    cos, sin = cache.cos[rope, position], cache.sin[rope, position]
    head_dim, num_kv_heads = keys.shape[1], sizes.num_kv_heads
    heads = product(weights.qkv, x).reshape(-1, head_dim)  # queries, then keys, then values
    for head in range(sizes.num_heads):
        _rotate(heads[head], weights.q_norm, sizes.eps, cos, sin)
    for kv_head in range(num_kv_heads):
        key = heads[sizes.num_heads + kv_head]
        _rotate(key, weights.k_norm, sizes.eps, cos, sin)
        store_bfloat16(key, keys[kv_head, :, position])
        store_bfloat16(heads[sizes.num_heads + num_kv_heads + kv_head], values[kv_head, :, position])
    queries = heads[: sizes.num_heads] * np.float32(sizes.scaling)
    window = sizes.windows[layer]
    first = max(0, position + 1 - window) if window else 0
    return product(weights.out, _attend(queries, keys, values, first, position + 1))


@inlined
def store_bfloat16(x: Floats, out: BFloat16s) -> None:
    """Round x [n] to the nearest bfloat16, ties to even, as torch does."""
    bits = x.view(np.int32)
    for i in range(len(x)):
        out[i] = (bits[i] + 0x7FFF + ((bits[i] >> 16) & 1)) >> 16


@inlined
def _to_float32(bfloat16: int) -> Any:
    return np.int32(np.int32(bfloat16) << np.int32(16)).view(np.float32)


@kernel
def _rotate(head: Floats, norm: Floats, eps: float, cos: Floats, sin: Floats) -> None:
    """Apply the norm and the rotary embedding (arXiv 2104.09864) to a head [head_dim] in place.

    Element i of the first half is paired with element i of the second half.
    """
    if len(norm):
        head[:] = rms_norm(head, norm, eps)
    half = len(head) // 2
    for i in range(half):
        low, high = head[i], head[half + i]
        head[i] = low * cos[i] + high * sin[i]
        head[half + i] = high * cos[half + i] + low * sin[half + i]


@parallel_kernel
def _attend(queries: Floats, keys: BFloat16s, values: BFloat16s, first: int, end: int) -> Floats:
    """Attention of the queries [num_heads, head_dim] to positions `first` to `end`; [num_heads * head_dim].

    Threads share key-value heads and splits of the positions.
    """
    (num_heads, head_dim), num_kv_heads = queries.shape, len(keys)
    shared, (splits, positions) = num_heads // num_kv_heads, split_evenly(end - first)
    sums = np.empty((splits, num_heads, head_dim), np.float32)
    max_scores = np.empty((splits, num_heads), np.float32)
    totals = np.empty((splits, num_heads), np.float32)
    for part in prange(num_kv_heads * splits):
        kv_head, split = part // splits, part % splits
        start = first + split * positions
        heads = slice(kv_head * shared, (kv_head + 1) * shared)
        _attend_split(
            queries[heads],
            keys[kv_head],
            values[kv_head],
            start,
            min(start + positions, end),
            sums[split, heads],
            max_scores[split, heads],
            totals[split, heads],
        )
    return _merge_splits(sums, max_scores, totals)


@inlined
def split_evenly(positions: int) -> tuple[int, int]:
    """The number of splits, and of positions per split; the last split may be shorter, but is not empty.

    Splits are of nearly equal length, because threads wait for the longest one.
    """
    splits, line = -(-positions // MAX_SPLIT), CACHE_LINE // 2
    return splits, -(-positions // (splits * line)) * line


@kernel
def _attend_split(
    queries: Floats,
    keys: BFloat16s,
    values: BFloat16s,
    start: int,
    stop: int,
    sums: Floats,
    max_scores: Floats,
    totals: Floats,
) -> None:
    """Attention of the queries [heads, head_dim] of a key-value head to positions `start` to `stop` of its
    keys and values [head_dim, positions].

    Writes the maximum score of each head into `max_scores`, the sum of exp(score - maximum) into `totals`,
    and the values weighted by exp(score - maximum), not normalised, into `sums` [heads, head_dim].
    """
    weights = _scores(queries, keys, start, stop)
    for head in range(len(queries)):
        max_scores[head] = weights[head].max()
        totals[head] = _exp_and_sum(weights[head], max_scores[head])
    _weighted_sums(weights, values, start, stop, sums)


@kernel
def _merge_splits(sums: Floats, max_scores: Floats, totals: Floats) -> Floats:
    """Attention over all splits (arXiv 2205.14135, section 3.1) from the results of `_attend_split`.

    [splits, num_heads, head_dim] -> [num_heads * head_dim].
    """
    splits, num_heads, head_dim = sums.shape
    out = np.zeros((num_heads, head_dim), np.float32)
    for head in range(num_heads):
        weights = max_scores[:, head].copy()
        _exp_and_sum(weights, weights.max())
        total = _dot(totals[:, head], weights)
        for split in range(splits):
            out[head] += sums[split, head] * (weights[split] / total)
    return out.reshape(-1)


@kernel
def _four_rows(
    rows: BFloat16s, i: int, start: int, stop: int
) -> tuple[BFloat16s, BFloat16s, BFloat16s, BFloat16s]:
    """Rows i to i + 3 from `start` to `stop`; prefetches the next four.

    Rows are read four at a time, and by all heads that share them while they are in the cache: the other
    operands (scores or weights) are then read once per four rows.
    """
    if i + 8 <= len(rows):
        for row in range(i + 4, i + 8):
            _prefetch_row(rows[row, start:stop])
    return rows[i, start:stop], rows[i + 1, start:stop], rows[i + 2, start:stop], rows[i + 3, start:stop]


@kernel
def _scores(queries: Floats, keys: BFloat16s, start: int, stop: int) -> Floats:
    """queries [heads, head_dim] times keys [head_dim, positions] from `start` to `stop`; [heads, n]."""
    heads, head_dim = queries.shape
    scores = np.zeros((heads, stop - start), np.float32)
    full = head_dim - head_dim % 4
    for i in range(0, full, 4):
        k, m, n, o = _four_rows(keys, i, start, stop)
        for head in range(heads):
            a, b, c, d = queries[head, i], queries[head, i + 1], queries[head, i + 2], queries[head, i + 3]
            score = scores[head]
            for p in range(len(k)):
                score[p] += (
                    a * _to_float32(k[p])
                    + b * _to_float32(m[p])
                    + c * _to_float32(n[p])
                    + d * _to_float32(o[p])
                )
    for i in range(full, head_dim):
        for head in range(heads):
            score, a, k = scores[head], queries[head, i], keys[i, start:stop]
            for p in range(len(k)):
                score[p] += a * _to_float32(k[p])
    return scores


@kernel
def _weighted_sums(weights: Floats, values: BFloat16s, start: int, stop: int, sums: Floats) -> None:
    """Values [head_dim, positions] from `start` to `stop` times weights [heads, positions].

    Writes into sums [heads, head_dim].
    """
    full = len(values) - len(values) % 4
    for i in range(0, full, 4):
        k, m, n, o = _four_rows(values, i, start, stop)
        for head in range(len(weights)):
            weight = weights[head]
            a = b = c = d = np.float32(0)
            for p in range(len(k)):
                a += weight[p] * _to_float32(k[p])
                b += weight[p] * _to_float32(m[p])
                c += weight[p] * _to_float32(n[p])
                d += weight[p] * _to_float32(o[p])
            sums[head, i], sums[head, i + 1], sums[head, i + 2], sums[head, i + 3] = a, b, c, d
    for i in range(full, len(values)):
        for head in range(len(weights)):
            weight, k, a = weights[head], values[i, start:stop], np.float32(0)
            for p in range(len(k)):
                a += weight[p] * _to_float32(k[p])
            sums[head, i] = a


@kernel
def _exp_and_sum(x: Floats, maximum: float) -> Any:
    """Replace x [n] by exp(x - `maximum`), for x not above the maximum, and return the sum.

    Computed as 2 to an integer (from a table) times 2 to a fraction (by its series), which vectorises, unlike
    a call of the C library. The relative error is below 1e-5; results below e^-87 become e^-87.
    """
    total = np.float32(0)
    for i in range(len(x)):
        exponent = max(x[i] - maximum, _MIN_EXPONENT) * _LOG2_E
        integer = np.int32(exponent - np.float32(0.5))
        fraction = exponent - np.float32(integer)
        series = _EXP2_SERIES[6]
        for n in range(5, -1, -1):
            series = series * fraction + _EXP2_SERIES[n]
        x[i] = series * _POWERS_OF_TWO[min(max(integer, np.int32(-126)), np.int32(0)) + 126]
        total += x[i]
    return total
