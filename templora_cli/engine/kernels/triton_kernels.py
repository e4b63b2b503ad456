"""What a token costs beside its products on a GPU is the launching of small kernels, so there are few here.

Written in Triton, which comes with torch's builds for CUDA on Linux. A block of the model is eleven launches:
`shrink`, `project`, `place_heads`, `attend`, `gather_heads`, and three times again `shrink` and `project`.
Sums are in float32, in an order that hangs on the model alone: neither on how long the buffers of keys and
values are nor on what else runs.
"""

import triton
import triton.language as tl


@triton.jit
def _place(at, n, PLANES: tl.constexpr):
    """Where number `at` of a vector [n] stands: in order or, with PLANES, as `_nf4_rows` meets it.

    That is by twos: the first two of each eight numbers, then the second two, the third and the last.
    """
    if PLANES:
        return ((at % 8) // 2 * (n // 8) + at // 8) * 2 + at % 2
    else:
        return at


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
    """What the adapters see of x [n]: t [PARTS * RANK] = A x of up to three of them, A [RANK, n].

    With NORMED x goes through RMSNorm with the weight `norm` [n] before, and is written to `normed`. With
    PLANES that is in planes (`_place`), and x is where it is not normed.
    One program makes one number of t; those behind them make BLOCK numbers of `normed` each.
    """
    program = tl.program_id(0)
    places = tl.arange(0, BLOCK)
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
            at = start + places
            if NORMED:
                value = tl.load(x + at, mask=at < n, other=0.0).to(tl.float32)
                squares += value * value
                value *= tl.load(norm + at, mask=at < n, other=0.0).to(tl.float32)
            else:
                value = tl.load(x + _place(at, n, PLANES), mask=at < n, other=0.0).to(tl.float32)
            products += value * tl.load(a + at, mask=at < n, other=0.0).to(tl.float32)
        total = tl.sum(products)
        if NORMED:
            total *= tl.rsqrt(tl.sum(squares) / n + eps)
        tl.store(t + program, total)
    elif NORMED:
        for start in range(0, n, BLOCK):
            at = start + places
            value = tl.load(x + at, mask=at < n, other=0.0).to(tl.float32)
            squares += value * value
        factor = tl.rsqrt(tl.sum(squares) / n + eps)
        at = (program - PARTS * RANK) * BLOCK + places
        value = tl.load(x + at, mask=at < n, other=0.0).to(tl.float32)
        value *= factor * tl.load(norm + at, mask=at < n, other=0.0).to(tl.float32)
        tl.store(normed + _place(at, n, PLANES), value.to(normed.dtype.element_ty), mask=at < n)


@triton.jit
def add_normed(x, y, norm, eps, out, n, BLOCK: tl.constexpr):
    """out [n] = x + RMSNorm(y): Gemma's norm behind each half of a block."""
    places = tl.arange(0, BLOCK)
    squares = tl.zeros([BLOCK], tl.float32)
    for start in range(0, n, BLOCK):
        at = start + places
        value = tl.load(y + at, mask=at < n, other=0.0).to(tl.float32)
        squares += value * value
    factor = tl.rsqrt(tl.sum(squares) / n + eps)
    at = tl.program_id(0) * BLOCK + places
    value = tl.load(y + at, mask=at < n, other=0.0).to(tl.float32)
    value *= factor * tl.load(norm + at, mask=at < n, other=0.0).to(tl.float32)
    value += tl.load(x + at, mask=at < n, other=0.0).to(tl.float32)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=at < n)


@triton.jit
def _nf4_rows(
    x,
    packed,
    scales,
    seconds,
    offset,
    code,
    table,
    rows,
    there,
    n: tl.constexpr,
    NESTED: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Those rows [ROWS] of W x, W in bitsandbytes' NF4, x in 16 bits and in planes (`_place`).

    Two weights are a byte, and 64 share a scale. NESTED: that is in 8 bits itself, an entry of `code`, and
    256 of them share one.
    """
    values = tl.load(table + tl.arange(0, 16))
    total = tl.zeros([ROWS, WORDS // 4], tl.float32)
    # What the next turn needs is on its way while this one computes.
    eight, entry, second = _weights(packed, scales, seconds, rows, there, 0, n, NESTED, WORDS)
    x0, x1, x2, x3 = _planes(x, 0, n, WORDS)
    for start in range(0, n // 8, WORDS):
        following = start + WORDS
        next_eight, next_entry, next_second = _weights(
            packed, scales, seconds, rows, there, following, n, NESTED, WORDS
        )
        y0, y1, y2, y3 = _planes(x, following, n, WORDS)
        scale = tl.load(code + entry.to(tl.int32)) * second + tl.load(offset) if NESTED else second
        sums = tl.zeros([ROWS, WORDS], tl.float32)
        sums = _two_more(sums, values, eight, x0, 0, x, ROWS, WORDS)
        sums = _two_more(sums, values, eight, x1, 8, x, ROWS, WORDS)
        sums = _two_more(sums, values, eight, x2, 16, x, ROWS, WORDS)
        sums = _two_more(sums, values, eight, x3, 24, x, ROWS, WORDS)
        total += tl.sum(tl.reshape(sums, [ROWS, WORDS // 4, 4]), 2) * scale
        eight, entry, second = next_eight, next_entry, next_second
        x0, x1, x2, x3 = y0, y1, y2, y3
    return tl.sum(total, 1)


@triton.jit
def _weights(
    packed,
    scales,
    seconds,
    rows,
    there,
    start,
    n: tl.constexpr,
    NESTED: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Of each row WORDS words from `start` on, of eight weights each [rows, WORDS], and what the scale of
    each four words is made of, twice [rows, WORDS / 4].
    """
    word = start + tl.arange(0, WORDS)
    seen = there[:, None] & (word < n // 8)[None, :]
    eight = tl.load(
        packed.to(tl.pointer_type(tl.uint32)) + rows[:, None] * (n // 8) + word[None, :], mask=seen, other=0
    )
    four = start // 4 + tl.arange(0, WORDS // 4)
    seen = there[:, None] & (four < n // 32)[None, :]
    group = rows[:, None] * (n // 64) + four[None, :] // 2
    entry = tl.load(scales + group, mask=seen, other=0)
    second = tl.load(seconds + group // 256, mask=seen, other=0.0) if NESTED else entry
    return eight, entry, second


@triton.jit
def _planes(x, start, n: tl.constexpr, WORDS: tl.constexpr):
    """The numbers that meet those words, two of 16 bits in a word, [WORDS] four times."""
    word = start + tl.arange(0, WORDS)
    pairs = x.to(tl.pointer_type(tl.uint32)) + word
    there = word < n // 8
    x0 = tl.load(pairs, mask=there, other=0)
    x1 = tl.load(pairs + n // 8, mask=there, other=0)
    x2 = tl.load(pairs + 2 * (n // 8), mask=there, other=0)
    x3 = tl.load(pairs + 3 * (n // 8), mask=there, other=0)
    return x0, x1, x2, x3


@triton.jit
def _two_more(
    sums,
    values,
    eight,
    pair,
    SHIFT: tl.constexpr,
    x,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
):
    """`sums` and the products of two of each eight weights, those of the byte at SHIFT, with a pair of x."""
    if x.dtype.element_ty == tl.bfloat16:  # the upper half of a float32
        even = (pair << 16).to(tl.float32, bitcast=True)
        odd = (pair & 0xFFFF0000).to(tl.float32, bitcast=True)
    else:
        even = (pair & 0xFFFF).to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
        odd = (pair >> 16).to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
    # The first weight of a byte is in its upper half.
    upper = tl.gather(values, tl.reshape((eight >> (SHIFT + 4)) & 15, [ROWS * WORDS]).to(tl.int32), 0)
    lower = tl.gather(values, tl.reshape((eight >> SHIFT) & 15, [ROWS * WORDS]).to(tl.int32), 0)
    sums += tl.reshape(upper, [ROWS, WORDS]) * even[None, :]
    return sums + tl.reshape(lower, [ROWS, WORDS]) * odd[None, :]


@triton.jit
def _plain_rows(x, weight, rows, there, n, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Those rows [ROWS] of W x, W as numbers."""
    sums = tl.zeros([ROWS, BLOCK], tl.float32)
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        value = tl.load(x + at, mask=at < n, other=0.0).to(tl.float32)
        part = tl.load(
            weight + rows[:, None] * n + at[None, :], mask=there[:, None] & (at < n)[None, :], other=0.0
        )
        sums += value[None, :] * part.to(tl.float32)
    return tl.sum(sums, 1)


@triton.jit
def _linear(
    x,
    weight,
    scales,
    seconds,
    offset,
    bias,
    b,
    t,
    scaling,
    code,
    table,
    rows,
    there,
    n: tl.constexpr,
    NF4: tl.constexpr,
    NESTED: tl.constexpr,
    BIASED: tl.constexpr,
    RANK: tl.constexpr,
    RANKS: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Those rows of W x + bias + scaling B t, float32."""
    total = tl.zeros([ROWS], tl.float32)
    # Asked for first, these arrive while W is read.
    if BIASED:
        total += tl.load(bias + rows, mask=there, other=0.0).to(tl.float32)
    if RANK > 0:
        at = tl.arange(0, RANKS)
        ranks = at < RANK
        part = tl.load(
            b + rows[:, None] * RANK + at[None, :], mask=there[:, None] & ranks[None, :], other=0.0
        )
        shrunk = tl.load(t + at, mask=ranks, other=0.0) * scaling
    if NF4:
        total += _nf4_rows(
            x, weight, scales, seconds, offset, code, table, rows, there, n, NESTED, ROWS, WORDS
        )
    else:
        total += _plain_rows(x, weight, rows, there, n, ROWS, WORDS * 8)
    if RANK > 0:
        total += tl.sum(part.to(tl.float32) * shrunk[None, :], 1)
    return total


@triton.jit
def _activated(x, ACTIVATION: tl.constexpr):
    """By the numbers of `families.ACTIVATIONS`."""
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
    second0,
    offset0,
    bias0,
    b0,
    rows0,
    w1,
    scales1,
    second1,
    offset1,
    bias1,
    b1,
    rows1,
    w2,
    scales2,
    second2,
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
    BIASED: tl.constexpr,
    RANK: tl.constexpr,
    RANKS: tl.constexpr,
    GATED: tl.constexpr,
    ACTIVATION: tl.constexpr,
    ADD: tl.constexpr,
    PLANES: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Up to three linear layers of x [n] with their adapters' parts, side by side in `out`.

    GATED: of two, activation(first) * second, in planes with PLANES (`_place`). ADD: `residual` is added. A
    program makes ROWS numbers.
    """
    program = tl.program_id(0)
    if GATED:
        rows = program * ROWS + tl.arange(0, ROWS)
        there = rows < rows0
        gate = _linear(
            x, w0, scales0, second0, offset0, bias0, b0, t, scaling, code, table, rows, there, n,
            NF4, NESTED, BIASED, RANK, RANKS, ROWS, WORDS,
        )  # fmt: skip
        up = _linear(
            x, w1, scales1, second1, offset1, bias1, b1, t + RANK, scaling, code, table, rows, there, n,
            NF4, NESTED, BIASED, RANK, RANKS, ROWS, WORDS,
        )  # fmt: skip
        total = _activated(gate, ACTIVATION) * up
        to = _place(rows, rows0, PLANES)
    else:
        shift = 0
        w = w0  # one by one: a kernel has no array of pointers
        scales = scales0
        second = second0
        offset = offset0
        bias = bias0
        b = b0
        here = rows0
        before = tl.cdiv(rows0, ROWS)
        if program >= before:
            program -= before
            shift += rows0
            t += RANK
            w = w1
            scales = scales1
            second = second1
            offset = offset1
            bias = bias1
            b = b1
            here = rows1
            before = tl.cdiv(rows1, ROWS)
            if program >= before:
                program -= before
                shift += rows1
                t += RANK
                w = w2
                scales = scales2
                second = second2
                offset = offset2
                bias = bias2
                b = b2
                here = rows2
        rows = program * ROWS + tl.arange(0, ROWS)
        there = rows < here
        total = _linear(
            x, w, scales, second, offset, bias, b, t, scaling, code, table, rows, there, n,
            NF4, NESTED, BIASED, RANK, RANKS, ROWS, WORDS,
        )  # fmt: skip
        to = shift + rows
        if ADD:
            total += tl.load(residual + to, mask=there, other=0.0).to(tl.float32)
    tl.store(out + to, total.to(out.dtype.element_ty), mask=there)


@triton.jit
def place_heads(
    made,
    q_norm,
    k_norm,
    eps,
    cos,
    sin,
    place,
    queries,
    keys,
    values,
    places,
    heads,
    groups,
    SIZE: tl.constexpr,
    HALF: tl.constexpr,
    NORMED: tl.constexpr,
):
    """Queries, keys and values of a token from `made` [(heads + 2 groups) * SIZE]; a program a head.

    Queries and keys are normed (NORMED) and turned by the angles of the token's place; keys and values are
    written into theirs [groups, places, SIZE].
    """
    head = tl.program_id(0)
    at = tl.load(place)
    half = tl.arange(0, HALF)
    inside = half < SIZE // 2
    first = tl.load(made + head * SIZE + half, mask=inside, other=0.0)
    second = tl.load(made + head * SIZE + SIZE // 2 + half, mask=inside, other=0.0)
    if head < heads + groups:
        if NORMED:
            norm = q_norm
            if head >= heads:
                norm = k_norm
            factor = tl.rsqrt((tl.sum(first * first) + tl.sum(second * second)) / SIZE + eps)
            first *= factor * tl.load(norm + half, mask=inside, other=0.0).to(tl.float32)
            second *= factor * tl.load(norm + SIZE // 2 + half, mask=inside, other=0.0).to(tl.float32)
        angle = at * SIZE + half
        c0 = tl.load(cos + angle, mask=inside, other=0.0)
        s0 = tl.load(sin + angle, mask=inside, other=0.0)
        c1 = tl.load(cos + angle + SIZE // 2, mask=inside, other=0.0)
        s1 = tl.load(sin + angle + SIZE // 2, mask=inside, other=0.0)
        turned = first * c0 - second * s0
        second = second * c1 + first * s1
        first = turned
    if head < heads:
        to = queries + head * SIZE
    elif head < heads + groups:
        to = keys + ((head - heads) * places + at) * SIZE
    else:
        to = values + ((head - heads - groups) * places + at) * SIZE
    tl.store(to + half, first.to(queries.dtype.element_ty), mask=inside)
    tl.store(to + SIZE // 2 + half, second.to(queries.dtype.element_ty), mask=inside)


@triton.jit
def attend(
    queries,
    keys,
    values,
    place,
    window,
    scaling,
    sums,
    highest,
    totals,
    places,
    splits,
    SIZE: tl.constexpr,
    SIZES: tl.constexpr,
    HEADS: tl.constexpr,
    SHARING: tl.constexpr,
    SPLIT: tl.constexpr,
    KEYS_AT_ONCE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """What the HEADS heads of a group see in SPLIT places: the sums of values, not yet divided by `totals`,
    and the highest score (Dao et al. 2023, flash-decoding). Programs: groups x splits.
    """
    group = tl.program_id(0)
    split = tl.program_id(1)
    end = tl.load(place).to(tl.int32) + 1
    first = 0
    if window > 0:
        first = tl.maximum(end - window, 0)
    start = split * SPLIT
    if start < end and start + SPLIT > first:
        head = tl.arange(0, SHARING)
        lane = tl.arange(0, SIZES)
        known = (head < HEADS)[:, None] & (lane < SIZE)[None, :]
        number = group * HEADS + head
        q = tl.load(queries + number[:, None] * SIZE + lane[None, :], mask=known, other=0.0)
        top = tl.full([SHARING], -1e30, tl.float32)
        total = tl.zeros([SHARING], tl.float32)
        sum_ = tl.zeros([SHARING, SIZES], tl.float32)
        for begin in range(start, start + SPLIT, KEYS_AT_ONCE):
            at = begin + tl.arange(0, KEYS_AT_ONCE)
            seen = (at < end) & (at >= first)
            where = (group * places + at[:, None]) * SIZE + lane[None, :]
            shown = seen[:, None] & (lane < SIZE)[None, :]
            k = tl.load(keys + where, mask=shown, other=0.0)
            v = tl.load(values + where, mask=shown, other=0.0)
            scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
            scores = tl.where(seen[None, :], scores * scaling, -1e30)
            higher = tl.maximum(top, tl.max(scores, 1))
            shares = tl.where(seen[None, :], tl.exp(scores - higher[:, None]), 0.0)
            fade = tl.exp(top - higher)
            total = total * fade + tl.sum(shares, 1)
            sum_ = sum_ * fade[:, None] + tl.dot(shares.to(v.dtype), v, input_precision=PRECISION)
            top = higher
        to = number * splits + split
        tl.store(sums + to[:, None] * SIZE + lane[None, :], sum_, mask=known)
        tl.store(highest + to, top, mask=head < HEADS)
        tl.store(totals + to, total, mask=head < HEADS)


@triton.jit
def gather_heads(
    sums,
    highest,
    totals,
    place,
    window,
    out,
    splits,
    SIZE: tl.constexpr,
    SIZES: tl.constexpr,
    SPLIT: tl.constexpr,
    PLANES: tl.constexpr,
):
    """What a head saw in all its splits, one after the other, in planes with PLANES; a program a head."""
    head = tl.program_id(0)
    end = tl.load(place).to(tl.int32) + 1
    first = 0
    if window > 0:
        first = tl.maximum(end - window, 0)
    lane = tl.arange(0, SIZES)
    top = -1e30
    total = 0.0
    sum_ = tl.zeros([SIZES], tl.float32)
    for split in range(first // SPLIT, tl.cdiv(end, SPLIT)):
        at = head * splits + split
        here = tl.load(highest + at)
        higher = tl.maximum(top, here)
        fade = tl.exp(top - higher)
        share = tl.exp(here - higher)
        total = total * fade + tl.load(totals + at) * share
        part = tl.load(sums + at * SIZE + lane, mask=lane < SIZE, other=0.0)
        sum_ = sum_ * fade + part * share
        top = higher
    to = _place(head * SIZE + lane, tl.num_programs(0) * SIZE, PLANES)
    tl.store(out + to, (sum_ / total).to(out.dtype.element_ty), mask=lane < SIZE)


@triton.jit
def unpack(
    packed, scales, seconds, offset, code, table, out, blocks, NESTED: tl.constexpr, BLOCKS: tl.constexpr
):
    """The weights of bitsandbytes' NF4 as numbers, in the order in which they are packed."""
    values = tl.load(table + tl.arange(0, 16))
    block = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    there = block < blocks
    byte = block[:, None] * 32 + tl.arange(0, 32)[None, :]
    both = tl.reshape(tl.load(packed + byte, mask=there[:, None], other=0), [BLOCKS * 32]).to(tl.int32)
    scale = tl.load(scales + block, mask=there, other=0)
    if NESTED:
        scale = tl.load(code + scale.to(tl.int32)) * tl.load(seconds + block // 256, mask=there, other=0.0)
        scale += tl.load(offset)
    upper = tl.reshape(tl.gather(values, both >> 4, 0), [BLOCKS, 32]) * scale[:, None]
    lower = tl.reshape(tl.gather(values, both & 15, 0), [BLOCKS, 32]) * scale[:, None]
    weights = tl.reshape(tl.join(upper, lower), [BLOCKS, 64])
    at = block[:, None] * 64 + tl.arange(0, 64)[None, :]
    tl.store(out + at, weights.to(out.dtype.element_ty), mask=there[:, None])
