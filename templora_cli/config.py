"""All settings with their defaults, meanings and ranges. `config_layers.py` builds a configuration."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

MAX_TOKENS = 1 << 24
"""An upper limit for counts of tokens, larger than any context window; it catches typing errors."""

MIN_CHUNK = 8
"""The smallest chunk, in tokens."""

MEASURED_PARAMETERS, MEASURED_LR = 1.35e8, {"adamw": 5e-4, "muon": 2e-3}
"""Parameters of SmolLM2-135M, and its best rates for human text (docs/lab/given-text-recipe.md)."""
PAPER_PARAMETERS, PAPER_LR = 7e9, {"adamw": 5e-5, "muon": 2.5e-4}
"""Parameters and rate of the paper's Llama-2 (section 4.1); for Muon, the rate with equal steps."""
GENERATED_LR_SHARE = 0.04
"""The learning rate for generated text, as a share of that for human text. Measured with AdamW at 0.135
billion parameters, and on a book each of two larger models (docs/lab/own-text.md).
"""
ACCEPTED_LR_SHARE = 0.1
"""The same for generated text that a person accepted: twice as much is remembered, and completions of known
4-grams become at most 1 % likelier (docs/lab/own-text.md).
"""
LR_FACTORS = {"gemma3_text": 0.5}
"""By how much the rate of a family, by `model_type` in transformers, differs from that of its size.

Measured with gemma3-270m, on prose and on a translation (docs/lab/given-text-recipe.md).
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
            "accepted_lr": 5e-5,
            "epochs": 2,
            "context_tokens": 2048,
            "window_tokens": 0,
        },
        "gate": {"enabled": False},
    },
    # The defaults of the dataclasses below; docs/lab/README.md says where each was chosen.
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
    """A dataclass field with its help text and range, for `--help`, the documents and validation."""
    limits = {"at_least": at_least, "at_most": at_most, "above": above, "choices": choices}
    return field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True)
class ModelConfig:
    """`[model]`: the base model, and how it is loaded."""

    name: str = option("smollm2-135m", "Alias, Hugging Face id, local folder or .gguf file")
    quantize: str = option(
        "auto",
        "Precision of the base model: nf4 (4-bit), int8 (8-bit), none (full precision) or auto (nf4 on a "
        "GPU, none on a CPU)",
        choices=("auto", "nf4", "int8", "none"),
    )
    device: str = option(
        "auto",
        "Device: cpu, cuda or auto (cuda if there is a CUDA GPU)",
        choices=("auto", "cpu", "cuda"),
    )


@dataclass(frozen=True)
class DecodeConfig:
    """`[decode]`: chunk, window and sampling."""

    chunk_tokens: int = option(
        1024, "Tokens in a chunk, the unit of text that is learnt", at_least=MIN_CHUNK, at_most=MAX_TOKENS
    )
    context_tokens: int = option(
        2048,
        "Tokens of the book in the prompt of a chunk",
        at_least=0,
        at_most=MAX_TOKENS,
    )
    temperature: float = option(
        0.8, "Sampling temperature; below 0.01 the most likely token is taken", at_least=0, at_most=10
    )
    top_p: float = option(
        0.95, "Sample from the most likely tokens that together have this probability", above=0, at_most=1
    )
    min_p: float = option(
        0.0,
        "Exclude tokens below this share of the probability of the most likely token; 0 is off",
        at_least=0,
        at_most=1,
    )
    top_k: int = option(
        0, "Sample from this many of the most likely tokens; 0 is off", at_least=0, at_most=MAX_TOKENS
    )
    repetition_penalty: float = option(
        1.1,
        "Values above 1 make tokens of the prompt and of the chunk so far less likely; 1 is off",
        at_least=0.1,
        at_most=10,
    )
    dry_multiplier: float = option(
        0.0,
        "Strength of DRY, which avoids tokens that would continue a repetition; 0 is off, 0.8 is usual",
        at_least=0,
        at_most=100,
    )
    dry_base: float = option(
        1.75, "The DRY penalty grows by this factor with each repeated token", at_least=1, at_most=10
    )
    dry_allowed_length: int = option(
        2, "Repetitions of up to this many tokens have no DRY penalty", at_least=1, at_most=MAX_TOKENS
    )
    dry_range: int = option(
        0,
        "Last tokens in which DRY looks for repetitions; 0 for the prompt and the chunk so far",
        at_least=0,
        at_most=MAX_TOKENS,
    )
    dry_breakers: tuple[str, ...] = option(
        ("\n", ":", '"', "*"), "Texts at which a repetition ends for DRY; a token with one of them breaks it"
    )
    candidates: int = option(
        1, "Continuations to write for each chunk; the best one stays", at_least=1, at_most=100
    )
    plan_tokens: int = option(
        256, "Tokens of the plan in the prompt of a chunk", at_least=0, at_most=MAX_TOKENS
    )
    ledger_tokens: int = option(
        384, "Tokens of the ledger in the prompt of a chunk", at_least=0, at_most=MAX_TOKENS
    )
    recall: bool = option(True, "Show earlier passages of the book that matter for the next chunk")
    recall_tokens: int = option(
        512, "Tokens of recalled passages in the prompt of a chunk", at_least=0, at_most=MAX_TOKENS
    )
    note_tokens: int = option(
        64, "Tokens of the author's note in the prompt of a chunk", at_least=0, at_most=MAX_TOKENS
    )
    backend: str = option(
        "auto",
        "Decoding backend: int8 (8-bit copy of the model, on a CPU), graph (CUDA graph, on a GPU), "
        "eager (the model itself) or auto",
        choices=("auto", "int8", "graph", "eager"),
    )


@dataclass(frozen=True)
class TrainConfig:
    """`[train]`: the temporary LoRA adapter and its optimizer (paper, sections 3.2 and 4.1)."""

    recipe: str = option(
        "default", "Learning settings: default or paper (the published settings)", choices=tuple(RECIPES)
    )
    learn: bool = option(True, "Learn each chunk; off writes with the plain base model")
    rank: int = option(64, "Rank of the adapter", at_least=1, at_most=4096)
    alpha: int = option(
        64, "Scale of the adapter; its output is multiplied by alpha / rank", at_least=1, at_most=65536
    )
    dropout: float = option(0.0, "Dropout before the adapter during training", at_least=0, at_most=0.99)
    warmup_chunks: int = option(2, "Chunks over which the learning rate rises to its full value", at_least=0)
    optimizer: str = option("adamw", "Optimizer: adamw or muon", choices=OPTIMIZERS)
    weight_decay: float = option(
        0.0, "Weight decay, decoupled from the gradients as in AdamW", at_least=0, at_most=1
    )
    gradient_checkpointing: str = option(
        "auto",
        "Recompute activations in the backward pass, which takes a third more time and far less memory: on, "
        "off or auto (on if memory is short)",
        choices=("auto", "on", "off"),
    )


@dataclass(frozen=True)
class GateConfig:
    """`[gate]`: which generated chunks are not learnt. Human text always passes.

    Rejected prose is cut after its last good paragraph and written on with other random numbers. If no
    attempt passes, the run stops. Learning one loop would make the next more likely (arXiv 2404.02305).
    """

    enabled: bool = option(True, "Check generated chunks; off learns all of them")
    # In human books 99 % of chunks are below 0.09; the maximum is 0.28, a refrain (docs/lab/gate.md).
    repetition: float = option(
        0.3,
        "Reject a chunk in which more than this share of 4-grams repeats earlier ones of the same chunk",
        above=0,
        at_most=1,
    )
    nll_range: float = option(
        1.0,
        "Reject a chunk if its NLL under the base differs from that of recent chunks by more, nats/token",
        above=0,
        at_most=100,
    )
    prose: bool = option(
        True, "Reject prose that is no prose: assistant talk, lists, mark-up, notes, other scripts"
    )
    max_attempts: int = option(5, "Maximum number of times that a chunk is written", at_least=1, at_most=100)
    stop: bool = option(True, "Stop if no attempt passes; off keeps the last one in the book, marked")
    # Learning generated text makes more of the same likely, and so on. Where these limits come from:
    # docs/lab/gate.md.
    drift: float = option(
        0.75,
        "Do not learn a translated chunk if the adapter's NLL is lower than the base's by more than this, "
        "nats/token",
        above=0,
        at_most=100,
    )
    completion: float = option(
        1.2,
        "Do not learn prose if learning makes tokens that complete a 4-gram of the book likelier by more "
        "than this factor",
        at_least=1,
        at_most=100,
    )
    entropy: float = option(
        0.1,
        "Do not learn prose if learning lowers the entropy of the predictions by more than this share",
        above=0,
        at_most=1,
    )


OBJECTIVES = ("nll", "distill")


@dataclass(frozen=True)
class LearningConfig:
    """The settings that `[human]` and `[generated]` share: how a chunk is learnt.

    The objective `nll` is the paper's: negative log-likelihood of the chunk. `distill` is context
    distillation: the base with a longer context is the teacher, base + adapter with the training context is
    the student, and the loss is the KL divergence between them. Its target is the distribution of the base,
    so the effects of sampling on the text are not learnt.
    """

    objective: str = option("nll", "Training objective; nll is the paper's", choices=OBJECTIVES)
    lr: float = option(
        0.0,
        "Learning rate after the warm-up; 0 chooses it by the size of the base model",
        at_least=0,
        at_most=1,
    )
    epochs: int = option(1, "Passes over each chunk", at_least=1, at_most=100)
    context_tokens: int = option(
        256,
        "Tokens of context before a training window, at most those of the prompt",
        at_least=0,
        at_most=MAX_TOKENS,
    )
    window_tokens: int = option(
        256,
        "Tokens of a chunk in one training step; 0 for the whole chunk",
        at_least=0,
        at_most=MAX_TOKENS,
    )
    teacher_context_tokens: int = option(
        4096,
        "Tokens of the book before the chunk that the teacher of distill reads",
        at_least=0,
        at_most=MAX_TOKENS,
    )
    replay_samples: int = option(
        0,
        "Samples of the model whose predictions learning must leave as they are; 0 for none",
        at_least=0,
        at_most=1024,
    )


@dataclass(frozen=True)
class HumanConfig(LearningConfig):
    """`[human]`: how text that a person wrote is learnt."""


@dataclass(frozen=True)
class GeneratedConfig(LearningConfig):
    """`[generated]`: how text that the model wrote is learnt.

    Such text carries the biases of sampling, so an `lr` of 0 chooses `GENERATED_LR_SHARE` of the rate for
    human text. Prose is learnt without context: half the work, and almost as much is remembered
    (docs/lab/own-text.md).
    """

    context_tokens: int = option(
        0,
        "Tokens of context before a training window; 256 for translations, because the sources are in it",
        at_least=0,
        at_most=MAX_TOKENS,
    )
    accepted_lr: float = option(
        0.0,
        "Learning rate for text that its author accepted; 0 chooses it by the size of the base model",
        at_least=0,
        at_most=1,
    )


@dataclass(frozen=True)
class TranslationConfig:
    """`[translation]`: how paragraphs are translated. `[decode]` has the settings shared with writing."""

    context_pairs: int = option(
        3, "Earlier paragraphs in the prompt, with their translations", at_least=0, at_most=1000
    )
    attempts: int = option(
        3, "Maximum number of attempts until a paragraph passes its checks", at_least=1, at_most=100
    )
    correction_weight: int = option(
        1, "Passes over corrections for each pass over other human text", at_least=1, at_most=100
    )
    temperature: float = option(
        0.0, "Sampling temperature; below 0.01 the most likely token is taken", at_least=0, at_most=10
    )
    retry_temperature: float = option(
        0.7,
        "Sampling temperature after the first attempt; the last one, sentence by sentence, uses "
        "translation.temperature",
        at_least=0,
        at_most=10,
    )
    repetition_penalty: float = option(
        1.0,
        "Values above 1 make tokens of the prompt and of the chunk so far less likely; 1 is off",
        at_least=0.1,
        at_most=10,
    )


@dataclass(frozen=True)
class SessionConfig:
    """`[session]`: what is saved on disk."""

    keep_checkpoints: int = option(
        2, "Newest chunks for which adapter and optimizer stay on disk; text always does", at_least=1
    )
    grid_checkpoints: int = option(
        12, "Older chunks, evenly spaced, for which they stay too; templora sync starts from them", at_least=0
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
    seed: int = option(0, "Seed of all random numbers", at_least=0, at_most=2**63 - 1)
    prompts: str = option("", "Folder with prompt files that replace the packaged ones, file by file")

    def as_dict(self) -> dict[str, Any]:
        """The settings as nested JSON values, as in `session.json`; `from_dict` reads them."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


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
"""Defaults that are different for a task."""

TASK_OVERRIDES: dict[str, dict[tuple[str, str], tuple[str, str]]] = {
    "translation": {
        ("decode", "temperature"): ("translation", "temperature"),
        ("decode", "repetition_penalty"): ("translation", "repetition_penalty"),
    }
}
"""Settings (table, key) that a task replaces with those of its own table. `resolve` copies their values, so
that one file can configure both novels and translations.
"""


def with_learning_rates(config: Config, parameters: int, model_type: str) -> Config:
    """Replace each learning rate of 0 by the default for a base of this size and family."""
    lr = learning_rate_for(parameters, config.train.optimizer, model_type)
    human, generated = config.human, config.generated
    generated_lr, accepted_lr = (
        float(f"{share * lr:.1e}") for share in (GENERATED_LR_SHARE, ACCEPTED_LR_SHARE)
    )
    return replace(
        config,
        human=replace(human, lr=human.lr or lr),
        generated=replace(
            generated,
            lr=generated.lr or generated_lr,
            accepted_lr=generated.accepted_lr or max(accepted_lr, generated.lr),
        ),
    )


def learning_rate_for(parameters: int, optimizer: str, model_type: str = "") -> float:
    """The default learning rate for human text on a base of this size and family, to two digits.

    A power law through the best measured rate at 0.135 billion parameters (docs/lab/depth.md) and the
    paper's rate at 7 billion, times the factor of the family.
    """
    fast, slow = MEASURED_LR[optimizer], PAPER_LR[optimizer]
    exponent = math.log(slow / fast) / math.log(PAPER_PARAMETERS / MEASURED_PARAMETERS)
    rate = fast * (parameters / MEASURED_PARAMETERS) ** exponent * LR_FACTORS.get(model_type, 1.0)
    return float(f"{rate:.1e}")
