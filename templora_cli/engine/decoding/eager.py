"""The eager backend: the unmodified transformers model with the live adapter. Runs every architecture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from templora_cli.engine.decoding.protocols import DecodedToken, Sampler, Stop
from templora_cli.engine.determinism import is_deterministic
from templora_cli.engine.training.forward import logits_at


class EagerBackend:
    """Prefills the prompt, then runs one forward pass per token over a growing key-value cache."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.exact = is_deterministic(next(module.parameters()).device)

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        """See `Backend.decode`."""
        self.module.eval()
        ids, num_read, cache = list(prompt), 0, None
        while len(ids) < len(prompt) + max_tokens and not stop(ids[len(prompt) :]):
            new_ids = ids[num_read:]
            # Not around the loop: a generator suspended inside no_grad leaves it on for its consumer.
            with torch.no_grad():
                logits, cache = logits_at(
                    self.module, new_ids, [len(new_ids) - 1], cache=cache, use_cache=True, start=num_read
                )
            num_read = 0 if cache is None else len(ids)
            ids.append(sampler.draw(ids, logits[-1]))
            yield DecodedToken(ids[-1], logits[-1])

    def reset(self) -> None:
        """Do nothing: the cache is rebuilt for each prompt."""

    def free_cache(self) -> None:
        """Do nothing: the cache was freed with the last token."""

    def adapter_changed(self) -> None:
        """Do nothing: the forward pass reads the adapter itself."""
