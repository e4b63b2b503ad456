"""How tokens come out of the model. The loop sees only the protocol; speed lives behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 256
"""Places by which buffers of keys and values grow; a graph is captured anew each time."""


class TokenOut(NamedTuple):
    """One decoded token."""

    id: int
    logits: Tensor | None = None
    """What the sampler drew it from, [V]; None where that is not known any more."""


class Sampler(Protocol):
    """Turns logits into tokens."""

    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        """The token that follows `ids`, from `logits` [V]."""


Stop = Callable[[Sequence[int]], bool]
"""Is the chunk, given its tokens so far, complete? Asked after every token."""


class Backend(Protocol):
    """The decode seam."""

    exact: bool
    """Does the same state give the same tokens?"""

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[TokenOut]:
        """At most `max_tokens` tokens after `prompt`, until `stop` says so.

        The sampler is asked exactly once for each token that comes out, never ahead of need: what it draws
        must not depend on how fast tokens come.
        """

    def chunk_begins(self) -> None:
        """Whatever was kept of earlier decoding goes: a session that is resumed here has not done any."""

    def decoding_ends(self) -> None:
        """Nothing more is decoded until a chunk begins or is tried again: memory for that goes."""

    def adapter_changed(self) -> None:
        """The adapter's weights were written in place, by training or by restoring."""
