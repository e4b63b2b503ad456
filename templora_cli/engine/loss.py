"""The loss of a chunk: logits exist for its tokens only, never for the whole sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from templora_cli.engine.forward import last_logits


def chunk_nll(module: nn.Module, prompt: Sequence[int], chunk: Sequence[int]) -> Tensor:
    """Negative log-likelihood of each token of `chunk` after `prompt`, in nats; float32, [len(chunk)].

    The prompt has no labels, as in the paper (section 3.2): it is context, not something to learn.
    """
    logits = chunk_logits(module, prompt, chunk)
    return cross_entropy(logits, torch.tensor(list(chunk), device=logits.device), reduction="none")


def chunk_logits(module: nn.Module, prompt: Sequence[int], chunk: Sequence[int]) -> Tensor:
    """The logits that predict each token of `chunk` after `prompt`, teacher-forced; float32, [len(chunk), V].

    Both sequences must hold at least one token.
    """
    # They start at the prompt's last token; the chunk's own last token predicts nothing of it.
    logits, _ = last_logits(module, [*prompt, *chunk[:-1]], len(chunk))
    return logits.float()


def masked_mean(values: Tensor, mask: Sequence[bool]) -> Tensor:
    """Mean of the `values` [n] that `mask` names, of all where it is empty; a scalar."""
    return (values[torch.tensor(mask, device=values.device)] if mask else values).mean()


def kl_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of each row, in nats, from log-probabilities and logits [n, V]; [n]."""
    return kl_div(student.log_softmax(-1), teacher, reduction="none", log_target=True).sum(-1)
