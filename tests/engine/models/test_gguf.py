"""Conversion of GGUF files: weights, tokenizer, and files that are refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import load_file
from tokenizers.normalizers import Lowercase
from transformers import AutoModelForCausalLM, AutoTokenizer

from templora_cli.engine.models.gguf import _check, _follow_bos, convert_gguf, convert_in_subprocess
from templora_cli.errors import TemploraError
from tests.engine.models.tiny_gguf import END, write_tiny_gguf


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "tiny.gguf")


def test_weights_are_unpacked_to_float16(tiny: Path, tmp_path: Path) -> None:
    convert_gguf(tiny, tmp_path / "out")
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.float16}
    packed = {tensor.name: tensor for tensor in GGUFReader(tiny).tensors}
    for ours, theirs in {
        "model.embed_tokens.weight": "token_embd.weight",
        "lm_head.weight": "output.weight",
        "model.layers.1.mlp.down_proj.weight": "blk.1.ffn_down.weight",
        "model.norm.weight": "output_norm.weight",
    }.items():
        expected = dequantize(packed[theirs].data, packed[theirs].tensor_type).astype(np.float16)
        assert torch.equal(saved[ours], torch.from_numpy(expected)), ours


def test_the_copy_loads_as_an_unquantised_model(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    convert_gguf(tiny, folder)
    assert "quantization_config" not in json.loads((folder / "config.json").read_text("utf-8"))
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, END + 1)
    model.half()  # transformers refuses it for a quantised model


def test_the_tokenizer_is_converted(tiny: Path, tmp_path: Path) -> None:
    convert_gguf(tiny, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "the Müller's\n\n «你好» the"
    tokens = tokenizer(text)["input_ids"]
    assert tokens[0] == tokens[-1] == 257  # "the", merged
    assert tokenizer.decode(tokens) == text
    assert tokenizer("a<|end|>")["input_ids"][-1] == tokenizer.eos_token_id == END
    assert tokenizer.chat_template == "{{ messages[0]['content'] }}"


def test_the_chat_template_can_be_left_out(tiny: Path, tmp_path: Path) -> None:
    convert_gguf(tiny, tmp_path / "out", chat_template=False)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template is None


@pytest.mark.parametrize("add_bos", [True, False])
def test_bos_is_added_if_the_file_says_so(tmp_path: Path, add_bos: bool) -> None:
    file = write_tiny_gguf(tmp_path / "bos.gguf", add_bos=add_bos)
    convert_gguf(file, tmp_path / "out")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out")("the")["input_ids"]
    assert tokens == ([END, 257] if add_bos else [257])


@pytest.mark.parametrize("add_bos", [True, False])
def test_bos_is_set_explicitly_for_an_older_transformers(tmp_path: Path, add_bos: bool) -> None:
    """The last one for Python 3.10 does not add it."""
    convert_gguf(write_tiny_gguf(tmp_path / "none.gguf", add_bos=False), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    file = write_tiny_gguf(tmp_path / "bos.gguf", add_bos=add_bos)
    _follow_bos(tokenizer, file, "5.23.0")
    assert tokenizer("the")["input_ids"] == [257]
    _follow_bos(tokenizer, file, "5.20.2")
    assert tokenizer("the")["input_ids"] == ([END, 257] if add_bos else [257])


def test_nothing_is_printed_and_logging_settings_are_restored(tiny: Path, tmp_path: Path) -> None:
    """In a separate process, because pytest captures log handlers."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from transformers.utils import logging\n"
        "from templora_cli.engine.models.gguf import convert_gguf\n"
        "before = sys.stderr\n"
        "logging.set_verbosity_info()\n"
        "convert_gguf(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "assert logging.get_verbosity() == logging.INFO\n"
        "assert sys.stderr is before and logging.is_progress_bar_enabled()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_other_files_in_the_folder_are_ignored(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<other>"}')
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    convert_gguf(tiny, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").bos_token == "<|end|>"


def test_a_conversion_leaves_no_other_files(tiny: Path, tmp_path: Path) -> None:
    convert_gguf(tiny, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name not in ("work", "config.toml")) == [
        "out",
        "tiny.gguf",
    ]


def test_a_missing_weight_is_refused(tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "holes.gguf", without=["blk.1.attn_k.weight", "blk.0.ffn_up.weight"])
    with pytest.raises(TemploraError, match=r"holes\.gguf: .*mlp\.up_proj\.weight is missing.* 1 more fault"):
        convert_gguf(file, tmp_path / "out")


def test_infinite_weights_are_refused(tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "inf.gguf", broken=["blk.0.ffn_up.weight"])
    with pytest.raises(TemploraError, match=r"up_proj\.weight holds values that are not finite in float16"):
        convert_gguf(file, tmp_path / "out")


def test_a_tokenizer_that_loses_text_is_refused(tiny: Path, tmp_path: Path) -> None:
    convert_gguf(tiny, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    _check(model, tokenizer, (), "tiny.gguf")
    tokenizer.backend_tokenizer.normalizer = Lowercase()
    with pytest.raises(TemploraError, match="does not reproduce a text"):
        _check(model, tokenizer, (), "tiny.gguf")


def test_tokens_that_the_model_lacks_are_refused(tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "short.gguf", embeddings=200)
    with pytest.raises(TemploraError, match="tokens for which the model has no embedding"):
        convert_gguf(file, tmp_path / "out")


def test_no_token_is_added(tiny: Path, tmp_path: Path) -> None:
    """transformers adds an <|endoftext|> that the model does not have."""
    convert_gguf(tiny, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(tokenizer) == END + 1 and set(tokenizer.added_tokens_decoder) == {END}
    assert max(tokenizer("a<|endoftext|>")["input_ids"]) < END


def test_an_unknown_architecture_is_named(tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "new.gguf", architecture="plumbus")
    with pytest.raises(TemploraError, match=r"cannot read new\.gguf: .*plumbus") as caught:
        convert_gguf(file, tmp_path / "out")
    assert "architecture" in str(caught.value.hint)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused_in_one_line(tiny: Path, tmp_path: Path, share: float) -> None:
    whole = tiny.read_bytes()
    (tmp_path / "half.gguf").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(TemploraError, match=r"cannot read half\.gguf: ") as caught:
        convert_gguf(tmp_path / "half.gguf", tmp_path / "out")
    assert "\n" not in caught.value.message
    if share >= 0.1:
        assert caught.value.message == "cannot read half.gguf: it ends too early"


def test_the_error_for_another_format_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_bytes(b"something else altogether" * 100)
    with pytest.raises(TemploraError, match=r"cannot read other\.gguf: ") as caught:
        convert_gguf(tmp_path / "other.gguf", tmp_path / "out")
    assert "model.gguf" not in caught.value.message and str(tmp_path) not in caught.value.message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_reported(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").symlink_to("/dev/full")
    with pytest.raises(TemploraError, match=r"cannot write .*No space left"):
        convert_gguf(tiny, tmp_path / "out")


def test_a_disk_that_is_too_small_is_said_before(tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "tiny.gguf", licence="mit")
    with pytest.raises(
        TemploraError, match=r"tiny\.gguf needs 70 kB unpacked, but .* has only 1 kB free"
    ) as caught:
        convert_gguf(file, tmp_path / "work" / "out", free=lambda folder: 1000)
    assert "TEMPLORA_CACHE" in str(caught.value.hint)
    assert convert_gguf(file, tmp_path / "work" / "out", free=lambda folder: 10**6) == "mit"


# --- in a process of its own -------------------------------------------------------------------------

ROOT = Path(__file__).parents[3]


def silent(text: str) -> None:
    pass


def test_a_process_of_its_own_leaves_nothing_in_this_one(tmp_path: Path) -> None:
    """Neither the libraries nor what they took of memory; nor is anything of the working folder run."""
    write_tiny_gguf(tmp_path / "tiny.gguf", licence="mit")
    for name in ("torch", "json", "templora_cli"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('of the working folder')")
    script = (
        "import os, sys\n"
        "sys.path[0] = os.getcwd()\n"
        "from pathlib import Path\n"
        "from templora_cli.engine.models.gguf import convert_in_subprocess\n"
        "os.chdir(sys.argv[1])\n"
        "said = []\n"
        "file, out = Path('tiny.gguf'), Path('out')\n"
        "print(convert_in_subprocess(file, out, report=said.append, chat_template=False), *said)\n"
        "assert not {'torch', 'transformers', 'gguf', 'numpy'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.stdout, done.stderr) == ("mit unpacking tiny.gguf to 70 kB\n", "")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template is None


def test_its_errors_are_those_of_the_conversion(tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "new.gguf", architecture="plumbus")
    with pytest.raises(TemploraError, match=r"cannot read new\.gguf: .*plumbus") as caught:
        convert_in_subprocess(file, tmp_path / "out", report=silent)
    assert "architecture" in str(caught.value.hint)


def child_of(process: subprocess.Popen[str]) -> int:
    """The process that it has started, once there is one."""
    for _ in range(200):
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if listed:
            return int(listed[0])
        time.sleep(0.05)
    raise AssertionError("it started none")


def has_ended(pid: int) -> bool:
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("kill", ["the process itself", "this one", "Ctrl-C"])
def test_a_kill_leaves_no_process_and_no_half_model(kill: str, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "my.gguf")
    script = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "from templora_cli.engine.models import catalog\n"
        "from templora_cli.errors import TemploraError\n"
        "try: catalog.resolve(sys.argv[1], print)\n"
        "except TemploraError as error: print(error.message)\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    environment = {**os.environ, "TEMPLORA_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", script, str(tmp_path / "my.gguf")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        child = child_of(process)
        if kill == "the process itself":
            os.kill(child, signal.SIGKILL)
        else:
            process.send_signal(signal.SIGKILL if kill == "this one" else signal.SIGINT)
        said = process.communicate(timeout=60)[0]
    assert has_ended(child)
    if kill == "the process itself":
        assert "the conversion of my.gguf was killed" in said
    assert ("interrupted" in said) == (kill == "Ctrl-C")
    left = [path.name for path in (tmp_path / "cache" / "models").iterdir()]
    assert len(left) == (kill == "this one") and all(name.startswith(".pull-") for name in left)
    again = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert again.returncode == 0 and again.stderr == ""
    (model,) = (tmp_path / "cache" / "models").iterdir()
    assert model.name.startswith("gguf-") and (model / "model.safetensors").is_file()
