"""From one GGUF file to a model folder: float16 safetensors and tokenizer files.

Loading a GGUF takes transformers tens of seconds every time, the converted folder a few. So each
file is converted once, and everything else in templora only ever sees folders. Where the folders lie
is the business of `catalog.py`.
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

from templora_cli.engine.models.folders import Report, in_words
from templora_cli.errors import TemploraError

ELSEWHERE = "make room there, or name another folder in the environment variable TEMPLORA_CACHE"
CHILD = """
import sys
sys.path[:] = sys.argv[4:]
from templora_cli.engine.models.gguf_process import convert_for_parent
convert_for_parent(*sys.argv[1:4])
"""
"""Modules are looked for where this process looks: the working folder is not to be trusted."""


def convert_apart(gguf: Path, folder: Path, *, report: Report, chat_template: bool = True) -> str:
    """`convert_gguf` in a process of its own, with which goes the memory that it took.

    That process ends with this one. Raises TemploraError as `convert_gguf` does, and where it is killed.
    """
    command = [sys.executable, "-c", CHILD, str(gguf), str(folder), "chat" if chat_template else "base"]
    result: dict[str, Any] = {}
    with subprocess.Popen(
        [*command, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            for line in process.stdout or ():
                result = _said(line) or result
                if "doing" in result:
                    report(result["doing"])
        finally:
            process.kill()  # it has ended, unless this process was interrupted
    if "error" in result:
        raise TemploraError(*result["error"])
    if "licence" not in result:
        raise TemploraError(
            f"converting {gguf.name} was stopped from outside, perhaps for lack of memory",
            "close other programs, or use the model's safetensors: --model takes their folder",
        )
    return str(result["licence"])


def _said(line: bytes) -> dict[str, Any] | None:
    """A line of the other process, if it is one of its own and not one of a library."""
    try:
        read = json.loads(line)
    except ValueError:
        return None
    return read if isinstance(read, dict) else None


def _nobody(text: str) -> None:
    """Nobody is told."""


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def convert_gguf(
    gguf: Path,
    folder: Path,
    *,
    chat_template: bool = True,
    report: Report = _nobody,
    free: Callable[[Path], int] = _free,
) -> str:
    """Write `gguf` into `folder` as config.json, float16 model.safetensors and tokenizer files.

    `chat_template=False` leaves the file's chat template out, so that the model is taken for one that
    only continues text. Nothing is printed. What stands in `folder` after an error is to be thrown
    away. Returns the licence that the file names, or "". Raises TemploraError where the file is damaged, its
    architecture unknown to transformers, or the disk full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _silence():
        try:
            licence, size = _facts(gguf)
            if size > (there := free(folder)):
                told = f"{gguf.name} takes {in_words(size)} unpacked, and {in_words(there)} are free"
                raise TemploraError(f"{told} in {folder.parent.parent}", ELSEWHERE)
            report(f"unpacking {gguf.name} to {in_words(size)}")
            model, tokenizer = _load(gguf, folder.parent)
        except TemploraError:
            raise
        except Exception as error:  # damaged bytes come out as anything, from struct.error to MemoryError
            raise _unreadable(gguf, error) from error
        if not chat_template:
            tokenizer.chat_template = None
        try:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            _drop_foreign_tokens(folder / "tokenizer.json", model.get_input_embeddings().num_embeddings)
        except Exception as error:  # a full disk is an OSError or the SafetensorError that wraps it
            raise TemploraError(
                f"cannot write {folder}: {_first_line(error)}",
                ELSEWHERE,
            ) from error
    return licence


def _facts(gguf: Path) -> tuple[str, int]:
    """The licence that the file names, and the bytes of its weights in float16."""
    from gguf import GGUFReader

    reader = GGUFReader(gguf)
    field = reader.get_field("general.license")
    said = str(field.contents()) if field else ""
    licence = said if re.fullmatch(r"[\w.+ -]{1,60}", said) else ""
    return licence, 2 * sum(int(tensor.n_elements) for tensor in reader.tensors)


def _load(gguf: Path, beside: Path) -> tuple[Any, Any]:
    """Model (float16, on the CPU) and tokenizer of the file."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # transformers also reads what lies next to the file (an adapter_config.json would be applied, a
    # tokenizer_config.json preferred), so it is shown the file in a folder of its own.
    with tempfile.TemporaryDirectory(prefix="gguf-", dir=beside, ignore_cleanup_errors=True) as alone:
        _link(gguf.resolve(), Path(alone) / "model.gguf")
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file="model.gguf")
        model, loading = AutoModelForCausalLM.from_pretrained(
            alone,
            gguf_file="model.gguf",
            # Weights that stay in their blocks (it tries to where it has kernels) cannot be saved.
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float16,
            output_loading_info=True,
        )
    _check(model, tokenizer, loading["missing_keys"], gguf.name)
    _follow_bos(tokenizer, gguf, transformers.__version__)
    return model, tokenizer


def _check(model: Any, tokenizer: Any, missing: Collection[str], name: str) -> None:
    """Refuse what transformers takes without a word: these make a model that writes nonsense."""
    import torch

    faults = [f"weight {key} is missing" for key in sorted(missing)]  # it would fill them at random
    faults += [
        f"weight {key} holds values that are no float16 numbers"
        for key, weight in model.named_parameters()
        if not bool(torch.isfinite(weight).all())
    ]
    if tokenizer.vocab_size > model.get_input_embeddings().num_embeddings:
        faults.append("the tokenizer has tokens that the model does not know")
    text = "The old cat sat on the mat."
    if tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip() != text:
        faults.append("the tokenizer does not give back the text that it was given")
    if faults:
        more = f", and {len(faults) - 1} faults more" if len(faults) > 1 else ""
        raise TemploraError(
            f"cannot use {name}: {faults[0]}{more}", "use the model's safetensors: --model takes their folder"
        )


def _follow_bos(tokenizer: Any, gguf: Path, version: str) -> None:
    """Let the tokenizer begin a text with its BOS token where the file says so.

    transformers does that itself from 5.23 on, but 5.20 is the last `version` for Python 3.10.
    """
    major, minor = version.split(".")[:2]
    if (int(major), int(minor)) >= (5, 23):
        return
    from gguf import GGUFReader

    reader = GGUFReader(gguf)
    flag, model = (reader.get_field(f"tokenizer.ggml.{key}") for key in ("add_bos_token", "model"))
    # Sentencepiece vocabularies begin with it unless the file says otherwise, as in llama.cpp.
    wanted = flag.contents() if flag else bool(model) and model.contents() == "llama"
    if wanted and tokenizer.bos_token:
        tokenizer.add_bos_token = True


def _drop_foreign_tokens(file: Path, known: int) -> None:
    """Take out of a saved tokenizer what the model, with its `known` tokens, has no embedding for.

    transformers adds GPT-2's <|endoftext|> to every byte-level vocabulary that has none.
    """
    saved = json.loads(file.read_text(encoding="utf-8"))
    kept = [token for token in saved["added_tokens"] if token["id"] < known]
    if len(kept) < len(saved["added_tokens"]):
        saved["added_tokens"] = kept
        file.write_text(json.dumps(saved, ensure_ascii=False, indent=2), encoding="utf-8")


def _link(source: Path, place: Path) -> None:
    """Let `place` be `source`: a link where the system allows one to this user, else a copy."""
    for make in (os.symlink, os.link):
        try:
            make(source, place)
            return
        except OSError:
            continue
    shutil.copyfile(source, place)


@contextmanager
def _silence() -> Iterator[None]:
    """No progress bars, log lines or warnings of the libraries inside."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its log goes to the stderr of when it was imported
    try:
        # The GGUF reader draws a tqdm bar that no setting reaches, hence the redirection.
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)


def _unreadable(gguf: Path, error: Exception) -> TemploraError:
    """What to tell of an error in reading; the error itself stays its cause, for --debug."""
    if isinstance(error, MemoryError):
        reason = "there is not enough memory"
    elif isinstance(error, (struct.error, IndexError)) or "cannot reshape array" in str(error):
        reason = "it ends too early"
    else:
        reason = re.sub(r"\S*model\.gguf", "it", _first_line(error))
    return TemploraError(
        f"cannot read {gguf.name}: {reason}",
        "the file is damaged, or of an architecture that transformers does not read from GGUF",
    )


def _first_line(error: Exception) -> str:
    """The first line that the error has to say, or its kind."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
