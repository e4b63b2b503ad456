"""The text of a book by chapters, and the passages of it that matter for the next chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from templora_cli.memory.recall import Recall, situation

BLOCK = 4096
"""Tokens that are decoded together and once. Blocks are counted from the beginning of a chapter, so that a
resumed book is cut in the same places.
"""
OVERHEAD, LINE_OVERHEAD = 16, 4
"""Tokens that the prompt needs for all passages and for each: a title, and marks of a list."""
Decode = Callable[[Sequence[int]], str]
Span = tuple[int, int]
"""Where the heading of a chapter begins, and where its text, in tokens of the book."""


@dataclass
class ChapterTexts:
    """The texts of the chapters of a growing book, without headings; text before the first is one too."""

    decode: Decode
    _decoded: dict[Span, str] = field(default_factory=dict)
    """Text that no longer changes, by its first and last token: finished chapters, and whole blocks."""

    def of(self, book: Sequence[int], chapters: Sequence[Span]) -> list[str]:
        """The text of each chapter so far."""
        starts = [0, *(body for _, body in chapters)]
        ends = [*(heading for heading, _ in chapters), len(book)]
        spans = [(start, end) for start, end in zip(starts, ends, strict=True) if end > start or start]
        return [self._finished(book, span) for span in spans[:-1]] + [
            self._growing(book, span) for span in spans[-1:]
        ]

    def _finished(self, book: Sequence[int], span: Span) -> str:
        if span not in self._decoded:
            text, (start, end) = self._growing(book, span), span
            for block in range(start, end, BLOCK):
                self._decoded.pop((block, block + BLOCK), None)
            self._decoded[span] = text
        return self._decoded[span]

    def _growing(self, book: Sequence[int], span: Span) -> str:
        start, end = span
        blocks = range(start, end - BLOCK + 1, BLOCK)
        for block in blocks:
            if (block, block + BLOCK) not in self._decoded:
                self._decoded[block, block + BLOCK] = self.decode(book[block : block + BLOCK])
        whole = [self._decoded[block, block + BLOCK] for block in blocks]
        return "".join([*whole, self.decode(book[start + len(blocks) * BLOCK : end])])


@dataclass
class BookRecall:
    """Recalls passages of the book so far and of earlier volumes."""

    decode: Decode
    count_tokens: Callable[[str], int]
    recall: Recall
    context_tokens: int
    max_tokens: int
    line: Callable[[str, str], str] = lambda passage, volume: f"“{passage}”"
    """The line of the prompt for a passage of a volume; the volume is "" for the book itself."""
    names_in: Callable[[str, str], Sequence[str]] = lambda recent, planned: ()
    """Names of the ledger in the recent text and the plan: scripts without capitals show no names."""
    _texts: ChapterTexts = field(init=False)

    def __post_init__(self) -> None:
        self._texts = ChapterTexts(self.decode)

    def __call__(self, book: Sequence[int], chapters: Sequence[Span], planned: str) -> list[str]:
        """Passages that matter for the next chunk, the best first; `planned` is the plan of its chapter."""
        self.recall.update(self._texts.of(book, chapters))
        recent = self.decode(book[max(0, len(book) - self.context_tokens) :])
        names = self.names_in(recent, planned)
        found = self.recall.find(situation(recent, planned), window=recent, names=names)
        lines = [self.line(" ".join(passage.text.split()), passage.volume) for passage in found]
        return list(self._fitting(lines))

    def _fitting(self, lines: Sequence[str]) -> Iterator[str]:
        """The best lines that fit into `max_tokens`; a long one that does not is left out."""
        remaining = self.max_tokens - OVERHEAD
        for line in lines:
            size = self.count_tokens(line) + LINE_OVERHEAD
            if size <= remaining:
                remaining -= size
                yield line
