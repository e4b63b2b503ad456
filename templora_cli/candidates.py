"""Candidates for a chunk: decode them, score them, and let the gate judge them.

A candidate that fails the gate is decoded again with other random numbers, after those of its tokens that are
good. Each candidate has its own random generator, so its text does not depend on the others.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from templora_cli.config import Config
from templora_cli.engine.decoding.protocols import Backend, Sampler
from templora_cli.engine.decoding.rewinding import TextStreams, decode_without, remaining_phrases
from templora_cli.engine.decoding.sampling import GREEDY_BELOW, EndingSampler, sampler_for
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.engine.training.predictions import chunk_predictions, token_prediction
from templora_cli.errors import StuckError
from templora_cli.events import ChunkRejected, Event, Notice, TextDecoded, Working
from templora_cli.gate import fault_of, usual_nll
from templora_cli.ngrams import FourGrams, repetition
from templora_cli.prompt import Prompt
from templora_cli.state import WritingState
from templora_cli.turn import Chunk, Compose, Decode, Fault, Generate, Given, Predictions, Task, Turn

NO_WAY_AROUND = "the model found no other words"


@dataclass(frozen=True)
class Candidate:
    """A proposed chunk with its scores."""

    number: int
    """From 0; it chooses the random numbers."""
    chunk: Chunk
    base: Predictions | None
    """Those of the base; None for a chunk without tokens."""
    adapter: Predictions | None
    """Those of base + adapter before the chunk is learnt; None without learning."""
    fault: Fault | None = None
    """Why the gate rejects it; None if it passes."""

    @property
    def rejection_reason(self) -> str | None:
        """Why the gate rejects it, in words; None if it passes."""
        return self.fault and self.fault.reason

    @property
    def nll_base(self) -> float:
        """NLL under the base, nats/token; NaN for a chunk without tokens."""
        return self.base.nll if self.base else math.nan


@dataclass(frozen=True)
class Beginning:
    """Tokens with which a chunk begins; decoding goes on after them."""

    tokens: tuple[int, ...] = ()
    learnt: tuple[bool, ...] = ()
    """Which of them are scored and learnt."""

    @classmethod
    def of(cls, turn: Turn) -> Beginning:
        """That of the first attempt: the opening of the chunk, if it has one."""
        opening = turn.opening if isinstance(turn, Generate) else ()
        return cls(opening, (False,) * len(opening))

    @classmethod
    def after(cls, candidate: Candidate, turn: Generate, attempt: int) -> Beginning:
        """That of attempt number `attempt`: the good tokens of a rejected candidate, and a new start."""
        assert candidate.fault is not None
        chunk, end = candidate.chunk, len(turn.opening) + candidate.fault.good
        good = chunk.tokens[:end]
        restart = turn.restart(attempt, good[len(turn.opening) :])
        if candidate.fault.good + len(restart) >= turn.max_tokens:
            restart = ()  # no room is left for what would follow
        mask = chunk.loss_mask or (True,) * len(chunk.tokens)
        return cls((*good, *restart), (*mask[:end], *(False,) * len(restart)))


def propose(
    task: Task,
    turn: Turn,
    model: AdaptedModel,
    backend: Backend,
    state: WritingState,
    config: Config,
    four_grams: FourGrams,
) -> Generator[Event, None, list[Candidate]]:
    """Make candidates for the chunk until one passes the gate.

    Raises StuckError if none does and the setting `gate.stop` is on.
    """
    made: list[Candidate] = []
    # Greedy decoding would repeat itself, and a composed chunk has retried its parts already.
    may_vary = isinstance(turn, Generate) and config.decode.temperature >= GREEDY_BELOW
    attempts, width = (config.gate.max_attempts, config.decode.candidates) if may_vary else (1, 1)
    beginning = Beginning.of(turn)
    for attempt in range(attempts):
        if made and isinstance(turn, Generate):
            best = choose(made[-width:], turn, state)
            yield ChunkRejected(state.chunks, str(best.rejection_reason))
            beginning = Beginning.after(best, turn, attempt)
        for number in range(attempt * width, (attempt + 1) * width):
            generator = state.generator(number, model.device)
            making = make_chunk(
                task,
                turn,
                model,
                backend,
                state,
                config,
                four_grams,
                generator=generator,
                beginning=beginning,
            )
            message = f"writing candidate {number % width + 1} of {width}"
            chunk = yield from (_silently(making, message) if width > 1 else making)
            backend.free_cache()
            base, adapter = score_chunk(turn.prompt, chunk, model, four_grams)
            nll = base.nll if base else math.nan
            fault = fault_of(turn, chunk, nll, state.generated_nlls, config)
            made.append(Candidate(number, chunk, base, adapter, fault))
        if any(each.fault is None for each in made[-width:]):
            break
    best = choose(made, turn, state)
    if best.fault and isinstance(turn, Generate) and config.gate.stop:
        raise StuckError(state.chunks, best.fault.reason, len(made))
    if width > 1:
        yield TextDecoded(state.chunks, best.chunk.text, len(best.chunk.tokens))
    if isinstance(turn, Generate) and turn.banned:
        book, tokens = (*state.tokens, *turn.opening), best.chunk.tokens[len(turn.opening) :]
        for phrase in remaining_phrases(turn.banned, task.text_stream, book, tokens):
            yield Notice(f"chunk {state.chunks + 1} has the banned phrase “{phrase}”: {NO_WAY_AROUND}")
    return made


def choose(candidates: Sequence[Candidate], turn: Turn, state: WritingState) -> Candidate:
    """The best by the measures of the gate.

    That is one that passes it, repeats least and has the most usual NLL. If none passes, it is the one with
    the most good tokens, and of those the last.
    """
    passing = [each for each in candidates if each.fault is None]
    if not passing:
        return max(reversed(candidates), key=lambda each: each.fault.good if each.fault else 0)
    usual = usual_nll(state.generated_nlls)

    def badness(candidate: Candidate) -> tuple[float, float]:
        repeated = repetition(turn.prompt.context, candidate.chunk.tokens)
        return repeated, 0.0 if usual is None else abs(candidate.nll_base - usual)

    return min(passing, key=badness)


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
    beginning: Beginning | None = None,
) -> Generator[Event, None, Chunk]:
    """Make the chunk of a turn: read it, let the task compose it, or decode it with base + adapter."""
    if isinstance(turn, Given):
        to_text = task.text_stream(state.tokens)
        text = "".join(map(to_text, turn.tokens))
        return Chunk(
            turn.tokens,
            text,
            turn.loss_mask,
            turn.parts,
            record=turn.record,
            rejection_reason=turn.rejection_reason,
        )
    if isinstance(turn, Compose):
        decode = decode_with(turn.prompt, model, backend, generator, config)
        return (yield from turn.composer(state.chunks, decode))
    beginning = beginning or Beginning.of(turn)
    decode_config = config.decode
    breakers = model.tokens_with(decode_config.dry_breakers) if decode_config.dry_multiplier else ()
    sampler: Sampler = sampler_for(decode_config, generator, model.banned_tokens, breakers)
    if turn.end_tokens:
        not_end = set(model.banned_tokens) - turn.end_tokens
        with_end = sampler_for(decode_config, generator, not_end, breakers)
        start = len(turn.prompt.tokens) + len(turn.opening)
        sampler = EndingSampler(sampler, with_end, lambda ids: turn.may_end(ids[start:]))
    decoding = decode_chunk(turn, task.text_stream, state, backend, sampler, four_grams, beginning=beginning)
    return (yield from decoding)


def decode_chunk(
    turn: Generate,
    text_stream: TextStreams,
    state: WritingState,
    backend: Backend,
    sampler: Sampler,
    four_grams: FourGrams,
    *,
    beginning: Beginning,
) -> Generator[Event, None, Chunk]:
    """Decode a chunk of prose token by token, after its beginning."""
    index, to_text = state.chunks, text_stream(state.tokens)
    body = list(beginning.tokens[len(turn.opening) :])
    begun = len(body)
    pieces = [to_text(token) for token in beginning.tokens]
    four_grams = four_grams.extended()
    four_grams.extend(beginning.tokens)
    predictions: list[Tensor] = []
    if text := "".join(pieces):
        yield TextDecoded(index, text, len(beginning.tokens))
    tokens = decode_without(
        turn.banned,
        backend,
        (*turn.prompt.tokens, *beginning.tokens),
        sampler=sampler,
        max_tokens=max(1, turn.max_tokens - begun),
        end_tokens=turn.end_tokens,
        text_stream=text_stream,
        book=(*state.tokens, *beginning.tokens),
    )
    for token in tokens:
        if token.id in turn.end_tokens:
            break
        body.append(token.id)
        end = turn.complete(body)
        if end is not None and end < len(body):
            dropped = len(body) - end
            del body[end:], pieces[len(pieces) - dropped + 1 :], predictions[max(0, end - begun) :]
            break
        pieces.append(to_text(token.id))
        if token.logits is not None:
            predictions.append(token_prediction(token.logits, token.id, four_grams.completions()))
        four_grams.add(token.id)
        yield TextDecoded(index, pieces[-1], len(turn.opening) + len(body))
        if end is not None:
            break
    mask = (*beginning.learnt, *(True,) * (len(body) - begun))[: len(turn.opening) + len(body)]
    return Chunk(
        (*turn.opening, *body),
        "".join(pieces),
        () if all(mask) else mask,
        record=turn.record(body),
        # They stay on the GPU until here: one wait, not one per token. Those of good tokens are not at hand.
        predictions=_means(torch.stack(predictions)) if predictions and not begun else None,
    )


def decode_with(
    prompt: Prompt, model: AdaptedModel, backend: Backend, generator: torch.Generator, config: Config
) -> Decode:
    """The `Decode` function for a `Compose` turn: after `prompt`, with random numbers from `generator`."""

    def decode(
        after: Sequence[int], *, max_tokens: int, stop_tokens: Collection[int], temperature: float
    ) -> Iterator[int]:
        # A translation may repeat what its source repeats.
        drawn = replace(config.decode, temperature=temperature, dry_multiplier=0.0)
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


def _silently(making: Generator[Event, None, Chunk], message: str) -> Generator[Event, None, Chunk]:
    """Make a chunk without showing its text: only one of several candidates is shown, when it is chosen."""
    yield Working(message)
    while True:
        try:
            next(making)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        yield Working(message)


def _means(predictions: Tensor) -> Predictions:
    """The means of predictions [n, 3] (`engine/training/predictions.py`)."""
    return Predictions(*predictions.mean(0).tolist())
