"""Greedy decoding of several prompts at once."""

from __future__ import annotations

from pathlib import Path

import torch

from templora_cli.config import ModelConfig, TrainConfig
from templora_cli.engine import models
from templora_cli.engine.forward import last_logits
from templora_cli.engine.greedy import greedy


def test_each_prompt_is_continued_as_it_would_be_alone(tiny_model: Path) -> None:
    model = models.load(tiny_model, ModelConfig(device="cpu"), TrainConfig(rank=2, alpha=2), seed=0)
    with torch.no_grad():
        for name, parameter in model.adapter.items():
            if "lora_B" in name:
                parameter += 0.05
    prompts = [list(b"The lamp"), list(b"A"), list(b"Up the stairs and down again")]
    out = greedy(model.module, prompts, max_tokens=6, ends={260})
    for prompt, continued in zip(prompts, out, strict=True):
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(6):
                ids.append(int(last_logits(model.module, ids, 1)[0][-1].argmax()))
        assert continued == ids[len(prompt) :]
    first = out[0]
    assert greedy(model.module, prompts[:1], max_tokens=6, ends={first[0]}) == [first[:1]]
    ended = greedy(model.module, prompts, max_tokens=6, ends={first[-1]})
    assert ended[0] == first[: first.index(first[-1]) + 1]
    settings = model.module.generation_config
    settings.repetition_penalty, settings.no_repeat_ngram_size, settings.min_new_tokens = 5.0, 1, 6
    assert greedy(model.module, prompts, max_tokens=6, ends={260}) == out, "the model's own settings"
