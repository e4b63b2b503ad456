"""What the fast backends have in common: keys and values that outlive a call of `decode`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from templora_cli.engine.decoding.protocols import Sampler, Stop, TokenOut


class CachedDecoder(Protocol):
    """A forward pass that keeps what it has read."""

    length: int
    """Tokens whose keys and values are kept. It may be set back: what comes after is written over."""

    def adapter_changed(self) -> None:
        """What was copied of it is copied anew."""

    def reserve(self, tokens: int) -> None:
        """Room for the keys and values of so many, at once rather than bit by bit."""

    def release(self) -> None:
        """Keys and values go; `length` is 0."""

    def logits_after(self, ids: Sequence[int]) -> Tensor:
        """The logits [V] that follow `ids`, which come after the `length` tokens so far."""


class CachedBackend:
    """Tokens from a decoder, which is told when the adapter has changed.

    Within a chunk, a prompt that begins like the text before it is not read again from its start: the
    paragraphs of a translation share theirs.
    """

    exact = True

    def __init__(self, module: nn.Module, decoder: CachedDecoder) -> None:
        """`decoder` reads with `module`."""
        self.module, self.decoder = module, decoder
        self._read: list[int] = []
        """The tokens whose keys and values the decoder holds."""

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[TokenOut]:
        """See `Backend.decode`."""
        self.module.eval()
        ids = list(prompt)
        self.decoder.reserve(len(prompt) + max_tokens)
        # The logits that follow the prompt take its last token at least.
        read = min(_common(self._read, ids), len(ids) - 1)
        while len(ids) < len(prompt) + max_tokens and not stop(ids[len(prompt) :]):
            # Not around the loop: a generator suspended inside no_grad leaves it on for its consumer.
            with torch.no_grad():
                logits = self._logits(ids, read)
            read = len(ids)
            ids.append(sampler.draw(ids, logits))
            yield TokenOut(ids[-1], logits)

    def _logits(self, ids: list[int], read: int) -> Tensor:
        """Those [V] that follow `ids`, of which the decoder has read the first `read`."""
        self.decoder.length = read
        self._read = ids.copy()
        return self.decoder.logits_after(ids[read:])

    def chunk_begins(self) -> None:
        """See `Backend.chunk_begins`."""
        self.adapter_changed()  # a session that is resumed here has copied nothing either

    def decoding_ends(self) -> None:
        """See `Backend.decoding_ends`."""
        self.decoder.release()
        self._read = []

    def adapter_changed(self) -> None:
        """See `Backend.adapter_changed`."""
        self.decoder.adapter_changed()
        self._read = []


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
