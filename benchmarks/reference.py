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
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.streamers import BaseStreamer

from benchmarks import synthetic
from benchmarks.bounds import Form, Work, step_flops
from benchmarks.subject import Subject

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
        self.module = get_peft_model(module, lora)
        self.merge = merge
        self.form: Form = "merged" if merge else "live"
        learnt = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(learnt, lr=LR, weight_decay=0.0)

    def generate(self, prompt: Tensor, tokens: int, clock: Callable[[], float]) -> tuple[Tensor, list[float]]:
        """So many tokens after `prompt` [1, n]; the sequence [1, n + tokens], and when the first and the
        last of them came.
        """
        self.module.eval()
        if self.merge:
            self.module.merge_adapter()
        ends = self.module.generation_config.eos_token_id
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
            sequence = self.module.generate(
                inputs=prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=config,
                streamer=arrivals,
            )
        times = [arrivals.times[0], clock()]
        if self.merge:
            self.module.unmerge_adapter()
        return sequence, times

    def learn(self, context: Tensor, chunk: Tensor) -> list[float]:
        """The passes over `context` [1, m] and `chunk` [1, n]; the loss before each, nats a token."""
        self.module.train()
        ids = torch.cat([context, chunk], -1)
        labels = torch.cat([torch.full_like(context, -100), chunk], -1)
        losses = []
        for _ in range(PASSES):
            loss = self.module(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    def chunk(
        self, prompt: Sequence[int], given: Sequence[int], clock: Callable[[], float]
    ) -> dict[str, float]:
        """Write `len(human)` tokens after `prompt` and learn them; seconds of each phase by `clock`."""
        began = clock()
        ids = torch.tensor([list(prompt)], device=self.module.device)
        sequence, (first, last) = self.generate(ids, len(given), clock)
        written = clock()
        self.learn(ids[:, -TRAINING_CONTEXT:], sequence[:, len(prompt) :])
        # To merge and to take out again is the price of this way of decoding, like the copy of another.
        prepared = first - began + written - last
        return {"prompt": prepared, "decode": last - first, "train": clock() - written}

    def train_work(self, prompt: Sequence[int], given: Sequence[int]) -> tuple[int, int]:
        """Passes over such a chunk, and the floating-point operations that they need together."""
        context = min(len(prompt), TRAINING_CONTEXT)
        return PASSES, PASSES * step_flops(Work.of(self.module), context, len(given))


def load(subject: Subject, *, merge: bool) -> Reference:
    """Over that model; on a GPU, unless it is synthetic, in bfloat16, as in the paper's code."""
    device = torch.device(subject.device)
    if subject.synthetic:
        return Reference(synthetic.load(synthetic.CONFIGS[subject.synthetic], device), merge=merge)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    module = AutoModelForCausalLM.from_pretrained(subject.folder, dtype=dtype, device_map={"": device})
    return Reference(module, merge=merge)


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
