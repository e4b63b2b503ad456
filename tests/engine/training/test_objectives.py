"""What a step minimises: the paper's loss, and the distillation of a longer context."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from templora_cli.config import OBJECTIVES as NAMES
from templora_cli.config import LearningConfig
from templora_cli.engine.training.distill import Distill
from templora_cli.engine.training.loss import chunk_logits, chunk_nll
from templora_cli.engine.training.nll import NegativeLogLikelihood
from templora_cli.engine.training.objective import Window
from templora_cli.engine.training.objectives import OBJECTIVES
from tests.loop import CONFIG, WHOLE, Loop, learnt

DISTILL = LearningConfig(objective="distill", lr=1e-2, context_tokens=4, teacher_context_tokens=100, epochs=8)
WINDOW = Window((1, 2, 3), (7, 8), (5, 6, 7, 8), (9, 10, 11), ())


def disturbed(loop: Loop) -> None:
    """Let the adapter say something."""
    with torch.no_grad():
        for name, parameter in loop.model.adapter.items():
            if "lora_B" in name:
                parameter += 0.1


def test_distilling_brings_the_adapter_towards_the_base_that_sees_more(tiny_model: Path) -> None:
    config = replace(CONFIG, generated=DISTILL, train=replace(CONFIG.train, dropout=0.0))
    loop = Loop(tiny_model, 36, config=config)
    loop.backend.enqueue("abcdefghijkl", "mnopqrstuvwx", "yz0123456789")
    chunks = learnt(loop.run())
    assert chunks[0].train_losses == (), "both see the same there"
    for chunk in chunks[1:]:
        assert 0 < chunk.train_losses[-1] < 0.8 * chunk.train_losses[0]


def test_the_target_of_distilling_does_not_move_with_the_adapter(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 24, config=replace(CONFIG, generated=DISTILL))
    with torch.no_grad():
        teacher = chunk_logits(loop.model.module, [1, 2, 3, 5, 6, 7, 8], WINDOW.tokens).log_softmax(-1)
        disturbed(loop)
        student = chunk_logits(loop.model.module, [1, 2, 3, 7, 8], WINDOW.tokens).log_softmax(-1)
        expected = (teacher.exp() * (teacher - student)).sum(-1).mean()
        loss = Distill().loss(WINDOW, loop.model, DISTILL)
        assert loss is not None and loss() == pytest.approx(expected.item(), rel=1e-4)


def test_a_teacher_that_sees_no_more_teaches_nothing(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 24)
    assert Distill().loss(replace(WINDOW, book=(7, 8)), loop.model, DISTILL) is None
    short = replace(DISTILL, teacher_context_tokens=2)
    assert Distill().loss(WINDOW, loop.model, short) is None
    assert Distill().loss(WINDOW, loop.model, replace(short, teacher_context_tokens=3)) is not None


def test_the_papers_loss_is_that_of_the_tokens_that_count_after_what_training_shows(tiny_model: Path) -> None:
    loop = Loop(tiny_model, 24)
    disturbed(loop)
    masked = replace(WINDOW, loss_mask=(True, False, True))
    with torch.no_grad():
        each = chunk_nll(loop.model.module, [1, 2, 3, 7, 8], WINDOW.tokens)
        for window, wanted in ((WINDOW, each.mean()), (masked, each[[0, 2]].mean())):
            loss = NegativeLogLikelihood().loss(window, loop.model, WHOLE)
            assert loss is not None and loss() == pytest.approx(wanted.item(), rel=1e-5)


def test_every_objective_of_the_settings_is_there_and_says_how_much_it_reads() -> None:
    assert tuple(OBJECTIVES) == NAMES
    assert all(one.reads(DISTILL) >= 0 for one in OBJECTIVES.values())
    assert (OBJECTIVES["nll"].reads(DISTILL), OBJECTIVES["distill"].reads(DISTILL)) == (0, 100)
