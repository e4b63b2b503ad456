"""Prose as lines of a screen, while it is still being written."""

from __future__ import annotations

from rich.cells import get_character_cell_size


class ProseLines:
    """Breaks a stream of prose into lines of a screen and loses nothing of it."""

    def __init__(self) -> None:
        self.rest = ""
        """The line in progress."""

    def feed(self, text: str, columns: int) -> list[tuple[str, str]]:
        """The lines that `text` completes, each with what ended it: a newline of the text, or ""."""
        self.rest += text
        lines = []
        while (end := _line_end(self.rest, max(2, columns))) is not None:
            newline = "\n" if self.rest.startswith("\n", end) else ""
            lines.append((self.rest[:end], newline))
            self.rest = self.rest[end + len(newline) :]
        return lines


SPACES = " \u3000"
NEVER_FIRST = frozenset("、。，．！？：；・…—～」』）】》〉〕”’ー々,.!?:;)]}'\"%\u200d\ufe0f")
NEVER_LAST = frozenset("「『（【《〈〔“‘([{\u200d")


def _line_end(text: str, columns: int) -> int | None:
    """Where the first line of `text` ends: at a newline, at the best break, or nowhere yet (None).

    Decided at the first character that does not fit, so that it does not matter in which pieces the text
    comes. Spaces at the end of a line hang over its edge.
    """
    cells, best, begun = 0, 0, False
    for at, char in enumerate(text):
        if char == "\n":
            return at
        if begun and _may_break(text, at):
            best = at
        begun = begun or char not in SPACES
        cells += _cells(char)
        if cells > columns and char not in SPACES:
            while not best and at > 1 and (_cells(text[at]) == 0 or text[at] in NEVER_FIRST):
                at -= 1
            return best or max(1, at)
    return None


def _may_break(text: str, at: int) -> bool:
    before, after = text[at - 1], text[at]
    if after in SPACES or _cells(after) == 0:
        return False
    if before in "-–—" and at > 1:
        return text[at - 2].isalpha() and after.isalpha()
    wide = _cells(before) == 2 or _cells(after) == 2
    return before in SPACES or (wide and before not in NEVER_LAST and after not in NEVER_FIRST)


def _cells(char: str) -> int:
    return 1 if char == "\ufe0f" else get_character_cell_size(char)
