"""How a model predicts a text: how likely its tokens are, how sure the model is, how much it would repeat."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from templora_cli.engine.training.loss import SLICE, Mask, logit_slices, scored_tokens

COLUMNS = ("nll", "entropy", "completion")
"""What is known of each prediction: the negative log-likelihood of the token, in nats; the entropy of the
distribution that it is drawn from, in nats; and the probability (0 to 1) of the tokens that would complete a
4-gram of the book.
"""


def token_prediction(logits: Tensor, token: int, completions: Collection[int]) -> Tensor:
    """The `COLUMNS` of one token, from the logits [V] of its position: float32, [3].

    `completions` has the tokens that would complete a 4-gram of the book there.
    """
    logs = logits.float().log_softmax(-1)
    shares = logs.exp()
    completing = shares[list(completions)].sum() if completions else torch.zeros_like(shares[0])
    # A token with a probability of 0 counts as 0 times a finite number.
    return torch.stack([-logs[token], -(shares @ logs.clamp_(min=-1e4)), completing])


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
    tokens, known = scored_tokens(chunk, mask), scored_tokens(completions, mask)
    rows = [torch.empty(0, 3)]
    with torch.no_grad():
        for place, logits in logit_slices(module, prompt, chunk, mask, at_once=at_once):
            some = zip(logits, tokens[place], known[place], strict=True)
            rows.append(torch.stack([token_prediction(*each) for each in some]).cpu())
    return torch.cat(rows)
