"""What a task asks of one turn of the loop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from templora_cli.events import Chunk, Event, Origin


class Decode(Protocol):
    """What a writer decodes with; `temp_lora.Decode` says how it behaves."""

    def __call__(
        self, after: Sequence[int], *, max_tokens: int, ends: Collection[int], temperature: float
    ) -> Iterator[int]:
        """The tokens that follow."""


Writer = Callable[[int, Decode], Generator[Event, None, Chunk]]


@dataclass(frozen=True)
class Turn:
    """One chunk to write or to read. Implements `temp_lora.Turn`, where the fields are described."""

    header: tuple[int, ...]
    context: tuple[int, ...]
    origin: Origin
    given: tuple[int, ...]
    max_tokens: int
    complete: Callable[[Sequence[int]], bool]
    loss_mask: tuple[bool, ...] = ()
    writer: Writer | None = None
