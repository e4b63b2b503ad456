"""Break prose into lines of a screen while it is generated."""

from __future__ import annotations

from rich.cells import get_character_cell_size


class ProseLines:
    """Breaks a stream of prose into lines of a screen. The lines joined are the text."""

    def __init__(self) -> None:
        self.rest = ""
        """The line in progress."""

    def feed(self, text: str, columns: int) -> list[tuple[str, str]]:
        """The lines that `text` completes, each with its end: a newline of the text, or ""."""
        self.rest += text
        lines = []
        while (end := _line_end(self.rest, max(2, columns))) is not None:
            newline = "\n" if self.rest.startswith("\n", end) else ""
            lines.append((self.rest[:end], newline))
            self.rest = self.rest[end + len(newline) :]
        return lines


def last_lines(text: str, columns: int, count: int = 5) -> list[str]:
    """The last `count` lines of a text on a screen, without blank lines around them."""
    lines = ProseLines()
    rows = [*lines.feed(text.strip(), columns), (lines.rest, "")]
    first = max(0, len(rows) - count)
    while not rows[first][0].strip() and first < len(rows) - 1:
        first += 1
    return [line.rstrip() for line, _ in rows[first:]]


SPACES = " \u3000"
NEVER_FIRST = frozenset("、。，．！？：；・…—～」』）】》〉〕”’ー々,.!?:;)]}'\"%\u200d\ufe0f")
NEVER_LAST = frozenset("「『（【《〈〔“‘([{\u200d")


def _line_end(text: str, columns: int) -> int | None:
    """The index at which the first line of `text` ends: a newline or the best break; None if it continues.

    The break is chosen at the first character that does not fit, so it does not depend on how the stream is
    divided. Spaces at the end of a line may exceed the width.
    """
    cells, best, has_text = 0, 0, False
    for index, char in enumerate(text):
        if char == "\n":
            return index
        if has_text and _may_break(text, index):
            best = index
        has_text = has_text or char not in SPACES
        cells += _cells(char)
        if cells > columns and char not in SPACES:
            while not best and index > 1 and (_cells(text[index]) == 0 or text[index] in NEVER_FIRST):
                index -= 1
            return best or max(1, index)
    return None


def _may_break(text: str, index: int) -> bool:
    before, after = text[index - 1], text[index]
    if after in SPACES or _cells(after) == 0:
        return False
    if before in "-–—" and index > 1:
        return text[index - 2].isalpha() and after.isalpha()
    is_cjk = _cells(before) == 2 or _cells(after) == 2
    return before in SPACES or (is_cjk and before not in NEVER_LAST and after not in NEVER_FIRST)


def _cells(char: str) -> int:
    return 1 if char == "\ufe0f" else get_character_cell_size(char)
