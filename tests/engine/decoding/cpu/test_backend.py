"""The int8 backend: near the eager one, and never a token that hangs on what was decoded before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from templora_cli.config import DecodeConfig, ModelConfig, TrainConfig
from templora_cli.engine.decoding.cached import CachedBackend
from templora_cli.engine.decoding.choose import backend_for
from templora_cli.engine.decoding.cpu.int8_backend import Int8Backend
from templora_cli.engine.decoding.cpu.int8_decoder import Int8Decoder
from templora_cli.engine.decoding.cpu.quantize import rounded
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.decoding.protocols import BLOCK, Backend
from templora_cli.engine.decoding.sampling import sampler_for
from templora_cli.engine.models import loading
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.errors import TemploraError

PROMPT = [ord(c) for c in "the lighthouse keeper went up the stairs"]


@pytest.fixture
def model(tiny_model: Path) -> LanguageModel:
    return loading.load(tiny_model, ModelConfig(), TrainConfig(rank=4, alpha=4), seed=0)


def change(model: LanguageModel, seed: int) -> None:
    """Write other values into the adapter, as training does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.adapter.values():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def drawn(backend: Backend, prompt: Sequence[int] = PROMPT, *, tokens: int = 30) -> list[int]:
    sampler = sampler_for(DecodeConfig(), torch.Generator().manual_seed(1), ())
    return [
        token.id for token in backend.decode(prompt, sampler=sampler, max_tokens=tokens, stop=lambda _: False)
    ]


class Watching:
    """Takes the likeliest token and keeps the logits."""

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self.tokens = list(tokens)
        self.logits: list[Tensor] = []

    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        self.logits.append(logits)
        return self.tokens.pop(0) if self.tokens else int(logits.argmax())


def test_logits_are_near_those_of_the_eager_backend(model: LanguageModel) -> None:
    change(model, 1)
    eager, int8 = Watching(), Watching()
    said = [
        token.id
        for token in EagerBackend(model.module).decode(
            PROMPT, sampler=eager, max_tokens=40, stop=lambda _: False
        )
    ]
    int8.tokens = said.copy()
    list(Int8Backend(model.module).decode(PROMPT, sampler=int8, max_tokens=40, stop=lambda _: False))
    for ours, theirs in zip(int8.logits, eager.logits, strict=True):
        assert (ours - theirs).norm() < 0.05 * theirs.norm()


def test_a_changed_adapter_is_decoded_with(model: LanguageModel) -> None:
    backend = Int8Backend(model.module)
    before = drawn(backend)
    change(model, 2)
    backend.adapter_changed()
    after = drawn(backend)
    assert after != before
    assert after == drawn(Int8Backend(model.module))


def test_a_chunk_does_not_hang_on_those_before_it(model: LanguageModel) -> None:
    """As after a resume, where nothing was decoded before: to the last bit."""
    change(model, 1)
    fresh, used = Watching(), Watching()
    backend = Int8Backend(model.module)
    drawn(backend, [*PROMPT, 65, 66])
    backend.chunk_begins()
    for one, watching in ((backend, used), (Int8Backend(model.module), fresh)):
        list(one.decode(PROMPT, sampler=watching, max_tokens=5, stop=lambda _: False))
    assert all(torch.equal(*pair) for pair in zip(fresh.logits, used.logits, strict=True))


class Reading(Int8Decoder):
    """Tells how many tokens it reads at a time."""

    def logits_after(self, ids: Sequence[int]) -> Tensor:
        self.read = [*getattr(self, "read", []), len(ids)]
        return super().logits_after(ids)


def test_a_prompt_is_read_from_where_it_differs(model: LanguageModel) -> None:
    decoder = Reading(model.module, rounded)
    backend = CachedBackend(model.module, decoder)
    said = drawn(backend, tokens=3)
    assert decoder.read == [len(PROMPT), 1, 1]
    decoder.read.clear()
    drawn(backend, [*PROMPT, *said, 70, 71], tokens=1)
    assert decoder.read == [3], "the third token was drawn and never read"
    decoder.read.clear()
    again = drawn(backend, [*PROMPT[:10], 72, *PROMPT[:5]], tokens=4)
    assert decoder.read[0] == 6
    assert again == drawn(Int8Backend(model.module), [*PROMPT[:10], 72, *PROMPT[:5]], tokens=4)
    decoder.read.clear()
    drawn(backend, PROMPT[:5], tokens=1)
    assert decoder.read == [1], "the logits after the last token have to be computed"


def test_gradients_are_on_between_its_tokens(model: LanguageModel) -> None:
    sampler = sampler_for(DecodeConfig(), torch.Generator(), ())
    for _ in Int8Backend(model.module).decode(PROMPT, sampler=sampler, max_tokens=2, stop=lambda _: False):
        assert torch.is_grad_enabled()


def test_auto_takes_it_where_it_can(model: LanguageModel) -> None:
    assert isinstance(backend_for(model, "auto"), Int8Backend)
    assert isinstance(backend_for(model, "eager"), EagerBackend)
    model.quantize = "nf4"
    assert isinstance(backend_for(model, "auto"), EagerBackend)
    with pytest.raises(TemploraError, match=r"llama, mistral.* not llama \(nf4\) on cpu"):
        backend_for(model, "int8")


def test_room_for_keys_and_values_comes_at_once_and_goes(model: LanguageModel) -> None:
    backend = Int8Backend(model.module)
    stream = backend.decode(PROMPT, sampler=Watching(), max_tokens=2 * BLOCK, stop=lambda _: False)
    next(stream)
    assert backend.decoder._keys.shape[-1] >= len(PROMPT) + 2 * BLOCK
    said = drawn(backend)
    backend.decoding_ends()
    assert backend.decoder._keys.numel() == backend.decoder._values.numel() == 0
    assert drawn(backend) == said
