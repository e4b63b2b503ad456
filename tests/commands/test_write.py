"""`templora write`: premises, openings and invalid input, and the end of a book."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from templora_cli.engine.decoding.protocols import DecodedToken, Sampler, Stop
from templora_cli.prepare import ENGINE, Engine
from templora_cli.sessions.steps import read_chunks
from templora_cli.sessions.store import Store
from tests.commands.test_cli import events_of, only_session, templora
from tests.documents.fake import docx, epub, p, run

SMALL = ("--chunk-tokens", "16", "--context-tokens", "24")
STORY = 'the harbour, where the boats lay. She bought bread! Then "Why?" he asked. "No." It rained again.'


class ScriptedBackend:
    """Decodes the part of a text that follows the end of the prompt, or its beginning. A byte is a token."""

    exact = True

    def __init__(self, text: str) -> None:
        self.text = text.encode()

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        """See `Backend.decode`."""
        recent = bytes(token for token in prompt[-8:] if token < 256)
        found = self.text.find(recent)
        start = 0 if found < 0 else found + len(recent)
        for byte in self.text[start : start + max_tokens]:
            yield DecodedToken(byte)

    def reset(self) -> None:
        """See `Backend`."""

    free_cache = adapter_changed = reset


def writing(text: str) -> Engine:
    """An engine whose model writes `text`."""
    return replace(ENGINE, backend=lambda model, name: ScriptedBackend(text))


def chunks() -> list[str]:
    return [chunk["text"] for chunk in read_chunks(only_session() / "steps")]


# --- the end of a book -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "book"),
    [
        (("--words", "5"), "the harbour, where the boats lay."),
        (("--words", "7"), "the harbour, where the boats lay. She bought bread!"),
        (("--words", "10"), 'the harbour, where the boats lay. She bought bread! Then "Why?" he asked.'),
        (("--tokens", "20"), "the harbour, where the boats lay."),
        (("--tokens", "33"), "the harbour, where the boats lay."),
        (("--chunks", "2"), "the harbour, where the boats lay."),
        (("--chunks", "3"), "the harbour, where the boats lay. She bought bread!"),
    ],
)
def test_a_book_ends_with_a_complete_sentence(length: tuple[str, str], book: str, tiny_model: Path) -> None:
    arguments = ("--premise", "A storm.", "--model", tiny_model, *SMALL, "--out", "book.txt", *length)
    result = templora("write", *arguments, engine=writing(STORY))
    assert result.exit_code == 0, result.stderr
    assert Path("book.txt").read_text() == f"{book}\n"
    assert result.stdout.strip() == "".join(chunks()).strip() == book
    assert "note:" not in result.stderr
    finished = templora("resume")
    assert finished.exit_code == 2 and "is finished" in finished.stderr
    longer = templora("resume", "--words", "3", "-q", engine=writing(STORY))
    assert longer.exit_code == 0, longer.stderr
    assert Path("book.txt").read_text().startswith(book + " ")
    assert Path("book.txt").read_text().rstrip().endswith((".", "!"))


def test_a_book_that_stopped_in_its_last_sentence_is_not_finished(tiny_model: Path) -> None:
    arguments = ("--premise", "A storm.", "--model", tiny_model, *SMALL, "--words", "3", "-q")
    templora("write", *arguments, engine=writing(STORY))
    complete = chunks()
    assert complete == ["the harbour, whe", "re the boats lay", ". "]
    for step in sorted((only_session() / "steps").iterdir())[2:]:
        for file in step.iterdir():
            file.unlink()
        step.rmdir()
    result = templora("resume", "-q", engine=writing(STORY))
    assert result.exit_code == 0, result.stderr
    assert chunks() == complete


def test_a_book_without_a_sentence_end_is_reported(tiny_model: Path) -> None:
    arguments = ("--premise", "A storm.", "--model", tiny_model, *SMALL, "--chunks", "2")
    result = templora("write", *arguments, engine=writing("".join(f"word{n} " for n in range(99))))
    assert result.exit_code == 0 and len(chunks()) == 3
    notice = result.stderr.replace("\n", " ")
    assert "note: no sentence ended within a further chunk, so the book ends in the middle of one" in notice
    result = templora("resume", "--tokens", "40", engine=writing("".join(f"word{n} " for n in range(99))))
    assert "no sentence ended within a further 64 tokens" in result.stderr.replace("\n", " ")
    assert templora("resume").exit_code == 2


# --- openings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opening", "book"),
    [
        ("Mara walked slowly to\n", "Mara walked slowly to the harbour"),
        ("Mara walked slowly to  \r\n\r\n", "Mara walked slowly to the harbour"),
        ("It was late.\n", "It was late.\n\nthe harbour"),
        ("It was late. ", "It was late. the harbour"),
        ("# One\n\n", "# One\n\nthe harbour"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_an_opening_is_continued_at_its_end(opening: str, book: str, encoding: str, tiny_model: Path) -> None:
    Path("opening.txt").write_bytes(opening.encode(encoding))
    text = STORY if opening.endswith("\n") and book[-13] == "\n" else f" {STORY}"
    arguments = ("--from", "opening.txt", "--model", tiny_model, *SMALL, "--words", "1", "--out", "book.md")
    result = templora("write", *arguments, engine=writing(text))
    assert result.exit_code == 0, result.stderr
    for output in (Path("book.md").read_text(), result.stdout, "".join(chunks())):
        assert output.startswith(book), output
    assert (only_session() / "source.txt").read_text("utf-8")[:11] == opening[:11]


def test_an_opening_can_come_from_standard_input(tiny_model: Path) -> None:
    arguments = ("--model", tiny_model, *SMALL, "--words", "1", "-q")
    opening = "Мара шла к\n".encode("cp1251")
    result = templora("write", "--from", "-", *arguments, stdin=opening, engine=writing(f" {STORY}"))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Мара шла к the harbour")
    both = templora("write", "--from", "-", "--premise", "-", *arguments, stdin="a")
    assert both.exit_code == 2 and "--premise - and --from - both read standard input" in both.stderr
    both = templora("write", "--from", "-", "--premise-file", "-", *arguments, stdin="a")
    assert both.exit_code == 2 and "--premise-file - and --from - both" in both.stderr


DOCUMENTS = {
    "opening.docx": docx(p(run("It was "), run("late", "<w:b/>")) + p(run("Mara walked to"))),
    "opening.epub": epub("<p>It was <b>late</b></p><p>Mara walked to</p>", metadata=""),
    "opening.html": b"<title>x</title><p>It was <b>late</b></p><p>Mara walked to</p>",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_opening_can_be_a_document(name: str, tiny_model: Path) -> None:
    Path(name).write_bytes(DOCUMENTS[name])
    arguments = ("--from", name, "--model", tiny_model, *SMALL, "--words", "1", "-q")
    result = templora("write", *arguments, engine=writing(f" {STORY}"))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("It was late\n\nMara walked to the harbour")


def test_the_chapters_of_an_opening_are_announced_recorded_and_marked(tiny_model: Path) -> None:
    text = "---\ntitle: The Salt Road\n---\n\n# Part One\n\n## Chapter 1: Rain\n\nIt was *late*.\n\n"
    Path("opening.md").write_text(f"{text}## Chapter 2: Snow\n\nMara walked to\n")
    arguments = ("--from", "opening.md", "--model", tiny_model, *SMALL, "--words", "1", "--out", "book.md")
    result = templora("write", *arguments, engine=writing(f" {STORY}"))
    assert result.exit_code == 0, result.stderr
    notice = "note: the opening has 2 chapters, 14 words; left out: front matter"
    assert notice in result.stderr.splitlines()
    book = "Part One\n\nChapter 1: Rain\n\nIt was *late*.\n\nChapter 2: Snow\n\nMara walked to the harbour"
    assert "".join(chunks()).startswith(book)
    request = json.loads((only_session() / "session.json").read_text())["request"]
    assert request["opening_title"] == "The Salt Road"
    chapters = request["opening_chapters"]
    spans = [(c["title"], book[c["start"] :][:9], book[c["text_start"] :][:6]) for c in chapters]
    assert spans == [("Chapter 1: Rain", "Part One\n", "It was"), ("Chapter 2: Snow", "Chapter 2", "Mara w")]
    marked = book.replace("Part One", "## Part One").replace("\n\nChapter", "\n\n## Chapter")
    assert Path("book.md").read_text().startswith(f"# The Salt Road\n\n{marked}")
    for name in ("export.md", "export.txt"):
        assert templora("sessions", "export", "--out", name).exit_code == 0
    assert Path("export.md").read_bytes() == Path("book.md").read_bytes()
    assert Path("export.txt").read_text().startswith(f"The Salt Road\n\n{book}")


def test_a_heading_at_the_end_of_an_opening_does_not_go_on(tiny_model: Path) -> None:
    Path("opening.md").write_text("# Rain\n\nIt was late.\n\n# Snow\n")
    arguments = ("--from", "opening.md", "--model", tiny_model, *SMALL, "--words", "1", "-q")
    result = templora("write", *arguments, engine=writing(STORY))
    assert result.stdout.startswith("Rain\n\nIt was late.\n\nSnow\n\nthe harbour"), result.stderr


def test_a_text_without_chapters_is_not_announced(tiny_model: Path) -> None:
    Path("opening.txt").write_text("It was late.\n")
    arguments = ("--from", "opening.txt", "--model", tiny_model, *SMALL, "--words", "1")
    assert "the opening has" not in templora("write", *arguments, engine=writing(STORY)).stderr


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_a_premise_can_have_any_encoding(encoding: str, tiny_model: Path) -> None:
    premise = "天黑了，他还没有回来。"
    Path("premise.txt").write_bytes(f"{premise}\n".encode(encoding))
    for source in (("--premise-file", "premise.txt"), ("--premise", "-"), ("--premise-file", "-")):
        result = templora(
            *("write", *source, "--model", tiny_model, *SMALL, "--tokens", "8", "-q"),
            stdin=Path("premise.txt").read_bytes(),
        )
        assert result.exit_code == 0, result.stderr
        assert json.loads((only_session() / "session.json").read_text())["request"]["premise"] == premise


def test_control_characters_are_removed_from_a_premise(tiny_model: Path) -> None:
    premise = "Evil \x1b[31mred\x1b[0m \x1b]0;title\x07storms\x00\x9b1m."
    arguments = ("--model", tiny_model, *SMALL, "--tokens", "8", "-q")
    assert templora("write", "--premise", premise.replace("\x00", ""), *arguments).exit_code == 0
    assert (
        json.loads((only_session() / "session.json").read_text())["request"]["premise"] == "Evil red storms."
    )


def test_the_encoding_of_an_opening_can_be_set(tiny_model: Path) -> None:
    Path("opening.txt").write_bytes("Ça va".encode("cp437"))
    arguments = ("write", "--from", "opening.txt", "--model", tiny_model, *SMALL, "--words", "1", "-q")
    result = templora(*arguments, "--encoding", "cp437", engine=writing(f" {STORY}"))
    assert result.exit_code == 0 and result.stdout.startswith("Ça va the harbour")


@pytest.mark.parametrize("how", ["--from", "--premise-file"])
def test_a_guessed_encoding_is_announced(how: str, tiny_model: Path) -> None:
    Path("text.txt").write_bytes("He was naïve, and the café was closed".encode("cp1252"))
    arguments = ("write", how, "text.txt", "--model", tiny_model, *SMALL, "--words", "1")
    result = templora(*arguments, engine=writing(f" {STORY}"))
    notice = "note: reading text.txt as Windows-1252; if that is wrong, name the right one: --encoding NAME"
    assert result.exit_code == 0 and notice in result.stderr.splitlines()
    assert "Windows" not in templora(*arguments, "--encoding", "cp1252", engine=writing(f" {STORY}")).stderr


# --- invalid input -----------------------------------------------------------------------------------

INVALID: dict[str, tuple[list[str], str, str]] = {
    "an empty premise": (["--premise", ""], "the premise is empty", "templora write --premise"),
    "a blank premise": (["--premise", " \n\t\u3000"], "the premise is empty", "templora write --premise"),
    "a premise of control characters": (
        ["--premise", "\x01\x1b[31m\x7f\u200b"],
        "the premise is empty",
        "templora write --premise",
    ),
    "a blank file": (
        ["--premise-file", "blank.txt"],
        "blank.txt is empty",
        "use a file that contains text",
    ),
    "a file of control characters": (
        ["--from", "controls.txt"],
        "controls.txt is empty",
        "use a file that contains text",
    ),
    "an empty standard input": (["--premise", "-"], "the premise is empty", "templora write --premise"),
    "an empty opening on standard input": (
        ["--from", "-"],
        "the opening is empty",
        "templora write --premise",
    ),
    "a file name as premise": (
        ["--premise", "my story.txt"],
        "my story.txt' is a file, not a premise",
        "--premise-file 'my story.txt'",
    ),
    "the name of a missing file as premise": (
        ["--premise", "stroy.txt"],
        "stroy.txt is the name of a file",
        "check the path",
    ),
    "a folder as premise": (
        ["--premise", "./folder"],
        "is a folder, not a premise",
        "templora write --premise",
    ),
    "a premise that is not UTF-8": (["--premise", "caf\udce9"], "the premise is not UTF-8", "--premise-file"),
    "a PDF": (["--from", "story.pdf"], "story.pdf is a PDF, not a text", "convert it"),
    "a document with a wrong suffix": (
        ["--from", "story.docx"],
        "story.docx is a text, not a Word document",
        "rename it to .txt",
    ),
    "an undetectable encoding": (["--from", "noise.txt"], "its encoding is unknown", "--encoding shift_jis"),
    "an outline": (["--from", "outline.md"], "outline.md has 4 headings and no prose", "--premise-file FILE"),
    "a wrong encoding": (["--from", "noise.txt", "--encoding", "utf-8"], "is not in utf-8", "name another"),
    "an unknown encoding": (["--from", "noise.txt", "--encoding", "x"], "unknown encoding 'x'", "utf-8"),
    "an encoding without a file": (
        ["--premise", "a", "--encoding", "utf-8"],
        "--encoding needs --premise-file or --from",
        "",
    ),
    "a length of 0": (["--premise", "a", "--words", "0"], "--words 0: must be at least 1", "--words 1000"),
    "a negative length": (
        ["--premise", "a", "--chunks", "-3"],
        "--chunks -3: must be at least 1",
        "--chunks 4",
    ),
    "a huge length": (
        ["--premise", "a", "--tokens", "9" * 12],
        "must be at most 1,000,000,000",
        "--tokens 1000",
    ),
    "two lengths": (
        ["--premise", "a", "--words", "5", "--tokens", "5"],
        "--words and --tokens cannot be combined",
        "",
    ),
    "a folder as book file": (
        ["--premise", "a", "--out", "folder"],
        "folder is a folder",
        "--out folder/book.md",
    ),
    "a missing folder": (["--premise", "a", "--out", "no/x.md"], "no does not exist", "mkdir -p no"),
    "a file in place of a folder": (
        ["--premise", "a", "--out", "blank.txt/x.md"],
        "is a file, not a folder",
        "--out",
    ),
    "a missing suffix": (
        ["--premise", "a", "--out", "folder/x"],
        "x: a book is written as",
        "--out folder/x.md",
    ),
    "a book file that is not UTF-8": (
        ["--premise", "a", "--out", "caf\udce9.md"],
        "this name is not UTF-8",
        "--out",
    ),
    "a setting that is not UTF-8": (
        ["--premise", "a", "--set", "prompts=\udce9"],
        "is not UTF-8",
        "type it again",
    ),
    "a model that is not UTF-8": (
        ["--premise", "a", "--model", "\udce9"],
        "--model is not UTF-8",
        "type it again",
    ),
    "standard output as book file": (
        ["--premise", "a", "--out", "-"],
        "--out - is not a file",
        "leave it out",
    ),
    "a negative seed": (
        ["--premise", "a", "--set", "seed=-1"],
        "--set seed=-1: must be at least 0",
        "default is 0",
    ),
    "a negative rank": (
        ["--premise", "a", "--set", "rank=-1"],
        "--set rank=-1: must be at least 1",
        "default is 64",
    ),
    "a missing folder of prompts": (
        ["--premise", "a", "--set", "prompts=no"],
        "prompts: there is no folder no",
        "create it",
    ),
    "an incomplete folder of prompts": (
        ["--premise", "a", "--set", "prompts=folder"],
        "folder has no novel.toml",
        "copy one",
    ),
}


@pytest.mark.parametrize(("arguments", "complaint", "hint"), INVALID.values(), ids=INVALID.keys())
def test_invalid_input_is_reported_with_a_hint_before_the_model_is_located(
    arguments: list[str], complaint: str, hint: str
) -> None:
    Path("folder").mkdir()
    Path("my story.txt").write_text("Once.")
    Path("blank.txt").write_text(" \n")
    Path("outline.md").write_text("# Rain\n\n# Snow\n\n# Ice\n\n# Fog\n")
    Path("controls.txt").write_text("\x01\x1b[0m")
    Path("story.pdf").write_bytes(b"%PDF-1.7")
    Path("story.docx").write_text("Once.")
    Path("noise.txt").write_bytes(bytes(range(256)) * 4)
    result = templora("write", "--model", "nowhere/at-all", *arguments, stdin="")
    assert result.exit_code == 2 and result.stdout == ""
    error, hint_line, *rest = result.stderr.splitlines()
    assert not rest and error.startswith("error: ") and complaint in error
    assert hint_line.startswith("hint: ") and hint in hint_line
    assert not Store().folder.exists()


def test_a_long_premise_is_reported_with_its_length(tiny_model: Path) -> None:
    Path("premise.txt").write_text("A storm. " * 2000)
    result = templora("write", "--premise-file", "premise.txt", "--model", tiny_model, "--json")
    (_, error) = events_of(result) if len(events_of(result)) > 1 else (None, *events_of(result))
    assert error["event"] == "error" and error["message"].startswith("the premise has 17,999 tokens, ")
    assert error["hint"].startswith("shorten it to about ") and "--from" in error["hint"]


@pytest.mark.skipif(sys.platform == "win32", reason="opens a terminal")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("write", "--premise", "-"), "the premise"),
        (("write", "--premise-file", "-"), "the premise"),
        (("write", "--from", "-"), "the opening"),
        (("eval", "drift", "--premise", "-"), "the premise"),
    ],
)
def test_a_terminal_is_asked_for_a_text(arguments: Sequence[str], text: str) -> None:
    keyboard, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "templora_cli", *arguments],
        stdin=terminal,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stderr is not None
    assert process.stderr.readline() == f"type {text}, then press Ctrl-D\n"
    os.write(keyboard, b"\x04")
    assert f"{text} is empty" in process.communicate(timeout=60)[1]
    os.close(keyboard)
    os.close(terminal)


def test_the_hint_for_a_missing_premise_is_for_the_command() -> None:
    assert templora("write").stderr.splitlines()[1] == (
        'hint: templora write --premise "A lighthouse keeper...", '
        "or templora write --from FILE to continue a text"
    )
    assert templora("eval", "drift").stderr.splitlines()[1] == (
        'hint: templora eval drift --premise "A lighthouse keeper..."'
    )


# --- banned phrases ----------------------------------------------------------------------------------


def test_a_phrase_that_the_model_cannot_avoid_stays_and_is_reported(tiny_model: Path) -> None:
    Path("ban.txt").write_text("# too plain\nbought bread\nno such words\n")
    arguments = ("--premise", "A storm.", "--model", tiny_model, *SMALL, "--chunks", "3", "--ban", "ban.txt")
    result = templora("write", *arguments, "--set", "gate.enabled=false", engine=writing(STORY))
    assert result.exit_code == 0, result.stderr
    assert "".join(chunks()).strip() == "the harbour, where the boats lay. She bought bread!"
    notes = " ".join(result.stderr.split())
    assert "the banned phrase “bought bread”: the model found no other words" in notes
    assert "no such words" not in notes
    request = json.loads((only_session() / "session.json").read_text())["request"]
    assert request["banned"] == ["bought bread", "no such words"]


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"fine words\nthe\n", "ban.txt, line 2: “the” is so common", "remove it"),
        (b"...\n", "ban.txt, line 1: “...” has no letter", "remove it"),
        (b"# only a comment\n", "ban.txt has no phrases", "one in each line"),
        (b"", "ban.txt is empty", "use a file"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "ban.txt", "text"),
        (None, "there is no file ban.txt", "check the path"),
    ],
)
def test_a_file_of_phrases_that_cannot_be_banned_is_refused(
    content: bytes | None, message: str, hint: str
) -> None:
    if content is not None:
        Path("ban.txt").write_bytes(content)
    result = templora("write", "--premise", "A storm.", "--ban", "ban.txt", engine=None)
    assert result.exit_code == 2 and message in result.stderr and hint in result.stderr
    assert not Store().folder.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--words", "300"), "the plan sets the length of the book"),
        (("--ledger", "broken.toml"), "broken.toml, line 1"),
        (("--ledger", "avoid.toml"), 'avoid.toml: avoid = "the": “the” is so common'),
        (("--ban", "none.txt"), "there is no file none.txt"),
        (("--volume", "none.txt"), "there is no file none.txt"),
        (("--out", "book.pdf"), ".pdf"),
        (("--name", "a/b"), "a/b"),
    ],
)
def test_a_mistake_is_found_before_the_model_plans(arguments: Sequence[str], message: str) -> None:
    Path("broken.toml").write_text("[[person]\n")
    Path("avoid.toml").write_text('avoid = ["the"]\n')
    result = templora("write", "--premise", "A storm.", "--chapters", "2", *arguments, engine=None)
    assert result.exit_code == 2 and message in result.stderr
    assert not list(Path().glob("*.plan.md"))
