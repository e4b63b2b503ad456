"""Triton kernels for the forward pass of one token on a GPU.

Besides its matrix products a token spends its time on launching small kernels, so there are few here. A block
of the model is eleven launches: `shrink`, `project`, `rotate_and_store`, `attend`, `merge_splits`, and three
more pairs of `shrink` and `project`. Triton is part of torch's CUDA builds for Linux.
Sums are in float32. Their order depends on the model only: not on the size of the key-value buffers, and
not on other work of the GPU.
"""

import triton
import triton.language as tl


@triton.jit
def _plane_index(index, n, PLANES: tl.constexpr):
    """The index in memory of element `index` of a vector [n]: the same or, with PLANES, its index in planes.

    There are four planes, for `_nf4_rows`: the first two of each eight elements, then the second two, the
    third two and the last two.
    """
    if PLANES:
        return ((index % 8) // 2 * (n // 8) + index // 8) * 2 + index % 2
    else:
        return index


@triton.jit
def shrink(
    x,
    norm,
    eps,
    a0,
    a1,
    a2,
    normed,
    t,
    n,
    RANK: tl.constexpr,
    PARTS: tl.constexpr,
    NORMED: tl.constexpr,
    PLANES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The products of x [n] with LoRA's A [RANK, n] of up to three layers: t [PARTS * RANK].

    With NORMED, RMSNorm with the weight `norm` [n] is applied to x first, and the result is written to
    `normed`. With PLANES `normed`, or x without NORMED, is in planes (`_plane_index`).
    The first PARTS * RANK programs compute one element of t each, the others BLOCK elements of `normed` each.
    """
    program = tl.program_id(0)
    lanes = tl.arange(0, BLOCK)
    squares = tl.zeros([BLOCK], tl.float32)
    if program < PARTS * RANK:
        a = a0
        if program >= RANK:
            a = a1
        if program >= 2 * RANK:
            a = a2
        a += (program % RANK) * n
        products = tl.zeros([BLOCK], tl.float32)
        for start in range(0, n, BLOCK):
            offsets = start + lanes
            if NORMED:
                value = tl.load(x + offsets, mask=offsets < n, other=0.0).to(tl.float32)
                squares += value * value
                value *= tl.load(norm + offsets, mask=offsets < n, other=0.0).to(tl.float32)
            else:
                value = tl.load(x + _plane_index(offsets, n, PLANES), mask=offsets < n, other=0.0).to(
                    tl.float32
                )
            products += value * tl.load(a + offsets, mask=offsets < n, other=0.0).to(tl.float32)
        total = tl.sum(products)
        if NORMED:
            total *= tl.rsqrt(tl.sum(squares) / n + eps)
        tl.store(t + program, total)
    elif NORMED:
        for start in range(0, n, BLOCK):
            offsets = start + lanes
            value = tl.load(x + offsets, mask=offsets < n, other=0.0).to(tl.float32)
            squares += value * value
        factor = tl.rsqrt(tl.sum(squares) / n + eps)
        offsets = (program - PARTS * RANK) * BLOCK + lanes
        value = tl.load(x + offsets, mask=offsets < n, other=0.0).to(tl.float32)
        value *= factor * tl.load(norm + offsets, mask=offsets < n, other=0.0).to(tl.float32)
        tl.store(
            normed + _plane_index(offsets, n, PLANES), value.to(normed.dtype.element_ty), mask=offsets < n
        )


@triton.jit
def add_normed(x, y, norm, eps, out, n, BLOCK: tl.constexpr):
    """out [n] = x + RMSNorm(y): Gemma's norm after attention or MLP."""
    lanes = tl.arange(0, BLOCK)
    squares = tl.zeros([BLOCK], tl.float32)
    for start in range(0, n, BLOCK):
        offsets = start + lanes
        value = tl.load(y + offsets, mask=offsets < n, other=0.0).to(tl.float32)
        squares += value * value
    factor = tl.rsqrt(tl.sum(squares) / n + eps)
    offsets = tl.program_id(0) * BLOCK + lanes
    value = tl.load(y + offsets, mask=offsets < n, other=0.0).to(tl.float32)
    value *= factor * tl.load(norm + offsets, mask=offsets < n, other=0.0).to(tl.float32)
    value += tl.load(x + offsets, mask=offsets < n, other=0.0).to(tl.float32)
    tl.store(out + offsets, value.to(out.dtype.element_ty), mask=offsets < n)


@triton.jit
def _nf4_rows(
    x,
    packed,
    scales,
    second_scales,
    offset,
    code,
    table,
    rows,
    row_mask,
    n: tl.constexpr,
    NESTED: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Rows [ROWS] of W x, for W in bitsandbytes' NF4 format and x in 16 bits in planes (`_plane_index`).

    A byte has two weights, and 64 weights share a scale. With NESTED a scale is an 8-bit index into `code`,
    and 256 scales share a second scale.
    """
    values = tl.load(table + tl.arange(0, 16))
    total = tl.zeros([ROWS, WORDS // 4], tl.float32)
    # The next iteration's operands are loaded while this one computes.
    words, scale, second_scale = _load_words(
        packed, scales, second_scales, rows, row_mask, 0, n, NESTED, WORDS
    )
    x0, x1, x2, x3 = _load_planes(x, 0, n, WORDS)
    for start in range(0, n // 8, WORDS):
        next_start = start + WORDS
        next_words, next_scale, next_second_scale = _load_words(
            packed, scales, second_scales, rows, row_mask, next_start, n, NESTED, WORDS
        )
        y0, y1, y2, y3 = _load_planes(x, next_start, n, WORDS)
        full_scale = (
            tl.load(code + scale.to(tl.int32)) * second_scale + tl.load(offset) if NESTED else second_scale
        )
        sums = tl.zeros([ROWS, WORDS], tl.float32)
        sums = _add_byte_products(sums, values, words, x0, 0, x, ROWS, WORDS)
        sums = _add_byte_products(sums, values, words, x1, 8, x, ROWS, WORDS)
        sums = _add_byte_products(sums, values, words, x2, 16, x, ROWS, WORDS)
        sums = _add_byte_products(sums, values, words, x3, 24, x, ROWS, WORDS)
        total += tl.sum(tl.reshape(sums, [ROWS, WORDS // 4, 4]), 2) * full_scale
        words, scale, second_scale = next_words, next_scale, next_second_scale
        x0, x1, x2, x3 = y0, y1, y2, y3
    return tl.sum(total, 1)


@triton.jit
def _load_words(
    packed,
    scales,
    second_scales,
    rows,
    row_mask,
    start,
    n: tl.constexpr,
    NESTED: tl.constexpr,
    WORDS: tl.constexpr,
):
    """WORDS words of eight weights from word `start` of each row, [ROWS, WORDS].

    Also the scale and the second scale of each four words, both [ROWS, WORDS / 4].
    """
    word_index = start + tl.arange(0, WORDS)
    mask = row_mask[:, None] & (word_index < n // 8)[None, :]
    words = tl.load(
        packed.to(tl.pointer_type(tl.uint32)) + rows[:, None] * (n // 8) + word_index[None, :],
        mask=mask,
        other=0,
    )
    scale_index = start // 4 + tl.arange(0, WORDS // 4)
    mask = row_mask[:, None] & (scale_index < n // 32)[None, :]
    block = rows[:, None] * (n // 64) + scale_index[None, :] // 2
    scale = tl.load(scales + block, mask=mask, other=0)
    second_scale = tl.load(second_scales + block // 256, mask=mask, other=0.0) if NESTED else scale
    return words, scale, second_scale


@triton.jit
def _load_planes(x, start, n: tl.constexpr, WORDS: tl.constexpr):
    """The four planes of x for the same words: pairs of 16-bit numbers, [WORDS] each."""
    word_index = start + tl.arange(0, WORDS)
    pairs = x.to(tl.pointer_type(tl.uint32)) + word_index
    mask = word_index < n // 8
    x0 = tl.load(pairs, mask=mask, other=0)
    x1 = tl.load(pairs + n // 8, mask=mask, other=0)
    x2 = tl.load(pairs + 2 * (n // 8), mask=mask, other=0)
    x3 = tl.load(pairs + 3 * (n // 8), mask=mask, other=0)
    return x0, x1, x2, x3


@triton.jit
def _add_byte_products(
    sums,
    values,
    words,
    pair,
    SHIFT: tl.constexpr,
    x,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Add to `sums` the products of the two weights in the byte at SHIFT of each word with a pair of x."""
    if x.dtype.element_ty == tl.bfloat16:  # the upper half of a float32
        even = (pair << 16).to(tl.float32, bitcast=True)
        odd = (pair & 0xFFFF0000).to(tl.float32, bitcast=True)
    else:
        even = (pair & 0xFFFF).to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
        odd = (pair >> 16).to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
    # The first weight of a byte is in its upper four bits.
    upper = tl.gather(values, tl.reshape((words >> (SHIFT + 4)) & 15, [ROWS * WORDS]).to(tl.int32), 0)
    lower = tl.gather(values, tl.reshape((words >> SHIFT) & 15, [ROWS * WORDS]).to(tl.int32), 0)
    sums += tl.reshape(upper, [ROWS, WORDS]) * even[None, :]
    return sums + tl.reshape(lower, [ROWS, WORDS]) * odd[None, :]


@triton.jit
def _unquantized_rows(x, weight, rows, row_mask, n, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Rows [ROWS] of W x, for an unquantised W."""
    sums = tl.zeros([ROWS, BLOCK], tl.float32)
    for start in range(0, n, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        value = tl.load(x + columns, mask=columns < n, other=0.0).to(tl.float32)
        part = tl.load(
            weight + rows[:, None] * n + columns[None, :],
            mask=row_mask[:, None] & (columns < n)[None, :],
            other=0.0,
        )
        sums += value[None, :] * part.to(tl.float32)
    return tl.sum(sums, 1)


@triton.jit
def _linear(
    x,
    weight,
    scales,
    second_scales,
    offset,
    bias,
    b,
    t,
    scaling,
    code,
    table,
    rows,
    row_mask,
    n: tl.constexpr,
    NF4: tl.constexpr,
    NESTED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RANK: tl.constexpr,
    RANK_PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Rows [ROWS] of W x + bias + scaling B t, float32."""
    total = tl.zeros([ROWS], tl.float32)
    # Loaded first, so that they arrive while W is read.
    if HAS_BIAS:
        total += tl.load(bias + rows, mask=row_mask, other=0.0).to(tl.float32)
    if RANK > 0:
        rank = tl.arange(0, RANK_PADDED)
        rank_mask = rank < RANK
        b_rows = tl.load(
            b + rows[:, None] * RANK + rank[None, :], mask=row_mask[:, None] & rank_mask[None, :], other=0.0
        )
        scaled_t = tl.load(t + rank, mask=rank_mask, other=0.0) * scaling
    if NF4:
        total += _nf4_rows(
            x, weight, scales, second_scales, offset, code, table, rows, row_mask, n, NESTED, ROWS, WORDS
        )
    else:
        total += _unquantized_rows(x, weight, rows, row_mask, n, ROWS, WORDS * 8)
    if RANK > 0:
        total += tl.sum(b_rows.to(tl.float32) * scaled_t[None, :], 1)
    return total


@triton.jit
def _activated(x, ACTIVATION: tl.constexpr):
    """The activation with a number of `families.ACTIVATIONS`."""
    if ACTIVATION == 0:
        return x * tl.sigmoid(x)
    elif ACTIVATION == 1:
        inner = 0.7978845608028654 * (x + 0.044715 * x * x * x)
        return x * tl.sigmoid(2 * inner)  # (1 + tanh(y)) / 2
    else:
        return 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))


@triton.jit
def project(
    x,
    w0,
    scales0,
    second_scales0,
    offset0,
    bias0,
    b0,
    rows0,
    w1,
    scales1,
    second_scales1,
    offset1,
    bias1,
    b1,
    rows1,
    w2,
    scales2,
    second_scales2,
    offset2,
    bias2,
    b2,
    rows2,
    t,
    scaling,
    code,
    table,
    residual,
    out,
    n: tl.constexpr,
    NF4: tl.constexpr,
    NESTED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RANK: tl.constexpr,
    RANK_PADDED: tl.constexpr,
    GATED: tl.constexpr,
    ACTIVATION: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    PLANES: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Up to three linear layers of x [n] with their adapters. Writes the concatenated outputs into `out`.

    With GATED, two layers give activation(first) * second, in planes (`_plane_index`) with PLANES. With
    HAS_RESIDUAL, `residual` is added. A program computes ROWS elements.
    """
    program = tl.program_id(0)
    if GATED:
        rows = program * ROWS + tl.arange(0, ROWS)
        row_mask = rows < rows0
        gate = _linear(
            x, w0, scales0, second_scales0, offset0, bias0, b0, t, scaling, code, table,
            rows, row_mask, n, NF4, NESTED, HAS_BIAS, RANK, RANK_PADDED, ROWS, WORDS,
        )  # fmt: skip
        up = _linear(
            x, w1, scales1, second_scales1, offset1, bias1, b1, t + RANK, scaling, code, table,
            rows, row_mask, n, NF4, NESTED, HAS_BIAS, RANK, RANK_PADDED, ROWS, WORDS,
        )  # fmt: skip
        total = _activated(gate, ACTIVATION) * up
        offsets = _plane_index(rows, rows0, PLANES)
    else:
        first_row = 0
        w = w0  # separate variables: a kernel has no arrays of pointers
        scales = scales0
        second_scales = second_scales0
        offset = offset0
        bias = bias0
        b = b0
        num_rows = rows0
        programs = tl.cdiv(rows0, ROWS)
        if program >= programs:
            program -= programs
            first_row += rows0
            t += RANK
            w = w1
            scales = scales1
            second_scales = second_scales1
            offset = offset1
            bias = bias1
            b = b1
            num_rows = rows1
            programs = tl.cdiv(rows1, ROWS)
            if program >= programs:
                program -= programs
                first_row += rows1
                t += RANK
                w = w2
                scales = scales2
                second_scales = second_scales2
                offset = offset2
                bias = bias2
                b = b2
                num_rows = rows2
        rows = program * ROWS + tl.arange(0, ROWS)
        row_mask = rows < num_rows
        total = _linear(
            x, w, scales, second_scales, offset, bias, b, t, scaling, code, table,
            rows, row_mask, n, NF4, NESTED, HAS_BIAS, RANK, RANK_PADDED, ROWS, WORDS,
        )  # fmt: skip
        offsets = first_row + rows
        if HAS_RESIDUAL:
            total += tl.load(residual + offsets, mask=row_mask, other=0.0).to(tl.float32)
    tl.store(out + offsets, total.to(out.dtype.element_ty), mask=row_mask)


@triton.jit
def rotate_and_store(
    qkv,
    q_norm,
    k_norm,
    eps,
    cos,
    sin,
    position,
    queries,
    keys,
    values,
    num_positions,
    num_heads,
    num_kv_heads,
    HEAD_DIM: tl.constexpr,
    HALF_PADDED: tl.constexpr,
    NORMED: tl.constexpr,
):
    """Split `qkv` [(num_heads + 2 num_kv_heads) * HEAD_DIM] of a token into queries, keys and values.

    With NORMED, RMSNorm is applied to queries and keys; then the rotary embedding of the token's position.
    Keys and values are written into the cache, [num_kv_heads, num_positions, HEAD_DIM].
    There is a program per head.
    """
    head = tl.program_id(0)
    position_value = tl.load(position)
    lane = tl.arange(0, HALF_PADDED)
    mask = lane < HEAD_DIM // 2
    first = tl.load(qkv + head * HEAD_DIM + lane, mask=mask, other=0.0)
    second = tl.load(qkv + head * HEAD_DIM + HEAD_DIM // 2 + lane, mask=mask, other=0.0)
    if head < num_heads + num_kv_heads:
        if NORMED:
            norm = q_norm
            if head >= num_heads:
                norm = k_norm
            factor = tl.rsqrt((tl.sum(first * first) + tl.sum(second * second)) / HEAD_DIM + eps)
            first *= factor * tl.load(norm + lane, mask=mask, other=0.0).to(tl.float32)
            second *= factor * tl.load(norm + HEAD_DIM // 2 + lane, mask=mask, other=0.0).to(tl.float32)
        offsets = position_value * HEAD_DIM + lane
        c0 = tl.load(cos + offsets, mask=mask, other=0.0)
        s0 = tl.load(sin + offsets, mask=mask, other=0.0)
        c1 = tl.load(cos + offsets + HEAD_DIM // 2, mask=mask, other=0.0)
        s1 = tl.load(sin + offsets + HEAD_DIM // 2, mask=mask, other=0.0)
        rotated = first * c0 - second * s0
        second = second * c1 + first * s1
        first = rotated
    if head < num_heads:
        out = queries + head * HEAD_DIM
    elif head < num_heads + num_kv_heads:
        out = keys + ((head - num_heads) * num_positions + position_value) * HEAD_DIM
    else:
        out = values + ((head - num_heads - num_kv_heads) * num_positions + position_value) * HEAD_DIM
    tl.store(out + lane, first.to(queries.dtype.element_ty), mask=mask)
    tl.store(out + HEAD_DIM // 2 + lane, second.to(queries.dtype.element_ty), mask=mask)


@triton.jit
def attend(
    queries,
    keys,
    values,
    position,
    window,
    scaling,
    sums,
    max_scores,
    totals,
    num_positions,
    splits,
    HEAD_DIM: tl.constexpr,
    HEAD_DIM_PADDED: tl.constexpr,
    HEADS: tl.constexpr,
    HEADS_PADDED: tl.constexpr,
    SPLIT: tl.constexpr,
    KEYS_AT_ONCE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Attention of HEADS queries of a key-value head to SPLIT positions (flash-decoding, Dao et al. 2023).

    Writes the maximum score into `max_scores`, the sum of exp(score - maximum) into `totals`, and the values
    weighted by exp(score - maximum), not normalised, into `sums`. Programs: num_kv_heads x splits.
    """
    kv_head = tl.program_id(0)
    split = tl.program_id(1)
    end = tl.load(position).to(tl.int32) + 1
    first = 0
    if window > 0:
        first = tl.maximum(end - window, 0)
    start = split * SPLIT
    if start < end and start + SPLIT > first:
        head = tl.arange(0, HEADS_PADDED)
        dim = tl.arange(0, HEAD_DIM_PADDED)
        query_mask = (head < HEADS)[:, None] & (dim < HEAD_DIM)[None, :]
        query_head = kv_head * HEADS + head
        q = tl.load(queries + query_head[:, None] * HEAD_DIM + dim[None, :], mask=query_mask, other=0.0)
        maximum = tl.full([HEADS_PADDED], -1e30, tl.float32)
        total = tl.zeros([HEADS_PADDED], tl.float32)
        acc = tl.zeros([HEADS_PADDED, HEAD_DIM_PADDED], tl.float32)
        for begin in range(start, start + SPLIT, KEYS_AT_ONCE):
            positions = begin + tl.arange(0, KEYS_AT_ONCE)
            position_mask = (positions < end) & (positions >= first)
            offsets = (kv_head * num_positions + positions[:, None]) * HEAD_DIM + dim[None, :]
            mask = position_mask[:, None] & (dim < HEAD_DIM)[None, :]
            k = tl.load(keys + offsets, mask=mask, other=0.0)
            v = tl.load(values + offsets, mask=mask, other=0.0)
            scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
            scores = tl.where(position_mask[None, :], scores * scaling, -1e30)
            new_maximum = tl.maximum(maximum, tl.max(scores, 1))
            weights = tl.where(position_mask[None, :], tl.exp(scores - new_maximum[:, None]), 0.0)
            rescale = tl.exp(maximum - new_maximum)
            total = total * rescale + tl.sum(weights, 1)
            acc = acc * rescale[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
            maximum = new_maximum
        result = query_head * splits + split
        tl.store(sums + result[:, None] * HEAD_DIM + dim[None, :], acc, mask=query_mask)
        tl.store(max_scores + result, maximum, mask=head < HEADS)
        tl.store(totals + result, total, mask=head < HEADS)


@triton.jit
def merge_splits(
    sums,
    max_scores,
    totals,
    position,
    window,
    out,
    splits,
    HEAD_DIM: tl.constexpr,
    HEAD_DIM_PADDED: tl.constexpr,
    SPLIT: tl.constexpr,
    PLANES: tl.constexpr,
):
    """Merge the splits of a head in order, one program per head. With PLANES the output is in planes."""
    head = tl.program_id(0)
    end = tl.load(position).to(tl.int32) + 1
    first = 0
    if window > 0:
        first = tl.maximum(end - window, 0)
    dim = tl.arange(0, HEAD_DIM_PADDED)
    maximum = -1e30
    total = 0.0
    acc = tl.zeros([HEAD_DIM_PADDED], tl.float32)
    for split in range(first // SPLIT, tl.cdiv(end, SPLIT)):
        result = head * splits + split
        split_maximum = tl.load(max_scores + result)
        new_maximum = tl.maximum(maximum, split_maximum)
        rescale = tl.exp(maximum - new_maximum)
        weight = tl.exp(split_maximum - new_maximum)
        total = total * rescale + tl.load(totals + result) * weight
        split_sums = tl.load(sums + result * HEAD_DIM + dim, mask=dim < HEAD_DIM, other=0.0)
        acc = acc * rescale + split_sums * weight
        maximum = new_maximum
    offsets = _plane_index(head * HEAD_DIM + dim, tl.num_programs(0) * HEAD_DIM, PLANES)
    tl.store(out + offsets, (acc / total).to(out.dtype.element_ty), mask=dim < HEAD_DIM)


@triton.jit
def unpack(
    packed,
    scales,
    second_scales,
    offset,
    code,
    table,
    out,
    blocks,
    NESTED: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Unpack weights in the NF4 format of bitsandbytes, in their packed order."""
    values = tl.load(table + tl.arange(0, 16))
    block = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    block_mask = block < blocks
    byte_index = block[:, None] * 32 + tl.arange(0, 32)[None, :]
    packed_bytes = tl.reshape(
        tl.load(packed + byte_index, mask=block_mask[:, None], other=0), [BLOCKS * 32]
    ).to(tl.int32)
    scale = tl.load(scales + block, mask=block_mask, other=0)
    if NESTED:
        scale = tl.load(code + scale.to(tl.int32)) * tl.load(
            second_scales + block // 256, mask=block_mask, other=0.0
        )
        scale += tl.load(offset)
    upper = tl.reshape(tl.gather(values, packed_bytes >> 4, 0), [BLOCKS, 32]) * scale[:, None]
    lower = tl.reshape(tl.gather(values, packed_bytes & 15, 0), [BLOCKS, 32]) * scale[:, None]
    weights = tl.reshape(tl.join(upper, lower), [BLOCKS, 64])
    offsets = block[:, None] * 64 + tl.arange(0, 64)[None, :]
    tl.store(out + offsets, weights.to(out.dtype.element_ty), mask=block_mask[:, None])
