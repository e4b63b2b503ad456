"""The plain backend: the transformers model as it is, with the adapter live. Runs every architecture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from templora_cli.engine.decoding.protocols import Sampler, Stop, TokenOut
from templora_cli.engine.determinism import is_deterministic
from templora_cli.engine.training.forward import logits_at


class EagerBackend:
    """Prefill the prompt, then one forward pass a token over a growing key-value cache."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.exact = is_deterministic(next(module.parameters()).device)

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[TokenOut]:
        """See `Backend.decode`."""
        self.module.eval()
        ids, read, cache = list(prompt), 0, None
        while len(ids) < len(prompt) + max_tokens and not stop(ids[len(prompt) :]):
            fresh = ids[read:]
            # Not around the loop: a generator suspended inside no_grad leaves it on for its consumer.
            with torch.no_grad():
                logits, cache = logits_at(
                    self.module, fresh, [len(fresh) - 1], cache=cache, use_cache=True, start=read
                )
            read = 0 if cache is None else len(ids)
            ids.append(sampler.draw(ids, logits[-1]))
            yield TokenOut(ids[-1], logits[-1])

    def chunk_begins(self) -> None:
        """Nothing is kept: the cache is rebuilt from the prompt each time."""

    def decoding_ends(self) -> None:
        """Nothing is kept: the cache went with the last token."""

    def adapter_changed(self) -> None:
        """Nothing is copied: the adapter is live."""
