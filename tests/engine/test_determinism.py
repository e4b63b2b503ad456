"""No function of MKL's is first called in several threads at once, and what a GPU is told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from templora_cli.config import ModelConfig, TrainConfig
from templora_cli.engine.determinism import VECTOR_MATH, enable_determinism, is_deterministic
from templora_cli.engine.models import loading


class FirstCalls(TorchDispatchMode):
    """Of each function, how many numbers it was first called on."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[str, int] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        numbers = [argument.numel() for argument in args if isinstance(argument, torch.Tensor)]
        self.sizes.setdefault(func.overloadpacket.__name__.rstrip("_"), max(numbers, default=0))
        return func(*args, **(kwargs or {}))


def test_loading_a_model_calls_each_on_one_number(tiny_model: Path) -> None:
    with FirstCalls() as first:
        loading.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(), seed=0)
    assert {name: first.sizes.get(name) for name in VECTOR_MATH} == dict.fromkeys(VECTOR_MATH, 1)
    assert first.sizes["multinomial"] == 2


def test_they_are_all_that_torch_leaves_to_mkl() -> None:
    header = Path(torch.__file__).parent / "include" / "ATen" / "cpu" / "vml.h"
    if not header.is_file():
        pytest.skip(f"this torch has no {header.name}")
    named = re.findall(r"^IMPLEMENT_VML_MKL\((\w+),", header.read_text("utf-8"), re.MULTILINE)
    assert len(named) > 10 and set(named) <= set(VECTOR_MATH)


@pytest.fixture
def own_settings() -> Iterator[None]:
    """Of torch, for which no GPU has to be there."""
    enabled, fill = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic
    warn_only, filled = torch.is_deterministic_algorithms_warn_only_enabled(), fill.fill_uninitialized_memory
    cudnn = torch.backends.cuda.cudnn_sdp_enabled()
    yield
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    fill.fill_uninitialized_memory = filled
    torch.backends.cuda.enable_cudnn_sdp(cudnn)


@pytest.mark.parametrize("strictly", [True, False])
def test_what_a_gpu_is_told(strictly: bool, own_settings: None) -> None:
    """In warn-only mode attention's backward pass is not deterministic, and no book of it exact."""
    cuda = torch.device("cuda")
    enable_determinism(cuda, strictly=strictly)
    assert torch.are_deterministic_algorithms_enabled() and is_deterministic(cuda) == strictly
    assert is_deterministic(torch.device("cpu"))
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.backends.cuda.cudnn_sdp_enabled()
