"""The graph decoder without capturing: its logits are those of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException
from transformers import AutoModelForCausalLM, LlamaConfig

from templora_cli.config import ModelConfig, TrainConfig
from templora_cli.engine.decoding.choose import backend_for
from templora_cli.engine.decoding.cuda.cuda_graph import CudaGraphDecoder
from templora_cli.engine.decoding.cuda.graph_backend import GraphBackend
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.kernels.families import can_use_cuda_graph
from templora_cli.engine.models import loading
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.engine.training.forward import logits_at
from templora_cli.errors import TemploraError
from tests.engine.decoding.cpu.test_int8_backend import PROMPT, change, decoded_tokens
from tests.engine.decoding.cpu.test_int8_decoder import CONFIGS, IDS, SHAPE, adapted_model


@pytest.fixture
def model(tiny_model: Path) -> LanguageModel:
    return loading.load(tiny_model, ModelConfig(), TrainConfig(rank=4, alpha=4), seed=0)


def decoder_of(module: nn.Module) -> CudaGraphDecoder:
    """With small blocks, so that the tests fill them."""
    return CudaGraphDecoder(module, fused=None, block=64)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_logits_are_those_of_transformers(name: str) -> None:
    """A prompt at once, then token by token, beyond the sliding windows and beyond a block."""
    module = adapted_model(name)
    decoder = decoder_of(module)
    ours = [decoder.logits_after(IDS[:40])] + [decoder.logits_after([token]) for token in IDS[40:]]
    theirs, _ = logits_at(module, IDS, range(39, len(IDS)))
    torch.testing.assert_close(torch.stack(ours), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mistral, sliding", "gemma3"])
@torch.no_grad()
def test_tokens_beyond_a_reduced_length_have_no_effect(name: str) -> None:
    module = adapted_model(name)
    decoder = decoder_of(module)
    decoder.logits_after(IDS[:50])
    decoder.logits_after([IDS[50]])
    decoder.length = 30
    ours = decoder.logits_after(IDS[60:90])
    ids = [*IDS[:30], *IDS[60:90]]
    torch.testing.assert_close(ours, logits_at(module, ids, [59])[0][0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_a_token_can_be_captured(name: str) -> None:
    """Its forward pass reads no value back from the device, which a graph could not do."""
    decoder = decoder_of(adapted_model(name))
    decoder.logits_after(IDS[:40])
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert decoder._compute_token().shape == (96,)


def test_reading_a_value_from_the_device_is_detected() -> None:
    """A dynamic rotary embedding reads the length of the text."""
    module = AutoModelForCausalLM.from_config(
        LlamaConfig(**SHAPE, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    )
    assert not can_use_cuda_graph(module.config)
    decoder = decoder_of(module.eval())
    with torch.no_grad():
        decoder.logits_after(IDS[:40])
        with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(DataDependentOutputException):
            decoder._compute_token()


def test_tokens_are_those_of_the_eager_backend(model: LanguageModel) -> None:
    """Also after the adapter has changed, and with a prompt that begins like the text before it."""
    backend = GraphBackend(model.module, block=64)
    for seed, prompt in enumerate((PROMPT, PROMPT, [*PROMPT[:20], 65, 66], PROMPT[:5])):
        if seed != 2:
            change(model, seed)
            backend.adapter_changed()
        assert decoded_tokens(backend, prompt) == decoded_tokens(EagerBackend(model.module), prompt)


def test_the_graph_backend_needs_a_gpu(model: LanguageModel) -> None:
    with pytest.raises(TemploraError, match=r"decodes llama, .* on a CUDA GPU, .*not llama \(none\) on cpu"):
        backend_for(model, "graph")
