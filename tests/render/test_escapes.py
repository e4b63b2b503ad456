"""Whatever a terminal would obey is made visible, on the screen and in JSON."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.render.escapes import as_json, harmless, one_line

ANY = st.text(st.one_of(st.characters(), st.sampled_from("\x1b\x07\x9b\x9d\u202e\u2066\udc9b\x7f\r\t\n")))


def obeyed(text: str) -> set[str]:
    """Characters of `text` that a terminal obeys, or cannot be sent."""
    bidi = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return {
        char
        for char in text
        if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(char) in bidi
    }


@given(ANY)
def test_nothing_is_obeyed(text: str) -> None:
    assert obeyed(harmless(text)) <= {"\n"} and obeyed(one_line(text)) == set()
    assert harmless(text).count("\n") == text.count("\n")


@given(ANY)
def test_other_text_is_as_it_was(text: str) -> None:
    clean = "".join(char for char in text if not obeyed(char))
    assert harmless(clean) == one_line(clean) == clean


@given(
    st.dictionaries(ANY, st.one_of(ANY, st.lists(ANY), st.integers(), st.none())), st.sampled_from([None, 2])
)
def test_json_is_the_same_value_and_obeyed_by_nothing(value: dict[str, object], indent: int | None) -> None:
    written = as_json(value, indent=indent)
    assert json.loads(written) == value
    assert obeyed(written) <= {"\n"}
    written.encode("utf-8")


def test_json_stays_readable() -> None:
    assert as_json({"a": "灯\x9b"}) == '{"a": "灯\\u009b"}'


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_has_null_for_other_numbers(number: float) -> None:
    assert as_json({"a": [number, (1.5, number)]}) == '{"a": [null, [1.5, null]]}'
