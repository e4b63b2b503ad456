"""Priming: learn texts of the author before a book begins, so that it begins in their voice.

The texts are read chunk by chunk, as a session of its own: it can be stopped and resumed, and it is found
again when the same texts are needed for another book. The end of the longest text is held out. After each
reading of the rest, the adapter is measured on it; when a reading did not help, the one before is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templora_cli.config import Config, DecodeConfig, GateConfig, SessionConfig, TranslationConfig
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Primed, Unit
from templora_cli.prompt import fixed_header
from templora_cli.reading import reading_tokens
from templora_cli.sessions.kind import TaskKind, Values
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.new import NewSession
from templora_cli.sessions.start import Start, start_in
from templora_cli.sessions.store import Session
from templora_cli.text import TextStream, decode
from templora_cli.turn import Given, replay_turn

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel

MAX_READINGS = 3
MAX_HELD_OUT = 4
"""Chunks that are held out."""
HELD_OUT_SHARE = 0.1
"""At most this share of all chunks is held out; shorter texts are read once, and all of them is learnt."""
LEAST_HELP = 0.001
"""A reading helps if it lowers the NLL of the held-out text by this many nats/token."""


@dataclass(frozen=True)
class PrimeRequest:
    """Texts to be learnt before a book."""

    texts: tuple[tuple[str, str], ...]
    """Names and texts of the files."""
    kind: str = "prime"
    measured_by: str | None = None

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """See `Request.new_session`."""
        encoded = [reading_tokens(tokenizer, text) for _, text in self.texts]
        header = encoded[0][0]
        texts = [tokens for _, tokens in encoded]
        if not sum(map(len, texts)):
            raise TemploraError("there is nothing to learn in the texts of --prime", "take longer texts")
        request = {
            "header": list(header),
            "files": [name for name, _ in self.texts],
            "lengths": list(map(len, texts)),
        }
        return NewSession(
            self.kind,
            config_for(config),
            named_after=f"prime {Path(self.texts[0][0]).stem}",
            goal=(MAX_READINGS * sum(map(len, texts)), "tokens"),
            header_tokens=len(header),
            request=request,
            opening=tuple(token for tokens in texts for token in tokens),
            source="\n\n".join(text for _, text in self.texts),
            measured_by=self.measured_by,
        )


def config_for(config: Config) -> Config:
    """The settings that matter for priming; the others are the defaults, so that more books can share it."""
    decode_config = replace(
        DecodeConfig(),
        chunk_tokens=config.decode.chunk_tokens,
        context_tokens=config.decode.context_tokens,
        backend=config.decode.backend,
    )
    kept = SessionConfig(keep_checkpoints=2, grid_checkpoints=0)  # and those that `Priming.needed` names
    return replace(
        config,
        decode=decode_config,
        gate=GateConfig(),
        translation=TranslationConfig(),
        session=kept,
        seed=Config().seed,
    )


@dataclass(frozen=True)
class ReadingPart:
    """A chunk of one reading of the texts."""

    text: int
    """Index of its text."""
    begin: int
    """Where its text begins in the tokens of all texts."""
    span: tuple[int, int]
    """Its place in the tokens of all texts."""
    held_out: bool
    ends_reading: bool


def reading_of(lengths: Sequence[int], chunk_tokens: int) -> list[ReadingPart]:
    """The chunks of one reading in order, those that are held out last."""
    parts: list[ReadingPart] = []
    begin = 0
    for text, length in enumerate(lengths):
        for start in range(0, length, chunk_tokens):
            span = (begin + start, begin + min(start + chunk_tokens, length))
            parts.append(ReadingPart(text, begin, span, held_out=False, ends_reading=False))
        begin += length
    longest = max(range(len(lengths)), key=lambda text: lengths[text])
    count = min(MAX_HELD_OUT, int(len(parts) * HELD_OUT_SHARE))
    of_longest = [part for part in parts if part.text == longest]
    if count and len(range(*of_longest[-1].span)) < chunk_tokens:
        count += 1  # its last chunk is short, and says little alone
    held_out = of_longest[len(of_longest) - count :]
    ordered = [part for part in parts if part not in held_out]
    ordered += [replace(part, held_out=True) for part in held_out]
    return [*ordered[:-1], replace(ordered[-1], ends_reading=True)]


@dataclass(frozen=True)
class PrimingTask:
    """Gives all texts chunk by chunk, until a reading does not help. Implements `turn.Task`."""

    header: tuple[int, ...]
    tokens: tuple[int, ...]
    lengths: tuple[int, ...]
    config: DecodeConfig
    tokenizer: Any
    chunks: Callable[[], Sequence[Values]]
    """The committed chunks."""
    readings: int
    """The maximum number of readings."""

    def next_turn(self, book: Sequence[int], records: Sequence[Any]) -> Given | None:
        """The next chunk of the texts."""
        reading = reading_of(self.lengths, self.config.chunk_tokens)
        done, index = divmod(len(records), len(reading))
        if not index and done and (done >= self.readings or not helped(self.chunks())):
            return None
        part = reading[index]
        tokens = self.tokens[slice(*part.span)]
        # The text before the chunk, without that of other files and other readings.
        prompt = fixed_header(self.header, self.config.context_tokens)(self.tokens[part.begin : part.span[0]])
        record = {"reading": done, "held_out": part.held_out, "ends_reading": part.ends_reading}
        return Given(prompt, tokens, learnt=not part.held_out, record=record)

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Given:
        """See `turn.Task`."""
        turn = self.next_turn(book, records)
        assert turn is not None
        return replace(replay_turn(turn.prompt, chunk), learnt=turn.learnt)

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return TextStream(lambda tokens: decode(self.tokenizer, tokens), book).push


class Priming(TaskKind):
    """Texts that are learnt before a book begins."""

    name = "prime"
    can_be_changed = False
    units: tuple[Unit, ...] = ("tokens",)
    request_keys = frozenset(("header", "files", "lengths"))

    def task(self, session: Session, model: LanguageModel, config: Config) -> PrimingTask:
        """See `TaskKind.task`."""
        from templora_cli.sessions.steps import read_chunks

        request = session.manifest.request
        lengths = tuple(request["lengths"])
        return PrimingTask(
            tuple(request["header"]),
            session.opening(),
            lengths,
            config.decode,
            model.tokenizer,
            lambda: read_chunks(session.steps),
            session.manifest.goal_amount // sum(lengths),
        )

    def complete(self, chunks: Sequence[Values]) -> bool:
        """See `TaskKind.complete`: did the last reading end, and not help?"""
        return bool(chunks) and bool(chunks[-1]["record"]["ends_reading"]) and not helped(chunks)

    def reached(self, manifest: Manifest, done: int, *, complete: bool) -> bool:
        """See `TaskKind.reached`."""
        return complete or done >= manifest.goal_amount

    def needed(self, chunks: Sequence[Values]) -> Collection[int]:
        """See `TaskKind.needed`: those at the ends of readings, of which one will be the best."""
        return [index for index, chunk in enumerate(chunks) if chunk["record"]["ends_reading"]]

    def end(self, session: Session, chunks: Sequence[Values]) -> Iterator[Event]:
        """See `TaskKind.end`."""
        yield primed(session, chunks)


def held_out_nlls(chunks: Sequence[Values]) -> list[tuple[float, float]]:
    """NLL of the held-out text under base and adapter after each whole reading, nats/token."""
    readings: dict[int, list[Values]] = {}
    ended = {chunk["record"]["reading"] for chunk in chunks if chunk["record"]["ends_reading"]}
    for chunk in chunks:
        if chunk["record"]["held_out"] and chunk["record"]["reading"] in ended:
            readings.setdefault(chunk["record"]["reading"], []).append(chunk)
    return [(_mean(held_out, "nll_base"), _mean(held_out, "nll_adapter")) for held_out in readings.values()]


def helped(chunks: Sequence[Values]) -> bool:
    """Did the last whole reading help? Without held-out text one reading is enough."""
    nlls = [adapter for _, adapter in held_out_nlls(chunks)]
    if not nlls:
        return False
    before = nlls[-2] if len(nlls) > 1 else held_out_nlls(chunks)[0][0]
    return nlls[-1] < before - LEAST_HELP


def best_reading(chunks: Sequence[Values]) -> int:
    """The number of the best reading, from 1; 0 if none helped. Without held-out text it is the last."""
    nlls = held_out_nlls(chunks)
    if not nlls:
        return max((c["record"]["reading"] + 1 for c in chunks if c["record"]["ends_reading"]), default=0)
    losses = [nlls[0][0], *(adapter for _, adapter in nlls)]
    return min(range(len(losses)), key=lambda reading: losses[reading])


def start_of(folder: Path, manifest: Manifest, chunks: Sequence[Values]) -> Start | None:
    """The checkpoint after the best reading of a finished session; None if no reading helped."""
    best = best_reading(chunks)
    ends = [index + 1 for index, chunk in enumerate(chunks) if chunk["record"]["ends_reading"]]
    return start_in(folder, manifest, chunks=ends[best - 1]) if best else None


def primed(session: Session, chunks: Sequence[Values]) -> Primed:
    """What the priming cost and brought."""
    nlls, best = held_out_nlls(chunks), best_reading(chunks)
    held_out = [chunk for chunk in chunks if chunk["record"]["held_out"]]
    return Primed(
        session=session.id,
        files=tuple(session.manifest.request["files"]),
        tokens=sum(session.manifest.request["lengths"]),
        readings=max((chunk["record"]["reading"] + 1 for chunk in chunks), default=0),
        best_reading=best,
        seconds=math.fsum(sum(chunk["seconds"].values()) for chunk in chunks),
        held_out_tokens=sum(len(c["tokens"]) for c in held_out if not c["record"]["reading"]),
        nll_base=nlls[0][0] if nlls else None,
        nll_adapter=nlls[max(best, 1) - 1][1] if nlls else None,
    )


def _mean(chunks: Sequence[Values], name: str) -> float:
    """The mean over all tokens of the chunks."""
    total = sum(len(chunk["tokens"]) for chunk in chunks)
    return math.fsum(chunk[name] * len(chunk["tokens"]) for chunk in chunks) / total
