"""The grid of recipes: it runs, and what it reports is what the loop measures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import recipes, variants
from templora_cli.config import LearningConfig, ModelConfig, TrainConfig
from templora_cli.engine.models import loading
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.engine.training.objective import Window
from templora_cli.learning import windows
from templora_cli.prompt import Prompt
from templora_cli.turn import Chunk, Given
from tests.commands.test_eval import TEXT, ppl, rows_of

SMALL = ("--set", "rank=4", "--set", "alpha=4", "--limit-tokens", "256")


def grid(model: Path, *names: str) -> list[dict[str, object]]:
    only = [part for name in names for part in ("--only", name)]
    sizes = ("--chunk-tokens", "32", "--context-tokens", "48", "--out", "grid.jsonl")
    arguments = ["grid", "book.txt", "--model", str(model), *sizes, *SMALL, *only]
    result = CliRunner().invoke(recipes.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in Path("grid.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def book() -> None:
    Path("book.txt").write_text(TEXT)


def test_its_figures_are_those_of_the_evaluation(tiny_model: Path) -> None:
    for name in ("paper", "lr=5e-4"):
        result = grid(tiny_model, name)[-1]
        settings = [part for text in variants.VARIANTS[name].settings for part in ("--set", text)]
        row = rows_of(ppl(tiny_model, "--json", *settings, *SMALL))[-1]
        assert recipes.change(result) == pytest.approx(row["change"], abs=1e-3)


def test_every_kind_of_variant_learns(tiny_model: Path) -> None:
    names = [
        *("lr=2e-3 epochs=1 muon", "lr=5e-4 average", "lr=2e-4 window=256", "lr=5e-4 decaying"),
        *("lr=2e-4 epochs=1 lora+ 4", "lr=2e-4 epochs=2 frozen context", "lr=3e-4 epochs=1 replay=1"),
        *("lr=2e-4 mlp", "lr=1.0 sgd", "lr=2e-4 orthogonal A", "lr=2e-4 betas=0.9,0.99", "default"),
        *("lr=2e-4 and the output head", "lr=2e-4 slow keys"),
    ]
    results = grid(tiny_model, *names)
    assert [result["recipe"] for result in results] == names
    assert all(recipes.change(result) < 0 for result in results)
    assert len({recipes.change(result) for result in results}) == len(names), "each does something else"


def test_the_hardest_windows_are_those_with_the_highest_loss(tiny_model: Path) -> None:
    model = loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=4, alpha=4), seed=0)
    made = [Window((1,), (), (), tokens, ()) for tokens in (tuple(b"eeee"), tuple(b"\x00\x01\x02\x03"), (5,))]
    nlls = [chunk_nll(model.module, (1,), window.tokens).mean().item() for window in made]
    kept = variants.hardest(model, made)
    assert len(kept) == 2 and made[nlls.index(min(nlls))] not in kept
    assert kept == [window for window in made if window in kept], "in their order"

    text = tuple(b"eeee\x00\x01\x02\x03the lamp")
    turn = Given(Prompt((1,), (2, 3)), text), Chunk(text, ""), (2, 3), LearningConfig(window_tokens=4)
    learnt = variants.VARIANTS["lr=2e-4 window=128 hardest half"].recipe(model).windows(*turn)
    assert learnt == variants.hardest(model, windows(*turn)) and len(learnt) == 2


def test_a_rate_that_falls_is_that_of_the_loop_and_half_of_it_after_twelve_chunks(tiny_model: Path) -> None:
    model = loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=4, alpha=4), seed=0)
    rate = variants.VARIANTS["lr=5e-4 decaying"].recipe(model).rate
    learning, train = LearningConfig(lr=0.4), TrainConfig(warmup_chunks=2)
    assert [rate(chunk, learning, train) for chunk in (0, 12)] == [0.2, 0.2]


def test_the_curves_of_several_recipes_are_drawn(tiny_model: Path) -> None:
    grid(tiny_model, "paper", "lr=5e-4")
    drawn = CliRunner().invoke(recipes.app, ["plot", "grid.jsonl", "--out", "curves.svg", "--step", "64"])
    assert drawn.exit_code == 0, drawn.output
    text = Path("curves.svg").read_text()
    assert (
        "<!-- paper rank=4 alpha=4 -->" in text
        and "<!-- lr=5e-4 rank=4" in text
        and "<!-- book.txt -->" in text
    )
    result = json.loads(Path("grid.jsonl").read_text().splitlines()[0])
    whole = recipes.between(result, 0, result["tokens"])
    assert whole == pytest.approx(recipes.change(result))


def test_a_recipe_says_all_that_it_is_whatever_the_defaults_are() -> None:
    for name, variant in variants.VARIANTS.items():
        given = recipes.config_of(variant.settings, (32, 48)).human
        if name.startswith(("default", "paper")):
            continue
        assert given.epochs == (1 if "epochs=1" in name else given.epochs if "epochs=" in name else 2), name
        assert (given.window_tokens > 0) == ("window=" in name), name
