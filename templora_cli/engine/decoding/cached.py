"""The base of the fast backends: a key-value cache that is reused between calls of `decode`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from templora_cli.engine.decoding.protocols import DecodedToken, Sampler, Stop


class CachedDecoder(Protocol):
    """A forward pass with a key-value cache."""

    length: int
    """The number of cached tokens. It may be reduced: later positions are then overwritten."""

    def adapter_changed(self) -> None:
        """Discard all copies of the adapter's weights."""

    def reserve(self, tokens: int) -> None:
        """Allocate the cache for `tokens` tokens at once, so that it need not grow step by step."""

    def release(self) -> None:
        """Free the cache and set `length` to 0."""

    def logits_after(self, ids: Sequence[int]) -> Tensor:
        """Append `ids` to the `length` cached tokens and return the logits [V] after the last of them."""


class CachedBackend:
    """Decodes tokens with a `CachedDecoder`.

    Within a chunk, the common prefix of a prompt and the text before it is not computed again: the prompts of
    a translation's paragraphs share their beginning.
    """

    exact = True

    def __init__(self, module: nn.Module, decoder: CachedDecoder) -> None:
        """`decoder` computes the forward pass of `module`."""
        self.module, self.decoder = module, decoder
        self._cached_ids: list[int] = []
        """The tokens in the decoder's cache."""

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        """See `Backend.decode`."""
        self.module.eval()
        ids = list(prompt)
        self.decoder.reserve(len(prompt) + max_tokens)
        # The last token of the prompt is always computed: its logits are needed.
        num_cached = min(_common_prefix_length(self._cached_ids, ids), len(ids) - 1)
        while len(ids) < len(prompt) + max_tokens and not stop(ids[len(prompt) :]):
            # Not around the loop: a generator suspended inside no_grad leaves it on for its consumer.
            with torch.no_grad():
                logits = self._logits(ids, num_cached)
            num_cached = len(ids)
            ids.append(sampler.draw(ids, logits))
            yield DecodedToken(ids[-1], logits)

    def _logits(self, ids: list[int], num_cached: int) -> Tensor:
        """The logits [V] that follow `ids`. The first `num_cached` of them are in the decoder's cache."""
        self.decoder.length = num_cached
        self._cached_ids = ids.copy()
        return self.decoder.logits_after(ids[num_cached:])

    def reset(self) -> None:
        """See `Backend.reset`."""
        self.adapter_changed()  # a session that is resumed here has no copies either

    def free_cache(self) -> None:
        """See `Backend.free_cache`."""
        self.decoder.release()
        self._cached_ids = []

    def adapter_changed(self) -> None:
        """See `Backend.adapter_changed`."""
        self.decoder.adapter_changed()
        self._cached_ids = []


def _common_prefix_length(first: Sequence[int], second: Sequence[int]) -> int:
    """The number of tokens that both begin with."""
    pairs = zip(first, second, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
