"""The project's own forward pass against that of transformers, on tiny random models."""

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
from templora_cli.engine.decoding.cpu.quantize import rounded
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


def as_it_is(weight: Tensor) -> tuple[Tensor, Tensor]:
    """So that all that can differ is the forward pass."""
    return weight, torch.ones(len(weight))


def adapted(name: str) -> nn.Module:
    """A random model of the family with an adapter that changes what it says."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(CONFIGS[name]())
        lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        module = get_peft_model(model, lora).eval()
        for parameter in module.parameters():  # norms and biases too, which begin as ones and zeros
            parameter.data += 0.1 * torch.randn_like(parameter)
    return module  # type: ignore[no-any-return]


class Rounding(DynamicCache):
    """Keys and values in bfloat16, as the decoder has them, and nothing else."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        rounded = (states.bfloat16().float() for states in (key_states, value_states))
        return super().update(*rounded, *args, **kwargs)


def wanted(module: Any, ids: list[int], places: Sequence[int]) -> Tensor:
    """The logits of transformers."""
    return logits_at(module, ids, places, cache=Rounding(config=module.config), use_cache=True)[0]


NEAR = 1e-3
"""Between logits of about 1: where sums differ by a bit, what is kept may be rounded to the other side."""
IDS = [(7 * place * place + place) % 96 for place in range(100)]


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_logits_are_those_of_transformers(name: str) -> None:
    """A prompt at once, then token by token, past the windows of the layers that slide."""
    module = adapted(name)
    decoder = Int8Decoder(module, as_it_is)
    ours = [decoder.logits_after(IDS[:40])] + [decoder.logits_after([token]) for token in IDS[40:]]
    theirs = wanted(module, IDS, range(len(IDS) - 61, len(IDS)))
    torch.testing.assert_close(torch.stack(ours), theirs, rtol=0, atol=NEAR)


@pytest.mark.parametrize("name", ["mistral, sliding", "gemma3"])
@torch.no_grad()
def test_a_second_block_of_a_prompt_sees_the_first(name: str) -> None:
    module = adapted(name)
    decoder = Int8Decoder(module, as_it_is)
    decoder.logits_after(IDS[:30])
    torch.testing.assert_close(
        decoder.logits_after(IDS[30:]), wanted(module, IDS, [len(IDS) - 1])[0], rtol=0, atol=NEAR
    )


def test_threads_are_as_many_as_torch_has() -> None:
    script = (
        "import torch, numba; torch.set_num_threads(1)\n"
        "from tests.engine.decoding.cpu.test_decoder import adapted, as_it_is\n"
        "from templora_cli.engine.decoding.cpu.int8_decoder import Decoder\n"
        "decoder = Decoder(adapted('llama'), as_it_is); decoder.logits_after([5])\n"
        "print(torch.get_num_threads(), numba.get_num_threads())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
    command, root = [sys.executable, "-c", script], Path(__file__).parents[4]
    out = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert out.stdout.split() == ["1", "1"], out.stderr


@torch.no_grad()
def test_buffers_grow_and_keep_what_they_hold() -> None:
    module = adapted("gemma3")
    decoder = Int8Decoder(module, as_it_is, block=64)
    ids, before = IDS[:84], 61
    decoder.logits_after(ids[:before])
    ours = [decoder.logits_after([token]) for token in ids[before:]]
    theirs = wanted(module, ids, range(len(ids) - len(ours), len(ids)))
    torch.testing.assert_close(torch.stack(ours), theirs, rtol=0, atol=NEAR)


@torch.no_grad()
def test_what_is_taken_back_does_not_count() -> None:
    """`length` may be set back: what stood there is written over."""
    decoder = Int8Decoder(adapted("llama"), as_it_is)
    right = decoder.logits_after(IDS[:50])
    decoder.length = 20
    decoder.logits_after(IDS[60:80])
    decoder.length = 20
    torch.testing.assert_close(decoder.logits_after(IDS[20:50]), right)


@torch.no_grad()
def test_the_base_alone_is_packed_inside_disable_adapter() -> None:
    module: Any = adapted("llama")
    decoder = Int8Decoder(module, as_it_is)
    with module.disable_adapter():
        ours = [decoder.logits_after([token]) for token in IDS[:5]][-1]
        torch.testing.assert_close(ours, wanted(module, IDS[:5], [4])[0], rtol=0, atol=NEAR)
    assert not torch.allclose(ours, wanted(module, IDS[:5], [4])[0], atol=1e-2)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (GPT2Config(), "another architecture"),
        (LlamaConfig(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}), "rope"),
        (Gemma3TextConfig(final_logit_softcapping=30.0), "softcap"),
    ],
)
def test_what_it_does_not_compute_is_left_to_transformers(config: PreTrainedConfig, why: str) -> None:
    assert not has_fast_decoder(config), why


def test_the_families_are_supported() -> None:
    for name, make in CONFIGS.items():
        assert has_fast_decoder(make()) and can_use_cuda_graph(make()), name


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("outlier", [0.0, 50.0])
def test_an_8_bit_product_is_near_the_exact_one(outlier: float) -> None:
    """As near as rounding the weights alone brings it, also where one value of the vector towers."""
    weight, x, bias = random(64, 200), random(200, seed=1), random(64, seed=2)
    x[3] += outlier
    matrix, scales = rounded(weight)
    packed = Matrix(matrix.numpy(), scales.numpy(), bias.numpy())
    made = torch.from_numpy(product(packed, x.numpy()))
    torch.testing.assert_close(made, linear(x, matrix * scales[:, None], bias), rtol=1e-4, atol=1e-4)
    exact = linear(x, weight, bias)
    assert (made - exact).norm() < 1e-2 * exact.norm()


def test_a_matrix_is_rounded_in_blocks_of_rows() -> None:
    weight = random(50, 32)
    assert all(map(torch.equal, rounded(weight, at_once=16), rounded(weight)))


def test_a_row_of_zeros_stays_one() -> None:
    weight = random(4, 16)
    weight[1] = 0
    matrix, scales = rounded(weight)
    assert matrix[1].eq(0).all() and scales.isfinite().all()
