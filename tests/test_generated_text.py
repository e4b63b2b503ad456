"""The recipes for own text: each does something of its own, and reports what `eval drift` would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import generated_text
from templora_cli import cli
from templora_cli.config import Config
from templora_cli.engine.models import loading
from templora_cli.engine.training.objective import Window
from templora_cli.engine.training.objectives import OBJECTIVES

SIZES = ("--tokens", "96", "--chunk-tokens", "32", "--context-tokens", "32")


def run(model: Path, *names: str, seed: int = 0) -> dict[str, Any]:
    recipes = [part for name in names for part in ("--recipe", name)]
    arguments = [
        "run",
        *recipes,
        "--seed",
        str(seed),
        "--model",
        str(model),
        *SIZES,
        "--out",
        "generated_text.jsonl",
    ]
    result = CliRunner().invoke(generated_text.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    books = [json.loads(line) for line in Path("generated_text.jsonl").read_text().splitlines()]
    return {book["recipe"]: book for book in books}


def test_its_figures_are_those_of_the_evaluation(tiny_model: Path) -> None:
    books = run(tiny_model, "nll 2e-4", "off")
    arguments = [
        "eval",
        "drift",
        "--premise",
        generated_text.PREMISE,
        "--seeds",
        "1",
        "--step",
        "4096",
        "--json",
    ]
    arguments += ["--model", str(tiny_model), *SIZES]
    arguments += [
        part for setting in generated_text.VARIANTS["nll 2e-4"].settings for part in ("--set", setting)
    ]
    rows = json.loads(CliRunner().invoke(cli.app, arguments, catch_exceptions=False).stdout)["rows"]
    for name, row in zip(("nll 2e-4", "off"), rows, strict=True):
        [mean] = generated_text.by_depth(
            [generated_text.Measures(**one) for one in books[name]["measured"]], 4096
        )
        for measure in ("nll_base", "distinct_3", "repetition_in_book", "new_words"):
            assert getattr(mean, measure) == pytest.approx(row[measure]), (name, measure)


def test_every_recipe_does_something_of_its_own(tiny_model: Path) -> None:
    names = ["off", "nll 5e-5", "nll 5e-5, first chunk replayed", "distill 2e-4, teacher 4096"]
    books = run(tiny_model, *names)
    learnt = {name: [chunk["nll_adapter"] for chunk in books[name]["chunks"]] for name in names}
    assert learnt.pop("off") == [None] * 3
    last = [nlls[-1] for nlls in learnt.values()]
    assert len(set(last)) == len(last)


def test_beyond_its_budget_a_step_goes_back_to_the_base(tiny_model: Path) -> None:
    config = Config()
    model = loading.load(tiny_model, config.model, config.train, seed=0)
    window = Window((1,), (2, 3), (2, 3), (4, 5, 6), ())
    nll = OBJECTIVES["nll"].loss(window, model, config.generated)
    bound = (
        generated_text.VARIANTS["nll 2e-4, KL within 0.02"]
        .recipe.objectives["nll"]
        .loss(window, model, config.generated)
    )
    assert nll and bound
    assert bound().item() == pytest.approx(nll().item()), "the base itself is within every budget"
    with torch.no_grad():
        for weight in model.adapter.values():
            weight.add_(0.05)
    assert 0.02 < bound().item() != pytest.approx(nll().item())
    optimizer = torch.optim.Adam(model.adapter.values(), lr=5e-3)
    for _ in range(40):
        optimizer.zero_grad()
        (loss := bound()).backward()
        optimizer.step()
        if loss.item() > 1:  # the NLL again
            break
    else:
        pytest.fail("it did not come back")
