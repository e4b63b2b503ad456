"""Reading: a text that is given whole, chunk by chunk, and never gone on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Unit
from templora_cli.prompt import Prompt, fixed
from templora_cli.sessions.kind import TaskKind, Values
from templora_cli.sessions.new import NewSession
from templora_cli.sessions.store import Session
from templora_cli.text import TextStream, decode
from templora_cli.turn import Given, given_turn, replay_turn

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel


@dataclass(frozen=True)
class ReadingTask:
    """Every chunk is given; the book is finished where the text is. Implements `turn.Task`."""

    prompt: Callable[[Sequence[int]], Prompt]
    """What the model sees before the chunk that follows a book."""
    text: tuple[int, ...]
    chunk_tokens: int
    tokenizer: Any

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Given | None:
        """The next chunk of the text."""
        return given_turn(self.prompt, book, self.text, self.chunk_tokens)

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Given:
        """See `turn.Task`."""
        return replay_turn(self.prompt(book), chunk)

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return TextStream(lambda tokens: decode(self.tokenizer, tokens), book).push


def reading_tokens(tokenizer: Any, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Header and text as token ids, as evaluations of perplexity take them: no instruction.

    The header is what the tokenizer itself puts before a text; for one that puts nothing it is the
    text's first token, which then is not scored.
    """
    ids = tuple(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
    before = tuple(tokenizer.encode("")[:1])
    return (before, ids) if before else (ids[:1], ids[1:])


@dataclass(frozen=True)
class ReadingRequest:
    """A text that is read to its end."""

    text: str
    name: str
    """What the session is named after."""
    limit_tokens: int | None = None
    """Read no more than this."""
    kind: str = "ppl"
    measured_by: str | None = None

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """See `Request.new_session`."""
        header, tokens = reading_tokens(tokenizer, self.text)
        tokens = tokens[: self.limit_tokens]
        if len(tokens) < config.decode.chunk_tokens:
            raise TemploraError(
                f"{self.name} has {len(tokens)} tokens, less than a chunk of {config.decode.chunk_tokens}",
                f"--chunk-tokens {max(8, len(tokens) // 8)}",
            )
        return NewSession(
            self.kind,
            config,
            named_after=f"eval {Path(self.name).stem}",
            goal=(len(tokens), "tokens"),
            header_tokens=len(header),
            request={"header": list(header)},
            opening=tokens,
            source=self.text,
            measured_by=self.measured_by,
        )


class Reading(TaskKind):
    """A text that is read, scored and learnt, chunk by chunk."""

    units: tuple[Unit, ...] = ("tokens",)
    asked = frozenset(("header",))

    def __init__(self, name: str = "ppl") -> None:
        self.name = name

    def task(self, session: Session, model: LanguageModel, config: Config) -> ReadingTask:
        """See `TaskKind.task`."""
        prompt = fixed(tuple(session.manifest.request["header"]), config.decode.context_tokens)
        return ReadingTask(prompt, session.opening(), config.decode.chunk_tokens, model.tokenizer)

    def end(self, session: Session, chunks: Sequence[Values]) -> Iterator[Event]:
        """See `TaskKind.end`: the table of what was read says it."""
        yield from ()
