"""The fused forward pass of a token, run by Triton's interpreter, against that of transformers."""

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
from templora_cli.engine.kernels.nf4 import compiles_for, packed_weight
from templora_cli.engine.training.forward import logits_at
from tests.engine.decoding.cpu.test_int8_decoder import CONFIGS, IDS, SHAPE, adapted_model

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="tests/test_cuda.py runs the compiled kernels"
)


SMALL = LaunchSizes(rows=16, words=4, warps=1, numbers=16, split=32, keys=16)
"""Small tiles, so that tiny models need several programs."""


def decoder_of(module: nn.Module) -> CudaGraphDecoder:
    return CudaGraphDecoder(module, fused=FusedToken(module, SMALL), block=32)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_logits_are_those_of_transformers(name: str) -> None:
    """After a prompt, beyond the sliding windows, beyond a split and beyond a block of positions."""
    module = adapted_model(name)
    assert can_be_fused(module)
    decoder = decoder_of(module)
    ours = [decoder.logits_after(IDS[:62])] + [decoder.logits_after([token]) for token in IDS[62:66]]
    theirs, _ = logits_at(module, IDS[:66], range(61, 66))
    torch.testing.assert_close(torch.stack(ours), theirs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_tokens_beyond_a_reduced_length_have_no_effect() -> None:
    module = adapted_model("gemma3")
    decoder = decoder_of(module)
    decoder.logits_after(IDS[:50])
    decoder.logits_after([IDS[50]])
    decoder.length = 30
    decoder.logits_after(IDS[60:90])
    ours = decoder.logits_after([IDS[90]])
    ids = [*IDS[:30], *IDS[60:91]]
    torch.testing.assert_close(ours, logits_at(module, ids, [60])[0][0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_larger_cache_changes_no_bit() -> None:
    """A resumed session may reserve another number of positions than an uninterrupted one."""
    logits = []
    for num_positions in (0, 300):
        decoder = decoder_of(adapted_model("mistral, sliding"))
        decoder.reserve(num_positions)
        decoder.logits_after(IDS[:40])
        logits.append(decoder.logits_after([IDS[40]]))
    assert torch.equal(*logits)


@torch.no_grad()
def test_a_change_of_the_adapter_takes_effect_at_once() -> None:
    module = adapted_model("llama")
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
def test_the_base_alone_is_used_inside_disable_adapter(fused_token: bool) -> None:
    module = adapted_model("llama")
    decoder = decoder_of(module) if fused_token else CudaGraphDecoder(module, fused=None, block=32)
    for start, base_only in ((0, False), (30, True), (0, False)):
        ids, decoder.length = IDS[start : start + 22], 0
        with module.disable_adapter() if base_only else nullcontext():  # type: ignore[operator]
            decoder.logits_after(ids[:20])
            ours = [decoder.logits_after([token]) for token in ids[20:]]
            theirs = logits_at(module, ids, [20, 21])[0]
        torch.testing.assert_close(torch.stack(ours), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
@torch.no_grad()
def test_float16_logits_are_close_to_those_of_transformers(name: str) -> None:
    module = adapted_model(name).half()  # the interpreter has no bfloat16 products
    for key, parameter in module.named_parameters():
        if "lora_" in key:
            parameter.data = parameter.data.float()
    decoder = decoder_of(module)
    decoder.logits_after(IDS[:20])
    ours, theirs = decoder.logits_after([IDS[20]]).float(), logits_at(module, IDS[:21], [20])[0][0].float()
    assert (ours - theirs).norm() < 0.005 * theirs.norm()


@torch.no_grad()
def test_sizes_need_not_be_powers_of_two() -> None:
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
def test_a_model_without_an_adapter_is_supported() -> None:
    module = adapted_model("qwen3").merge_and_unload()  # type: ignore[operator]
    assert can_be_fused(module)
    decoder = decoder_of(module)
    decoder.logits_after(IDS[:20])
    ours = decoder.logits_after([IDS[20]])
    torch.testing.assert_close(ours, logits_at(module, IDS[:21], [20])[0][0], rtol=1e-4, atol=1e-4)


def test_unsupported_models_are_not_fused() -> None:
    assert not can_be_fused(AutoModelForCausalLM.from_config(GPT2Config(n_layer=1, n_embd=8, n_head=1)))
    model = AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    partial = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    assert not can_be_fused(get_peft_model(model, partial)), "only some layers have an adapter"
    uneven = AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    uneven.model.layers[1].self_attn.k_proj.bias = None
    assert not can_be_fused(uneven), "one of three layers has no bias"
    other_type = AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    other_type.model.layers[1].mlp.down_proj = nn.Sequential(other_type.model.layers[1].mlp.down_proj)
    assert not can_be_fused(other_type), "a layer of another type"


def test_triton_needs_compute_capability_8() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert compiles_for(cpu) and not compiles_for(gpu, capability=lambda device: (7, 5))
    assert not compiles_for(cpu, find=lambda name: None), "without Triton"
    assert not can_be_fused(adapted_model("llama"), lambda device: False)


# --- NF4 ---------------------------------------------------------------------------------------------

COLUMNS = 192


def four_bit(rows: int, dtype: torch.dtype, *, nested: bool, seed: int) -> Linear4bit:
    """A random layer in the format of bitsandbytes."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, COLUMNS, generator=generator).to(dtype)
    values, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=nested, blocksize=64)
    layer = Linear4bit(COLUMNS, rows, compute_dtype=dtype, quant_type="nf4", compress_statistics=nested)
    layer.weight = Params4bit(
        values, requires_grad=False, quant_state=state, quant_type="nf4", bnb_quantized=True
    )
    layer.bias = nn.Parameter(torch.randn(rows, generator=generator), requires_grad=False)
    return layer


def exact_product(layer: Linear4bit, x: Tensor) -> Tensor:
    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).double()
    return weight @ x.double() + layer.bias.double()


def in_planes(x: Tensor) -> Tensor:
    """The input of an NF4 product, in planes as the kernels write it (`triton_kernels._plane_index`)."""
    return x.view(-1, 4, 2).transpose(0, 1).reshape(-1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("nested", [True, False])
@torch.no_grad()
def test_a_4_bit_product_is_close_to_the_exact_one(dtype: torch.dtype, nested: bool) -> None:
    layers = [four_bit(rows, dtype, nested=nested, seed=rows) for rows in (40, 24, 24)]
    x = torch.randn(COLUMNS, generator=torch.Generator().manual_seed(0)).to(dtype)
    ours = Projection(layers, SMALL)(in_planes(x), None, torch.empty(88))
    theirs = torch.cat([exact_product(layer, x) for layer in layers]).float()
    # bitsandbytes rounds unpacked weights to 16 bits before the product; the kernel does not.
    assert (ours - theirs).norm() < (3e-3 if dtype == torch.bfloat16 else 4e-4) * theirs.norm()
    gated = Projection(layers[1:], SMALL)(in_planes(x), None, torch.empty(24), gate_activation=0)
    expected = in_planes(silu(theirs[40:64]) * theirs[64:])
    assert (gated - expected).norm() < (6e-3 if dtype == torch.bfloat16 else 1e-3) * expected.norm()


@pytest.mark.parametrize("nested", [True, False])
def test_unpacked_weights_are_those_of_bitsandbytes(nested: bool) -> None:
    layer = four_bit(40, torch.float16, nested=nested, seed=1)
    parts, out = packed_weight(layer), torch.empty(40, COLUMNS, dtype=torch.float16)
    triton_kernels.unpack[(2,)](*parts[:-1], out, 120, NESTED=nested, BLOCKS=64)
    assert torch.equal(out, dequantize_4bit(layer.weight.data, layer.weight.quant_state))
