"""Keep the book prose: find faults in decoded tokens, and where decoding goes on after one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from templora_cli.languages import detect_code
from templora_cli.novel.marks import story_end
from templora_cli.novel.prose_checks import first_fault
from templora_cli.novel.sentence_end import may_end_paragraph
from templora_cli.prompt_files import PromptFile
from templora_cli.scripts import script_runs, scripts_of
from templora_cli.turn import Fault

BEFORE_TOKENS = 2048
"""Tokens of the book that the checks read before a chunk."""
FIRST_SCENE = 2
"""The first attempt, from 0, that begins with a scene: other random numbers alone did not help."""


@dataclass(frozen=True)
class Prose:
    """What the prose of a book must be like."""

    decode: Callable[[Sequence[int]], str]
    tokenizer: Any
    texts: PromptFile
    """The prompt file with the beginnings of scenes."""
    premise: str = ""
    language: str = ""
    """The code of the language; "" if the book decides."""
    ledger: str = ""
    """Names and notes, whose scripts are allowed too."""
    headings: bool = False
    """May the model write headings of chapters itself? With a plan they are not its business."""

    def checks(self, book: Sequence[int]) -> dict[str, Any]:
        """The fields `fault` and `restart` of a `Generate` turn after `book`."""
        return {"fault": partial(self.fault, book), "restart": partial(self.restart, book)}

    def fault(self, book: Sequence[int], tokens: Sequence[int]) -> Fault | None:
        """The first fault in `tokens` after `book`."""
        text, before = self.decode(tokens), self.decode(book[max(0, len(book) - BEFORE_TOKENS) :])
        found = first_fault(
            text,
            f"{self.premise}\n\n{before}",
            scripts=self._scripts(before),
            headings=self.headings,
            check_end=False,
        )
        reason, start = (found.reason, found.start) if found else ("", len(text) + 1)
        if (end := story_end(text)) is not None and end < start:
            reason, start = "the model ends the story before the book ends", end
        if not reason:
            return None
        good = bisect_right(
            range(1, len(tokens) + 1), start, key=lambda count: len(self.decode(tokens[:count]))
        )
        return Fault(reason, good)

    def restart(self, book: Sequence[int], attempt: int, good: Sequence[int]) -> tuple[int, ...]:
        """Tokens with which an attempt goes on after the `good` ones; the third begins a new scene."""
        before = self.decode([*book[max(0, len(book) - BEFORE_TOKENS) :], *good])
        language = self.language or detect_code(before or self.premise) or "en"
        scenes = self.texts.texts["scenes"].get(language.split("-")[0], "").strip().split("\n")
        if attempt < FIRST_SCENE or not scenes[0] or not may_end_paragraph(before):
            return ()
        gap = "\n" * max(0, 2 - (len(before) - len(before.rstrip("\n")))) if before else ""
        scene = scenes[(attempt - FIRST_SCENE) % len(scenes)]
        return tuple(self.tokenizer.encode(gap + scene, add_special_tokens=False))

    def _scripts(self, before: str) -> frozenset[str] | None:
        if not self.language:
            return None
        return scripts_of(self.language) | {script for script, _ in script_runs(self.ledger)}
