"""The ledger: its file, the errors of people, and the entries for a prompt."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from templora_cli.memory.ledger import KINDS, MAX_BYTES, Entry, Ledger, load_ledger, read_ledger
from templora_cli.memory.ledger_text import TEMPLATE, entry_text, stubs, with_added
from templora_cli.memory.name_matcher import name_key
from templora_cli.term_proposals import Proposal

BOOK = """\
avoid = ["suddenly", "tapestry of"]

[[person]]
name = "Mira Voss"
aliases = [
  "Mira",
  "the Captain",
]
gender = "she"
speech = "curt"
notes = '''
Lost a hand.
Does not know "Tom".'''
avoid = ["Miss Voss"]

[[person]]
name = "Old Tom"   # the keeper
always = true

[[place]]
name = "Iron Gate"
"""
MIRA = Entry(
    "Mira Voss",
    "person",
    ("Mira", "the Captain"),
    gender="she",
    speech="curt",
    notes='Lost a hand. Does not know "Tom".',
    avoid=("Miss Voss",),
)
TOM = Entry("Old Tom", "person", always=True)
GATE = Entry("Iron Gate", "place")


def test_a_ledger_is_read() -> None:
    ledger = read_ledger(BOOK)
    assert ledger == Ledger((MIRA, TOM, GATE), ("suddenly", "tapestry of"))
    assert read_ledger(BOOK.replace("\n", "\r\n")) == ledger
    assert read_ledger("") == read_ledger("# nothing\n") == read_ledger(TEMPLATE) == Ledger()


def test_the_example_of_the_template_is_valid() -> None:
    lines = [line[2:] for line in TEMPLATE.splitlines()[3:]]
    (entry,) = read_ledger("\n".join(lines)).entries
    assert entry.names == ("Mira Voss", "Mira", "the Captain") and entry.always


def test_an_entry_is_one_line_of_plain_words() -> None:
    assert MIRA.line() == (
        'Mira Voss (also: Mira, the Captain), person, she; speech: curt; Lost a hand. Does not know "Tom".'
    )
    assert GATE.line() == "Iron Gate, place"


def test_entries_that_are_always_there_come_first_then_the_last_named() -> None:
    ledger = read_ledger(BOOK)
    assert ledger.named_in() == ledger.named_in("Nobody.") == (TOM,)
    assert ledger.named_in("The Captain saw the Iron Gate.") == (TOM, GATE, MIRA)
    assert ledger.named_in("Iron Gate, Mira, Iron Gate, Mira’s") == (TOM, MIRA, GATE)
    assert ledger.named_in("Mira", "Iron Gate, Old Tom") == (TOM, GATE, MIRA), "the last text is the latest"
    assert ledger.named_in("Iron Gate", "Mira") == (TOM, MIRA, GATE)


def test_names_are_looked_up_in_any_capitals() -> None:
    ledger = read_ledger(BOOK)
    assert ledger.owner_of("THE CAPTAIN") == MIRA and ledger.owner_of("Tom") is None


@pytest.mark.parametrize(
    ("addition", "line", "problem", "hint"),
    [
        ("name = Bob", 1, "invalid value", "texts in quotes"),
        ("name = “Bob”", 1, "invalid value", "straight quotes"),
        ('name = "Bob\n', 1, "illegal character", "same quotes"),
        ('[[person]]\nnotes = """\nBob\n\nx = 1', 2, "unterminated string", "same quotes"),
        ('[[person]]\naliases = [\n"Bob"\n', 2, "unclosed array", "ends with ]"),
        ('[[person]]\nname = "Bob"\nnotes = "a "b" c"', 3, "expected newline", "quote within a text"),
        ('[[person]]\nname "Bob"', 2, "expected '='", 'name = "Mira Voss"'),
        ("Bob is a man.", 1, "expected '='", 'name = "Mira Voss"'),
        ("[[person]\n", 1, "expected ']]'", "[[person]]"),
        ('[[person]]\nname = "Bob"\nname = "Rob"', 3, "overwrite", "[[person]] begins the next"),
        ('[thing]\nname = "Bob"', 1, "two brackets", "[[thing]]"),
        ('\n\n[[persons]]\nname = "Bob"', 3, "there is no table persons", "did you mean person?"),
        ('[[person]]\nname = "Bob"\n\nalias = ["Rob"]', 4, "there is no key alias", "did you mean aliases?"),
        ('[[person]]\nname = "Bob"\ncolour = "red"', 3, "there is no key colour", "name, aliases, gender"),
        ('[[person]]\nnotes = "x"', 1, "this person has no name", "name ="),
        ('[[person]]\nnotes = "x"\nname = " "', 3, "this person has no name", "name ="),
        ('[[term]]\nname = "—"', 2, "“—” is not a name", "letters or digits"),
        ('[[term]]\nname = "x"\naliases = ["y", "?"]', 3, "“?” is not a name", "letters or digits"),
        ('[[term]]\nname = "x"\naliases = "y"', 3, "aliases must be a list", "aliases = ["),
        ('[[term]]\nname = "x"\navoid = [1]', 3, "avoid must be a list", "avoid = ["),
        ('[[term]]\nname = "x"\navoid = [" "]', 3, "avoid has an empty text", "remove it"),
        ("[[term]]\nname = 7", 2, "name must be a text", 'name = "..."'),
        ('[[term]]\nname = "x"\nalways = "yes"', 3, "always must be true or false", "always = true"),
        ("term = [1]", 1, "term must be tables", "[[term]]"),
        ('[[term]]\nname = "x"\n[term.notes]\na = 1', 3, "notes must be a text", "notes ="),
    ],
)
@pytest.mark.parametrize("before", ["", BOOK], ids=["alone", "below"])
def test_an_error_has_its_line_and_what_is_expected(
    addition: str, line: int, problem: str, hint: str, before: str
) -> None:
    if before and not addition.startswith(("[", "\n")):
        before = "\n" * 5
    with pytest.raises(TemploraError) as caught:
        read_ledger(before + addition, "my ledger")
    first, _, message = caught.value.message.partition(": ")
    assert first == f"my ledger, line {line + before.count(chr(10))}"
    assert problem in message and hint in str(caught.value.hint)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["Mira", "MIRA", "The captain", "ｍｉｒａ voss", "Mira\u00a0Voss"])
@pytest.mark.parametrize("key", ["name", "aliases"])
def test_a_name_of_two_entries_is_an_error_with_both_lines(name: str, key: str) -> None:
    names = f'name = "{name}"' if key == "name" else f'name = "x"\naliases = ["y", "{name}"]'
    with pytest.raises(TemploraError) as caught:
        read_ledger(f"{BOOK}\n[[term]]\n{names}")
    line = BOOK.count("\n") + (3 if key == "name" else 4)
    other = 4 if "oss" in name else 5
    owner = f"is already a name of the person Mira Voss in line {other}"
    assert caught.value.message == f"ledger, line {line}: “{' '.join(name.split())}” {owner}"


def test_names_in_scripts_without_capitals_are_compared_as_they_are() -> None:
    assert len(read_ledger('[[person]]\nname="李青"\n[[person]]\nname="李青禾"').entries) == 2


@pytest.mark.parametrize(
    "words", ['avoid = ["iron gate"]\n', '[[term]]\nname = "x"\navoid = ["Iron Gate"]\n']
)
def test_a_word_to_avoid_that_is_a_name_is_an_error(words: str) -> None:
    with pytest.raises(TemploraError, match="is to be avoided, but is a name in line"):
        read_ledger(words + '\n[[place]]\nname = "Iron Gate"\n')


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "1" * 10_000, "\x00", "a = \x1b"])
def test_a_hostile_file_is_an_error(text: str) -> None:
    with pytest.raises(TemploraError):
        read_ledger(text)


@given(
    st.lists(st.sampled_from([*"[]{}=.#\"'\n ", "person", "name", "avoid", '"""', "true", "1"]), max_size=30)
)
def test_any_text_is_a_ledger_or_an_error_with_a_line(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        read_ledger(text)
    except TemploraError as error:
        match = re.match(r"ledger, line (\d+): .", error.message)
        assert match is not None and 1 <= int(match[1]) <= text.count("\n") + 1 and error.hint


def test_files(tmp_path: Path) -> None:
    assert load_ledger(tmp_path / "none.toml") == Ledger()
    path = tmp_path / "ledger.toml"
    path.write_bytes(b"\xef\xbb\xbf" + BOOK.encode())
    assert load_ledger(path) == read_ledger(BOOK)
    path.write_text(f"{BOOK}x")
    with pytest.raises(TemploraError, match=rf"^{re.escape(str(path))}, line {BOOK.count(chr(10)) + 1}: "):
        load_ledger(path)
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(TemploraError, match="is larger than 8 MB"):
        load_ledger(path)
    with pytest.raises(TemploraError, match="is a folder"):
        load_ledger(tmp_path)


LINES = st.text(max_size=12).map(lambda text: " ".join("".join(c for c in text if c.isprintable()).split()))
NAMES = LINES.filter(name_key)


@given(
    st.builds(
        Entry,
        NAMES,
        st.sampled_from(KINDS),
        st.lists(NAMES, max_size=3, unique=True).map(tuple),
        LINES,
        LINES,
        LINES,
        st.booleans(),
    )
)
def test_an_entry_is_written_as_it_is_read(entry: Entry) -> None:
    assert read_ledger(entry_text(entry)).entries == (entry,)


def test_an_added_entry_leaves_the_rest_as_it_is() -> None:
    text = with_added(BOOK, entry_text(Entry("Ur", "place")))
    assert text == f'{BOOK}\n[[place]]\nname = "Ur"\n'
    assert with_added("", "x = 1") == "x = 1\n"


def test_stubs_are_a_ledger() -> None:
    text = stubs(
        [Proposal("Ur", 4, "Off\nto Ur. \x1b"), Proposal("Holm", 3, "# Holm")], "templora ledger x add y"
    )
    assert [entry.name for entry in read_ledger(text).entries] == ["Ur", "Holm"]
    assert "# 4: Off to Ur." in text and "templora ledger x add y" in text
