"""Files of all formats: reading, rendering, and errors."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from templora_cli.documents.book import Book, book_of_prose
from templora_cli.documents.document import Document
from templora_cli.documents.readers.text_file import TextDocument
from templora_cli.documents.registry import (
    FORMATS,
    FileFormat,
    check_book_suffix,
    parse_document,
    read_document,
    render_book,
)
from templora_cli.errors import TemploraError
from tests.documents.fake import FIXTURES, docx, epub, p, parse, run, shout_all, texts

PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3"
ERROR_PAGE = b"<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>"
ZIP = epub("<p>a</p>")
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 100


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        *((suffix, b"", "is empty") for suffix in (".txt", ".md", ".html", ".epub", ".docx")),
        (".txt", b"\xef\xbb\xbf \n\t", "is empty"),
        (".txt", ZIP, "is a zip archive, not a text"),
        (".md", PDF, "is a PDF, not a text"),
        (".txt", OLE, "is an old Office file, not a text"),
        (".txt", b"{\\rtf1 a}", "is an RTF file"),
        (".html", ZIP, "is a zip archive"),
        (".txt", b"\x89PNG\r\n\x1a\n", "is a picture"),
        (".txt", b"a\0\0\x01b" * 50, "is not text, or its encoding is unknown"),
        (".epub", b"Just words", "is a text, not an EPUB"),
        (".epub", ERROR_PAGE, "is an HTML page, not an EPUB"),
        (".epub", b"\n<?xml version='1.0'?><html>", "is an HTML page, not an EPUB"),
        (".epub", PDF, "is a PDF, not an EPUB"),
        (".epub", b"\0" * 60 + b"BOOKMOBI", "is a Kindle book, not an EPUB"),
        (".epub", docx(p(run("a"))), "is not an EPUB"),
        (".docx", PDF, "is a PDF, not a Word document"),
        (".docx", ERROR_PAGE, "is an HTML page, not a Word document"),
        (".docx", ZIP, "is not a Word document"),
        (".docx", OLE, "protected with a password"),
        (".txt", b"* * *\n1984\n", "has no words in it"),
        (".md", b"```\ncode\n```\n", "has no words in it"),
        (".html", b"<script>a</script><p>1</p>", "has no words in it"),
        (".pdf", PDF, ".pdf cannot be read"),
        ("", b"a", "a file without a suffix cannot be read"),
    ],
)
def test_unreadable_files_are_refused(suffix: str, content: bytes, message: str) -> None:
    with pytest.raises(TemploraError, match=message) as caught:
        parse_document(content, suffix, f"dir/book{suffix}")
    assert caught.value.hint and caught.value.message.startswith(f"dir/book{suffix}")
    assert "\n" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "notice"),
    [
        (
            "a.txt",
            "Он вошёл в комнату.".encode("cp1251"),
            "as Windows-1251; if that is wrong, name the right",
        ),
        ("a.md", "天黑了，他还没有回来。".encode("gb18030"), "as GB18030; if that is wrong, name the right"),
        (
            "a.html",
            "<p>Он вошёл в комнату.</p>".encode("koi8_r"),
            "as KOI8-R; if that is wrong, name the right",
        ),
        ("a.html", '<meta charset="koi8-r"><p>Он вошёл.</p>'.encode("koi8_r"), None),
        ("a.txt", "Он вошёл в комнату.".encode(), None),
        ("a.txt", "Он вошёл в комнату.".encode("utf-16"), None),
    ],
)
def test_a_guessed_encoding_is_announced(
    name: str, content: bytes, notice: str | None, tmp_path: Path
) -> None:
    told: list[str] = []
    (tmp_path / name).write_bytes(content)
    document = read_document(tmp_path / name, notify=told.append)
    assert texts(document)[0].startswith(("Он вошёл", "天黑了"))
    assert told == [] if notice is None else notice in told[0] and told[0].endswith("one: --encoding NAME")
    told.clear()
    read_document(tmp_path / name, encoding="latin-1", notify=told.append)
    assert told == []


def test_files_are_read_in_their_encoding(tmp_path: Path) -> None:
    file = tmp_path / "Book.TXT"
    file.write_bytes("Привет, мир".encode("cp1251"))
    assert texts(read_document(file)) == ["Привет, мир"]
    assert texts(read_document(file, encoding="windows-1251")) == ["Привет, мир"]
    with pytest.raises(TemploraError, match="is not in utf-8"):
        read_document(file, encoding="utf-8")
    with pytest.raises(TemploraError, match="there is no file"):
        read_document(tmp_path / "none.txt")
    with pytest.raises(TemploraError, match="is a folder"):
        read_document(tmp_path)
    with pytest.raises(TemploraError, match="an encoding is only for text files"):
        read_document(FIXTURES / "pandoc-3.epub", encoding="utf-8")


def test_files_over_the_size_limit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("longer than that")
    with pytest.raises(TemploraError, match="is over 0 MB"):
        read_document(file, max_bytes=10)
    assert texts(read_document(file, max_bytes=16)) == ["longer than that"]
    content = file.read_bytes()
    with pytest.raises(TemploraError, match="is over 0 MB of text"):
        parse_document(content, ".txt", "a.txt", max_text_bytes=10)
    with pytest.raises(TemploraError, match="is a zip archive"):  # the format is reported before the size
        parse_document(ZIP, ".txt", "a.txt", max_text_bytes=10)
    assert texts(parse_document(ZIP, ".epub", "a.epub", max_text_bytes=10)), "the limit is for text files"


SMALL = {
    ".txt": "One\n\nTwo\n",
    ".md": "One\n\nTwo\n",
    ".html": "<p>One</p><p>Two</p>",
    ".epub": epub("<p>One</p><p>Two</p>", metadata=""),
    ".docx": docx(p(run("One")) + p(run("Two"))),
}


@pytest.fixture(params=SMALL)
def small(request: pytest.FixtureRequest) -> Document:
    return parse(SMALL[request.param], request.param)


def test_paragraphs_without_a_translation_stay(small: Document) -> None:
    content = small.render({}, "de")
    for nothing in ({0: ""}, {1: " \n"}, {0: "<1/>"}):
        assert small.render(nothing, "de") == content, nothing
    assert texts(parse(small.render({1: "Zwei"}, "de"), small.suffix)) == ["One", "Zwei"]


def test_a_document_can_be_rendered_repeatedly(small: Document) -> None:
    first = small.render({0: "Eins"}, "de")
    small.render(shout_all(small), "fr", bilingual=True)
    assert small.render({0: "Eins"}, "de") == first


def test_bilingual_files_read_as_paragraphs_of_both_languages(small: Document) -> None:
    out = small.render({0: "Eins & <so>", 1: "Zwei"}, "de", bilingual=True)
    assert texts(parse(out, small.suffix)) == ["One", "Eins & <so>", "Two", "Zwei"]


def test_control_characters_and_line_breaks_are_removed(small: Document) -> None:
    out = small.render({0: "Ei\0ns\x0b\u2028\ud800 da\r\n\n# so", 1: "a & b < c > d"}, "de")
    assert texts(parse(out, small.suffix)) == ["Eins da # so", "a & b < c > d"]


def test_every_paragraph_is_in_one_chapter() -> None:
    for file in FIXTURES.iterdir():
        if file.suffix in SMALL:
            document = read_document(file)
            bounds = [(c.first, c.end) for c in document.chapters]
            assert bounds[0][0] == 0 and bounds[-1][1] == len(document.paragraphs)
            assert all(end == first for (_, end), (first, _) in pairwise(bounds))
            for index, paragraph in enumerate(document.paragraphs):
                first, end = bounds[paragraph.chapter]
                assert first <= index < end


def test_three_hundred_chapters_take_seconds() -> None:
    chapter = "".join(f"<p>A sentence with <em>some</em> markup, number {i}.</p>\n" for i in range(60))
    content = epub(*[f"<h1>Chapter {i}</h1>{chapter}" for i in range(300)])
    start = time.perf_counter()
    document = parse(content, ".epub")
    document.render(shout_all(document), "de")
    assert len(document.chapters) == 300 and len(document.paragraphs) == 300 * 61 + 1
    assert time.perf_counter() - start < 30  # 2 s on an idle core


@pytest.mark.parametrize("suffix", [".md", ".html", ".epub", ".docx"])
def test_a_very_long_paragraph_stays_whole(suffix: str) -> None:
    words = "word " * 40_000
    contents = {
        ".md": words,
        ".html": f"<p>{words}",
        ".epub": epub(f"<p>{words}</p>", metadata=""),
        ".docx": docx(p(run(words))),
    }
    document = parse(contents[suffix], suffix)
    assert len(document.paragraphs) == 1
    assert texts(parse(document.render(shout_all(document), "de"), suffix)) == [words.strip().upper()]


def _check_toy(content: bytes, suffix: str, name: str) -> None:
    if not content.startswith(b"TOY"):
        raise TemploraError(f"{name} is not a toy", f"give a {suffix}")


def _read_toy(content: bytes, suffix: str, name: str, encoding: str | None) -> Document:
    return TextDocument(content.removeprefix(b"TOY"), name, encoding)


def _write_toy(book: Book) -> bytes:
    return b"TOY" + "|".join(p.text for c in book.chapters for p in c.paragraphs).encode("utf-16")


TOY = FileFormat((".toy", ".toys"), _read_toy, is_text=True, check=_check_toy, write=_write_toy)
TOYS = (*FORMATS, TOY)


def test_a_new_format_is_a_row(tmp_path: Path) -> None:
    file = tmp_path / "a.TOYS"
    check_book_suffix(file, formats=TOYS)
    file.write_bytes(render_book(book_of_prose("One\n\nTwo"), file, formats=TOYS))
    assert texts(read_document(file, formats=TOYS)) == ["One|Two"]
    assert texts(read_document(file, encoding="utf-16", formats=TOYS)) == ["One|Two"]
    with pytest.raises(TemploraError, match="is not a toy"):
        parse_document(b"a", ".toy", "a.toy", formats=TOYS)
    assert texts(parse_document(b"a", ".txt", "a.txt", formats=TOYS)) == ["a"]


def test_messages_list_the_formats() -> None:
    file = Path("dir/a.pdf")
    for check in (lambda: check_book_suffix(file), lambda: render_book(book_of_prose("a"), file)):
        with pytest.raises(TemploraError) as caught:
            check()
        assert re.fullmatch(r"a\.pdf: a book is written as .*\.md.* or .*", caught.value.message)
        assert str(caught.value.hint).endswith(".md")
    with pytest.raises(TemploraError, match=r"written as .*\.toy or \.toys or "):
        check_book_suffix(file, formats=TOYS)
    with pytest.raises(TemploraError, match=r"a\.epub: a book is written as"):
        check_book_suffix(Path("a.epub"))  # it has a reader, but no writer
    with pytest.raises(TemploraError) as caught:
        parse_document(PDF, ".pdf", "a.pdf")
    formats = re.fullmatch(r"convert it to one of (.*), for example with .*", str(caught.value.hint))
    assert formats and formats[1].split() == [suffix for row in FORMATS for suffix in row.suffixes]
    assert {".txt", ".md", ".html", ".htm", ".epub", ".docx"} <= set(formats[1].split())
    with pytest.raises(TemploraError) as caught:
        parse_document(PDF, ".pdf", "a.pdf", formats=[TOY])
    assert "one of .toy .toys, for" in caught.value.hint


def test_every_suffix_is_in_one_row() -> None:
    suffixes = [suffix for row in FORMATS for suffix in row.suffixes]
    assert len(set(suffixes)) == len(suffixes) and all(s == s.lower() and s[0] == "." for s in suffixes)


def test_the_suffix_selects_the_writer() -> None:
    book = book_of_prose("a\nb")
    assert render_book(book, Path("a.md")) == b"a\n\nb\n"
    assert render_book(book, Path("a.TXT")) == b"a\nb\n"


@pytest.mark.parametrize(
    ("call", "loaded"),
    [
        ("check_book_suffix(Path('a.md'))", set()),
        ("render_book(book_of_prose('a'), Path('a.md'))", {"writers.markdown"}),
        (
            "parse_document(b'a', '.txt', 'a')",
            {"readers.text_file", "readers.line_wrapping", "readers.headings"},
        ),
    ],
)
def test_a_reader_or_writer_is_loaded_only_when_used(call: str, loaded: set[str]) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom templora_cli.documents.book import book_of_prose\n"
        "from templora_cli.documents.registry import check_book_suffix, parse_document, render_book\n"
        f"{call}\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert not modules & {"lxml", "markdown_it", "charset_normalizer"}
    packages = ("templora_cli.documents.readers.", "templora_cli.documents.writers.")
    assert {m.removeprefix("templora_cli.documents.") for m in modules if m.startswith(packages)} == loaded
