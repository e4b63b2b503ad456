"""Paths on the command line, in the environment and in settings: `~`, folders, existing files."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from templora_cli.cli import app
from templora_cli.commands.paths import expand_home
from templora_cli.commands.settings import user_config_file
from templora_cli.engine.models.folders import cache_dir
from templora_cli.errors import TemploraError
from templora_cli.prompt_files import load_prompts
from templora_cli.sessions.store import home
from tests.commands.test_cli import templora
from tests.commands.test_sessions import hint_of


@pytest.fixture(autouse=True)
def home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "me"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    return folder


def path_parameters(app: typer.Typer) -> Iterator[tuple[str, Any]]:
    """The name and the annotation of each parameter for a path, of all commands."""
    for command in app.registered_commands:
        assert command.callback is not None
        for name, parameter in inspect.signature(command.callback, eval_str=True).parameters.items():
            types = get_args(parameter.annotation)
            if types and "Path" in str(types[0]):
                yield f"{command.callback.__module__}: {name}", parameter.annotation.__metadata__[0]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from path_parameters(group.typer_instance)


PATHS = dict(path_parameters(app))


@pytest.mark.parametrize("option", PATHS.values(), ids=PATHS.keys())
def test_every_path_is_expanded(option: Any) -> None:
    assert option.callback is expand_home


def test_paths_in_an_argument_with_several_values(home_folder: Path) -> None:
    (home_folder / "a.txt").touch()
    assert f"{home_folder / 'a.txt'} is empty" in templora("eval", "ppl", "~/a.txt", "~/b.txt").stderr


def test_an_existing_book_in_the_home_folder_is_found(home_folder: Path) -> None:
    (home_folder / "w1.md").write_text("mine")
    result = templora("write", "--premise", "A", "--out=~/w1.md")
    assert f"{home_folder / 'w1.md'} exists" in result.stderr
    assert hint_of(result) == f"--out {home_folder / 'w1-2.md'}"


@pytest.mark.parametrize("path", ["~/no/book.md", "~nobody-at-all/book.md", "~nobody-at-all.d/no/book.md"])
def test_no_folder_called_tilde_is_proposed(path: str, home_folder: Path) -> None:
    result = templora("write", "--premise", "A", "--out", path)
    assert "does not exist" in result.stderr
    if path == "~/no/book.md":
        assert hint_of(result) == f"mkdir -p {home_folder / 'no'}"
    else:
        assert "mkdir" not in result.stderr and path.partition("/")[0] in hint_of(result)


def test_the_premise_is_no_file_of_the_home_folder(home_folder: Path) -> None:
    (home_folder / "story").write_text("A storm.")
    assert "~/story' is a file" in templora("write", "--premise", "~/story").stderr


def test_a_tilde_in_the_environment_and_in_settings(
    home_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TEMPLORA_HOME", "TEMPLORA_CACHE", "TEMPLORA_CONFIG"):
        monkeypatch.setenv(name, "~/data")
    assert home() == cache_dir() == user_config_file() == home_folder / "data"
    monkeypatch.setenv("TEMPLORA_CACHE", "~nobody-at-all/data")
    assert cache_dir() == Path("~nobody-at-all/data").absolute()
    (home_folder / "novel.toml").write_text("no TOML")
    with pytest.raises(TemploraError, match=r"novel\.toml is not valid TOML"):
        load_prompts("novel", "~")


@pytest.mark.parametrize(
    "command",
    [
        ("write", "--from", "folder"),
        ("write", "--premise-file", "folder"),
        ("translate", "folder", "--to", "en"),
        ("eval", "ppl", "folder"),
        ("eval", "translate", "folder"),
        ("glossary", "extract", "folder"),
    ],
    ids=" ".join,
)
def test_a_folder_in_place_of_a_file(command: tuple[str, ...]) -> None:
    Path("folder").mkdir()
    result = templora(*command)
    error = getattr(result.exception, "message", "") or result.stderr
    assert "folder is a folder" in error and hint_of(result) == "name a file in it"


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("a.pdf", b"%PDF-1.7", "convert it to .txt, .epub or .docx"),
        ("a.txt", b"PK\x03\x04", "rename it to .docx or .epub if it is such a file, or convert it"),
        ("a.docx", b"Once.", "rename it to .txt or .md"),
    ],
)
def test_a_file_of_another_format(name: str, content: bytes, hint: str) -> None:
    Path(name).write_bytes(content)
    result = templora("write", "--from", name)
    assert hint_of(result).startswith(hint)
    assert "(.pdf)" not in result.stderr


def test_another_name_is_proposed_for_a_book_that_exists() -> None:
    for name in ("my book.md", "my book-2.md"):
        Path(name).touch()
    result = templora("write", "--premise", "A", "--out", "my book.md")
    assert "my book.md exists" in result.stderr and hint_of(result) == "--out 'my book-3.md'"
