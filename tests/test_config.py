"""Default learning rates."""

from __future__ import annotations

import pytest

from templora_cli.config import (
    GENERATED_LR_SHARE,
    MEASURED_LR,
    MEASURED_PARAMETERS,
    OPTIMIZERS,
    PAPER_LR,
    PAPER_PARAMETERS,
    learning_rate_for,
    with_learning_rates,
)
from templora_cli.config_layers import settings


def test_a_rate_of_0_is_chosen_by_the_size_of_the_model() -> None:
    for optimizer in OPTIMIZERS:
        config = settings({"train": {"optimizer": optimizer}})
        assert (
            with_learning_rates(config, int(MEASURED_PARAMETERS), "llama").human.lr == MEASURED_LR[optimizer]
        )
        assert with_learning_rates(config, int(PAPER_PARAMETERS), "llama").human.lr == PAPER_LR[optimizer]
        rates = [learning_rate_for(10**n, optimizer) for n in range(6, 13)]
        assert rates == sorted(rates, reverse=True) and all(0 < rate < 1 for rate in rates)
        assert learning_rate_for(10**9, optimizer, "gemma3_text") == pytest.approx(rates[3] / 2, rel=0.05)
    config = settings({"human": {"lr": 3e-3}, "generated": {"lr": 0}})
    chosen = with_learning_rates(config, 10**9, "llama")
    assert chosen.human.lr == 3e-3
    assert chosen.generated.lr == pytest.approx(
        GENERATED_LR_SHARE * learning_rate_for(10**9, "adamw"), rel=0.05
    )
    assert with_learning_rates(config, int(MEASURED_PARAMETERS), "llama").generated.lr == 2e-5
