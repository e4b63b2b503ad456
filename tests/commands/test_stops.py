"""Ctrl-C before a run begins: a message, and nothing has changed."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from templora_cli.config import Config
from templora_cli.engine.models.loading import LanguageModel
from tests.commands.test_cli import EXACT, SMALL, events_of, only_session, templora, write
from tests.random_text import RANDOM_TEXT

SAME = "type the same command again"
EARLY = ("resume", "storm", "--words", "300", "--out", "late.md")


@pytest.fixture(autouse=True)
def small_adapter(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(RANDOM_TEXT + "[train]\nrank = 2\nalpha = 2\n")


def press_ctrl_c(folder: Path, config: Config) -> LanguageModel:
    raise KeyboardInterrupt


STOPPED = replace(EXACT, load=press_ctrl_c)


def test_a_book_that_is_stopped_while_its_model_loads_can_be_begun_again(tiny_model: Path) -> None:
    arguments = ("--chunks", "1", "--name", "storm")
    stopped = write(tiny_model, *arguments, engine=STOPPED)
    assert stopped.exit_code == 130
    assert f"stopped before the book began; {SAME}" in stopped.stderr
    assert write(tiny_model, *arguments).exit_code == 0


@pytest.mark.parametrize(
    "command", [("eval", "ppl", "book.txt"), ("eval", "drift", "--premise", "A")], ids=["ppl", "drift"]
)
def test_an_evaluation_that_is_stopped_while_its_model_loads(
    command: Sequence[str], tiny_model: Path
) -> None:
    Path("book.txt").write_text("He went. " * 50)
    stopped = templora(*command, "--model", tiny_model, *SMALL, engine=STOPPED)
    assert stopped.exit_code == 130
    assert f"stopped; to continue, {SAME}" in stopped.stderr


def test_a_resume_that_is_stopped_while_its_model_loads_changes_nothing(tiny_model: Path) -> None:
    assert write(tiny_model, "--chunks", "1", "--name", "storm").exit_code == 0
    before = (only_session() / "session.json").read_bytes()
    moved = shutil.copytree(tiny_model, "moved")
    stopped = templora(*EARLY, "--model", moved, engine=STOPPED)
    assert stopped.exit_code == 130
    assert f"stopped before anything was changed; {SAME}" in stopped.stderr
    assert (only_session() / "session.json").read_bytes() == before


def test_with_json_an_early_stop_is_a_notice(tiny_model: Path) -> None:
    stopped = write(tiny_model, "--json", engine=STOPPED)
    assert events_of(stopped)[-1]["message"] == f"stopped before the book began; {SAME}"


def test_ctrl_c_that_a_library_turns_into_an_error_is_no_error(tiny_model: Path) -> None:
    def fail(folder: Path, config: Config) -> LanguageModel:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("cannot import name") from None
        raise AssertionError

    stopped = write(tiny_model, engine=replace(EXACT, load=fail))
    assert stopped.exit_code == 130 and "stopped before the book began" in stopped.stderr
