"""The table of task kinds: each builds its task from its session, and a new kind changes no other file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from templora_cli import runner
from templora_cli.config import Config
from templora_cli.documents.aligned_text import AlignedPair
from templora_cli.documents.registry import read_document
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.errors import TemploraError
from templora_cli.evaluation.consistency import ConsistencyRequest
from templora_cli.events import ChunkCommitted, ChunkStarted, Event, Notice, SessionOpened
from templora_cli.languages import language
from templora_cli.novel.kind import NovelRequest
from templora_cli.novel.task import Goal
from templora_cli.prepare import Engine, prepare
from templora_cli.prompt import Prompt, fixed_header
from templora_cli.reading import ReadingRequest
from templora_cli.sessions.kind import Export, TaskKind
from templora_cli.sessions.manifest import Manifest, load_manifest
from templora_cli.sessions.new import NewSession, Request
from templora_cli.sessions.steps import read_chunks, readable_chunks
from templora_cli.sessions.store import Session, Store
from templora_cli.task_kinds import KINDS
from templora_cli.text import TextStream, decode
from templora_cli.translation.aligned import PairsRequest
from templora_cli.translation.kind import TranslationRequest
from templora_cli.turn import Generate, Given
from tests.commands.test_cli import message_of, templora
from tests.test_runner import config_of, first_committed, outcome, stopped

LANGUAGES = (language("de"), language("en"))
PROSE = "The keeper went up the stairs. The keeper went down the stairs."


@pytest.fixture
def config(tiny_model: Path) -> Config:
    return config_of(tiny_model)


# --- the built-in kinds ------------------------------------------------------------------------------


def novel() -> NovelRequest:
    return NovelRequest("A storm.", "It rained.", Goal(32, "tokens"), Path("novel.md").absolute())


def drift() -> NovelRequest:
    return NovelRequest("A storm.", goal=Goal(32, "tokens"), kind="drift", measured_by="templora eval drift")


def costs() -> ReadingRequest:
    return ReadingRequest(PROSE, "book.txt", kind="costs", measured_by="templora eval ppl --against")


def translation() -> TranslationRequest:
    path = Path("book.txt")
    path.write_text("Eins.\n\nZwei ist gut.\n")
    return TranslationRequest(read_document(path), path, LANGUAGES, Path("out.txt").absolute(), 0, 2)


def consistency() -> ConsistencyRequest:
    prose = tuple(f"The keeper went up stair {number}, and then down again." for number in range(40))
    return ConsistencyRequest(prose, "book.txt", groups=1, distances=(32,), chapters=1)


def pairs() -> PairsRequest:
    runs = [
        [AlignedPair("die lampe", "the lamp"), AlignedPair("das meer", "the sea")],
        [AlignedPair("ein sturm", "a storm")],
    ]
    return PairsRequest(runs, LANGUAGES, "pairs", "templora eval translate")


REQUESTS: dict[str, Callable[[], Request]] = {
    "novel": novel,
    "translation": translation,
    "ppl": lambda: ReadingRequest(PROSE, "book.txt"),
    "costs": costs,
    "drift": drift,
    "pairs": pairs,
    "consistency": consistency,
}


def test_each_kind_has_the_name_of_its_row() -> None:
    assert KINDS.keys() >= REQUESTS.keys() and all(kind.name == name for name, kind in KINDS.items())


@pytest.mark.parametrize("name", REQUESTS)
def test_a_task_is_built_from_its_session_alone(name: str, config: Config) -> None:
    prepared = prepare(REQUESTS[name](), config)
    with prepared.create(resume_same=False) as created:
        path = created.path
    Path("book.txt").unlink(missing_ok=True)
    elsewhere = shutil.move(path, path.with_name("elsewhere"))
    with Store().open("elsewhere") as session:
        manifest, kind = session.manifest, KINDS[session.manifest.task]
        task = kind.task(session, prepared.model, prepared.new.config)
        turn = task.next_turn((), ())
        assert turn is not None and turn.prompt.header and not turn.prompt.context
        assert len(turn.prompt.header) <= manifest.header_tokens
        assert 0 < turn.max_tokens <= manifest.longest_chunk
        assert turn.origin == ("generated" if name in ("translation", "drift") else "human")
        assert manifest.goal_unit in kind.units and manifest.goal_amount > 0
        assert kind.notices(session) == [] and kind.done([], manifest.goal_unit) == 0
        assert kind.opening_tokens(session) == (len("It rained.") if name == "novel" else 0)
        assert (kind.book_file(session) is None) == (name != "novel")
        assert kind.facts(manifest) == ({"premise": "A storm."} if name in ("novel", "drift") else {})
    assert (kind.export(elsewhere, manifest) is None) == (name != "translation")


@pytest.mark.parametrize("name", REQUESTS)
def test_a_stopped_session_of_each_kind_ends_like_an_unstopped_one(name: str, config: Config) -> None:
    """Its measurements equal those of an unstopped run."""
    with runner.begin(REQUESTS[name](), config) as uninterrupted:
        events = list(uninterrupted.events())
    opened, expected = events[0], outcome(uninterrupted.session.path)
    assert isinstance(opened, SessionOpened) and opened.unit == uninterrupted.session.manifest.goal_unit
    (*_, last) = [event for event in events if isinstance(event, ChunkCommitted)]
    assert last.done >= opened.goal
    for name_of_output in ("novel.md", "out.txt"):
        Path(name_of_output).unlink(missing_ok=True)
    with runner.begin(REQUESTS[name](), config) as run:
        stopped(run, first_committed)
    with Store().open(run.session.id) as session:  # as `resume` or the measuring command does
        list(runner.reopen(session).events())
    assert outcome(run.session.path) == expected
    summary = templora("sessions", "list", "--json")
    assert {row["state"] for row in json.loads(summary.stdout)} == {"finished"}


def learnt(session: Path) -> dict[str, Any]:
    """The outcome without the scores of the adapter, which differ slightly if taken while decoding."""
    result = outcome(session)
    scores = dict.fromkeys(("nll_adapter", "entropy_adapter", "completion_adapter"))
    return {**result, "chunks": [{**chunk, **scores} for chunk in result["chunks"]]}


@pytest.mark.parametrize("name", REQUESTS)
def test_chunks_of_each_kind_are_learnt_again_equally(name: str, config: Config) -> None:
    with runner.begin(REQUESTS[name](), config) as run:
        list(run.events())
        before = learnt(run.session.path)
        for step in run.session.steps.iterdir():  # as if they had been thinned
            (step / "state.json").unlink(missing_ok=True)
        list(run.relearn(run.chunks))
        assert learnt(run.session.path) == before


# --- a custom kind -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class VerseTask:
    """Verses of eight tokens after an existing first one. Implements `turn.Task`."""

    prompt: Callable[[Sequence[int]], Prompt]
    first: tuple[int, ...]
    verses: int
    tokenizer: Any

    def next_turn(self, book: Sequence[int], records: Sequence[Any] = ()) -> Given | Generate | None:
        if not records:
            return Given(self.prompt(book), self.first, record={"verse": 1})
        return Generate(self.prompt(book), 8) if len(records) < self.verses else None

    def replay(self, chunk: Mapping[str, Any], book: Sequence[int], records: Sequence[Any]) -> Given:
        return Given(self.prompt(book), tuple(chunk["tokens"]), chunk["origin"], record=chunk["record"])

    def text_stream(self, book: Sequence[int]) -> Callable[[int], str]:
        return TextStream(lambda tokens: decode(self.tokenizer, tokens), book).push


@dataclass(frozen=True)
class VersesRequest:
    """A poem with the given number of verses."""

    first: str
    verses: int
    kind: str = "verses"

    def new_session(self, tokenizer: Any, config: Config) -> NewSession:
        if self.verses < 1:
            raise TemploraError("a poem without verses", "one verse at least")
        return NewSession(
            "verses",
            config,
            named_after=f"poem {self.first}",
            goal=(self.verses, "verses"),  # type: ignore[arg-type]
            header_tokens=1,
            request={"verses": self.verses},
            opening=tuple(tokenizer.encode(self.first, add_special_tokens=False)),
            source=self.first,
            chunk_tokens=8,
            notices=("it will not rhyme",),
        )


class Verses(TaskKind):
    """Counts length in verses, and exports a file format of its own."""

    name = "verses"
    units = ("verses",)  # type: ignore[assignment]

    def task(self, session: Session, model: LanguageModel, config: Config) -> VerseTask:
        prompt = fixed_header((10,), config.decode.context_tokens)
        verses = session.manifest.request["verses"]
        return VerseTask(prompt, session.opening(), verses, model.tokenizer)

    def done(self, chunks: Sequence[Mapping[str, Any]], unit: str) -> int:
        assert unit == "verses"
        return len(chunks)

    def notices(self, session: Session) -> list[str]:
        return ["a poem is not prose"]

    def end(self, session: Session, chunks: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
        (session.path / "poem.txt").write_text("".join(chunk["text"] for chunk in chunks), "utf-8")
        yield Notice(f"{len(chunks)} verses are written")

    def facts(self, manifest: Manifest) -> dict[str, str]:
        return {"verses": str(manifest.request["verses"])}

    def export(self, folder: Path, manifest: Manifest) -> Export:
        def content() -> bytes:
            verses = [chunk["text"] for chunk in readable_chunks(folder / "steps")]
            return json.dumps(verses).encode()

        return Export(".poem", content)


POEMS = Engine(kinds={"verses": Verses(), "novel": KINDS["novel"]})
POEM = VersesRequest("The sea, the sea.", 3)


def test_a_custom_kind_runs_and_resumes(config: Config) -> None:
    notices: list[Event] = []
    with runner.begin(POEM, config, engine=POEMS, notify=notices.append) as run:
        events = list(run.events())
        assert [
            (event.total_tokens, event.done) for event in events if isinstance(event, ChunkCommitted)
        ] == [
            (17, 1),
            (25, 2),
            (33, 3),
        ]
    assert Notice("it will not rhyme") in notices
    opened, notice, *_, last = events
    assert isinstance(opened, SessionOpened) and (opened.goal, opened.unit) == (3, "verses")
    assert (notice, last) == (Notice("a poem is not prose"), Notice("3 verses are written"))
    assert run.text.startswith("The sea, the sea.") and run.session.id.startswith("poem-")
    assert (run.session.path / "poem.txt").read_text("utf-8") == run.text
    expected = outcome(run.session.path)
    for stop in (first_committed, lambda event: isinstance(event, ChunkStarted) and event.index == 2):
        with runner.begin(POEM, config, engine=POEMS) as again:
            stopped(again, stop)
        with runner.resume(again.session.id, engine=POEMS) as again:
            list(again.events())
        assert outcome(again.session.path) == expected
    with pytest.raises(TemploraError, match="cannot be made longer"):
        runner.resume(more=(2, "chunks"), engine=POEMS)


def test_commands_support_a_custom_kind(config: Config) -> None:
    with runner.begin(POEM, config, engine=POEMS) as run:
        stopped(run, first_committed)
    name = run.session.id
    (row,) = json.loads(templora("sessions", "list", "--json", engine=POEMS).stdout)
    assert (row["session"], row["state"], row["chunks"], row["tokens"]) == (name, "1 of 3 verses", 1, 17)
    resumed = templora("resume", engine=POEMS)
    assert resumed.exit_code == 0, resumed.stderr
    assert "goal 3 verses" in resumed.stderr and "note: 3 verses are written" in resumed.stderr
    texts = [chunk["text"] for chunk in read_chunks(run.session.steps)]
    assert len(texts) == 3 and resumed.stdout == "".join(texts[1:])
    output = templora("sessions", "show", engine=POEMS).stdout
    assert "state      finished" in output and "verses     3" in output
    exported = templora("sessions", "export", engine=POEMS)
    assert exported.stdout.strip() == str(Path(f"{name}.poem").absolute())
    assert json.loads(Path(f"{name}.poem").read_text()) == texts
    other = templora("sessions", "export", "--out", "a.md", engine=POEMS)
    assert f"a.md: {name} is exported as .poem" in message_of(other)


def test_the_text_of_an_unknown_kind_can_be_exported(config: Config) -> None:
    with runner.begin(POEM, config, engine=POEMS) as run:
        list(run.events())
    name = run.session.id
    assert load_manifest(run.session.path).task == "verses"
    (row,) = json.loads(templora("sessions", "list", "--json").stdout)
    assert (row["session"], row["state"]) == (name, "unknown")
    resumed = templora("resume")
    assert resumed.exit_code == 2 and "verses is a kind of task that this version does not" in resumed.stderr
    assert "state      unknown" in templora("sessions", "show").stdout
    assert templora("sessions", "export", "--out", "-").stdout.strip() == run.text.strip()


def test_a_refused_request_leaves_no_session(config: Config) -> None:
    with pytest.raises(TemploraError, match="a poem without verses"):
        runner.begin(VersesRequest("x", 0), config, engine=POEMS)
    assert not Store().folder.exists()
