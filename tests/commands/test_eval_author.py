"""`templora eval author`: a book plays its author."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from templora_cli.evaluation.burrows import MIN_BOOKS, WORDS
from templora_cli.sessions.manifest import load_manifest
from templora_cli.sessions.steps import read_chunks
from templora_cli.sessions.store import Store
from tests.commands.test_cli import small_adapter, templora  # noqa: F401

pytestmark = pytest.mark.usefixtures("small_adapter")
SIZES = ("--prime-tokens", "192", "--edit-tokens", "48", "--scored-tokens", "16", "--step", "32")


@pytest.fixture
def texts(tiny_model: Path) -> tuple[str | Path, ...]:
    Path("book.txt").write_text("The rain fell on the harbour.\n\n" * 200, "utf-8")
    Path("other.txt").write_text("She counted the ships again, and sighed.\n\n" * 20, "utf-8")
    words = ["the", "on", *(f"word{i}" for i in range(WORDS))]
    books = {str(i): {"per_10k": [1000.0 + i, 900.0 - i, *[float(i)] * WORDS]} for i in range(MIN_BOOKS)}
    Path("words.json").write_text(json.dumps({"words": words, "books": books}))
    return (
        *("eval", "author", "book.txt", "--control", "other.txt", "--model", tiny_model),
        *("--chunk-tokens", "16", "--context-tokens", "24", *SIZES),
    )


def test_all_arms_are_measured_at_the_same_places(texts: tuple[str | Path, ...]) -> None:
    result = templora(*texts, "--reference", "words.json", "--probe", "other.txt", "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    arms = ["off", "wide", "primed", "edited", "control", "tenth", "none"]
    assert [row["arm"] for row in printed["rows"]] == arms * 2
    assert {row["tokens"] for row in printed["rows"]} == {32}
    assert [row["arm"] for row in printed["drafts"]] == arms
    by_arm = {row["arm"]: row for row in printed["rows"]}
    assert by_arm["off"]["change"] == 0
    assert max(by_arm[name]["change"] for name in ("primed", "edited", "control")) < -10
    assert all(row["delta"] is not None and row["rank"] for row in printed["drafts"])
    sessions = [
        load_manifest(Store().folder / m.id) for m in Store().manifests() if not isinstance(m, Exception)
    ]
    assert sorted(m.task for m in sessions) == [*["author"] * 5, *["editing"] * 2, *["prime"] * 2]
    learnt = {
        m.id: [bool(chunk["train_losses"]) for chunk in read_chunks(Store().folder / m.id / "steps")]
        for m in sessions
        if m.task == "author"
    }
    assert sorted(map(all, learnt.values())) == [False] * 3 + [True] * 2
    again = templora(*texts, "--reference", "words.json", "--probe", "other.txt", "--json")
    assert json.loads(again.stdout)["rows"] == printed["rows"]
    assert len(list(Store().manifests())) == len(sessions), "all of it was there already"


def test_sentences_are_replaced_and_learnt_with_more_or_less_around_them(
    texts: tuple[str | Path, ...],
) -> None:
    arms = [part for name in ("change", "sentence", "paragraph") for part in ("--arm", name)]
    result = templora(*texts, *arms, "--json")
    assert result.exit_code == 0, result.stderr
    assert [row["arm"] for row in json.loads(result.stdout)["rows"]][:4] == [
        "off",
        "change",
        "sentence",
        "paragraph",
    ]
    shares = {}
    for manifest in map(load_manifest, Store().folder.iterdir()):
        if manifest.task == "editing":
            (first, *_) = read_chunks(Store().folder / manifest.id / "steps")
            own = sum(end - start for start, end in first["human"])
            shares[manifest.request["scope"]] = own / len(first["tokens"])
    assert 0 < shares["change"] <= shares["sentence"] <= shares["paragraph"] and shares["paragraph"] > 0.9


def test_a_table_and_a_plot_are_made(texts: tuple[str | Path, ...]) -> None:
    pytest.importorskip("matplotlib")
    result = templora(*texts, "--arm", "edited", "--plot", "plot.svg")
    assert result.exit_code == 0 and Path("plot.svg").read_text("utf-8").count("<svg") == 1
    assert "edited" in result.stdout and "control" not in result.stdout and "own words" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--arm", "other"), "--arm other: there is no such arm"),
        (("--draft-every", "0"), "--draft-every 0: must be at least 1"),
        (("--prime-tokens", "4000"), "other.txt has 839 tokens, fewer than the 4,064 to be read"),
        (("--reference", "absent.json"), "absent.json cannot be read"),
    ],
)
def test_bad_input_is_refused(
    texts: tuple[str | Path, ...], arguments: tuple[str, ...], message: str
) -> None:
    result = templora(*texts, *arguments)
    assert result.exit_code == 2 and message in result.stderr
    assert not list(Store().manifests())
