"""`templora forget`: a passage is taken out of the text and out of the weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from templora_cli.sessions.steps import read_chunks, readable_text
from templora_cli.sessions.store import Store
from templora_cli.sessions.versions import changes_of
from tests.commands.test_cli import events_of, small_adapter, write  # noqa: F401
from tests.commands.test_edit import PROSE, templora
from tests.test_undo import state_of

pytestmark = pytest.mark.usefixtures("small_adapter")
OPENING = (
    "One morning it rained. He went out.\n\nShe slept until noon.\n\nThe dog ran away, and nobody cared.\n\n"
)


@pytest.fixture
def book(tiny_model: Path) -> Path:
    return begun(tiny_model, OPENING, "storm")


def begun(model: Path, opening: str, name: str) -> Path:
    Path("opening.txt").write_text(opening)
    arguments = ("--from", "opening.txt", "--name", name, "--chunk-tokens", "96", "--tokens", "192")
    result = write(model, *arguments, "--set", "gate.enabled=false", engine=PROSE)
    assert result.exit_code == 0, result.stderr
    return Store().find(name)


def text_of(book: Path) -> str:
    return readable_text(book / "steps")[0]


@pytest.mark.parametrize(
    ("passage", "left"),
    [
        ("She slept until noon.", OPENING.replace("She slept until noon.\n\n", "")),
        ("One morning  it\nrained.", OPENING.replace("One morning it rained. ", "")),
        ("went out.", OPENING.replace(" went out.", "")),
        ("and nobody cared.", OPENING.replace(" and nobody cared.", "")),
        ("One morning it rained. He went out.", OPENING.partition("\n\n")[2]),
    ],
)
def test_a_passage_is_taken_out(book: Path, passage: str, left: str) -> None:
    before = text_of(book)
    result = templora("forget", "storm", "--text", passage, "--json")
    assert result.exit_code == 0, result.stdout
    assert text_of(book) == left + before.removeprefix(OPENING)
    events = {event["event"]: event for event in events_of(result)}
    assert " ".join(events["forgotten"]["passage"].split()) == " ".join(passage.split())
    assert events["changed"]["kind"] == "forget" and events["changed"]["chunks"] == 4
    forgotten = events["forgotten"]
    assert forgotten["nll_base"] > 0 and forgotten["nll_now"] != forgotten["nll_before"]
    assert not [chunk["human"] for chunk in read_chunks(book / "steps") if chunk["human"]]


def test_the_weights_are_those_of_a_book_that_never_had_it(book: Path, tiny_model: Path) -> None:
    assert templora("forget", "storm", "--text", "She slept until noon.").exit_code == 0
    state = state_of(book)
    steps = sorted((book / "steps").iterdir())
    for step in steps[:-1]:
        (step / "state.json").unlink(missing_ok=True)
    assert templora("undo", "storm", "1").exit_code == 0, "all is learnt again from the beginning"
    assert templora("sessions", "restore", "storm", "2").exit_code == 0
    again = state_of(book)
    assert again == state


def test_nothing_is_kept_of_what_was_forgotten(book: Path) -> None:
    assert templora("edit", "storm", "--out", "mine.md").exit_code == 0
    mine = Path("mine.md")
    mine.write_text(mine.read_text().replace("until noon", "all day"))
    assert templora("sync", "mine.md").exit_code == 0
    assert "noon" in (book / "versions" / "000001.json").read_text()
    assert templora("forget", "storm", "--text", "She slept all day.").exit_code == 0
    for file in book.rglob("*"):
        if file.is_file() and file.suffix in (".json", ".md") and file.name != "tokens.json":
            assert "slept" not in file.read_text(), file
    assert [change.kind for change in changes_of(book).values()] == ["sync", "forget"]
    for number in (1, 2):
        refused = templora("sessions", "restore", "storm", str(number))
        assert refused.exit_code == 2 and "a passage was forgotten then" in refused.stderr
    assert templora("resume", "storm", "--chunks", "1").exit_code == 0
    assert (
        templora("undo", "storm").exit_code == 0
        and templora("sessions", "restore", "storm", "3").exit_code == 0
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "what should be forgotten?"),
        (("--text", "a", "--pair", "1"), "what should be forgotten?"),
        (("--text", "The cat sat."), "storm does not have “The cat sat.”"),
        (("--text", "came in at"), "storm has “came in at”"),
        (("--text", " "), "the passage is empty"),
        (("--pair", "1"), "storm is not a translation session"),
    ],
)
def test_mistakes_are_refused(book: Path, arguments: tuple[str, ...], message: str) -> None:
    before = state_of(book)
    result = templora("forget", "storm", *arguments)
    assert result.exit_code == 2 and message in result.stderr
    assert state_of(book) == before


def test_an_edit_that_was_not_applied_is_not_thrown_away(book: Path) -> None:
    (book / "edit.md").write_text("Mine.")
    result = templora("forget", "storm", "--text", "She slept until noon.")
    assert result.exit_code == 2 and "has an edit that was not applied" in result.stderr
    assert (book / "edit.md").read_text() == "Mine."
