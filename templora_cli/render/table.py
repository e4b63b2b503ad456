"""Tables for the width that there is: columns where they fit, else a block of lines for each row.

A figure or an id is never broken; a text may be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from templora_cli.render.escapes import one_line
from templora_cli.render.lines import wrapped

GAP = 2
LEAST_CELLS = 10
"""A column of text may be as narrow as this or as its longest word, ..."""
WORD_CELLS, BROKEN_CELLS = 24, 16
"""... but words longer than the first are broken, and then the second is its least width."""
INDENT = 2
BETWEEN_FACTS = 3


def laid_out(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, texts: Collection[str] = ()
) -> RenderableType:
    """What to print, to a console that crops nothing; no line is wider than `width` but for a figure that is.

    `texts` are the heads of the columns whose cells may be broken over several lines. Where there is not
    room for all columns, those without any value are left out.
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = _widths(columns, cells, width, texts)
    if widths is None:
        columns, cells = _without_empty(columns, cells)
        widths = _widths(columns, cells, width, texts)
    figures = [
        head not in texts and all(row[number][:1] in "+-0123456789" for row in cells)
        for number, head in enumerate(columns)
    ]
    if widths is not None:
        return _table(columns, cells, widths, figures)
    return Group(*_blocks(columns, cells, width, texts, numbered=figures[0]))


def _without_empty(columns: Sequence[str], cells: list[list[str]]) -> tuple[Sequence[str], list[list[str]]]:
    """Only the columns in which something stands, and the first."""
    kept = [at for at in range(len(columns)) if not at or any(row[at] not in ("", "-") for row in cells)]
    return [columns[at] for at in kept], [[row[at] for at in kept] for row in cells]


def _widths(
    columns: Sequence[str], cells: list[list[str]], width: int, texts: Collection[str]
) -> list[int] | None:
    """The cells of each column; None where the narrowest table does not fit."""
    natural, narrowest = [], []
    for number, head in enumerate(columns):
        longest = max((cell_len(row[number]) for row in cells), default=0)
        word = max(map(cell_len, head.split()), default=1)
        natural.append(max(longest, cell_len(head)))
        if head in texts:
            words = max((cell_len(part) for row in cells for part in row[number].split()), default=0)
            longest = min(longest, BROKEN_CELLS if words > WORD_CELLS else max(words, LEAST_CELLS))
        narrowest.append(max(word, longest))
    spare = width - sum(narrowest) - GAP * (len(columns) - 1)
    if spare < 0:
        return None
    widths = narrowest
    for _ in range(spare):
        lacking = [wanted - given for wanted, given in zip(natural, widths, strict=True)]
        if (most := max(lacking)) <= 0:
            break
        widths[lacking.index(most)] += 1
    return widths


def _table(columns: Sequence[str], cells: list[list[str]], widths: list[int], figures: list[bool]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for head, width, is_figure in zip(columns, widths, figures, strict=True):
        table.add_column(Text(head), width=width, justify="right" if is_figure else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    return table


def _blocks(
    columns: Sequence[str], cells: list[list[str]], width: int, texts: Collection[str], *, numbered: bool
) -> Iterator[Text]:
    """For each row its first cell as a name, and below it `label: value`, side by side where they fit.

    A fact stands in the same place in every block. Rows that are `numbered` are called "chunk 3".
    """
    name, *heads = columns
    facts = [[f"{head}: {cell or '-'}" for head, cell in zip(heads, row[1:], strict=True)] for row in cells]
    sizes = [max(map(cell_len, column)) for column in zip(*facts, strict=True)]
    lines = _side_by_side(sizes, width - INDENT)
    for row, its_facts in zip(cells, facts, strict=True):
        named = f"{name} {row[0]}" if numbered else row[0]
        yield from _lines(named, width, "", breakable=name in texts, style="bold")
        for first, *others in lines:
            if not others:
                yield from _lines(its_facts[first], width, " " * INDENT, breakable=heads[first] in texts)
                continue
            padded = [its_facts[at] + " " * (sizes[at] - cell_len(its_facts[at])) for at in (first, *others)]
            yield _line(" " * INDENT + (" " * BETWEEN_FACTS).join(padded).rstrip())


def _side_by_side(sizes: Sequence[int], width: int) -> list[list[int]]:
    """Which facts share a line, by their numbers."""
    lines: list[list[int]] = []
    used = 0
    for number, size in enumerate(sizes):
        if lines and used + BETWEEN_FACTS + size <= width:
            lines[-1].append(number)
            used += BETWEEN_FACTS + size
        else:
            lines.append([number])
            used = size
    return lines


def _lines(text: str, width: int, indent: str, *, breakable: bool, style: str = "") -> list[Text]:
    """`text` as one line, or as several of which those after the first are indented further."""
    broken = wrapped(text, width, indent, hanging=indent + " " * INDENT, breakable=breakable)
    return [_line(line, style) for line in broken]


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ignore")
