"""Chunks that are only proposed: they are learnt when the author of the book has decided about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from templora_cli.turn import Generate, Task, Turn


@dataclass(frozen=True)
class Proposing:
    """A task whose prose is only proposed. Implements `turn.Task`."""

    task: Task

    def next_turn(self, book: Sequence[int], records: Sequence[Any]) -> Turn | None:
        """See `turn.Task`."""
        turn = self.task.next_turn(book, records)
        return replace(turn, proposed=True) if isinstance(turn, Generate) else turn

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Turn:
        """See `turn.Task`."""
        return self.task.replay(chunk, book, records)

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return self.task.text_stream(book)
