"""On a CUDA GPU: the base is in NF4 by default, and a resumed book is exact there too."""

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
from templora_cli.engine.kernels.nf4 import is_packed, unpacked
from templora_cli.engine.models import loading
from templora_cli.engine.training.forward import logits_at
from templora_cli.sessions.steps import committed_steps, read_chunks
from templora_cli.sessions.store import Store
from tests.engine.decoding.cpu.test_backend import PROMPT, Watching
from tests.engine.decoding.cpu.test_decoder import CONFIGS, IDS, adapted

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def templora(*arguments: str) -> Path:
    result = CliRunner().invoke(app, [*arguments, "-q"])
    assert result.exit_code == 0, result.stderr
    return Store().find(None)


@pytest.mark.parametrize("backend", ["eager", "graph"])
def test_nf4_by_default_and_exact_after_a_resume(backend: str, tiny_model: Path) -> None:
    write = ("write", "--model", str(tiny_model), "--premise", "A storm.", "--chunk-tokens", "32")
    write += ("--set", f"decode.backend={backend}")
    get_or_compute = templora(*write, "--chunks", "4")
    templora(*write, "--chunks", "2")
    twice = templora("resume", "--chunks", "2")
    manifest = json.loads((get_or_compute / "session.json").read_text())
    assert (manifest["device"], manifest["quantize"]) == ("cuda", "nf4")
    assert [c["tokens"] for c in read_chunks(get_or_compute / "steps")] == [
        c["tokens"] for c in read_chunks(twice / "steps")
    ]
    ours, theirs = (committed_steps(book / "steps")[-1] for book in (twice, get_or_compute))
    for name in ("adapter.safetensors", "optimizer.safetensors"):
        tensors, wanted = load_file(ours / name), load_file(theirs / name)
        assert all(torch.equal(tensors[key], wanted[key]) for key in wanted), name


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_a_captured_token_is_the_one_of_the_eager_backend(quantize: str, tiny_model: Path) -> None:
    """Before and after the adapter has been written to: the graph reads it where it is."""
    config = ModelConfig(device="cuda", quantize=quantize)
    model = loading.load(tiny_model, config, TrainConfig(rank=4, alpha=4), seed=0)
    graph = GraphBackend(model.module)
    for scale in (0.0, 0.05, -0.1):
        with torch.no_grad():
            for weight in model.adapter.values():
                weight.copy_(scale * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
        graph.adapter_changed()
        likeliest, asked = Watching(), Watching()
        said = EagerBackend(model.module).decode(
            PROMPT, sampler=likeliest, max_tokens=40, stop=lambda _: False
        )
        asked.tokens = [token.id for token in said]
        list(graph.decode(PROMPT, sampler=asked, max_tokens=40, stop=lambda _: False))
        for ours, theirs in zip(asked.logits, likeliest.logits, strict=True):
            assert (ours - theirs).norm() < 0.02 * theirs.norm()


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_a_token_of_every_family_in_few_launches(name: str) -> None:
    """Compiled, past windows and a block of places; in float32, so that rounding hides nothing."""
    pytest.importorskip("triton")
    module = adapted(name).cuda()
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
        assert torch.equal(unpacked(layer, theirs.dtype), theirs)
