"""Reading: an existing text is scored and learnt chunk by chunk, and nothing is generated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templora_cli.config import MIN_CHUNK, Config
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Unit
from templora_cli.prompt import Prompt, fixed_header
from templora_cli.sessions.kind import TaskKind, Values
from templora_cli.sessions.new import NewSession
from templora_cli.sessions.store import Session
from templora_cli.text import TextStream, decode
from templora_cli.turn import Given, given_turn, replay_turn

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel


@dataclass(frozen=True)
class ReadingTask:
    """Gives the chunks of a text, and ends with the text. Implements `turn.Task`."""

    prompt: Callable[[Sequence[int]], Prompt]
    """Builds the prompt of the chunk that follows a book."""
    text: tuple[int, ...]
    chunk_tokens: int
    tokenizer: Any
    before: tuple[int, ...] = ()
    """Text before it that is only seen."""
    learnt: bool = True
    """Is it learnt? If not, it is scored only."""

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Given | None:
        """The next chunk of the text."""
        turn = given_turn(self._prompt, book, self.text, self.chunk_tokens)
        return turn and replace(turn, learnt=self.learnt)

    def _prompt(self, book: Sequence[int]) -> Prompt:
        return self.prompt((*self.before, *book) if self.before else book)

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Given:
        """See `turn.Task`."""
        return replace(replay_turn(self._prompt(book), chunk), learnt=self.learnt)

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        """See `turn.Task`."""
        return TextStream(lambda tokens: decode(self.tokenizer, tokens), book).push


def reading_tokens(tokenizer: Any, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Header and text as token ids, in the form for perplexity: without an instruction.

    The header is the token that the tokenizer itself puts before a text. If there is none, it is the first
    token of the text, which is then not scored.
    """
    ids = tuple(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
    header = tuple(tokenizer.encode("")[:1])
    return (header, ids) if header else (ids[:1], ids[1:])


@dataclass(frozen=True)
class ReadingRequest:
    """A text to be read to its end."""

    text: str
    name: str
    """File name of the text; the session is named after it."""
    limit_tokens: int | None = None
    """The maximum number of tokens to read."""
    seen_tokens: int = 0
    """How many of them, at the beginning, are only seen: neither scored nor learnt."""
    learnt: bool = True
    """Is the text learnt? If not, it is scored only."""
    kind: str = "ppl"
    measured_by: str | None = None
    scored: str = ""
    """SHA-256 of another text that is scored between its chunks; "" for none."""

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """See `Request.new_session`."""
        header, tokens = reading_tokens(tokenizer, self.text)
        tokens = tokens[: self.limit_tokens]
        if len(tokens) < config.decode.chunk_tokens:
            longer = "read more of it" if self.limit_tokens == len(tokens) else "take a longer text"
            raise TemploraError(
                f"{self.name}: {len(tokens)} tokens are less than a chunk of {config.decode.chunk_tokens}",
                longer if len(tokens) < MIN_CHUNK else f"--chunk-tokens {max(MIN_CHUNK, len(tokens) // 8)}",
            )
        return NewSession(
            self.kind,
            config,
            named_after=f"eval {Path(self.name).stem}",
            goal=(len(tokens) - self.seen_tokens, "tokens"),
            header_tokens=len(header),
            request={
                "header": list(header),
                "seen_tokens": self.seen_tokens,
                "learnt": self.learnt,
                "scored": self.scored,
            },
            opening=tokens,
            source=self.text,
            measured_by=self.measured_by,
        )


class Reading(TaskKind):
    """A text that is read, scored and learnt, chunk by chunk."""

    units: tuple[Unit, ...] = ("tokens",)
    request_keys = frozenset(("header",))

    def __init__(self, name: str = "ppl") -> None:
        self.name = name

    def task(self, session: Session, model: LanguageModel, config: Config) -> ReadingTask:
        """See `TaskKind.task`."""
        prompt = fixed_header(tuple(session.manifest.request["header"]), config.decode.context_tokens)
        request, text = session.manifest.request, session.opening()
        seen, learnt = request.get("seen_tokens", 0), request.get("learnt", True)
        return ReadingTask(
            prompt, text[seen:], config.decode.chunk_tokens, model.tokenizer, text[:seen], learnt
        )

    def end(self, session: Session, chunks: Sequence[Values]) -> Iterator[Event]:
        """See `TaskKind.end`: there is no final event, because the measuring command prints a table."""
        yield from ()
