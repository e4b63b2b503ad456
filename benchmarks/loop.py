"""One chunk as templora makes it: the loop itself, as `write` and the evaluations run it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from templora_cli.engine.models import loading  # isort: skip  # it sets what torch's allocator reads

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
from templora_cli.prompt import fixed
from templora_cli.reading import ReadingTask
from templora_cli.sessions.checkpoint import commit_step
from templora_cli.sessions.steps import thin
from templora_cli.state import WritingState
from templora_cli.temp_lora import write
from templora_cli.turn import Chunk, Task


class TemploraSide:
    """A model with its adapter, its backend and a folder of steps, for one chunk after the other."""

    def __init__(self, model: loading.LanguageModel, config: Config, origin: Origin) -> None:
        """Chunks of the model's own, or `human` ones."""
        self.model, self.module, self.origin = model, model.module, origin
        self.config = with_learning_rates(config, model.parameters)
        self.state = WritingState.begin(model, self.config)
        self.backend = backend_for(model, config.decode.backend)
        self.form: Form = "int8" if backend_name(model, config.decode.backend) == "int8" else "live"
        self._folder = tempfile.TemporaryDirectory()
        self.steps = Path(self._folder.name)

    def chunk(
        self, prompt: Sequence[int], given: Sequence[int], clock: Callable[[], float]
    ) -> dict[str, float]:
        """Write `len(human)` tokens after `prompt`, or read them; seconds of each phase by `clock`.

        The state goes on from chunk to chunk, but the book is always what stands in `prompt`.
        """
        self.state.tokens[:] = prompt[1:]
        arrivals = [began := clock()]
        for event in write(self._task(prompt, given), self.model, self.backend, self.state, self.config):
            if isinstance(event, TextDecoded):
                arrivals.append(time.perf_counter())  # a backend may run ahead: nothing waits for it here
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
            "prompt": first - began,
            "decode": last - first,
            "score": scored - last,
            "train": learnt - scored,
            "commit": clock() - learnt,
        }

    def _task(self, prompt: Sequence[int], given: Sequence[int]) -> Task:
        # The prompt is as long on all sides: its first token is the header.
        decode, text = self.config.decode, tuple(prompt[1:])
        before = fixed(tuple(prompt[:1]), decode.context_tokens)
        if self.origin == "human":
            return ReadingTask(before, text + tuple(given), decode.chunk_tokens, self.model.tokenizer)
        goal = Goal(len(given), "tokens")
        return NovelTask(before, text, goal, decode.chunk_tokens, self.model.tokenizer, whole_sentences=False)

    def train_work(self, prompt: Sequence[int], given: Sequence[int]) -> tuple[int, int]:
        """Passes over such a chunk, and the floating-point operations that they need together."""
        self.state.tokens[:] = prompt[1:]
        turn = self._task(prompt, given).next_turn(self.state.tokens, ())
        assert turn is not None
        learning = learning_config(turn.origin, self.config)
        work = Work.of(self.module)
        steps = windows(turn, Chunk(tuple(given), ""), self.state.tokens, learning)
        flops = sum(step_flops(work, len(step.header + step.context), len(step.tokens)) for step in steps)
        return learning.epochs, learning.epochs * flops


def load(subject: Subject, recipe: str, origin: Origin, backend: str = "auto") -> TemploraSide:
    """The loop over that model with a recipe, whatever the settings of the machine's user."""
    config = config_of(subject, recipe, backend)
    if subject.synthetic:
        return TemploraSide(synthetic_model(synthetic.CONFIGS[subject.synthetic], config), config, origin)
    assert subject.folder is not None
    return TemploraSide(
        loading.load(subject.folder, config.model, config.train, seed=config.seed), config, origin
    )


def config_of(subject: Subject, recipe: str, backend: str = "auto") -> Config:
    """The settings of a side; what hangs on the model's size is not chosen yet."""
    values = {
        "model": {"device": subject.device},
        "train": {"recipe": recipe, "gradient_checkpointing": subject.checkpointing},
        "decode": {
            "context_tokens": subject.context_tokens,
            "chunk_tokens": subject.chunk_tokens,
            "backend": backend,
        },
        # A chunk that it refuses is written twice and not learnt, and would cost something else.
        "gate": {"enabled": False},
    }
    return resolve([Layer.of_file("benchmark", values)])


def synthetic_model(shape: PretrainedConfig, config: Config) -> loading.LanguageModel:
    """What `loading.load` would make of random weights; its tokenizer knows bytes only."""
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
