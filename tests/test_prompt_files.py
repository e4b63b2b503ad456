"""Prompt files: a folder of the user's replaces them one by one, and faults are reported."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import pytest

from templora_cli.errors import TemploraError
from templora_cli.prompt_files import load_prompts

OWN = (
    '[chat]\nsystem = "S"\npremise = "P {premise}{sections}"\npremise_and_opening = "B {premise}{sections}"\n'
    'opening = "O{sections}"\nplanned = "{premise}{sections}"\nplanned_alone = "{sections}"\n'
    '[plain]\npremise = "{premise}{sections}"\npremise_and_opening = "{premise}{sections}"\n'
    'opening = "{sections}"\nplanned = "{premise}{sections}"\nplanned_alone = "{sections}"\n'
)
TRANSLATION = (
    '[pair]\nbefore = "{source} ="\n[chat]\nsystem = "Into {target_language}."\nglossary = "{terms}"\n'
    'term = "{source}={target}"\nterm_with_note = "{source}={target} {note}"\n'
)


def test_a_folder_replaces_file_by_file(tmp_path: Path) -> None:
    packaged = {name: load_prompts(name, "") for name in ("novel", "translation")}
    (tmp_path / "novel.toml").write_text(OWN)
    prompts = load_prompts("novel", str(tmp_path))
    assert prompts.text("chat", "premise", premise="x", sections="") == "P x"
    assert prompts.sha256 != packaged["novel"].sha256
    assert load_prompts("translation", str(tmp_path)) == packaged["translation"], "other files do not change"


def test_the_hash_is_of_the_bytes_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "novel.toml"
    file.write_text(OWN)
    before = load_prompts("novel", str(tmp_path))
    assert before.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_text(f"# The same texts.\n{OWN}")
    after = load_prompts("novel", str(tmp_path))
    assert after.texts == before.texts and after.sha256 != before.sha256
    packaged = (resources.files("templora_cli.prompts") / "novel.toml").read_bytes()
    assert load_prompts("novel", "").sha256 == hashlib.sha256(packaged).hexdigest()


def test_only_the_given_placeholders_are_filled_in(tmp_path: Path) -> None:
    (tmp_path / "novel.toml").write_text(
        OWN.replace("P {premise}", "{premise} { other } {} {{premise}} {1} ")
    )
    text = load_prompts("novel", str(tmp_path)).text("chat", "premise", premise="a {other}")
    assert text == "a {other} { other } {} {a {other}} {1} {sections}"


@pytest.mark.parametrize(
    ("name", "old", "new", "fault", "hint"),
    [
        (
            *("novel", "P {premise}", "P {story}"),
            "[chat] premise: {story} is not a placeholder here, {premise} is missing",
            "placeholders of [chat] premise: {premise} {sections}",
        ),
        ("novel", "B {premise}", "B", "[chat] premise_and_opening: {premise} is missing", "{premise}"),
        ("novel", "S", "{premise}", "[chat] system: {premise} is not a placeholder here", "system: none"),
        (
            "novel",
            '"{premise}{sections}"\npremise_',
            '"{sections}"\npremise_',
            "[plain] premise: {premise} is missing",
            "{premise}",
        ),
        (
            "novel",
            '"O{',
            '"{Geschichte_2}{',
            "[chat] opening: {Geschichte_2} is not a placeholder here",
            "{sections}",
        ),
        (
            "translation",
            "{source} =",
            "=",
            "[pair] before: {source} is missing",
            "{source_language} {source}",
        ),
        (
            "translation",
            "{terms}",
            "{term}",
            "{term} is not a placeholder here, {terms} is missing",
            "{terms}",
        ),
        ("translation", "{target} {note}", "{target}", "[chat] term_with_note: {note} is missing", "{note}"),
        (
            "translation",
            "Into",
            "{language}",
            "[chat] system: {language} is not a placeholder",
            "{target_language}",
        ),
    ],
)
def test_placeholders_that_are_unknown_or_missing(
    name: str, old: str, new: str, fault: str, hint: str, tmp_path: Path
) -> None:
    own, file = {"novel": OWN, "translation": TRANSLATION}[name], tmp_path / f"{name}.toml"
    assert old in own
    file.write_text(own)
    load_prompts(name, str(tmp_path))
    file.write_text(own.replace(old, new, 1))
    with pytest.raises(TemploraError) as caught:
        load_prompts(name, str(tmp_path))
    assert caught.value.message.startswith(f"{file}: ") and fault in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_a_prompt_file_may_be_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    text = OWN.replace('"O{', '"他走进了房间，天黑了，她还没有回来。{')
    (tmp_path / "novel.toml").write_bytes(text.encode(encoding))
    assert load_prompts("novel", str(tmp_path)).text("chat", "opening").startswith("他走进了房间")


def test_a_file_may_have_additional_prompts(tmp_path: Path) -> None:
    (tmp_path / "novel.toml").write_text(f'{OWN}[mine]\nnote = "n"\n')
    assert load_prompts("novel", str(tmp_path)).text("mine", "note") == "n"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (
            b'[chat]\nsystem = "S"\n',
            r"lacks \[chat\] premise, \[chat\] premise_and_opening, \[chat\] opening",
        ),
        (OWN.replace("system", "sistem").encode(), r"novel\.toml lacks \[chat\] system$"),
        (b"[chat\n", "is not valid TOML"),
        (b"%PDF-1.7", "is a PDF, not a text"),
        (b"chat = 3\n", r"\[chat\] must be a table of texts"),
        (b"[chat]\nsystem = 3\n", r"\[chat\] must be a table of texts"),
    ],
)
def test_damaged_prompt_files_are_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "novel.toml").write_bytes(content)
    with pytest.raises(TemploraError, match=complaint) as caught:
        load_prompts("novel", str(tmp_path))
    assert caught.value.hint and str(tmp_path) in caught.value.message


def test_a_missing_or_empty_folder_of_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemploraError, match="no folder nowhere"):
        load_prompts("novel", "nowhere")
    (tmp_path / "novels.toml").write_text(OWN)
    with pytest.raises(TemploraError, match=r"has no novel\.toml and no .*translation\.toml") as caught:
        load_prompts("novel", str(tmp_path))
    packaged = Path(str(caught.value.hint).removeprefix("copy one from "))
    assert (packaged / "novel.toml").is_file()
