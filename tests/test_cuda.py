"""Tests on a CUDA GPU: NF4 by default, exact resume, and the compiled kernels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from typer.testing import CliRunner

from templora_cli.cli import app
from templora_cli.config import ModelConfig, TrainConfig
from templora_cli.engine.decoding.cuda.cuda_graph import CudaGraphDecoder
from templora_cli.engine.decoding.cuda.fused_token import FusedToken
from templora_cli.engine.decoding.cuda.graph_backend import GraphBackend
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.decoding.protocols import BLOCK
from templora_cli.engine.kernels.nf4 import is_packed, unpacked_weight
from templora_cli.engine.models import loading
from templora_cli.engine.training.forward import logits_at
from templora_cli.sessions.steps import committed_steps, read_chunks
from templora_cli.sessions.store import Store
from tests.engine.decoding.cpu.test_int8_backend import PROMPT, RecordingSampler
from tests.engine.decoding.cpu.test_int8_decoder import CONFIGS, IDS, adapted_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def templora(*arguments: str) -> Path:
    result = CliRunner().invoke(app, [*arguments, "-q"])
    assert result.exit_code == 0, result.stderr
    return Store().find(None)


@pytest.mark.parametrize("backend", ["eager", "graph"])
def test_nf4_is_the_default_and_resume_is_exact(backend: str, tiny_model: Path) -> None:
    write = ("write", "--model", str(tiny_model), "--premise", "A storm.", "--chunk-tokens", "32")
    write += ("--set", f"decode.backend={backend}")
    uninterrupted = templora(*write, "--chunks", "4")
    templora(*write, "--chunks", "2")
    resumed = templora("resume", "--chunks", "2")
    manifest = json.loads((uninterrupted / "session.json").read_text())
    assert (manifest["device"], manifest["quantize"]) == ("cuda", "nf4")
    assert [c["tokens"] for c in read_chunks(uninterrupted / "steps")] == [
        c["tokens"] for c in read_chunks(resumed / "steps")
    ]
    ours, theirs = (committed_steps(book / "steps")[-1] for book in (resumed, uninterrupted))
    for name in ("adapter.safetensors", "optimizer.safetensors"):
        tensors, expected = load_file(ours / name), load_file(theirs / name)
        assert all(torch.equal(tensors[key], expected[key]) for key in expected), name


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_logits_of_the_graph_are_close_to_those_of_the_eager_backend(quantize: str, tiny_model: Path) -> None:
    """Before and after the adapter has changed: the graph reads its parameters."""
    config = ModelConfig(device="cuda", quantize=quantize)
    model = loading.load(tiny_model, config, TrainConfig(rank=4, alpha=4), seed=0)
    graph = GraphBackend(model.module)
    for scale in (0.0, 0.05, -0.1):
        with torch.no_grad():
            for weight in model.adapter.values():
                weight.copy_(scale * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
        graph.adapter_changed()
        eager_sampler, graph_sampler = RecordingSampler(), RecordingSampler()
        tokens = EagerBackend(model.module).decode(
            PROMPT, sampler=eager_sampler, max_tokens=40, stop=lambda _: False
        )
        graph_sampler.tokens = [token.id for token in tokens]
        list(graph.decode(PROMPT, sampler=graph_sampler, max_tokens=40, stop=lambda _: False))
        for ours, theirs in zip(graph_sampler.logits, eager_sampler.logits, strict=True):
            assert (ours - theirs).norm() < 0.02 * theirs.norm()


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_fused_logits_of_all_families_are_those_of_transformers(name: str) -> None:
    """Compiled, beyond windows and a block of positions; in float32, so that rounding hides no error."""
    pytest.importorskip("triton")
    module = adapted_model(name).cuda()
    decoder = CudaGraphDecoder(module, fused=FusedToken(module))
    start = BLOCK - 2
    ids = (IDS * 10)[: start + 5]
    ours = [decoder.logits_after(ids[:start])] + [decoder.logits_after([token]) for token in ids[start:]]
    theirs, _ = logits_at(module, ids, range(start - 1, len(ids)))
    torch.testing.assert_close(torch.stack(ours), theirs, rtol=1e-3, atol=1e-3)


def test_unpacked_weights_are_those_of_bitsandbytes(tiny_model: Path) -> None:
    pytest.importorskip("triton")
    model = loading.load(tiny_model, ModelConfig(device="cuda"), TrainConfig(rank=4, alpha=4), seed=0)
    layers = [part.get_base_layer() for part in model.module.modules() if isinstance(part, LoraLayer)]
    assert len(layers) == 2 * 7 and all(map(is_packed, layers))
    for layer in layers:
        theirs = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        assert torch.equal(unpacked_weight(layer, theirs.dtype), theirs)
