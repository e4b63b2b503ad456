"""What the model is shown beside the book: plan, ledger, recalled passages and note, from a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from templora_cli.novel.plan import Plan, read_plan
from templora_cli.novel.prompt import Memory, NovelPrompt
from templora_cli.novel.prose import Prose
from templora_cli.prompt_files import PromptFile
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


def shown_in(session: Session) -> Shown:
    """The plan, the ledger and the volumes of a session as they are now.

    Raises TemploraError if a file is damaged.
    """
    plan = session.plan_path
    volumes = session.manifest.request["volumes"]
    texts = [_text(session, f"volumes/{index + 1:03}.txt") for index in range(len(volumes))]
    return Shown(
        plan_in(plan, _text(session, plan.name)) if plan.is_file() else None,
        _text(session, session.ledger_path.name) if session.ledger_path.is_file() else "",
        tuple(zip(map(str, volumes), texts, strict=True)),
    )


def plan_in(file: Path, text: str) -> Plan:
    """The plan that is the `text` of a file. Raises TemploraError with the name of the file and the line."""
    try:
        return read_plan(text)
    except TemploraError as error:
        raise TemploraError(f"{file}, {error.message}", error.hint) from None


def novel_prompt(
    tokenizer: Any,
    prompts: Sequence[PromptFile],
    request: Mapping[str, Any],
    config: DecodeConfig,
    shown: Shown,
) -> NovelPrompt:
    """The prompt of a novel. Raises TemploraError if the ledger is not valid."""
    to_text = partial(decode, tokenizer)
    ledger = read_ledger(shown.ledger) if shown.ledger else None
    recall = None
    if config.recall and config.recall_tokens:
        recall = BookRecall(
            to_text,
            lambda text: len(tokenizer.encode(text, add_special_tokens=False)),
            Recall(shown.volumes),
            config.context_tokens,
            config.recall_tokens,
            lambda *texts: [] if ledger is None else [n for e in ledger.named_in(*texts) for n in e.names],
        )
    memory = Memory(
        None if ledger is None else lambda *texts: [entry.line() for entry in ledger.named_in(*texts)], recall
    )
    novel, sections = prompts
    return NovelPrompt(
        tokenizer,
        novel,
        sections,
        request["premise"],
        request["opened"],
        config,
        plan=shown.plan,
        memory=memory,
        note=request["note"],
    )


def prose_of(session: Session, prompt: NovelPrompt, config: Config) -> Prose | None:
    """The checks of the prose of a session; None if they are off."""
    if not (config.gate.enabled and config.gate.prose):
        return None
    plan = prompt.plan
    code = language(plan.language).code if plan is not None and plan.language else ""
    ledger = _text(session, session.ledger_path.name) if session.ledger_path.is_file() else ""
    to_text = partial(decode, prompt.tokenizer)
    premise = "\n\n".join(item for section in prompt.sections for item in section.items)
    return Prose(
        to_text, prompt.tokenizer, prompt.section_texts, premise, code, ledger, headings=plan is None
    )


def banned_in(session: Session) -> BannedPhrases:
    """The phrases that the book of a session must not have, with its ledger as it is now."""
    ledger = _text(session, session.ledger_path.name) if session.ledger_path.is_file() else ""
    return banned_phrases(session.manifest.request, ledger)


def banned_phrases(request: Mapping[str, Any], ledger: str) -> BannedPhrases:
    """The phrases that a book must not have: those of its request, and words that its ledger avoids.

    Raises TemploraError for a phrase that cannot be banned.
    """
    entries = read_ledger(ledger) if ledger else Ledger()
    avoided = [*entries.avoid, *(word for entry in entries.entries for word in entry.avoid)]
    of_ledger = checked_phrases(avoided, 'avoid = "{phrase}" in the ledger')
    return BannedPhrases((*request["banned"], *of_ledger))


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
