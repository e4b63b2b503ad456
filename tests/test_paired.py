"""The paired measure: the base against itself is even, every recipe differs, and the parts count rightly."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import paired, paired_variants
from templora_cli.config import ModelConfig, TrainConfig
from templora_cli.engine.models import loading
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.engine.training.nll import NegativeLogLikelihood
from templora_cli.engine.training.objective import Window
from templora_cli.ngrams import repetition
from templora_cli.prompt import Prompt
from templora_cli.turn import Chunk, Given

SIZES = ("--chunk-tokens", "32", "--context-tokens", "32")
RECIPES = (
    *("nll 5e-4", "mask 5e-4", "replay 5e-4", "mask and replay 5e-4", "kept 5e-4", "sampled 5e-4"),
    *("nll, down_proj 5e-4", "nll, average 5e-4", "nll, decay 0.1 5e-4", "nll, rank 8 5e-4"),
    "openings 5e-4, 3 passes",
)


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(paired.app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def books(tiny_model: Path) -> Path:
    invoke("write-books", "--books", "1", "--tokens", "160", "--model", str(tiny_model), *SIZES)
    return Path("books.jsonl")


def measure(model: Path, *recipes: str) -> list[dict[str, Any]]:
    names = [part for name in recipes for part in ("--recipe", name)]
    Path("probe.txt").write_text("The quick brown fox jumps over the lazy dog. " * 4)
    invoke("run", "books.jsonl", *names, "--model", str(model), *SIZES, "--probe", "probe.txt")
    return [json.loads(line) for line in Path("paired.jsonl").read_text().splitlines()]


def test_recipes_differ_from_the_base_and_from_each_other(tiny_model: Path, books: Path) -> None:
    lines = measure(tiny_model, "off", *RECIPES)
    assert [line["recipe"] for line in lines] == ["off", *RECIPES]
    base = lines[0]
    nothing = paired.differences(base, base)
    assert (nothing["paragraph_end"], nothing["entropy"], nothing["probes"]) == (1, 0, 0)
    found = [paired.differences(line, base)["entropy"] for line in lines[1:]]
    assert 0 not in found and len(set(found)) == len(RECIPES)
    assert all(name in paired_table() for name in RECIPES)
    rows = invoke("limits", "paired.jsonl").splitlines()
    assert [row.split(" | ")[0] for row in rows[2:]] == [f"| {name}" for name in RECIPES]
    assert all(row.split(" | ")[1] == "4" for row in rows[2:]), (
        "all chunks but the first, of which the base knows nothing"
    )
    assert measure(tiny_model, "off") == lines, "lines that are there are not computed again"


def test_books_that_are_written_with_a_recipe_are_compared(tiny_model: Path, books: Path) -> None:
    off = json.loads(books.read_text())
    write = ("write-books", "--books", "1", "--tokens", "160", "--model", str(tiny_model), *SIZES)
    invoke(*write, "--recipe", "kept 5e-4")
    invoke(*write, "--recipe", "kept 5e-4")
    first, kept = map(json.loads, books.read_text().splitlines())
    assert first == off and kept["recipe"] == "kept 5e-4" and kept["tokens"] != off["tokens"]
    assert off["learning"] < kept["learning"] and kept["decoding"] > 0
    assert all(chunk["train_losses"] or chunk["rejection_reason"] for chunk in kept["chunks"])
    rows = invoke("repeats", "books.jsonl").splitlines()
    shares = [repetition([], line["tokens"]) for line in (off, kept)]
    assert rows[2].startswith(f"| off | 1 | {shares[0]:.3f} |")
    assert rows[3].startswith(f"| kept 5e-4 | 1 | {shares[1]:.3f} |")


def test_the_ratio_of_two_means_has_an_interval_over_books() -> None:
    assert paired.ratio_interval([0.2, 0.4], [0.1, 0.2]) == "2.00 (2.00 to 2.00)"
    assert paired.ratio_interval([0.1, 0.4], [0.1, 0.1]) == "2.50 (1.00 to 4.00)"
    assert paired.ratio_interval([0.1], [0.0]) == ""


def paired_table() -> str:
    return invoke("table", "paired.jsonl")


def test_the_completion_share_is_the_probability_of_the_known_tokens(tiny_model: Path) -> None:
    model = loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=4, alpha=4), seed=0)
    turn = Given(Prompt((1,), (2, 3)), (4, 5), "generated")
    ends = paired.TokenEnds(torch.tensor([6]), torch.tensor([7]))
    values = paired.predictions(model, turn, [frozenset(), frozenset({5, 8})], ends, [1])
    nlls = chunk_nll(model.module, (1, 2, 3), (4, 5))
    other = chunk_nll(model.module, (1, 2, 3), (4, 8))[1].item()
    assert values["nll"] == pytest.approx(nlls.mean().item(), rel=1e-4)
    assert values["words"] == pytest.approx(nlls[1].item(), rel=1e-4)
    expected = (math.exp(-nlls[1].item()) + math.exp(-other)) / 2
    assert values["completion"] == pytest.approx(expected, rel=1e-4)


def test_only_new_four_grams_are_scored(tiny_model: Path) -> None:
    model = loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=4, alpha=4), seed=0)
    select = paired_variants.new_tokens(model)
    learning = paired.config_of(paired_variants.rate("1e-4"), 0, (32, 32), str(tiny_model)).generated
    turn = Given(Prompt((1,), ()), (10, 11, 12, 13, 14), "generated")
    [window] = select(turn, Chunk(turn.tokens, ""), [9, 10, 11, 12, 13], learning)
    names = paired_variants.name_tokens(model.tokenizer, turn.tokens)
    assert [mark or name for mark, name in zip((True, True, True, False, True), names, strict=True)] == list(
        window.loss_mask
    )


def test_the_band_leaves_out_the_certain_and_the_odd(tiny_model: Path) -> None:
    model = loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=4, alpha=4), seed=0)
    window = Window((1,), (2, 3), (), (4, 5, 6), ())
    nlls = chunk_nll(model.module, (1, 2, 3), (4, 5, 6))
    lowest = math.exp(-nlls.max().item())
    config = paired.config_of((), 0, (32, 32), str(tiny_model)).generated
    whole = paired_variants.BandNll(above=0.0001, below=0.9999).loss(window, model, config)()
    assert whole.item() == pytest.approx(NegativeLogLikelihood().loss(window, model, config)().item())
    without_odd = paired_variants.BandNll(above=lowest * 1.0001, below=0.9999).loss(window, model, config)()
    assert without_odd.item() == pytest.approx((nlls.sum() - nlls.max()).item() / 2)
    marked = paired_variants.MarkedWindow(**vars(window), always=(True, True, True))
    always = paired_variants.BandNll(above=lowest * 1.0001, below=0.9999).loss(marked, model, config)()
    assert always.item() == pytest.approx(nlls.mean().item())


def test_an_interval_is_that_of_student() -> None:
    assert paired.interval([1.0, 2.0, 3.0]) == "2.000 ± 2.483"


def test_a_recipe_is_found_by_its_name_at_any_rate() -> None:
    kept = paired_variants.variant_of("kept 3.4e-6, 4 samples")
    assert kept and kept.settings == ("generated.lr=3.4e-6", "generated.replay_samples=4")
    named = [name.replace("RATE", "1e-4") for name in paired_variants.VARIANTS]
    assert all(paired_variants.variant_of(name) for name in named)
    assert not any(map(paired_variants.variant_of, ("nll", "nll RATE", "off 1e-4", "nll 1e-4 2e-4", "")))
