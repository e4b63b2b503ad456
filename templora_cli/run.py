"""A run: an open session with its model, event by event to its goal, and changes of what is written.

This module knows no terminal, signals or exit status.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from templora_cli.config_layers import from_dict
from templora_cli.errors import StuckError
from templora_cli.events import (
    ChunkCommitted,
    ChunkLearnt,
    Event,
    Interrupted,
    Notice,
    Proposed,
    SessionOpened,
    TextBefore,
    TrainStep,
    Working,
)
from templora_cli.prepare import ENGINE, Engine, ignore_events
from templora_cli.reload import reload_model
from templora_cli.sessions.kind import TaskKind
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.steps import (
    StepDamagedError,
    committed_steps,
    folder_is_gone,
    proposed_in,
    read_chunks,
    readable_chunks,
    readable_text,
)
from templora_cli.sessions.store import Session, finish_replacing_steps
from templora_cli.sessions.summary import refresh_summary
from templora_cli.sessions.versions import Reason, redraws_of

if TYPE_CHECKING:
    from templora_cli.engine.decoding.protocols import Backend
    from templora_cli.engine.models.loading import LanguageModel
    from templora_cli.sessions.book_file import BookFile
    from templora_cli.sessions.recorder import Recorder
    from templora_cli.state import WritingState
    from templora_cli.turn import Task

AfterChunk = Callable[[int, "WritingState"], None]
Page = Literal["chunk", "chapter"]
"""What an author decides about at a time."""


SYNCED = Reason("sync")
TEXT_BEFORE = 2000
"""Characters of the book before a resumed run that are shown to people."""
NOT_EXACT = "this backend is not exact: a resumed book may differ from one that was not stopped"
STUCK = (
    "all chunks before it are safe. To try again with other random numbers: {resume}; a --note to it helps "
    "more, or a new book with a larger --model or text of your own (--from)"
)
LESS_MEMORY = (
    "close other programs and resume, or begin a book with a smaller --chunk-tokens or --context-tokens, "
    "--quantize nf4, or a smaller --model"
)


class Run:
    """An open session with its model loaded. Leaving its `with` block unlocks the session."""

    def __init__(self, session: Session, model: LanguageModel, engine: Engine = ENGINE) -> None:
        self.session, self.model, self.engine = session, model, engine
        self.config = from_dict(session.manifest.config, str(session.path / "session.json"))
        self.kind = engine.kind(session.manifest)
        self._recorder: Recorder | None = None
        self._is_fresh = True
        """Is the adapter untrained, as at the beginning of a book?"""

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        self.session.lock.release()

    @cached_property
    def task(self) -> Task:
        """The task of the session. Raises TemploraError if files of the session are damaged."""
        return self.kind.task(self.session, self.model, self.config)

    @cached_property
    def _backend(self) -> Backend:
        return self.engine.backend(self.model, self.session.manifest.backend)

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The values of the committed chunks. Raises StepDamagedError."""
        return read_chunks(self.session.steps)

    @property
    def text(self) -> str:
        """The readable text of the book so far."""
        return readable_text(self.session.steps)[0]

    @property
    def proposed(self) -> range:
        """The chunks at the end of the book that wait for their author's decision."""
        return proposed_in(readable_chunks(self.session.steps))

    def events(
        self,
        stop: threading.Event | None = None,
        *,
        after_chunk: AfterChunk | None = None,
        propose: Page | None = None,
        candidates: int | None = None,
    ) -> Generator[Event, None, None]:
        """Run the session from its newest intact step to its goal.

        With `propose` it runs to the end of the next chunk or chapter, which is not learnt: the last event is
        `Proposed`, and `relearn` brings the author's decision. `candidates` replaces the setting for it.
        Chunks that were proposed earlier are learnt first, as text of the model.

        Setting `stop` ends it before the next event and drops the chunk in progress. `after_chunk` is called
        with the index of each committed chunk and the state after it. Its first call is for the step from
        which the session resumes (-1 if none), because a kill may have prevented that call earlier.
        Raises TemploraError if disk space or memory run out; committed chunks are safe.
        """
        from templora_cli.engine.models.loading import out_of_memory_hint

        use_threads(self.session.manifest)
        with out_of_memory_hint(f"the committed chunks are safe in session {self.session.id}; {LESS_MEMORY}"):
            if self.proposed and propose is None:
                yield from self._learn_proposed(stop)
            yield from self._events(stop, after_chunk, propose, candidates)

    def _learn_proposed(self, stop: threading.Event | None) -> Iterator[Event]:
        """Learn what was proposed and not decided about, as text of the model."""
        from templora_cli.sessions.checkpoint import restore_latest
        from templora_cli.sessions.start import begin_state

        # A damaged step is set aside first, to be written again.
        state = begin_state(self.session, self.model, self.config)
        yield from map(Notice, restore_latest(self.session.steps, state))
        self._is_fresh = self._is_fresh and not state.chunks
        chunks = self.chunks
        if not (count := len(proposed_in(chunks))):
            return
        were = (
            "a chunk that you did not decide about is"
            if count == 1
            else f"{count} chunks that you did not decide about are"
        )
        yield Notice(f"{were} kept, and learnt as the model's")
        kept = [{**chunk, "proposed": False} for chunk in chunks]
        for event in self.relearn(kept, stop, reason=None):
            if isinstance(event, Notice | Working):
                yield event

    def _events(
        self,
        stop: threading.Event | None,
        after_chunk: AfterChunk | None,
        propose: Page | None,
        candidates: int | None,
    ) -> Generator[Event, None, None]:
        from templora_cli.sessions.checkpoint import restore_latest
        from templora_cli.sessions.recorder import Recorder
        from templora_cli.sessions.start import begin_state

        finish_replacing_steps(self.session.path)  # of a `relearn` that was killed
        take = self.session.manifest.take + redraws_of(self.session.path)
        state = begin_state(self.session, self.model, self.config, take=take)
        notices = [*self.kind.notices(self.session), *restore_latest(self.session.steps, state)]
        if not state.chunks and not self._is_fresh:
            self._reload_if_trained()
            state = begin_state(self.session, self.model, self.config, take=take)
        self._is_fresh = self._is_fresh and not state.chunks
        self._recorder = recorder = Recorder(self.session, self.kind, state)
        backend = self._backend
        backend.adapter_changed()
        if not backend.exact:
            notices.append(NOT_EXACT)
        yield (opened := self._opened(recorder))
        yield from map(Notice, notices)
        yield from recorder.write_book()
        is_prose = self.kind.is_prose and opened.chunks and opened.tokens >= opened.opening_tokens
        if is_prose and not self.kind.finished(self.session.manifest, recorder.chunks):
            yield TextBefore(self.text[-TEXT_BEFORE:])

        def measure(index: int) -> Iterator[Event]:
            if after_chunk is not None:
                yield Working("measuring")
                after_chunk(index, state)

        yield from measure(len(recorder.chunks) - 1)
        if propose and proposed_in(recorder.chunks) and self._ends_page(recorder, propose):
            yield self._proposal(recorder)
            return
        with closing(self._write(backend, state, propose, candidates)) as loop:
            for event in loop:
                if stop is not None and stop.is_set():
                    yield self.interrupted()
                    return
                self._is_fresh = self._is_fresh and not isinstance(event, TrainStep)
                for recorded in recorder.record(event):
                    yield recorded
                    if isinstance(recorded, ChunkCommitted):
                        yield from measure(recorded.index)
                if isinstance(event, ChunkLearnt) and event.proposed and self._ends_page(recorder, propose):
                    yield self._proposal(recorder)
                    return
        if propose and proposed_in(recorder.chunks):
            yield self._proposal(recorder)
            return
        if not self.session.manifest.measured_by:  # the measuring command reports the end itself
            yield from self.end()

    def _ends_page(self, recorder: Recorder, page: Page | None) -> bool:
        """Is the author to decide about what has been written up to here?"""
        return page == "chunk" or self.kind.ends_chapter(recorder.chunks)

    def _proposal(self, recorder: Recorder) -> Proposed:
        part = proposed_in(recorder.chunks)
        text = "".join(recorder.chunks[index]["text"] for index in part)
        command = f"{self.session.resume_command} --ask"
        return Proposed(self.session.id, part.start, len(part), text, command)

    def _write(
        self, backend: Backend, state: WritingState, propose: Page | None, candidates: int | None
    ) -> Generator[Event, None, None]:
        """The loop. If it is stuck, the next run of the session gets other random numbers."""
        from templora_cli.sessions.proposals import Proposing
        from templora_cli.temp_lora import write

        task = Proposing(self.task) if propose else self.task
        config = self.config
        if candidates is not None:
            config = replace(config, decode=replace(config.decode, candidates=candidates))
        try:
            yield from write(task, self.model, backend, state, config)
        except StuckError as error:
            self.session.update(take=self.session.manifest.take + 1)
            error.hint = STUCK.format(resume=self.session.resume_command)
            raise

    def end(self) -> Iterator[Event]:
        """Finish a session that has reached its goal, e.g. write its document; yields the final event."""
        return self.kind.end(self.session, self.chunks)

    def relearn(
        self,
        chunks: Sequence[Mapping[str, Any]],
        stop: threading.Event | None = None,
        *,
        reason: Reason | None = SYNCED,
        synced: bytes | None = None,
        plan: str | None = None,
    ) -> Generator[Event, None, None]:
        """Replace the chunks of the session with `chunks` (values of `chunk.json`), and learn them.

        Learning starts at the newest checkpoint before the first chunk that differs; nothing is decoded.
        Stopping it early leaves the session unchanged. The session keeps what is replaced, for `reason`; None
        if it was only proposed, and has the same text now. `synced` is the content of a file that says the
        same as the new chunks: the book file may be written over it. `plan` is a new plan of the book.
        """
        from templora_cli.sessions.history import first_change, relearn

        finish_replacing_steps(self.session.path)
        first = first_change(self.chunks, chunks)

        def change(backend: Backend) -> Generator[Event, None, None]:
            parts = (self.session, self.task, chunks, first, self.model, backend, self.config, reason)
            return relearn(*parts, plan=plan)

        yield from self._changed(change, stop, synced, first=first)

    def learn_later(
        self,
        chunks: Sequence[Mapping[str, Any]],
        stop: threading.Event | None = None,
        *,
        reason: Reason = SYNCED,
        synced: bytes | None = None,
    ) -> Generator[Event, None, None]:
        """Replace the chunks as `relearn` does, and learn what people changed now, not in its place.

        That takes seconds. What follows a change was learnt from the old text, and what was thrown away stays
        in the weights.
        """
        from templora_cli.sessions.history import learn_later

        def change(backend: Backend) -> Generator[Event, None, None]:
            return learn_later(self.session, self.task, chunks, self.model, backend, self.config, reason)

        yield from self._changed(change, stop, synced, first=len(chunks))

    def take_back(self, keep: int, *, reason: Reason) -> Iterator[Event]:
        """Take back all chunks but the first `keep`, of which the last is a checkpoint."""
        from templora_cli.sessions.history import truncate

        book = self.kind.book_file(self.session)
        if not truncate(self.session, keep, reason):
            raise StepDamagedError(f"the checkpoint of chunk {keep} is missing or damaged")
        yield from update_after_change(self.session, self.kind, book)

    def nll_of(self, passage: str, before: str, *, loaded: bool = False) -> tuple[float, float]:
        """NLL (nats/token) of a passage after the text `before` it, under the base and with the adapter.

        The adapter is that of the newest checkpoint; `loaded` if the model has it already.
        """
        from templora_cli.candidates import score_chunk
        from templora_cli.ngrams import FourGrams
        from templora_cli.prompt import Prompt, window
        from templora_cli.sessions.checkpoint import restore_latest
        from templora_cli.sessions.start import begin_state
        from templora_cli.turn import Chunk

        use_threads(self.session.manifest)
        if not loaded:
            restore_latest(self.session.steps, begin_state(self.session, self.model, self.config))
            self._is_fresh = False
        encode = self.model.tokenizer.encode
        tokens, context = (
            encode(text, add_special_tokens=False, split_special_tokens=True) for text in (passage, before)
        )
        context = window(context or encode("\n", add_special_tokens=False), self.config.decode.context_tokens)
        prompt = Prompt(context[:1] or tuple(tokens[:1]), context[1:])
        chunk = Chunk(tuple(tokens), passage)
        base, adapter = score_chunk(prompt, chunk, self.model, FourGrams([]))
        assert base is not None and adapter is not None, "a passage has tokens, and the session learns"
        return base.nll, adapter.nll

    def set_note(self, note: str) -> None:
        """Set the author's note for the text to come. Raises TemploraError if it is too long."""
        self.kind.check_note(note, self.model, self.config)
        self.session.update(request={**self.session.manifest.request, "note": note})
        vars(self).pop("task", None)

    def _changed(
        self,
        change: Callable[[Backend], Generator[Event, None, None]],
        stop: threading.Event | None,
        synced: bytes | None = None,
        *,
        first: int = 0,
    ) -> Generator[Event, None, None]:
        """Make a change of the chunks from `first` on, and update summary and book file."""
        from templora_cli.engine.models.loading import out_of_memory_hint
        from templora_cli.sessions.history import has_checkpoint_before

        use_threads(self.session.manifest)
        finish_replacing_steps(self.session.path)
        if not self._is_fresh and not has_checkpoint_before(first, self.session.steps):
            self._reload_if_trained()  # learning starts with an untrained adapter
        self._is_fresh = False
        book = self.kind.book_file(self.session)
        if book is not None and synced is not None:
            book.may_replace(synced)
        with (
            out_of_memory_hint(f"the book was not changed; {LESS_MEMORY}"),
            closing(change(self._backend)) as events,
        ):
            for event in events:
                if stop is not None and stop.is_set():
                    return
                yield event
        vars(self).pop("task", None)  # its opening and its plan may have changed
        yield from update_after_change(self.session, self.kind, book)

    def rewrite(
        self,
        part: range,
        is_whole: Callable[[Sequence[Any]], bool],
        stop: threading.Event | None = None,
        *,
        reason: Reason,
    ) -> Generator[Event, None, None]:
        """Write the chunks of `part` again, until `is_whole` is true of the records of the new ones.

        What follows is learnt again. Stopping it early leaves the session unchanged. Raises StuckError if
        no attempt passes the gate.
        """
        from templora_cli.sessions.history import Rewriting, rewrite

        take = self.session.manifest.take + redraws_of(self.session.path) + 1

        def change(backend: Backend) -> Generator[Event, None, None]:
            rewriting = Rewriting(self.task, self.chunks, part, is_whole)
            return rewrite(self.session, rewriting, self.model, backend, self.config, reason, take=take)

        yield from self._changed(change, stop, first=part.start)

    def interrupted(self) -> Interrupted:
        """The event of a stopped run: committed chunks, dropped tokens and the command to resume.

        Raises TemploraError if the folder of the session is gone.
        """
        if not self.session.is_in_place:
            raise folder_is_gone(self.session.path)
        chunks, recorder = len(committed_steps(self.session.steps)), self._recorder
        # A stop may come after a step is committed, but before the recorder counts it.
        dropped = recorder.tokens_in_progress if recorder and len(recorder.chunks) == chunks else 0
        return Interrupted(
            session=self.session.id,
            chunks=chunks,
            dropped_tokens=dropped,
            resume_command=self.session.resume_command,
        )

    def _reload_if_trained(self) -> None:
        """Load the model again if its adapter is trained."""
        if not self._is_fresh:
            for attribute in (
                "model",
                "task",
                "_backend",
                "_recorder",
            ):  # memory may be too small for two models
                vars(self).pop(attribute, None)
            self._recorder = None
            self.model, self._is_fresh = reload_model(self.session, ignore_events, self.engine), True

    def _opened(self, recorder: Recorder) -> SessionOpened:
        """The event that describes the session and its progress."""
        manifest, config = self.session.manifest, self.config
        return SessionOpened(
            session=self.session.id,
            path=str(self.session.path),
            resume_command=self.session.resume_command,
            model=manifest.model,
            quantize=manifest.quantize,
            device=manifest.device,
            dtype=manifest.dtype,
            recipe=config.train.recipe,
            learn=config.train.learn,
            chunk_tokens=config.decode.chunk_tokens,
            context_tokens=config.decode.context_tokens,
            goal=manifest.goal_amount,
            unit=manifest.goal_unit,
            chunks=len(recorder.chunks),
            tokens=len(recorder.state.tokens),
            words=sum(chunk["words"] for chunk in recorder.chunks),
            opening_tokens=self.kind.opening_tokens(self.session),
            done=recorder.done,
            retries=self.kind.retries(manifest),
            languages=self.kind.languages(manifest),
        )


def update_after_change(session: Session, kind: TaskKind, book: BookFile | None) -> Iterator[Event]:
    """Bring summary and book file, as it was before, up to the changed chunks of a session."""
    refresh_summary(session.path, read_chunks(session.steps), kind)
    if book is not None:
        book.replace(readable_text(session.steps)[0])
        if notice := book.write():
            yield Notice(notice, important=True)


def use_threads(manifest: Manifest) -> None:
    """Set the CPU threads of the session: floating-point sums depend on their number."""
    import torch

    if manifest.device == "cpu":
        torch.set_num_threads(manifest.threads)
