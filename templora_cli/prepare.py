"""Before a session begins: the model, whether it fits the machine, and the settings that hang on that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from templora_cli.config import Config, LearningConfig, settings, with_learning_rates
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Notice, Working
from templora_cli.sessions.kind import TaskKind
from templora_cli.sessions.manifest import FORMAT, Manifest
from templora_cli.sessions.new import NewSession, Request
from templora_cli.sessions.store import Session, Store, now, sha256_of
from templora_cli.task_kinds import KINDS

if TYPE_CHECKING:
    from templora_cli.engine.decoding.protocols import Backend
    from templora_cli.engine.memory.machine import DeviceMemory
    from templora_cli.engine.models.loading import LanguageModel

Notify = Callable[[Event], None]
"""Takes what happens before there is a run: notices, and what is slow."""


def ignore_events(event: Event) -> None:
    """Nobody is told."""


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
    """What runs compute with; tests and experiments put something else in its place."""

    load: Callable[[Path, Config], LanguageModel] = _load
    backend: Callable[[LanguageModel, str], Backend] = _backend
    device_memory: Callable[[str], DeviceMemory] = _device_memory
    """The memory that there is on a device."""
    kinds: Mapping[str, TaskKind] = field(default_factory=lambda: KINDS)

    def kind(self, manifest: Manifest) -> TaskKind:
        """That of a session. Raises TemploraError where there is none of that name."""
        if manifest.task not in self.kinds:
            raise TemploraError(
                f"session {manifest.id}: {manifest.task} is a kind of task that this templora does not know",
                "pip install --upgrade templora",
            )
        kind = self.kinds[manifest.task]
        lacking = [*(kind.asked - manifest.request.keys()), *(kind.prompts - manifest.prompts.keys())]
        if lacking:
            raise TemploraError(
                f"session {manifest.id}: session.json lacks {', '.join(sorted(lacking))} of its request",
                f"its text is still there: templora sessions export {manifest.id}",
            )
        return kind


ENGINE = Engine()


@dataclass(frozen=True)
class Prepared:
    """A session that can begin: its model is loaded, and its settings are chosen."""

    new: NewSession
    folder: Path
    model: LanguageModel

    def manifest(self) -> Manifest:
        """Of the session that begins now.

        Raises TemploraError where the backend that is asked for cannot run the model.
        """
        from templora_cli.engine.decoding.choose import backend_name
        from templora_cli.engine.decoding.runtime import runtime

        new, config = self.new, self.new.config
        return Manifest(
            format=FORMAT,
            id=Store().new_id(new.named_after),
            task=new.kind,
            parent=None,
            created=now(),
            opened=now(),
            model=config.model.name,
            folder=str(self.folder.absolute()),
            config=config.as_dict(),
            prompts={prompts.name: prompts.texts for prompts in new.prompts},
            request=dict(new.request),
            header_tokens=new.header_tokens,
            longest_chunk=new.longest_chunk,
            source_sha256=None if new.source is None else sha256_of(new.source),
            tokens_sha256="",  # filled in by the store
            goal_amount=new.goal[0],
            goal_unit=new.goal[1],
            take=0,
            out=None if new.out is None else str(new.out),
            measured_by=new.measured_by,
            backend=backend_name(self.model, config.decode.backend),
            **runtime(self.model, config.decode.backend),
        )

    def create(self, *, resume_same: bool) -> Session:
        """Begin the session; with `resume_same` one that has begun with just these settings goes on."""
        store, manifest = Store(), self.manifest()
        for begun in store.manifests() if resume_same else ():
            if not isinstance(begun, TemploraError) and _is_the_same(begun, manifest):
                session = store.open(begun.id)
                try:
                    session.update(opened=now())
                except BaseException:
                    session.lock.release()
                    raise
                return session
        return store.create(
            manifest, opening=self.new.opening, source=self.new.source, suffix=self.new.suffix
        )


BOOK = ("task", "request", "source_sha256", "goal_amount", "goal_unit", "config", "prompts", "out")
COMPUTED_WITH = ("fingerprint", "quantize", "device", "hardware", "backend", "versions", "threads")


def _is_the_same(one: Manifest, other: Manifest) -> bool:
    """Would both end with the same figures?"""

    def figures(manifest: Manifest, name: str) -> Any:
        value = getattr(manifest, name)
        if name != "config":
            return value
        # Checkpointed gradients are the same ones.
        return {**value, "train": {**value["train"], "gradient_checkpointing": None}}

    return all(figures(one, name) == figures(other, name) for name in (*BOOK, *COMPUTED_WITH))


def find_model(config: Config, notify: Notify = ignore_events) -> Path:
    """The folder of the model that `config` names, after getting it where that must be.

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
) -> Prepared:
    """Load the model that `config` names for what is asked for; see `runner.begin`.

    Raises TemploraError where it cannot fit into memory or the model's window.
    """
    if not isinstance(config, Config):
        config = settings(config, request.kind)
    notify(Working(f"loading {config.model.name}"))
    from templora_cli.engine.models.loading import load_tokenizer
    from templora_cli.engine.models.support import read_config, require_support

    folder = find_model(config, notify)
    require_support(read_config(folder), config.model.name)
    new = request.new_session(load_tokenizer(folder), config)
    if new.kind not in engine.kinds:
        raise ValueError(f"{new.kind} is no kind of task that this engine knows")
    model, config = load_fitting(
        new.config, folder, new.longest_chunk, new.header_tokens, new.hint, notify, engine
    )
    new = replace(new, config=config)
    require_window(model, new)
    for notice in new.notices:
        notify(Notice(notice))
    return Prepared(new, folder, model)


def load_fitting(
    config: Config,
    folder: Path,
    chunk: int,
    header: int,
    hint: str | None,
    notify: Notify,
    engine: Engine,
) -> tuple[LanguageModel, Config]:
    """The model, and the settings with those that hang on model and memory chosen."""
    from templora_cli.engine.decoding.backends import backend_row
    from templora_cli.engine.memory.planner import gigabytes, plan_or_refuse
    from templora_cli.engine.models.shape import shape_of

    device_memory = engine.device_memory(config.model.device)
    shape = shape_of(folder, config.model.name)
    plan = plan_or_refuse(shape, config, device_memory, header=header, chunk=chunk, hint=hint)
    for note in plan.notes:
        notify(Notice(note))
    if plan.is_tight:
        taken, there = gigabytes(plan.peak), gigabytes(plan.available)
        told = f"memory is tight: about {taken} of the {there} that are there; templora doctor has more"
        notify(Notice(told))
        notify(Working(f"loading {config.model.name}"))
    model = engine.load(folder, plan.config)
    if compiling := backend_row(plan.backend).preparation():
        notify(Working("compiling for this CPU, once: half a minute"))
        compiling()
    return model, with_learning_rates(plan.config, model.parameters)


def require_window(model: LanguageModel, new: NewSession) -> None:
    """Refuse a window that the model was not made for."""
    from templora_cli.engine.training.objectives import OBJECTIVES

    config, most = new.config, model.max_positions
    recipes: tuple[LearningConfig, ...] = (config.human, config.generated) if config.train.learn else ()
    reads = (OBJECTIVES[how.objective].reads(how) for how in recipes)
    contexts = [(most_read, "teacher_context_tokens =") for most_read in reads if most_read]
    for context, setting in [*contexts, (config.decode.context_tokens, "--context-tokens")]:
        need = new.header_tokens + context + new.longest_seen
        if most is not None and need > most:
            raise TemploraError(
                f"this model reads at most {most} tokens; header {new.header_tokens} + context {context} + "
                f"chunk {new.longest_seen} make {need}",
                new.window_hint or f"{setting} {max(0, most - new.header_tokens - new.longest_seen)}",
            )
