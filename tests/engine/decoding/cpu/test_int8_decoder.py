"""The int8 decoder against the forward pass of transformers, with tiny random models."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from templora_cli.engine.decoding.cpu.int8_decoder import Int8Decoder
from templora_cli.engine.decoding.cpu.quantize import quantize_rows
from templora_cli.engine.kernels.families import can_use_cuda_graph, has_fast_decoder
from templora_cli.engine.kernels.numba_kernels import Matrix, product
from templora_cli.engine.training.forward import logits_at

SHAPE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True),
    "llama 3": lambda: LlamaConfig(**SHAPE, rope_parameters=LLAMA3, tie_word_embeddings=True),
    "mistral": lambda: MistralConfig(**SHAPE, sliding_window=None),
    "mistral, sliding": lambda: MistralConfig(**SHAPE, sliding_window=24),
    "qwen2": lambda: Qwen2Config(**SHAPE),
    "qwen3": lambda: Qwen3Config(**SHAPE, layer_types=SLIDING, use_sliding_window=True, sliding_window=24),
    "gemma3": lambda: Gemma3TextConfig(
        **SHAPE, layer_types=SLIDING, sliding_window=24, query_pre_attn_scalar=20
    ),
}


def no_quantization(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the weight in float32, to compare only the forward passes."""
    return weight, torch.ones(len(weight))


def adapted_model(name: str) -> nn.Module:
    """A random model of `CONFIGS` with an adapter that changes its logits."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(CONFIGS[name]())
        lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        module = get_peft_model(model, lora).eval()
        for parameter in module.parameters():  # also norms and biases, which are initialised to 1 and 0
            parameter.data += 0.1 * torch.randn_like(parameter)
    return module  # type: ignore[no-any-return]


class BFloat16Cache(DynamicCache):
    """Rounds keys and values to bfloat16, as the decoder does."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        rounded_states = (states.bfloat16().float() for states in (key_states, value_states))
        return super().update(*rounded_states, *args, **kwargs)


def expected_logits(module: Any, ids: list[int], positions: Sequence[int]) -> Tensor:
    """The logits of transformers."""
    return logits_at(module, ids, positions, cache=BFloat16Cache(config=module.config), use_cache=True)[0]


TOLERANCE = 1e-3
"""For logits of about 1. If sums differ by a bit, keys and values may be rounded differently."""
IDS = [(7 * i * i + i) % 96 for i in range(100)]


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_logits_are_those_of_transformers(name: str) -> None:
    """A prompt at once, then token by token, beyond the sliding windows."""
    module = adapted_model(name)
    decoder = Int8Decoder(module, no_quantization)
    ours = [decoder.logits_after(IDS[:40])] + [decoder.logits_after([token]) for token in IDS[40:]]
    theirs = expected_logits(module, IDS, range(len(IDS) - 61, len(IDS)))
    torch.testing.assert_close(torch.stack(ours), theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["mistral, sliding", "gemma3"])
@torch.no_grad()
def test_the_second_part_of_a_prompt_attends_to_the_first(name: str) -> None:
    module = adapted_model(name)
    decoder = Int8Decoder(module, no_quantization)
    decoder.logits_after(IDS[:30])
    torch.testing.assert_close(
        decoder.logits_after(IDS[30:]),
        expected_logits(module, IDS, [len(IDS) - 1])[0],
        rtol=0,
        atol=TOLERANCE,
    )


def test_numba_uses_as_many_threads_as_torch() -> None:
    script = (
        "import torch, numba; torch.set_num_threads(1)\n"
        "from tests.engine.decoding.cpu.test_int8_decoder import adapted_model, no_quantization\n"
        "from templora_cli.engine.decoding.cpu.int8_decoder import Int8Decoder\n"
        "decoder = Int8Decoder(adapted_model('llama'), no_quantization); decoder.logits_after([5])\n"
        "print(torch.get_num_threads(), numba.get_num_threads())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
    command, root = [sys.executable, "-c", script], Path(__file__).parents[4]
    out = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert out.stdout.split() == ["1", "1"], out.stderr


@torch.no_grad()
def test_a_growing_cache_retains_its_contents() -> None:
    module = adapted_model("gemma3")
    decoder = Int8Decoder(module, no_quantization, block=64)
    ids, before = IDS[:84], 61
    decoder.logits_after(ids[:before])
    ours = [decoder.logits_after([token]) for token in ids[before:]]
    theirs = expected_logits(module, ids, range(len(ids) - len(ours), len(ids)))
    torch.testing.assert_close(torch.stack(ours), theirs, rtol=0, atol=TOLERANCE)


@torch.no_grad()
def test_tokens_beyond_a_reduced_length_have_no_effect() -> None:
    """After `length` is reduced, later positions are overwritten."""
    decoder = Int8Decoder(adapted_model("llama"), no_quantization)
    expected = decoder.logits_after(IDS[:50])
    decoder.length = 20
    decoder.logits_after(IDS[60:80])
    decoder.length = 20
    torch.testing.assert_close(decoder.logits_after(IDS[20:50]), expected)


@torch.no_grad()
def test_only_the_base_is_quantized_inside_disable_adapter() -> None:
    module: Any = adapted_model("llama")
    decoder = Int8Decoder(module, no_quantization)
    with module.disable_adapter():
        ours = [decoder.logits_after([token]) for token in IDS[:5]][-1]
        torch.testing.assert_close(ours, expected_logits(module, IDS[:5], [4])[0], rtol=0, atol=TOLERANCE)
    assert not torch.allclose(ours, expected_logits(module, IDS[:5], [4])[0], atol=1e-2)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (GPT2Config(), "another architecture"),
        (LlamaConfig(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}), "rope"),
        (Gemma3TextConfig(final_logit_softcapping=30.0), "softcapping"),
    ],
)
def test_unsupported_models_have_no_fast_decoder(config: PreTrainedConfig, reason: str) -> None:
    assert not has_fast_decoder(config), reason


def test_all_families_are_supported() -> None:
    for name, make in CONFIGS.items():
        assert has_fast_decoder(make()) and can_use_cuda_graph(make()), name


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("outlier", [0.0, 50.0])
def test_an_8_bit_product_is_close_to_the_exact_one(outlier: float) -> None:
    """Only the rounding of the weights adds an error, even if the vector has an outlier."""
    weight, x, bias = random(64, 200), random(200, seed=1), random(64, seed=2)
    x[3] += outlier
    matrix, scales = quantize_rows(weight)
    quantized = Matrix(matrix.numpy(), scales.numpy(), bias.numpy())
    actual = torch.from_numpy(product(quantized, x.numpy()))
    torch.testing.assert_close(actual, linear(x, matrix * scales[:, None], bias), rtol=1e-4, atol=1e-4)
    exact = linear(x, weight, bias)
    assert (actual - exact).norm() < 1e-2 * exact.norm()


def test_the_number_of_rows_at_once_does_not_change_the_result() -> None:
    weight = random(50, 32)
    assert all(map(torch.equal, quantize_rows(weight, rows_at_once=16), quantize_rows(weight)))


def test_a_row_of_zeros_stays_zero() -> None:
    weight = random(4, 16)
    weight[1] = 0
    matrix, scales = quantize_rows(weight)
    assert matrix[1].eq(0).all() and scales.isfinite().all()
