"""Novels as a kind of task: what is asked for, and what a session of one is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templora_cli.config import Config
from templora_cli.documents.registry import check_book_suffix
from templora_cli.errors import TemploraError
from templora_cli.events import Unit
from templora_cli.novel.prompt import NovelPrompt, opening_tokens
from templora_cli.novel.task import Goal, NovelTask
from templora_cli.prompt import longest
from templora_cli.prompt_files import PromptFile, load_prompts
from templora_cli.sessions.book_file import BookFile
from templora_cli.sessions.kind import TaskKind, Values
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.new import NewSession
from templora_cli.sessions.store import Session

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel

PROMPTS = "novel"
DEFAULT_GOAL = Goal(4096, "tokens")


@dataclass(frozen=True)
class NovelRequest:
    """A book from a premise, from an opening, or from both."""

    premise: str = ""
    opening: str | None = None
    """Text of a person's that is learnt first and gone on from."""
    goal: Goal = DEFAULT_GOAL
    out: Path | None = None
    """File of the book, in a format that can be written."""
    kind: str = "novel"
    measured_by: str | None = None

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        """See `Request.new_session`."""
        if not self.premise and not self.opening:
            raise TemploraError("nothing to write about", 'templora write --premise "A lighthouse keeper..."')
        if self.out is not None:
            check_book_suffix(self.out)
        texts = load_prompts(PROMPTS, config.prompts)
        prompt = _prompt(tokenizer, texts, self.premise, self.opening is not None, config)
        return NewSession(
            self.kind,
            config,
            named_after=self.premise or str(self.opening),
            goal=(self.goal.amount, self.goal.unit),
            header_tokens=longest(prompt.sections, prompt.layout),
            request={"premise": self.premise, "opened": self.opening is not None},
            prompts=(texts,),
            opening=() if self.opening is None else opening_tokens(tokenizer, self.opening),
            source=self.opening,
            out=None if self.out is None else self.out.absolute(),
            measured_by=self.measured_by,
        )


class Novel(TaskKind):
    """A book that the model writes; an opening of a person's does not count for its length."""

    units: tuple[Unit, ...] = ("tokens", "words")
    asked = frozenset(("premise", "opened"))
    prompts = frozenset((PROMPTS,))
    can_be_extended = True

    def __init__(self, name: str = "novel") -> None:
        self.name = name

    def task(self, session: Session, model: LanguageModel, config: Config) -> NovelTask:
        """See `TaskKind.task`."""
        manifest = session.manifest
        texts = PromptFile(PROMPTS, manifest.prompts[PROMPTS], "")
        asked = manifest.request
        prompt = _prompt(model.tokenizer, texts, asked["premise"], asked["opened"], config)
        goal = Goal(manifest.goal_amount, "words" if manifest.goal_unit == "words" else "tokens")
        size = config.decode.chunk_tokens
        return NovelTask(prompt, session.opening(), goal, size, model.tokenizer)

    def counts(self, chunk: Values) -> bool:
        """See `TaskKind.counts`."""
        return bool(chunk["origin"] == "generated")

    def opening_tokens(self, session: Session) -> int:
        """See `TaskKind.opening_tokens`."""
        return len(session.opening())

    def book_file(self, session: Session) -> BookFile | None:
        """See `TaskKind.book_file`."""
        out = session.manifest.out
        return None if out is None else BookFile(session, Path(out))

    def facts(self, manifest: Manifest) -> dict[str, str]:
        """See `TaskKind.facts`."""
        return {"premise": str(manifest.request.get("premise", ""))}


def _prompt(tokenizer: Any, texts: PromptFile, premise: str, opened: bool, config: Config) -> NovelPrompt:
    return NovelPrompt(tokenizer, texts, premise, opened, config.decode.context_tokens)
