"""The request for a new session, and the description of the session before it is created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from templora_cli.config import Config
from templora_cli.events import Unit
from templora_cli.prompt_files import PromptFile

SHORTER_PROMPTS = "change it in the folder of the setting prompts"


@dataclass(frozen=True)
class HeaderPart:
    """A text of fixed length that precedes the book in every prompt, such as the premise."""

    name: str
    tokens: int
    words: int
    alternative: str = ""
    """What else the user can do if it is too long for the model."""


@dataclass(frozen=True)
class NewSession:
    """The description of a session by its kind of task, before the session is created."""

    kind: str
    config: Config
    named_after: str
    """The text from which the id is generated."""
    goal: tuple[int, Unit]
    header_tokens: int
    """The maximum number of tokens of the prompt sections."""
    passing_tokens: int = 0
    """How many of them are of sections that training does not see."""
    header_parts: tuple[HeaderPart, ...] = ()
    """The parts of the header that cannot be shortened to fit."""
    request: Mapping[str, Any] = field(default_factory=dict)
    """JSON values that the kind needs after a resume."""
    prompts: tuple[PromptFile, ...] = ()
    opening: tuple[int, ...] = ()
    """Token ids of the human opening."""
    source: str | bytes | None = None
    """The input that is copied into the session, in a file that ends in `suffix`."""
    suffix: str = ".txt"
    files: Mapping[str, str] = field(default_factory=dict)
    """More texts to store in the session, by the names of their files."""
    out: Path | None = None
    measured_by: str | None = None
    """See `Manifest.measured_by`."""
    chunk_tokens: int | None = None
    """The maximum length of a chunk if it differs from the setting `chunk_tokens`."""
    seen_tokens: int | None = None
    """The maximum number of tokens after header and context, if more than a chunk."""
    hint: str | None = None
    """The hint if it does not fit into memory; None for one that names flags of `write`."""
    notices: tuple[str, ...] = ()
    """Notices for the user before the session begins."""
    window_hint: str | None = None
    """The hint if it does not fit into the model's window."""
    window_flag: str = "--context-tokens "
    """The flag that sets the context length, up to its value."""

    @property
    def longest_chunk(self) -> int:
        """The maximum number of tokens of a chunk."""
        return self.config.decode.chunk_tokens if self.chunk_tokens is None else self.chunk_tokens

    @property
    def max_seen_tokens(self) -> int:
        """The maximum number of tokens after header and context."""
        return self.longest_chunk if self.seen_tokens is None else self.seen_tokens


class Request(Protocol):
    """A user's request; each kind of task has its own class."""

    @property
    def kind(self) -> str:
        """The name of its row in `task_kinds.py`."""

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """The session that fulfils the request with a model's tokenizer.

        Raises TemploraError if the request cannot be fulfilled.
        """
