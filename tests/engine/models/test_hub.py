"""Models of the Hugging Face Hub: partial names, descriptions without weights, downloads, pinned commits."""

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
"""The HTTP library of huggingface_hub: httpx or its successor."""
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
    """A Hub with Qwen3-8B."""
    return FakeHub(tmp_path / "hub", {QWEN: WHOLE})


@pytest.fixture
def sources(fake: FakeHub) -> Sources:
    return Sources(hub=fake.hub())


def silent(text: str) -> None:
    pass


def fails(kind: type[Exception] | Exception, fake: FakeHub) -> Sources:
    """Sources whose Hub raises this error from now on."""
    fake.failure = kind if isinstance(kind, Exception) else refused(kind)
    return Sources(hub=fake.hub())


# --- names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["Qwen3-8B", "qwen3-8b", "qwen/qwen3-8b", "https://huggingface.co/Qwen/Qwen3-8B"]
)
def test_a_typed_name_gives_the_command_that_downloads_the_model(
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


def test_a_partial_name_is_reported_with_its_model(sources: Sources) -> None:
    with pytest.raises(TemploraError) as caught:
        catalog.resolve("mistral 7b instruct", silent, sources)
    model = "mistralai/Mistral-7B-Instruct-v0.3"
    assert caught.value.message == (f"'mistral 7b instruct' means {model}, which is not on this machine")
    assert caught.value.hint == f"templora models pull {model}"


def test_an_ambiguous_name_is_refused_with_its_candidates(sources: Sources, fake: FakeHub) -> None:
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
    assert caught.value.hint == f"--model {QWEN}", "it is on this machine"


def test_an_unknown_name_is_searched_on_the_hub(tmp_path: Path) -> None:
    fake = FakeHub(tmp_path, {"someone/Plumbus-9B": WHOLE, "bad/../name": WHOLE})
    with pytest.raises(TemploraError) as caught:
        catalog.resolve("plumbus-9b", silent, Sources(hub=fake.hub()))
    assert caught.value.message == "unknown model 'plumbus-9b'; did you mean someone/Plumbus-9B?"
    with pytest.raises(TemploraError) as caught:
        catalog.resolve("plumbus-9b", silent, fails(ConnectionError, fake))
    assert (caught.value.message, caught.value.hint) == ("unknown model 'plumbus-9b'", "templora models list")


def test_an_id_that_is_not_on_the_hub_is_refused(sources: Sources) -> None:
    with pytest.raises(TemploraError) as caught:
        catalog.pull("Qwen/Qwen3-8B-Instruct", silent, sources)
    assert caught.value.message == (
        "the Hugging Face Hub has no model Qwen/Qwen3-8B-Instruct, or it is private; "
        f"did you mean {QWEN} or Qwen/Qwen3-8B-Base?"
    )
    with pytest.raises(TemploraError) as caught:
        catalog.pull("no/such-model", silent, sources)
    assert caught.value.message == "the Hugging Face Hub has no model no/such-model, or it is private"


# --- descriptions without weights --------------------------------------------------------------------


@pytest.mark.parametrize("name", [QWEN, "qwen3-8b"])
def test_a_model_is_described_without_its_weights(name: str, sources: Sources, fake: FakeHub) -> None:
    reports: list[str] = []
    with catalog.described(name, reports.append, sources) as model:
        assert (model.name, model.is_here) == (QWEN, False)
        assert sorted(path.name for path in model.folder.iterdir()) == ["config.json"]
        assert model.download_bytes == sum(map(len, FETCHED.values())) and model.tokenizer_bytes == 300
    assert said == ([] if name == QWEN else [f"using {QWEN} for {name}"])
    assert fake.asked == [f"info {QWEN}", f"file {QWEN} config.json"]
    with pytest.raises(TemploraError, match=f"^model {QWEN} is not on this machine"):
        catalog.resolve(QWEN, silent, sources)
    assert QWEN not in {model.name for model in catalog.listing(sources) if model.path}


def test_an_earlier_description_works_without_a_network(sources: Sources, fake: FakeHub) -> None:
    with catalog.described(QWEN, silent, sources) as first:
        pass
    with catalog.described(QWEN, silent, fails(ConnectionError, fake)) as model:
        assert (model.folder, model.is_here, model.download_bytes) == (first.folder, False, None)


def test_a_local_model_is_described_without_requests(sources: Sources, fake: FakeHub) -> None:
    folder = catalog.pull(QWEN, silent, sources)
    requests = list(fake.requests)
    with catalog.described(QWEN, silent, sources) as model:
        assert (model.folder, model.is_here) == (folder, True)
    assert fake.requests == requests


@pytest.mark.parametrize("name", [QWEN, "Qwen3-8B"])
def test_a_new_description_without_a_network_is_refused(name: str, fake: FakeHub) -> None:
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


def test_a_repository_without_a_usable_model_is_not_described(tmp_path: Path) -> None:
    for files, message in (
        (["model.safetensors"], f"{QWEN} has no config.json"),
        (["x.gguf"], f"{QWEN} has GGUF files"),
        (["config.json", "pytorch_model.bin"], f"{QWEN} has no safetensors weights"),
    ):
        fake = FakeHub(tmp_path, {QWEN: dict.fromkeys(files, CONFIG)})
        with pytest.raises(TemploraError) as caught, catalog.described(QWEN, silent, Sources(hub=fake.hub())):
            pass
        assert caught.value.message.startswith(message)


def test_aliases_are_described_without_a_download(sources: Sources, fake: FakeHub) -> None:
    for name, alias in catalog.ALIASES.items():
        with catalog.described(name.upper(), silent, sources) as model:
            assert (model.folder / "config.json").is_file() and not model.is_here
            assert (model.name, model.download_bytes) == (name, alias.download_bytes)
            assert model.tokenizer_bytes == alias.tokenizer_bytes
    assert fake.requests == []


class Signatures:
    """Replaces the Hub: it checks the arguments of its methods, and returns one model."""

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> list[Any]:
            inspect.signature(getattr(huggingface_hub.HfApi(), name)).bind(*arguments, **named)
            return [SimpleNamespace(id=QWEN)]

        return call


def test_calls_match_the_signatures_of_huggingface_hub() -> None:
    """The Hub cannot be reached in tests, so only the signatures are checked."""
    assert hub._info(QWEN, Signatures())[0].id == QWEN
    assert hub._search("qwen3", Signatures()) == [QWEN]
    for fake, real in (
        (FakeHub.file, huggingface_hub.hf_hub_download),
        (FakeHub.snapshot, huggingface_hub.snapshot_download),
    ):
        names = [
            name
            for name, parameter in inspect.signature(fake).parameters.items()
            if parameter.kind == parameter.KEYWORD_ONLY
        ]
        assert names and set(names) <= inspect.signature(real).parameters.keys()


# --- downloads ---------------------------------------------------------------------------------------


def test_pull_downloads_no_pickles_and_no_second_copy(sources: Sources) -> None:
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
    (repository / "refs" / "main").write_text(NEWER)  # as another program may do
    fake.revision = NEWER
    with catalog.described(QWEN, silent, sources) as model:
        assert model.folder == first
    assert catalog.resolve(QWEN, silent, sources) == first
    newer = catalog.pull(QWEN, silent, sources)
    assert newer.name == NEWER and catalog.resolve(QWEN, silent, sources) == newer


def test_the_licence_is_saved(sources: Sources) -> None:
    catalog.pull(QWEN, silent, sources)
    (listed,) = [model for model in catalog.listing(sources) if model.name == QWEN]
    assert (listed.licence, listed.kind) == ("apache-2.0", "chat"), "from the tags of the Hub"
    assert listed.bytes == sum(map(len, FETCHED.values()))


@pytest.mark.parametrize("licence", ["\x1b[31mred", "a\nb", "x" * 1000])
def test_an_invalid_licence_is_replaced_by_that_of_the_model_card(licence: str, fake: FakeHub) -> None:
    fake.licence = licence
    sources = Sources(hub=fake.hub())
    catalog.pull(QWEN, silent, sources)
    (listed,) = [model for model in catalog.listing(sources) if model.name == QWEN]
    assert listed.licence == "mit"


def test_models_downloaded_by_other_programs_are_found(sources: Sources, fake: FakeHub) -> None:
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
def test_a_model_that_cannot_be_loaded_is_not_downloaded(
    files: list[str], message: str, hint: str, tmp_path: Path
) -> None:
    fake = FakeHub(tmp_path, {QWEN: dict.fromkeys(files, b"x")})
    with pytest.raises(TemploraError, match=message) as caught:
        catalog.pull(QWEN, silent, Sources(hub=fake.hub()))
    assert str(caught.value.hint).startswith(hint) and fake.requests == [f"info {QWEN}"]


def test_a_disk_that_is_too_small_is_reported_before_the_download(fake: FakeHub) -> None:
    def info(name: str) -> Any:
        model = fake.info(name)
        model.siblings[3].size = 10**18
        return model

    with pytest.raises(TemploraError, match=rf"{QWEN} needs 1,000,000,000\.0 GB, but .* free") as caught:
        catalog.pull(QWEN, silent, Sources(hub=replace(fake.hub(), info=info)))
    assert "HF_HOME" in str(caught.value.hint) and fake.requests == [f"info {QWEN}"]


def test_a_second_pull_without_a_network_keeps_the_model(sources: Sources, fake: FakeHub) -> None:
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
def test_errors_of_the_hub_are_reported_in_one_line(
    error: Any, message: str, hint: str, fake: FakeHub
) -> None:
    with pytest.raises(TemploraError, match=message) as caught:
        catalog.pull(QWEN, silent, fails(error, fake))
    assert "\n" not in caught.value.message and hint in str(caught.value.hint)


@pytest.mark.parametrize("changes", [{"id": "../../etc"}, {"sha": "../x"}, {"sha": None}])
def test_an_answer_with_an_unsafe_path_is_refused(changes: dict[str, Any], fake: FakeHub) -> None:
    def info(name: str) -> Any:
        model = fake.info(name)
        vars(model).update(changes)
        return model

    with pytest.raises(TemploraError, match="sent an unexpected answer"):
        catalog.pull(QWEN, silent, Sources(hub=replace(fake.hub(), info=info)))
