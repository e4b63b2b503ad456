"""The table of objectives. A new objective is a new file in this folder and a row here."""

from __future__ import annotations

from templora_cli.engine.training.distill import Distill
from templora_cli.engine.training.nll import NegativeLogLikelihood
from templora_cli.engine.training.objective import Objective

OBJECTIVES: dict[str, Objective] = {"nll": NegativeLogLikelihood(), "distill": Distill()}
"""Objectives by their name in `[human]` and `[generated]`."""
