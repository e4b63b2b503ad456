"""The recipes for own text: each does something of its own, and reports what `eval drift` would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks import own
from templora_cli import cli, temp_lora

SIZES = ("--tokens", "96", "--chunk-tokens", "32", "--context-tokens", "32")


def run(model: Path, *names: str, seed: int = 0) -> dict[str, Any]:
    recipes = [part for name in names for part in ("--recipe", name)]
    arguments = ["run", *recipes, "--seed", str(seed), "--model", str(model), *SIZES, "--out", "own.jsonl"]
    result = CliRunner().invoke(own.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    books = [json.loads(line) for line in Path("own.jsonl").read_text().splitlines()]
    return {book["recipe"]: book for book in books}


def test_its_figures_are_those_of_the_evaluation(tiny_model: Path) -> None:
    books = run(tiny_model, "nll 2e-4", "off")
    arguments = ["eval", "drift", "--premise", own.PREMISE, "--seeds", "1", "--step", "4096", "--json"]
    arguments += ["--model", str(tiny_model), "--set", "own.lr=2e-4", *SIZES]
    rows = json.loads(CliRunner().invoke(cli.app, arguments, catch_exceptions=False).stdout)["rows"]
    for name, row in zip(("nll 2e-4", "off"), rows, strict=True):
        [mean] = own.by_depth([own.Measures(**one) for one in books[name]["measured"]], 4096)
        for measure in ("nll_base", "distinct_3", "repetition_in_book", "new_words"):
            assert getattr(mean, measure) == pytest.approx(row[measure]), (name, measure)


def test_every_recipe_does_something_of_its_own(tiny_model: Path) -> None:
    names = ["off", "nll 5e-5", "nll 5e-5, first chunk replayed", "distill 2e-4, teacher 4096"]
    books = run(tiny_model, *names)
    learnt = {name: [chunk["nll_adapter"] for chunk in books[name]["chunks"]] for name in names}
    assert learnt.pop("off") == [None] * 3
    last = [nlls[-1] for nlls in learnt.values()]
    assert len(set(last)) == len(last)


def test_a_budget_keeps_the_adapter_near_the_base(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = ("own.lr=1e-2",)
    monkeypatch.setitem(own.VARIANTS, "free", own.Variant(fast))
    monkeypatch.setitem(own.VARIANTS, "bound", own.Variant(fast, own.kl_budget(1e-4)))
    books = run(tiny_model, "free", "bound")

    def moved(name: str) -> float:
        chunk, measured = books[name]["chunks"][-1], books[name]["measured"][-1]
        return abs(float(chunk["nll_adapter"] - measured["nll_base"]))

    assert moved("bound") < moved("free") / 2


def test_the_loop_is_left_as_it_was() -> None:
    before = temp_lora.objective, temp_lora.windows
    for name in ("nll 2e-4, KL within 0.02", "nll 5e-5, first chunk replayed"):
        with own.VARIANTS[name].change():
            assert (temp_lora.objective, temp_lora.windows) != before
    assert (temp_lora.objective, temp_lora.windows) == before
