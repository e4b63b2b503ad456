"""Word documents."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from tests.documents.fake import (
    FIXTURES,
    docx,
    p,
    parse,
    part,
    run,
    shout,
    shout_all,
    texts,
    unzipped,
    zipped,
)

BOLD, ITALIC = "<w:b/>", "<w:i/>"
NOTE = '<w:r><w:rPr><w:rStyle w:val="N"/></w:rPr><w:footnoteReference w:id="2"/></w:r>'
LINK = '<w:hyperlink r:id="r1">{}</w:hyperlink>'
W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def read_texts(*content: str) -> list[str]:
    return texts(parse(docx("".join(content)), ".docx"))


def translate_body(body: str, *translations: str, bilingual: bool = False) -> str:
    """The body after its paragraphs were translated."""
    document = parse(docx(body), ".docx")
    out = document.render(dict(enumerate(translations)), "de", bilingual=bilingual)
    text = unzipped(out)["word/document.xml"].decode()
    return text[text.index("<w:body>") + 8 : text.index("</w:body>")]


def test_the_fixture_is_translated_and_all_else_stays() -> None:
    content = (FIXTURES / "pandoc.docx").read_bytes()
    document = parse(content, ".docx")
    assert document.render({}, "de") == content
    out = document.render(shout_all(document), "de")
    assert texts(parse(out, ".docx")) == [shout(text) for text in texts(document)]
    before, after = unzipped(content), unzipped(out)
    assert list(before) == list(after)
    changed = {entry for entry in before if before[entry] != after[entry]}
    assert changed == {"word/document.xml", "word/footnotes.xml", "word/styles.xml", "docProps/core.xml"}
    assert b"<dc:language>de</dc:language>" in after["docProps/core.xml"]
    assert [c.title for c in document.chapters] == [
        "The Lamp at Gull Point",
        "The First Winter",
        "The Second Winter",
    ]
    kinds = {p.kind for p in document.paragraphs}
    assert kinds == {"metadata", "heading", "text", "item", "cell", "caption", "contents"}


@pytest.mark.skipif(shutil.which("pandoc") is None, reason="needs pandoc")
@pytest.mark.parametrize("bilingual", [False, True])
def test_pandoc_reads_the_result(bilingual: bool, tmp_path: Path) -> None:
    document = parse((FIXTURES / "pandoc.docx").read_bytes(), ".docx")
    file = tmp_path / "out.docx"
    file.write_bytes(document.render(shout_all(document), "de", bilingual=bilingual))
    done = subprocess.run(
        ["pandoc", "--wrap=none", "-t", "markdown", file], capture_output=True, text=True, check=True
    )
    assert "THE LAMP WAS *LIT* EVERY EVENING AT **SIX O'CLOCK**" in done.stdout
    assert "OIL FOR THE [LAMP](https://example.org/oil)" in done.stdout
    assert "FOR ELEVEN MINUTES." in done.stdout
    assert done.stdout.count("[^1]: ") == 1 and done.stdout.count("(media/") == 1
    assert ("The lamp was *lit*" in done.stdout) == bilingual


def test_adjacent_runs_with_the_same_format_are_joined() -> None:
    lang = '<w:lang w:val="en-GB"/>'
    body = p(
        run("The la"),
        '<w:proofErr w:type="x"/>',
        run("mp ", lang),
        run("was", BOLD),
        run(" "),
        run("lit", BOLD),
    )
    assert read_texts(body) == ["The lamp <1>was lit</1>"]


def test_the_format_of_most_of_the_text_needs_no_tag() -> None:
    body = p(run("All of it is bold, ", BOLD), run("not this", ITALIC), run(".", BOLD))
    assert read_texts(body) == ["All of it is bold, <1>not this</1>."]
    assert translate_body(body, "<1>Das</1> nicht.") == p(run("Das", ITALIC), run(" nicht.", BOLD))


def test_elements_that_are_not_text_stay() -> None:
    body = p(run("He said"), NOTE, run(" so."), "<w:r><w:tab/><w:br/></w:r>", run("End"))
    assert read_texts(body) == ["He said<1/> so.<2/>End"]
    assert translate_body(body, "Er<2/>sagte") == p(
        run("Er"), "<w:r><w:tab/></w:r><w:r><w:br/></w:r>", run("sagte"), NOTE
    )


def test_formats_inside_links_get_tags() -> None:
    body = p(run("See "), LINK.format(run("the ", "<w:u/>") + run("first", "<w:u/><w:b/>")), run(" one"))
    assert read_texts(body) == ["See <1><2>the </2>first</1> one"]
    simple = p(run("See "), LINK.format(run("this", "<w:u/>")), run(" one"))
    assert translate_body(simple, "<1>Das</1> da") == p(LINK.format(run("Das", "<w:u/>")), run(" da"))


FIELD = '<w:r><w:fldChar w:fldCharType="{}"/></w:r>'
CODE = "<w:r><w:instrText>{}</w:instrText></w:r>"


def field(code: str, result: str) -> str:
    return FIELD.format("begin") + CODE.format(code) + FIELD.format("separate") + result + FIELD.format("end")


def test_fields_stay_whole_and_hyperlink_fields_are_translated() -> None:
    page_number = p(run("Page "), field("PAGE", run("seven")), run(" of it"))
    assert read_texts(page_number) == ["Page <1/> of it"]
    assert translate_body(page_number, "Seite <1/> davon") == page_number.replace("Page ", "Seite ").replace(
        " of it", " davon"
    )
    link = p(run("Go "), field('HYPERLINK "http://x"', run("there", "<w:u/>")), run(" now"))
    assert read_texts(link) == ["Go <1>there</1> now"]
    assert translate_body(link, "Geh <1>hin</1> jetzt") == link.replace("Go", "Geh").replace(
        "there", "hin"
    ).replace("now", "jetzt")


def test_a_field_across_two_paragraphs_stays() -> None:
    begin = FIELD.format("begin") + CODE.format("TOC") + FIELD.format("separate")
    body = (
        p(begin, run("One"), style="V1") + p(run("a"), FIELD.format("end"), run("b")) + p(FIELD.format("end"))
    )
    assert read_texts(body) == ["One"]  # the second cannot be taken apart, and stays
    assert translate_body(body, "Eins") == body.replace("One", "Eins")


def test_contents_get_the_translations_of_headings() -> None:
    body = (
        p(run("One"), "<w:r><w:tab/></w:r>", field("PAGEREF x", run("3")), style="V1")
        + p(run("Figures"), style="V1")
        + p(run("One"), style="berschrift1")
        + p(run("a"))
        + p(run("Two"), style="Own")
    )
    document = parse(docx(body), ".docx")
    assert [(x.kind, x.text) for x in document.paragraphs] == [
        ("contents", "Figures"),
        ("heading", "One"),
        ("text", "a"),
        ("heading", "Two"),
    ]
    assert [c.title for c in document.chapters] == ["", "One", "Two"]
    assert translate_body(body, "Bilder", "Eins").count("Eins") == 2


def test_comments_and_bookmarks_stay() -> None:
    body = p(
        '<w:bookmarkStart w:id="1" w:name="x"/>',
        run("a "),
        '<w:commentRangeStart w:id="0"/>',
        run("b"),
        '<w:commentRangeEnd w:id="0"/><w:r><w:commentReference w:id="0"/></w:r><w:bookmarkEnd w:id="1"/>',
        run(" c"),
    )
    assert read_texts(body) == ["a b c"]
    out = translate_body(body, "x")
    order = [
        "bookmarkStart",
        "commentRangeStart",
        "<w:t",
        "commentRangeEnd",
        "commentReference",
        "bookmarkEnd",
    ]
    assert sorted(order, key=out.index) == order and all(out.count(f"{name}") == 1 for name in order)


def test_content_controls_and_text_boxes_are_translated() -> None:
    sdt = f'<w:sdt><w:sdtPr><w:id w:val="1"/></w:sdtPr><w:sdtContent>{run("b")}</w:sdtContent></w:sdt>'
    assert translate_body(p(run("a "), sdt, run(" c")), "x <1>y</1> z") == p(
        run("x "), sdt.replace(">b<", ">y<"), run(" z")
    )
    box = f"<w:r><w:pict><w:txbxContent>{p(run('inside'))}</w:txbxContent></w:pict></w:r>"
    body = p(run("out "), box, run(" side"))
    assert read_texts(body) == ["out <1/> side", "inside"]
    assert translate_body(body, "aus <1/> en", "innen") == body.replace("out ", "aus ").replace(
        " side", " en"
    ).replace("inside", "innen")


def test_the_fallback_copy_of_a_text_box_stays() -> None:
    mc = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    box = f"<w:txbxContent>{p(run('inside'))}</w:txbxContent>"
    both = f"<mc:AlternateContent {mc}><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
    body = p(f"<w:r>{both}</mc:AlternateContent></w:r>", run("out"))
    assert read_texts(body) == ["out", "inside"]
    assert translate_body(body, "aus", "innen").count("inside") == 1


MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"
WP = "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"
PIC = "http://schemas.openxmlformats.org/drawingml/2006/picture"
VML = "urn:schemas-microsoft-com:vml"


def drawing(attributes: str, inside: str = "") -> str:
    """A run with a drawing; `attributes` describe it."""
    return (
        f'<w:r><w:drawing><wp:inline xmlns:wp="{WP}"><wp:docPr id="1" name="Picture 1" {attributes}/>{inside}'
        "</wp:inline></w:drawing></w:r>"
    )


def picture(attributes: str) -> str:
    return f'<pic:cNvPr xmlns:pic="{PIC}" id="0" name="boat.jpg" {attributes}/>'


def test_the_description_of_a_drawing_is_a_paragraph_of_its_own() -> None:
    image = drawing('descr="A &lt;1> boat"', picture('descr="A &lt;1> boat"'))
    body = p(run("See "), image, run(" there")) + p(run("b"))
    document = parse(docx(body), ".docx")
    assert [(x.kind, x.text) for x in document.paragraphs] == [
        ("text", "See <1/> there"),
        ("caption", "A <1> boat"),
        ("text", "b"),
    ]
    described = image.replace("A &lt;1> boat", "Ein &quot;Boot&quot;")
    assert translate_body(body, "", 'Ein "Boot"\x07') == body.replace(image, described)
    assert translate_body(body, "Da <1/>", 'Ein "Boot"') == p(run("Da "), described) + p(run("b"))
    assert translate_body(body, "", "...") == body, "no words"
    assert translate_body(body, "", "Ein Boot", bilingual=True).count('"A &lt;1&gt; boat / Ein Boot"') == 2
    assert "cNvPr" not in translate_body(body, "Da <1/>", bilingual=True).split("</w:p>")[1]


def test_titles_and_descriptions_of_drawings_are_separate_paragraphs() -> None:
    body = p(drawing('title="A boat" descr="A red one"'), drawing('title="A cat" descr="A cat"'))
    assert read_texts(body) == ["A boat", "A red one", "A cat"]
    assert translate_body(body, "Ein Boot", "Ein rotes", "Katze") == p(
        drawing('title="Ein Boot" descr="Ein rotes"'), drawing('title="Katze" descr="Katze"')
    )


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        'descr=""',
        'descr="boat.jpg" title="3"',
        'descr="A boat on water&#10;&#10;Description automatically generated with medium confidence"',
        'descr="A boat on water&#10;&#10;AI-generated content may be incorrect."',
        'descr="Ein Boot&#10;&#10;Automatisch generierte Beschreibung mit mittlerer Zuverl\u00e4ssigkeit"',
    ],
)
def test_file_names_and_generated_descriptions_are_left_out(attributes: str) -> None:
    body = p(run("a"), drawing(attributes, picture('descr="C:\\my pictures\\boat.jpg"')))
    assert read_texts(body) == ["a"]


def test_a_description_may_mention_generated_ones() -> None:
    assert read_texts(p(drawing('descr="Description automatically generated. By whom?"'))) == [
        "Description automatically generated. By whom?"
    ]


def test_the_fallback_of_a_drawing_gets_the_same_description() -> None:
    vml = f'<w:pict><v:shape xmlns:v="{VML}" alt="{{}}"/></w:pict>'
    both = (
        f'<w:r><mc:AlternateContent xmlns:mc="{MC}"><mc:Choice>{{}}</mc:Choice>'
        f"<mc:Fallback>{vml}{vml}</mc:Fallback></mc:AlternateContent></w:r>"
    )
    new = drawing('descr="{}"').removeprefix("<w:r>").removesuffix("</w:r>")
    body = p(both.format(new.format("A boat"), "A boat", "other"))
    assert read_texts(body) == ["A boat"]
    assert translate_body(body, "Ein Boot") == p(both.format(new.format("Ein Boot"), "Ein Boot", "other"))
    alone = p(f"<w:r>{vml.format('A boat')}</w:r>", run("a"))
    assert read_texts(alone) == ["a", "A boat"]
    assert translate_body(alone, "", "Ein Boot") == alone.replace("A boat", "Ein Boot")


def test_drawings_in_headers_and_text_boxes_are_translated() -> None:
    inside = p(run("inside"), drawing('descr="In it"'))
    box = f"<w:txbxContent>{inside}</w:txbxContent>"
    header = part("hdr", p(drawing('descr="On top"')))
    document = parse(docx(p(run("a"), drawing('descr="A box"', box)), {"word/header1.xml": header}), ".docx")
    assert texts(document) == ["a", "A box", "inside", "In it", "On top"]
    out = document.render(shout_all(document), "de")
    assert texts(parse(out, ".docx")) == ["A", "A BOX", "INSIDE", "IN IT", "ON TOP"]
    assert b'descr="ON TOP"' in unzipped(out)["word/header1.xml"]


def test_a_translation_is_not_marked_as_the_source_language() -> None:
    out = translate_body(p(run("a", '<w:rFonts w:ascii="F" w:hint="eastAsia"/><w:lang w:val="en-US"/>')), "b")
    assert out == p(run("b", '<w:rFonts w:ascii="F"/>'))


def test_tables_lists_notes_and_headers_are_read() -> None:
    table = f"<w:tbl><w:tr><w:tc>{p(run('cell'))}</w:tc></w:tr></w:tbl>"
    item = (
        '<w:p><w:pPr><w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr></w:pPr>'
        + run("item")
        + "</w:p>"
    )
    content = docx(
        table + item,
        {
            "word/footnotes.xml": part("footnotes", f'<w:footnote w:id="2">{p(run("note"))}</w:footnote>'),
            "word/header1.xml": part("hdr", p(run("head"))),
            "word/footer2.xml": part("ftr", p(run("foot"))),
            "word/comments.xml": part("comments", p(run("comment"))),
        },
    )
    document = parse(content, ".docx")
    assert [(x.kind, x.text) for x in document.paragraphs] == [
        ("cell", "cell"),
        ("item", "item"),
        ("text", "note"),
        ("text", "head"),
        ("text", "foot"),
    ]
    out = unzipped(document.render({2: "Notiz"}, "zh-Hans"))
    assert b">Notiz<" in out["word/footnotes.xml"]
    assert out["word/document.xml"] == unzipped(content)["word/document.xml"]
    assert b'w:val="en-US" w:eastAsia="zh-Hans"' in out["word/styles.xml"]


def test_bilingual_documents_have_both_languages() -> None:
    section = '<w:p><w:pPr><w:numPr><w:numId w:val="3"/></w:numPr><w:sectPr/></w:pPr>'
    body = f"{section}{run('a')}{NOTE}{run(' b')}</w:p>"
    assert translate_body(body, "x<1/> y", bilingual=True) == (
        f'<w:p><w:pPr><w:numPr><w:numId w:val="3"/></w:numPr></w:pPr>{run("a")}{NOTE}{run(" b")}</w:p>'
        f'<w:p><w:pPr><w:numPr><w:numId w:val="0"/></w:numPr><w:sectPr/></w:pPr>{run("x")}{run(" y")}</w:p>'
    )


@pytest.mark.parametrize("change", ["ins", "del", "moveFrom", "moveTo"])
def test_tracked_changes_are_refused(change: str) -> None:
    with pytest.raises(TemploraError, match="tracked changes") as caught:
        parse(docx(p(run("a"), f'<w:{change} w:id="1">{run("b")}</w:{change}>')), ".docx")
    assert caught.value.hint and "accept or reject" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "protected with a password"),
        (b"%PDF-1.7 ...", "is a PDF, not a Word document"),
        (zipped({"a": "b"}), "is not a Word document"),
        (zipped({"[Content_Types].xml": "<Types/>"}), "is not a Word document"),
        (docx("<w:p>"), "is damaged"),
        (
            docx("", {"word/document.xml": '<d xmlns="http://purl.oclc.org/ooxml/w/main"/>'}),
            "Strict Open XML",
        ),
        (docx(p(run("1984"))), "has no words"),
        (docx("")[:-40], "is damaged"),
    ],
)
def test_unreadable_files_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(TemploraError, match=message) as caught:
        parse(content, ".docx")
    assert caught.value.hint


def test_a_document_type_is_refused() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><w:document xmlns:w="x">&b;</w:document>'
    content = docx(p(run("a")), {"word/document.xml": bomb})
    with pytest.raises(TemploraError, match="document type declaration"):
        parse(content, ".docx")


@st.composite
def paragraph(draw: st.DrawFn) -> str:
    pieces = []
    for _ in range(draw(st.integers(1, 6))):
        run_format = draw(st.sampled_from(["", BOLD, ITALIC, BOLD + ITALIC]))
        word = run(draw(st.sampled_from(["a", "b ", " ", " c", "7", "&amp;", "&lt;3"])), run_format)
        pieces.append(
            draw(
                st.sampled_from(
                    [word, word, word, NOTE, LINK.format(run("link", run_format)), field("PAGE", word)]
                )
            )
        )
    return p(*pieces)


@given(st.lists(paragraph(), min_size=1, max_size=3), st.booleans())
def test_any_runs_read_back_as_the_translation(body: list[str], bilingual: bool) -> None:
    content = docx("".join([*body, p(run("end"))]))
    document = parse(content, ".docx")
    assert document.render({}, "de") == content
    out = document.render(shout_all(document), "de", bilingual=bilingual)
    if not bilingual:
        assert texts(parse(out, ".docx")) == [shout(text) for text in texts(document)]
    root = ET.fromstring(unzipped(out)["word/document.xml"])
    assert len(list(root.iter(f"{W}footnoteReference"))) == "".join(body).count("footnoteReference")


@given(
    paragraph(),
    st.lists(st.sampled_from(["<1>", "</1>", "<2>", "</2>", "<1/>", "<3/>", "x", "&<"]), max_size=8),
)
def test_broken_tags_lose_no_note(body: str, answer: list[str]) -> None:
    document = parse(docx(body + p(run("end"))), ".docx")
    out = document.render(dict.fromkeys(range(len(document.paragraphs)), "".join([*answer, "x"])), "de")
    root = ET.fromstring(unzipped(out)["word/document.xml"])
    assert len(list(root.iter(f"{W}footnoteReference"))) == body.count("footnoteReference")
    assert len(list(root.iter(f"{W}fldChar"))) == body.count("<w:fldChar")
    assert texts(parse(out, ".docx"))


def translate_to_arabic(body: str, *translations: str, language: str = "ar", bilingual: bool = False) -> str:
    document = parse(docx(body), ".docx")
    out = document.render(dict(enumerate(translations)), language, bilingual=bilingual)
    text = unzipped(out)["word/document.xml"].decode()
    return text[text.index("<w:body>") + 8 : text.index("</w:body>")]


def test_paragraphs_and_runs_are_set_to_right_to_left() -> None:
    ppr = '<w:pPr><w:pStyle w:val="Own"/><w:jc w:val="both"/></w:pPr>'
    run_format = BOLD + '<w:sz w:val="30"/><w:em w:val="dot"/>'
    body = f"<w:p>{ppr}{run('a ')}{run('b', run_format)}</w:p>"
    assert translate_to_arabic(body, "A <1>B</1>") == (
        '<w:p><w:pPr><w:pStyle w:val="Own"/><w:bidi/><w:jc w:val="both"/></w:pPr>'
        f"{run('A ', '<w:rtl/>')}"
        + run("B", '<w:b/><w:bCs/><w:sz w:val="30"/><w:szCs w:val="30"/><w:rtl/><w:em w:val="dot"/>')
        + "</w:p>"
    )
    assert translate_to_arabic(p(run("a")), "A").startswith("<w:p><w:pPr><w:bidi/></w:pPr>")
    assert "<w:bidi" not in translate_to_arabic(p(run("a")), "A", language="az-Latn")


def test_only_a_bilingual_translation_is_set_to_right_to_left() -> None:
    source = p(run("a"))
    assert translate_to_arabic(source, "A", bilingual=True) == (
        f"{source}<w:p><w:pPr><w:bidi/></w:pPr>{run('A', '<w:rtl/>')}</w:p>"
    )


def test_the_columns_of_a_table_follow_its_text() -> None:
    style, width = '<w:tblStyle w:val="Grid"/>', '<w:tblW w:w="0" w:type="auto"/>'
    table = "<w:tbl><w:tblPr>{}</w:tblPr><w:tr><w:tc>" + p(run("a")) + "</w:tc></w:tr></w:tbl>"
    plain, mirrored = table.format(style + width), table.format(f"{style}<w:bidiVisual/>{width}")
    assert f"{style}<w:bidiVisual/>{width}" in translate_to_arabic(plain, "A")
    assert "bidiVisual" not in translate_to_arabic(plain, "A", bilingual=True)
    assert f'{style}<w:bidiVisual w:val="0"/>{width}' in translate_to_arabic(mirrored, "A", language="en")


def test_right_to_left_is_switched_off_for_other_languages() -> None:
    body = f"<w:p><w:pPr><w:bidi/></w:pPr>{run('a', '<w:rtl/>')}</w:p>"
    off = '<w:rtl w:val="0"/>'
    assert translate_to_arabic(body, "A", language="en") == (
        f"""<w:p><w:pPr><w:bidi w:val="0"/></w:pPr>{run("A", off)}</w:p>"""
    )
