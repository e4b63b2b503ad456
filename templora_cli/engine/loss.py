"""The loss of a chunk: logits exist for its tokens only, never for the whole sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from templora_cli.engine.forward import last_logits


def chunk_nll(module: nn.Module, prompt: Sequence[int], chunk: Sequence[int]) -> Tensor:
    """Negative log-likelihood of each token of `chunk` after `prompt`, in nats; float32, [len(chunk)].

    Teacher-forced. The prompt has no labels, as in the paper (section 3.2): it is context, not
    something to learn. Both sequences must hold at least one token.
    """
    # The logits that predict the chunk start at the prompt's last token; its own last token has none.
    logits, _ = last_logits(module, [*prompt, *chunk[:-1]], len(chunk))  # [len(chunk), V]
    labels = torch.tensor(list(chunk), device=logits.device)
    return cross_entropy(logits.float(), labels, reduction="none")
