"""Warnings and advice of libraries stay off the user's screen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from tests.engine.models.tiny_kinds import KINDS, save_tiny

SMALL = ("--set", "chunk_tokens=8", "--set", "decode.context_tokens=16", "--set", "rank=2")
SILENCING = ("TRANSFORMERS_VERBOSITY", "TORCH_CPP_LOG_LEVEL", "PYTHONWARNINGS")


def run(*arguments: str | Path, debug: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a separate process, with the default verbosity of the libraries."""
    # Commands that other tests ran in this process have silenced the libraries for child processes too.
    inherited = {name: value for name, value in os.environ.items() if name not in SILENCING}
    return subprocess.run(
        [sys.executable, "-m", "templora_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**inherited, "TEMPLORA_DEBUG": debug, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("kind", ["mamba", "qwen3_next"])
def test_libraries_write_nothing_to_standard_error(kind: str, tmp_path: Path) -> None:
    linear = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 16}
    configs = {
        "mamba": KINDS["mamba"],
        "qwen3_next": lambda: transformers.Qwen3NextConfig(
            **{**KINDS["qwen3_moe"]().to_diff_dict(), "model_type": "qwen3_next"},
            **linear,
            linear_value_head_dim=16,
            shared_expert_intermediate_size=32,
            layer_types=["linear_attention", "full_attention"],
        ),
    }
    folder = tmp_path / kind
    save_tiny(folder, configs[kind]())
    arguments = ("write", "--model", folder, "--premise", "Rain.", "--chunks", "2", "-q", *SMALL)
    done = run(*arguments)
    assert done.returncode == 0 and done.stderr == "" and done.stdout
    loud = run(*arguments, debug="1")
    assert loud.returncode == 0 and "[transformers]" in loud.stderr, (
        "without silencing, the libraries write warnings"
    )
    planned = run("doctor", "--model", folder)
    assert planned.returncode == 0 and planned.stderr == ""
