"""Keep the book prose: find faults in decoded tokens, and where decoding goes on after one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from templora_cli.languages import detect_code
from templora_cli.memory.recall import copied_run
from templora_cli.novel.marks import story_end
from templora_cli.novel.prose_checks import first_fault
from templora_cli.novel.sentence_end import may_end_paragraph
from templora_cli.prompt_files import PromptFile
from templora_cli.scripts import scripts_of
from templora_cli.turn import Fault

BEFORE_TOKENS = 2048
"""Tokens of the book that the checks read before a chunk."""
COPIED_WORDS = 6
"""Words of a copied run that the reason names."""
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
    ledger_scripts: frozenset[str] = frozenset()
    """Scripts of the ledger's names and notes, which are allowed too."""
    headings: bool = False
    """May the model write headings of chapters itself? With a plan they are not its business."""

    def checks(
        self, book: Sequence[int], recalled: Sequence[str] = (), *, may_finish: bool = False
    ) -> dict[str, Any]:
        """The fields `fault` and `restart` of a `Generate` turn after `book`.

        `recalled` are passages that the prompt shows again, and must not be copied. With `may_finish` the
        text may end with "The End".
        """
        fault = partial(self.fault, book, recalled=recalled, may_finish=may_finish)
        return {"fault": fault, "restart": partial(self.restart, book)}

    def fault(
        self,
        book: Sequence[int],
        tokens: Sequence[int],
        *,
        recalled: Sequence[str] = (),
        may_finish: bool = False,
    ) -> Fault | None:
        """The first fault in `tokens` after `book`."""
        text, before = self.decode(tokens), self.decode(book[max(0, len(book) - BEFORE_TOKENS) :])
        faults = [*self._first_fault(text, before), *_copied(text, recalled)]
        end = story_end(text)
        if end is not None and not (may_finish and not text[end[1] :].strip()):
            faults.append((end[0], "the model ends the story before the book ends"))
        if not faults:
            return None
        start, reason = min(faults)
        good = bisect_right(
            range(1, len(tokens) + 1), start, key=lambda count: len(self.decode(tokens[:count]))
        )
        return Fault(reason, good)

    def _first_fault(self, text: str, before: str) -> Iterator[tuple[int, str]]:
        found = first_fault(
            text,
            f"{self.premise}\n\n{before}",
            scripts=self._scripts(),
            headings=self.headings,
            check_end=False,
        )
        if found is not None:
            yield found.start, found.reason

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

    def _scripts(self) -> frozenset[str] | None:
        return scripts_of(self.language) | self.ledger_scripts if self.language else None


def _copied(text: str, recalled: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The first run of words that is copied from a recalled passage, from its paragraph on."""
    run = copied_run(text, recalled)
    if run is not None:
        start = text.index(run)
        words = " ".join(run.split()[:COPIED_WORDS])
        yield text.rfind("\n", 0, start) + 1, f"it copies an earlier passage: “{words} …”"
