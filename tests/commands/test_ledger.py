"""`templora ledger`: entries shown, edited, added, checked and proposed."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from templora_cli.memory.ledger import load_ledger
from templora_cli.memory.ledger_text import TEMPLATE
from tests.commands.test_cli import message_of, templora
from tests.commands.test_sessions import hint_of
from tests.memory.test_ledger import BOOK
from tests.sessions.test_store import create
from tests.sessions.test_summary import append_chunks, chunk

ROOT = Path(__file__).parents[2]


@pytest.fixture
def session() -> Path:
    """The folder of a session with some text and no ledger."""
    with create("storm-1a2b") as created:
        lines = ["Then Mira saw Holm. ", "So Holm saw Mira, and Mira ran. ", "And Holm ran with Mira. "]
        append_chunks(created.path, [chunk(line) for line in lines])
        assert created.ledger_path == created.path / "ledger.toml"
        return created.path


@pytest.fixture
def ledger(session: Path) -> Path:
    path = session / "ledger.toml"
    path.write_text(BOOK, "utf-8")
    return path


def set_editor(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let $EDITOR run a Python script; `path` is the file."""
    code = f"import pathlib, sys; path = pathlib.Path(sys.argv[1]); {script}"
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", shlex.join([sys.executable, "-c", code]))


# --- show and check ----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ["storm show", "show storm", "storm", "show"])
def test_the_session_comes_before_the_command_or_after_it(ledger: Path, arguments: str) -> None:
    result = templora("ledger", *arguments.split())
    assert result.exit_code == 0, message_of(result)
    notes = 'avoid: Miss Voss; notes: Lost a hand. Does not know "Tom".'
    assert result.stdout.splitlines() == [
        "name\tentry",
        f"Mira Voss\tperson; she; also: Mira, the Captain; speech: curt; {notes}",
        "Old Tom\tperson; in every prompt",
        "Iron Gate\tplace",
        "words to avoid: suddenly, tapestry of",
    ]


def test_the_ledger_as_json(ledger: Path) -> None:
    shown = json.loads(templora("ledger", "storm", "--json").stdout)
    assert shown["avoid"] == ["suddenly", "tapestry of"]
    assert [(entry["name"], entry["always"]) for entry in shown["entries"]][1] == ("Old Tom", True)


def test_an_empty_ledger(session: Path) -> None:
    result = templora("ledger", "storm")
    assert result.exit_code == 0 and result.stdout == ""
    assert "the ledger of storm-1a2b is empty" in result.stderr
    assert result.stderr.splitlines()[-1] == "to write it: templora ledger storm-1a2b edit"
    assert templora("ledger", "storm", "check").stdout == "ledger of storm-1a2b: 0 entries\n"


@pytest.mark.parametrize("columns", [40, 80])
def test_the_table_fits_a_terminal(ledger: Path, columns: int) -> None:
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    arguments = [sys.executable, "-m", "templora_cli", "ledger", "storm"]
    subprocess.run(arguments, env=environment, stdout=child, check=True, timeout=60)
    os.close(child)
    text = ""
    while True:
        try:
            piece = os.read(parent, 65536).decode()
        except OSError:
            break
        if not piece:
            break
        text += piece
    text = re.sub(r"\x1b\[[\d;]*m", "", text)
    too_long = [line for line in text.splitlines() if len(line.rstrip()) > columns]
    assert not too_long and "Iron" in text and "every prompt" in " ".join(text.split())


def test_check_counts_the_entries(ledger: Path) -> None:
    expected = "3 entries: 2 people, 1 place; 2 words to avoid"
    assert templora("ledger", "storm", "check").stdout == f"ledger of storm-1a2b: {expected}\n"
    Path("mine.toml").write_text(BOOK)
    assert templora("ledger", "check", "mine.toml").stdout == f"mine.toml: {expected}\n"


@pytest.mark.parametrize("action", ["check", "show"])
def test_a_word_that_cannot_be_banned_is_found(action: str, ledger: Path) -> None:
    ledger.write_text('avoid = ["the"]\n')
    assert 'avoid = "the": “the” is so common' in message_of(templora("ledger", action))


@pytest.mark.parametrize("action", ["show", "check", "propose", "add term ether"])
def test_a_wrong_line_is_named_with_the_command_to_edit_it(ledger: Path, action: str) -> None:
    text = f"{BOOK}\n[[person]]\nnam = 'Bob'\n"
    ledger.write_text(text, "utf-8")
    result = templora("ledger", "storm", *action.split())
    assert result.exit_code != 0
    line = text.count("\n")
    assert message_of(result) == f"ledger of storm-1a2b, line {line}: there is no key nam"
    assert "did you mean name?" in hint_of(result)
    assert hint_of(result).endswith("to edit it: templora ledger storm-1a2b edit")
    assert ledger.read_text("utf-8") == text


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ("storm shwo", "there is no command ledger shwo", "templora ledger storm show"),
        ("rain show", "no session is called rain", "templora sessions list"),
        ("none.toml", "there is no file none.toml", "to write it: templora ledger none.toml edit"),
        ("no/one.toml add term x", "there is no folder no", "mkdir -p no"),
        ("storm propose --limit 0", "--limit 0: must be at least 1", "--limit 50"),
        ("storm propose --out names.txt", "names are written as .toml", "--out names.toml"),
        ("storm propose --from none.txt", "there is no file none.txt", "check the path"),
        ("mine.toml propose", "mine.toml has no book to search", "propose --from FILE"),
        ("storm add none.toml", "there is no file none.toml", "check the path"),
        ("storm add persn Bob", "persn is not a kind of entry", "templora ledger add person"),
        ("storm add person", "the name of the person is missing", "templora ledger add person"),
        ("storm add person Mira Voss", "needs quotes", "templora ledger add storm person 'Mira Voss'"),
        ("add person Mira Voss", "needs quotes", "templora ledger add person 'Mira Voss'"),
        ("storm add person —", "“—” is not a name", "letters or digits"),
        ("storm add person Bob --alias ?", "“?” is not a name", "letters or digits"),
        ("storm add person Bob --avoid=", "--avoid is empty", "leave it out"),
        ("storm add person b\udcff", "is not UTF-8", "type it again"),
    ],
)
def test_errors_have_a_next_step(session: Path, arguments: str, message: str, hint: str) -> None:
    Path("mine.toml").write_text(BOOK)
    result = templora("ledger", *arguments.split(" "))
    assert result.exit_code != 0
    assert message in message_of(result) and hint in hint_of(result)
    assert not (session / "ledger.toml").exists() and not Path("none.toml").exists()


def test_errors_exit_with_2_and_one_line(ledger: Path) -> None:
    ledger.write_text("x", "utf-8")
    arguments = [sys.executable, "-m", "templora_cli", "ledger", "storm", "check"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["error", "hint"]


# --- add ---------------------------------------------------------------------------------------------


def test_an_entry_is_added_below_comments_that_stay(ledger: Path) -> None:
    flags = ("--alias", "the Mate", "--alias", "Bob", "--gender", "he", "--notes", 'Says "aye"', "--always")
    result = templora("ledger", "storm", "add", "person", "Robert Lee", *flags, "--avoid", "Bobby")
    assert result.exit_code == 0, message_of(result)
    assert result.stdout == 'added: Robert Lee (also: the Mate, Bob), person, he; Says "aye"\n'
    text = ledger.read_text("utf-8")
    assert text.startswith(BOOK) and "# the keeper" in text
    entry = load_ledger(ledger).entries[2]
    assert entry.names == ("Robert Lee", "the Mate", "Bob") and entry.always and entry.avoid == ("Bobby",)


def test_the_first_entry_makes_the_file(session: Path) -> None:
    assert templora("ledger", "add", "term", "ether").exit_code == 0
    assert (session / "ledger.toml").read_text() == '[[term]]\nname = "ether"\n'
    assert templora("ledger", "new.toml", "add", "term", "ether").exit_code == 0
    assert Path("new.toml").read_text() == '[[term]]\nname = "ether"\n'


def test_a_name_of_another_entry_is_not_added(ledger: Path) -> None:
    for arguments in (("thing", "THE CAPTAIN"), ("person", "Bob", "--alias", "the captain")):
        result = templora("ledger", "storm", "add", *arguments)
        assert "is already a name of the person Mira Voss" in message_of(result)
        assert hint_of(result) == "to change it: templora ledger storm-1a2b edit"
    avoided = templora("ledger", "storm", "add", "term", "Suddenly")
    assert "is to be avoided, but is a name" in message_of(avoided)
    assert message_of(avoided).endswith("; nothing was added")
    assert ledger.read_text("utf-8") == BOOK


def test_the_entries_of_a_file_are_added(ledger: Path) -> None:
    Path("more.toml").write_text(
        '# from the first volume\n[[place]]\nname = "Ur"\n\n[[term]]\nname = "ether"\n'
    )
    assert templora("ledger", "storm", "add", "more.toml").stdout == "added: Ur, place\nadded: ether, term\n"
    assert "# from the first volume" in ledger.read_text("utf-8")
    again = templora("ledger", "storm", "add", "more.toml")
    assert "“Ur” is already a name of the place Ur" in message_of(again)
    for text, message in (("avoid = ['x']", "words to avoid"), ("# x", "no entries"), ("x", "line 1")):
        Path("more.toml").write_text(text)
        assert message in message_of(templora("ledger", "storm", "add", "more.toml"))


# --- edit --------------------------------------------------------------------------------------------


def files_of(session: Path) -> set[str]:
    return {path.name for path in session.iterdir() if "ledger" in path.name}


def test_an_edited_ledger_replaces_the_old_one(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_editor(monkeypatch, "path.write_text(path.read_text('utf-8').replace('Old Tom', 'Tom'), 'utf-8')")
    result = templora("ledger", "storm", "edit")
    assert result.exit_code == 0, message_of(result)
    assert result.stdout.startswith("ledger of storm-1a2b: 3 entries")
    assert ledger.read_text("utf-8") == BOOK.replace("Old Tom", "Tom")
    assert files_of(ledger.parent) == {"ledger.toml"}


def test_a_new_ledger_begins_with_an_explanation(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_editor(monkeypatch, "pathlib.Path('seen').write_text(path.read_text())")
    assert "nothing was changed" in templora("ledger", "edit").stderr
    assert Path("seen").read_text() == TEMPLATE and files_of(session) == set()
    set_editor(monkeypatch, "path.write_text('[[term]]\\nname = \"ether\"')")
    assert templora("ledger", "edit").exit_code == 0
    assert load_ledger(session / "ledger.toml").entries[0].name == "ether"


def test_a_text_with_an_error_is_opened_again(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_editor(monkeypatch, "path.write_text('[[person]]\\nname = Tom')")
    result = templora("ledger", "storm", "edit")
    message = message_of(result)
    assert message.startswith("ledger of storm-1a2b, line 2: invalid value; the ledger has not changed")
    (draft,) = files_of(ledger.parent) - {"ledger.toml"}
    assert str(ledger.parent / draft) in message
    assert hint_of(result).endswith("to edit it: templora ledger storm-1a2b edit")
    assert ledger.read_text("utf-8") == BOOK
    set_editor(monkeypatch, "path.write_text(path.read_text().replace('Tom', '\"Tom\"'))")
    assert templora("ledger", "storm", "edit").exit_code == 0
    assert [entry.name for entry in load_ledger(ledger).entries] == ["Tom"]
    assert files_of(ledger.parent) == {"ledger.toml"}


def test_a_ledger_that_was_changed_meanwhile_is_not_replaced(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"pathlib.Path({str(ledger)!r}).write_text('# other')"
    set_editor(monkeypatch, f"path.write_text('# mine'); {other}")
    message = message_of(templora("ledger", "storm", "edit"))
    assert "was changed while you edited it" in message and ledger.read_text() == "# other"
    (draft,) = files_of(ledger.parent) - {"ledger.toml"}
    assert draft in message and (ledger.parent / draft).read_text() == "# mine"
    set_editor(monkeypatch, "pathlib.Path('seen').write_text(path.read_text())")
    templora("ledger", "storm", "edit")
    assert Path("seen").read_text() == "# other", "the draft of another text is not opened"


def test_a_failing_editor_loses_nothing(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_editor(monkeypatch, "path.write_text('# mine'); sys.exit(3)")
    result = templora("ledger", "storm", "edit")
    assert "your text is in" in message_of(result) and hint_of(result) == "templora ledger storm-1a2b edit"
    assert ledger.read_text("utf-8") == BOOK
    monkeypatch.setenv("EDITOR", "no-such-editor")
    assert "there is no command no-such-editor" in message_of(templora("ledger", "storm", "edit"))


def test_an_invalid_ledger_can_be_edited(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.write_text("name = Bob")
    set_editor(monkeypatch, "pass")
    result = templora("ledger", "storm", "edit")
    assert "line 1: invalid value" in message_of(result) and files_of(ledger.parent) == {"ledger.toml"}
    set_editor(monkeypatch, "path.write_text('# empty')")
    assert templora("ledger", "storm", "edit").exit_code == 0


# --- propose -----------------------------------------------------------------------------------------


def test_names_of_the_book_are_proposed(ledger: Path) -> None:
    result = templora("ledger", "storm", "propose")
    assert result.stdout.splitlines() == ["name\ttimes\tsentence", "Holm\t3\tThen Mira saw Holm."]
    assert "templora ledger storm-1a2b add person NAME" in result.stderr


def test_proposals_become_entries(session: Path) -> None:
    result = templora("ledger", "storm", "propose", "--out", "names.toml")
    assert result.stdout == f"{Path('names.toml').absolute()}\n"
    text = Path("names.toml").read_text("utf-8")
    assert "# 3: Then Mira saw Holm." in text and "templora ledger storm-1a2b add names.toml" in text
    assert "overwrite" in message_of(templora("ledger", "storm", "propose", "--out", "names.toml"))
    assert templora("ledger", "storm", "add", "names.toml").exit_code == 0
    nothing = templora("ledger", "storm", "propose")
    assert nothing.exit_code == 0 and "no frequent names" in nothing.stderr


def test_names_of_a_manuscript_are_proposed(session: Path) -> None:
    Path("book.md").write_text("# Ur\n\nIn Ur it rained. They say that Ur is far. He went to Ur and to Ur.\n")
    result = templora("ledger", "storm", "propose", "--from", "book.md")
    assert result.stdout.splitlines()[1].startswith("Ur\t4\tIn Ur it rained.")


def test_a_session_without_text_has_no_names(session: Path) -> None:
    create("calm-1a2b").lock.release()
    result = templora("ledger", "calm", "propose")
    assert message_of(result) == "session calm-1a2b has no text yet"
    assert hint_of(result) == "templora resume calm-1a2b"
