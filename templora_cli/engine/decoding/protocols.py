"""The protocols of decoding. The writing loop knows a backend only by its protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 256
"""Positions by which key-value buffers grow. Each time they do, a CUDA graph is captured again."""


class DecodedToken(NamedTuple):
    """One decoded token."""

    id: int
    logits: Tensor | None = None
    """The logits [V] that it was drawn from; None if they are no longer available."""


class Sampler(Protocol):
    """Draws tokens from logits."""

    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        """Draw the token that follows `ids` from `logits` [V]."""


Stop = Callable[[Sequence[int]], bool]
"""Is the chunk complete after these tokens? Called after each token."""


class Backend(Protocol):
    """Decodes tokens with a model and its adapter."""

    exact: bool
    """Does the same state always give the same tokens?"""

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        """Yield tokens that follow `prompt`, at most `max_tokens`, until `stop` returns true.

        Calls the sampler exactly once per yielded token and never ahead of need: the random draws must not
        depend on how a backend schedules its work.

        To rewind, call it again with the first of the tokens appended to `prompt`. What was read since the
        last `reset`, `free_cache` or `adapter_changed` is not read again, except by models that cannot cut
        back what they remember (recurrent ones), and the logits are those that the same tokens had before.
        Only the latest call may be continued.
        """

    def reset(self) -> None:
        """Drop all state of earlier decoding: a session that is resumed here does not have it."""

    def free_cache(self) -> None:
        """Free the memory for decoding: nothing is decoded until a chunk begins or is retried."""

    def adapter_changed(self) -> None:
        """Note that the adapter's weights were changed in place, by training or by restoring."""
