"""Loading a model folder: precision, quantisation, the adapter on top, and the errors of all that.

Weights are read from safetensors only and no code of a model repository is run.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer
from transformers import logging as transformers_logging

from templora_cli.config import ModelConfig, TrainConfig
from templora_cli.engine.determinism import enable_determinism
from templora_cli.engine.kernels.families import FAMILIES
from templora_cli.engine.models.adapter import with_adapter
from templora_cli.engine.models.catalog import fingerprint
from templora_cli.engine.models.experts import packed_weights
from templora_cli.engine.models.language import HEAD, Language, language_of, renamed
from templora_cli.engine.models.prequantized import format_of, held_as, shown
from templora_cli.engine.models.quantizing import as_it_comes, experts_computed, quantization_of
from templora_cli.engine.models.support import LIST, read_config, require_support
from templora_cli.engine.models.thoughts import is_thought_tag
from templora_cli.engine.training.forward import logits_at
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.errors import TemploraError


@dataclass
class LanguageModel:
    """A base model with its tokenizer and, where something is to be learnt, the temporary adapter."""

    module: Any
    """The transformers model, inside a PEFT model where there is an adapter."""
    tokenizer: Any
    adapter: dict[str, nn.Parameter]
    """The LoRA matrices by their PEFT names, float32."""
    quantize: str
    """How the base is held: "nf4", "int8" or "none"."""
    dtype: str
    """What it computes in: "float32", "bfloat16" or "float16"."""
    fingerprint: str
    parameters: int
    """Of the base, however they are held."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.module.device  # type: ignore[no-any-return]

    @property
    def banned_tokens(self) -> Sequence[int]:
        """End of text, chat markers, tags of thoughts and other special tokens: prose holds none of them."""
        added = self.tokenizer.added_tokens_decoder.items()
        special = {i for i, token in added if token.special or is_thought_tag(token.content)}
        ends = self.module.generation_config.eos_token_id
        special.update([ends] if isinstance(ends, int) else ends or [])
        return sorted(special.union(self.tokenizer.all_special_ids))

    def without_adapter(self) -> AbstractContextManager[object]:
        """Inside it the plain base model answers."""
        disabled: AbstractContextManager[object] = nullcontext()
        return self.module.disable_adapter() if self.adapter else disabled


def load(folder: Path, config: ModelConfig, train: TrainConfig, *, seed: int) -> LanguageModel:
    """Load the model in `folder`, put the adapter on it (unless `train.learn` is off), freeze the base.

    Of a model that sees or hears too only the language part is loaded, where transformers has a class for it.
    The adapter starts as PEFT initialises LoRA (A random from `seed`, B zero, so that it changes nothing at
    first) on `adapted_layers`. `gradient_checkpointing = "auto"` is off here: `planner.plan_or_refuse`
    chooses it.

    Raises TemploraError: a model that cannot be written with, no such device, an allocation that failed,
    damaged files. What cannot fit is refused before, by `planner.plan_or_refuse`.
    """
    said = read_config(folder)
    require_support(said, config.name)
    device = device_of(config.device)
    quantize = held_as(format_of(said, config.name), config.quantize, device.type, config.name)
    with quiet_libraries(), readable_errors(folder):
        language = language_in(folder)
        enable_determinism(device, strictly=language.config.model_type in FAMILIES)
        tokenizer = _tokenizer(folder)
        module = _base(folder, language, quantize, device)
        # It knows how many weights a byte of 4-bit ones holds.
        parameters = module.num_parameters() + packed_weights(module)
        module.requires_grad_(False)
        adapter: dict[str, nn.Parameter] = {}
        if train.learn:
            module, adapter = with_adapter(module, train, seed)
        if language.config.model_type not in FAMILIES:
            _require_runs(module, f"{shown(config.name)} (architecture {language.config.model_type})")
    module.eval()
    return LanguageModel(
        module,
        tokenizer,
        adapter,
        quantize,
        str(dtype_of(device)).removeprefix("torch."),
        fingerprint(folder),
        parameters,
    )


def language_in(folder: Path) -> Language:
    """What of the model in `folder` is loaded. Raises TemploraError where none of it writes text."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    language = language_of(config)
    if language is None:
        raise TemploraError(f"{folder} (architecture {config.model_type}) is no model that writes text", LIST)
    return language


def _base(folder: Path, language: Language, quantize: str, device: torch.device) -> Any:
    """The transformers model in `folder`. Raises TemploraError where weights of it are missing or damaged."""
    weights = [name for file in sorted(folder.glob("*.safetensors")) for name in names_in(file)]
    config, dtype = language.config, dtype_of(device)
    comes, quantization = getattr(config, "quantization_config", None), None
    if language.may_tie and not any(HEAD in name for name in weights):
        config.tie_word_embeddings = True
    names = renamed(made_empty(language), weights) if language.alone else {}
    if comes and any(re.search(r"\.experts\.\d+\..*quant_state", name) for name in weights):
        raise TemploraError(
            f"the experts of the model in {folder} come in 4 bits, which transformers does not read",
            "take the unquantised version of it",
        )
    if comes:
        config.quantization_config = quantization = as_it_comes(comes, quantize, names, dtype)
    elif quantize != "none":
        quantization = quantization_of(made_empty(language), quantize, dtype)
    module, loading = language.auto.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        device_map={"": device},
        quantization_config=None if comes else quantization,
        key_mapping=names or None,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        **experts_computed(quantization),
    )
    if missing := sorted(loading["missing_keys"]):  # transformers fills them at random
        raise TemploraError(
            f"the model in {folder} is not whole: weight {missing[0]} is missing", _pull_again(folder)
        )
    return module


def _require_runs(module: Any, name: str) -> None:
    """Refuse a model of an architecture that is not known by heart, and does not compute a few tokens.

    Raises TemploraError: rather now than in the middle of a chunk.
    """
    try:
        module.eval()
        with torch.no_grad():
            _, cache = logits_at(module, [0, 1, 2], [2], use_cache=True)
            if cache is not None:
                logits_at(module, [3], [0], cache=cache, use_cache=True, start=3)
        if any(p.requires_grad for p in module.parameters()):
            module.train()
            with torch.random.fork_rng(devices=[module.device] if module.device.type == "cuda" else []):
                chunk_nll(module, [0], [1, 2]).mean().backward()  # type: ignore[no-untyped-call]
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever its own code or a kernel raises
        raise TemploraError(f"{name} cannot be written with: {_first_line(error)}", LIST) from error
    module.zero_grad()


def made_empty(language: Language) -> Any:
    """The transformers model without weights."""
    with torch.device("meta"):
        return language.auto.from_config(language.config, trust_remote_code=False)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer alone of the model in `folder`. Raises TemploraError where it cannot be loaded."""
    with quiet_libraries(), readable_errors(folder):
        return _tokenizer(folder)


def _tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def device_of(wanted: str) -> torch.device:
    """The device that `[model] device` asks for. Raises TemploraError where there is none."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise TemploraError("there is no CUDA GPU that this torch can use", "--device cpu runs without")
    return torch.device("cuda", torch.cuda.current_device())


def dtype_of(device: torch.device) -> torch.dtype:
    """float32 on the CPU: without bf16 units, bf16 products are hundreds of times slower there."""
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def names_in(file: Path) -> list[str]:
    """The names of the weights in a safetensors file.

    Raises TemploraError where its header and its length do not go together.
    """
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        # An 8-byte length comes from the file: a damaged one must not ask for the whole memory.
        if size > 100_000_000 or size > file.stat().st_size:
            raise TemploraError(f"{file} is damaged: it is no safetensors file", _pull_again(file.parent))
        try:
            tensors = {name: t for name, t in json.loads(stream.read(size)).items() if name != "__metadata__"}
            end = 8 + size + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError):
            raise TemploraError(f"{file} is damaged: its header", _pull_again(file.parent)) from None
    if end != file.stat().st_size:
        raise TemploraError(
            f"{file} is not whole: {file.stat().st_size:,} of {end:,} bytes", _pull_again(file.parent)
        )
    return list(tensors)


def _pull_again(folder: Path) -> str:
    return f"delete {folder} and get the model again (templora models list shows how)"


@contextmanager
def out_of_memory_hint(advice: str) -> Iterator[None]:
    """Turn an allocation that failed, on GPU or CPU, into a TemploraError with `advice` as its hint."""
    try:
        yield
    except MemoryError as error:
        raise TemploraError("not enough memory", advice) from error
    except torch.OutOfMemoryError as error:
        raise TemploraError("not enough memory on the GPU", advice) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # how torch's CPU allocator says it
            raise
        raise TemploraError("not enough memory", advice) from error


@contextmanager
def readable_errors(folder: Path) -> Iterator[None]:
    """What transformers raises for a folder that it cannot load, in a line."""
    try:
        with out_of_memory_hint("use --quantize nf4 or a smaller --model"):
            yield
    except TemploraError:
        raise
    except Exception as error:  # a damaged folder comes out as anything, from TypeError to SafetensorError
        kind = _model_type(folder)
        raise TemploraError(
            f"the model in {folder} (architecture {kind}) cannot be loaded: {_first_line(error)}", LIST
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _model_type(folder: Path) -> str:
    try:
        return str(
            AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).model_type
        )
    except Exception:
        return "unknown"


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No progress bars or advice of the libraries on the user's screen, unless TEMPLORA_DEBUG is set."""
    if os.environ.get("TEMPLORA_DEBUG"):
        yield
        return
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
