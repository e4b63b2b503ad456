"""Manuscripts of all formats: chapters in order, and nothing that is not the book's text."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.documents.manuscript import Manuscript, parse_manuscript, read_manuscript
from templora_cli.errors import TemploraError
from tests.documents.fake import docx, epub, p, page, part, run

SENTENCE = "Mara walked down to the harbour, where the boats lay in the mud and nobody spoke of the storm. "
LONG = (SENTENCE * 3).strip()


def parse(content: str | bytes, suffix: str) -> Manuscript:
    data = content.encode() if isinstance(content, str) else content
    return parse_manuscript(data, suffix, f"book{suffix}")


def titles(manuscript: Manuscript) -> list[str]:
    return [chapter.title for chapter in manuscript.chapters]


def paragraphs(manuscript: Manuscript) -> list[str]:
    return manuscript.text.split("\n\n")[:-1]


def check(manuscript: Manuscript) -> None:
    """The chapters are the text, in order: each begins where the one before ends."""
    end = 0
    for chapter in manuscript.chapters:
        assert not manuscript.text[end : chapter.start].strip()
        assert chapter.start <= chapter.text_start
        end = chapter.text_start + len(chapter.text)
        assert manuscript.text[chapter.text_start : end] == chapter.text
        assert chapter.title or chapter.start == chapter.text_start
    assert not manuscript.text[end:].strip()


# --- chapters of all formats ---------------------------------------------------------------------------


STYLES = "".join(
    f'<w:style w:styleId="{key}"><w:name w:val="{name}"/></w:style>'
    for key, name in (
        ("T", "Title"),
        ("S", "Subtitle"),
        ("H1", "heading 1"),
        ("H2", "heading 2"),
        ("TOC1", "toc 1"),
    )
)
STYLES = part("styles", STYLES)


def word(*content: str, **entries: str) -> bytes:
    parts = {f"word/{name}.xml": text for name, text in entries.items()}
    return docx("".join(content), {"word/styles.xml": STYLES, **parts})


FORMATS = {
    ".txt": (
        f"Chapter 1: Rain\n\nIt was late.\n\n* * *\n\n{LONG}\n\nChapter 2: Snow\n\nMara opened the door and"
    ),
    ".md": (
        f"---\ntitle: The Salt Road\n---\n# Chapter 1: Rain\n\nIt was late.\n\n* * *\n\n{LONG}\n\n"
        "# Chapter 2: Snow\n\nMara opened the door and"
    ),
    ".html": (
        f"<h1>Chapter 1: Rain</h1><p>It was <i>late</i>.</p><hr><p>{LONG}</p>"
        "<h1>Chapter 2: Snow</h1><p>Mara opened the door and</p>"
    ),
    ".epub": epub(
        f"<h2>Chapter 1: Rain</h2><p>It was <i>late</i>.</p><p>* * *</p><p>{LONG}</p>",
        "<h2>Chapter 2: Snow</h2><p>Mara opened the door and</p>",
    ),
    ".docx": word(
        p(run("Chapter 1: Rain"), style="H1"),
        p(run("It was "), run("late", "<w:i/>"), run(".")),
        p(run("* * *")),
        p(run(LONG)),
        p(run("Chapter 2: Snow"), style="H1"),
        p(run("Mara opened the door and")),
    ),
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_chapters_are_read_in_order(suffix: str) -> None:
    manuscript = parse(FORMATS[suffix], suffix)
    check(manuscript)
    assert [(c.title, c.text) for c in manuscript.chapters] == [
        ("Chapter 1: Rain", f"It was late.\n\n* * *\n\n{LONG}"),
        ("Chapter 2: Snow", "Mara opened the door and"),
    ]
    first = manuscript.text.index("Chapter 2: Snow")
    assert (
        manuscript.text.startswith("Chapter 1: Rain\n\nIt was late.")
        and manuscript.chapters[1].start == first
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "gb18030", "big5", "cp932"])
def test_a_text_file_may_have_any_encoding(encoding: str) -> None:
    text = "第一章\n\n雨下了一夜，他一個人坐在窗前，一直到天明。\n\n第二章\n\n天亮了。\n"
    if encoding == "cp932":
        text = "第一章\n\n彼は部屋に入った。外では雨が降っていた。\n\n第二章\n\n朝になった。\n"
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    manuscript = parse(mark + text.replace("\n", "\r\n").encode(encoding), ".txt")
    assert manuscript.text == text and titles(manuscript) == ["第一章", "第二章"]


WORDS = st.text(st.sampled_from('abcÄ漢 1*#.,:"“!—'), max_size=12)
LINES = st.lists(
    st.one_of(
        WORDS,
        st.sampled_from(
            ["Chapter 1", "CHAPTER TWO", "Part One", "Prologue", "第三章 雨", "* * *", "---", "7"]
        ),
        st.just(SENTENCE.strip()),
    ),
    max_size=12,
)


@given(LINES, st.sampled_from(["\n", "\n\n", "\n\n\t"]))
def test_a_text_of_a_paragraph_per_line_stays_as_it_is(lines: list[str], gap: str) -> None:
    text = gap.join(lines)
    try:
        manuscript = parse(text, ".txt")
    except TemploraError as error:
        assert str(error).endswith("is empty")
        return
    check(manuscript)
    if not manuscript.left_out:
        assert manuscript.text.strip() == text.strip()


@given(LINES)
def test_the_chapters_of_all_formats_are_the_whole_prose(lines: list[str]) -> None:
    html = "".join(f"<p>{line.replace('<', '')}</p>" for line in lines)
    for content, suffix in (
        ("\n\n".join(lines), ".md"),
        (f"<body>{html}</body>", ".html"),
        (epub(html, metadata=""), ".epub"),
        (word(*(p(run(line.replace("&", "").replace("<", ""))) for line in lines)), ".docx"),
    ):
        try:
            manuscript = parse(content, suffix)
        except TemploraError as error:
            assert str(error).endswith("is empty")
            continue
        check(manuscript)
        if SENTENCE.strip() in lines and not manuscript.left_out:
            assert manuscript.text.count(SENTENCE.strip()) == lines.count(SENTENCE.strip())


def test_a_part_begins_with_its_first_chapter_and_a_title_is_not_text() -> None:
    text = f"# The Salt Road\n\n## Part One\n\n### 1\n\n{LONG}\n\n### 2\n\nRain.\n\n"
    text += "## Part Two\n\n### 3\n\nSnow.\n"
    manuscript = parse(text, ".md")
    check(manuscript)
    assert manuscript.title == "The Salt Road" and titles(manuscript) == ["1", "2", "3"]
    assert paragraphs(manuscript)[:3] == ["Part One", "1", LONG]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Chapter One", "The Storm", LONG, "Chapter Two", LONG], ["Chapter One: The Storm", "Chapter Two"]),
        (
            ["CHAPTER I.", "THE STORM AT SEA", LONG, "CHAPTER II.", LONG],
            ["CHAPTER I. THE STORM AT SEA", "CHAPTER II."],
        ),
        (["Prologue", LONG, "1", LONG, "2", LONG, "Epilogue", LONG], ["Prologue", "1", "2", "Epilogue"]),
        (["I", LONG, "II", LONG, "III", LONG], ["I", "II", "III"]),
        (["1. Rain", LONG, "2. Snow", LONG], ["1. Rain", "2. Snow"]),
        (["THE STORM", *[LONG] * 3, "THE CALM", *[LONG] * 3], ["THE STORM", "THE CALM"]),
        (["1. Take oil.", "2. Take salt.", LONG], [""]),
        (["It was loud.", "STOP", "STOP", LONG], [""]),
        (["Chapter 1 was over.", LONG], [""]),
        (["Chapter Two", "Mara"], ["Chapter Two"]),
    ],
)
def test_headings_are_found_by_their_words(lines: list[str], expected: list[str]) -> None:
    contents = ("\n\n".join(lines), word(*(p(run(line)) for line in lines)))
    for content, suffix in zip(contents, (".txt", ".docx"), strict=True):
        manuscript = parse(content, suffix)
        check(manuscript)
        assert titles(manuscript) == expected, suffix
        assert paragraphs(manuscript) == lines or manuscript.text.strip() == "\n\n".join(lines)


# --- what is left out ----------------------------------------------------------------------------------


def test_a_word_manuscript_has_no_notes_comments_or_deletions() -> None:
    content = word(
        p(run("The Salt Road"), style="T"),
        p(run("A Novel of the Coast"), style="S"),
        p(run("Copyright © 2024 Jane Doe. All rights reserved.")),
        p(run("Chapter 1: Rain"), run("1"), style="TOC1"),
        p(run("Chapter 1: Rain"), style="H1"),
        p(
            run("It was"),
            f'<w:ins w:id="1" w:author="x">{run(" very")}</w:ins>',
            '<w:del w:id="2" w:author="x"><w:r><w:delText> not</w:delText></w:r></w:del>',
            run(" late."),
            '<w:r><w:footnoteReference w:id="2"/></w:r>',
            run(" She slept."),
            '<w:r><w:commentReference w:id="0"/></w:r>',
            run("hidden", "<w:vanish/>"),
        ),
        '<w:p><w:pPr><w:rPr><w:del w:id="3"/></w:rPr></w:pPr>' + run("One line ") + "</w:p>",
        p(run("goes on.")),
        p(run("Page"), '<w:r><w:br w:type="page"/></w:r>', run("break")),
        p(run("A line"), "<w:r><w:br/></w:r>", run("break")),
        p('<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText> REF x </w:instrText></w:r>'),
        p('<w:r><w:fldChar w:fldCharType="separate"/></w:r>', run("See it.")),
        p('<w:r><w:fldChar w:fldCharType="end"/></w:r>'),
        footnotes=part("footnotes", f'<w:footnote w:id="2">{p(run("A note."))}</w:footnote>'),
        header1=part("hdr", p(run("DOE / ROAD / 12"))),
        comments=part("comments", f'<w:comment w:id="0">{p(run("Really?"))}</w:comment>'),
    )
    manuscript = parse(content, ".docx")
    assert manuscript.title == "The Salt Road"
    assert paragraphs(manuscript) == [
        "Chapter 1: Rain",
        "It was very late. She slept.",
        "One line goes on.",
        "Page",
        "break",
        "A line\nbreak",
        "See it.",
    ]
    assert manuscript.left_out == (
        "1 note",
        "1 comment",
        "1 tracked deletion",
        "title page",
        "contents",
        "copyright",
    )


@pytest.mark.parametrize(("empty", "is_break"), [({4}, True), ({1, 2, 3, 4, 5, 6, 7}, False), (set(), False)])
def test_a_rare_empty_paragraph_is_a_scene_break(empty: set[int], is_break: bool) -> None:
    lines = [f"It was day {number}." for number in range(8)]
    content = word(*(p() * (n in empty) + p(run(line)) for n, line in enumerate(lines)))
    assert ("* * *" in parse(content, ".docx").text) == is_break
    html = "".join("<p>&nbsp;</p>" * (n in empty) + f"<p>{line}</p>" for n, line in enumerate(lines))
    assert ("* * *" in parse(html, ".html").text) == is_break


NAV = page(
    '<nav epub:type="toc"><ol><li><a href="p0.xhtml">Cover</a></li><li><a href="p2.xhtml">Copyright</a></li>'
    '<li><a href="p3.xhtml#c1">Chapter 1</a></li><li><a href="p3.xhtml#c2">Chapter 2: Snow</a></li>'
    '<li><a href="p4.xhtml">Chapter 3</a></li><li><a href="p6.xhtml">About the Author</a></li></ol></nav>'
)
NAV_ITEM = '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'


def test_an_epub_is_read_by_its_contents_without_front_and_back_matter() -> None:
    content = epub(
        '<img src="c.png" alt="The Salt Road"/>',
        "<p>The Salt Road</p><p>Jane Doe</p>",
        "<p>Copyright © 2024 Jane Doe</p><p>ISBN 978-0000</p>",
        '<h2 id="c1">Chapter 1</h2><p>The word<sup><a href="#n1" id="r1">1</a></sup> was new.</p><hr/>'
        '<p>A scene.</p><div id="c2"><p>CHAPTER 2</p><p>SNOW</p></div><p>It snowed.</p>'
        '<p id="n1"><a href="#r1">1</a> A note.</p><aside epub:type="footnote">Another.</aside>',
        "<p>It froze.</p>",
        "<p>It thawed.</p>",
        "<h2>About the Author</h2><p>Jane lives by the sea.</p>",
        entries={"OEBPS/nav.xhtml": NAV},
        extra=NAV_ITEM,
        metadata="<dc:title>The Salt Road</dc:title>",
    )
    manuscript = parse(content, ".epub")
    check(manuscript)
    assert manuscript.title == "The Salt Road"
    assert [(c.title, c.text) for c in manuscript.chapters] == [
        ("Chapter 1", "The word was new.\n\n* * *\n\nA scene."),
        ("CHAPTER 2: SNOW", "It snowed."),
        ("Chapter 3", "It froze.\n\nIt thawed."),
    ]
    assert set(manuscript.left_out) == {"cover", "title page", "copyright", "1 note", "about the author"}


def test_sections_of_an_epub_are_left_out_by_their_type() -> None:
    content = epub(
        '<section epub:type="titlepage"><p>A Book</p></section>'
        '<section epub:type="dedication"><p>For Anna, who knows.</p></section>'
        f'<section epub:type="bodymatter chapter"><h2>1</h2><p>{LONG}</p></section>'
    )
    manuscript = parse(content, ".epub")
    assert paragraphs(manuscript) == ["1", LONG] and manuscript.left_out == ("title page", "dedication")


GOOGLE_DOCS = (
    '<html><head><title>x</title></head><body><p class="title"><span>The Salt Road</span></p>'
    '<h1 id="h.1">Chapter 1</h1><p>It was late<sup><a href="#cmnt1" id="cmnt_ref1">[a]</a></sup>. She '
    'slept<sup><a href="#ftnt1" id="ftnt_ref1">[1]</a></sup>.</p><h1>Chapter 2</h1><p>It was 10<sup>2</sup> '
    '<del>not </del>degrees. <a href="#x">1890</a> was <span style="display:none">no</span>cold.</p><hr>'
    '<div><p><a href="#ftnt_ref1" id="ftnt1">[1]</a> Note.</p><p>More of it.</p></div>'
    '<div><p><a href="#cmnt_ref1" id="cmnt1">[a]</a>Is this right?</p><p>Second line.</p></div></body></html>'
)


def test_an_export_of_google_docs_has_neither_comments_nor_notes() -> None:
    manuscript = parse(GOOGLE_DOCS, ".html")
    assert manuscript.title == "The Salt Road" and manuscript.left_out == ("1 note", "1 comment")
    assert paragraphs(manuscript) == [
        "Chapter 1",
        "It was late. She slept.",
        "Chapter 2",
        "It was 102 degrees. 1890 was cold.",
    ]


def test_a_heading_that_links_to_the_contents_stays() -> None:
    manuscript = parse(
        '<h2><a href="#toc1">1</a></h2><p>It rained.</p><h2><a href="#toc2">2</a></h2>', ".html"
    )
    assert titles(manuscript) == ["1", "2"]


def test_pages_that_are_laid_out_as_a_table_are_prose() -> None:
    manuscript = parse(f"<table><tr><td><p>{LONG}</p></td></tr></table>", ".html")
    assert paragraphs(manuscript) == [LONG]
    manuscript = parse(f"<p>{LONG}</p><table><tr><td>7 a</td></tr></table>", ".html")
    assert paragraphs(manuscript) == [LONG] and manuscript.left_out == ("tables",)


def test_markdown_keeps_the_markup_of_prose_alone() -> None:
    text = (
        "---\ntitle: 'The Salt Road'\n---\n\nChapter One\n===========\n\n"
        "<!-- fix\nthis -->It was *late*, and\nshe slept.[^1]\n\n***\n\n- Hello, she said.\n\n"
        "> A letter\n> to you\n\n"
        "![map](map.png)\n\n"
        "See [the sea](https://x.y/z).{--Gone.--}\n\nA verse  \nof two\n\n# Chapter Two {#c2}\n\n"
        "    Indented.\n\n[^1]: A note\n    goes on.\n\n&nbsp;\n"
    )
    manuscript = parse(text, ".md")
    assert titles(manuscript) == ["Chapter One", "Chapter Two"] and manuscript.title == "The Salt Road"
    assert manuscript.text.rstrip().split("\n\n") == [
        "Chapter One",
        "It was *late*, and she slept.",
        "***",
        "- Hello, she said.",
        "> A letter\n> to you",
        "See the sea.",
        "A verse\nof two",
        "Chapter Two",
        "Indented.",
    ]
    assert manuscript.left_out == ("front matter", "1 note", "1 comment", "1 deletion")


def wrapped(text: str) -> str:
    return textwrap.fill(text, 66)


GUTENBERG = f"""\
The Project Gutenberg eBook of The Salt Road, by Jane Doe

Title: The Salt Road

*** START OF THE PROJECT GUTENBERG EBOOK THE SALT ROAD ***


Produced by Someone


THE SALT ROAD

by J. R. Doe


CONTENTS

CHAPTER I. Rain .... 1
CHAPTER II. Snow .... 9
CHAPTER III. Ice .... 12



CHAPTER I.

Rain

{wrapped(LONG)}

  A rose, a rose,
  upon the sea

{wrapped(LONG)}

[Illustration: a boat]



CHAPTER II.

Snow

{wrapped(LONG)}

[Pg 12] The word[1] was new.

[1] A note.



CHAPTER III.

Ice

{wrapped(LONG)}

*** END OF THE PROJECT GUTENBERG EBOOK THE SALT ROAD ***

This licence is long.
"""


def test_a_text_of_project_gutenberg_is_the_book_alone() -> None:
    manuscript = parse(GUTENBERG, ".txt")
    check(manuscript)
    assert manuscript.title == "The Salt Road"
    assert [(c.title, c.text) for c in manuscript.chapters] == [
        ("CHAPTER I. Rain", f"{LONG}\n\nA rose, a rose,\nupon the sea\n\n{LONG}"),
        ("CHAPTER II. Snow", f"{LONG}\n\nThe word was new."),
        ("CHAPTER III. Ice", LONG),
    ]
    assert set(manuscript.left_out) == {
        "licence",
        "page numbers",
        "line breaks inside paragraphs",
        "illustrations",
        "1 note",
        "contents",
        "title page",
    }


def test_headers_and_numbers_of_pages_are_removed_and_paragraphs_go_on() -> None:
    lines = wrapped(SENTENCE * 40).split("\n")
    pages = [
        "\n".join(["DOE     THE ROAD", "", *lines[i : i + 12], "", str(i // 12 + 1)])
        for i in range(0, len(lines), 12)
    ]
    manuscript = parse("\n\f".join(pages), ".txt")
    assert manuscript.text.strip() == (SENTENCE * 40).strip()
    assert manuscript.left_out == ("page headers", "page numbers", "line breaks inside paragraphs")
    numbered = "".join(f"{SENTENCE}It went\n\n{page}\n\non and on. " for page in range(7, 12))
    manuscript = parse(numbered, ".txt")
    assert "It went on and on." in manuscript.text and "\n" not in manuscript.text.strip()


@pytest.mark.parametrize(
    ("first", "length"),
    [
        (["THE SALT ROAD", "by Jane Doe", "about 80,000 words"], 3),
        (["Jane Doe", "jane@sea.org", "The Salt Road", "A Novel"], 4),
        (["For a moment nothing stirred.", "“Run!”"], 0),
        (["By noon she was gone.", "Nobody came."], 0),
    ],
)
def test_a_title_page_before_the_first_chapter_is_left_out(first: list[str], length: int) -> None:
    manuscript = parse("\n\n".join([*first, "Chapter 1", LONG]), ".txt")
    assert paragraphs(parse(word(*map(p, map(run, [*first, "Chapter 1", LONG]))), ".docx")) == [
        *first[length:],
        "Chapter 1",
        LONG,
    ]
    assert manuscript.text.startswith(first[0]) == (length == 0)
    assert ("title page" in manuscript.left_out) == (length > 0)


def test_prose_is_not_left_out_for_what_its_title_says() -> None:
    text = f"# Notes\n\n{SENTENCE * 300}\n\n# Legal\n\n{LONG}\n"
    manuscript = parse(text, ".md")
    assert titles(manuscript) == ["Notes"] and manuscript.left_out == ("copyright",)
    assert titles(parse("# Cover\n\nIt rained.\n", ".md")) == ["Cover"], "nothing else would be left"
    chapter = "第一章\n\n" + "她写道：版权所有。" * 400
    assert titles(parse(chapter.replace("第一章", "# 她"), ".md")) == ["她"]


# --- other input ---------------------------------------------------------------------------------------


ODT = b"PK\x03\x04" + b"\0" * 26 + b"mimetypeapplication/vnd.oasis.opendocument.text"


@pytest.mark.parametrize(
    ("name", "content", "complaint", "hint"),
    [
        ("a.txt", b" \n", "a.txt is empty", "contains text"),
        ("a.md", b"---\ntitle: x\n---\n<!-- x -->\n", "a.md is empty", "contains text"),
        ("a.docx", docx("<w:p/>"), "a.docx is empty", "contains text"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file", "save it as .docx"),
        ("a.rtf", b"{\\rtf1 a}", "an RTF file", "save it as .docx"),
        ("a.pdf", b"%PDF-1.4", "a PDF", "convert it"),
        ("a.odt", ODT, "an OpenDocument file", "save it as .docx"),
        ("a.fb2", b"<?xml version='1.0'?><FictionBook/>", "a FictionBook", "convert it"),
        ("a.epub", epub("<p>a</p>", entries={"META-INF/rights.xml": "<x/>"}), "encrypted", "without DRM"),
    ],
)
def test_what_is_no_manuscript_is_refused(
    name: str, content: bytes, complaint: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TemploraError, match=complaint) as error:
        read_manuscript(tmp_path / name)
    assert hint in str(error.value.hint)


def test_a_file_is_read_by_its_suffix_or_as_a_text(tmp_path: Path) -> None:
    for name, text in {
        "a": "# One",
        "a.markdown": "One",
        "a.TXT": "# One",
        "a.text": "# One",
        "b.txt": "x & <i>y</i>",
    }.items():
        (tmp_path / name).write_text("x & <i>y</i>" if name == "b.txt" else "# One", "utf-8")
        assert read_manuscript(tmp_path / name).text.strip() == text
    (tmp_path / "c.txt").write_text("<html><body><p>It rained.</p></body></html>", "utf-8")
    assert read_manuscript(tmp_path / "c.txt").text.strip() == "It rained."
    with pytest.raises(TemploraError, match="there is no file"):
        read_manuscript(tmp_path / "none.txt")
    with pytest.raises(TemploraError, match="an encoding is only for text files"):
        (tmp_path / "a.docx").write_bytes(docx(p(run("a"))))
        read_manuscript(tmp_path / "a.docx", encoding="cp437")


def test_a_guessed_encoding_is_announced(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("He was naïve, and the café was closed".encode("cp1252"))
    notices: list[str] = []
    assert "naïve" in read_manuscript(tmp_path / "a.txt", notify=notices.append).text
    assert "as Windows-1252" in notices[0] and "--encoding NAME" in notices[0]


@pytest.mark.parametrize(
    ("suffix", "unit"),
    [
        (".md", "{--~~>[^a![a](<!-- "),
        (".txt", "[Pg 1*** START OF THE PROJECT GUTENBERG "),
        (".html", "<div>a"),
    ],
)
def test_unclosed_markup_takes_linear_time(suffix: str, unit: str) -> None:
    manuscript = parse("It rained.\n\n" + unit * 20_000, suffix)
    assert manuscript.text.startswith("It rained.")
