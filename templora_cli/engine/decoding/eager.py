"""The eager backend: the unmodified transformers model with the live adapter. Runs every architecture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from templora_cli.engine.decoding.protocols import DecodedToken, Sampler, Stop
from templora_cli.engine.determinism import is_deterministic
from templora_cli.engine.training.forward import logits_at, shorten_cache


class EagerBackend:
    """Prefills the prompt, then runs one forward pass per token over a growing key-value cache.

    It uses the cache again only to rewind, because only then is every pass one of these two.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.exact = is_deterministic(next(module.parameters()).device)
        self._cache: Any = None
        self._cached_ids: list[int] = []
        """The tokens in the cache."""

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        """See `Backend.decode`."""
        self.module.eval()
        ids = list(prompt)
        num_read = self._rewind(ids)
        while len(ids) < len(prompt) + max_tokens and not stop(ids[len(prompt) :]):
            new_ids, cache = ids[num_read:], self._cache
            self.free_cache()  # if the forward pass is interrupted, its cache is worth nothing
            # Not around the loop: a generator suspended inside no_grad leaves it on for its consumer.
            with torch.no_grad():
                logits, self._cache = logits_at(
                    self.module, new_ids, [len(new_ids) - 1], cache=cache, use_cache=True, start=num_read
                )
            self._cached_ids = ids.copy()
            num_read = 0 if self._cache is None else len(ids)
            ids.append(sampler.draw(ids, logits[-1]))
            yield DecodedToken(ids[-1], logits[-1])

    def _rewind(self, ids: Sequence[int]) -> int:
        """Cut the cache back to all of `ids` but the last; returns how many tokens are then in it."""
        length = len(ids) - 1
        is_prefix = length and self._cached_ids[:length] == list(ids[:-1])
        if not is_prefix or not shorten_cache(self._cache, len(self._cached_ids) - length):
            self.free_cache()
        return len(self._cached_ids[:length])

    def reset(self) -> None:
        """See `Backend.reset`."""
        self.free_cache()

    def free_cache(self) -> None:
        """See `Backend.free_cache`."""
        self._cache, self._cached_ids = None, []

    def adapter_changed(self) -> None:
        """See `Backend.adapter_changed`. The forward pass reads the adapter itself."""
        self.free_cache()
