"""`templora eval` on the tiny model: figures that are those of the loop, resuming, forms, mistakes."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from templora_cli.sessions.checkpoint import committed_steps, read_chunks
from templora_cli.sessions.store import Store
from tests.commands.test_cli import message_of, templora

TEXT = "The keeper went up the stairs. The keeper went down the stairs. " * 6


@pytest.fixture(autouse=True)
def book(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[train]\nrank = 4\nalpha = 4\n[given]\nlr = 1e-2\n")
    Path("book.txt").write_text(TEXT)


def ppl(model: Path, *arguments: str | Path) -> Result:
    small = ("--chunk-tokens", "32", "--context-tokens", "48")
    return templora("eval", "ppl", "book.txt", "--model", model, *small, *arguments)


def rows_of(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return list(json.loads(result.stdout)["rows"])


def test_the_figures_are_those_of_the_session(tiny_model: Path) -> None:
    first, whole = rows_of(ppl(tiny_model, "--json"))
    chunks = read_chunks(Store().find(None) / "steps")
    tokens = sum(len(chunk["tokens"]) for chunk in chunks)
    assert whole["tokens"] == tokens == len(TEXT) - 1, "all but the first, which is the header"
    assert all(chunk["origin"] == "given" for chunk in chunks)
    for name, nll in (("base_ppl", "nll_base"), ("adapter_ppl", "nll_adapter")):
        mean = sum(chunk[nll] * len(chunk["tokens"]) for chunk in chunks) / tokens
        assert whole[name] == pytest.approx(math.exp(mean))
    assert whole["change"] < -5, "a text that repeats itself is learnt"
    assert first["depth"] == "0-25K"


def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_figures(tiny_model: Path) -> None:
    expected = rows_of(ppl(tiny_model, "--json", "--set", "session.keep_checkpoints=99"))
    session = Store().find(None)
    for step in committed_steps(session / "steps")[4:]:
        shutil.rmtree(step)
    again = ppl(tiny_model, "--json", "--set", "keep_checkpoints=99")
    assert rows_of(again) == expected
    assert len(list(Store().folder.iterdir())) == 1, "the same session"
    assert "already there: 4 chunks" in again.stderr


def test_a_resumed_evaluation_prints_its_table(tiny_model: Path) -> None:
    ppl(tiny_model)
    session = Store().find(None)
    shutil.rmtree(committed_steps(session / "steps")[-1])
    result = templora("resume")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0].split("\t")[-1] == "change"
    longer = templora("resume", "--chunks", "2")
    assert longer.exit_code == 2 and "which has its length" in longer.stderr


def test_other_settings_are_another_run(tiny_model: Path) -> None:
    slow, fast = (
        rows_of(ppl(tiny_model, "--json", "--set", f"lr={lr}"))[-1]["adapter_ppl"] for lr in ("1e-5", "1e-2")
    )
    assert fast < slow
    assert len(list(Store().folder.iterdir())) == 2


def test_several_books_begin_with_a_new_adapter_each(tiny_model: Path) -> None:
    Path("again.txt").write_text(TEXT)
    result = ppl(tiny_model, "again.txt", "--csv", "--reference-averaging")
    table = list(csv.DictReader(io.StringIO(result.stdout)))
    assert {row["averaging"] for row in table} == {"tokens", "chunks"}
    figures: dict[str, list[list[str]]] = {"book.txt": [], "again.txt": []}
    for row in table:
        figures[row.pop("book")].append(list(row.values()))
    assert figures["book.txt"] == figures["again.txt"]


def test_the_base_alone(tiny_model: Path) -> None:
    row = rows_of(ppl(tiny_model, "--no-learn", "--json", "--limit-tokens", "100"))[-1]
    assert row["tokens"] == 100 and row["adapter_ppl"] is None and row["base_ppl"] > 1


def test_a_plot(tiny_model: Path) -> None:
    pytest.importorskip("matplotlib")
    assert ppl(tiny_model, "--plot", "ppl.svg", "-q").exit_code == 0
    assert "base + adapter" in Path("ppl.svg").read_text("utf-8")


BAD: dict[str, tuple[list[str], str]] = {
    "a missing file": (["nowhere.txt"], "there is no file nowhere.txt"),
    "a text shorter than a chunk": (["--limit-tokens", "10"], "less than a chunk of 32"),
    "no length": (["--limit-tokens", "0"], "--limit-tokens 0: must be at least 1"),
    "an unknown setting": (["--set", "speed=3"], "speed is no setting"),
    "a misspelt setting": (["--set", "context_tokenz=3"], "context_tokenz is no setting"),
    "a setting without a value": (["--set", "lr"], "has no value"),
    "a setting out of range": (["--set", "own.lr=-1"], "lr = -1"),
    "a plot of another form": (["--plot", "a.gif"], "drawn as .png or .svg"),
    "two forms": (["--json", "--csv"], "two forms"),
}


@pytest.mark.parametrize(("arguments", "complaint"), BAD.values(), ids=BAD.keys())
def test_bad_input(arguments: list[str], complaint: str, tiny_model: Path) -> None:
    result = ppl(tiny_model, *arguments)
    assert result.exit_code == 2
    assert complaint in message_of(result).replace("\n", " ")
    assert "hint: " in result.stderr and result.stdout == ""


# --- drift -------------------------------------------------------------------------------------------


def drift(model: Path, *arguments: str | Path) -> Result:
    small = ("--chunk-tokens", "16", "--context-tokens", "24", "--tokens", "48", "--seeds", "2")
    return templora("eval", "drift", "--premise", "A storm.", "--model", model, *small, *arguments)


def test_books_with_learning_and_without_are_measured_side_by_side(tiny_model: Path) -> None:
    rows = rows_of(drift(tiny_model, "--json", "--step", "16", "--probe", "book.txt"))
    assert [(row["books"], row["depth"]) for row in rows] == [
        (books, depth) for books in ("learning", "off") for depth in (0, 16, 32)
    ]
    assert all(row["tokens"] == 32 for row in rows), "two seeds of 16"
    learning, off = rows[:3], rows[3:]
    for row in rows:
        assert row["nll_base"] > 0 and 0 <= row["repetition_in_book"] <= 1
    assert len({row["probe_ppl"] for row in learning}) == 3, "the adapter moves"
    assert len({round(row["probe_ppl"], 4) for row in off}) == 1, "the base does not"


def test_a_drift_that_was_stopped_goes_on(tiny_model: Path) -> None:
    keep = ("--set", "keep_checkpoints=99", "--json", "--probe", "book.txt")
    expected = rows_of(drift(tiny_model, *keep))
    folders = list(Store().folder.iterdir())
    assert len(folders) == 4
    for folder in folders[:2]:
        shutil.rmtree(committed_steps(folder / "steps")[-1])
    assert rows_of(drift(tiny_model, *keep)) == expected
    assert len(list(Store().folder.iterdir())) == 4


def test_a_drift_leaves_a_book_with_the_same_settings_alone(tiny_model: Path) -> None:
    small = ("--chunk-tokens", "16", "--context-tokens", "24", "--tokens", "48", "--seed", "0")
    templora("write", "--premise", "A storm.", "--model", tiny_model, *small)
    mine = Store().find(None)
    shutil.rmtree(committed_steps(mine / "steps")[-1])
    assert drift(tiny_model, "-q").exit_code == 0
    assert len(committed_steps(mine / "steps")) == 2
    assert len(list(Store().folder.iterdir())) == 1 + 4


def test_a_drift_is_not_resumed_unmeasured(tiny_model: Path) -> None:
    drift(tiny_model, "-q")
    result = templora("resume")
    assert result.exit_code == 2 and "eval drift command again" in result.stderr


def test_the_prose_of_a_drift_is_not_mixed_with_its_table(tiny_model: Path) -> None:
    result = drift(tiny_model, "-q")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and len(lines) == 3 and lines[0].startswith("depth\tbooks")
    assert result.stderr == ""


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--step", "0"], ["--probe", "none.txt"]])
def test_a_drift_that_cannot_be(arguments: list[str], tiny_model: Path) -> None:
    result = drift(tiny_model, *arguments)
    assert result.exit_code == 2 and result.stderr.startswith("error: ") and "hint: " in result.stderr
