"""Tables for the available width: columns if they fit, otherwise a block of lines for each row.

Numbers and ids are never broken; text can be.
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
MIN_CELLS = 10
"""Minimum width of a column of text, unless its max_cell word is wider."""
WORD_CELLS, BROKEN_CELLS = 24, 16
"""Words wider than the first are broken; the minimum width of their column is the second."""
INDENT = 2
BETWEEN_FACTS = 3


def layout_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    texts: Collection[str] = (),
    optional: Collection[str] = (),
) -> RenderableType:
    """The table or blocks, for a console that does not crop; only a single wide number can exceed `width`.

    `texts` are the heads of columns whose cells can be broken over several lines. If the columns do not fit,
    those without any value are left out; if that is not enough, `optional` ones too.
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = _widths(columns, cells, width, texts)
    if widths is None:
        columns, cells = _without_empty(columns, cells)
        widths = _widths(columns, cells, width, texts)
    if widths is None and optional:
        fewer, fewer_cells = _columns_at(
            [i for i, head in enumerate(columns) if head not in optional], columns, cells
        )
        if (widths := _widths(fewer, fewer_cells, width, texts)) is not None:
            columns, cells = fewer, fewer_cells
    is_number = [
        head not in texts and all(row[number][:1] in "+-0123456789" for row in cells)
        for number, head in enumerate(columns)
    ]
    if widths is not None:
        return _table(columns, cells, widths, is_number)
    return Group(*_blocks(columns, cells, width, texts, numbered=is_number[0]))


def _without_empty(columns: Sequence[str], cells: list[list[str]]) -> tuple[Sequence[str], list[list[str]]]:
    """Only the first column and those with values."""
    used = [i for i in range(len(columns)) if not i or any(row[i] not in ("", "-") for row in cells)]
    return _columns_at(used, columns, cells)


def _columns_at(
    used: Sequence[int], columns: Sequence[str], cells: list[list[str]]
) -> tuple[Sequence[str], list[list[str]]]:
    return [columns[i] for i in used], [[row[i] for i in used] for row in cells]


def _widths(
    columns: Sequence[str], cells: list[list[str]], width: int, texts: Collection[str]
) -> list[int] | None:
    """The width of each column; None if the narrowest table does not fit."""
    natural, narrowest = [], []
    for number, head in enumerate(columns):
        max_cell = max((cell_len(row[number]) for row in cells), default=0)
        word = max(map(cell_len, head.split()), default=1)
        natural.append(max(max_cell, cell_len(head)))
        if head in texts:
            words = max((cell_len(part) for row in cells for part in row[number].split()), default=0)
            max_cell = min(max_cell, BROKEN_CELLS if words > WORD_CELLS else max(words, MIN_CELLS))
        narrowest.append(max(word, max_cell))
    spare = width - sum(narrowest) - GAP * (len(columns) - 1)
    if spare < 0:
        return None
    widths = narrowest
    for _ in range(spare):
        missing = [target - current for target, current in zip(natural, widths, strict=True)]
        if (largest := max(missing)) <= 0:
            break
        widths[missing.index(largest)] += 1
    return widths


def _table(columns: Sequence[str], cells: list[list[str]], widths: list[int], is_number: list[bool]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for head, width, to_right in zip(columns, widths, is_number, strict=True):
        table.add_column(Text(head), width=width, justify="right" if to_right else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    return table


def _blocks(
    columns: Sequence[str], cells: list[list[str]], width: int, texts: Collection[str], *, numbered: bool
) -> Iterator[Text]:
    """For each row its first cell as a name, and below it `label: value`, side by side if they fit.

    A fact has the same position in every block. The name of a `numbered` row is like "chunk 3".
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
    """The facts of each line, by index."""
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
    """`text` as one line, or as several lines with a hanging indent."""
    broken = wrapped(text, width, indent, hanging=indent + " " * INDENT, breakable=breakable)
    return [_line(line, style) for line in broken]


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ignore")
