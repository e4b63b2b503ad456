"""Temp-LoRA (Wang, Ma, Cai, arXiv 2401.11504): write a book and learn it while it is written.

A context window forgets. Temp-LoRA stores the text that leaves the window in a LoRA adapter: it is trained on
each chunk as soon as the chunk is written, and thrown away with the book. One turn of `write` is one chunk:

    prompt -> propose -> score -> choose -> learn -> (the caller commits) -> next

The loop is a generator of events. It knows no files, no terminal and no kind of text: a task says what comes
next (`turn.py`), and the caller drives the loop. While the loop is suspended at `ChunkLearnt` the state is
complete and may be saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from templora_cli.config import Config
from templora_cli.engine.decoding.protocols import Backend, Sampler
from templora_cli.engine.decoding.sampling import GREEDY_BELOW, sampler_for
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.predictions import chunk_predictions, token_prediction
from templora_cli.events import (
    ChunkLearnt,
    ChunkRejected,
    ChunkScored,
    ChunkStarted,
    Event,
    SectionCut,
    TextDecoded,
)
from templora_cli.gate import harm_reason_of, rejection_reason_of
from templora_cli.learning import RECIPE, Recipe, learn_chunk
from templora_cli.ngrams import FourGrams, repetition
from templora_cli.prompt import Prompt
from templora_cli.state import WritingState
from templora_cli.turn import Chunk, Compose, Decode, Generate, Given, Predictions, Task, Turn


@dataclass(frozen=True)
class Candidate:
    """A proposed chunk with its scores."""

    number: int
    chunk: Chunk
    base: Predictions | None
    """Those of the base; None for a chunk without tokens."""
    adapter: Predictions | None
    """Those of base + adapter before the chunk is learnt; None without learning."""
    rejection_reason: str | None
    """Why the gate rejects it, in words; None if it passes."""


def write(
    task: Task,
    model: AdaptedModel,
    backend: Backend,
    state: WritingState,
    config: Config,
    *,
    recipe: Recipe = RECIPE,
) -> Generator[Event, None, None]:
    """Write from `state` to the end of the book: the whole algorithm (paper, section 3.2, Algorithm 1)."""
    four_grams = FourGrams(state.tokens)
    while (turn := task.next_turn(state.tokens, state.records)) is not None:
        index, prompt = state.chunks, turn.prompt
        yield ChunkStarted(index, turn.origin, len(prompt.context), turn.max_tokens)
        for cut in prompt.dropped:
            yield SectionCut(index, cut.section, cut.shown, cut.items)
        backend.reset()

        candidates = yield from propose(task, turn, model, backend, state, config, four_grams)
        best = choose(candidates)
        chunk = best.chunk
        rejection_reason = best.rejection_reason or harm_reason_of(turn, best.base, best.adapter, config)
        scores = scores_of(best)
        repeated = repetition(prompt.context, chunk.tokens)
        yield ChunkScored(index, **scores, repetition=repeated, rejection_reason=rejection_reason)

        passes = yield from learn_chunk(
            turn, chunk, model, backend, state, config, rejection_reason=rejection_reason, recipe=recipe
        )
        if passes:
            backend.adapter_changed()
        state.tokens += chunk.tokens
        state.records.append(chunk.record)
        state.chunks += 1
        four_grams.extend(chunk.tokens)
        if turn.origin == "generated":
            state.generated_nlls.append(scores["nll_base"])
        yield ChunkLearnt(
            index,
            turn.origin,
            chunk.tokens,
            chunk.text,
            **scores,
            repetition=repeated,
            rejection_reason=rejection_reason,
            train_losses=tuple(step.loss for step in passes),
            lr=passes[-1].lr if passes else None,
            record=chunk.record,
            candidate=best.number,
            prompt=prompt.as_json(),
        )


def propose(
    task: Task,
    turn: Turn,
    model: AdaptedModel,
    backend: Backend,
    state: WritingState,
    config: Config,
    four_grams: FourGrams,
) -> Generator[Event, None, list[Candidate]]:
    """Make candidates for the chunk, each with its own random numbers, until one passes the gate."""
    candidates: list[Candidate] = []
    # Greedy decoding would repeat itself, and a composed chunk has retried its parts already.
    again = isinstance(turn, Generate) and config.decode.temperature >= GREEDY_BELOW
    for number in range(config.gate.candidates if again else 1):
        if candidates:
            yield ChunkRejected(state.chunks, str(candidates[-1].rejection_reason))
        generator = state.generator(number, model.device)
        chunk = yield from make_chunk(
            task, turn, model, backend, state, config, four_grams, generator=generator
        )
        backend.free_cache()
        base, adapter = score_chunk(turn.prompt, chunk, model, four_grams)
        nll = base.nll if base else math.nan
        rejection_reason = rejection_reason_of(turn, chunk, nll, state.generated_nlls, config)
        candidates.append(Candidate(number, chunk, base, adapter, rejection_reason))
        if rejection_reason is None:
            break
    return candidates


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The last candidate: the only one that passed the gate, or, if none did, one that will not be learnt."""
    return candidates[-1]


def make_chunk(
    task: Task,
    turn: Turn,
    model: AdaptedModel,
    backend: Backend,
    state: WritingState,
    config: Config,
    four_grams: FourGrams,
    *,
    generator: torch.Generator,
) -> Generator[Event, None, Chunk]:
    """Make the chunk of a turn: read it, let the task compose it, or decode it with base + adapter."""
    if isinstance(turn, Given):
        to_text = task.text_stream(state.tokens)
        text = "".join(map(to_text, turn.tokens))
        return Chunk(
            turn.tokens, text, turn.loss_mask, record=turn.record, rejection_reason=turn.rejection_reason
        )
    if isinstance(turn, Compose):
        decode = decode_with(turn.prompt, model, backend, generator, config)
        return (yield from turn.composer(state.chunks, decode))
    sampler = sampler_for(config.decode, generator, model.banned_tokens)
    to_text = task.text_stream(state.tokens)
    return (yield from decode_chunk(turn, state.chunks, to_text, backend, sampler, four_grams))


def decode_chunk(
    turn: Generate,
    index: int,
    to_text: Callable[[int], str],
    backend: Backend,
    sampler: Sampler,
    four_grams: FourGrams,
) -> Generator[Event, None, Chunk]:
    """Decode a chunk of prose token by token."""
    chunk: list[int] = []
    pieces: list[str] = []
    predictions: list[Tensor] = []
    four_grams = four_grams.extended()
    tokens = backend.decode(
        turn.prompt.tokens, sampler=sampler, max_tokens=turn.max_tokens, stop=lambda chunk: False
    )
    for token in tokens:
        chunk.append(token.id)
        end = turn.complete(chunk)
        if end is not None and end < len(chunk):
            del chunk[end:], pieces[end:], predictions[end:]
            break
        pieces.append(to_text(token.id))
        if token.logits is not None:
            predictions.append(token_prediction(token.logits, token.id, four_grams.completions()))
        four_grams.add(token.id)
        yield TextDecoded(index, pieces[-1], len(chunk))
        if end is not None:
            break
    # They stay on the GPU until here: one wait, not one per token.
    means = _means(torch.stack(predictions)) if predictions else None
    return Chunk(tuple(chunk), "".join(pieces), predictions=means)


def decode_with(
    prompt: Prompt, model: AdaptedModel, backend: Backend, generator: torch.Generator, config: Config
) -> Decode:
    """The `Decode` function for a `Compose` turn: after `prompt`, with random numbers from `generator`."""

    def decode(
        after: Sequence[int], *, max_tokens: int, stop_tokens: Collection[int], temperature: float
    ) -> Iterator[int]:
        drawn = replace(config.decode, temperature=temperature)
        sampler = sampler_for(drawn, generator, set(model.banned_tokens).difference(stop_tokens))

        def ended(tokens: Sequence[int]) -> bool:
            return bool(tokens) and tokens[-1] in stop_tokens

        tokens = backend.decode((*prompt.tokens, *after), sampler=sampler, max_tokens=max_tokens, stop=ended)
        return (token.id for token in tokens)

    return decode


def score_chunk(
    prompt: Prompt, chunk: Chunk, model: AdaptedModel, four_grams: FourGrams
) -> tuple[Predictions | None, Predictions | None]:
    """The predictions for a chunk before it is learnt: those of the base, and those of base + adapter.

    The difference of their NLLs shows how much the adapter helps. None for a chunk without tokens, and for an
    adapter that does not exist. A chunk that was decoded token by token has the predictions of base + adapter
    already and needs no second pass.
    """
    model.module.eval()
    completions = four_grams.completions_of(chunk.tokens)

    def predict() -> Predictions:
        return _means(
            chunk_predictions(model.module, prompt.tokens, chunk.tokens, completions, chunk.loss_mask)
        )

    if not chunk.tokens:
        return None, None
    if not model.adapter:
        return predict(), None
    with model.without_adapter():
        base = predict()
    return base, chunk.predictions or predict()


def scores_of(candidate: Candidate) -> dict[str, Any]:
    """The predictions for a candidate as fields of `ChunkScored` and `ChunkLearnt`."""
    scores: dict[str, Any] = {}
    for of, predictions in (("base", candidate.base), ("adapter", candidate.adapter)):
        nll = math.nan if of == "base" else None  # of a chunk without tokens
        values = predictions or (nll, None, None)
        scores |= {f"{name}_{of}": value for name, value in zip(Predictions._fields, values, strict=True)}
    return scores


def _means(predictions: Tensor) -> Predictions:
    """The means of predictions [n, 3] (`engine/training/predictions.py`)."""
    return Predictions(*predictions.mean(0).tolist())
