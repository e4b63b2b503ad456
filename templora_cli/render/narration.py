"""Events as lines of standard error."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from templora_cli import events
from templora_cli.files import format_bytes
from templora_cli.render.figures import count_of, in_nats, memory_in_use, speed_of
from templora_cli.render.progress import Progress

Line = tuple[str, str]
"""A text and its style."""

MIN_DISK_BYTES = 10_000_000
"""Smaller sessions end without a line about the disk."""
MAX_UNLEARNT = 3
"""Number of unlearnt chunks listed with their reasons; `sessions show` lists all."""


class Narrator:
    """Turns events into lines. `live`: a status block below them shows the progress."""

    def __init__(self, live: bool) -> None:
        self._live, self._blank = live, [("", "message")] if live else []
        self._has_warned = False

    def lines(self, event: events.Event, progress: Progress) -> Iterator[Line]:
        """The permanent lines for `event`; `progress` includes it already."""
        match event:
            case events.SessionOpened():
                yield from self._opening_lines(event)
            case events.Notice():
                yield f"note: {event.message}", "warn"
            case events.ParagraphTranslated():
                yield from _paragraph_lines(event, self._live)
            case events.SectionCut() | events.ChunkRejected() | events.ChunkScored():
                yield from _warnings(event, progress)
            case events.ChunkCommitted() if not self._live:
                yield _chunk_line(event, progress), "message"
                if progress.warning and not self._has_warned:
                    yield progress.warning, "warn"
                self._has_warned = bool(progress.warning)
            case events.Finished():
                yield from [*self._blank, *_finished_lines(event, progress)]
            case events.TranslationFinished():
                yield from [*self._blank, *_translated_lines(event)]
            case events.Synced():
                yield from _synced_lines(event)
            case events.Interrupted():
                yield from [*self._blank, *_interrupted_lines(event)]

    def _opening_lines(self, event: events.SessionOpened) -> list[Line]:
        name, facts = f"session {event.session}", _session_facts(event)
        if not self._live:
            return [(f"{name} · {facts}", "message")]
        return [(name, "session"), (facts, "faint"), *self._blank]


def _session_facts(event: events.SessionOpened) -> str:
    quantized = "" if event.quantize == "none" else f"{event.quantize}, "
    facts = (
        f"{event.model} ({quantized}{event.dtype}) on {event.device}",
        f"recipe {event.recipe}" if event.learn else "not learning",
        f"window {event.context_tokens:,} + chunk {event.chunk_tokens:,} tokens",
        f"goal {events.in_words(event.goal, event.unit)}",
        f"so far: {count_of(event.chunks, 'chunk')}, {event.tokens:,} tokens" if event.chunks else "",
    )
    return " · ".join(fact for fact in facts if fact)


def _warnings(
    event: events.SectionCut | events.ChunkRejected | events.ChunkScored, progress: Progress
) -> Iterator[Line]:
    name = progress.chunk_name(event.index)
    match event:
        case events.SectionCut():
            cut = (
                f"the {event.section} was shortened to fit the prompt: {event.shown} of {event.items} entries"
            )
            yield f"{progress.chunk_name(event.index)}: {cut}", "warn"
        case events.ChunkRejected():
            yield (
                f"{name} is rejected and written again: {event.rejection_reason}",
                "warn",
            )
        case events.ChunkScored() if event.rejection_reason:
            yield f"{name} is not learnt: {event.rejection_reason}", "warn"


def _chunk_line(event: events.ChunkCommitted, progress: Progress) -> str:
    is_generated, speed = event.origin == "generated", progress.tok_per_s
    facts = (
        progress.chunk_name(event.index) + ("" if is_generated else " (human)"),
        f"{event.tokens:,} tokens",
        speed_of(speed) if is_generated and speed is not None else "",
        f"loss {', '.join(f'{loss:.3f}' for loss in event.train_losses)}" if event.train_losses else "",
        "" if event.gain is None else f"gain {in_nats(event.gain)}",
        f"repetition {event.repetition:.1%}",
        ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in event.seconds.items()),
        memory_in_use(),
    )
    return " · ".join(fact for fact in facts if fact)


def _paragraph_lines(event: events.ParagraphTranslated, live: bool) -> Iterator[Line]:
    """The translation, on a live terminal only, and the failed checks."""
    if live and event.target:
        yield event.target, "message"
    if event.failed_checks:
        yield f"paragraph {event.number} failed: {'; '.join(event.failed_checks)}", "warn"


def _finished_lines(event: events.Finished, progress: Progress) -> Iterator[Line]:
    counts = (event.words, "word"), (event.tokens, "token"), (event.chunks, "chunk")
    yield f"finished: {', '.join(count_of(number, noun) for number, noun in counts)}", "good"
    if progress.gains:
        gain = fmean(gain for _, gain in progress.gains)
        yield f"mean gain over the last chunks: {in_nats(gain)}", "message"
    if progress.warning:
        yield progress.warning, "warn"
    yield from _unlearnt_lines(event, learns=progress.opened is None or progress.opened.learn)
    if event.out:
        yield f"written to {event.out}", "path"
    if event.disk_bytes >= MIN_DISK_BYTES and event.chunks > 1:
        command = f"templora sessions shrink {event.session}"
        yield f"{format_bytes(event.disk_bytes)} on disk; to free some: {command}", "path"
    if event.resume_command:
        yield from [("To continue:", "message"), (event.resume_command, "command")]


def _unlearnt_lines(event: events.Finished, *, learns: bool) -> Iterator[Line]:
    """The number of chunks that were not learnt, and the first of them with their reasons."""
    if not event.not_learnt:
        return
    listed = event.not_learnt[:MAX_UNLEARNT]
    chunks = ", ".join(f"chunk {chunk.index + 1} ({chunk.rejection_reason})" for chunk in listed)
    remaining = len(event.not_learnt) - len(listed)
    rest = f" and {remaining:,} more" if remaining else ""
    were = ("was" if len(event.not_learnt) == 1 else "were") + (" not learnt" if learns else " marked")
    counts = f"{len(event.not_learnt):,} of {count_of(event.chunks, 'chunk')} {were}"
    yield f"{counts}: {chunks}{rest}", "warn"
    if remaining:
        yield f"to list all: templora sessions show {event.session}", "path"


def _translated_lines(event: events.TranslationFinished) -> Iterator[Line]:
    retried = f"{event.retried:,} good after a retry"
    corrected = f", {event.corrected:,} corrected by hand" if event.corrected else ""
    counts = f"{event.good:,} good, {retried}{corrected}, {event.failed:,} failed"
    style = "warn" if event.failed else "good"
    yield f"translated: {count_of(event.paragraphs, 'paragraph')}, {counts}", style
    yield f"written to {event.out}", "path"
    yield f"side by side: {event.report}", "path"


def _synced_lines(event: events.Synced) -> Iterator[Line]:
    paragraphs, chunks = count_of(event.paragraphs, "paragraph"), count_of(event.chunks, "chunk")
    yield f"{paragraphs} corrected or approved, {chunks} learnt again", "good"
    if event.resume_command:
        yield from [("To continue:", "message"), (event.resume_command, "command")]


def _interrupted_lines(event: events.Interrupted) -> Iterator[Line]:
    dropped = f"{count_of(event.dropped_tokens, 'token')} of the unfinished chunk dropped"
    yield f"stopped: {dropped}, {count_of(event.chunks, 'committed chunk')} safe", "warn"
    yield from [("To continue:", "message"), (event.resume_command, "command")]
