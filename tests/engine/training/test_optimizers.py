"""The table of optimizers: what a row says of an optimizer is what it does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from templora_cli import config
from templora_cli.engine.training.optimizers import COUNTERS, MOMENTS, OPTIMIZERS


def test_the_settings_name_the_rows() -> None:
    assert tuple(OPTIMIZERS) == config.OPTIMIZERS
    assert OPTIMIZERS.keys() == config.MEASURED_LR.keys() == config.PAPER_LR.keys()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_row_names_all_that_is_remembered_of_a_parameter(name: str) -> None:
    """Checkpoints and plans go by it."""
    parameter, kind = nn.Parameter(torch.ones(4, 6)), OPTIMIZERS[name]
    optimizer = kind.make([parameter], 0.5)
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    parameter.grad = torch.ones(4, 6)
    optimizer.step()
    state = optimizer.state[parameter]
    assert set(state) == {*kind.moments, *kind.counters} <= {*MOMENTS, *COUNTERS}
    assert all(state[key].nbytes == parameter.nbytes for key in kind.moments)
    assert all(state[key].numel() == 1 and state[key].device.type == "cpu" for key in kind.counters)
