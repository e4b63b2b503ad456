"""EPUB 2 and 3."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from templora_cli.documents.document import MAX_TEXT_BYTES
from templora_cli.documents.readers.archive import Archive
from templora_cli.documents.readers.epub_package import resolved
from templora_cli.errors import TemploraError
from tests.documents.fake import FIXTURES, epub, opf, page, parsed, shouted, shouting, texts, unzipped, zipped

BOOKS = ["pandoc-2.epub", "pandoc-3.epub"]
EPUBCHECK = shutil.which("epubcheck")


def check(content: bytes, tmp_path: Path) -> None:
    """Fails with what epubcheck finds; skips without it."""
    if EPUBCHECK is None or shutil.which("java") is None:
        pytest.skip("needs epubcheck and java")
    file = tmp_path / "book.epub"
    file.write_bytes(content)
    # Debian's epubcheck is a jar that is marked as a program, which not every kernel starts
    is_jar = Path(EPUBCHECK).read_bytes()[:2] == b"PK"
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    command = ["java", *quick, "-jar", EPUBCHECK] if is_jar else [EPUBCHECK]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", BOOKS)
def test_nothing_translated_is_the_same_file(name: str) -> None:
    content = (FIXTURES / name).read_bytes()
    assert parsed(content, ".epub").render({}, "de") == content


@pytest.mark.parametrize("name", BOOKS)
def test_every_paragraph_is_accounted_for_and_all_else_stays(name: str) -> None:
    content = (FIXTURES / name).read_bytes()
    document = parsed(content, ".epub")
    out = document.render(shouting(document), "de")
    assert texts(parsed(out, ".epub")) == [shouted(text) for text in texts(document)]
    assert "THE LAMP WAS <1>LIT</1> EVERY EVENING" in "".join(texts(parsed(out, ".epub")))
    before, after = unzipped(content), unzipped(out)
    assert list(before) == list(after)
    for entry, old in before.items():
        if not entry.endswith((".xhtml", ".opf", ".ncx")):
            assert after[entry] == old, entry
    assert b"<dc:language>de</dc:language>" in next(v for k, v in after.items() if k.endswith(".opf"))
    info = zipfile.ZipFile(BytesIO(out)).infolist()[0]
    assert (info.filename, info.compress_type, info.extra) == ("mimetype", zipfile.ZIP_STORED, b"")


@pytest.mark.parametrize(("name", "bilingual"), [("pandoc-2.epub", False), ("pandoc-3.epub", True)])
def test_epubcheck_passes(name: str, bilingual: bool, tmp_path: Path) -> None:
    document = parsed((FIXTURES / name).read_bytes(), ".epub")
    check(document.render(shouting(document), "de", bilingual=bilingual), tmp_path)


def test_a_table_of_contents_among_the_pages_is_read_once() -> None:
    document = parsed((FIXTURES / "pandoc-3.epub").read_bytes(), ".epub")
    assert [p.text for p in document.paragraphs if p.kind == "contents"] == [
        "Title Page",
        "Table of Contents",
    ]
    assert texts(document).count("The First Winter") == 1


def test_the_mimetype_comes_first_and_is_not_compressed() -> None:
    entries = unzipped(epub("<p>a</p>"))
    entries["mimetype "] = entries.pop("mimetype")
    for content in (zipped(entries), zipped({k.strip(): v for k, v in entries.items()})):
        info = zipfile.ZipFile(BytesIO(parsed(content, ".epub").render({1: "b"}, "de"))).infolist()[0]
        assert (info.filename, info.compress_type) == ("mimetype", zipfile.ZIP_STORED)


def test_one_paragraph_changes_one_page_and_the_language() -> None:
    content = epub("<h1>One</h1><p>a</p>", "<h1>Two</h1><p>b &amp; c</p>")
    document = parsed(content, ".epub")
    before, after = unzipped(content), unzipped(document.render({texts(document).index("b & c"): "d"}, "de"))
    changed = {entry for entry in before if before[entry] != after[entry]}
    assert changed == {"OEBPS/p1.xhtml", "OEBPS/content.opf"}
    assert after["OEBPS/p1.xhtml"].decode() == page("<h1>Two</h1><p>d</p>", lang=' lang="de" xml:lang="de"')


NAV = page(
    '<nav epub:type="toc"><h1>Contents</h1><ol><li><a href="p0.xhtml">One &amp; all</a></li>'
    '<li><a href="p1.xhtml">Another entry</a></li>'
    '<li><a href="p1.xhtml#x"><b>Two</b> halves</a></li></ol></nav>'
    '<nav epub:type="page-list"><ol><li><a href="p0.xhtml#iv">iv</a></li></ol></nav>'
)
NCX = (
    '<?xml version="1.0"?><ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><docTitle><text>A Book</text>'
    "</docTitle><docAuthor><text>Ann Author</text></docAuthor><navMap><navPoint><navLabel><text>ONE &amp; All"
    '</text></navLabel><content src="p0.xhtml"/></navPoint><navPoint><navLabel><text>Another entry</text>'
    '</navLabel><content src="p1.xhtml"/></navPoint></navMap><pageList><pageTarget><navLabel><text>iv</text>'
    "</navLabel></pageTarget></pageList></ncx>"
)
ITEMS = (
    '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
    '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
)


def test_entries_of_contents_take_the_translations_of_headings() -> None:
    content = epub(
        "<h1>One <em>&amp;</em> all</h1><p>a</p>",
        "<h1><i>Two</i> halves</h1><p>b</p>",
        entries={"OEBPS/nav.xhtml": NAV, "OEBPS/toc.ncx": NCX},
        extra=ITEMS,
    )
    document = parsed(content, ".epub")
    assert [(p.kind, p.text) for p in document.paragraphs] == [
        ("metadata", "A Book"),
        ("heading", "One <1>&</1> all"),
        ("text", "a"),
        ("heading", "<1>Two</1> halves"),
        ("text", "b"),
        ("contents", "Contents"),
        ("contents", "Another entry"),
    ]
    out = unzipped(document.render(shouting(document), "de"))
    nav, ncx = out["OEBPS/nav.xhtml"].decode(), out["OEBPS/toc.ncx"].decode()
    assert '<a href="p0.xhtml">ONE &amp; ALL</a>' in nav and '<a href="p1.xhtml">ANOTHER ENTRY</a>' in nav
    assert "<b>TWO</b> HALVES" in nav and ">iv<" in nav
    assert "<text>ONE &amp; ALL</text>" in ncx and "<text>ANOTHER ENTRY</text>" in ncx
    assert "<text>A BOOK</text>" in ncx and "Ann Author" in ncx and ">iv<" in ncx


def test_titles_and_descriptions_are_metadata() -> None:
    metadata = (
        "<dc:description>Short &amp; good</dc:description><dc:title>A</dc:title><dc:title>Sub</dc:title>"
        "<dc:description>&lt;p&gt;marked up&lt;/p&gt;</dc:description>"
    )
    document = parsed(epub("<p>a</p>", metadata=metadata), ".epub")
    assert [p.text for p in document.paragraphs if p.kind == "metadata"] == ["A", "Sub", "Short & good"]
    out = unzipped(document.render({2: "Kurz & < gut"}, "de"))["OEBPS/content.opf"].decode()
    assert "<dc:description>Kurz &amp; &lt; gut</dc:description>" in out


def test_chapters_are_pages_or_their_headings() -> None:
    content = epub(
        "<p>before</p>",
        "<h2>One</h2><p>a</p>",
        "<p>goes on</p>",
        "<h2>Two</h2><p>b</p><h3>x</h3><p>c</p><h2>Three</h2><p>d</p>",
        entries={"OEBPS/nav.xhtml": NAV.replace("p0.xhtml", "p9.xhtml")},
        extra=ITEMS,
    )
    document = parsed(content, ".epub")
    assert [c.title for c in document.chapters] == ["p0", "One", "Two", "Three"]
    assert [(c.first, c.end) for c in document.chapters][:2] == [(0, 2), (2, 5)]
    assert document.chapters[-1].end == len(document.paragraphs)
    assert all(
        document.chapters[p.chapter].first <= i < document.chapters[p.chapter].end
        for i, p in enumerate(document.paragraphs)
    )


def test_a_part_and_its_first_chapter_begin_together() -> None:
    part = "<h1>Part I</h1><h2>One</h2><p>a</p><h2>Two</h2><p>b</p>"
    one_page = parsed(epub(part + part.replace("I<", "II<")), ".epub")
    assert [c.title for c in one_page.chapters] == ["Part I", "Part II"]
    pages = parsed(epub(part, "<h2>Three</h2><p>c</p>", "<h2>Four</h2><p>d</p>"), ".epub")
    assert [c.title for c in pages.chapters] == ["Part I", "Two", "Three", "Four"]


def test_pages_without_headings_are_chapters_by_the_contents() -> None:
    content = epub("<p>a</p>", "<p>b</p>", "<p>c</p>", entries={"OEBPS/nav.xhtml": NAV}, extra=ITEMS)
    assert [c.title for c in parsed(content, ".epub").chapters] == ["One & all", "Another entry"]


def test_both_languages_stand_in_the_book() -> None:
    document = parsed(epub("<h1>One</h1><p id='i'>a</p>"), ".epub")
    out = unzipped(document.render({0: "Ein Buch", 2: "ä"}, "de", bilingual=True))
    assert b"<p id='i'>a</p>\n<p xml:lang=\"de\">\xc3\xa4</p>" in out["OEBPS/p0.xhtml"]
    assert b"<dc:title>A Book / Ein Buch</dc:title>" in out["OEBPS/content.opf"]
    assert b"<dc:language>en</dc:language><dc:language>de</dc:language>" in out["OEBPS/content.opf"]


def test_pages_in_other_encodings_come_out_in_them() -> None:
    utf_16 = page("<p>a</p>").replace('encoding="utf-8"', 'encoding="utf-16"').encode("utf-16")
    latin = page("<p>é</p>").replace('encoding="utf-8"', 'encoding="iso-8859-1"').encode("latin-1")
    document = parsed(epub("", "", entries={"OEBPS/p0.xhtml": utf_16, "OEBPS/p1.xhtml": latin}), ".epub")
    assert texts(document) == ["A Book", "a", "é"]
    out = unzipped(document.render({1: "漢", 2: "ü漢"}, "ja"))
    assert "<p>漢</p>" in out["OEBPS/p0.xhtml"].decode("utf-16")
    assert "<p>ü&#28450;</p>" in out["OEBPS/p1.xhtml"].decode("latin-1")


ENCRYPTION = (
    '<encryption xmlns="x" xmlns:enc="y"><enc:EncryptedData><enc:EncryptionMethod Algorithm="{algorithm}"/>'
    '<enc:CipherData><enc:CipherReference URI="{uri}"/></enc:CipherData></enc:EncryptedData></encryption>'
)


def encrypted(algorithm: str, uri: str) -> bytes:
    text = ENCRYPTION.format(algorithm=algorithm, uri=uri)
    return epub("<p>a</p>", entries={"META-INF/encryption.xml": text})


def test_obfuscated_fonts_are_no_encryption() -> None:
    assert parsed(encrypted("http://www.idpf.org/2008/embedding", "OEBPS/a.otf"), ".epub").paragraphs
    assert parsed(encrypted("http://www.w3.org/2001/04/xmlenc#aes128-cbc", "a.woff2"), ".epub").paragraphs


ONE = epub("<p>a</p>")
SPINE = opf(["p0.xhtml"])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (encrypted("http://www.w3.org/2001/04/xmlenc#aes128-cbc", "OEBPS/p0.xhtml"), "is encrypted"),
        (epub("<p>a</p>", entries={"META-INF/rights.xml": "<rights/>"}), "is encrypted"),
        (ONE[:-60], "is damaged"),
        (ONE.replace(b"OEBPS/p0.xhtml", b"OEBPS/q0.xhtml"), "page OEBPS/p0.xhtml is named and not there"),
        (zipped({"mimetype": "application/epub+zip"}), "has no META-INF/container.xml"),
        (epub("<p>a</p>", entries={"META-INF/container.xml": "<container/>"}), "no package file"),
        (zipped({k: v for k, v in unzipped(ONE).items() if "opf" not in k}), "no package file"),
        (epub("<p>a</p>", entries={"OEBPS/content.opf": "<package/>"}), "no pages of text"),
        (
            epub("<p>a</p>", entries={"OEBPS/content.opf": SPINE.replace('idref="p0"', 'idref="q"')}),
            "page q is named",
        ),
        (
            epub("<p>a</p>", entries={"OEBPS/content.opf": SPINE.replace("p0.x", "../../p0.x")}),
            "named and not",
        ),
        (epub("<p>a</p>", entries={"OEBPS/p0.xhtml": b"<p>\xff</p>"}), "is not in utf-8"),
        (epub("<p>* * *</p>", metadata=""), "has no words to translate"),
    ],
)
def test_books_that_cannot_be_read(content: bytes, complaint: str) -> None:
    with pytest.raises(TemploraError, match=complaint) as caught:
        parsed(content, ".epub")
    assert caught.value.hint and "a book.epub" in caught.value.message and "\n" not in caught.value.message


def test_damage_inside_the_archive_is_named() -> None:
    content = epub("<p>" + "abc " * 500 + "</p>")
    at = content.index(b"OEBPS/p0.xhtml") + 40
    with pytest.raises(TemploraError, match="is damaged"):
        parsed(content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :], ".epub")


def test_links_stay_inside_the_archive() -> None:
    assert resolved("OEBPS/content.opf", "a%20b.xhtml#x") == "OEBPS/a b.xhtml"
    assert resolved("OEBPS/content.opf", "../c.xhtml") == "c.xhtml"
    for href in ("../../etc/passwd", "/etc/passwd", "http://x/y.xhtml", "file:///etc/passwd", "#x", ""):
        assert resolved("OEBPS/content.opf", href) is None, href


def test_an_archive_that_unpacks_to_too_much_is_refused() -> None:
    content = zipped({f"{i}": b"\0" * 100_000 for i in range(11)})
    assert len(content) < 10_000
    with pytest.raises(TemploraError, match="unpacks to"):
        Archive(content, "bomb.epub", max_bytes=1_000_000)
    page_bomb = zipped({"p.xhtml": b" " * (MAX_TEXT_BYTES + 1)})
    with pytest.raises(TemploraError, match=r"p\.xhtml, is too large"):
        Archive(page_bomb, "bomb.epub").read("p.xhtml")


def test_entities_of_a_document_type_are_not_expanded() -> None:
    bomb = page("<p>a &b; c</p>").replace(
        "<!DOCTYPE html>", '<!DOCTYPE html [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
    )
    document = parsed(epub("", entries={"OEBPS/p0.xhtml": bomb}), ".epub")
    assert texts(document)[1] == "a &b; c"


def test_the_same_translations_give_the_same_bytes() -> None:
    document = parsed(ONE, ".epub")
    assert document.render({1: "b"}, "de") == document.render({1: "b"}, "de")


@pytest.mark.skipif(shutil.which("pandoc") is None, reason="needs pandoc")
def test_three_hundred_chapters(tmp_path: Path) -> None:
    chapters = (
        f"# Chapter {i}: of *things*\n\nIt was day {i}, and **nobody** came.[^{i}]\n\n- an item & more\n\n"
        f'"Well," she said, "see [the first](#chapter-1-of-things)."\n\n[^{i}]: Note {i} &lt;b>.\n\n'
        for i in range(1, 301)
    )
    source = tmp_path / "book.md"
    source.write_text("---\ntitle: Long\nlang: en\n---\n\n" + "".join(chapters))
    made = tmp_path / "made.epub"
    subprocess.run(["pandoc", "--toc", "-o", made, source], check=True)
    document = parsed(made.read_bytes(), ".epub")
    assert len([c for c in document.chapters if c.title.startswith("Chapter ")]) == 300
    assert len([p for p in document.paragraphs if p.kind == "heading"]) == 301
    out = document.render(shouting(document), "de")
    again = parsed(out, ".epub")
    assert texts(again) == [shouted(text) for text in texts(document)]
    assert [(p.kind, p.chapter) for p in again.paragraphs] == [
        (p.kind, p.chapter) for p in document.paragraphs
    ]
    check(out, tmp_path)


def test_damaged_lzma_is_told_as_damage() -> None:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"a lamp " * 400)
    content = bytearray(out.getvalue())
    content[45:60] = b"\xff" * 15
    with pytest.raises(TemploraError, match=r"a, is damaged"):
        Archive(bytes(content), "book.epub").read("a")


def direction_of(spine: str, language: str, *, version: str = "3.0", was: str = "en") -> str:
    """What becomes of the tag of the spine."""
    package = opf(["p0.xhtml"]).replace('version="3.0"', f'version="{version}" xml:lang="{was}"')
    package = package.replace("<spine>", spine).replace("<dc:language>en", f"<dc:language>{was}")
    document = parsed(epub("<h1>One</h1><p>a</p>", entries={"OEBPS/content.opf": package}), ".epub")
    out = unzipped(document.render(shouting(document), language))["OEBPS/content.opf"].decode()
    assert f'xml:lang="{language}"' in out and f"<dc:language>{language}</dc:language>" in out
    return out[out.index("<spine") : out.index("<itemref")]


def test_pages_turn_as_the_language_is_written() -> None:
    to_left, to_right = (f'<spine page-progression-direction="{way}">' for way in ("rtl", "ltr"))
    assert direction_of("<spine>", "ar") == to_left
    assert direction_of('<spine toc="ncx" page-progression-direction="ltr">', "he") == (
        '<spine toc="ncx" page-progression-direction="rtl">'
    )
    assert direction_of("<spine>", "ar", version="2.0") == "<spine>"
    assert direction_of("<spine>", "de") == "<spine>"
    assert direction_of(to_left, "en", was="ar") == to_right
    assert direction_of(to_left, "en", was="ja") == to_left, "columns, maybe"


def test_pages_of_a_language_from_right_to_left_say_so() -> None:
    document = parsed(epub("<h1>One</h1><p>a</p>"), ".epub")
    out = unzipped(document.render(shouting(document), "ar"))["OEBPS/p0.xhtml"].decode()
    assert 'lang="ar" xml:lang="ar" dir="rtl">' in out
