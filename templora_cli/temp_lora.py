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
from collections.abc import Generator, Sequence
from typing import Any

from templora_cli.candidates import Candidate, choose, propose
from templora_cli.config import Config
from templora_cli.engine.decoding.protocols import Backend
from templora_cli.engine.training.adapted_model import AdaptedModel
from templora_cli.events import ChunkLearnt, ChunkScored, ChunkStarted, Event, SectionCut
from templora_cli.gate import harm_reason_of
from templora_cli.learning import RECIPE, Recipe, learn_chunk
from templora_cli.ngrams import FourGrams, repetition
from templora_cli.state import WritingState
from templora_cli.turn import Compose, Predictions, Task, ranges_of


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
        best = choose(candidates, turn, state)
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
        if turn.origin != "human":
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
            unlearnt=ranges_of(not learnt for learnt in chunk.loss_mask),
            human=next((ranges_of(part.loss_mask) for part in chunk.parts if part.origin == "human"), ()),
            others=others_of(candidates, best) if config.decode.candidates > 1 else (),
            proposed=not isinstance(turn, Compose) and turn.proposed,
        )


def scores_of(candidate: Candidate) -> dict[str, Any]:
    """The predictions for a candidate as fields of `ChunkScored` and `ChunkLearnt`."""
    scores: dict[str, Any] = {}
    for of, predictions in (("base", candidate.base), ("adapter", candidate.adapter)):
        nll = math.nan if of == "base" else None  # of a chunk without tokens
        values = predictions or (nll, None, None)
        scores |= {f"{name}_{of}": value for name, value in zip(Predictions._fields, values, strict=True)}
    return scores


def others_of(candidates: Sequence[Candidate], best: Candidate) -> tuple[dict[str, Any], ...]:
    """The candidates that were not chosen, as they are committed: a person may choose one later."""
    return tuple(
        {
            "number": each.number,
            "tokens": list(each.chunk.tokens),
            "text": each.chunk.text,
            "rejection_reason": each.rejection_reason,
            "record": each.chunk.record,
            "unlearnt": ranges_of(not learnt for learnt in each.chunk.loss_mask),
        }
        for each in candidates
        if each is not best
    )
