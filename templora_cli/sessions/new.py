"""A session as it would begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from templora_cli.config import Config
from templora_cli.events import Unit
from templora_cli.prompt_files import PromptFile


@dataclass(frozen=True)
class NewSession:
    """What a kind of task says of a session before there is one."""

    kind: str
    config: Config
    named_after: str
    """The id is made of words of it."""
    goal: tuple[int, Unit]
    header_tokens: int
    """What the sections of a prompt take at most."""
    request: Mapping[str, Any] = field(default_factory=dict)
    """What the kind wants to find again: JSON values."""
    prompts: tuple[PromptFile, ...] = ()
    opening: tuple[int, ...] = ()
    """Token ids of what a person wrote first."""
    source: str | bytes | None = None
    """What is copied into the session, in a file that ends in `suffix`."""
    suffix: str = ".txt"
    out: Path | None = None
    measured_by: str | None = None
    """See `Manifest.measured_by`."""
    chunk_tokens: int | None = None
    """What a chunk has at most, where that is not `chunk_tokens` of the settings."""
    seen_tokens: int | None = None
    """What the model sees at most beside header and context, where that is more than a chunk."""
    hint: str | None = None
    """What would help where it does not fit into memory, where that is no flag of `write`."""
    notices: tuple[str, ...] = ()
    """What to tell before it begins."""
    window_hint: str | None = None
    """What would help where it does not fit into the model's window."""

    @property
    def longest_chunk(self) -> int:
        """Tokens of a chunk at most."""
        return self.config.decode.chunk_tokens if self.chunk_tokens is None else self.chunk_tokens

    @property
    def longest_seen(self) -> int:
        """Tokens at most that come after header and context."""
        return self.longest_chunk if self.seen_tokens is None else self.seen_tokens


class Request(Protocol):
    """What a user asks for: each kind of task has one of its own."""

    @property
    def kind(self) -> str:
        """The name of its row in `task_kinds.py`."""

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """The session that would do it with a model's tokenizer.

        Raises TemploraError where that cannot be.
        """
