"""The forward pass that a graph is captured of, uncaptured: its logits are those of transformers."""

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
from tests.engine.decoding.cpu.test_backend import PROMPT, change, drawn
from tests.engine.decoding.cpu.test_decoder import CONFIGS, IDS, SHAPE, adapted


@pytest.fixture
def model(tiny_model: Path) -> LanguageModel:
    return loading.load(tiny_model, ModelConfig(), TrainConfig(rank=4, alpha=4), seed=0)


def decoder_of(module: nn.Module) -> CudaGraphDecoder:
    """In blocks that the tests fill."""
    return CudaGraphDecoder(module, fused=None, block=64)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_logits_are_those_of_transformers(name: str) -> None:
    """A prompt at once, then token by token, past the windows of the layers that slide and past a block."""
    module = adapted(name)
    decoder = decoder_of(module)
    ours = [decoder.logits_after(IDS[:40])] + [decoder.logits_after([token]) for token in IDS[40:]]
    theirs, _ = logits_at(module, IDS, range(39, len(IDS)))
    torch.testing.assert_close(torch.stack(ours), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mistral, sliding", "gemma3"])
@torch.no_grad()
def test_what_is_taken_back_does_not_count(name: str) -> None:
    module = adapted(name)
    decoder = decoder_of(module)
    decoder.logits_after(IDS[:50])
    decoder.logits_after([IDS[50]])
    decoder.length = 30
    ours = decoder.logits_after(IDS[60:90])
    read = [*IDS[:30], *IDS[60:90]]
    torch.testing.assert_close(ours, logits_at(module, read, [59])[0][0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_a_token_can_be_captured(name: str) -> None:
    """Nothing in it asks the device for a value, which a graph could not answer."""
    decoder = decoder_of(adapted(name))
    decoder.logits_after(IDS[:40])
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert decoder._next().shape == (96,)


def test_a_token_that_asks_would_be_noticed() -> None:
    """Angles that change with the length of the text are looked up on the way."""
    module = AutoModelForCausalLM.from_config(
        LlamaConfig(**SHAPE, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    )
    assert not can_use_cuda_graph(module.config)
    decoder = decoder_of(module.eval())
    with torch.no_grad():
        decoder.logits_after(IDS[:40])
        with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(DataDependentOutputException):
            decoder._next()


def test_tokens_are_those_of_the_eager_backend(model: LanguageModel) -> None:
    """Also where the adapter has been written to, and a prompt begins like the text before it."""
    backend = GraphBackend(model.module, block=64)
    for seed, prompt in enumerate((PROMPT, PROMPT, [*PROMPT[:20], 65, 66], PROMPT[:5])):
        if seed != 2:
            change(model, seed)
            backend.adapter_changed()
        assert drawn(backend, prompt) == drawn(EagerBackend(model.module), prompt)


def test_a_graph_takes_a_gpu(model: LanguageModel) -> None:
    with pytest.raises(TemploraError, match=r"decodes llama, .* on a CUDA GPU, .*not llama \(none\) on cpu"):
        backend_for(model, "graph")
