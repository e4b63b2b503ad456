"""The memory of a step of each objective, for the planner."""

from __future__ import annotations

from dataclasses import replace

from templora_cli.config import LearningConfig
from templora_cli.engine.training.objective import StepMemory, StepSizes
from templora_cli.engine.training.objectives import OBJECTIVES

SIZES = StepSizes(
    header=10,
    chunk=64,
    scored=16,
    vocab_size=1000,
    model_can_slice=False,
    activations=10**6,
    backward=10**5,
    forward=lambda tokens: 1000 * tokens,
)


def test_nll_frees_its_logits_before_the_backward_pass_of_the_layers() -> None:
    nll, learning = OBJECTIVES["nll"], LearningConfig()
    assert nll.memory(SIZES, learning) == StepMemory(10**6, 3 * 16 * 1000 * 4)
    assert nll.memory(replace(SIZES, backward=500_000), learning).activations == 10**6 + 500_000 - 192_000
    long = replace(SIZES, vocab_size=1 << 20, scored=1000, backward=0)
    assert nll.memory(replace(long, model_can_slice=True), learning).logits == 2 * 16 * (1 << 20) * 4


def test_distillation_counts_the_teacher_context_and_the_logits_of_the_whole_chunk() -> None:
    distill, learning = OBJECTIVES["distill"], LearningConfig(teacher_context_tokens=2000)
    memory = distill.memory(SIZES, learning)
    assert memory == StepMemory(1000 * (10 + 2000 + 64), 64 * 1000 * 4 + 4 * 16 * 1000 * 4)
    assert distill.memory(replace(SIZES, backward=10**7), learning).logits == 64 * 1000 * 4 + 10**7
    short = LearningConfig(teacher_context_tokens=0)
    assert distill.memory(SIZES, short).activations == SIZES.activations
    assert distill.extra_context_tokens(learning) == 2000
