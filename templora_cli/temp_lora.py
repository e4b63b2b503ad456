"""Temp-LoRA (Wang, Ma, Cai, arXiv 2401.11504): write a book and learn it while it is written.

A context window forgets. What leaves it is kept in a LoRA adapter that is trained, during generation,
on each chunk of text just produced, and is thrown away with the book. One turn of `write` is one chunk:

    prompt -> decode -> score -> gate -> train -> (the caller commits) -> next

The loop is a generator of events. It knows neither files nor terminal: the caller drives it, and while
it is suspended at `ChunkLearnt` the state is whole and may be copied to the disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from itertools import compress
from statistics import median
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from templora_cli.config import Config, LearningConfig, TrainConfig
from templora_cli.engine.decoding.base import Backend
from templora_cli.engine.decoding.sampling import GREEDY_BELOW, sampler_for
from templora_cli.engine.training.loss import chunk_logits, chunk_nll, kl_divergence, token_nll
from templora_cli.engine.training.muon import Muon
from templora_cli.events import (
    Chunk,
    ChunkLearnt,
    ChunkRejected,
    ChunkScored,
    ChunkStarted,
    Event,
    Notice,
    Origin,
    TextDecoded,
    TrainStep,
)

GATE_MEMORY = 8
"""Own chunks whose NLL the gate compares a new one with."""
GATE_NEEDS = 3
"""Own chunks before it compares at all."""


class Model(Protocol):
    """The base model with the temporary adapter on it."""

    module: nn.Module
    adapter: dict[str, nn.Parameter]
    """The LoRA matrices by their PEFT names, float32; empty where nothing is to be learnt."""

    @property
    def banned_tokens(self) -> Sequence[int]:
        """Tokens that prose never holds: end of text and the other special ones."""

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where random numbers are drawn."""

    def without_adapter(self) -> AbstractContextManager[object]:
        """Inside it the plain base model answers."""


class Decode(Protocol):
    """Decoding as a task may ask for it, with base + adapter and the state's own random numbers."""

    def __call__(
        self, after: Sequence[int], *, max_tokens: int, ends: Collection[int], temperature: float
    ) -> Iterator[int]:
        """The tokens that follow header, context and `after`, to the first of `ends` with it."""


class Turn(Protocol):
    """What one turn of the loop is to do."""

    @property
    def header(self) -> tuple[int, ...]:
        """The pinned tokens: instruction and premise. Never empty, never slides out of the window."""

    @property
    def context(self) -> tuple[int, ...]:
        """The window: the last tokens of the book."""

    @property
    def origin(self) -> Origin:
        """Who writes the chunk: it is learnt by `[given]` or by `[own]`."""

    @property
    def given(self) -> tuple[int, ...]:
        """The chunk itself where it is there already; empty where the model is to decode it."""

    @property
    def loss_mask(self) -> tuple[bool, ...]:
        """Which tokens of a `given` chunk are scored and learnt, at least one; empty for all of them."""

    @property
    def max_tokens(self) -> int:
        """The length of the chunk, at least 1."""

    @property
    def complete(self) -> Callable[[Sequence[int]], bool]:
        """Is the chunk, with these tokens, complete before it reaches `max_tokens`?"""

    @property
    def writer(self) -> Callable[[int, Decode], Generator[Event, None, Chunk]] | None:
        """Writes chunk number n in parts, such as paragraphs below their sources; None where it is prose."""


class Task(Protocol):
    """What to write next (`tasks/`)."""

    def next_turn(self, book: Sequence[int], records: Sequence[Any]) -> Turn | None:
        """The turn that continues `book`, or None when the book is finished.

        `records` are those of the chunks so far.
        """

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """A function from the tokens that follow `book`, one at a time, to their text."""


@dataclass
class WritingState:
    """Everything that changes while a book is written. A checkpoint is this, and nothing else is."""

    tokens: list[int]
    """The book: token ids, never re-tokenised text."""
    chunks: int
    adapter: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer | None
    """Its moments; None where nothing is learnt."""
    sampling: torch.Generator
    dropout: Tensor
    """State of the model device's random generator for dropout, uint8."""
    own_nlls: list[float] = field(default_factory=list)
    """NLL under the base of each own chunk, nats/token; the gate compares with it."""
    records: list[Any] = field(default_factory=list)
    """What the task keeps of each chunk."""

    @classmethod
    def begin(cls, model: Model, config: Config) -> WritingState:
        """The state before the first chunk; all randomness follows from `config.seed`."""
        device = model.device
        optimizer = None
        if model.adapter:  # each chunk sets its learning rate
            make = Muon if config.train.optimizer == "muon" else torch.optim.AdamW
            optimizer = make(model.adapter.values(), weight_decay=config.train.weight_decay)
        sampling = torch.Generator(device).manual_seed(config.seed)
        # Another stream than the sampler's, whatever the seed.
        dropout = torch.Generator(device).manual_seed(config.seed ^ 0x5DEECE66D).get_state()
        return cls([], 0, model.adapter, optimizer, sampling, dropout)


def write(
    task: Task, model: Model, backend: Backend, state: WritingState, config: Config
) -> Generator[Event, None, None]:
    """The whole algorithm (paper, section 3.2 and Algorithm 1), from `state` to the end of the book."""
    while (turn := task.next_turn(state.tokens, state.records)) is not None:
        index = state.chunks
        yield ChunkStarted(index, turn.origin, len(turn.context), turn.max_tokens)
        backend.chunk_begins()

        chunk = yield from decode_chunk(task, turn, model, backend, state, config)
        backend.decoding_ends()
        score = score_chunk(turn, chunk, model)
        flaw = flaw_of(turn, chunk, score[0], state, config)
        # Greedy would say the same again, and what is written in parts has tried them again already.
        again = not (turn.given or turn.writer) and config.decode.temperature >= GREEDY_BELOW
        if flaw and again:
            yield ChunkRejected(index, flaw)
            chunk = yield from decode_chunk(task, turn, model, backend, state, config)
            backend.decoding_ends()
            score = score_chunk(turn, chunk, model)
            flaw = flaw_of(turn, chunk, score[0], state, config)
        flaw = flaw or drift_of(turn, score, config)
        repeated = repetition(turn.context, chunk.tokens)
        yield ChunkScored(index, *score, repeated, flaw)

        losses = yield from train_on_chunk(turn, chunk, model, state, config, flaw)
        if losses:
            backend.adapter_changed()
        state.tokens += chunk.tokens
        state.records.append(chunk.record)
        state.chunks += 1
        if turn.origin == "own":
            state.own_nlls.append(score[0])
        lr = learning_rate(index, learning_of(turn, config), config.train) if losses else None
        learnt = (chunk.tokens, chunk.text, *score, repeated, flaw, tuple(losses), lr, chunk.record)
        yield ChunkLearnt(index, turn.origin, *learnt)


def decode_chunk(
    task: Task, turn: Turn, model: Model, backend: Backend, state: WritingState, config: Config
) -> Generator[Event, None, Chunk]:
    """Decode the chunk with base + adapter. Given text is taken as is.

    A second call for the same chunk draws on from where the first one ended.
    """
    to_text = task.text_stream(state.tokens)
    if turn.given:
        return Chunk(turn.given, "".join(map(to_text, turn.given)), turn.loss_mask)
    prompt = turn.header + turn.context
    if turn.writer is not None:
        return (yield from turn.writer(state.chunks, _decoder(prompt, model, backend, state, config)))
    chunk: list[int] = []
    pieces: list[str] = []
    nlls: list[Tensor] = []
    sampler = sampler_for(config.decode, state.sampling, model.banned_tokens)
    for token in backend.decode(prompt, sampler=sampler, max_tokens=turn.max_tokens, stop=turn.complete):
        chunk.append(token.id)
        pieces.append(to_text(token.id))
        if token.logits is not None:
            nlls.append(token_nll(token.logits, token.id))
        yield TextDecoded(state.chunks, pieces[-1], len(chunk))
    said = torch.stack(nlls).tolist() if nlls else ()  # a GPU is not waited for before
    return Chunk(tuple(chunk), "".join(pieces), nlls=tuple(said))


def _decoder(
    prompt: tuple[int, ...], model: Model, backend: Backend, state: WritingState, config: Config
) -> Decode:
    def decode(
        after: Sequence[int], *, max_tokens: int, ends: Collection[int], temperature: float
    ) -> Iterator[int]:
        drawn = replace(config.decode, temperature=temperature)
        sampler = sampler_for(drawn, state.sampling, set(model.banned_tokens).difference(ends))

        def ended(tokens: Sequence[int]) -> bool:
            return bool(tokens) and tokens[-1] in ends

        tokens = backend.decode((*prompt, *after), sampler=sampler, max_tokens=max_tokens, stop=ended)
        return (token.id for token in tokens)

    return decode


def score_chunk(turn: Turn, chunk: Chunk, model: Model) -> tuple[float, float | None]:
    """Mean NLL of the chunk under base and under adapter, nats a token, before it is learnt.

    The difference is the live measure of what the adapter gives. NaN for a chunk without tokens. What was
    decoded token by token has met base + adapter already: no second pass is made over it.
    """
    model.module.eval()
    prompt = turn.header + turn.context

    def nll() -> float:
        return chunk_nll(model.module, prompt, chunk.tokens, chunk.loss_mask).mean().item()

    with torch.no_grad():
        if not chunk.tokens:
            return math.nan, None
        if not model.adapter:
            return nll(), None
        with model.without_adapter():
            base = nll()
        return base, math.fsum(chunk.nlls) / len(chunk.nlls) if chunk.nlls else nll()


def flaw_of(turn: Turn, chunk: Chunk, nll_base: float, state: WritingState, config: Config) -> str | None:
    """The gate: what makes an own chunk unfit to be learnt from, in words; None where nothing does.

    A loop is cheap for the base and glued words are dear, so an NLL that leaves the range of the
    chunks before it either way is a sign of both. They count whether they passed or not, so that a
    lasting change of the text is accepted in the end.
    """
    gate = config.gate
    if turn.origin == "given":
        return None
    if chunk.flaw or not gate.enabled:
        return chunk.flaw
    if not chunk.text.strip():
        return "it is empty"
    if not math.isfinite(nll_base):
        return "its NLL under the base is not finite"
    written = list(compress(chunk.tokens, chunk.loss_mask)) if chunk.loss_mask else chunk.tokens
    if (repeated := repetition([], written)) > gate.repetition:
        return f"it loops: {repeated:.0%} of it stood there before"
    recent = [nll for nll in state.own_nlls[-GATE_MEMORY:] if math.isfinite(nll)]
    if len(recent) < GATE_NEEDS or 4 * len(chunk.tokens) < config.decode.chunk_tokens:
        return None  # the mean of a few tokens says little
    if abs(nll_base - (usual := median(recent))) > gate.nll_range:
        return f"its NLL under the base is {nll_base:.2f} nats/token, that of those before it {usual:.2f}"
    return None


def drift_of(turn: Turn, score: tuple[float, float | None], config: Config) -> str | None:
    """The gate, where it is the adapter that has gone too far: in words; None where it has not.

    Nothing else would come out of a second attempt.
    """
    base, adapter = score
    if turn.origin == "given" or not config.gate.enabled or adapter is None:
        return None
    if (gain := base - adapter) <= config.gate.drift:
        return None
    return f"the adapter has moved {gain:.2f} nats/token away from the base"


def train_on_chunk(
    turn: Turn, chunk: Chunk, model: Model, state: WritingState, config: Config, flaw: str | None = None
) -> Generator[Event, None, list[float]]:
    """`epochs` passes over (context -> chunk), loss on the chunk only; returns the loss of each pass.

    Of a chunk with a `flaw` only what a person corrected is learnt.
    """
    losses: list[float] = []
    for lesson, learning in lessons(turn, chunk, config, flaw) if state.optimizer is not None else ():
        losses += yield from _learn(turn, lesson, learning, model, state, config)
    return losses


def lessons(turn: Turn, chunk: Chunk, config: Config, flaw: str | None) -> list[tuple[Chunk, LearningConfig]]:
    """What is learnt of a chunk, and how: its own text, then as given text what a person corrected."""
    if not chunk.corrected:
        return [] if flaw else [(chunk, learning_of(turn, config))]
    own = tuple(learnt and not right for learnt, right in zip(chunk.loss_mask, chunk.corrected, strict=True))
    passes = config.given.epochs * config.translation.correction_weight
    both = [
        (replace(chunk, loss_mask=own), config.own),
        (replace(chunk, loss_mask=chunk.corrected), replace(config.given, epochs=passes)),
    ]
    chosen = both[1:] if flaw else both
    return [(lesson, learning) for lesson, learning in chosen if any(lesson.loss_mask)]


def _learn(
    turn: Turn, lesson: Chunk, learning: LearningConfig, model: Model, state: WritingState, config: Config
) -> Generator[Event, None, list[float]]:
    losses: list[float] = []
    assert state.optimizer is not None
    state.optimizer.param_groups[0]["lr"] = lr = learning_rate(state.chunks, learning, config.train)
    objectives = [
        loss
        for window in windows(turn, lesson, state, learning)
        if (loss := objective(window, model, learning)) is not None
    ]
    for epoch in range(1, learning.epochs + 1 if objectives else 1):
        steps = [train_step(loss_of_window, model, state) for loss_of_window in objectives]
        if not all(map(math.isfinite, steps)):
            left_out = f"pass {epoch} of {learning.epochs}" + (
                " and those after it" if epoch < learning.epochs else ""
            )
            yield Notice(f"chunk {state.chunks + 1}: {left_out} left out, the gradients are not finite")
            break
        losses.append(math.fsum(steps) / len(steps))
        yield TrainStep(state.chunks, epoch, learning.epochs, losses[-1], lr)
    return losses


def train_step(loss_of_window: Callable[[], Tensor], model: Model, state: WritingState) -> float:
    """One step of the optimizer; returns the loss before it, or NaN where it or a gradient is not finite."""
    assert state.optimizer is not None
    model.module.train()
    with _dropout_random(state, model.device):
        loss = loss_of_window()
        loss.backward()  # type: ignore[no-untyped-call]
    model.module.eval()
    finite = math.isfinite(loss.item()) and _finite_gradients(state)
    if finite:  # one step that is not would turn the whole adapter into NaN
        state.optimizer.step()
    state.optimizer.zero_grad()
    return loss.item() if finite else math.nan


def learning_of(turn: Turn, config: Config) -> LearningConfig:
    """Own text is not given text: samples of the model's own bring nothing new, and are learnt otherwise."""
    return config.given if turn.origin == "given" else config.own


@dataclass(frozen=True)
class Window:
    """What one step learns: (context -> tokens), a part of a chunk or the whole of it."""

    header: tuple[int, ...]
    context: tuple[int, ...]
    """What training shows before the tokens."""
    book: tuple[int, ...]
    """What stands before them in the book, as far as a teacher sees."""
    tokens: tuple[int, ...]
    loss_mask: tuple[bool, ...]


def windows(turn: Turn, chunk: Chunk, state: WritingState, learning: LearningConfig) -> list[Window]:
    """The chunk in windows of `window_tokens`, each after what stands before it; whole where that is 0."""
    size = learning.window_tokens or len(chunk.tokens)
    seen = _last(state.tokens, learning.teacher_context_tokens)
    made = []
    for start in range(0, len(chunk.tokens), size):
        tokens, mask = chunk.tokens[start : start + size], chunk.loss_mask[start : start + size]
        before = chunk.tokens[:start]
        if not chunk.loss_mask or any(mask):
            context = _last(turn.context + before, learning.context_tokens)
            made.append(Window(turn.header, context, seen + before, tokens, mask))
    return made


def objective(window: Window, model: Model, learning: LearningConfig) -> Callable[[], Tensor] | None:
    """The loss of a step over (context -> tokens), mean over the tokens, in nats.

    `nll` is the paper's (section 3.2). `distill` is context distillation: the base, which sees
    `teacher_context_tokens` of the book, teaches base + adapter, which see the short context. Where
    nothing has left the window yet it has nothing to teach, and None comes back: an optimizer that
    scales its steps would make whole ones out of rounding errors.
    """
    prompt, tokens, mask = window.header + window.context, window.tokens, window.loss_mask
    if learning.objective == "nll":
        return lambda: chunk_nll(model.module, prompt, tokens, mask).mean()
    longer = window.header + _last(window.book, learning.teacher_context_tokens)
    if len(longer) <= len(prompt):
        return None
    model.module.eval()
    with torch.no_grad(), model.without_adapter():
        teacher = chunk_logits(model.module, longer, tokens, mask).log_softmax(-1)
    return lambda: kl_divergence(teacher, chunk_logits(model.module, prompt, tokens, mask)).mean()


def _last(tokens: Sequence[int], count: int) -> tuple[int, ...]:
    return tuple(tokens[max(0, len(tokens) - count) :])


def learning_rate(chunk: int, learning: LearningConfig, train: TrainConfig) -> float:
    """The rate for chunk number `chunk` (from 0): constant after a linear warm-up that starts above 0."""
    assert learning.lr > 0, "the rate was not chosen (config.for_size)"
    return learning.lr * min(1.0, (chunk + 1) / max(1, train.warmup_chunks))


def repetition(window: Sequence[int], chunk: Sequence[int], n: int = 4) -> float:
    """Share of the chunk's n-grams that stood before, in the window or earlier in the chunk; 0 to 1."""
    text = [*window, *chunk]
    grams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
    ending_in_chunk = grams[max(0, len(window) - n + 1) :]
    seen = set(grams[: len(grams) - len(ending_in_chunk)])
    repeated = 0
    for gram in ending_in_chunk:
        repeated += gram in seen
        seen.add(gram)
    return repeated / len(ending_in_chunk) if ending_in_chunk else 0.0


@contextmanager
def _dropout_random(state: WritingState, device: torch.device) -> Iterator[None]:
    """Let dropout draw from the state's own stream, and leave the process's generators untouched."""
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        if on_cuda:
            torch.cuda.set_rng_state(state.dropout, device)
        else:
            torch.set_rng_state(state.dropout)
        yield
        state.dropout = torch.cuda.get_rng_state(device) if on_cuda else torch.get_rng_state()


def _finite_gradients(state: WritingState) -> bool:
    gradients = [p.grad for p in state.adapter.values() if p.grad is not None]
    return bool(torch.nn.utils.get_total_norm(gradients).isfinite())
