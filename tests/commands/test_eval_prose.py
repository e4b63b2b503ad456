"""`templora eval prose`: tables, JSON, sessions, what is compared with what, and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from templora_cli.evaluation.prose_measures import measure
from templora_cli.evaluation.prose_text import ProseChapter
from templora_cli.sessions.store import Store
from tests.commands.test_cli import message_of, templora, write

BOOK = (
    "Chapter 1\n\nThe keeper saw Anna on the stairs.\n\n"
    "Chapter 2\n\n“Who?” he asked. He saw Anna on the sea.\n"
)


@pytest.fixture(autouse=True)
def books() -> None:
    Path("book.txt").write_text(BOOK, "utf-8")
    Path("other.md").write_text("# One\n\n" + "The wind and the rain came from the sea. " * 20)
    Path("empty.txt").write_bytes(b"")
    Path("numbers.txt").write_text("1 2 3 ... !!\n")
    Path("noise.txt").write_bytes(bytes(range(256)) * 20)
    Path("picture.txt").write_bytes(b"\x89PNG\r\n\x1a\n")
    Path("headings.md").write_text("# One\n\n## Two\n")
    Path("list.json").write_text("[]")
    Path("folder").mkdir()


def eval_prose(*arguments: str | Path) -> Result:
    return templora("eval", "prose", *arguments)


def books_of(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, message_of(result)
    return list(json.loads(result.stdout)["books"])


def rows_of(result: Result) -> dict[str, list[str]]:
    assert result.exit_code == 0, message_of(result)
    return {name: values for name, *values in (line.split("\t") for line in result.stdout.splitlines())}


def test_books_are_columns_side_by_side() -> None:
    result = eval_prose("book.txt", "other.md")
    rows = rows_of(result)
    assert rows["measure"] == ["book.txt", "other.md"]
    assert rows["words"] == ["16", "180"] and rows["chapters"] == ["2", "1"]
    assert rows["4-grams of chapters before"] == ["0.167", "-"]
    assert rows["words in a sentence"] == ["5.3", "9.0"]
    assert rows["MATTR-500"] == ["-", "-"]
    assert "shorter than 8,000 words" in result.stderr and "--limit-words 16" in result.stderr
    assert eval_prose("book.txt", "--quiet").stderr == ""


def test_json_has_all_measures() -> None:
    (book,) = books_of(eval_prose("book.txt", "--json"))
    first, second = BOOK.split("\n\n")[1], BOOK.split("\n\n")[3].strip()
    measures = measure([ProseChapter("Chapter 1", (first,)), ProseChapter("Chapter 2", (second,))])
    assert (book["book"], book["path"]) == ("book.txt", "book.txt")
    assert book["repetition_across_chapters"] == measures.repetition_across_chapters == 1 / 6
    assert [c["title"] for c in book["by_chapter"]] == ["Chapter 1", "Chapter 2"]
    assert book["by_depth"][0]["words"] == 16
    assert "overused_words" not in book, "nothing to compare with"


def test_a_book_is_measured_once_and_not_compared_with_itself() -> None:
    Path("again").mkdir()
    Path("again/book.txt").write_text(BOOK, "utf-8")
    arguments = ("book.txt", "./book.txt", Path("again/book.txt").absolute())
    result = eval_prose(*arguments, "--reference", "book.txt", "--reference", "other.md", "--json")
    first, again = books_of(result)
    assert first["book"] == "book.txt" and again["book"].endswith("again/book.txt")
    assert "named twice" in result.stderr
    assert [reference["book"] for reference in first["reference"]] == ["other.md"]
    assert [reference["book"] for reference in again["reference"]] == ["book.txt", "other.md"]
    alone = eval_prose("book.txt", "--reference", "book.txt")
    assert "compared with nothing, because the reference is this book alone" in alone.stdout


def test_overused_words_are_listed_with_what_they_are_compared_with() -> None:
    Path("slop.txt").write_text("A kaleidoscope of colour. " * 9)
    result = eval_prose("slop.txt", "--reference", "other.md", "--top", "2")
    table = result.stdout.splitlines()[-8:]
    assert table[1] == "slop.txt, compared with other.md (180 words):"
    assert [line.split("\t")[0] for line in table[2:5]] == ["word", "a", "colour"]
    assert table[5].split("\t")[0] == "trigram"
    assert table[4].split("\t") == ["colour", "9", "2,500.0", "0.00", "-"]


def test_word_counts_leave_out_the_book_itself() -> None:
    counted = {"words": 1000, "per_10k": [500]}
    counts = {"words": ["the"], "books": dict.fromkeys(("book", "another", "other"), counted)}
    Path("counts.json").write_text(json.dumps(counts))
    references = ("--reference", "counts.json", "--reference", "other.md")
    (book,) = books_of(eval_prose("book.txt", *references, "--json"))
    assert [(r["book"], r["only_counts"]) for r in book["reference"]] == [
        ("other.md", False),
        ("another", True),
    ]
    text = eval_prose("book.txt", "--reference", "counts.json").stdout
    assert "counts.json (2,000 words, counts of 1 words in 2 books)" in text
    assert "no trigrams: counts of words have none" in text


def test_the_book_of_a_session_is_measured(tiny_model: Path) -> None:
    assert write(tiny_model, "--chunks", "2", "--from", "book.txt", "--name", "keeper").exit_code == 0
    assert Store().find("keeper")
    by_beginning, by_file = books_of(eval_prose("keep", "book.txt", "--json"))
    assert by_beginning["book"] == "keeper"
    assert by_beginning["by_chapter"][0]["title"] == by_file["by_chapter"][0]["title"] == "Chapter 1"
    Path("keeper").write_text(BOOK, "utf-8")
    result = eval_prose("keeper")
    assert result.exit_code != 0 and "without a suffix" in message_of(result), "a file comes first"


def test_a_limit_makes_books_comparable() -> None:
    assert rows_of(eval_prose("book.txt", "other.md", "--limit-words", "9"))["words"] == ["9", "9"]


def test_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("_$book$.txt", "b.txt"):
        Path(name).write_text("The wind and the rain came from the sea. " * 200)
    assert eval_prose("_$book$.txt", "b.txt", "book.txt", "--plot", "a.svg", "-q").exit_code == 0
    svg = Path("a.svg").read_text("utf-8")
    assert "_$book$.txt" in svg and "b.txt" in svg and "MATTR-500" in svg


BAD: dict[str, tuple[list[str], str]] = {
    "a missing file": (["nowhere.txt"], "there is no file nowhere.txt"),
    "neither a file nor a session": (["nowhere"], "nowhere is neither a file nor a session"),
    "a folder": (["folder"], "folder is neither a file nor a session"),
    "an empty file": (["empty.txt"], "empty.txt is empty"),
    "no words": (["numbers.txt"], "numbers.txt has no words"),
    "no prose": (["headings.md"], "headings.md has no prose"),
    "noise": (["noise.txt"], "noise.txt is not text"),
    "a picture": (["picture.txt"], "picture.txt is a picture"),
    "a limit of 0": (["book.txt", "--limit-words", "0"], "--limit-words 0: must be at least 1"),
    "no over-used words": (["book.txt", "--top", "0"], "--top 0: must be at least 1"),
    "a plot of another format": (["book.txt", "--plot", "a.gif"], "drawn as .png or .svg"),
    "a reference without text": (["book.txt", "--reference", "empty.txt"], "empty.txt is empty"),
    "other JSON": (["book.txt", "--reference", "list.json"], "list.json is not a file of word counts"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(arguments: list[str], message: str) -> None:
    result = eval_prose(*arguments)
    assert result.exit_code != 0 and message in message_of(result).replace("\n", " ")
    assert result.stdout == ""
