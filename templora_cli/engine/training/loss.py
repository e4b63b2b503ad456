"""Losses of a chunk. Logits are computed for scored tokens only, and where possible a slice at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from templora_cli.engine.training.forward import frozen_head, hidden_at, logits_at

Mask = Sequence[bool]
Item = TypeVar("Item")

SLICE = 1 << 24
"""Logits that exist at once: 64 MB in float32."""
FLOAT = 4
"""Bytes of a float32. Adapter, optimizer and losses are float32 on every device."""
SLICED_COPIES = 2
"""float32 copies of a slice of logits: itself and its softmax."""


def chunk_nll(
    module: nn.Module,
    prompt: Sequence[int],
    chunk: Sequence[int],
    mask: Mask = (),
    *,
    at_once: int = SLICE,
) -> Tensor:
    """Negative log-likelihood of each scored token of `chunk`, in nats: float32, [scored].

    `mask` [len(chunk)] says which tokens are scored; empty for all. At most `at_once` logits exist at a time
    if the model allows slices. The prompt is context and has no labels (paper, section 3.2).
    """
    ids, positions, targets = loss_targets(module, prompt, chunk, mask)
    if not positions:
        return torch.empty(0)
    head = frozen_head(module)
    if head is None:
        return cross_entropy(logits_at(module, ids, positions)[0].float(), targets, reduction="none")
    hidden = hidden_at(module, ids, positions)
    rows = max(1, at_once // len(head.weight))
    return _SlicedNll.apply(hidden, head.weight, head.bias, targets, rows)  # type: ignore[no-any-return, no-untyped-call]


def chunk_logits(module: nn.Module, prompt: Sequence[int], chunk: Sequence[int], mask: Mask = ()) -> Tensor:
    """The teacher-forced logits of each scored token of `chunk`: float32, [scored, V].

    `scored_tokens` returns the targets in the same order. The prompt must have at least one token.
    """
    ids, positions, _ = loss_targets(module, prompt, chunk, mask)
    return logits_at(module, ids, positions)[0].float()


def scored_tokens(chunk: Sequence[Item], mask: Mask = ()) -> list[Item]:
    """The items of `chunk` that `mask` selects, one for each token; all of them where it is empty."""
    return [item for i, item in enumerate(chunk) if not mask or mask[i]]


def kl_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of each row, in nats, from log-probabilities and logits [n, V]; [n]."""
    return kl_div(student.log_softmax(-1), teacher, reduction="none", log_target=True).sum(-1)


def logit_slices(
    module: nn.Module, prompt: Sequence[int], chunk: Sequence[int], mask: Mask = (), *, at_once: int = SLICE
) -> Iterator[tuple[slice, Tensor]]:
    """The logits of `chunk_logits`, some rows [rows, V] at a time, each with its place. Without gradients.

    Those who read them make a copy or two, so half of `at_once` logits exist at a time.
    """
    ids, positions, _ = loss_targets(module, prompt, chunk, mask)
    if not positions:
        return
    head = frozen_head(module)
    outputs = logits_at(module, ids, positions)[0] if head is None else hidden_at(module, ids, positions)
    rows = max(1, at_once // 2 // (outputs.shape[1] if head is None else len(head.weight)))
    for start in range(0, len(positions), rows):
        place = slice(start, start + rows)
        some = outputs[place]
        yield place, (some if head is None else nn.functional.linear(some, head.weight, head.bias)).float()


def top_predictions(
    module: nn.Module, prompt: Sequence[int], chunk: Sequence[int], top: int
) -> tuple[Tensor, Tensor]:
    """The `top` likeliest tokens at each place of `chunk` and their log-probabilities: int32 and float32, on
    the CPU, [len(chunk), top].
    """
    ids, logs = [], []
    with torch.no_grad():
        for _, logits in logit_slices(module, prompt, chunk):
            log, token = logits.log_softmax(-1).topk(min(top, logits.shape[1]), -1)
            logs.append(log.cpu())
            ids.append(token.int().cpu())
    return torch.cat(ids), torch.cat(logs)


def top_divergence(
    module: nn.Module,
    prompt: Sequence[int],
    chunk: Sequence[int],
    ids: Tensor,
    logs: Tensor,
    *,
    at_once: int = SLICE,
) -> Tensor:
    """KL(teacher || model) of each token's prediction, in nats: float32, [len(chunk)].

    Of the teacher its likeliest tokens `ids` [len(chunk), top] and their log-probabilities `logs` are known;
    all other tokens count as one. `at_once` is that of `chunk_nll`.
    """
    inputs, positions, _ = loss_targets(module, prompt, chunk, ())
    device = next(module.parameters()).device
    ids, logs = ids.long().to(device), logs.to(device)
    head = frozen_head(module)
    if head is None:
        return _top_divergence(logits_at(module, inputs, positions)[0], ids, logs)
    hidden = hidden_at(module, inputs, positions)
    rows = max(1, at_once // 2 // len(head.weight))  # their gradients are as large
    return _SlicedDivergence.apply(hidden, head.weight, head.bias, ids, logs, rows)  # type: ignore[no-any-return, no-untyped-call]


def _top_divergence(logits: Tensor, ids: Tensor, logs: Tensor) -> Tensor:
    """`top_divergence` from logits [n, V]; [n]."""
    mine = logits.float().log_softmax(-1).gather(-1, ids)
    rest, my_rest = ((1 - some.exp().sum(-1)).clamp(min=1e-6) for some in (logs, mine))
    return (logs.exp() * (logs - mine)).sum(-1) + rest * (rest.log() - my_rest.log())


def logits_bytes(scored: int, vocab_size: int, copies: int, *, sliced: bool) -> int:
    """Bytes of the logits that a loss over `scored` tokens holds at once: `copies` in float32, or a slice."""
    if sliced:
        scored, copies = min(scored, max(1, SLICE // vocab_size)), SLICED_COPIES
    return copies * scored * vocab_size * FLOAT


def loss_targets(
    module: nn.Module, prompt: Sequence[int], chunk: Sequence[int], mask: Mask
) -> tuple[list[int], list[int], Tensor]:
    """The input ids, the positions in them that predict the scored tokens, and those tokens."""
    scored = [i for i in range(len(chunk)) if not mask or mask[i]]
    ids = [*prompt, *chunk[: scored[-1] if scored else 0]]
    targets = torch.tensor(scored_tokens(chunk, mask), device=next(module.parameters()).device)
    return ids, [len(prompt) - 1 + i for i in scored], targets


class _SlicedNll(torch.autograd.Function):
    """Cross-entropy after a frozen output head, without ever holding all logits [n, V].

    The gradient of the hidden states is (softmax - one-hot target) times the head. It is computed with the
    loss, slice by slice; the backward pass only scales it.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, rows: int
    ) -> Tensor:
        nlls: list[Tensor] = []
        gradients: list[Tensor] = []
        for some, tokens in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True):
            logits = nn.functional.linear(some, weight, bias).float()
            normaliser = logits.logsumexp(-1, keepdim=True)
            nlls.append((normaliser - logits.gather(1, tokens[:, None]))[:, 0])
            if ctx.needs_input_grad[0]:
                probabilities = logits.sub_(normaliser).exp_()
                probabilities[torch.arange(len(tokens), device=tokens.device), tokens] -= 1
                gradients.append(probabilities.to(weight.dtype) @ weight)
        if gradients:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(nlls)

    @staticmethod
    def backward(ctx: Any, of_nll: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * of_nll[:, None]).to(gradient.dtype), None, None, None, None


class _SlicedDivergence(torch.autograd.Function):
    """`_top_divergence` after a frozen output head, slice by slice, as `_SlicedNll` is."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor, logs: Tensor, rows: int
    ) -> Tensor:
        values: list[Tensor] = []
        gradients: list[Tensor] = []
        for start in range(0, len(hidden), rows):
            some = hidden[start : start + rows].detach().requires_grad_(ctx.needs_input_grad[0])
            with torch.set_grad_enabled(ctx.needs_input_grad[0]):
                logits = nn.functional.linear(some, weight, bias)
                value = _top_divergence(logits, ids[start : start + rows], logs[start : start + rows])
                if ctx.needs_input_grad[0]:
                    gradients += torch.autograd.grad(value.sum(), some)
            values.append(value.detach())
        if gradients:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(values)

    @staticmethod
    def backward(ctx: Any, of_value: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * of_value[:, None]).to(gradient.dtype), None, None, None, None, None
