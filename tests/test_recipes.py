"""The grid of recipes: every kind of variant runs, and the figures match those of `eval ppl`."""

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


def test_figures_match_those_of_the_evaluation(tiny_model: Path) -> None:
    for name in ("paper", "lr=5e-4"):
        result = grid(tiny_model, name)[-1]
        settings = [part for text in variants.VARIANTS[name].settings for part in ("--set", text)]
        row = rows_of(ppl(tiny_model, "--json", *settings, *SMALL))[-1]
        assert recipes.ppl_change(result) == pytest.approx(row["change"], abs=1e-3)


def test_every_kind_of_variant_learns(tiny_model: Path) -> None:
    names = [
        *("lr=2e-3 epochs=1 muon", "lr=5e-4 average", "lr=2e-4 window=256", "lr=5e-4 decaying"),
        *("lr=2e-4 epochs=1 lora+ 4", "lr=2e-4 epochs=2 frozen context", "lr=3e-4 epochs=1 replay=1"),
        *("lr=2e-4 mlp", "lr=1.0 sgd", "lr=2e-4 orthogonal A", "lr=2e-4 betas=0.9,0.99", "default"),
        *("lr=2e-4 and the output head", "lr=2e-4 slow keys"),
    ]
    results = grid(tiny_model, *names)
    assert [result["recipe"] for result in results] == names
    assert all(recipes.ppl_change(result) < 0 for result in results)
    assert len({recipes.ppl_change(result) for result in results}) == len(names), "each has another effect"


def test_the_hardest_windows_have_the_highest_loss(tiny_model: Path) -> None:
    model = loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=4, alpha=4), seed=0)
    texts = (tuple(b"eeee"), tuple(b"\x00\x01\x02\x03"), (5,))
    candidates = [Window((1,), (), (), tokens, ()) for tokens in texts]
    nlls = [chunk_nll(model.module, (1,), window.tokens).mean().item() for window in candidates]
    hardest = variants.hardest_windows(model, candidates)
    assert len(hardest) == 2 and candidates[nlls.index(min(nlls))] not in hardest
    assert hardest == [window for window in candidates if window in hardest], "in their order"

    text = tuple(b"eeee\x00\x01\x02\x03the lamp")
    turn = Given(Prompt((1,), (2, 3)), text), Chunk(text, ""), (2, 3), LearningConfig(window_tokens=4)
    learnt = variants.VARIANTS["lr=2e-4 window=128 hardest half"].recipe(model).windows(*turn)
    assert learnt == variants.hardest_windows(model, windows(*turn)) and len(learnt) == 2


def test_a_decaying_rate_has_the_warm_up_and_halves_after_twelve_chunks(tiny_model: Path) -> None:
    model = loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=4, alpha=4), seed=0)
    rate = variants.VARIANTS["lr=5e-4 decaying"].recipe(model).rate
    learning, train = LearningConfig(lr=0.4), TrainConfig(warmup_chunks=2)
    assert [rate(chunk, learning, train) for chunk in (0, 12)] == [0.2, 0.2]


def test_the_plot_has_a_curve_for_each_recipe(tiny_model: Path) -> None:
    grid(tiny_model, "paper", "lr=5e-4")
    plot = CliRunner().invoke(recipes.app, ["plot", "grid.jsonl", "--out", "curves.svg", "--step", "64"])
    assert plot.exit_code == 0, plot.output
    text = Path("curves.svg").read_text()
    assert (
        "<!-- paper rank=4 alpha=4 -->" in text
        and "<!-- lr=5e-4 rank=4" in text
        and "<!-- book.txt -->" in text
    )
    result = json.loads(Path("grid.jsonl").read_text().splitlines()[0])
    change = recipes.ppl_change_between(result, 0, result["tokens"])
    assert change == pytest.approx(recipes.ppl_change(result))


def test_recipes_do_not_depend_on_the_default_passes_and_windows() -> None:
    for name, variant in variants.VARIANTS.items():
        human = recipes.config_of(variant.settings, (32, 48)).human
        if name.startswith(("default", "paper")):
            continue
        assert human.epochs == (1 if "epochs=1" in name else human.epochs if "epochs=" in name else 2), name
        assert (human.window_tokens > 0) == ("window=" in name), name
