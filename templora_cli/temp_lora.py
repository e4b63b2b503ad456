"""Temp-LoRA (Wang, Ma, Cai, arXiv 2401.11504): write a book and learn it while it is written.

A context window forgets. What leaves it is kept in a LoRA adapter that is trained, during generation,
on each chunk of text just produced, and is thrown away with the book. One turn of `write` is one chunk:

    prompt -> propose -> score -> choose -> learn -> (the caller commits) -> next

The loop is a generator of events. It knows neither files nor terminal nor what is written: a task says what
comes next (`turn.py`), and the caller drives it. While it is suspended at `ChunkLearnt` the state is whole
and may be copied to the disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from templora_cli.config import Config
from templora_cli.engine.decoding.protocols import Backend, Sampler
from templora_cli.engine.decoding.sampling import GREEDY_BELOW, sampler_for
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.loss import chunk_nll, token_nll
from templora_cli.events import (
    ChunkLearnt,
    ChunkRejected,
    ChunkScored,
    ChunkStarted,
    Event,
    SectionCut,
    TextDecoded,
)
from templora_cli.gate import drift_reason_of, rejection_reason_of, repetition
from templora_cli.learning import RECIPE, Recipe, learn_chunk, learning_config
from templora_cli.prompt import Prompt
from templora_cli.state import WritingState
from templora_cli.turn import Chunk, Compose, Decode, Generate, Given, Task, Turn


@dataclass(frozen=True)
class Candidate:
    """A chunk as it was proposed, and what was found of it."""

    number: int
    chunk: Chunk
    nll_base: float
    """Mean NLL under the base, nats a token."""
    nll_adapter: float | None
    """The same under base and adapter, before the chunk is learnt; None where nothing is learnt."""
    rejection_reason: str | None
    """Why it may not be learnt from, in words."""


def write(
    task: Task,
    model: AdaptedModel,
    backend: Backend,
    state: WritingState,
    config: Config,
    *,
    recipe: Recipe = RECIPE,
) -> Generator[Event, None, None]:
    """The whole algorithm (paper, section 3.2 and Algorithm 1), from `state` to the end of the book."""
    while (turn := task.next_turn(state.tokens, state.records)) is not None:
        index, prompt = state.chunks, turn.prompt
        yield ChunkStarted(index, turn.origin, len(prompt.context), turn.max_tokens)
        for cut in prompt.dropped:
            yield SectionCut(index, cut.section, cut.shown, cut.items)
        backend.chunk_begins()

        candidates = yield from propose(task, turn, model, backend, state, config)
        best = choose(candidates)
        chunk, score = best.chunk, (best.nll_base, best.nll_adapter)
        rejection_reason = best.rejection_reason or drift_reason_of(turn, score, config)
        repeated = repetition(prompt.context, chunk.tokens)
        yield ChunkScored(index, *score, repeated, rejection_reason)

        losses = yield from learn_chunk(
            turn, chunk, model, state, config, rejection_reason=rejection_reason, recipe=recipe
        )
        if losses:
            backend.adapter_changed()
        state.tokens += chunk.tokens
        state.records.append(chunk.record)
        state.chunks += 1
        if turn.origin == "generated":
            state.generated_nlls.append(best.nll_base)
        lr = recipe.rate(index, learning_config(turn.origin, config), config.train) if losses else None
        yield ChunkLearnt(
            index,
            turn.origin,
            chunk.tokens,
            chunk.text,
            *score,
            repetition=repeated,
            rejection_reason=rejection_reason,
            train_losses=tuple(losses),
            lr=lr,
            record=chunk.record,
            candidate=best.number,
            prompt=prompt.as_json(),
        )


def propose(
    task: Task, turn: Turn, model: AdaptedModel, backend: Backend, state: WritingState, config: Config
) -> Generator[Event, None, list[Candidate]]:
    """Candidates for the chunk, each from its own random numbers, to the first that passes the gate."""
    candidates: list[Candidate] = []
    # Greedy would say the same again, and what is composed in parts has tried them again already.
    again = isinstance(turn, Generate) and config.decode.temperature >= GREEDY_BELOW
    for number in range(config.gate.candidates if again else 1):
        if candidates:
            yield ChunkRejected(state.chunks, str(candidates[-1].rejection_reason))
        generator = state.generator(number, model.device)
        chunk = yield from make_chunk(task, turn, model, backend, state, config, generator=generator)
        backend.decoding_ends()
        base, adapter = score_chunk(turn.prompt, chunk, model)
        rejection_reason = rejection_reason_of(turn, chunk, base, state.generated_nlls, config)
        candidates.append(Candidate(number, chunk, base, adapter, rejection_reason))
        if rejection_reason is None:
            break
    return candidates


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The one that passed the gate, which is the last; where none did, the last is kept and marked."""
    return candidates[-1]


def make_chunk(
    task: Task,
    turn: Turn,
    model: AdaptedModel,
    backend: Backend,
    state: WritingState,
    config: Config,
    *,
    generator: torch.Generator,
) -> Generator[Event, None, Chunk]:
    """The chunk of a turn: read, composed by the task, or decoded with base + adapter."""
    if isinstance(turn, Given):
        to_text = task.text_stream(state.tokens)
        text = "".join(map(to_text, turn.tokens))
        return Chunk(
            turn.tokens, text, turn.loss_mask, record=turn.record, rejection_reason=turn.rejection_reason
        )
    if isinstance(turn, Compose):
        decode = decode_with(turn.prompt, model, backend, generator, config)
        return (yield from turn.writer(state.chunks, decode))
    sampler = sampler_for(config.decode, generator, model.banned_tokens)
    return (yield from decode_chunk(turn, state.chunks, task.text_stream(state.tokens), backend, sampler))


def decode_chunk(
    turn: Generate, index: int, to_text: Callable[[int], str], backend: Backend, sampler: Sampler
) -> Generator[Event, None, Chunk]:
    """Decode a chunk of prose, token by token."""
    chunk: list[int] = []
    pieces: list[str] = []
    nlls: list[Tensor] = []
    prompt = turn.prompt.tokens
    for token in backend.decode(prompt, sampler=sampler, max_tokens=turn.max_tokens, stop=turn.complete):
        chunk.append(token.id)
        pieces.append(to_text(token.id))
        if token.logits is not None:
            nlls.append(token_nll(token.logits, token.id))
        yield TextDecoded(index, pieces[-1], len(chunk))
    said = torch.stack(nlls).tolist() if nlls else ()  # a GPU is not waited for before
    return Chunk(tuple(chunk), "".join(pieces), nlls=tuple(said))


def decode_with(
    prompt: Prompt, model: AdaptedModel, backend: Backend, generator: torch.Generator, config: Config
) -> Decode:
    """Decoding for a task that composes its chunk, after `prompt` and with numbers of `generator`."""

    def decode(
        after: Sequence[int], *, max_tokens: int, ends: Collection[int], temperature: float
    ) -> Iterator[int]:
        drawn = replace(config.decode, temperature=temperature)
        sampler = sampler_for(drawn, generator, set(model.banned_tokens).difference(ends))

        def ended(tokens: Sequence[int]) -> bool:
            return bool(tokens) and tokens[-1] in ends

        tokens = backend.decode((*prompt.tokens, *after), sampler=sampler, max_tokens=max_tokens, stop=ended)
        return (token.id for token in tokens)

    return decode


def score_chunk(prompt: Prompt, chunk: Chunk, model: AdaptedModel) -> tuple[float, float | None]:
    """Mean NLL of the chunk under base and under adapter, nats a token, before it is learnt.

    The difference is the live measure of what the adapter gives. NaN for a chunk without tokens. What was
    decoded token by token has met base + adapter already: no second pass is made over it.
    """
    model.module.eval()

    def nll() -> float:
        return chunk_nll(model.module, prompt.tokens, chunk.tokens, chunk.loss_mask).mean().item()

    with torch.no_grad():
        if not chunk.tokens:
            return math.nan, None
        if not model.adapter:
            return nll(), None
        with model.without_adapter():
            base = nll()
        return base, math.fsum(chunk.nlls) / len(chunk.nlls) if chunk.nlls else nll()
