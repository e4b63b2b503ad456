"""What a task asks of one turn of the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from templora_cli.events import Origin


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
