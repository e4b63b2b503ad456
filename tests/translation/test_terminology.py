"""Glossaries: files, occurrences of terms, and use of their translations."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from templora_cli.term_proposals import Proposal
from templora_cli.translation.glossary_file import COLUMNS, read_glossary, write_glossary
from templora_cli.translation.terminology import Glossary, Term, consistency, is_name, is_used, misspelling


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding)
    return path


TERMS = (
    Term("Eisentor", "Iron Gate", "a city", ("iron door", "steel gate")),
    Term("Anna Weber", "Anna Weber"),
)
FORMS = {
    "comma.csv": """source,target,note,forbidden
Eisentor,Iron Gate,a city,iron door|steel gate
Anna Weber,Anna Weber,,
""",
    "semicolon.csv": """Source;Target;Forbidden;Note
Eisentor;Iron Gate;iron door | steel gate;a city

Anna Weber;Anna Weber;;
""",
    "tab.csv": """target\tsource\tnote\tforbidden
Iron Gate\tEisentor\ta city\tiron door|steel gate
Anna Weber\tAnna Weber
""",
    "list.json": """[
{"source": "Eisentor", "target": "Iron Gate", "note": "a city", "forbidden": ["iron door", "steel gate"]},
{"source": "Anna Weber", "target": "Anna Weber"}]""",
    "object.json": """{
"Eisentor": {"target": "Iron Gate", "note": "a city", "forbidden": "iron door|steel gate"},
"Anna Weber": "Anna Weber"}""",
    "tables.toml": """
[[term]]
source = "Eisentor"
target = "Iron Gate"
note = "a city"
forbidden = ["iron door", "steel gate"]
[[term]]
source = "Anna Weber"
target = "Anna Weber"
""",
    "table.toml": """
[terms]
Eisentor = {target = "Iron Gate", note = "a city", forbidden = "iron door|steel gate"}
"Anna Weber" = "Anna Weber"
""",
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_all_formats_are_read(tmp_path: Path, name: str, encoding: str) -> None:
    assert read_glossary(write(tmp_path / name, FORMS[name], encoding)) == Glossary(TERMS)


def test_a_glossary_of_a_few_names_is_read_in_an_encoding_of_its_languages(tmp_path: Path) -> None:
    file = write(tmp_path / "names.csv", "source,target\r\n苏眠,Su Mian\r\n", "gb18030")
    glossary = read_glossary(file, ["zh", "en"])
    assert glossary.terms == (Term("苏眠", "Su Mian"),)
    assert glossary.notices == (f"reading {file} as GB18030; if that is wrong, save the file as UTF-8",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "x", "a.txt: a glossary is a .csv, .json or .toml"),
        ("a.csv", "source,note\na,b\n", "a.csv, line 1 has no column target"),
        ("a.csv", "a,b\n", "a.csv, line 1 has no column source and no column target"),
        ("a.csv", "source,target\na,b\n,c\n", "a.csv, line 3: the source is empty"),
        ("a.csv", "source,target\na,b\na,c\n", "a.csv, line 3: a is “c” here and “b” in .*a.csv, line 2"),
        ("a.csv", "source,target\na,b,c\n", "a.csv, line 2 has more than 2 columns"),
        ("a.csv", 'source,target\n"a\nc",b\na,"b\n\n', "a.csv, line 4: unexpected end of data"),
        (
            "a.csv",
            "source,target,forbidden\na,b,c|b\n",
            "a.csv, line 2: “b” is both the translation and forbidden",
        ),
        ("a.json", '[\n{"source": 1]', "a.json, line 2 is not valid JSON"),
        ("a.json", '["a"]', "a.json, entry 1 has no “source”"),
        ("a.json", '"a"', "a.json is neither a list nor an object"),
        ("a.json", '{"a": "b", "a": "c"}', r"a.json, entry 2 \(a\): a is “c” here and “b” in"),
        ("a.json", '{"a": 1}', r"a.json, entry 1 \(a\): “target” is not text"),
        ("a.json", r'{"a": "\ud800"}', "contains half a character"),
        ("a.json", '[{"source": "a", "target": "b", "forbidden": [1]}]', "“forbidden” is not text"),
        ("a.json", "[" * 100_000, "is nested too deeply|is not valid JSON"),
        ("a.toml", "a =", "a.toml is not valid TOML"),
        ("a.toml", "a = 1", r"a.toml has no \[\[term\]\] and no \[terms\]"),
        ("a.toml", '[[term]]\ntarget = "b"', "a.toml, entry 1 has no “source”"),
    ],
)
def test_a_faulty_file_is_a_message_of_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(TemploraError, match=message) as error:
        read_glossary(write(tmp_path / name, text))
    assert "\n" not in error.value.message and error.value.hint


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TemploraError, match="there is no file"):
        read_glossary(tmp_path / "a.csv")


def test_skipped_entries_are_reported(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "\nsource,target,count\na,b,1\nc,,7\n a , b ,1\n")
    assert read_glossary(file) == Glossary(
        (Term("a", "b"),),
        (
            f"{file}, line 4: c has no translation yet, skipped",
            f"{file}, line 5: a is already in {file}, line 3, skipped",
        ),
    )


def test_a_glossary_is_written_to_be_filled_in(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    write_glossary(file, Glossary(TERMS), [Proposal("Lampe, alt", 7, 'eine "Lampe, alt"')])
    rows = list(csv.reader(file.read_text("utf-8-sig").splitlines()))
    assert rows[0] == list(COLUMNS)
    assert rows[3] == ["Lampe, alt", "", "", "", "7", 'eine "Lampe, alt"']
    again = read_glossary(file)
    assert again.terms == TERMS and "Lampe, alt has no translation yet" in again.notices[0]


def test_a_glossary_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(TemploraError, match=r"is written as \.csv"):
        write_glossary(tmp_path / "a.json", Glossary())
    with pytest.raises(TemploraError):
        write_glossary(tmp_path / "none" / "a.csv", Glossary())


@settings(max_examples=50)
@given(st.text(max_size=60), st.sampled_from([".csv", ".json", ".toml"]))
def test_any_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str, suffix: str
) -> None:
    file = tmp_path_factory.mktemp("any") / f"a{suffix}"
    file.write_bytes(("source,target\n" * (suffix == ".csv") + text).encode("utf-8", "surrogatepass"))
    try:
        read_glossary(file)
    except TemploraError as error:
        assert "\n" not in error.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Iron Gate was shut.", ["Iron Gate"]),
        ("The Iron was hot; the gate, too.", ["gate"]),
        ("IRON GATE", ["Iron Gate"]),
        ("the iron gate", ["gate"]),  # not the name, which has capitals
        ("Gates, gateways and the delegate", []),  # whole words
        ("“Gate!” — gate's", ["gate"]),
        ("The Iron <1>Gate</1>", ["Iron Gate"]),
        ("a rose for Rose", ["rose", "Rose"]),
        ("他走到铁门前，见了李明月和李明。", ["铁门", "李明月", "李明"]),
        ("철수가 왔다. 김철수", ["철수"]),
        ("", []),
    ],
)
def test_terms_that_occur(text: str, expected: list[str]) -> None:
    sources = ["gate", "Iron Gate", "Iron Gate of Ur", "铁门", "李明", "李明月", "Rose", "rose", "철수"]
    glossary = Glossary(tuple(Term(source, "x") for source in sources))
    assert [term.source for term in glossary.occurring_in(text)] == expected


def test_a_term_with_the_same_case_is_preferred() -> None:
    for sources in (("Rose", "rose"), ("rose", "Rose")):
        glossary = Glossary(tuple(Term(source, "x") for source in sources))
        assert [term.source for term in glossary.occurring_in("Rose, rose")] == ["Rose", "rose"]


@given(st.lists(st.text("abAB 李明", min_size=1, max_size=4), max_size=6), st.text("abAB 李明", max_size=30))
def test_the_leftmost_longest_term_is_found(sources: list[str], text: str) -> None:
    """Compare with a naive search, with characters that have no word boundaries."""
    text = text.lower().translate(str.maketrans("ab", "门铁"))
    sources = [source.lower().translate(str.maketrans("ab", "门铁")) for source in sources]
    expected, at = [], 0
    while at < len(text):
        fitting = [source for source in sources if text.startswith(source, at)]
        if fitting:
            expected.append((max(fitting, key=len), at))
        at += max(map(len, fitting), default=1)
    matches = Glossary(tuple(Term(source, "x") for source in sources)).matches(text)
    assert [(term.source, start) for term, start, _ in matches] == expected


@given(st.text(), st.text(), st.text())
def test_any_text_can_be_searched(source: str, target: str, text: str) -> None:
    glossary = Glossary((Term(source, target, forbidden=(source, "")),))
    consistency([(text, text), (source, target)], glossary)
    is_used(glossary.terms[0], text)
    misspelling(glossary.terms[0], text, [source, target])


@pytest.mark.parametrize(
    ("target", "text", "expected"),
    [
        ("Iron Gate", "They reached the iron gates.", True),
        ("Iron Gate", "the Iron-<1>Gate</1>'s bars", True),
        ("Iron Gate", "the iron and the gate", False),
        ("Iron Gate", "They gathered iron.", False),
        ("city", "three cities", True),
        ("Ritter", "von den Rittern", True),
        ("Haus", "die alten Häuser", True),
        ("Anna", "Annas Buch; Annę", True),
        ("Anna", "Annotations", False),
        ("Mo Yun", "Mo Yun's face", True),
        ("Mo Yun", "Mo Yan's face", False),
        ("Li", "I like it", False),
        ("Captain Weber", "captains weber", True),
        ("李明", "他看着李明。", True),
        ("李明", "他看着李 明。", True),
        ("李明", "他看着李名。", False),
        ("R2-D2", "r2 d2", True),
        ("...", "a ... b", True),
    ],
)
def test_a_translation_is_found_with_any_ending(target: str, text: str, expected: bool) -> None:
    assert is_used(Term("x", target), text) is expected


@pytest.mark.parametrize(
    ("target", "text", "other"),
    [
        ("Mo Yun", "Then Mo Yan laughed.", "Mo Yan"),
        ("Wei Zhen Hui", "Then Wei Zhenhui laughed.", "Wei Zhenhui"),
        ("Hao Yansen", "Miss Hao Yaosen's coat", "Hao Yaosen"),
        ("Su Mian", "Su Main and Su Mian", "Su Main"),
        ("Anna Weber", "Mrs Weber laughed.", None),  # a part of the name
        ("Mo Yun", "Mo Xingyu laughed.", None),  # another person
        ("Anna Weber", "Anna Weger laughed.", None),  # another entry
        ("Anna Weber", "Anna Wegner laughed.", "Anna Wegner"),
        ("Li", "Lu", None),  # too short to tell
        ("furniture", "Furnitures", None),  # no name
        ("Mo Yun", "he saw mo yan", None),
    ],
)
def test_other_spellings_of_a_name(target: str, text: str, other: str | None) -> None:
    assert misspelling(Term("x", target), text, [target, "Anna Weger"]) == other


def test_names_have_capitals() -> None:
    assert is_name("Anna Weber") and not is_name("the Gate") and not is_name("李明") and not is_name("")


def test_consistency_of_a_book() -> None:
    pairs = [
        ("李明来了。", "Li Ming came."),
        ("李明走了。", "He saw Lee Ming go."),
        ("李明和李明笑了。", "He laughed as Lee Ming does."),
        ("铁门关了。", "The iron door was shut."),
        ("铁门开了。", "The Iron Gate opened, and Anna came."),
        ("她走了。", "She left."),
    ]
    glossary = Glossary(
        (Term("李明", "Li Ming"), Term("铁门", "Iron Gate", forbidden=("iron door",)), Term("雪", "snow"))
    )
    result = consistency(pairs, glossary)
    assert [(use.term.source, use.occurrences, use.used, use.alternatives) for use in result.terms] == [
        ("李明", 3, 1, (("Lee Ming", 2),)),
        ("铁门", 2, 1, (("iron door", 1),)),
    ]
    assert result.share == 2 / 5
    assert consistency([], glossary).share == 1
