"""The table of backends: which backend decodes which model, and that the table loads no library."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, LlamaConfig

from templora_cli.config import DecodeConfig, ModelConfig, TrainConfig
from templora_cli.engine.decoding.backends import BACKENDS, backend_kind_named, choose_backend
from templora_cli.engine.decoding.cpu.int8_backend import Int8Backend
from templora_cli.engine.decoding.cuda.graph_backend import GraphBackend
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.decoding.runtime import LIBRARIES, runtime
from templora_cli.engine.models import loading
from templora_cli.errors import TemploraError

SUPPORTED, UNSUPPORTED = LlamaConfig(), GPT2Config()
GRAPH_ONLY = LlamaConfig(hidden_act="relu")
"""A graph can capture the forward pass of transformers, but `has_fast_decoder` rejects the activation."""


def test_the_backend_setting_lists_all_backends() -> None:
    choices = {field.name: field.metadata.get("choices") for field in fields(DecodeConfig)}["backend"]
    assert choices == ("auto", *(kind.name for kind in BACKENDS))


@pytest.mark.parametrize(
    ("device", "quantize", "config", "expected"),
    [
        ("cpu", "none", SUPPORTED, "int8"),
        ("cpu", "none", GRAPH_ONLY, "eager"),
        ("cpu", "nf4", SUPPORTED, "eager"),
        ("cuda", "nf4", SUPPORTED, "graph"),
        ("cuda", "none", GRAPH_ONLY, "graph"),
        ("cuda", "int8", SUPPORTED, "eager"),
        ("cuda", "nf4", UNSUPPORTED, "eager"),
    ],
)
def test_auto_chooses_the_fastest_supported_backend(
    device: str, quantize: str, config: Any, expected: str
) -> None:
    assert choose_backend(config, device, quantize, "auto").name == expected
    assert choose_backend(config, device, quantize, expected).name == expected
    assert choose_backend(config, device, quantize, "eager").name == "eager"


@pytest.mark.parametrize(
    ("requested", "device", "quantize", "reason"),
    [
        ("int8", "cpu", "nf4", r"decodes llama, .* in full precision on a CPU, not llama \(nf4\) on cpu"),
        ("int8", "cuda", "none", r"not llama \(none\) on cuda"),
        ("graph", "cpu", "none", r"decodes llama, .* on a CUDA GPU, .*not llama \(none\) on cpu"),
        ("graph", "cuda", "int8", r"not llama \(int8\) on cuda"),
    ],
)
def test_an_unsupported_backend_is_refused_with_its_reason(
    requested: str, device: str, quantize: str, reason: str
) -> None:
    with pytest.raises(TemploraError, match=f"the {requested} backend .*{reason}") as caught:
        choose_backend(SUPPORTED, device, quantize, requested)
    assert caught.value.hint == 'set [decode] backend = "auto" to use a backend that can'


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(TemploraError, match="unknown backend fpga; the backends are int8, graph, eager"):
        backend_kind_named("fpga")


def test_each_row_creates_its_backend(tiny_model: Path) -> None:
    module = loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=2), seed=0).module
    kinds = {"int8": Int8Backend, "graph": GraphBackend, "eager": EagerBackend}
    for kind in BACKENDS:
        assert type(kind.make(module)) is kinds[kind.name]
        assert kind.preparation() is None, "the kernels were compiled by `make`"


def test_the_versions_of_the_backends_libraries_are_recorded(tiny_model: Path) -> None:
    model = loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=2), seed=0)
    recorded = {name: tuple(runtime(model, name)["versions"]) for name in ("int8", "eager", "auto")}
    assert recorded["int8"] == recorded["auto"] == (*LIBRARIES, "numba", "llvmlite")
    assert recorded["eager"] == LIBRARIES


def test_importing_the_table_loads_no_library() -> None:
    script = (
        "import sys\n"
        "from templora_cli.engine.decoding import backends\n"
        "heavy = {'torch', 'numpy', 'numba', 'triton', 'transformers'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
