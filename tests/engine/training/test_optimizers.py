"""The table of optimizers: each row matches its optimizer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from templora_cli import config
from templora_cli.engine.training.optimizers import COUNTERS, MOMENTS, OPTIMIZERS


def test_the_rows_are_those_of_the_settings() -> None:
    assert tuple(OPTIMIZERS) == config.OPTIMIZERS
    assert OPTIMIZERS.keys() == config.MEASURED_LR.keys() == config.PAPER_LR.keys()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_row_names_the_whole_state_of_a_parameter(name: str) -> None:
    """Checkpoints and memory plans use it."""
    parameter, row = nn.Parameter(torch.ones(4, 6)), OPTIMIZERS[name]
    optimizer = row.make([parameter], 0.5)
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    parameter.grad = torch.ones(4, 6)
    optimizer.step()
    state = optimizer.state[parameter]
    assert set(state) == {*row.moments, *row.counters} <= {*MOMENTS, *COUNTERS}
    assert all(state[key].nbytes == parameter.nbytes for key in row.moments)
    assert all(state[key].numel() == 1 and state[key].device.type == "cpu" for key in row.counters)
