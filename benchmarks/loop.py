"""A chunk made by templora, with the same loop that `write` and the evaluations run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from templora_cli.engine.models import loading  # isort: skip  # sets variables that torch's allocator reads

import torch
from transformers import PretrainedConfig

from benchmarks import synthetic
from benchmarks.bounds import Form, Work, step_flops
from benchmarks.subject import Subject
from benchmarks.tiny_model import byte_tokenizer
from templora_cli.config import Config, with_learning_rates
from templora_cli.config_layers import Layer, resolve
from templora_cli.engine.decoding.choose import backend_for, backend_name
from templora_cli.engine.determinism import enable_determinism
from templora_cli.engine.models.adapter import with_adapter
from templora_cli.events import ChunkLearnt, ChunkScored, Origin, TextDecoded
from templora_cli.learning import learning_config, windows
from templora_cli.novel.task import Goal, NovelTask
from templora_cli.prompt import fixed_header
from templora_cli.reading import ReadingTask
from templora_cli.sessions.checkpoint import commit_step
from templora_cli.sessions.steps import thin
from templora_cli.state import WritingState
from templora_cli.temp_lora import write
from templora_cli.turn import Chunk, Task


class TemploraSide:
    """A model with its adapter, its backend and a folder of steps. Implements `sides.Side`."""

    def __init__(self, model: loading.LanguageModel, config: Config, origin: Origin) -> None:
        """With `origin` "generated" the model writes the chunks, with "human" it reads them."""
        self.model, self.module, self.origin = model, model.module, origin
        self.config = with_learning_rates(config, model.parameters, model.model_type)
        self.state = WritingState.begin(model, self.config)
        self.backend = backend_for(model, config.decode.backend)
        self.form: Form = "int8" if backend_name(model, config.decode.backend) == "int8" else "live"
        self._folder = tempfile.TemporaryDirectory()
        self.steps = Path(self._folder.name)

    def chunk(
        self, prompt: Sequence[int], text: Sequence[int], clock: Callable[[], float]
    ) -> dict[str, float]:
        """Write `len(text)` tokens after `prompt`, or read `text`. Returns the seconds of each phase.

        Adapter and optimizer continue from chunk to chunk, but the book before a chunk is always `prompt`.
        """
        self.state.tokens[:] = prompt[1:]
        arrivals = [start := clock()]
        for event in write(self._task(prompt, text), self.model, self.backend, self.state, self.config):
            if isinstance(event, TextDecoded):
                arrivals.append(time.perf_counter())  # without a wait: a backend may run ahead
            elif isinstance(event, ChunkScored):
                scored = clock()
            elif isinstance(event, ChunkLearnt):
                learnt = clock()
                if not event.train_losses:
                    raise RuntimeError("nothing was learnt of this chunk")
                commit_step(self.steps, event.index, asdict(event), self.state)
                thin(self.steps, **asdict(self.config.session))
        first, last = arrivals[min(1, len(arrivals) - 1)], arrivals[-1]
        return {
            "prompt": first - start,
            "decode": last - first,
            "score": scored - last,
            "train": learnt - scored,
            "commit": clock() - learnt,
        }

    def _task(self, prompt: Sequence[int], chunk: Sequence[int]) -> Task:
        # The first token of the prompt is the header, so that all sides have prompts of the same length.
        decode, text = self.config.decode, tuple(prompt[1:])
        before = fixed_header(tuple(prompt[:1]), decode.context_tokens)
        if self.origin == "human":
            return ReadingTask(before, text + tuple(chunk), decode.chunk_tokens, self.model.tokenizer)
        goal = Goal(len(chunk), "tokens")
        return NovelTask(before, text, goal, decode.chunk_tokens, self.model.tokenizer, whole_sentences=False)

    def train_work(self, prompt: Sequence[int], text: Sequence[int]) -> tuple[int, int]:
        """The passes over such a chunk, and the floating-point operations of all of them."""
        self.state.tokens[:] = prompt[1:]
        turn = self._task(prompt, text).next_turn(self.state.tokens, ())
        assert turn is not None
        learning = learning_config(turn.origin, self.config)
        work = Work.of(self.module)
        steps = windows(turn, Chunk(tuple(text), ""), self.state.tokens, learning)
        flops = sum(step_flops(work, len(step.header + step.context), len(step.tokens)) for step in steps)
        return learning.epochs, learning.epochs * flops


def load(subject: Subject, recipe: str, origin: Origin, backend: str = "auto") -> TemploraSide:
    """Load the model of `subject` with a recipe. The user's own settings are ignored."""
    config = config_of(subject, recipe, backend)
    if subject.synthetic:
        model = synthetic_model(synthetic.CONFIGS[subject.synthetic], config)
    else:
        assert subject.folder is not None
        model = loading.load(subject.folder, config.model, config.train, seed=config.seed)
    return TemploraSide(model, config, origin)


def config_of(subject: Subject, recipe: str, backend: str = "auto") -> Config:
    """The settings of a side, before learning rates are chosen by the size of the model."""
    values = {
        "model": {"device": subject.device},
        "train": {"recipe": recipe, "gradient_checkpointing": subject.checkpointing},
        "decode": {
            "context_tokens": subject.context_tokens,
            "chunk_tokens": subject.chunk_tokens,
            "backend": backend,
        },
        # A rejected chunk is written twice and not learnt, which would change its cost.
        "gate": {"enabled": False},
    }
    return resolve([Layer.of_file("benchmark", values)])


def synthetic_model(shape: PretrainedConfig, config: Config) -> loading.LanguageModel:
    """A model with random weights, set up as by `loading.load`; its tokenizer knows only bytes."""
    device = torch.device(config.model.device)
    enable_determinism(device, strictly=True)
    base = synthetic.load(shape, device)
    parameters, dtype = base.num_parameters(), str(base.dtype).removeprefix("torch.")
    module, adapter = with_adapter(base, config.train, config.seed)
    quantize = "nf4" if base.is_loaded_in_4bit else "none"
    return loading.LanguageModel(
        *(module.eval(), byte_tokenizer(), adapter, quantize, dtype),
        fingerprint="",
        parameters=parameters,
    )
