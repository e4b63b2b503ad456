"""`--prime` and `--from-session` of `templora write`."""

from __future__ import annotations

from pathlib import Path

import pytest

from templora_cli.sessions.store import Store
from tests.commands.test_cli import events_of, small_adapter, templora  # noqa: F401
from tests.commands.test_write import SMALL, STORY, writing

pytestmark = pytest.mark.usefixtures("small_adapter")
BOOK = ("--premise", "A storm.", *SMALL, "--words", "1")


def test_a_book_begins_with_texts_of_its_author(tiny_model: Path) -> None:
    Path("diary.md").write_text("# Diary\n\nThe rain fell on the harbour.\n", "utf-8")
    Path("letters.txt").write_text("Dear sister, the ships are late again.", "utf-8")
    given = ("write", *BOOK, "--model", tiny_model, "--prime", "diary.md", "--prime", "letters.txt")
    result = templora(*given, engine=writing(STORY))
    assert result.exit_code == 0
    assert "ships" not in result.stdout and "Diary" not in result.stdout
    assert "tokens of diary.md, letters.txt in" in result.stderr
    again = templora(*given, "--json", "--seed", "3", engine=writing(STORY))
    names = [event["event"] for event in events_of(again)]
    assert names.count("session_opened") == 3 - 1 and "primed" in names
    assert names[: names.index("primed")].count("chunk_committed") == 0, "it had been learnt"
    shown = templora("sessions", "show")
    assert "the adapter of prime-diary-" in shown.stdout


def test_a_book_begins_with_the_adapter_of_another(tiny_model: Path) -> None:
    arguments = ("write", *BOOK, "--model", tiny_model)
    assert templora(*arguments, "--name", "first", engine=writing(STORY)).exit_code == 0
    result = templora(*arguments, "--name", "second", "--from-session", "fir", engine=writing(STORY))
    assert result.exit_code == 0 and (Store().folder / "second" / "start").is_dir()
    missing = templora(*arguments, "--from-session", "third")
    assert missing.exit_code == 2 and "no session is called third" in missing.stderr


def test_flags_that_exclude_each_other_are_refused(tiny_model: Path) -> None:
    Path("diary.txt").write_text("The rain fell.", "utf-8")
    Path("empty.txt").write_text("", "utf-8")
    arguments = ("write", *BOOK, "--model", tiny_model, "--prime", "diary.txt")
    both = templora(*arguments, "--from-session", "x")
    assert both.exit_code == 2 and "--prime and --from-session cannot be combined" in both.stderr
    unlearnt = templora(*arguments, "--no-learn")
    assert unlearnt.exit_code == 2 and "--prime and --no-learn cannot be combined" in unlearnt.stderr
    empty = templora(*arguments, "--prime", "empty.txt")
    assert empty.exit_code == 2 and "empty.txt" in empty.stderr
    absent = templora(*arguments, "--prime", "nothing.txt")
    assert absent.exit_code == 2 and "nothing.txt" in absent.stderr
    assert not list(Store().manifests())
