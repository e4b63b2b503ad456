"""The table of backends: who decodes what, and that asking costs nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, LlamaConfig

from templora_cli.config import DecodeConfig, ModelConfig, TrainConfig
from templora_cli.engine.decoding.backends import BACKENDS, backend_row, choose_backend
from templora_cli.engine.decoding.cpu.int8_backend import Int8Backend
from templora_cli.engine.decoding.cuda.graph_backend import GraphBackend
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.decoding.runtime import LIBRARIES, runtime
from templora_cli.engine.models import loading
from templora_cli.errors import TemploraError

KNOWN, UNKNOWN = LlamaConfig(), GPT2Config()
CAPTURED = LlamaConfig(hidden_act="relu")
"""Transformers computes it the same way for every token, and no decoder of ours computes it."""


def test_the_settings_name_the_rows() -> None:
    choices = {field.name: field.metadata.get("choices") for field in fields(DecodeConfig)}["backend"]
    assert choices == ("auto", *(kind.name for kind in BACKENDS))


@pytest.mark.parametrize(
    ("device", "quantize", "config", "best"),
    [
        ("cpu", "none", KNOWN, "int8"),
        ("cpu", "none", CAPTURED, "eager"),
        ("cpu", "nf4", KNOWN, "eager"),
        ("cuda", "nf4", KNOWN, "graph"),
        ("cuda", "none", CAPTURED, "graph"),
        ("cuda", "int8", KNOWN, "eager"),
        ("cuda", "nf4", UNKNOWN, "eager"),
    ],
)
def test_the_fastest_that_can(device: str, quantize: str, config: Any, best: str) -> None:
    assert choose_backend(config, device, quantize, "auto").name == best
    assert choose_backend(config, device, quantize, best).name == best
    assert choose_backend(config, device, quantize, "eager").name == "eager"


@pytest.mark.parametrize(
    ("wanted", "device", "quantize", "reason"),
    [
        ("int8", "cpu", "nf4", r"decodes llama, .* in full precision on a CPU, not llama \(nf4\) on cpu"),
        ("int8", "cuda", "none", r"not llama \(none\) on cuda"),
        ("graph", "cpu", "none", r"decodes llama, .* on a CUDA GPU, .*not llama \(none\) on cpu"),
        ("graph", "cuda", "int8", r"not llama \(int8\) on cuda"),
    ],
)
def test_one_that_cannot_says_why(wanted: str, device: str, quantize: str, reason: str) -> None:
    with pytest.raises(TemploraError, match=f"the {wanted} backend .*{reason}") as caught:
        choose_backend(KNOWN, device, quantize, wanted)
    assert caught.value.hint == '[decode] backend = "auto" takes one that can'


def test_one_that_there_is_not() -> None:
    with pytest.raises(TemploraError, match="no backend fpga; there are int8, graph, eager"):
        backend_row("fpga")


def test_a_row_makes_its_backend(tiny_model: Path) -> None:
    module = loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=2), seed=0).module
    kinds = {"int8": Int8Backend, "graph": GraphBackend, "eager": EagerBackend}
    for kind in BACKENDS:
        assert type(kind.make(module)) is kinds[kind.name]
        assert kind.preparation() is None, "what the tests decoded with is compiled"


def test_a_session_is_told_of_the_libraries_that_its_backend_takes(tiny_model: Path) -> None:
    model = loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=2), seed=0)
    told = {name: tuple(runtime(model, name)["versions"]) for name in ("int8", "eager", "auto")}
    assert told["int8"] == told["auto"] == (*LIBRARIES, "numba", "llvmlite")
    assert told["eager"] == LIBRARIES


def test_the_table_loads_nothing() -> None:
    script = (
        "import sys\n"
        "from templora_cli.engine.decoding import backends\n"
        "heavy = {'torch', 'numpy', 'numba', 'triton', 'transformers'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
