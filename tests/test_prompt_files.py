"""Prompt files: a user's folder replaces them one by one, and mistakes in them are reported."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import pytest

from templora_cli.errors import TemploraError
from templora_cli.prompt_files import load_prompts

OWN = (
    '[chat]\nsystem = "S"\npremise = "P {premise}"\npremise_and_opening = "B"\nopening = "O"\n'
    '[plain]\npremise = ""\npremise_and_opening = ""\nopening = ""\n'
)


def test_a_folder_replaces_file_by_file(tmp_path: Path) -> None:
    packaged = {name: load_prompts(name, "") for name in ("novel", "translation")}
    assert {name: load_prompts(name, str(tmp_path)) for name in packaged} == packaged
    (tmp_path / "novel.toml").write_text(OWN)
    prompts = load_prompts("novel", str(tmp_path))
    assert prompts.text("chat", "premise", premise="x") == "P x"
    assert prompts.sha256 != packaged["novel"].sha256
    assert load_prompts("translation", str(tmp_path)) == packaged["translation"], "other files do not change"


def test_the_hash_covers_the_bytes_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "novel.toml"
    file.write_text(OWN)
    before = load_prompts("novel", str(tmp_path))
    assert before.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_text(f"# The same texts.\n{OWN}")
    after = load_prompts("novel", str(tmp_path))
    assert after.texts == before.texts and after.sha256 != before.sha256
    packaged = (resources.files("templora_cli.prompts") / "novel.toml").read_bytes()
    assert load_prompts("novel", "").sha256 == hashlib.sha256(packaged).hexdigest()


def test_only_placeholders_with_a_value_are_filled_in(tmp_path: Path) -> None:
    (tmp_path / "novel.toml").write_text(OWN.replace("P {premise}", "{premise} {other} {} {{premise}}"))
    text = load_prompts("novel", str(tmp_path)).text("chat", "premise", premise="a {other}")
    assert text == "a {other} {other} {} {a {other}}"


def test_a_file_may_have_texts_of_its_own(tmp_path: Path) -> None:
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
        (b"[chat\n", "is no TOML"),
        (b'[chat]\nsystem = "\xff"\n', "is no TOML"),
        (b"chat = 3\n", r"\[chat\] must be a table of texts"),
        (b"[chat]\nsystem = 3\n", r"\[chat\] must be a table of texts"),
    ],
)
def test_damaged_prompt_files_are_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "novel.toml").write_bytes(content)
    with pytest.raises(TemploraError, match=complaint) as caught:
        load_prompts("novel", str(tmp_path))
    assert caught.value.hint and str(tmp_path) in caught.value.message


def test_a_folder_of_prompts_that_is_not_there() -> None:
    with pytest.raises(TemploraError, match="no folder nowhere"):
        load_prompts("novel", "nowhere")
