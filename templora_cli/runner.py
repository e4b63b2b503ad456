"""The programming interface: open or create a session, and run it to its goal, event by event.

Nothing here knows a terminal, a signal or an exit status. `docs/api.md` has an example.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from templora_cli.config import Config, from_dict
from templora_cli.errors import TemploraError
from templora_cli.events import (
    ChunkCommitted,
    Event,
    Interrupted,
    Notice,
    SessionOpened,
    Working,
)
from templora_cli.prepare import ENGINE, Engine, Notify, find_model, ignore_events, load_fitting, prepare
from templora_cli.sessions.kind import TaskKind
from templora_cli.sessions.manifest import Manifest
from templora_cli.sessions.new import Request
from templora_cli.sessions.steps import (
    StepDamaged,
    committed_steps,
    read_chunks,
    readable_chunks,
    readable_text,
)
from templora_cli.sessions.store import Session, Store, finish_replacing_steps, now
from templora_cli.sessions.summary import refresh_summary

if TYPE_CHECKING:
    from templora_cli.engine.models.loading import LanguageModel
    from templora_cli.sessions.recorder import Recorder
    from templora_cli.state import WritingState
    from templora_cli.turn import Task

AfterChunk = Callable[[int, "WritingState"], None]
Length = tuple[int, Literal["words", "tokens", "chunks"]]

NOT_EXACT = "this backend is not exact: a resumed book may differ from one that was not stopped"
LESS_MEMORY = (
    "close other programs and resume, or begin a book with a smaller --chunk-tokens or --context-tokens, "
    "--quantize nf4, or a smaller --model"
)


class Run:
    """A session that is open here, with its model loaded. Leaving its `with` block unlocks the session."""

    def __init__(self, session: Session, model: LanguageModel, engine: Engine = ENGINE) -> None:
        self.session, self.model, self.engine = session, model, engine
        self.config = from_dict(session.manifest.config, str(session.path / "session.json"))
        self.kind = engine.kind(session.manifest)
        self._recorder: Recorder | None = None
        self._is_fresh = True
        """Is the adapter as the book began?"""

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        self.session.lock.release()

    @cached_property
    def task(self) -> Task:
        """What is done next. Raises TemploraError where the session's own files are damaged."""
        return self.kind.task(self.session, self.model, self.config)

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The values of the committed chunks. Raises StepDamaged."""
        return read_chunks(self.session.steps)

    @property
    def text(self) -> str:
        """The book so far, as far as it can be read."""
        return readable_text(self.session.steps)[0]

    def events(
        self, stop: threading.Event | None = None, *, after_chunk: AfterChunk | None = None
    ) -> Generator[Event, None, None]:
        """Bring the session to its goal, from its newest good step.

        Whoever sets `stop` ends it before the next event: what is not committed is dropped. `after_chunk` is
        called with the index of each committed chunk and the state after it, also with that of the step that
        is gone on from (-1 without one): a kill may have come between.
        Raises TemploraError where disk or memory are not enough; what is committed is safe.
        """
        from templora_cli.engine.models.loading import out_of_memory_hint

        _use_threads(self.session.manifest)
        with out_of_memory_hint(f"what is written is safe in session {self.session.id}; {LESS_MEMORY}"):
            yield from self._events(stop, after_chunk)

    def _events(
        self, stop: threading.Event | None, after_chunk: AfterChunk | None
    ) -> Generator[Event, None, None]:
        from templora_cli.sessions.checkpoint import restore_latest
        from templora_cli.sessions.recorder import Recorder
        from templora_cli.state import WritingState
        from templora_cli.temp_lora import write

        finish_replacing_steps(self.session.path)  # that of a `relearn` that was stopped
        take = self.session.manifest.take
        state = WritingState.begin(self.model, self.config, take=take)
        notices = [*self.kind.notices(self.session), *restore_latest(self.session.steps, state)]
        if not state.chunks and not self._is_fresh:
            self._begin_afresh()
            state = WritingState.begin(self.model, self.config, take=take)
        self._is_fresh = False
        self._recorder = recorder = Recorder(self.session, self.kind, state)
        backend = self.engine.backend(self.model, self.session.manifest.backend)
        backend.adapter_changed()
        if not backend.exact:
            notices.append(NOT_EXACT)
        yield self._opened(recorder)
        yield from map(Notice, notices)
        yield from recorder.write_book()

        def measure(index: int) -> Iterator[Event]:
            if after_chunk is not None:
                yield Working("measuring")
                after_chunk(index, state)

        yield from measure(len(recorder.chunks) - 1)
        with closing(write(self.task, self.model, backend, state, self.config)) as loop:
            for event in loop:
                if stop is not None and stop.is_set():
                    yield self.interrupted()
                    return
                for shown in recorder.record(event):
                    yield shown
                    if isinstance(shown, ChunkCommitted):
                        yield from measure(shown.index)
        if not self.session.manifest.measured_by:  # whoever measures says what comes of it
            yield from self.end()

    def end(self) -> Iterator[Event]:
        """What is left to be done when the goal is reached, such as writing a document; the final event."""
        return self.kind.end(self.session, self.chunks)

    def relearn(
        self, chunks: Sequence[Mapping[str, Any]], stop: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Put `chunks` (values of `chunk.json`) in the place of those of the session, and learn them.

        From the newest checkpoint before the first that differs; nothing is decoded. A stop before its end
        leaves the session as it was.
        """
        from templora_cli.engine.models.loading import out_of_memory_hint
        from templora_cli.sessions.history import first_change, relearn

        _use_threads(self.session.manifest)
        finish_replacing_steps(self.session.path)
        self._begin_afresh()
        self._is_fresh = False
        book = self.kind.book_file(self.session)
        backend = self.engine.backend(self.model, self.session.manifest.backend)
        first = first_change(self.chunks, chunks)
        with out_of_memory_hint(f"nothing was taken back; {LESS_MEMORY}"):
            learning = relearn(self.session, self.task, chunks, first, self.model, backend, self.config)
            with closing(learning) as events:
                for event in events:
                    if stop is not None and stop.is_set():
                        return
                    yield event
        refresh_summary(self.session.path, self.chunks, self.kind)
        if book is not None:
            book.replace(self.text)
            if notice := book.write():
                yield Notice(notice)

    def interrupted(self) -> Interrupted:
        """What is kept and how to go on, where the run was stopped."""
        chunks, recorder = len(committed_steps(self.session.steps)), self._recorder
        # A stop may come between the step and the recorder's knowing of it.
        dropped = recorder.tokens_in_progress if recorder and len(recorder.chunks) == chunks else 0
        return Interrupted(
            session=self.session.id,
            chunks=chunks,
            dropped_tokens=dropped,
            resume_command=self.session.resume_command,
        )

    def _begin_afresh(self) -> None:
        """Load the model anew where the one that is here has learnt something."""
        if not self._is_fresh:
            for holding in ("model", "task", "_recorder"):  # there is not always room for two
                vars(self).pop(holding, None)
            self._recorder = None
            self.model, self._is_fresh = _load(self.session, ignore_events, self.engine), True

    def _opened(self, recorder: Recorder) -> SessionOpened:
        """What the session is and how far it has come."""
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
            opening_tokens=self.kind.opening_tokens(self.session),
            done=recorder.done,
        )


def begin(
    request: Request,
    config: Config | Mapping[str, Any],
    *,
    notify: Notify = ignore_events,
    engine: Engine = ENGINE,
    resume_same: bool = False,
) -> Run:
    """Begin a session for what is asked for, or with `resume_same` go on with one that has begun just so.

    `config` is one for that kind of task (`config.settings`), or its values nested as in TOML.
    Raises TemploraError as `prepare` does.
    """
    prepared = prepare(request, config, notify=notify, engine=engine)
    return Run(prepared.create(resume_same=resume_same), prepared.model, engine)


def resume(
    reference: str | None = None,
    *,
    more: Length | None = None,
    notify: Notify = ignore_events,
    engine: Engine = ENGINE,
) -> Run:
    """Open the session with that id, or a unique beginning of one; None is the last.

    `more` is how much further a book is to be written than it has come, finished or not.
    Raises TemploraError: there is none, another process writes to it, it is finished, it has no length that
    could be changed, only the command that measures it can go on, its model is another one.
    """
    session = Store().open(reference)
    try:
        _require_open_end(session, engine.kind(session.manifest), more, notify)
        run = reopen(session, notify=notify, engine=engine)
        goal = {} if more is None else _goal_beyond(session, run.kind, *more)
        session.update(opened=now(), **goal)
        return run
    except BaseException:
        session.lock.release()
        raise


def reopen(session: Session, *, notify: Notify = ignore_events, engine: Engine = ENGINE) -> Run:
    """Load the model of an open session as it ran before, not as `auto` would choose today.

    Raises TemploraError where it is another one.
    """
    notify(Working(f"loading {session.manifest.model}"))
    _use_threads(session.manifest)
    return Run(session, _load(session, notify, engine), engine)


def _load(session: Session, notify: Notify, engine: Engine) -> LanguageModel:
    """The model of a session as it began. Raises TemploraError as `reopen` does."""
    manifest, config = session.manifest, original_config(session)
    folder = Path(manifest.folder)
    folder = folder if folder.is_dir() else find_model(config, notify)
    hint = f"nothing is lost: close other programs, then {session.resume_command}"
    sizes = manifest.longest_chunk, manifest.header_tokens
    model, _ = load_fitting(config, folder, *sizes, hint, notify, engine)
    _require_same_model(session, model, notify)
    return model


def original_config(session: Session) -> Config:
    """The settings of a session, with the model as it is held, and gradients checkpointed where they must be:
    they are the same ones.
    """
    manifest = session.manifest
    config = from_dict(manifest.config, str(session.path / "session.json"))
    held = replace(config.model, quantize=manifest.quantize, device=manifest.device)
    return replace(config, model=held, train=replace(config.train, gradient_checkpointing="auto"))


def _require_open_end(session: Session, kind: TaskKind, more: Length | None, notify: Notify) -> None:
    """Refuse what cannot go on as it is asked."""
    manifest, command = session.manifest, session.resume_command
    if manifest.measured_by:  # resumed here, its chunks would go by unmeasured
        raise TemploraError(f"{session.id} is measured while it is written", command)
    if more is not None and not kind.can_be_extended:
        raise TemploraError(f"{session.id} cannot be made longer", f"without a length: {command}")
    if more is None and kind.can_be_extended and _is_finished(session, kind):
        # A kill between the last commit and the end leaves summary and file of `--out` one chunk behind.
        refresh_summary(session.path, read_chunks(session.steps), kind)
        if (book := kind.book_file(session)) and (notice := book.write()):
            notify(Notice(notice))
        raise TemploraError(
            f"{session.id} is finished ({manifest.goal_amount} {manifest.goal_unit})",
            f"extend it: {command} --chunks 4",
        )


def _is_finished(session: Session, kind: TaskKind) -> bool:
    manifest = session.manifest
    try:
        return kind.done(read_chunks(session.steps), manifest.goal_unit) >= manifest.goal_amount
    except StepDamaged:
        return False  # restoring will say what is wrong, and go back to a good step


def _goal_beyond(session: Session, kind: TaskKind, amount: int, unit: str) -> dict[str, Any]:
    """The goal that lies `amount` beyond what the book holds, damaged steps too: they are written again."""
    if unit == "chunks":
        amount, unit = amount * int(session.manifest.config["decode"]["chunk_tokens"]), "tokens"
    return {"goal_amount": kind.done(readable_chunks(session.steps), unit) + amount, "goal_unit": unit}


def _use_threads(manifest: Manifest) -> None:
    """Sums in floating point depend on how many threads split them."""
    import torch

    if manifest.device == "cpu":
        torch.set_num_threads(manifest.threads)


def _require_same_model(session: Session, model: LanguageModel, notify: Notify) -> None:
    """Another model is refused; other libraries and hardware are said: sums may differ in the last bit."""
    manifest = session.manifest
    if model.fingerprint != manifest.fingerprint:
        raise TemploraError(
            f"{session.id} was begun with another {manifest.model} than the one in {manifest.folder}",
            "put the model back that it was begun with, or begin a new book: templora write --from",
        )
    from templora_cli.engine.decoding.runtime import runtime

    running = runtime(model, manifest.backend)
    began, today = manifest.versions, running["versions"]
    # One may be missing on either side: Triton counts only where it compiles.
    changed = [
        f"{name} {began.get(name, 'none')} -> {today.get(name, 'none')}"
        for name in dict.fromkeys([*began, *today])
        if began.get(name) != today.get(name)
    ]
    for fact in ("hardware", "dtype"):
        if running[fact] != (before := getattr(manifest, fact)):
            changed.append(f"{before} -> {running[fact]}")
    if changed:
        facts = ", ".join(changed)
        told = f"the book was begun with others ({facts}): it goes on, but not necessarily token for token"
        notify(Notice(told))
