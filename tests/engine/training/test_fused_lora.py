"""Layers in fewer operations: what they compute, and what they learn, stays."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from templora_cli.engine.training.fused_lora import PlainNorm, drawn, fuse_lora_layers
from templora_cli.engine.training.loss import chunk_nll
from tests.engine.decoding.cpu.test_decoder import CONFIGS, IDS


def model(name: str, dropout: float) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        base = AutoModelForCausalLM.from_config(CONFIGS[name]())
        lora = LoraConfig(
            r=4, lora_alpha=2, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        module = get_peft_model(base, lora)
        for parameter in module.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return module.train()


def learnt(module: nn.Module) -> tuple[float, dict[str, Tensor]]:
    """The loss of a step, and the gradients."""
    module.zero_grad()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        loss = chunk_nll(module, IDS[:20], IDS[20:60]).mean()
        loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3"])
def test_what_is_learnt_stays(name: str, dropout: float) -> None:
    module = model(name, dropout)
    for layer in module.modules():
        if dropout and hasattr(layer, "lora_dropout"):
            layer.lora_dropout["default"] = EachFourth()
    theirs, gradients = learnt(module)
    fuse_lora_layers(module, lambda x, dropout: fourths(x))
    ours, found = learnt(module)
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert found.keys() == gradients.keys() and len(found) == 2 * 7 * 3
    for key, wanted in gradients.items():
        assert (found[key] - wanted).norm() < 1e-5 * wanted.norm(), key


class EachFourth(nn.Module):
    """A dropout that always takes the same."""

    p = 0.25

    def forward(self, x: Tensor) -> Tensor:
        return x * fourths(x) / (1 - self.p)


def fourths(x: Tensor) -> Tensor:
    return (torch.arange(x.numel()) % 4 > 0).to(torch.uint8).view(x.shape)


@pytest.mark.parametrize("dropout", [0.05, 0.5, 0.99])
def test_dropout_takes_its_share(dropout: float) -> None:
    x = torch.empty(301, 333)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first, second = (drawn(x, dropout).view(-1) for _ in range(2))
        torch.manual_seed(1)
        again = drawn(x, dropout)
    taken = 1 - torch.stack([first, second]).float()
    assert taken.unique().tolist() == [0.0, 1.0]
    chance = (dropout * (1 - dropout) / len(first)) ** 0.5
    assert abs(taken.mean().item() - dropout) < 5 * chance
    # Neighbours, of one draw, and what is drawn later have nothing to do with each other.
    for one, other in ((taken[0, :-1], taken[0, 1:]), (taken[0], taken[1])):
        assert abs((one * other).mean().item() - dropout**2) < 5 * dropout / len(first) ** 0.5
    assert torch.equal(again.view(-1), first)


def test_without_dropout_nothing_is_drawn() -> None:
    def never(x: Tensor, dropout: float) -> Tensor:
        raise RuntimeError("drawn")

    module = model("llama", 0.5)
    fuse_lora_layers(module, never)
    learnt(module.eval())
    with pytest.raises(RuntimeError, match="drawn"):
        learnt(module.train())


def test_dropout_takes_the_same_where_layers_are_computed_again() -> None:
    module = model("llama", 0.3)
    fuse_lora_layers(module)
    theirs, gradients = learnt(module)
    module.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    ours, found = learnt(module)
    assert ours == theirs
    for key, wanted in gradients.items():
        torch.testing.assert_close(found[key], wanted)


def test_every_layer_with_an_adapter_is_lean() -> None:
    module = model("llama", 0.0)
    fuse_lora_layers(module)
    _, gradients = learnt(module)
    for layer in module.modules():
        if hasattr(layer, "lora_A"):
            layer.lora_A["default"].forward = None  # PEFT's own pass would need it
    assert learnt(module)[1].keys() == gradients.keys()


@torch.no_grad()
def test_without_the_adapter_the_base_answers() -> None:
    module = model("llama", 0.0)
    with module.disable_adapter():  # type: ignore[operator]
        theirs = module(torch.tensor([IDS])).logits
    fuse_lora_layers(module)
    with module.disable_adapter():  # type: ignore[operator]
        assert torch.equal(module(torch.tensor([IDS])).logits, theirs)


def test_a_norm() -> None:
    norm, x = LlamaRMSNorm(24, eps=1e-3), torch.randn(2, 5, 24)
    norm.weight.data += torch.randn(24)
    torch.testing.assert_close(PlainNorm(norm)(x), norm(x))


def test_a_model_that_is_dropped_goes_at_once() -> None:
    """Two in turns would not fit on a GPU: PEFT's own layers make no circle either."""
    module = model("llama", 0.0)
    fuse_lora_layers(module)
    layer = weakref.ref(next(part for part in module.modules() if hasattr(part, "lora_A")))
    gc.disable()
    try:
        del module
        assert layer() is None
    finally:
        gc.enable()
