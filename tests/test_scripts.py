"""Scripts of characters and languages, and the length of a text."""

from __future__ import annotations

import re
import unicodedata

import pytest

from templora_cli.scripts import latin_length, script_runs, scripts_of, units, without_tags

NAMES = {
    "Latn": "LATIN|ROMAN|ORDINAL INDICATOR|MODIFIER|SUPERSCRIPT",
    "Hani": "CJK|IDEOGRAPHIC",
    "Hira": "HIRAGANA",
    "Kana": "KATAKANA",
    "Hang": "HANGUL",
    "Cyrl": "CYRILLIC",
    "Grek": "GREEK",
}
"""Words in the Unicode names of a script's characters."""


def test_letters_belong_to_the_script_in_their_unicode_name() -> None:
    tested = set()
    for char in map(chr, range(0x10000)):
        name = unicodedata.name(char, "")
        if unicodedata.category(char) not in ("Lu", "Ll", "Lo") or not name:
            continue
        ((script, _),) = list(script_runs(char)) or [("", "")]
        tested.add(script)
        assert script not in NAMES or re.search(NAMES[script], name), (hex(ord(char)), name, script)
        for code in ("Hani", "Hira", "Kana", "Hang"):  # none of these may be missing
            if name.startswith(NAMES[code].split("|")[0] + " "):
                assert script == code, (hex(ord(char)), name, script)
    assert tested > NAMES.keys()


@pytest.mark.parametrize(
    ("code", "scripts"),
    [
        ("zh", {"Hani"}),
        ("zh-TW", {"Hani"}),
        ("ja", {"Hani", "Hira", "Kana"}),
        ("ko", {"Hang", "Hani"}),
        ("en", {"Latn"}),
        ("ru", {"Cyrl"}),
        ("sr-Latn", {"Latn"}),
        ("am", set()),
    ],
)
def test_scripts_of_languages(code: str, scripts: set[str]) -> None:
    assert scripts_of(code) == scripts


def test_units_are_words_or_characters() -> None:
    assert units("He didn't — 他没去, 2 times.") == ["he", "didn't", "他", "没", "去", "2", "times"]


def test_tags_do_not_count_as_text() -> None:
    assert without_tags("a <1>b</1> <23/>c <em>d</em> <1 >") == "a b c <em>d</em> <1 >"
    assert latin_length(without_tags("<1>ab</1>")) == 2
