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
