"""The loss of a chunk: logits exist for the tokens that count only, and a slice of them at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from templora_cli.engine.training.forward import frozen_head, hidden_at, logits_at

Mask = Sequence[bool]

SLICE = 1 << 24
"""Logits that there are at once: 64 MB in float32."""
FLOAT = 4
"""Bytes of float32, in which adapter, optimizer and losses are on every device."""
SLICED_COPIES = 2
"""Of a slice of the logits, in float32: itself and what is made of it."""


def chunk_nll(
    module: nn.Module,
    prompt: Sequence[int],
    chunk: Sequence[int],
    mask: Mask = (),
    *,
    at_once: int = SLICE,
) -> Tensor:
    """Negative log-likelihood of each token of `chunk` that counts, after what stands before it, in nats.

    `mask` names those that count, by default all [len(chunk)]; the result is float32, [those that count].
    No more than `at_once` logits are there at once, where the model lets them be taken in slices.
    The prompt has no labels, as in the paper (section 3.2): it is context, not something to learn.
    """
    ids, positions, targets = _loss_targets(module, prompt, chunk, mask)
    if not positions:
        return torch.empty(0)
    head = frozen_head(module)
    if head is None:
        return cross_entropy(logits_at(module, ids, positions)[0].float(), targets, reduction="none")
    hidden = hidden_at(module, ids, positions)
    rows = max(1, at_once // len(head.weight))
    return _SlicedNll.apply(hidden, head.weight, head.bias, targets, rows)  # type: ignore[no-any-return, no-untyped-call]


def token_nll(logits: Tensor, token: int) -> Tensor:
    """Negative log-likelihood of a token by the logits [V] for its place, in nats; [], on their device."""
    return -logits.float().log_softmax(-1)[token]


def chunk_logits(module: nn.Module, prompt: Sequence[int], chunk: Sequence[int], mask: Mask = ()) -> Tensor:
    """The logits that predict each token of `chunk` that counts, teacher-forced; float32, [those, V].

    The prompt must hold at least one token.
    """
    ids, positions, _ = _loss_targets(module, prompt, chunk, mask)
    return logits_at(module, ids, positions)[0].float()


def kl_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of each row, in nats, from log-probabilities and logits [n, V]; [n]."""
    return kl_div(student.log_softmax(-1), teacher, reduction="none", log_target=True).sum(-1)


def logits_bytes(counting: int, vocabulary: int, copies: int, *, sliced: bool) -> int:
    """Bytes of the logits that there are at once for a loss over so many tokens.

    `copies` of all of them, in float32, where they cannot be taken in slices.
    """
    if sliced:
        counting, copies = min(counting, max(1, SLICE // vocabulary)), SLICED_COPIES
    return copies * counting * vocabulary * FLOAT


def _loss_targets(
    module: nn.Module, prompt: Sequence[int], chunk: Sequence[int], mask: Mask
) -> tuple[list[int], list[int], Tensor]:
    """What the model has to read, the places in it that predict what counts, and the tokens that do."""
    counting = [i for i in range(len(chunk)) if not mask or mask[i]]
    read = [*prompt, *chunk[: counting[-1] if counting else 0]]
    targets = torch.tensor([chunk[i] for i in counting], device=next(module.parameters()).device)
    return read, [len(prompt) - 1 + i for i in counting], targets


class _SlicedNll(torch.autograd.Function):
    """Cross-entropy behind an output head that does not learn, without its logits [n, V].

    The gradient of the hidden states is (softmax - wanted) times the head, so it is taken with the loss,
    slice by slice, and only scaled in the backward pass.
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
