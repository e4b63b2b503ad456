"""Convert a GGUF file to a model folder: float16 safetensors and tokenizer files.

transformers takes tens of seconds to load a GGUF file, and a few to load the converted folder. So
`catalog.py` converts each file once, and the rest of templora works with folders only.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from templora_cli.engine.models.folders import Report
from templora_cli.errors import TemploraError
from templora_cli.files import format_bytes

DISK_HINT = "free disk space, or set the environment variable TEMPLORA_CACHE to another folder"
PROGRAM = """
import sys
sys.path[:] = sys.argv[4:]
from templora_cli.engine.models.gguf_process import convert_for_parent
convert_for_parent(*sys.argv[1:4])
"""
"""The program of the process, with the module path of this one: the working folder is not trusted."""


def convert_in_subprocess(gguf: Path, folder: Path, *, report: Report, chat_template: bool = True) -> str:
    """Run `convert_gguf` in a separate process, whose exit frees all of its memory.

    That process exits with this one. Raises TemploraError as `convert_gguf` does, and if the process is
    killed.
    """
    command = [sys.executable, "-c", PROGRAM, str(gguf), str(folder), "chat" if chat_template else "base"]
    result: dict[str, Any] = {}
    with subprocess.Popen(
        [*command, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            for line in process.stdout or ():
                result = _message(line) or result
                if "doing" in result:
                    report(result["doing"])
        finally:
            process.kill()  # it has already exited unless this process was interrupted
    if "error" in result:
        raise TemploraError(*result["error"])
    if "licence" not in result:
        raise TemploraError(
            f"the conversion of {gguf.name} was killed, perhaps because memory ran out",
            "close other programs, or use the safetensors version of the model: --model FOLDER",
        )
    return str(result["licence"])


def _message(line: bytes) -> dict[str, Any] | None:
    """A message of the conversion process; None for a line that a library printed."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _ignore(text: str) -> None:
    """Discard the report."""


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def convert_gguf(
    gguf: Path,
    folder: Path,
    *,
    chat_template: bool = True,
    report: Report = _ignore,
    free: Callable[[Path], int] = _free,
) -> str:
    """Write `gguf` into `folder` as config.json, float16 model.safetensors and tokenizer files.

    `chat_template=False` omits the file's chat template, so that the model counts as a base model. Prints
    nothing. Returns the licence that the file names, or "". Raises TemploraError if the file is damaged,
    transformers does not support its architecture, or the disk is full; delete `folder` after an error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _quiet():
        try:
            licence, size = _licence_and_size(gguf)
            if size > (available := free(folder)):
                raise TemploraError(
                    f"{gguf.name} needs {format_bytes(size)} unpacked, but {folder.parent.parent} has only "
                    f"{format_bytes(available)} free",
                    DISK_HINT,
                )
            report(f"unpacking {gguf.name} to {format_bytes(size)}")
            model, tokenizer = _load(gguf, folder.parent)
        except TemploraError:
            raise
        except Exception as error:  # damaged files raise anything from struct.error to MemoryError
            raise _unreadable(gguf, error) from error
        if not chat_template:
            tokenizer.chat_template = None
        try:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            _drop_tokens_without_embedding(
                folder / "tokenizer.json", model.get_input_embeddings().num_embeddings
            )
        except Exception as error:  # a full disk raises OSError, or a SafetensorError that wraps it
            raise TemploraError(
                f"cannot write {folder}: {_first_line(error)}",
                DISK_HINT,
            ) from error
    return licence


def _licence_and_size(gguf: Path) -> tuple[str, int]:
    """The licence that the file names, and the bytes of its weights in float16."""
    from gguf import GGUFReader

    reader = GGUFReader(gguf)
    field = reader.get_field("general.license")
    value = str(field.contents()) if field else ""
    licence = value if re.fullmatch(r"[\w.+ -]{1,60}", value) else ""
    return licence, 2 * sum(int(tensor.n_elements) for tensor in reader.tensors)


def _load(gguf: Path, work: Path) -> tuple[Any, Any]:
    """Model (float16, on the CPU) and tokenizer of the file; `work` is for temporary files."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # transformers also reads other files in the folder (it would apply an adapter_config.json and prefer a
    # tokenizer_config.json), so the file is linked into an empty folder.
    with tempfile.TemporaryDirectory(prefix="gguf-", dir=work, ignore_cleanup_errors=True) as folder:
        _link(gguf.resolve(), Path(folder) / "model.gguf")
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file="model.gguf",
            # Where it has kernels, transformers leaves weights packed, and cannot save them.
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float16,
            output_loading_info=True,
        )
    _check(model, tokenizer, loading["missing_keys"], gguf.name)
    _follow_bos(tokenizer, gguf, transformers.__version__)
    return model, tokenizer


def _check(model: Any, tokenizer: Any, missing: Collection[str], name: str) -> None:
    """Raise TemploraError for faults that transformers ignores, and that make a model write nonsense."""
    import torch

    faults = [f"weight {key} is missing" for key in sorted(missing)]  # initialised at random
    faults += [
        f"weight {key} holds values that are not finite in float16"
        for key, weight in model.named_parameters()
        if not bool(torch.isfinite(weight).all())
    ]
    if tokenizer.vocab_size > model.get_input_embeddings().num_embeddings:
        faults.append("the tokenizer has tokens for which the model has no embedding")
    text = "The old cat sat on the mat."
    if tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip() != text:
        faults.append("the tokenizer does not reproduce a text that it encodes")
    if faults:
        others = f", and {len(faults) - 1} more faults" if len(faults) > 1 else ""
        raise TemploraError(
            f"cannot use {name}: {faults[0]}{others}",
            "use the safetensors version of the model: --model FOLDER",
        )


def _follow_bos(tokenizer: Any, gguf: Path, version: str) -> None:
    """Make the tokenizer begin texts with its BOS token if the file says so.

    transformers does that itself since 5.23, but 5.20 is the last `version` for Python 3.10.
    """
    major, minor = version.split(".")[:2]
    if (int(major), int(minor)) >= (5, 23):
        return
    from gguf import GGUFReader

    reader = GGUFReader(gguf)
    flag, model = (reader.get_field(f"tokenizer.ggml.{key}") for key in ("add_bos_token", "model"))
    # As in llama.cpp, a SentencePiece vocabulary adds it by default.
    adds_bos = flag.contents() if flag else bool(model) and model.contents() == "llama"
    if adds_bos and tokenizer.bos_token:
        tokenizer.add_bos_token = True


def _drop_tokens_without_embedding(file: Path, embeddings: int) -> None:
    """Remove added tokens from a saved tokenizer whose ids are not below `embeddings`.

    transformers adds GPT-2's <|endoftext|> to every byte-level vocabulary that lacks it.
    """
    saved = json.loads(file.read_text(encoding="utf-8"))
    valid = [token for token in saved["added_tokens"] if token["id"] < embeddings]
    if len(valid) < len(saved["added_tokens"]):
        saved["added_tokens"] = valid
        file.write_text(json.dumps(saved, ensure_ascii=False, indent=2), encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    """Link `target` to `source`, or copy it if this user cannot create links."""
    for link in (os.symlink, os.link):
        try:
            link(source, target)
            return
        except OSError:
            continue
    shutil.copyfile(source, target)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide progress bars, log lines and warnings of the libraries."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it logs to the stderr of its import, so redirection does not reach it
    try:
        # No setting turns off the progress bar of the GGUF reader, hence the redirection.
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)


def _unreadable(gguf: Path, error: Exception) -> TemploraError:
    """An error of one line for a failure to read the file."""
    if isinstance(error, MemoryError):
        reason = "there is not enough memory"
    elif isinstance(error, (struct.error, IndexError)) or "cannot reshape array" in str(error):
        reason = "it ends too early"
    else:
        reason = re.sub(r"\S*model\.gguf", "it", _first_line(error))
    return TemploraError(
        f"cannot read {gguf.name}: {reason}",
        "the file is damaged, or transformers does not support its architecture in GGUF",
    )


def _first_line(error: Exception) -> str:
    """The first line of the error's message, or its type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
