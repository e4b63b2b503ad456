"""Events as lines of standard error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from templora_cli import events
from templora_cli.files import format_bytes
from templora_cli.render.figures import count_of, duration, in_nats, memory_in_use, seen_before, speed_of
from templora_cli.render.progress import Progress, already_done

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
        self._min_shown: dict[str, int] = {}

    def lines(self, event: events.Event, progress: Progress) -> Iterator[Line]:
        """The permanent lines for `event`; `progress` includes it already."""
        match event:
            case events.SessionOpened():
                yield from self._opening_lines(event)
            case events.Notice():
                yield f"note: {event.message}", "warn"
            case events.ParagraphTranslated():
                yield from _paragraph_lines(event, self._live)
            case events.SectionCut() if event.shown >= self._min_shown.get(event.section, event.items):
                pass  # it was as short before
            case events.SectionCut() | events.ChunkRejected() | events.ChunkScored():
                if isinstance(event, events.SectionCut):
                    self._min_shown[event.section] = event.shown
                yield from _warnings(event, progress)
            case events.ChunkCommitted() if not self._live:
                yield _chunk_line(event, progress), "message"
                if progress.warning and not self._has_warned:
                    yield progress.warning, "warn"
                self._has_warned = bool(progress.warning)
            case events.Finished():
                yield from [*self._blank, *_finished_lines(event, progress)]
            case events.Primed():
                yield _primed_line(event)
            case events.TranslationFinished():
                yield from [*self._blank, *_translated_lines(event)]
            case events.Synced():
                yield from _synced_lines(event)
            case events.RebuildStarted() if event.chunks:
                time = "" if event.seconds is None else f", about {duration(event.seconds)}"
                yield f"{count_of(event.chunks, 'chunk')} to learn again{time}", "message"
            case events.Changed():
                yield from _changed_lines(event)
            case events.Forgotten():
                yield _forgotten_line(event)
            case events.Forked():
                yield from _forked_lines(event)
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
        " → ".join(event.languages),
        f"{event.model} ({quantized}{event.dtype}) on {event.device}",
        f"learns the book (recipe {event.recipe})" if event.learn else "not learning",
        f"chunks of {event.chunk_tokens:,} tokens, with the last {event.context_tokens:,} in view",
        _goal_of(event),
        f"so far: {count_of(event.chunks, 'chunk')}, {event.tokens:,} tokens" if event.chunks else "",
    )
    return " · ".join(fact for fact in facts if fact)


def _goal_of(event: events.SessionOpened) -> str:
    before = already_done(event)
    if event.retries and event.done < event.goal:
        return f"translates {events.in_words(event.goal - before, event.unit)} once more"
    return f"goal {events.in_words(event.goal - before, event.unit, new=bool(event.opening_tokens))}"


def _warnings(
    event: events.SectionCut | events.ChunkRejected | events.ChunkScored, progress: Progress
) -> Iterator[Line]:
    name = progress.chunk_name(event.index)
    match event:
        case events.SectionCut():
            cut = (
                f"the {event.section} was shortened to fit the prompt: {event.shown} of {event.items} entries"
            )
            yield f"{name}: {cut}", "warn"
        case events.ChunkRejected():
            yield f"{name} is rejected and written again: {event.rejection_reason}", "warn"
        case events.ChunkScored() if event.rejection_reason:
            yield f"{name} is not learnt: {event.rejection_reason}", "warn"


def _chunk_line(event: events.ChunkCommitted, progress: Progress) -> str:
    is_generated, speed = event.origin == "generated", progress.tok_per_s
    facts = (
        progress.chunk_name(event.index) + ("" if is_generated else _author(event, progress)),
        f"{event.tokens:,} tokens",
        speed_of(speed) if is_generated and speed is not None else "",
        f"loss {', '.join(f'{loss:.3f}' for loss in event.train_losses)}" if event.train_losses else "",
        "" if event.gain is None else f"gain {in_nats(event.gain)}",
        seen_before(event.repetition),
        ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in event.seconds.items()),
        memory_in_use(),
    )
    return " · ".join(fact for fact in facts if fact)


def _author(event: events.ChunkCommitted, progress: Progress) -> str:
    opened = progress.opened
    return " (your opening)" if opened and event.total_tokens <= opened.opening_tokens else " (human)"


def _paragraph_lines(event: events.ParagraphTranslated, live: bool) -> Iterator[Line]:
    """The translation, on a live terminal only, and the failed checks."""
    if live and event.target:
        yield event.target, "message"
    if event.failed_checks:
        yield f"paragraph {event.number} failed: {'; '.join(event.failed_checks)}", "warn"


def _finished_lines(event: events.Finished, progress: Progress) -> Iterator[Line]:
    words, tokens = count_of(event.words, "word"), count_of(event.tokens, "token")
    size = f"{tokens}, {count_of(event.chunks, 'chunk')}"
    if (opened := progress.opened) and opened.opening_tokens:
        done = events.progress_in_words(progress.done, opened.goal, opened.unit, new=True)
        words = f"{done}, {events.words_with_opening(event.words, opened.unit)}"
        size = f"in all {size}"
    yield f"finished: {words}, {size}", "good"
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


def _primed_line(event: events.Primed) -> Line:
    text = (
        f"learnt {count_of(event.tokens, 'token')} of {in_titles(event.files)} in {duration(event.seconds)}"
    )
    if event.nll_base is None or event.nll_adapter is None:
        return text, "good"
    before, after = math.exp(event.nll_base), math.exp(event.nll_adapter)
    if not event.best_reading:
        return f"{text}, and it did not help with the text that was held out", "warn"
    readings = "" if event.best_reading == 1 else f" after {event.best_reading} readings"
    gained = f"{1 - after / before:.1%} lower{readings} ({before:.2f} to {after:.2f})"
    return f"{text}; perplexity of the last {event.held_out_tokens:,}, held out, is {gained}", "good"


def in_titles(files: Sequence[str]) -> str:
    """The names of files for a sentence, at most three of them."""
    more = len(files) - 3
    return ", ".join(files[:3]) + (f" and {count_of(more, 'other file')}" if more > 0 else "")


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


def _changed_lines(event: events.Changed) -> Iterator[Line]:
    again = f", {count_of(event.relearnt, 'chunk')} learnt again" if event.relearnt else ""
    size = f"{count_of(event.chunks, 'chunk')} and {count_of(event.words, 'word')} now"
    yield f"{event.detail}{again}; the book has {size}", "good"
    if event.text.strip():
        yield f"it ends: …{' '.join(event.text.split())}", "message"
    yield from [("To continue:", "message"), (event.resume_command, "command")]
    if event.restore_command:
        yield from [("To go back to what there was before:", "message"), (event.restore_command, "command")]


def _forgotten_line(event: events.Forgotten) -> Line:
    base, before, now = (f"{math.exp(nll):,.2f}" for nll in (event.nll_base, event.nll_before, event.nll_now))
    was = f"the adapter expected the passage with a perplexity of {before}"
    return f"{was}, and now with {now}; the model itself with {base}", "good"


def _forked_lines(event: events.Forked) -> Iterator[Line]:
    size = f"{count_of(event.chunks, 'chunk')}, {count_of(event.words, 'word')}"
    yield f"forked {event.parent} into {event.session}: {size}", "good"
    if event.text.strip():
        yield f"it ends: …{' '.join(event.text.split())}", "message"
    if event.out:
        yield f"its book file is {event.out}", "path"
    yield from [("To continue:", "message"), (event.resume_command, "command")]


def _interrupted_lines(event: events.Interrupted) -> Iterator[Line]:
    were = "is" if event.chunks == 1 else "are"
    dropped = count_of(event.dropped_tokens, "token")
    drop = "is" if event.dropped_tokens == 1 else "are"
    rest = f"; {dropped} of the unfinished one {drop} dropped" if event.dropped_tokens else ""
    yield f"stopped: {count_of(event.chunks, 'chunk')} {were} saved{rest}", "warn"
    yield from [("To continue:", "message"), (event.resume_command, "command")]
