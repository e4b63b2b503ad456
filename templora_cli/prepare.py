"""Prepare a session: load the model, check that it fits the machine, and choose the dependent settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templora_cli.config import MIN_CHUNK, Config, LearningConfig, with_learning_rates
from templora_cli.config_layers import settings
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Notice, Working
from templora_cli.prompt_files import load_prompts
from templora_cli.sessions.kind import TaskKind
from templora_cli.sessions.manifest import FORMAT, Manifest
from templora_cli.sessions.new import NewSession, Request
from templora_cli.sessions.store import Session, Store, now, sha256_of
from templora_cli.task_kinds import KINDS

if TYPE_CHECKING:
    from templora_cli.engine.decoding.protocols import Backend
    from templora_cli.engine.memory.machine import DeviceMemory
    from templora_cli.engine.memory.planner import Plan
    from templora_cli.engine.models.loading import LanguageModel
    from templora_cli.sessions.start import Start

Notify = Callable[[Event], None]
"""Receives the events before a run exists: notices, and the start of slow work."""


def ignore_events(event: Event) -> None:
    """Discard the event."""


def _load(folder: Path, config: Config) -> LanguageModel:
    from templora_cli.engine.models import loading

    return loading.load(folder, config.model, config.train, seed=config.seed)


def _backend(model: LanguageModel, name: str) -> Backend:
    from templora_cli.engine.decoding.choose import backend_for

    return backend_for(model, name)


def _device_memory(device: str) -> DeviceMemory:
    from templora_cli.engine.memory.machine import measure_device_memory

    return measure_device_memory(device)


@dataclass(frozen=True)
class Engine:
    """Model loading, decoding and memory measurement of a run; tests and experiments replace them."""

    load: Callable[[Path, Config], LanguageModel] = _load
    backend: Callable[[LanguageModel, str], Backend] = _backend
    device_memory: Callable[[str], DeviceMemory] = _device_memory
    """The memory of a device."""
    kinds: Mapping[str, TaskKind] = field(default_factory=lambda: KINDS)

    def kind(self, manifest: Manifest) -> TaskKind:
        """The kind of a session. Raises TemploraError if it is unknown or the manifest lacks its values."""
        if manifest.task not in self.kinds:
            raise TemploraError(
                f"session {manifest.id}: {manifest.task} is a kind of task that this version does not know",
                "pip install --upgrade templora",
            )
        kind = self.kinds[manifest.task]
        missing = [*(kind.request_keys - manifest.request.keys()), *(kind.prompts - manifest.prompts.keys())]
        if missing:
            raise TemploraError(
                f"session {manifest.id}: session.json lacks {', '.join(sorted(missing))} in its request",
                f"to save its text: templora sessions export {manifest.id}",
            )
        return kind


ENGINE = Engine()


@dataclass(frozen=True)
class Prepared:
    """A session that can begin: its model is loaded, and its settings are chosen."""

    new: NewSession
    folder: Path
    model: LanguageModel

    def manifest(self, name: str | None = None) -> Manifest:
        """The manifest of a session that begins now. `name` must be checked; None generates one.

        Raises TemploraError if the requested backend cannot run the model.
        """
        from templora_cli.engine.decoding.choose import backend_name
        from templora_cli.engine.decoding.runtime import runtime

        new, config = self.new, self.new.config
        backend = backend_name(self.model, config.decode.backend)
        return Manifest(
            format=FORMAT,
            id=Store().new_id(new.named_after) if name is None else name,
            task=new.kind,
            former_ids=[],
            parent=None,
            start=None,
            created=now(),
            opened=now(),
            model=config.model.name,
            folder=str(self.folder.absolute()),
            config=config.as_dict(),
            prompts={prompts.name: prompts.texts for prompts in new.prompts},
            request=dict(new.request),
            header_tokens=new.header_tokens,
            passing_tokens=new.passing_tokens,
            longest_chunk=new.longest_chunk,
            source_sha256=None if new.source is None else sha256_of(new.source),
            tokens_sha256="",  # filled in by the store
            goal_amount=new.goal[0],
            goal_unit=new.goal[1],
            take=0,
            out=None if new.out is None else str(new.out),
            measured_by=new.measured_by,
            backend=backend,
            **runtime(self.model, config.decode.backend),
        )

    def create(self, *, resume_same: bool, name: str | None = None, start: Start | None = None) -> Session:
        """Create the session; with `resume_same`, open an existing one with the same settings instead.

        Raises TemploraError as `manifest` does, if `name` is taken, and if it cannot begin with `start`.
        """
        store, manifest = Store(), self.manifest(name)
        if start is not None:
            start.require_same_model(manifest)
            manifest = replace(manifest, start=start.origin)
        for existing in store.manifests() if resume_same else ():
            if not isinstance(existing, TemploraError) and _has_same_result(existing, manifest):
                session = store.open(existing.id)
                location = {"model": manifest.model, "folder": manifest.folder}  # the model may have moved
                config = with_model(existing.config, manifest.model)
                try:
                    session.update(opened=now(), config=config, **location)
                except BaseException:
                    session.lock.release()
                    raise
                return session
        if name is not None:
            store.require_free(name)
        return store.create(
            manifest,
            opening=self.new.opening,
            source=self.new.source,
            suffix=self.new.suffix,
            files=self.new.files,
            add=start.copy_to if start else lambda folder: None,
        )


BOOK_FIELDS = (
    *("task", "request", "source_sha256", "goal_amount", "goal_unit", "config", "prompts", "start", "out"),
)
RUNTIME_FIELDS = ("fingerprint", "quantize", "device", "hardware", "backend", "versions", "threads")


def _has_same_result(one: Manifest, other: Manifest) -> bool:
    """Would both sessions produce exactly the same book and measurements?"""

    def compared(manifest: Manifest, name: str) -> Any:
        value = getattr(manifest, name)
        if name != "config":
            return value
        # Checkpointing does not change gradients. RUNTIME_FIELDS covers the model and its quantisation.
        return {**value, "model": None, "train": {**value["train"], "gradient_checkpointing": None}}

    return all(compared(one, name) == compared(other, name) for name in (*BOOK_FIELDS, *RUNTIME_FIELDS))


def _require_not_of_other(new: NewSession, name: str) -> None:
    """Raise TemploraError if a session of another book has the `name`, before a model is loaded.

    Whether a session of the same book has the same settings too is known only with the model.
    """
    store = Store()
    for existing in store.manifests():
        if (
            not isinstance(existing, TemploraError)
            and existing.id == name
            and _is_of_same_book(existing, new)
        ):
            return
    store.require_free(name)


def _is_of_same_book(manifest: Manifest, new: NewSession) -> bool:
    config = new.config.as_dict()
    source = None if new.source is None else sha256_of(new.source)
    return (
        (manifest.task, manifest.request, manifest.source_sha256) == (new.kind, dict(new.request), source)
        and (manifest.goal_amount, manifest.goal_unit) == new.goal
        and all(manifest.config.get(table) == config[table] for table in ("seed", "decode", "translation"))
    )


def with_model(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values of a configuration, with the model name replaced."""
    return {**config, "model": {**config["model"], "name": name}}


def find_model(config: Config, notify: Notify = ignore_events) -> Path:
    """The folder of the model that `config` names; downloads and converts it if needed.

    Raises TemploraError as `catalog.resolve` does.
    """
    from templora_cli.engine.models import catalog

    return catalog.resolve(config.model.name, lambda text: notify(Notice(text)))


def prepare(
    request: Request,
    config: Config | Mapping[str, Any],
    *,
    notify: Notify = ignore_events,
    engine: Engine = ENGINE,
    name: str | None = None,
) -> Prepared:
    """Load the model that `config` names and prepare the session of `request`; see `runner.begin`.

    Raises TemploraError if the session does not fit into memory or the model's window, or if another book
    has the `name`.
    """
    if not isinstance(config, Config):
        config = settings(config, request.kind)
    if request.kind not in engine.kinds:
        raise ValueError(f"{request.kind} is not a kind of task of this engine")
    for prompts in engine.kinds[request.kind].prompts:
        load_prompts(prompts, config.prompts)  # reports mistakes before a model is downloaded
    notify(Working(f"loading {config.model.name}"))
    from templora_cli.engine.models.loading import load_tokenizer
    from templora_cli.engine.models.shape import most_tokens
    from templora_cli.engine.models.support import read_config, require_support

    folder = find_model(config, notify)
    require_support(read_config(folder), config.model.name)
    new = request.new_session(load_tokenizer(folder), config)
    if name is not None:
        _require_not_of_other(new, name)
    require_window(most_tokens(folder), new)
    model, config = load_fitting(
        new.config,
        folder,
        chunk=new.longest_chunk,
        header=new.header_tokens,
        passing=new.passing_tokens,
        hint=new.hint,
        notify=notify,
        engine=engine,
    )
    new = replace(new, config=config)
    for notice in new.notices:
        notify(Notice(notice))
    return Prepared(new, folder, model)


def load_fitting(
    config: Config,
    folder: Path,
    *,
    chunk: int,
    header: int,
    passing: int,
    hint: str | None,
    notify: Notify,
    engine: Engine,
) -> tuple[LanguageModel, Config]:
    """The model, and the settings with the values that depend on model and memory filled in.

    `chunk`, `header` and `passing` (the part of the header that training does not see) are numbers of
    tokens. Raises TemploraError if the book does not fit into memory; `hint` replaces the advice on settings.
    """
    from templora_cli.engine.memory.planner import plan_or_refuse
    from templora_cli.engine.models.shape import shape_of

    device_memory = engine.device_memory(config.model.device)
    shape = shape_of(folder, config.model.name)
    plan = plan_or_refuse(
        shape, config, device_memory, header=header, passing=passing, chunk=chunk, hint=hint
    )
    _report_plan(plan, notify)
    model = engine.load(folder, plan.config)
    _compile_kernels(plan.backend, notify)
    return model, with_learning_rates(plan.config, model.parameters, model.model_type)


def _report_plan(plan: Plan, notify: Notify) -> None:
    from templora_cli.engine.memory.planner import gigabytes

    for note in plan.notes:
        notify(Notice(note))
    if plan.is_tight:
        needed, available = gigabytes(plan.peak), gigabytes(plan.available)
        notify(
            Notice(f"memory is tight: about {needed} of {available} available; for details: templora doctor")
        )
        notify(Working(f"loading {plan.config.model.name}"))


def _compile_kernels(backend: str, notify: Notify) -> None:
    """Compile the kernels of a backend, if this machine does not have them yet."""
    from templora_cli.engine.decoding.backends import backend_kind_named

    if compile_kernels := backend_kind_named(backend).preparation():
        notify(Working("compiling for this CPU (once, about 30 seconds)"))
        compile_kernels()


def require_window(max_tokens: int | None, new: NewSession) -> None:
    """Raise TemploraError if a session needs more than the `max_tokens` of its model's window.

    The error names the part that is too long, the excess and a remedy.
    """
    from templora_cli.engine.training.objectives import OBJECTIVES

    config = new.config
    contexts = {new.window_flag: config.decode.context_tokens}
    for table in ("human", "generated") if config.train.learn else ():
        learning: LearningConfig = getattr(config, table)
        extra = OBJECTIVES[learning.objective].extra_context_tokens(learning)
        contexts[f"--set {table}.teacher_context_tokens="] = extra
    for flag, context in contexts.items():
        if max_tokens is not None and new.header_tokens + context + new.max_seen_tokens > max_tokens:
            raise _too_long(new, max_tokens, flag, context)


def _too_long(new: NewSession, max_tokens: int, flag: str, context: int) -> TemploraError:
    """The error for a header, context and chunk that together are longer than `max_tokens`."""
    header, chunk = new.header_tokens, new.max_seen_tokens
    excess = header + context + chunk - max_tokens
    smaller = _less(new, max_tokens - header, flag, context)
    part = max(new.header_parts, key=lambda part: part.tokens, default=None)
    if part is not None and part.tokens > max(context, chunk):
        words = part.words * (part.tokens - excess) // part.tokens
        shorter = f"shorten it to about {words} words" if words > 0 else "shorten it"
        return TemploraError(
            f"{part.name} has {part.tokens:,} tokens, {excess:,} too many: of the {max_tokens:,} that this "
            f"model reads, the chunk takes {chunk:,}, the window {context:,} and the rest of the prompt "
            f"{header - part.tokens:,}",
            new.window_hint or _alternatives(shorter, part.alternative, smaller),
        )
    names = " and ".join(part.name.removeprefix("the ") for part in new.header_parts) or "header"
    return TemploraError(
        f"this model reads at most {max_tokens} tokens; {names} {header} + context {context} + "
        f"chunk {chunk} make {header + context + chunk}",
        new.window_hint or smaller or _alternatives(),
    )


def _less(new: NewSession, max_tokens: int, flag: str, context: int) -> str | None:
    """Flags with which window and chunk fit into `max_tokens`, without recall where little room is left."""
    decode, chunk = new.config.decode, new.max_seen_tokens
    freed = min(decode.recall_tokens, new.passing_tokens) if decode.recall else 0
    if not freed or max_tokens >= 2 * chunk:
        return _smaller(new, max_tokens, flag, context)
    if context + chunk <= max_tokens + freed:
        return "--no-recall"
    smaller = _smaller(new, max_tokens + freed, flag, context)
    return None if smaller is None else f"--no-recall {smaller}"


def _smaller(new: NewSession, max_tokens: int, flag: str, context: int) -> str | None:
    """Flags for a smaller window or chunk, whichever is larger, that fit into `max_tokens`, or for both.

    None if nothing fits.
    """
    chunk, size = new.max_seen_tokens, new.config.decode.chunk_tokens
    window = max_tokens - chunk
    rest = (max_tokens - context) * size // chunk  # some kinds read more than a chunk
    if context >= chunk and window >= chunk:
        return f"{flag}{window}"
    if context < chunk and rest >= MIN_CHUNK:
        return f"--chunk-tokens {rest}"
    share = max(0, max_tokens) / (context + chunk)
    both = int(share * size), int(share * context)
    return f"--chunk-tokens {both[0]} {flag}{both[1]}" if both[0] >= MIN_CHUNK else None


def _alternatives(*remedies: str | None) -> str:
    return ", or ".join(filter(None, (*remedies, "choose a --model with a larger window")))
