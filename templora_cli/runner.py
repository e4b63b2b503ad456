"""Driving the loop: what `write` and `resume` have in common once there is a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from templora_cli.commands.terminal import raise_interrupt
from templora_cli.config import MOST_TOKENS, Config, for_size, from_dict
from templora_cli.errors import TemploraError, of_os_error
from templora_cli.events import ChunkCommitted, Event, Finished, Interrupted, Notice, SessionOpened, Unit
from templora_cli.render import View

if TYPE_CHECKING:
    import torch

    from templora_cli.engine.models.loading import LanguageModel
    from templora_cli.prompt_files import PromptFile
    from templora_cli.sessions.manifest import Manifest
    from templora_cli.sessions.recorder import Recorder
    from templora_cli.sessions.store import Session
    from templora_cli.state import WritingState
    from templora_cli.translation.glossary import Glossary
    from templora_cli.translation.languages import Language
    from templora_cli.translation.task import TranslationTask
    from templora_cli.turn import Task

LESS_MEMORY = (
    "close other programs and resume, or begin a book with a smaller --chunk-tokens or --context-tokens, "
    "--quantize nf4, or a smaller --model"
)


def load_model(
    config: Config,
    view: View,
    folder: Path | None = None,
    *,
    chunk: int | None = None,
    hint: str | None = None,
) -> tuple[Config, Path, LanguageModel]:
    """Load the model that `config` names, from `folder` where it is known.

    Returns the settings too, with those that hang on model and memory chosen, and the folder. `chunk` is
    the longest one in tokens, where it is not `chunk_tokens`. Raises TemploraError where it cannot fit,
    with `hint` where the settings are not to be changed any more.
    """
    with view.status(f"loading {config.model.name}"):
        from templora_cli.engine.memory.machine import room_on
        from templora_cli.engine.memory.planner import gigabytes, settle
        from templora_cli.engine.models import loading
        from templora_cli.engine.models.shape import shape_of

        folder = folder or find_model(config, view)
        plan = settle(shape_of(folder), config, room_on(config.model.device), chunk=chunk, hint=hint)
        if plan.is_tight:
            taken, there = gigabytes(plan.peak), gigabytes(plan.available)
            tight = f"memory is tight: about {taken} of the {there} that are there; templora doctor has more"
            view.show(Notice(tight))
        model = loading.load(folder, plan.config.model, plan.config.train, seed=config.seed)
    if plan.backend == "int8":
        from templora_cli.engine.kernels import numba_kernels

        if not numba_kernels.is_kept():
            with view.status("compiling for this CPU, once: half a minute"):
                numba_kernels.prepare()
    return for_size(plan.config, model.parameters), folder, model


def find_model(config: Config, view: View) -> Path:
    """The folder of the model that `config` names, after getting it where that must be.

    Raises TemploraError as `catalog.resolve` does.
    """
    from templora_cli.engine.models import catalog

    return catalog.resolve(config.model.name, lambda text: view.show(Notice(text)))


def require_window(model: LanguageModel, config: Config, header: int, chunk: int | None = None) -> None:
    """Refuse a window that the model was not made for; `chunk` is the longest one, in tokens."""
    distilling = [how for how in (config.given, config.own) if how.objective == "distill"]
    chunk = config.decode.chunk_tokens if chunk is None else chunk
    for how in distilling if config.train.learn else []:
        require_positions(model, header, how.teacher_context_tokens, chunk, "teacher_context_tokens =")
    require_positions(model, header, config.decode.context_tokens, chunk, "--context-tokens")


def require_positions(model: LanguageModel, header: int, context: int, chunk: int, setting: str) -> None:
    """Refuse more tokens at once than the model was made for; `setting` is what shortens `context`."""
    need = header + context + chunk
    if model.max_positions is not None and need > model.max_positions:
        raise TemploraError(
            f"this model reads at most {model.max_positions} tokens; header {header} + context {context} + "
            f"chunk {chunk} make {need}",
            f"{setting} {max(0, model.max_positions - header - chunk)}",
        )


@dataclass(frozen=True)
class NewSession:
    """A session as it would begin."""

    manifest: Manifest
    header: tuple[int, ...]
    opening: tuple[int, ...]
    source: str | bytes | None
    suffix: str = ".txt"
    """Of the copy of the source."""

    def create(self) -> Session:
        """Begin it."""
        from templora_cli.sessions.store import Store

        tokens = {"header": self.header, "opening": self.opening}
        return Store().create(self.manifest, **tokens, source=self.source, suffix=self.suffix)

    def go_on(self) -> Session:
        """The session that has begun with just these settings, to be gone on with, or a new one."""
        from templora_cli.sessions.store import Store, now

        for begun in Store().manifests():
            if not isinstance(begun, TemploraError) and self._is_that_of(begun):
                session = Store().open(begun.id)
                session.update(opened=now())
                return session
        return self.create()

    def _is_that_of(self, begun: Manifest) -> bool:
        """Would both end with the same figures?"""
        book = (
            "task",
            "premise",
            "request",
            "source_sha256",
            "goal_amount",
            "goal_unit",
            "config",
            "prompts",
            "out",
        )
        run = ("fingerprint", "quantize", "device", "hardware", "backend", "versions", "threads")
        return all(_figures_by(begun, name) == _figures_by(self.manifest, name) for name in (*book, *run))


def _figures_by(manifest: Manifest, name: str) -> Any:
    """A field of the manifest, as far as figures hang on it: checkpointed gradients are the same ones."""
    value = getattr(manifest, name)
    if name != "config":
        return value
    return {**value, "train": {**value["train"], "gradient_checkpointing": None}}


def new_manifest(
    task: str,
    config: Config,
    model: LanguageModel,
    folder: Path,
    *,
    named_after: str,
    goal: tuple[int, str],
    source: str | bytes | None,
    prompts: PromptFile | None = None,
    premise: str = "",
    request: dict[str, Any] | None = None,
    out: Path | None = None,
) -> Manifest:
    """The manifest of a session that begins now; its id is made of words of `named_after`.

    Raises TemploraError where the backend that is asked for cannot run the model.
    """
    from templora_cli.engine.decoding.choose import backend_name
    from templora_cli.sessions.manifest import FORMAT, Manifest
    from templora_cli.sessions.store import Store, now, sha256_of

    return Manifest(
        format=FORMAT,
        id=Store().new_id(named_after),
        task=task,
        created=now(),
        opened=now(),
        model=config.model.name,
        folder=str(folder.absolute()),
        config=config.as_dict(),
        prompts={} if prompts is None else {prompts.name: prompts.sha256},
        premise=premise,
        request=request or {},
        source_sha256=None if source is None else sha256_of(source),
        tokens_sha256="",  # filled in by the store
        goal_amount=goal[0],
        goal_unit=goal[1],
        out=None if out is None else str(out),
        backend=backend_name(model, config.decode.backend),
        **runtime(model),
    )


def write_session(session: Session, model: LanguageModel, view: View) -> None:
    """Write the session's book to its goal and say so."""
    run_session(session, model, view, at_end=_finished)


def run_session(
    session: Session,
    model: LanguageModel,
    view: View,
    *,
    at_end: Callable[[Session, Recorder], Event] | None = None,
    after_chunk: Callable[[int, WritingState], None] | None = None,
    task: Task | None = None,
) -> None:
    """Bring the session to its goal, from its newest good step. Ctrl-C exits with 130.

    `after_chunk` is called with the index of each committed chunk and the state after it, also with
    that of the step that is gone on from (-1 without one): a kill may have come between. `task` is for
    sessions whose own files do not say what to do.
    """

    def measure(index: int) -> None:
        if after_chunk is not None:
            with view.status("measuring"):
                after_chunk(index, state)

    from templora_cli.engine.decoding.choose import backend_for
    from templora_cli.engine.models.loading import out_of_memory_hint
    from templora_cli.sessions.checkpoint import restore_latest
    from templora_cli.sessions.recorder import Recorder
    from templora_cli.state import WritingState
    from templora_cli.temp_lora import write

    config = from_dict(session.manifest.config, str(session.path / "session.json"))
    state = WritingState.begin(model, config)
    notices = restore_latest(session.steps, state)
    recorder = Recorder(session, state)
    backend = backend_for(model, session.manifest.backend)
    backend.adapter_changed()
    if not backend.exact:
        notices.append("this backend is not exact: a resumed book may differ from one that was not stopped")
    advice = f"what is written is safe in session {session.id}; {LESS_MEMORY}"
    with interruptible(session, recorder, view), out_of_memory_hint(advice):
        view.show(opened_event(session, config, recorder))
        for notice in [*notices, recorder.book.write()]:
            if notice is not None:
                view.show(Notice(notice))
        measure(recorder.chunks - 1)
        task = task or _task(session, model, config)
        with closing(write(task, model, backend, state, config)) as events:
            for event in events:
                raise_interrupt()
                for shown in recorder.record(event):
                    view.show(shown)
                    if isinstance(shown, ChunkCommitted):
                        measure(shown.index)
        if at_end is not None:
            view.show(at_end(session, recorder))


def _task(session: Session, model: LanguageModel, config: Config) -> Task:
    from templora_cli.novel.task import Goal, NovelTask
    from templora_cli.prompt import fixed
    from templora_cli.reading import ReadingTask

    manifest = session.manifest
    if manifest.task == "translation":
        return translation_task(session, model, config)
    header, opening = session.tokens()
    prompt, size = fixed(header, config.decode.context_tokens), config.decode.chunk_tokens
    if manifest.task in ("ppl", "costs"):
        return ReadingTask(prompt, opening, size, model.tokenizer)
    goal = Goal(manifest.goal_amount, "tokens" if manifest.goal_unit == "tokens" else "words")
    return NovelTask(prompt, opening, goal, size, model.tokenizer)


def translation_task(session: Session, model: LanguageModel, config: Config) -> TranslationTask:
    """What a session of `templora translate` does, from its own files."""
    from templora_cli.translation.session import TranslatedBook

    book = TranslatedBook(session.path, session.manifest)
    prompts = session.manifest.request["prompts"]
    task = book_task(model, config, prompts, book.languages, book.paragraphs, book.glossary)
    return replace(task, numbers=book.document.numbers)


def book_task(
    model: LanguageModel,
    config: Config,
    prompts: dict[str, dict[str, str]],
    languages: tuple[Language, Language],
    paragraphs: Sequence[tuple[int, str]],
    glossary: Glossary,
) -> TranslationTask:
    """The translation of `paragraphs`, each with its place in the document, with the texts of `prompts`."""
    from templora_cli.prompt_files import PromptFile
    from templora_cli.translation.pairs import pair_format
    from templora_cli.translation.task import TranslationTask

    form = pair_format(model.tokenizer, PromptFile("translation", prompts, ""), *languages)
    stops = frozenset(model.banned_tokens)
    return TranslationTask(form, paragraphs, glossary, config.decode, config.translation, stops)


def opened_event(session: Session, config: Config, recorder: Recorder) -> SessionOpened:
    """What the session is and how far it has come."""
    manifest = session.manifest
    return SessionOpened(
        session=session.id,
        path=str(session.path),
        resume_command=session.resume_command,
        model=manifest.model,
        quantize=manifest.quantize,
        device=manifest.device,
        dtype=manifest.dtype,
        recipe=config.train.recipe,
        learn=config.train.learn,
        chunk_tokens=config.decode.chunk_tokens,
        context_tokens=config.decode.context_tokens,
        goal=manifest.goal_amount,
        unit=cast("Unit", manifest.goal_unit),
        chunks=recorder.chunks,
        tokens=len(recorder.state.tokens),
        opening_tokens=len(session.tokens()[1]) if manifest.task == "novel" else 0,
        done=recorder.done,
    )


class interruptible:
    """Ctrl-C inside it: say what is kept and how to go on, exit with 130.

    An error of a file or stream, such as a full disk under `> book.txt`, becomes a TemploraError.
    """

    def __init__(self, session: Session, recorder: Recorder, view: View) -> None:
        self.session, self.recorder, self.view = session, recorder, view

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            kept = f"All committed chunks are safe ({self.recorder.chunks:,})"
            hint = f"put that right, then: {self.session.resume_command}"
            raise of_os_error(error, kept=kept, hint=hint) from error
        if kind is None or not issubclass(kind, (KeyboardInterrupt, BrokenPipeError)):
            return
        event = Interrupted(
            session=self.session.id,
            chunks=self.recorder.chunks,
            dropped_tokens=self.recorder.tokens_in_progress,
            resume_command=self.session.resume_command,
        )
        with suppress(BrokenPipeError):
            self.view.show(event)
        raise typer.Exit(130 if issubclass(kind, KeyboardInterrupt) else 1)


def _finished(session: Session, recorder: Recorder) -> Finished:
    from templora_cli.text import count_words

    unit = session.manifest.goal_unit
    more = {"tokens": "--chunks 4", "words": "--words 1000"}[unit]
    return Finished(
        session=session.id,
        chunks=recorder.chunks,
        tokens=len(recorder.state.tokens),
        words=count_words(recorder.book.text),
        resume_command=f"{session.resume_command} {more}",
        out=session.manifest.out,
    )


def runtime(model: LanguageModel) -> dict[str, Any]:
    """The fields of a manifest that say on what a session runs."""
    from importlib.metadata import version

    import torch

    from templora_cli.engine.kernels.nf4 import has_kernels

    names = ("torch", "transformers", "peft", "bitsandbytes", "numba", "llvmlite")
    versions = {name: version(name) for name in names}
    if model.device.type == "cuda" and has_kernels(model.device):
        import triton

        versions["triton"] = triton.__version__
    return {
        "fingerprint": model.fingerprint,
        "quantize": model.quantize,
        "device": model.device.type,
        "hardware": _hardware(model.device),
        "dtype": model.dtype,
        "threads": torch.get_num_threads(),
        "versions": versions,
    }


def _hardware(device: torch.device) -> str:
    """What decides in which order sums are made."""
    import platform

    import torch
    from llvmlite.binding import get_host_cpu_name

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # What torch and numba compile for.
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {get_host_cpu_name()}"


def goal_of(
    words: int | None, tokens: int | None, chunks: int | None, chunk_tokens: int
) -> tuple[int, str] | None:
    """The length asked for as (amount, unit), None where no flag was given; chunks count as tokens.

    Raises TemploraError for two lengths at once and for one below 1.
    """
    given = {"--words": words, "--tokens": tokens, "--chunks": chunks}
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) > 1:
        raise TemploraError(f"{' and '.join(chosen)} are two lengths", "give one of them")
    for name, value in chosen.items():
        if not 1 <= value <= MOST_TOKENS * MOST_TOKENS:
            raise TemploraError(f"{name} {value}: must be at least 1, and not absurd", f"{name} 1000")
    if words is not None:
        return words, "words"
    if tokens is not None:
        return tokens, "tokens"
    return None if chunks is None else (chunks * chunk_tokens, "tokens")


def check_out(path: Path) -> Path:
    """The absolute path for `--out`. Raises TemploraError where a book cannot be written there."""
    from templora_cli.documents.registry import check_book_suffix

    check_book_suffix(path)
    return check_writable(path)


def check_writable(path: Path) -> Path:
    """The absolute path. Raises TemploraError where no file can be written there, or one is there."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise TemploraError(f"there is no folder {folder}", f"mkdir -p {path.parent}")
    try:
        there = path.exists()
        # Under the name that a book is written first, which is longer than its own.
        trial = path.with_name(f".{path.name}.tmp")
        trial.touch()
        trial.unlink()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TemploraError(f"{path} cannot be written: {reason}", "choose another --out") from None
    if there:
        raise TemploraError(
            f"{path} is there already, and templora does not overwrite it", "choose another --out"
        )
    return path.absolute()
