"""How a model predicts a text: how likely its tokens are, how sure the model is, how much it would repeat."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from templora_cli.engine.training.forward import frozen_head, hidden_at, logits_at
from templora_cli.engine.training.loss import SLICE, Mask, loss_targets, scored_tokens

COLUMNS = ("nll", "entropy", "completion")
"""What is known of each prediction: the negative log-likelihood of the token, in nats; the entropy of the
distribution that it is drawn from, in nats; and the probability (0 to 1) of the tokens that would complete a
4-gram of the book.
"""


def token_prediction(logits: Tensor, token: int, completions: Collection[int]) -> Tensor:
    """The `COLUMNS` of one token, from the logits [V] of its position: float32, [3].

    `completions` has the tokens that would complete a 4-gram of the book there.
    """
    return _predictions(logits[None], torch.tensor([token], device=logits.device), [completions])[0]


@torch.no_grad()
def chunk_predictions(
    module: nn.Module,
    prompt: Sequence[int],
    chunk: Sequence[int],
    completions: Sequence[Collection[int]],
    mask: Mask = (),
    *,
    at_once: int = SLICE,
) -> Tensor:
    """The `COLUMNS` of each scored token of `chunk` after `prompt`: float32, [scored, 3].

    `completions` [len(chunk)] is that of `token_prediction` for each token, `mask` and `at_once` are those of
    `chunk_nll`.
    """
    ids, positions, targets = loss_targets(module, prompt, chunk, mask)
    if not positions:
        return torch.empty(0, 3)
    head = frozen_head(module)
    outputs = logits_at(module, ids, positions)[0] if head is None else hidden_at(module, ids, positions)
    known = scored_tokens(completions, mask)
    rows = max(1, at_once // (outputs.shape[1] if head is None else len(head.weight)))
    parts = []
    for start in range(0, len(positions), rows):
        some = outputs[start : start + rows]
        logits = some if head is None else nn.functional.linear(some, head.weight, head.bias)
        parts.append(_predictions(logits, targets[start : start + rows], known[start : start + rows]))
    return torch.cat(parts)


def _predictions(logits: Tensor, targets: Tensor, completions: Sequence[Collection[int]]) -> Tensor:
    """The `COLUMNS` of rows of logits [n, V] with their targets [n]; [n, 3]."""
    logs = logits.float().log_softmax(-1)
    nlls = -logs.gather(1, targets[:, None])[:, 0]
    shares = logs.exp_()
    rows = [row for row, tokens in enumerate(completions) for _ in tokens]
    tokens = [token for known in completions for token in known]
    completing = torch.zeros_like(nlls)
    if tokens:
        index = torch.tensor([rows, tokens], device=logits.device)
        completing.index_add_(0, index[0], shares[index[0], index[1]])
    return torch.stack([nlls, torch.special.entr(shares).sum(-1), completing], 1)
