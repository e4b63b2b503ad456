"""Fused layers: the same outputs and gradients as the layers of PEFT and transformers."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from templora_cli.engine.training.fused_lora import FusedRMSNorm, fuse_lora_layers, random_mask
from templora_cli.engine.training.loss import chunk_nll
from tests.engine.decoding.cpu.test_int8_decoder import CONFIGS, IDS


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


def loss_and_gradients(module: nn.Module) -> tuple[float, dict[str, Tensor]]:
    """The loss of a step, and the gradients by parameter name."""
    module.zero_grad()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        loss = chunk_nll(module, IDS[:20], IDS[20:60]).mean()
        loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3"])
def test_loss_and_gradients_do_not_change(name: str, dropout: float) -> None:
    module = model(name, dropout)
    for layer in module.modules():
        if dropout and hasattr(layer, "lora_dropout"):
            layer.lora_dropout["default"] = FixedDropout()
    theirs, gradients = loss_and_gradients(module)
    fuse_lora_layers(module, lambda x, dropout: fixed_mask(x))
    ours, our_gradients = loss_and_gradients(module)
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert our_gradients.keys() == gradients.keys() and len(our_gradients) == 2 * 7 * 3
    for key, expected in gradients.items():
        assert (our_gradients[key] - expected).norm() < 1e-5 * expected.norm(), key


class FixedDropout(nn.Module):
    """A dropout that always drops every fourth element."""

    p = 0.25

    def forward(self, x: Tensor) -> Tensor:
        return x * fixed_mask(x) / (1 - self.p)


def fixed_mask(x: Tensor) -> Tensor:
    return (torch.arange(x.numel()) % 4 > 0).to(torch.uint8).view(x.shape)


@pytest.mark.parametrize("dropout", [0.05, 0.5, 0.99])
def test_dropout_masks_are_independent_and_have_their_rate(dropout: float) -> None:
    x = torch.empty(301, 333)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first, second = (random_mask(x, dropout).view(-1) for _ in range(2))
        torch.manual_seed(1)
        again = random_mask(x, dropout)
    dropped = 1 - torch.stack([first, second]).float()
    assert dropped.unique().tolist() == [0.0, 1.0]
    deviation = (dropout * (1 - dropout) / len(first)) ** 0.5
    assert abs(dropped.mean().item() - dropout) < 5 * deviation
    # Neither neighbours in a mask nor consecutive masks are correlated.
    for one, other in ((dropped[0, :-1], dropped[0, 1:]), (dropped[0], dropped[1])):
        assert abs((one * other).mean().item() - dropout**2) < 5 * dropout / len(first) ** 0.5
    assert torch.equal(again.view(-1), first)


def test_without_dropout_no_mask_is_drawn() -> None:
    def never(x: Tensor, dropout: float) -> Tensor:
        raise RuntimeError("drawn")

    module = model("llama", 0.5)
    fuse_lora_layers(module, never)
    loss_and_gradients(module.eval())
    with pytest.raises(RuntimeError, match="drawn"):
        loss_and_gradients(module.train())


def test_recomputed_layers_have_the_same_dropout() -> None:
    module = model("llama", 0.3)
    fuse_lora_layers(module)
    loss, gradients = loss_and_gradients(module)
    module.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    recomputed_loss, recomputed_gradients = loss_and_gradients(module)
    assert recomputed_loss == loss
    for key, expected in gradients.items():
        torch.testing.assert_close(recomputed_gradients[key], expected)


def test_every_layer_with_an_adapter_is_fused() -> None:
    module = model("llama", 0.0)
    fuse_lora_layers(module)
    _, gradients = loss_and_gradients(module)
    for layer in module.modules():
        if hasattr(layer, "lora_A"):
            layer.lora_A["default"].forward = None  # the forward pass of PEFT would need it
    assert loss_and_gradients(module)[1].keys() == gradients.keys()


@torch.no_grad()
def test_without_the_adapter_the_logits_are_those_of_the_base() -> None:
    module = model("llama", 0.0)
    with module.disable_adapter():  # type: ignore[operator]
        theirs = module(torch.tensor([IDS])).logits
    fuse_lora_layers(module)
    with module.disable_adapter():  # type: ignore[operator]
        assert torch.equal(module(torch.tensor([IDS])).logits, theirs)


def test_the_fused_norm_equals_that_of_transformers() -> None:
    norm, x = LlamaRMSNorm(24, eps=1e-3), torch.randn(2, 5, 24)
    norm.weight.data += torch.randn(24)
    torch.testing.assert_close(FusedRMSNorm(norm)(x), norm(x))


def test_a_deleted_model_is_freed_at_once() -> None:
    """Without reference cycles, as with PEFT's layers: a GPU may not have memory for two models."""
    module = model("llama", 0.0)
    fuse_lora_layers(module)
    layer = weakref.ref(next(part for part in module.modules() if hasattr(part, "lora_A")))
    gc.disable()
    try:
        del module
        assert layer() is None
    finally:
        gc.enable()
