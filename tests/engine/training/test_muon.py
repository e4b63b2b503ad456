"""Muon: orthogonal steps for matrices of every shape, independent of other matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from templora_cli.engine.training.muon import Muon, orthogonal


def parameters(*shapes: tuple[int, int]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    result = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    for parameter in result:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return result


def test_singular_values_become_nearly_1() -> None:
    matrices = torch.randn(3, 8, 40, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.6 and values.max() < 1.3
    assert torch.equal(orthogonal(torch.zeros(1, 2, 3)), torch.zeros(1, 2, 3))


@pytest.mark.parametrize("shape", [(4, 30), (30, 4), (5, 5)])
def test_a_step_equals_that_of_torch(shape: tuple[int, int]) -> None:
    torch_muon = getattr(torch.optim, "Muon", None)
    if torch_muon is None:
        pytest.skip("this torch has no Muon")
    (ours,), (theirs,) = parameters(shape), parameters(shape)
    our_muon = Muon([ours], lr=0.1, momentum=0.9)
    # Torch's momentum is a running mean, ours a running sum; Newton-Schulz ignores the scale.
    their_muon = torch_muon([theirs], lr=0.1, momentum=0.9, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    before = ours.detach().clone()
    our_muon.step()
    their_muon.step()
    step, expected = (ours - before).detach(), (theirs - before).detach()
    assert torch.nn.functional.cosine_similarity(step.flatten(), expected.flatten(), dim=0) > 0.99
    assert step.norm() == pytest.approx(expected.norm().item(), rel=0.05)


def test_steps_do_not_depend_on_other_matrices() -> None:
    shapes = [(4, 30), (30, 4), (4, 20), (4, 30)]
    batched, separate = parameters(*shapes), parameters(*shapes)
    Muon(batched, lr=0.1).step()
    Muon(separate, lr=0.1, at_once=1).step()
    for one, other in zip(batched, separate, strict=True):
        torch.testing.assert_close(one, other)


def test_momentum_accumulates_and_weights_decay() -> None:
    (parameter,) = parameters((3, 8))
    optimizer = Muon([parameter], lr=0.1, momentum=0.5, weight_decay=0.2)
    gradient = parameter.grad.clone()
    optimizer.step()
    optimizer.step()
    torch.testing.assert_close(optimizer.state[parameter]["momentum"], 1.5 * gradient)
    (decaying,) = parameters((3, 8))
    decaying.grad.zero_()
    before = decaying.detach().clone()
    Muon([decaying], lr=0.1, weight_decay=0.2).step()
    torch.testing.assert_close(decaying.detach(), before * 0.98)
    decaying.grad = None
    Muon([decaying], lr=0.1).step()
