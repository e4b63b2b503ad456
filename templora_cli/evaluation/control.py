"""A control for perplexity: the adapter learns as much of another author, and the same book is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from templora_cli.candidates import score_chunk
from templora_cli.evaluation.perplexity import Score
from templora_cli.ngrams import FourGrams
from templora_cli.prompt import fixed_header
from templora_cli.reading import reading_tokens
from templora_cli.turn import Chunk

if TYPE_CHECKING:
    from templora_cli.config import DecodeConfig
    from templora_cli.engine.models.loading import LanguageModel


def control_scorer(
    model: LanguageModel, text: str, decode: DecodeConfig, limit: int | None
) -> tuple[Callable[[int], float], int]:
    """A function that scores a chunk of a text, by its index, with the adapter as it is; and their number.

    The score is the mean NLL of the chunk after the true text before it, nats/token.
    """
    header, tokens = reading_tokens(model.tokenizer, text)
    tokens = tokens[:limit]
    prompt = fixed_header(header, decode.context_tokens)

    def score(index: int) -> float:
        start = index * decode.chunk_tokens
        chunk = Chunk(tokens[start : start + decode.chunk_tokens], "")
        _, adapter = score_chunk(prompt(tokens[:start]), chunk, model, FourGrams())
        assert adapter is not None, "the control learns"
        return adapter.nll

    return score, -(-len(tokens) // decode.chunk_tokens)


def with_control(scores: Sequence[Score], nlls: Sequence[float]) -> list[Score]:
    """The scores of a book with those under the control: nothing is learnt before its first chunk."""
    control = [scores[0].base, *nlls] if scores else []
    return [replace(score, control=nll) for score, nll in zip(scores, control, strict=True)]
