"""Models of the Hugging Face Hub: asked for by part of a name, described without weights, fetched, pinned."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from templora_cli.engine.models import catalog, hub
from templora_cli.engine.models.catalog import Sources
from templora_cli.errors import TemploraError
from tests.engine.models.fake_hub import CONFIG, NEWER, SHA, FakeHub, refused

QWEN = "Qwen/Qwen3-8B"
HTTP = importlib.import_module(errors.HfHubHTTPError.__bases__[0].__module__.partition(".")[0])
"""httpx or its successor."""
WHOLE = {
    "README.md": b"---\nlicense: mit\n---\n",
    "LICENSE": b"terms",
    "config.json": CONFIG,
    "model.safetensors": bytes(1000),
    "tokenizer.json": bytes(300),
    "chat_template.jinja": b"{{ 1 }}",
    "merges.txt": b"a b",
    "consolidated.safetensors": bytes(500),
    "modeling_custom.py": b"1/0",
    "onnx/model.json": b"{}",
    "original/consolidated.00.pth": b"pickle",
    "original/params.json": b"{}",
    "pytorch_model.bin": b"pickle",
    "training_args.pt": b"pickle",
}
FETCHED = {name: WHOLE[name] for name in list(WHOLE)[:7]}


@pytest.fixture
def fake(tmp_path: Path) -> FakeHub:
    """One that has Qwen3-8B."""
    return FakeHub(tmp_path / "hub", {QWEN: WHOLE})


@pytest.fixture
def sources(fake: FakeHub) -> Sources:
    return Sources(hub=fake.hub())


def silent(text: str) -> None:
    pass


def fails(kind: type[Exception] | Exception, fake: FakeHub) -> Sources:
    fake.failure = kind if isinstance(kind, Exception) else refused(kind)
    return Sources(hub=fake.hub())


# --- names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["Qwen3-8B", "qwen3-8b", "qwen/qwen3-8b", "https://huggingface.co/Qwen/Qwen3-8B"]
)
def test_what_is_typed_for_a_model_names_the_command_that_gets_it(
    name: str, sources: Sources, fake: FakeHub
) -> None:
    with pytest.raises(TemploraError) as caught:
        catalog.resolve(name, silent, sources)
    assert caught.value.message == f"model {QWEN} is not on this machine"
    assert caught.value.hint == f"templora models pull {QWEN}"
    assert fake.requests == []
    folder = catalog.pull(QWEN, silent, sources)
    said: list[str] = []
    assert catalog.resolve(name, said.append, sources) == folder, "and then the same command works"
    assert said == [] or said == [f"using {QWEN} for {name}"]


def test_a_part_of_a_name_is_told_with_what_it_is_taken_for(sources: Sources) -> None:
    with pytest.raises(TemploraError) as caught:
        catalog.resolve("mistral 7b instruct", silent, sources)
    model = "mistralai/Mistral-7B-Instruct-v0.3"
    assert caught.value.message == (f"'mistral 7b instruct' means {model}, which is not on this machine")
    assert caught.value.hint == f"templora models pull {model}"


def test_several_that_may_be_meant_are_named(sources: Sources, fake: FakeHub) -> None:
    for find in (catalog.resolve, catalog.pull):
        with pytest.raises(TemploraError) as caught:
            find("qwen3:8b", silent, sources)
        assert caught.value.message == (
            f"unknown model 'qwen3:8b'; did you mean {QWEN} or Qwen/Qwen3-8B-Base?"
        )
        assert caught.value.hint == f"templora models pull {QWEN}"
    catalog.pull(QWEN, silent, sources)
    with pytest.raises(TemploraError) as caught:
        catalog.resolve("qwen3:8b", silent, sources)
    assert caught.value.hint == f"--model {QWEN}", "it is here"


def test_what_no_table_knows_is_searched_for(tmp_path: Path) -> None:
    fake = FakeHub(tmp_path, {"someone/Plumbus-9B": WHOLE, "bad/../name": WHOLE})
    with pytest.raises(TemploraError) as caught:
        catalog.resolve("plumbus-9b", silent, Sources(hub=fake.hub()))
    assert caught.value.message == "unknown model 'plumbus-9b'; did you mean someone/Plumbus-9B?"
    with pytest.raises(TemploraError) as caught:
        catalog.resolve("plumbus-9b", silent, fails(ConnectionError, fake))
    assert (caught.value.message, caught.value.hint) == ("unknown model 'plumbus-9b'", "templora models list")


def test_an_id_that_the_hub_does_not_have(sources: Sources) -> None:
    with pytest.raises(TemploraError) as caught:
        catalog.pull("Qwen/Qwen3-8B-Instruct", silent, sources)
    assert caught.value.message == (
        "the Hugging Face Hub has no model Qwen/Qwen3-8B-Instruct, or it is private; "
        f"did you mean {QWEN} or Qwen/Qwen3-8B-Base?"
    )
    with pytest.raises(TemploraError) as caught:
        catalog.pull("no/such-model", silent, sources)
    assert caught.value.message == "the Hugging Face Hub has no model no/such-model, or it is private"


# --- the configuration alone -------------------------------------------------------------------------


@pytest.mark.parametrize("name", [QWEN, "qwen3-8b"])
def test_a_model_is_described_without_its_weights(name: str, sources: Sources, fake: FakeHub) -> None:
    said: list[str] = []
    with catalog.described(name, said.append, sources) as model:
        assert (model.name, model.is_here) == (QWEN, False)
        assert sorted(path.name for path in model.folder.iterdir()) == ["config.json"]
        assert model.download_bytes == sum(map(len, FETCHED.values())) and model.tokenizer_bytes == 300
    assert said == ([] if name == QWEN else [f"using {QWEN} for {name}"])
    assert fake.requests == [f"info {QWEN}", f"file {QWEN} config.json"]
    with pytest.raises(TemploraError, match=f"^model {QWEN} is not on this machine"):
        catalog.resolve(QWEN, silent, sources)
    assert QWEN not in {model.name for model in catalog.listing(sources) if model.path}


def test_what_an_earlier_look_left_does_without_a_network(sources: Sources, fake: FakeHub) -> None:
    with catalog.described(QWEN, silent, sources) as first:
        pass
    with catalog.described(QWEN, silent, fails(ConnectionError, fake)) as model:
        assert (model.folder, model.is_here, model.download_bytes) == (first.folder, False, None)


def test_a_look_does_not_disturb_what_is_here(sources: Sources, fake: FakeHub) -> None:
    folder = catalog.pull(QWEN, silent, sources)
    asked = list(fake.requests)
    with catalog.described(QWEN, silent, sources) as model:
        assert (model.folder, model.is_here) == (folder, True)
    assert fake.requests == asked


@pytest.mark.parametrize("name", [QWEN, "Qwen3-8B"])
def test_a_description_without_a_network(name: str, fake: FakeHub) -> None:
    with (
        pytest.raises(TemploraError) as caught,
        catalog.described(name, silent, fails(ConnectionError, fake)),
    ):
        pass
    assert caught.value.message == "cannot reach the Hugging Face Hub"
    assert caught.value.hint == (
        f"check the network, then: templora doctor --model {QWEN}; "
        "without a network: --model FOLDER, a folder with its config.json"
    )


def test_a_gated_model_is_not_described(fake: FakeHub) -> None:
    fake.gated = True
    with (
        pytest.raises(TemploraError, match=r"licence of .* must be accepted"),
        catalog.described(QWEN, silent, Sources(hub=fake.hub())),
    ):
        pass


def test_a_repository_without_a_configuration(tmp_path: Path) -> None:
    for files, message in (
        (["model.safetensors"], f"{QWEN} has no config.json"),
        (["x.gguf"], f"{QWEN} has GGUF files"),
        (["config.json", "pytorch_model.bin"], f"{QWEN} has no safetensors weights"),
    ):
        fake = FakeHub(tmp_path, {QWEN: dict.fromkeys(files, CONFIG)})
        with pytest.raises(TemploraError) as caught, catalog.described(QWEN, silent, Sources(hub=fake.hub())):
            pass
        assert caught.value.message.startswith(message)


def test_an_empty_name_is_not_the_working_folder(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_bytes(CONFIG)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TemploraError, match="unknown model ''"), catalog.described("", silent, sources):
        pass


def test_aliases_are_described_before_they_are_here(sources: Sources, fake: FakeHub) -> None:
    for name, alias in catalog.ALIASES.items():
        with catalog.described(name.upper(), silent, sources) as model:
            assert (model.folder / "config.json").is_file() and not model.is_here
            assert (model.name, model.download_bytes) == (name, alias.download_bytes)
            assert model.tokenizer_bytes == alias.tokenizer_bytes
    assert fake.requests == []


class Signatures:
    """Stands for the Hub: takes what its own methods take, and finds one model."""

    def __getattr__(self, name: str) -> Any:
        def called(*arguments: Any, **named: Any) -> list[Any]:
            inspect.signature(getattr(huggingface_hub.HfApi(), name)).bind(*arguments, **named)
            return [SimpleNamespace(id=QWEN)]

        return called


def test_the_library_takes_what_it_is_asked_for() -> None:
    """It is never reached from here, so its signatures are asked."""
    assert hub._info(QWEN, Signatures())[0].id == QWEN
    assert hub._search("qwen3", Signatures()) == [QWEN]
    for fake, real in (
        (FakeHub.file, huggingface_hub.hf_hub_download),
        (FakeHub.snapshot, huggingface_hub.snapshot_download),
    ):
        asked = [
            name for name, one in inspect.signature(fake).parameters.items() if one.kind == one.KEYWORD_ONLY
        ]
        assert asked and set(asked) <= inspect.signature(real).parameters.keys()


# --- all of it ---------------------------------------------------------------------------------------


def test_pull_takes_no_pickles_and_no_second_copy(sources: Sources) -> None:
    folder = catalog.pull(QWEN, silent, sources)
    taken = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*")}
    assert taken == FETCHED
    said: list[str] = []
    assert catalog.pull(QWEN, said.append, sources) == folder
    assert said == [f"looking up {QWEN} on the Hugging Face Hub", f"{QWEN} is already on this machine"]


def test_a_model_stays_at_its_commit_until_it_is_pulled_again(sources: Sources, fake: FakeHub) -> None:
    first = catalog.pull(QWEN, silent, sources)
    assert first.name == SHA
    repository = first.parents[1]
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(NEWER)  # as another program leaves it
    fake.revision = NEWER
    with catalog.described(QWEN, silent, sources) as model:
        assert model.folder == first
    assert catalog.resolve(QWEN, silent, sources) == first
    newer = catalog.pull(QWEN, silent, sources)
    assert newer.name == NEWER and catalog.resolve(QWEN, silent, sources) == newer


def test_the_licence_is_noted(sources: Sources) -> None:
    catalog.pull(QWEN, silent, sources)
    (listed,) = [model for model in catalog.listing(sources) if model.name == QWEN]
    assert (listed.licence, listed.kind) == ("apache-2.0", "chat"), "as the Hub says it"
    assert listed.bytes == sum(map(len, FETCHED.values()))


@pytest.mark.parametrize("licence", ["\x1b[31mred", "a\nb", "x" * 1000])
def test_a_licence_that_is_none(licence: str, fake: FakeHub) -> None:
    fake.licence = licence
    sources = Sources(hub=fake.hub())
    catalog.pull(QWEN, silent, sources)
    (listed,) = [model for model in catalog.listing(sources) if model.name == QWEN]
    assert listed.licence == "mit", "that of the page"


def test_what_another_program_fetched_is_found(sources: Sources, fake: FakeHub) -> None:
    repository = fake.cache / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    folder = repository / "snapshots" / "abc123"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(CONFIG)
    with pytest.raises(TemploraError, match=r"^model some/model is not on this machine"):
        catalog.resolve("some/model", silent, sources)
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(TemploraError, match=r"some/model has no safetensors weights; .* pickled"):
        catalog.resolve("some/model", silent, sources)
    (folder / "model.safetensors").touch()
    assert catalog.resolve("some/model", silent, sources) == folder
    assert catalog.resolve("model", silent, sources) == folder
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}')
    with pytest.raises(TemploraError, match="some/model is incomplete") as caught:
        catalog.resolve("some/model", silent, sources)
    assert caught.value.hint == "templora models pull some/model"


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        (
            ["config.json", "x-Q8_0.gguf", "x-Q4_K_M.gguf"],
            "has GGUF files instead of safetensors",
            f"hf download {QWEN} x-Q4_K_M.gguf --local-dir . (or another of its files), then use --model "
            "with that file",
        ),
        (["config.json", "pytorch_model.bin"], "no safetensors weights; .* pickled", "templora models list"),
        (["README.md"], "no safetensors weights", "templora models list"),
    ],
)
def test_what_cannot_be_loaded_is_not_fetched(
    files: list[str], message: str, hint: str, tmp_path: Path
) -> None:
    fake = FakeHub(tmp_path, {QWEN: dict.fromkeys(files, b"x")})
    with pytest.raises(TemploraError, match=message) as caught:
        catalog.pull(QWEN, silent, Sources(hub=fake.hub()))
    assert str(caught.value.hint).startswith(hint) and fake.requests == [f"info {QWEN}"]


def test_a_disk_that_is_too_small_is_said_before(fake: FakeHub) -> None:
    def info(name: str) -> Any:
        found = fake.info(name)
        found.siblings[3].size = 10**18
        return found

    with pytest.raises(TemploraError, match=rf"{QWEN} needs 1,000,000,000\.0 GB, but .* free") as caught:
        catalog.pull(QWEN, silent, Sources(hub=replace(fake.hub(), info=info)))
    assert "HF_HOME" in str(caught.value.hint) and fake.requests == [f"info {QWEN}"]


def test_a_pull_without_a_network_of_what_is_here(sources: Sources, fake: FakeHub) -> None:
    folder = catalog.pull(QWEN, silent, sources)
    said: list[str] = []
    assert catalog.pull(QWEN, said.append, fails(ConnectionError, fake)) == folder
    assert said[-1].startswith(f"{QWEN} is already on this machine; could not check for a newer version")


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (errors.GatedRepoError, "licence of .* must be accepted", "hf auth login"),
        (errors.OfflineModeIsEnabled, "HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE"),
        (errors.LocalEntryNotFoundError, "cannot reach the Hugging Face Hub", "network"),
        (ConnectionResetError, "cannot reach the Hugging Face Hub", "network"),
        (HTTP.ConnectError("no route\nto host"), "cannot reach the Hugging Face Hub", "network"),
        (HTTP.ReadTimeout("too slow"), "cannot reach the Hugging Face Hub", "network"),
        (RuntimeError, f"cannot download {QWEN}: RuntimeError", f"templora models pull {QWEN}"),
    ],
)
def test_what_the_hub_says_in_a_line(error: Any, message: str, hint: str, fake: FakeHub) -> None:
    with pytest.raises(TemploraError, match=message) as caught:
        catalog.pull(QWEN, silent, fails(error, fake))
    assert "\n" not in caught.value.message and hint in str(caught.value.hint)


@pytest.mark.parametrize("changes", [{"id": "../../etc"}, {"sha": "../x"}, {"sha": None}])
def test_an_answer_that_would_lead_elsewhere(changes: dict[str, Any], fake: FakeHub) -> None:
    def info(name: str) -> Any:
        found = fake.info(name)
        vars(found).update(changes)
        return found

    with pytest.raises(TemploraError, match="sent an unexpected answer"):
        catalog.pull(QWEN, silent, Sources(hub=replace(fake.hub(), info=info)))
