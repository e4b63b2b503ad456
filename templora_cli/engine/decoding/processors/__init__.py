"""The processors between logits and a token.

A new one is a file in this package, a row in `PROCESSORS` and a field of `DecodeConfig`.
"""

from __future__ import annotations

from templora_cli.engine.decoding.processors.banned import BannedTokens
from templora_cli.engine.decoding.processors.dry import Dry
from templora_cli.engine.decoding.processors.min_p import MinP
from templora_cli.engine.decoding.processors.processor import Processor
from templora_cli.engine.decoding.processors.repetition_penalty import RepetitionPenalty
from templora_cli.engine.decoding.processors.temperature import Temperature
from templora_cli.engine.decoding.processors.top_k import TopK
from templora_cli.engine.decoding.processors.top_p import TopP

PROCESSORS: tuple[type[Processor], ...] = (
    *(RepetitionPenalty, Dry, BannedTokens, Temperature),
    *(TopK, TopP, MinP),
)
"""In the order of `generate()`, and for DRY in that of llama.cpp: score processors, then filters."""
