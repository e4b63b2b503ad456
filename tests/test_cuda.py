"""On a CUDA GPU: the base is in NF4 by default, and a resumed book is exact there too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from templora_cli.cli import app
from templora_cli.sessions.checkpoint import committed_steps, read_chunks
from templora_cli.sessions.store import Store

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def templora(*arguments: str) -> Path:
    result = CliRunner().invoke(app, [*arguments, "-q"])
    assert result.exit_code == 0, result.stderr
    return Store().find(None)


def test_nf4_by_default_and_exact_after_a_resume(tiny_model: Path) -> None:
    write = ("write", "--model", str(tiny_model), "--premise", "A storm.", "--chunk-tokens", "32")
    once = templora(*write, "--chunks", "4")
    templora(*write, "--chunks", "2")
    twice = templora("resume", "--chunks", "2")
    manifest = json.loads((once / "session.json").read_text())
    assert (manifest["device"], manifest["quantize"]) == ("cuda", "nf4")
    assert [c["tokens"] for c in read_chunks(once / "steps")] == [
        c["tokens"] for c in read_chunks(twice / "steps")
    ]
    ours, theirs = (committed_steps(book / "steps")[-1] for book in (twice, once))
    for name in ("adapter.safetensors", "optimizer.safetensors"):
        tensors, wanted = load_file(ours / name), load_file(theirs / name)
        assert all(torch.equal(tensors[key], wanted[key]) for key in wanted), name
