"""What the model is shown beside the book: plan, ledger, recalled passages and note, from a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from templora_cli.config import Config, DecodeConfig
from templora_cli.documents.text_input import checked_text
from templora_cli.engine.decoding.banned_phrases import BannedPhrases, checked_phrases
from templora_cli.errors import TemploraError
from templora_cli.languages import language
from templora_cli.memory.ledger import Ledger, read_ledger
from templora_cli.memory.recall import Recall
from templora_cli.novel.memory import BookRecall
from templora_cli.novel.plan import Plan, plan_in
from templora_cli.novel.prompt import Memory, NovelPrompt
from templora_cli.novel.prose import Prose
from templora_cli.prompt_files import PromptFile
from templora_cli.scripts import script_runs
from templora_cli.sessions.store import Session
from templora_cli.text import decode


@dataclass(frozen=True)
class Shown:
    """Texts that may be shown in part, according to what is going on."""

    plan: Plan | None = None
    ledger: str = ""
    """As TOML."""
    volumes: tuple[tuple[str, str], ...] = ()
    """Names and texts of earlier volumes."""

    @cached_property
    def entries(self) -> Ledger:
        """The entries of the ledger. Raises TemploraError if it is not valid."""
        return read_ledger(self.ledger)


def shown_in(session: Session) -> Shown:
    """The plan, the ledger and the volumes of a session as they are now.

    Raises TemploraError if a file is damaged.
    """
    plan = session.plan_path
    volumes = session.manifest.request["volumes"]
    texts = [_text(session, volume_file(index)) for index in range(len(volumes))]
    return Shown(
        plan_in(plan, _text(session, plan.name)) if plan.is_file() else None,
        _text(session, session.ledger_path.name) if session.ledger_path.is_file() else "",
        tuple(zip(map(str, volumes), texts, strict=True)),
    )


def volume_file(index: int) -> str:
    """The file of an earlier volume in a session."""
    return f"volumes/{index + 1:03}.txt"


def novel_prompt(
    tokenizer: Any,
    prompts: Sequence[PromptFile],
    request: Mapping[str, Any],
    config: DecodeConfig,
    shown: Shown,
) -> NovelPrompt:
    """The prompt of a novel. Raises TemploraError if the ledger is not valid."""
    novel, sections = prompts
    ledger = LedgerLookup(shown.entries) if shown.ledger else None
    recall = None
    if config.recall and config.recall_tokens:
        recall = BookRecall(
            partial(decode, tokenizer),
            lambda text: len(tokenizer.encode(text, add_special_tokens=False)),
            Recall(shown.volumes),
            config.context_tokens,
            config.recall_tokens,
            lambda passage, volume: sections.text(
                "sections",
                "volume_passage" if volume else "passage",
                passage=passage,
                volume=Path(volume).stem,
            ),
            (lambda *texts: ()) if ledger is None else ledger.names,
        )
    return NovelPrompt(
        tokenizer,
        novel,
        sections,
        request["premise"],
        request["opened"],
        config,
        plan=shown.plan,
        memory=Memory(None if ledger is None else ledger.lines, recall),
        note=request["note"],
    )


class LedgerLookup:
    """The entries of a ledger that the prompt of a chunk needs; ledger and recall ask for the same ones."""

    def __init__(self, ledger: Ledger) -> None:
        self._named_in = lru_cache(maxsize=1)(ledger.named_in)

    def lines(self, recent: str, planned: str) -> list[str]:
        """Their lines, the most important first."""
        return [entry.line() for entry in self._named_in(recent, planned)]

    def names(self, recent: str, planned: str) -> list[str]:
        """All their names."""
        return [name for entry in self._named_in(recent, planned) for name in entry.names]


def prose_of(prompt: NovelPrompt, shown: Shown, config: Config) -> Prose | None:
    """The checks of the prose of a book; None if they are off."""
    if not (config.gate.enabled and config.gate.prose):
        return None
    plan = prompt.plan
    code = language(plan.language).code if plan is not None and plan.language else ""
    premise = "\n\n".join(item for section in prompt.sections for item in section.items)
    scripts = {script for script, _ in script_runs(shown.ledger)}
    return Prose(
        partial(decode, prompt.tokenizer),
        prompt.tokenizer,
        prompt.section_texts,
        premise,
        code,
        frozenset(scripts),
        headings=plan is None,
    )


def banned_phrases(request: Mapping[str, Any], shown: Shown) -> BannedPhrases:
    """The phrases that a book must not have: those of its request, and words that its ledger avoids.

    Raises TemploraError for a phrase that cannot be banned.
    """
    return BannedPhrases((*request["banned"], *avoided_phrases(shown.entries)))


def avoided_phrases(ledger: Ledger, source: str = "the ledger") -> tuple[str, ...]:
    """The words that a ledger avoids; `source` names it in messages.

    Raises TemploraError for one that cannot be banned.
    """
    avoided = [*ledger.avoid, *(word for entry in ledger.entries for word in entry.avoid)]
    return checked_phrases(avoided, f'{source.replace("{", "{{").replace("}", "}}")}: avoid = "{{phrase}}"')


def check_note(tokenizer: Any, note: str, config: DecodeConfig) -> None:
    """Raise TemploraError if the note is longer than its budget."""
    tokens = len(tokenizer.encode(note, add_special_tokens=False))
    if tokens > config.note_tokens:
        words = len(note.split()) * config.note_tokens // tokens
        raise TemploraError(
            f"the note has {tokens} tokens; at most {config.note_tokens} are shown",
            f"shorten it to about {words} words, or --set note_tokens={tokens}",
        )


def _text(session: Session, name: str) -> str:
    path = session.path / name
    try:
        return checked_text(path.read_bytes(), str(path))
    except OSError:
        raise TemploraError(f"session {session.id}: {path} is missing", "restore the original file") from None
