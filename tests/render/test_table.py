"""Tables at any width: figures are whole, and no line is wider than the terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from templora_cli.render.escapes import one_line
from templora_cli.render.table import layout_table

HEADS = ["session", "state", "words", "model", "NLL adapter", "gain", "last opened (UTC)", "s/1K written"]
FIGURES = st.one_of(
    st.floats(-1e12, 1e12).map(lambda value: f"{value:.3f}"),
    st.integers(0, 10**15).map(lambda value: f"{value:,}"),
    st.sampled_from(["-", "2.600 2.550", "500/1000 words", "a-fox-in-the-snow-3f2a", "2026-11-30 07:51"]),
)
TEXTS = st.text(st.sampled_from("abcdefghij 灯海“”é-_/.[]\t\n\x1b"), max_size=90)


def shown(
    columns: list[str], rows: list[list[str]], width: int, texts: tuple[str, ...] = ("model",)
) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width)
    console.print(layout_table(columns, rows, width, texts=texts), crop=False)
    return [line.rstrip() for line in file.getvalue().splitlines()]


@given(st.data(), st.integers(1, len(HEADS)), st.integers(1, 4), st.integers(20, 200))
def test_figures_are_whole_and_lines_fit(data: st.DataObject, columns: int, number: int, width: int) -> None:
    heads = HEADS[:columns]
    kinds = [TEXTS if head == "model" else FIGURES for head in heads]
    rows = [[data.draw(kind) for kind in kinds] for _ in range(number)]
    lines = shown(heads, rows, width)
    words = {word for line in lines for word in line.split()}
    for row in rows:
        for head, cell in zip(heads, row, strict=True):
            if head == "model":
                letters = "".join(one_line(cell).split())
                assert set(letters.replace("-", "")) <= set("".join(words))
            elif cell != "-":
                assert words.issuperset(cell.split()), (cell, lines)
    for line in lines:
        assert cell_len(line) <= width or len(line.split()) == 1, line


@pytest.mark.parametrize(
    ("width", "heads"),
    [
        (21, ["session", "kind", "words"]),
        (20, ["session", "words"]),
        (14, ["session", "words"]),
        (13, ["storm"]),
    ],
)
def test_an_optional_column_is_shown_if_it_fits_and_in_blocks(width: int, heads: list[str]) -> None:
    file = io.StringIO()
    table = layout_table(["session", "kind", "words"], [["storm", "novel", "5"]], width, optional=("kind",))
    Console(file=file, width=width).print(table, crop=False)
    lines = file.getvalue().splitlines()
    assert lines[0].split() == heads
    assert any("novel" in line for line in lines) == (width in (21, 13))


@given(st.lists(TEXTS, min_size=1, max_size=3), st.integers(20, 200))
def test_nothing_of_a_text_is_lost(cells: list[str], width: int) -> None:
    told = shown(["model"], [[cell] for cell in cells], width)
    lines = [line for line in told if line != "model" and not line.startswith("─")]
    wanted = "".join(one_line(cell) for cell in cells)
    assert "".join("".join(lines).split()) == "".join(wanted.split())


ROWS = [
    ["a-fox-in-the-snow-3f2a", "finished", "48847", "/home/me/models/SmolLM2-135M-Instruct", "48847.000"],
    ["quiet-harbour", "500/1000 words", "512", "smollm2-135m", "-"],
]
COLUMNS = ["session", "state", "words", "model", "gain"]


def test_a_wide_terminal_gets_a_table() -> None:
    assert shown(COLUMNS, ROWS, 120) == [
        "session                 state           words  model                                       gain",
        "─" * 95,
        "a-fox-in-the-snow-3f2a  finished        48847  /home/me/models/SmolLM2-135M-Instruct  48847.000",
        "quiet-harbour           500/1000 words    512  smollm2-135m                                   -",
    ]


def test_a_text_is_broken_before_the_table_is_given_up() -> None:
    lines = shown(COLUMNS, ROWS, 80)
    assert lines[0].split() == COLUMNS and len(lines) == 5
    assert "48847  /home/me/models/SmolLM  48847.000" in lines[2]


def test_a_narrow_terminal_gets_a_block_for_each_row() -> None:
    assert shown(COLUMNS, ROWS, 40) == [
        "a-fox-in-the-snow-3f2a",
        "  state: finished         words: 48847",
        "  model:",
        "    /home/me/models/SmolLM2-135M-Instruc",
        "    t",
        "  gain: 48847.000",
        "quiet-harbour",
        "  state: 500/1000 words   words: 512",
        "  model: smollm2-135m",
        "  gain: -",
    ]


def test_a_row_without_a_name_is_named_by_its_number() -> None:
    columns = ["chunk", "origin", "NLL adapter"]
    lines = shown(columns, [["1", "human", "2.500"], ["2", "generated", "2.444"]], 20)
    assert lines == [
        *("chunk 1", "  origin: human", "  NLL adapter: 2.500"),
        *("chunk 2", "  origin: generated", "  NLL adapter: 2.444"),
    ]


def test_columns_without_values_are_left_out_where_room_is_scarce() -> None:
    columns, row = ["depth", "NLL base", "probe PPL"], ["0", "5.509", "-"]
    assert shown(columns, [row], 80)[0].split() == ["depth", "NLL", "base", "probe", "PPL"]
    assert shown(columns, [row], 17) == ["depth  NLL base", "─" * 15, "    0     5.509"]


@pytest.mark.parametrize("width", [20, 80])
def test_a_table_without_rows(width: int) -> None:
    assert " ".join(shown(COLUMNS, [], width)).count("session") <= 1


def test_cells_are_harmless_and_of_one_line() -> None:
    lines = shown(["book", "PPL"], [["a\x1b]0;x\x07\n\u202eb[red]", "1"]], 80, ("book",))
    assert lines[-1].split() == ["a␛]0;x␇␤\ufffdb[red]", "1"]
