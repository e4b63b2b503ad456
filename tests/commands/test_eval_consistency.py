"""`templora eval consistency` with the tiny model: results, resuming, output formats, errors."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from templora_cli.sessions.steps import committed_steps
from templora_cli.sessions.store import Store
from tests.commands.test_cli import message_of, templora

ARMS = ["window", "fact in window", "adapter", "recall", "recall + adapter", "ledger", "all"]
TEXT = "\n\n".join(f"The keeper went up stair number {number}, and then down again." for number in range(60))


@pytest.fixture(autouse=True)
def book(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[train]\nrank = 4\nalpha = 4\n[human]\nlr = 1e-2\n")
    Path("book.txt").write_text(TEXT)


def consistency(model: Path, *arguments: str | Path, files: tuple[str, ...] = ("book.txt",)) -> Result:
    small = ("--chunk-tokens", "256", "--context-tokens", "256", "--distances", "300,600")
    size = ("--questions", "8", "--chapters", "3")
    return templora("eval", "consistency", *files, "--model", model, *small, *size, *arguments)


def tables_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


def lines_of(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def test_a_stopped_run_is_resumed_with_the_same_answers(tiny_model: Path) -> None:
    arguments = ("--json", "--set", "session.keep_checkpoints=99", "--out")
    expected = tables_of(consistency(tiny_model, *arguments, "first.jsonl"))
    overall = [row for row in expected["rows"] if row["kind"] == "all"]
    assert [(row["arm"], row["distance"], row["questions"]) for row in overall] == [
        (arm, distance, 4) for arm in ARMS for distance in (300, 600)
    ]
    assert [row["comparison"] for row in expected["comparisons"]] == [
        *(["adapter added to recall, points"] * 2),
        *(["recall, % of fact in window"] * 2),
        *(["facts found by recall, %"] * 2),
    ]
    lines = lines_of("first.jsonl")
    assert [line["options"][line["right"]] for line in lines] == [line["answer"] for line in lines]
    assert len({line["arms"]["adapter"]["question"][0] for line in lines}) == 8, "the adapter changes"

    (session,) = Store().folder.iterdir()
    answers = json.loads((session / "answers.json").read_text())
    assert answers.keys() == {str(number) for number in range(8)}
    early = next(number for number, line in enumerate(lines) if line["position"] >= 3 * 256)
    for step in committed_steps(session / "steps")[3:]:
        shutil.rmtree(step)
    kept = {number: answer for number, answer in answers.items() if int(number) < early}
    (session / "answers.json").write_text(json.dumps(kept))
    assert tables_of(consistency(tiny_model, *arguments, "again.jsonl")) == expected
    assert lines_of("again.jsonl") == lines
    assert len(list(Store().folder.iterdir())) == 1, "the same session"

    # A finished run only prints its tables, in any form.
    table = list(csv.DictReader(io.StringIO(consistency(tiny_model, *arguments[1:3], "--csv").stdout)))
    assert [float(row["right"]) for row in table] == [row["right"] for row in expected["rows"]]
    (session / "answers.json").write_text(json.dumps({"0": answers["0"]}))
    result = consistency(tiny_model, *arguments[:3])
    assert result.exit_code == 2 and "has no answer to question 2" in result.stderr


def test_the_scoring_is_that_of_the_tables(tiny_model: Path) -> None:
    assert consistency(tiny_model, "--no-learn", "--out", "first.jsonl").exit_code == 0
    (session,) = Store().folder.iterdir()
    answers = json.loads((session / "answers.json").read_text())
    for line, answer in zip(lines_of("first.jsonl"), answers.values(), strict=True):
        is_right = [index == line["right"] for index in range(4)]
        likely = {"question": [-1 if right else -2 for right in is_right]}
        likely |= {"empty": [-1 if right else -5 for right in is_right]}
        answer["arms"] = dict.fromkeys(answer["arms"], likely)
    (session / "answers.json").write_text(json.dumps(answers))
    for scoring, share in (("sum", 100), ("empty", 0)):
        rows = tables_of(consistency(tiny_model, "--no-learn", "--json", "--scoring", scoring))["rows"]
        assert {row["right"] for row in rows} == {share}


def test_two_books_without_learning(tiny_model: Path) -> None:
    Path("other.txt").write_text(TEXT.replace("keeper", "sailor"))
    result = consistency(tiny_model, "--no-learn", "--out", "a.jsonl", "-q", files=("book.txt", "other.txt"))
    assert result.exit_code == 0 and result.stderr == ""
    head, *rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert head == ["right, %", "300", "600"]
    assert [row[0] for row in rows] == [
        *("window", "fact in window", "recall", "ledger"),
        *("recall, % of fact in window", "facts found by recall, %"),
    ]
    lines = lines_of("a.jsonl")
    assert [line["book"] for line in lines] == ["book.txt"] * 8 + ["other.txt"] * 8
    assert not {line["answer"] for line in lines[:8]} & {line["answer"] for line in lines[8:]}
    assert len(list(Store().folder.iterdir())) == 2


def test_a_plot(tiny_model: Path) -> None:
    pytest.importorskip("matplotlib")
    assert consistency(tiny_model, "--no-learn", "--plot", "a.svg", "-q").exit_code == 0
    drawn = Path("a.svg").read_text("utf-8")
    assert "fact in window" in drawn and "<!-- 600 -->" in drawn and "<!-- chance -->" in drawn


BAD: dict[str, tuple[list[str], str]] = {
    "no questions": (["--questions", "0"], "--questions 0: must be at least 1"),
    "no chapters": (["--chapters", "0"], "--chapters 0: must be at least 1"),
    "too many chapters": (["--chapters", "900"], "--chapters 900: too many for a book of"),
    "a distance within the window": (
        ["--distances", "300,200"],
        "after 200 tokens a fact is still in the window",
    ),
    "words for a distance": (["--distances", "near,far"], "must be numbers with commas between them"),
    "no distances": (["--distances", ""], "must be numbers with commas between them"),
    "a distance beyond the text": (["--distances", "300,99999"], "book.txt is too short"),
    "an out of another format": (["--out", "a.json"], "must be a .jsonl file"),
    "an existing out": (["--out", "old.jsonl"], "old.jsonl exists and is not overwritten"),
    "a plot of another format": (["--plot", "a.gif"], "drawn as .png or .svg"),
    "two formats": (["--json", "--csv"], "cannot be combined"),
    "an unknown setting": (["--set", "speed=3"], "speed is not a setting"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(arguments: list[str], message: str, tiny_model: Path) -> None:
    Path("old.jsonl").write_text("")
    result = consistency(tiny_model, *arguments)
    assert result.exit_code == 2
    assert message in message_of(result).replace("\n", " ")
    assert "hint: " in result.stderr and result.stdout == ""
