"""The table of objectives. A new one is a file beside this one and a row."""

from __future__ import annotations

from templora_cli.engine.training.distill import Distill
from templora_cli.engine.training.nll import NegativeLogLikelihood
from templora_cli.engine.training.objective import Objective

OBJECTIVES: dict[str, Objective] = {"nll": NegativeLogLikelihood(), "distill": Distill()}
"""By their names in `[human]` and `[generated]`."""
