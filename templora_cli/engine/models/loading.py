"""Load a model folder: precision, quantisation, adapter, and readable errors.

Weights are read from safetensors only, and no code from model repositories is run.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
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
from templora_cli.engine.models.language import HEAD, LanguagePart, key_mapping, language_part_of
from templora_cli.engine.models.prequantized import display_name, format_of, resolve_quantize
from templora_cli.engine.models.quantizing import (
    experts_implementation,
    published_quantization,
    quantization_of,
)
from templora_cli.engine.models.reasoning_tags import is_reasoning_tag
from templora_cli.engine.models.support import LIST, read_config, require_support
from templora_cli.engine.training.forward import logits_at
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.errors import TemploraError


@dataclass
class LanguageModel:
    """A base model with its tokenizer and, if learning is on, the temporary adapter."""

    module: Any
    """The transformers model; with an adapter, the PEFT model that wraps it."""
    tokenizer: Any
    adapter: dict[str, nn.Parameter]
    """The LoRA matrices by their PEFT names, float32."""
    quantize: str
    """Quantisation of the base: "nf4", "int8" or "none"."""
    dtype: str
    """The compute dtype: "float32", "bfloat16" or "float16"."""
    fingerprint: str
    parameters: int
    """Parameters of the base before any quantisation."""
    _tokens_with: dict[tuple[str, ...], frozenset[int]] = field(default_factory=dict, init=False, repr=False)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.module.device  # type: ignore[no-any-return]

    @property
    def model_type(self) -> str:
        """The family of the base, as transformers calls it."""
        return str(self.module.config.get_text_config().model_type)

    @property
    def banned_tokens(self) -> Sequence[int]:
        """Tokens that never occur in prose: end of text, chat markers, reasoning tags and the like."""
        added = self.tokenizer.added_tokens_decoder.items()
        special = {i for i, token in added if token.special or is_reasoning_tag(token.content)}
        return sorted(special.union(self.end_tokens, self.tokenizer.all_special_ids))

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens by which the model ends a text or an answer."""
        ends = self.module.generation_config.eos_token_id
        ends = [ends] if isinstance(ends, int) else ends or []
        return frozenset(token for token in (*ends, self.tokenizer.eos_token_id) if token is not None)

    def tokens_with(self, texts: Sequence[str]) -> frozenset[int]:
        """Tokens whose text contains one of `texts`; for a text that no token contains, its last token.

        The first is the rule of llama.cpp for the sequence breakers of DRY, the second that of
        text-generation-webui. The first call decodes the whole vocabulary.
        """
        key = tuple(texts)
        if key not in self._tokens_with:
            vocabulary = self.tokenizer.batch_decode([[token] for token in range(len(self.tokenizer))])
            tokens: set[int] = set()
            for text in key:
                matches = [token for token, token_text in enumerate(vocabulary) if text in token_text]
                # After a letter: some tokenizers put a space before the first token.
                tokens.update(matches or self.tokenizer.encode(f"a{text}", add_special_tokens=False)[-1:])
            self._tokens_with[key] = frozenset(tokens)
        return self._tokens_with[key]

    def without_adapter(self) -> AbstractContextManager[object]:
        """A context in which the base model computes without the adapter."""
        disabled: AbstractContextManager[object] = nullcontext()
        return self.module.disable_adapter() if self.adapter else disabled


def load(folder: Path, config: ModelConfig, train: TrainConfig, *, seed: int) -> LanguageModel:
    """Load the model in `folder`, freeze it, and attach the adapter unless `train.learn` is off.

    Of a multimodal model only the language part is loaded, if transformers has a class for it. The adapter on
    `adapted_layers` starts as PEFT initialises LoRA: A random from `seed`, B zero, so that it has no effect
    at first. `gradient_checkpointing = "auto"` means off here; `planner.plan_or_refuse` resolves it before.

    Raises TemploraError if the model is not supported, the device does not exist, an allocation fails or
    files are damaged. `planner.plan_or_refuse` has already refused models that do not fit.
    """
    values = read_config(folder)
    require_support(values, config.name)
    device = device_of(config.device)
    published = format_of(values, config.name)
    quantize = resolve_quantize(published, config.quantize, device.type, config.name)
    with quiet_libraries(), readable_errors(folder):
        language = language_part_in(folder)
        enable_determinism(device, strictly=language.config.model_type in FAMILIES)
        tokenizer = _tokenizer(folder)
        module = _base(folder, language, quantize, device)
        # num_parameters counts packed linear layers correctly, but not packed experts.
        parameters = module.num_parameters() + packed_weights(module)
        module.requires_grad_(False)
        adapter: dict[str, nn.Parameter] = {}
        if train.learn:
            module, adapter = with_adapter(module, train, seed)
        if language.config.model_type not in FAMILIES:
            _require_runs(module, f"{display_name(config.name)} (architecture {language.config.model_type})")
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


def language_part_in(folder: Path) -> LanguagePart:
    """The part of the model in `folder` to load. Raises TemploraError if none of it writes text."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    language = language_part_of(config)
    if language is None:
        raise TemploraError(f"{folder} (architecture {config.model_type}) does not write text", LIST)
    return language


def _base(folder: Path, language: LanguagePart, quantize: str, device: torch.device) -> Any:
    """The transformers model in `folder`. Raises TemploraError if weights are missing or damaged."""
    weights = [name for file in sorted(folder.glob("*.safetensors")) for name in names_in(file)]
    config, dtype = language.config, dtype_of(device)
    published, quantization = getattr(config, "quantization_config", None), None
    if language.may_tie and not any(HEAD in name for name in weights):
        config.tie_word_embeddings = True
    mapping = key_mapping(empty_model(language), weights) if language.is_extracted else {}
    if published and any(re.search(r"\.experts\.\d+\..*quant_state", name) for name in weights):
        raise TemploraError(
            f"the experts of the model in {folder} come in 4 bits, which transformers cannot load",
            "use an unquantised version of it",
        )
    if published:
        quantization = published_quantization(published, quantize, mapping, dtype)
        config.quantization_config = quantization
    elif quantize != "none":
        quantization = quantization_of(empty_model(language), quantize, dtype)
    module, loading = language.auto.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        device_map={"": device},
        quantization_config=None if published else quantization,
        key_mapping=mapping or None,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        **experts_implementation(quantization),
    )
    if missing := sorted(loading["missing_keys"]):  # transformers would initialise them at random
        raise TemploraError(
            f"the model in {folder} is incomplete: weight {missing[0]} is missing", _download_again(folder)
        )
    return module


def _require_runs(module: Any, name: str) -> None:
    """Run a forward and a backward pass over a few tokens, for an architecture outside `FAMILIES`.

    Raises TemploraError if that fails, rather than in the middle of a chunk.
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
    except Exception as error:  # any error of the model code or of a kernel
        raise TemploraError(f"{name} cannot be used: {_first_line(error)}", LIST) from error
    module.zero_grad()


def empty_model(language: LanguagePart) -> Any:
    """The transformers model on the meta device, without weights."""
    with torch.device("meta"):
        return language.auto.from_config(language.config, trust_remote_code=False)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer alone of the model in `folder`. Raises TemploraError if it cannot be loaded."""
    with quiet_libraries(), readable_errors(folder):
        return _tokenizer(folder)


def _tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def device_of(setting: str) -> torch.device:
    """The device that `[model] device` selects. Raises TemploraError if there is none."""
    if setting == "cpu" or (setting == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise TemploraError("there is no CUDA GPU that this torch can use", "use --device cpu")
    return torch.device("cuda", torch.cuda.current_device())


def dtype_of(device: torch.device) -> torch.dtype:
    """The compute dtype: float32 on a CPU, where bf16 without bf16 units is hundreds of times slower."""
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def names_in(file: Path) -> list[str]:
    """The names of the weights in a safetensors file.

    Raises TemploraError if its header is not valid or does not match its length.
    """
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        # The size comes from the file: a damaged one must not allocate all memory.
        if size > 100_000_000 or size > file.stat().st_size:
            raise TemploraError(
                f"{file} is not a safetensors file, or is damaged", _download_again(file.parent)
            )
        try:
            tensors = {name: t for name, t in json.loads(stream.read(size)).items() if name != "__metadata__"}
            end = 8 + size + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError):
            raise TemploraError(
                f"{file} is damaged: its header is not valid", _download_again(file.parent)
            ) from None
    if end != file.stat().st_size:
        raise TemploraError(
            f"{file} is incomplete: {file.stat().st_size:,} of {end:,} bytes", _download_again(file.parent)
        )
    return list(tensors)


def _download_again(folder: Path) -> str:
    return f"delete {folder} and download the model again (see templora models list)"


@contextmanager
def out_of_memory_hint(advice: str) -> Iterator[None]:
    """Raise a failed allocation, on GPU or CPU, as a TemploraError with `advice` as its hint."""
    try:
        yield
    except MemoryError as error:
        raise TemploraError("not enough memory", advice) from error
    except torch.OutOfMemoryError as error:
        raise TemploraError("not enough memory on the GPU", advice) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # the message of torch's CPU allocator
            raise
        raise TemploraError("not enough memory", advice) from error


@contextmanager
def readable_errors(folder: Path) -> Iterator[None]:
    """Raise errors of transformers for a folder as a TemploraError of one line."""
    try:
        with out_of_memory_hint("use --quantize nf4 or a smaller --model"):
            yield
    except TemploraError:
        raise
    except Exception as error:  # damaged files raise anything from TypeError to SafetensorError
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
    """Hide progress bars and warnings of the libraries, unless TEMPLORA_DEBUG is set."""
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
