"""The text editor for `review --edit`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from templora_cli.commands.editor import find_editor
from templora_cli.errors import TemploraError


@pytest.mark.parametrize(
    ("environment", "platform", "installed", "command"),
    [
        ({}, "linux", ["vi", "nano"], ["nano"]),
        ({}, "linux", ["vi", "vim"], ["vim"]),
        ({"EDITOR": " "}, "linux", ["vi"], ["vi"]),
        ({}, "win32", ["notepad"], ["notepad"]),
        ({}, "darwin", ["open", "nano"], ["open", "-W", "-t"]),
        ({"EDITOR": "nano"}, "darwin", ["open", "nano"], ["nano"]),
        ({"EDITOR": "nano", "VISUAL": "code --wait"}, "linux", ["nano", "code"], ["code", "--wait"]),
        ({"EDITOR": "'my editor' -x"}, "linux", ["my editor"], ["my editor", "-x"]),
        (
            {"EDITOR": r'"C:\\Programs\\ed.exe" -x'},
            "win32",
            [r"C:\\Programs\\ed.exe"],
            [r"C:\\Programs\\ed.exe", "-x"],
        ),
    ],
)
def test_the_editor_of_the_user_or_a_usual_one(
    environment: dict[str, str], platform: str, installed: Sequence[str], command: list[str]
) -> None:
    which = {name: name for name in installed}.get
    assert find_editor(environment, platform, which, lambda: True) == command


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "no text editor was found"),
        ({"EDITOR": " "}, "no text editor was found"),
        ({"EDITOR": "emcas"}, r"\$EDITOR: there is no command emcas"),
        ({"VISUAL": "em'cas"}, r"\$VISUAL: there is no command em'cas"),
    ],
)
def test_a_missing_editor_is_an_error(environment: dict[str, str], message: str) -> None:
    with pytest.raises(TemploraError, match=message) as caught:
        find_editor(environment, "linux", lambda name: None, lambda: True)
    assert caught.value.hint and "export" in caught.value.hint


def test_without_a_terminal_no_usual_editor_is_opened() -> None:
    def find(platform: str) -> list[str]:
        return find_editor({}, platform, lambda name: name, lambda: False)

    with pytest.raises(TemploraError, match="an editor needs a terminal"):
        find("linux")
    assert find("win32") == ["notepad"], "it opens a window"
