"""Languages by code and by name."""

from __future__ import annotations

import pytest

from templora_cli.errors import TemploraError
from templora_cli.tasks.languages import language


@pytest.mark.parametrize(
    ("text", "code", "name"),
    [
        ("zh", "zh", "Chinese"),
        ("Chinese", "zh", "Chinese"),
        ("english", "en", "English"),
        ("Deutsch", "de", "German"),
        ("zho", "zh", "Chinese"),
        ("pt-BR", "pt-BR", "Portuguese (Brazil)"),
    ],
)
def test_a_code_or_a_name(text: str, code: str, name: str) -> None:
    found = language(text)
    assert (found.code, found.name) == (code, name)
    assert found.base == code.split("-")[0]


@pytest.mark.parametrize("text", ["", "xx", "qqqq", "../en"])
def test_no_language(text: str) -> None:
    with pytest.raises(TemploraError, match="no language is called"):
        language(text)
