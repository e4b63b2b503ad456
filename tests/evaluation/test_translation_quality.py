"""Scores of translations with learning and without."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from templora_cli.config import ModelConfig, TrainConfig
from templora_cli.documents.aligned_text import AlignedPair
from templora_cli.engine.decoding.choose import backend_for
from templora_cli.engine.models import loading
from templora_cli.errors import TemploraError
from templora_cli.evaluation.translation_quality import (
    ScoredPair,
    TranslationProbe,
    metrics_for,
    scored_pairs,
    table,
)
from templora_cli.languages import language
from templora_cli.prompt_files import load_prompts
from templora_cli.translation.pair_format import choose_pair_format

ENGLISH = language("en")
REFERENCE = "the keeper lit the lamp and went down the stairs again"


def paragraphs(count: int) -> list[ScoredPair]:
    """The adapter's translations equal the reference, the base's lack its end."""
    return [
        ScoredPair(
            depth=10 * n,
            pair=AlignedPair("x", REFERENCE),
            tokens=10,
            nll={"base": 20.0, "adapter": 10.0},
            outputs={"base": "the keeper lit the lamp and went", "adapter": REFERENCE},
        )
        for n in range(count)
    ]


def test_rows_of_both_sides() -> None:
    pytest.importorskip("sacrebleu")
    rows = table(paragraphs(12), ENGLISH, step=80, samples=100)
    assert [(row.depth, row.side, row.pairs) for row in rows] == [
        ("0-80", "base", 8), ("0-80", "adapter", 8),
        ("80-160", "base", 4), ("80-160", "adapter", 4),
        ("all", "base", 12), ("all", "adapter", 12),
    ]  # fmt: skip
    assert [row.p for row in rows[:4]] == [None] * 4, "too few for the bootstrap"
    base, adapter = rows[-2:]
    assert base.ppl == pytest.approx(math.exp(2)) and adapter.ppl == pytest.approx(math.e)
    assert base.bleu and adapter.bleu and base.chrf and adapter.chrf
    assert adapter.bleu.value == pytest.approx(100) and adapter.chrf.value == pytest.approx(100)
    assert 40 < base.bleu.value < 70 and base.bleu.half_width == pytest.approx(0, abs=1e-6)
    assert base.p is None and adapter.p is not None and adapter.p < 0.05


def test_intervals_come_from_differences_between_paragraphs() -> None:
    pytest.importorskip("sacrebleu")
    mixed = paragraphs(12)
    for pair in mixed[::3]:
        pair.outputs["base"] = REFERENCE
    assert table(mixed, ENGLISH, step=1000)[-2].bleu.half_width > 1  # type: ignore[union-attr]


def test_no_difference_is_not_significant() -> None:
    pytest.importorskip("sacrebleu")
    same = paragraphs(12)
    for pair in same:
        pair.outputs["adapter"] = pair.outputs["base"]
    assert table(same, ENGLISH, step=1000, samples=100)[-1].p == 1.0


def test_scored_pairs_are_in_the_order_of_the_runs() -> None:
    runs = [[AlignedPair("a", "b"), AlignedPair("c", "d")], [AlignedPair("e", "f")]]
    first = {"base": {"outputs": ["B", "D"], "nll": [1.0, 2.0], "tokens": [3, 4]}}
    second = {"base": {"outputs": ["F"], "nll": [5.0], "tokens": [6]}}
    pairs = scored_pairs(runs, {1: second, 0: first})
    assert [(scored.depth, scored.pair.source, scored.outputs["base"]) for scored in pairs] == [
        (0, "a", "B"),
        (3, "c", "D"),
        (7, "e", "F"),
    ]


def test_bleu_has_the_tokenizer_of_the_language() -> None:
    pytest.importorskip("sacrebleu")
    chinese = metrics_for(language("zh-TW"), ["灯"])["BLEU"]
    assert chinese.corpus_score(["守灯人点灯"], None).score < 100
    assert "tok:zh" in str(chinese.get_signature())
    assert "tok:13a" in str(metrics_for(ENGLISH, ["a"])["BLEU"].get_signature())
    assert "tok:zh" in str(metrics_for(language("yue"), ["灯"])["BLEU"].get_signature())
    with pytest.raises(TemploraError, match="no tokenizer for Thai"):
        metrics_for(language("th"), ["a"])
    assert set(metrics_for(language("th"), ["a"], bleu=False)) == {"chrF2"}


def test_missing_sacrebleu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(TemploraError, match="sacrebleu, which is not installed") as caught:
        metrics_for(ENGLISH, ["a"])
    assert caught.value.hint == "pip install 'templora[bleu]'"


@pytest.mark.parametrize("backend", ["eager", "auto"])
def test_the_sides_do_not_affect_each_other(backend: str, tiny_base_model: Path) -> None:
    runs = [
        [AlignedPair("the lamp", "die lampe")],
        [AlignedPair("the sea", "das meer"), AlignedPair("a storm", "ein sturm")],
    ]

    def probe(learn: bool) -> TranslationProbe:
        train = TrainConfig(rank=2, alpha=2, learn=learn)
        model = loading.load(tiny_base_model, ModelConfig(device="cpu"), train, seed=0)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in model.adapter.items():
                if "lora_B" in name:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator))
        prompts = load_prompts("translation", "")
        return TranslationProbe(
            model,
            backend_for(model, backend),
            choose_pair_format(model.tokenizer, prompts, ENGLISH, language("de")),
            runs,
            context_pairs=2,
            from_output=False,
            banned=model.banned_tokens,
        )

    both, base, adapter = probe(learn=True), probe(learn=False), probe(learn=True)
    adapter.sides = ("adapter",)
    separate = {**base.measure(1, {}), **adapter.measure(1, {})}
    assert separate["base"]["outputs"] != separate["adapter"]["outputs"]
    for _ in range(2):  # the second time, the base is measured after the adapter
        assert both.measure(1, {}) == separate
