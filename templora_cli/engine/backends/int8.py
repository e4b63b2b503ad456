"""The fast backend of a CPU: the project's own decoder over an 8-bit copy of base + adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from templora_cli.engine.backends import Sampler, Stop, TokenOut
from templora_cli.engine.decoder import Decoder
from templora_cli.engine.int8 import rounded


class Int8Backend:
    """Tokens from the copy, which is made anew when the adapter has changed.

    Within a chunk, a prompt that begins like the text before it is not read again from its start: the
    paragraphs of a translation share theirs.
    """

    exact = True

    def __init__(self, module: nn.Module) -> None:
        """`module` is a float32 model on the CPU whose configuration `families.has_fast_decoder` allows."""
        self.module = module
        self.decoder = Decoder(module, rounded)
        self._read: list[int] = []
        """The tokens whose keys and values the decoder holds."""
        self._stale = True

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[TokenOut]:
        """See `Backend.decode`."""
        self.module.eval()
        ids = list(prompt)
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
        if self._stale:
            self.decoder.pack()
            self._stale = False
        self.decoder.length = read
        self._read = ids.copy()
        return self.decoder.logits_after(ids[read:])

    def chunk_begins(self) -> None:
        """See `Backend.chunk_begins`."""
        self._read = []

    def adapter_changed(self) -> None:
        """See `Backend.adapter_changed`."""
        self._stale = True
        self._read = []


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
