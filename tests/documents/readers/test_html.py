"""HTML files."""

from __future__ import annotations

import pytest

from tests.documents.fake import FIXTURES, parse, shout, shout_all, texts

PAGE = '<!DOCTYPE html><html lang=en><meta charset="{}"><title>T</title><h1>A</h1><p>é 漢<p>b</html>'


def test_the_fixture_is_translated_and_all_else_stays() -> None:
    content = (FIXTURES / "pandoc.html").read_bytes()
    document = parse(content, ".html")
    assert document.render({}, "de") == content
    out = document.render(shout_all(document), "de")
    assert texts(parse(out, ".html")) == [shout(text) for text in texts(document)]
    assert [c.title for c in document.chapters] == [
        "The Lamp at Gull Point",
        "The First Winter",
        "The Second Winter",
    ]
    assert b"<title>THE LAMP AT GULL POINT</title>" in out and b"code stays as it is" in out


def test_unclosed_tags_are_read_and_the_language_is_set() -> None:
    document = parse(PAGE.format("utf-8"), ".htm")
    assert document.suffix == ".htm"
    assert [(p.kind, p.text) for p in document.paragraphs] == [
        ("metadata", "T"),
        ("heading", "A"),
        ("text", "é 漢"),
        ("text", "b"),
    ]
    assert document.render({3: "c"}, "de").decode() == PAGE.format("utf-8").replace("=en", "=de").replace(
        "<p>b", "<p>c"
    )


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("gb2312", "gb18030"),
        ("Shift_JIS", "cp932"),
        ("utf-8", "utf-8"),
        ("big5", "big5"),
        ("nonsense", "utf-8"),
    ],
)
def test_a_declared_encoding_is_used(declared: str, encoding: str) -> None:
    text = PAGE.format(declared).replace("é ", "")
    document = parse(text.encode(encoding), ".html")
    assert document.render({}, "de") == text.encode(encoding)
    out = document.render({3: "ü"}, "de").decode("utf-8")
    assert "<p>漢" in out and "<p>ü" in out and 'charset="utf-8"' in out.lower()


def test_other_declarations_and_byte_order_marks_are_used() -> None:
    text = '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-1"><p>“é” a</p>'
    out = parse(text.encode("cp1252"), ".html").render({0: "漢"}, "zh").decode()
    assert out == '<meta http-equiv="Content-Type" content="text/html; charset=utf-8"><p>漢</p>'
    xhtml = '<?xml version="1.0" encoding="ISO-8859-1"?><html><p>é</p></html>'
    out = parse(xhtml.encode("latin-1"), ".html").render({0: "ü"}, "de").decode()
    assert out == '<?xml version="1.0" encoding="UTF-8"?><html xml:lang="de"><p>ü</p></html>'
    assert parse("\ufeff<p>a</p>", ".html").render({0: "b"}, "de") == b"\xef\xbb\xbf<p>b</p>"
    assert "<p>漢" in parse("<p>é</p>".encode("utf-16"), ".html").render({0: "漢"}, "zh").decode()


def test_a_title_that_repeats_a_heading_gets_its_translation() -> None:
    document = parse("<title>A  b</title><h1>A <i>b</i></h1>", ".html")
    assert texts(document) == ["A <1>b</1>"]
    assert document.render({0: "C <1>d</1>"}, "de") == b"<title>C d</title><h1>C <i>d</i></h1>"


def test_bilingual_files_have_both_languages() -> None:
    out = parse("<p>a</p><li>b", ".html").render({0: "A", 1: "B"}, "de", bilingual=True)
    assert out == b'<p>a</p>\n<p lang="de">A</p><li>b<br><span lang="de">B</span>'
