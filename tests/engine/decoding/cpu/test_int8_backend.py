"""The int8 backend: close to the eager one, and independent of earlier decoding."""

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
from templora_cli.engine.decoding.cpu.quantize import quantize_rows
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
    """Change the adapter in place, as training does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.adapter.values():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def decoded_tokens(backend: Backend, prompt: Sequence[int] = PROMPT, *, tokens: int = 30) -> list[int]:
    sampler = sampler_for(DecodeConfig(), torch.Generator().manual_seed(1), ())
    return [
        token.id for token in backend.decode(prompt, sampler=sampler, max_tokens=tokens, stop=lambda _: False)
    ]


class RecordingSampler:
    """Records the logits and returns `tokens`, then the most likely ones."""

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self.tokens = list(tokens)
        self.logits: list[Tensor] = []

    def draw(self, ids: Sequence[int], logits: Tensor) -> int:
        self.logits.append(logits)
        return self.tokens.pop(0) if self.tokens else int(logits.argmax())


def test_logits_are_close_to_those_of_the_eager_backend(model: LanguageModel) -> None:
    change(model, 1)
    eager, int8 = RecordingSampler(), RecordingSampler()
    tokens = [
        token.id
        for token in EagerBackend(model.module).decode(
            PROMPT, sampler=eager, max_tokens=40, stop=lambda _: False
        )
    ]
    int8.tokens = tokens.copy()
    list(Int8Backend(model.module).decode(PROMPT, sampler=int8, max_tokens=40, stop=lambda _: False))
    for ours, theirs in zip(int8.logits, eager.logits, strict=True):
        assert (ours - theirs).norm() < 0.05 * theirs.norm()


def test_a_changed_adapter_is_used(model: LanguageModel) -> None:
    backend = Int8Backend(model.module)
    before = decoded_tokens(backend)
    change(model, 2)
    backend.adapter_changed()
    after = decoded_tokens(backend)
    assert after != before
    assert after == decoded_tokens(Int8Backend(model.module))


def test_a_chunk_does_not_depend_on_earlier_chunks(model: LanguageModel) -> None:
    """The same bits as after a resume, when nothing was decoded before."""
    change(model, 1)
    fresh, used = RecordingSampler(), RecordingSampler()
    backend = Int8Backend(model.module)
    decoded_tokens(backend, [*PROMPT, 65, 66])
    backend.reset()
    for decoder, sampler in ((backend, used), (Int8Backend(model.module), fresh)):
        list(decoder.decode(PROMPT, sampler=sampler, max_tokens=5, stop=lambda _: False))
    assert all(torch.equal(*pair) for pair in zip(fresh.logits, used.logits, strict=True))


class RecordingDecoder(Int8Decoder):
    """Records the number of tokens in each call."""

    def logits_after(self, ids: Sequence[int]) -> Tensor:
        self.lengths = [*getattr(self, "lengths", []), len(ids)]
        return super().logits_after(ids)


def test_the_common_prefix_of_prompts_is_not_computed_again(model: LanguageModel) -> None:
    decoder = RecordingDecoder(model.module, quantize_rows)
    backend = CachedBackend(model.module, decoder)
    tokens = decoded_tokens(backend, tokens=3)
    assert decoder.lengths == [len(PROMPT), 1, 1]
    decoder.lengths.clear()
    decoded_tokens(backend, [*PROMPT, *tokens, 70, 71], tokens=1)
    assert decoder.lengths == [3], "the third token was drawn but is not in the cache"
    decoder.lengths.clear()
    again = decoded_tokens(backend, [*PROMPT[:10], 72, *PROMPT[:5]], tokens=4)
    assert decoder.lengths[0] == 6
    assert again == decoded_tokens(Int8Backend(model.module), [*PROMPT[:10], 72, *PROMPT[:5]], tokens=4)
    decoder.lengths.clear()
    decoded_tokens(backend, PROMPT[:5], tokens=1)
    assert decoder.lengths == [1], "the logits after the last token must be computed"


def test_gradients_are_enabled_between_tokens(model: LanguageModel) -> None:
    sampler = sampler_for(DecodeConfig(), torch.Generator(), ())
    for _ in Int8Backend(model.module).decode(PROMPT, sampler=sampler, max_tokens=2, stop=lambda _: False):
        assert torch.is_grad_enabled()


def test_auto_chooses_int8_if_it_is_supported(model: LanguageModel) -> None:
    assert isinstance(backend_for(model, "auto"), Int8Backend)
    assert isinstance(backend_for(model, "eager"), EagerBackend)
    model.quantize = "nf4"
    assert isinstance(backend_for(model, "auto"), EagerBackend)
    with pytest.raises(TemploraError, match=r"llama, mistral.* not llama \(nf4\) on cpu"):
        backend_for(model, "int8")


def test_the_cache_is_allocated_at_once_and_freed(model: LanguageModel) -> None:
    backend = Int8Backend(model.module)
    stream = backend.decode(PROMPT, sampler=RecordingSampler(), max_tokens=2 * BLOCK, stop=lambda _: False)
    next(stream)
    assert backend.decoder._keys.shape[-1] >= len(PROMPT) + 2 * BLOCK
    tokens = decoded_tokens(backend)
    backend.free_cache()
    assert backend.decoder._keys.numel() == backend.decoder._values.numel() == 0
    assert decoded_tokens(backend) == tokens
