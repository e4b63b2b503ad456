"""Line numbers in TOML files."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from templora_cli.memory.toml_lines import line_of, statement_lines

TEXT = '''\
# [[person]]
a = "[" # (
b = """
[[x]]
c = 1\\""" """
d = [
  "]", # ]
  \'\'\'
[\'\'\',
]

[[t]]
e = {f = "#"}
'''


def test_statements_begin_where_no_value_is_open() -> None:
    assert statement_lines(TEXT) == [1, 2, 3, 6, 11, 12, 13, 14]


def test_an_open_value_reaches_to_the_end() -> None:
    for value in ('"""x\n', "'''\n\n", '["a",\n"b"\n'):
        assert statement_lines(f"a = 1\nb = {value}\nc = 1\n")[-1] == 2


def test_the_line_of_a_key() -> None:
    for key, line in (("a", 2), ("b", 3), ("d", 6), ("t", 12)):
        assert line_of(TEXT, lambda tables, key=key: key in tables) == line  # type: ignore[misc]
    assert line_of(TEXT, lambda tables: "e" in tables.get("t", [{}])[0]) == 13


VALUES = st.sampled_from(
    ['"x"', '"""\n[[q]]\n"""', "'''#\n'''", "[\n 1,\n]", "[[1],\n[2]] # [", '"\\"["', "{z = 1}"]
)


@given(st.lists(st.tuples(VALUES, st.sampled_from(["", "\n", "# '''\n", '#"""\n'])), min_size=1, max_size=8))
def test_every_key_has_the_line_where_it_was_written(statements: list[tuple[str, str]]) -> None:
    text, lines = "", []
    for number, (value, after) in enumerate(statements):
        lines.append(text.count("\n") + 1)
        text += f"k{number} = {value}\n{after}"

    def has(number: int) -> Any:
        return lambda tables: f"k{number}" in tables

    assert [line_of(text, has(number)) for number in range(len(statements))] == lines
