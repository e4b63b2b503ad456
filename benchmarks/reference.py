"""One chunk as the paper's public code makes it (arXiv 2401.11504), from its description.

Merge the adapter into the base, let `generate` write a chunk of fixed length, take the adapter out again,
and learn what was written in two passes, with the labels and the loss of transformers over the whole
sequence. Nothing of templora is used here, nor its settings of the allocator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

RANK = ALPHA = 64
DROPOUT = 0.05
LR = 5e-5
PASSES = 2
TRAINING_CONTEXT = 2048
REPETITION_PENALTY = 1.12


class Reference:
    """A plain model with the paper's adapter on it. The rate is constant: its warm-up costs nothing."""

    def __init__(self, module: Any, *, merge: bool = True, dropout: float = DROPOUT) -> None:
        """`module` is a transformers model; without `merge` it writes with the adapter live."""
        lora = LoraConfig(
            r=RANK, lora_alpha=ALPHA, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        self.model = get_peft_model(module, lora)
        self.merge = merge
        learnt = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(learnt, lr=LR, weight_decay=0.0)

    def generate(self, prompt: Tensor, tokens: int, clock: Callable[[], float]) -> tuple[Tensor, list[float]]:
        """So many tokens after `prompt` [1, n]; the sequence [1, n + tokens], and when the first and the
        last of them came.
        """
        self.model.eval()
        if self.merge:
            self.model.merge_adapter()
        ends = self.model.generation_config.eos_token_id
        ends = [ends] if isinstance(ends, int) else ends or []
        config = GenerationConfig(
            do_sample=False,
            repetition_penalty=REPETITION_PENALTY,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            bad_words_ids=[[end] for end in ends] or None,
            pad_token_id=ends[0] if ends else 0,
            use_cache=True,
        )
        arrivals = Arrivals()
        with torch.no_grad():
            sequence = self.model.generate(
                inputs=prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=config,
                streamer=arrivals,
            )
        times = [arrivals.times[0], clock()]
        if self.merge:
            self.model.unmerge_adapter()
        return sequence, times

    def learn(self, context: Tensor, chunk: Tensor) -> list[float]:
        """The passes over `context` [1, m] and `chunk` [1, n]; the loss before each, nats a token."""
        self.model.train()
        ids = torch.cat([context, chunk], -1)
        labels = torch.cat([torch.full_like(context, -100), chunk], -1)
        losses = []
        for _ in range(PASSES):
            loss = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    def chunk(self, prompt: Sequence[int], tokens: int, clock: Callable[[], float]) -> dict[str, float]:
        """Write a chunk after `prompt` and learn it; seconds of each phase by `clock`."""
        began = clock()
        ids = torch.tensor([list(prompt)], device=self.model.device)
        sequence, (first, last) = self.generate(ids, tokens, clock)
        written = clock()
        self.learn(ids[:, -TRAINING_CONTEXT:], sequence[:, len(prompt) :])
        # To merge and to take out again is the price of this way of decoding, like the copy of another.
        prepared = first - began + written - last
        return {"prompt": prepared, "decode": last - first, "train": clock() - written}


class Arrivals(BaseStreamer):
    """Notes when each token came out of `generate`, which hands over the prompt first."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._prompt = True

    def put(self, value: Tensor) -> None:
        """A token has come."""
        if not self._prompt:
            self.times.append(time.perf_counter())
        self._prompt = False

    def end(self) -> None:
        """That was all."""
