"""A token in few launches, interpreted where there is no GPU: its logits are those of transformers."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import silu
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

pytest.importorskip("triton")

from templora_cli.engine.decoding.cuda.cuda_graph import CudaGraphDecoder
from templora_cli.engine.decoding.cuda.fused_token import FusedToken, LaunchSizes, Projection, can_be_fused
from templora_cli.engine.kernels import triton_kernels
from templora_cli.engine.kernels.nf4 import compiles_for, packed
from templora_cli.engine.training.forward import logits_at
from tests.engine.decoding.cpu.test_decoder import CONFIGS, IDS, SHAPE, adapted

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="tests/test_cuda.py runs them compiled")


SMALL = LaunchSizes(rows=16, words=4, warps=1, numbers=16, split=32, keys=16)
"""So that tiny models need several programs."""


def decoder_of(module: nn.Module) -> CudaGraphDecoder:
    return CudaGraphDecoder(module, fused=FusedToken(module, SMALL), block=32)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_logits_are_those_of_transformers(name: str) -> None:
    """After a prompt, past the windows of the layers that slide, past a split and past a block of places."""
    module = adapted(name)
    assert can_be_fused(module)
    decoder = decoder_of(module)
    ours = [decoder.logits_after(IDS[:62])] + [decoder.logits_after([token]) for token in IDS[62:66]]
    theirs, _ = logits_at(module, IDS[:66], range(61, 66))
    torch.testing.assert_close(torch.stack(ours), theirs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_is_taken_back_does_not_count() -> None:
    module = adapted("gemma3")
    decoder = decoder_of(module)
    decoder.logits_after(IDS[:50])
    decoder.logits_after([IDS[50]])
    decoder.length = 30
    decoder.logits_after(IDS[60:90])
    ours = decoder.logits_after([IDS[90]])
    read = [*IDS[:30], *IDS[60:91]]
    torch.testing.assert_close(ours, logits_at(module, read, [60])[0][0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_more_room_changes_no_bit() -> None:
    """A resumed session reserves other places than one that went on."""
    logits = []
    for room in (0, 300):
        decoder = decoder_of(adapted("mistral, sliding"))
        decoder.reserve(room)
        decoder.logits_after(IDS[:40])
        logits.append(decoder.logits_after([IDS[40]]))
    assert torch.equal(*logits)


@torch.no_grad()
def test_the_adapter_is_live() -> None:
    module = adapted("llama")
    decoder = decoder_of(module)
    decoder.logits_after(IDS[:20])
    before = decoder.logits_after([IDS[20]])
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            parameter.mul_(2)
    decoder.length = 20
    assert not torch.allclose(before, decoder.logits_after([IDS[20]]), atol=1e-3)


@pytest.mark.parametrize("fused_token", [True, False])
@torch.no_grad()
def test_without_the_adapter_the_base_answers(fused_token: bool) -> None:
    module = adapted("llama")
    decoder = decoder_of(module) if fused_token else CudaGraphDecoder(module, fused=None, block=32)
    for start, base in ((0, False), (30, True), (0, False)):
        ids, decoder.length = IDS[start : start + 22], 0
        with module.disable_adapter() if base else nullcontext():  # type: ignore[operator]
            decoder.logits_after(ids[:20])
            ours = [decoder.logits_after([token]) for token in ids[20:]]
            theirs = logits_at(module, ids, [20, 21])[0]
        torch.testing.assert_close(torch.stack(ours), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
@torch.no_grad()
def test_sixteen_bits(name: str) -> None:
    module = adapted(name).half()  # the interpreter has no products in bfloat16
    for key, parameter in module.named_parameters():
        if "lora_" in key:
            parameter.data = parameter.data.float()
    decoder = decoder_of(module)
    decoder.logits_after(IDS[:20])
    ours, theirs = decoder.logits_after([IDS[20]]).float(), logits_at(module, IDS[:21], [20])[0][0].float()
    assert (ours - theirs).norm() < 0.005 * theirs.norm()


@torch.no_grad()
def test_sizes_that_are_no_powers_of_two() -> None:
    shape = {**SHAPE, "hidden_size": 40, "intermediate_size": 56, "head_dim": 24, "num_hidden_layers": 1}
    base = AutoModelForCausalLM.from_config(LlamaConfig(**shape))
    lora = LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    module = get_peft_model(base, lora).eval()
    assert can_be_fused(module)
    decoder = decoder_of(module)
    decoder.logits_after(IDS[:20])
    ours = decoder.logits_after([IDS[20]])
    torch.testing.assert_close(ours, logits_at(module, IDS[:21], [20])[0][0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_model_without_an_adapter() -> None:
    module = adapted("qwen3").merge_and_unload()  # type: ignore[operator]
    assert can_be_fused(module)
    decoder = decoder_of(module)
    decoder.logits_after(IDS[:20])
    ours = decoder.logits_after([IDS[20]])
    torch.testing.assert_close(ours, logits_at(module, IDS[:21], [20])[0][0], rtol=1e-4, atol=1e-4)


def test_what_the_kernels_do_not_know_is_not_fused() -> None:
    assert not can_be_fused(AutoModelForCausalLM.from_config(GPT2Config(n_layer=1, n_embd=8, n_head=1)))
    model = AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    some = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    assert not can_be_fused(get_peft_model(model, some)), "some layers have an adapter, and others none"
    uneven = AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    uneven.model.layers[1].self_attn.k_proj.bias = None
    assert not can_be_fused(uneven), "one of three has no bias"
    eight = AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    eight.model.layers[1].mlp.down_proj = nn.Sequential(eight.model.layers[1].mlp.down_proj)
    assert not can_be_fused(eight), "a layer of another type"


def test_a_gpu_that_triton_does_not_compile_for() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert compiles_for(cpu) and not compiles_for(gpu, capability=lambda device: (7, 5))
    assert not compiles_for(cpu, find=lambda name: None), "without Triton"
    assert not can_be_fused(adapted("llama"), lambda device: False)


# --- NF4 ---------------------------------------------------------------------------------------------

COLUMNS = 192


def four_bit(rows: int, dtype: torch.dtype, *, nested: bool, seed: int) -> Linear4bit:
    """A random layer as bitsandbytes holds it."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, COLUMNS, generator=generator).to(dtype)
    values, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=nested, blocksize=64)
    layer = Linear4bit(COLUMNS, rows, compute_dtype=dtype, quant_type="nf4", compress_statistics=nested)
    layer.weight = Params4bit(
        values, requires_grad=False, quant_state=state, quant_type="nf4", bnb_quantized=True
    )
    layer.bias = nn.Parameter(torch.randn(rows, generator=generator), requires_grad=False)
    return layer


def exact(layer: Linear4bit, x: Tensor) -> Tensor:
    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).double()
    return weight @ x.double() + layer.bias.double()


def in_planes(x: Tensor) -> Tensor:
    """As the kernels write what an NF4 product is to read: by twos."""
    return x.view(-1, 4, 2).transpose(0, 1).reshape(-1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("nested", [True, False])
@torch.no_grad()
def test_a_product_in_four_bits(dtype: torch.dtype, nested: bool) -> None:
    layers = [four_bit(rows, dtype, nested=nested, seed=rows) for rows in (40, 24, 24)]
    x = torch.randn(COLUMNS, generator=torch.Generator().manual_seed(0)).to(dtype)
    ours = Projection(layers, SMALL)(in_planes(x), None, torch.empty(88))
    theirs = torch.cat([exact(layer, x) for layer in layers]).float()
    # What bitsandbytes unpacks is rounded to 16 bits before it is multiplied, and what is here is not.
    assert (ours - theirs).norm() < (3e-3 if dtype == torch.bfloat16 else 4e-4) * theirs.norm()
    gated = Projection(layers[1:], SMALL)(in_planes(x), None, torch.empty(24), gated=0)
    wanted = in_planes(silu(theirs[40:64]) * theirs[64:])
    assert (gated - wanted).norm() < (6e-3 if dtype == torch.bfloat16 else 1e-3) * wanted.norm()


@pytest.mark.parametrize("nested", [True, False])
def test_unpacked_weights_are_those_of_bitsandbytes(nested: bool) -> None:
    layer = four_bit(40, torch.float16, nested=nested, seed=1)
    parts, out = packed(layer), torch.empty(40, COLUMNS, dtype=torch.float16)
    triton_kernels.unpack[(2,)](*parts[:-1], out, 120, NESTED=nested, BLOCKS=64)
    assert torch.equal(out, dequantize_4bit(layer.weight.data, layer.weight.quant_state))
