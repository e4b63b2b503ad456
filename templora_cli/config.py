"""Every setting, with its default, its meaning and its range, in one place.

A configuration is built from layers, later ones winning: the defaults, the user's config file,
`templora.toml` of the working folder, the flags of the command line. All mistakes of all layers are
reported together, each with the place where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_type_hints

from templora_cli.errors import TemploraError

MAX_TOKENS = 1 << 24
"""Larger than any window; keeps figures that are typing errors out of the machine's integers."""

MEASURED_PARAMETERS, MEASURED_LR = 1.35e8, {"adamw": 5e-4, "muon": 2e-3}
"""Parameters of SmolLM2-135M, and rates that suit it for given text in one pass (docs/quality.md)."""
PAPER_PARAMETERS, PAPER_LR = 7e9, {"adamw": 5e-5, "muon": 2.5e-4}
"""Parameters and rate of the paper's Llama-2 (section 4.1), for Muon the rate that makes steps as large."""
GENERATED_LR_SHARE = 0.04
"""Of the rate for given text, which suits text of the model's own. Measured with AdamW at 0.135 billion
parameters (docs/quality.md) and assumed elsewhere.
"""

RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    # The published settings (arXiv 2401.11504, section 4.1 and scripts/ of the authors' code).
    # Their scheduler gives the first chunk a rate of 0; here the warm-up is explicit:
    # chunk i of `warmup_chunks` gets lr * (i + 1) / warmup_chunks.
    "paper": {
        "decode": {"chunk_tokens": 1024},
        "train": {"rank": 64, "alpha": 64, "dropout": 0.05, "warmup_chunks": 2, "optimizer": "adamw"},
        "human": {"objective": "nll", "lr": 5e-5, "epochs": 2, "context_tokens": 2048, "window_tokens": 0},
        "generated": {
            "objective": "nll",
            "lr": 5e-5,
            "epochs": 2,
            "context_tokens": 2048,
            "window_tokens": 0,
        },
        "gate": {"enabled": False},
    },
    # The defaults of the dataclasses below; docs/quality.md has what they were chosen by.
    "default": {},
}


OPTIMIZERS = ("adamw", "muon")


def option(
    default: Any,
    help: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A dataclass field whose meaning and range travel with it, into `--help` and into the checks."""
    limits = {"at_least": at_least, "at_most": at_most, "above": above, "choices": choices}
    return field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True)
class ModelConfig:
    """`[model]`: which base model, and how it is held in memory."""

    name: str = option("smollm2-135m", "Alias, Hugging Face id, local folder or .gguf file")
    quantize: str = option(
        "auto",
        "How the base is held: nf4 (4-bit), int8 (8-bit), none (full precision) or auto (nf4 on a GPU, "
        "none on a CPU)",
        choices=("auto", "nf4", "int8", "none"),
    )
    device: str = option(
        "auto",
        "Where it runs: cpu, cuda or auto (a CUDA GPU where there is one)",
        choices=("auto", "cpu", "cuda"),
    )


@dataclass(frozen=True)
class DecodeConfig:
    """`[decode]`: the chunk, the window, and how a token is drawn."""

    chunk_tokens: int = option(
        1024, "Tokens in a chunk, the unit that is learnt", at_least=8, at_most=MAX_TOKENS
    )
    context_tokens: int = option(
        2048,
        "Tokens of the book that the model sees while it writes a chunk",
        at_least=0,
        at_most=MAX_TOKENS,
    )
    temperature: float = option(
        0.8, "How freely tokens are drawn; below 0.01 the likeliest is taken", at_least=0, at_most=10
    )
    top_p: float = option(
        0.95, "Draw from the likeliest tokens that hold this share of probability", above=0, at_most=1
    )
    min_p: float = option(
        0.0,
        "Leave out tokens below this share of the likeliest one's probability; 0 is off",
        at_least=0,
        at_most=1,
    )
    top_k: int = option(
        0, "Draw from this many of the likeliest tokens; 0 is off", at_least=0, at_most=MAX_TOKENS
    )
    repetition_penalty: float = option(
        1.1, "Above 1 makes tokens less likely that are in the window; 1 is off", at_least=0.1, at_most=10
    )
    backend: str = option(
        "auto",
        "How tokens come out: int8 (from an 8-bit copy, on a CPU), graph (captured, on a GPU), "
        "eager (from the model itself) or auto",
        choices=("auto", "int8", "graph", "eager"),
    )


@dataclass(frozen=True)
class TrainConfig:
    """`[train]`: the temporary LoRA and how it learns a chunk (paper, sections 3.2 and 4.1)."""

    recipe: str = option(
        "default", "How the adapter learns: default or paper (the published settings)", choices=tuple(RECIPES)
    )
    learn: bool = option(True, "Off writes with the plain base model")
    rank: int = option(64, "Rank of the adapter", at_least=1, at_most=4096)
    alpha: int = option(
        64, "Scale of the adapter: its output is multiplied by alpha / rank", at_least=1, at_most=65536
    )
    dropout: float = option(0.0, "Dropout before the adapter, in training", at_least=0, at_most=0.99)
    warmup_chunks: int = option(2, "Chunks over which the rate grows to its value", at_least=0)
    optimizer: str = option("adamw", "What turns gradients into steps: adamw or muon", choices=OPTIMIZERS)
    weight_decay: float = option(0.0, "Weight decay, decoupled from the gradients", at_least=0, at_most=1)
    gradient_checkpointing: str = option(
        "auto",
        "Recompute activations in the backward pass, a third more time and a fraction of the memory: on, off "
        "or auto (on where the memory demands it)",
        choices=("auto", "on", "off"),
    )


@dataclass(frozen=True)
class GateConfig:
    """`[gate]`: which chunks of the model's own are too bad to learn from. Text of a person passes.

    A chunk that fails is written again, with other draws. If all fail the last stays in the book, marked, and
    is not learnt: one learnt loop makes the next likelier (arXiv 2404.02305).
    """

    enabled: bool = option(True, "Off learns from whatever comes out")
    # Chunks of people's books: 99 % are below 0.09, the most is 0.28, a refrain (docs/quality.md).
    repetition: float = option(
        0.3, "Share of a chunk's 4-grams that stood earlier in it, above which it loops", above=0, at_most=1
    )
    nll_range: float = option(
        1.0,
        "How far a chunk's NLL under the base may lie from the median of those before it, nats/token",
        above=0,
        at_most=100,
    )
    candidates: int = option(
        2, "How often a chunk is written at most until it passes", at_least=1, at_most=100
    )
    # Learning from what one wrote makes more of it likely, and so on: how far that goes has a budget, as in
    # arXiv 2510.16089. Books that held together came to 0.66, one that broke began at 0.9 (docs/quality.md).
    drift: float = option(
        0.75,
        "How much likelier than the base the adapter may find a chunk and still learn it, nats/token",
        above=0,
        at_most=100,
    )


OBJECTIVES = ("nll", "distill")


@dataclass(frozen=True)
class LearningConfig:
    """What `[human]` and `[generated]` have in common: how a chunk is learnt.

    The objective `nll` is the paper's: negative log-likelihood of the chunk. `distill` learns what has
    left the window: the base that still sees the longer context is the teacher, base and adapter with the
    short one are the student, and the loss is the KL divergence between them. Its target is always the
    base's own distribution, so what the sampler did to the text is not learnt.
    """

    objective: str = option("nll", "What is minimised: nll (the paper's) or distill", choices=OBJECTIVES)
    lr: float = option(
        0.0, "Learning rate after the warm-up; 0 chooses it by the size of the base", at_least=0, at_most=1
    )
    epochs: int = option(1, "Passes over each chunk", at_least=1, at_most=100)
    context_tokens: int = option(
        256,
        "Tokens before what is learnt that training shows, of those that decoding saw",
        at_least=0,
        at_most=MAX_TOKENS,
    )
    window_tokens: int = option(
        256,
        "Tokens of a chunk that one step learns, after what stands before them; 0 is the whole chunk",
        at_least=0,
        at_most=MAX_TOKENS,
    )
    teacher_context_tokens: int = option(
        4096,
        "Tokens before the chunk that the teacher of distill sees",
        at_least=0,
        at_most=MAX_TOKENS,
    )


@dataclass(frozen=True)
class HumanConfig(LearningConfig):
    """`[human]`: how a chunk is learnt that a person wrote. It brings what the base did not have."""


@dataclass(frozen=True)
class GeneratedConfig(LearningConfig):
    """`[generated]`: how a chunk is learnt that the model wrote.

    It brings every bias of the sampler, so the rate that 0 chooses is `GENERATED_LR_SHARE` of that for human
    text. It is learnt without the text before it: half the work, and nearly as much is remembered
    (docs/quality.md).
    """

    context_tokens: int = option(
        0,
        "Tokens before what is learnt that training shows; 256 in a translation, whose sources stand there",
        at_least=0,
        at_most=MAX_TOKENS,
    )


@dataclass(frozen=True)
class TranslationConfig:
    """`[translation]`: how a paragraph is translated; what it shares with writing is in `[decode]`."""

    context_pairs: int = option(
        3, "Paragraphs before one, with their translations, that the model sees", at_least=0, at_most=1000
    )
    attempts: int = option(
        3, "How often a paragraph is translated at most until it passes its checks", at_least=1, at_most=100
    )
    correction_weight: int = option(
        1, "Passes over what a person corrected, for each pass over given text", at_least=1, at_most=100
    )
    temperature: float = option(
        0.0, "How freely tokens are drawn; below 0.01 the likeliest is taken", at_least=0, at_most=10
    )
    retry_temperature: float = option(
        0.7, "How freely they are drawn where the first attempt failed", at_least=0, at_most=10
    )
    repetition_penalty: float = option(
        1.0, "Above 1 makes tokens less likely that are in the window; 1 is off", at_least=0.1, at_most=10
    )


@dataclass(frozen=True)
class SessionConfig:
    """`[session]`: what is kept on the disk."""

    keep_checkpoints: int = option(
        2, "Newest chunks that keep adapter and optimizer on the disk (text is kept for ever)", at_least=1
    )
    grid_checkpoints: int = option(
        12, "Older chunks that keep them too, at even distances over the book, for undoing", at_least=0
    )


@dataclass(frozen=True)
class Config:
    """All settings of a session; frozen into its `session.json` when it begins."""

    model: ModelConfig = field(default_factory=ModelConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    human: HumanConfig = field(default_factory=HumanConfig)
    generated: GeneratedConfig = field(default_factory=GeneratedConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    translation: TranslationConfig = field(default_factory=TranslationConfig)
    session: SessionConfig = field(default_factory=SessionConfig)
    seed: int = option(0, "Seed of all that is drawn", at_least=0, at_most=2**63 - 1)
    prompts: str = option("", "Folder of prompt files that replace the packaged ones, file by file")

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values, as `session.json` holds them; `from_dict` takes them back."""
        return asdict(self)


TABLES: dict[str, type] = {
    "model": ModelConfig,
    "decode": DecodeConfig,
    "train": TrainConfig,
    "human": HumanConfig,
    "generated": GeneratedConfig,
    "gate": GateConfig,
    "translation": TranslationConfig,
    "session": SessionConfig,
}

TASK_DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "translation": {"generated": {"context_tokens": 256}},
    "pairs": {"generated": {"context_tokens": 256}},
}
"""Defaults of a task where they are others."""

TASK_OVERRIDES: dict[str, dict[tuple[str, str], tuple[str, str]]] = {
    "translation": {
        ("decode", "temperature"): ("translation", "temperature"),
        ("decode", "repetition_penalty"): ("translation", "repetition_penalty"),
    }
}
"""Settings of a task, as (table, key), and those of its own by which it goes instead: `resolve` puts their
values in, so that a file may hold both for both kinds of book.
"""


@dataclass(frozen=True)
class Layer:
    """Settings from one source: `values` nested as in TOML, `place(table, key)` for messages."""

    values: Mapping[str, Any]
    place: Callable[[str, str], str]

    @staticmethod
    def of_file(name: str, values: Mapping[str, Any]) -> Layer:
        """Settings of a TOML file; a mistake in `[decode] top_p` is named `name: [decode] top_p`."""
        return Layer(values, lambda table, key: f"{name}: {f'[{table}] ' if table else ''}{key}")

    @staticmethod
    def of_flags(values: Mapping[str, Any], names: Mapping[tuple[str, str], str]) -> Layer:
        """Settings of the command line; `names` maps (table, key) to the flag that sets it."""
        return Layer(values, lambda table, key: names.get((table, key), f"--{key.replace('_', '-')}"))


def resolve(layers: list[Layer], task: str = "novel") -> Config:
    """Merge `layers` over the defaults for that task, later ones winning; then as `TASK_OVERRIDES` says.

    A layer that names a recipe resets `[train]`, `[human]`, `[generated]` and `[gate]` to that recipe, and
    takes its chunk, so that `--recipe paper` gives the paper's values whatever the files say.

    Raises TemploraError that lists every unknown key, wrong type and value out of range.
    """
    issues: list[str] = []
    default = TASK_DEFAULTS.get(task, {})
    chosen: dict[str, dict[str, Any]] = {"": {}, **{table: dict(default.get(table, {})) for table in TABLES}}
    for layer in layers:
        checked = _checked(layer, issues)
        if "recipe" in checked["train"]:
            kept = {k: v for k, v in chosen["train"].items() if k in ("learn", "gradient_checkpointing")}
            recipe = RECIPES[checked["train"]["recipe"]]
            chosen["train"] = {**kept, **recipe.get("train", {})}
            for name in ("human", "generated", "gate"):
                chosen[name] = {**default.get(name, {}), **recipe.get(name, {})}
            chosen["decode"].update(recipe.get("decode", {}))
        for table, values in checked.items():
            chosen[table].update(values)
    if issues:
        many = len(issues) > 1
        listed = "\n".join(f"  {issue}" for issue in issues) if many else issues[0]
        message = f"{len(issues)} settings are wrong:\n{listed}" if many else listed
        raise TemploraError(message, "templora write --help lists the settings and their ranges")
    tables = {name: make(**chosen[name]) for name, make in TABLES.items()}
    for (table, key), (task_table, task_key) in TASK_OVERRIDES.get(task, {}).items():
        tables[table] = replace(tables[table], **{key: getattr(tables[task_table], task_key)})
    return replace(Config(**tables), **chosen[""])


def settings(values: Mapping[str, Any], task: str = "novel") -> Config:
    """The configuration for that task from values nested as in TOML, whatever the files of the user say.

    Raises TemploraError as `resolve` does.
    """
    return resolve([Layer.of_file("settings", values)], task)


def with_learning_rates(config: Config, parameters: int) -> Config:
    """`config` with every rate of 0 replaced by that for a base of so many parameters."""
    lr = learning_rate_for(parameters, config.train.optimizer)
    human, generated = config.human, config.generated
    generated_lr = float(f"{GENERATED_LR_SHARE * lr:.1e}")
    return replace(
        config,
        human=replace(human, lr=human.lr or lr),
        generated=replace(generated, lr=generated.lr or generated_lr),
    )


def learning_rate_for(parameters: int, optimizer: str) -> float:
    """The learning rate for given text on a base of so many parameters, to two figures.

    A power law through what was measured on 0.135 billion parameters (docs/quality.md) and what the
    paper used on 7 billion; between the two it is interpolated, beyond them extrapolated.
    """
    fast, slow = MEASURED_LR[optimizer], PAPER_LR[optimizer]
    exponent = math.log(slow / fast) / math.log(PAPER_PARAMETERS / MEASURED_PARAMETERS)
    return float(f"{fast * (parameters / MEASURED_PARAMETERS) ** exponent:.1e}")


def from_dict(values: Mapping[str, Any], source: str) -> Config:
    """The configuration that `as_dict` wrote; `source` names it in messages."""
    return resolve([Layer.of_file(source, values)])


def _checked(layer: Layer, issues: list[str]) -> dict[str, dict[str, Any]]:
    """The good values of a layer by table ("" for the top level); what is wrong goes to `issues`."""
    good: dict[str, dict[str, Any]] = {"": {}, **{table: {} for table in TABLES}}
    for name, value in layer.values.items():
        if name not in TABLES:
            _check(Config, "", name, value, layer, good[""], issues)
        elif not isinstance(value, Mapping):
            issues.append(f"{layer.place('', name)}: is a table of settings, not {value!r}")
        else:
            for key, setting in value.items():
                _check(TABLES[name], name, key, setting, layer, good[name], issues)
    return good


def _check(
    owner: type, table: str, key: str, value: Any, layer: Layer, good: dict[str, Any], issues: list[str]
) -> None:
    known = {f.name: f for f in fields(owner) if "help" in f.metadata}
    place = layer.place(table, key)
    if key not in known:
        places = sorted([*known, *(TABLES if owner is Config else ())])
        issues.append(f"{place}: unknown; known here: {', '.join(places)}")
        return
    wanted = get_type_hints(owner)[key]
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    choices = known[key].metadata["choices"] or ()
    if isinstance(value, bool) and "on" in choices:
        value = "on" if value else "off"
    if type(value) is not wanted and not choices:
        kind = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[wanted]
        issues.append(f"{place} = {value!r}: must be {kind}")
        return
    if problem := _outside(value, known[key].metadata):
        issues.append(f"{place} = {value!r}: {problem}")
        return
    good[key] = value


def _outside(value: Any, limits: Mapping[str, Any]) -> str | None:
    """What the range of a field has against `value`, or None."""
    if limits["choices"] is not None:
        return None if value in limits["choices"] else f"must be one of {', '.join(limits['choices'])}"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    if limits["at_least"] is not None and value < limits["at_least"]:
        return f"must be at least {limits['at_least']}"
    if limits["above"] is not None and value <= limits["above"]:
        return f"must be above {limits['above']}"
    if limits["at_most"] is not None and value > limits["at_most"]:
        return f"must be at most {limits['at_most']}"
    return None
