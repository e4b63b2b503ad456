"""Prose in HTML and XHTML."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from templora_cli.documents.markup import attributes_of, elements_of, tokens_of
from templora_cli.documents.readers.page import Page
from tests.documents.fake import page, shout


def read_texts(body: str) -> list[str]:
    return [block.inline.text for block in Page(body, xml=False).blocks]


def render(body: str, *, xml: bool = True, bilingual: bool = False, language: str = "de") -> str:
    document = Page(body, xml=xml)
    translations = {i: shout(block.inline.text) for i, block in enumerate(document.blocks)}
    return document.render(translations, language, bilingual=bilingual)


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        ("<p>a</p><p>b<p>c", ["a", "b", "c"]),
        ("<div>a<p>b</p>c</div>", ["a", "b", "c"]),
        ("<ul><li>a<li>b<ul><li>c</ul></ul>", ["a", "b", "c"]),
        ("<table><tr><th>a<td>b</table>", ["a", "b"]),
        ("<dl><dt>a</dt><dd>b</dd></dl><figcaption>c</figcaption>", ["a", "b", "c"]),
        ("<blockquote>a</blockquote>bare", ["a", "bare"]),
        ("<p>a&nbsp;&mdash; b &#233;&#xe9; &lt;i></p>", ["a — b éé <i>"]),
        ("<p>a<!-- no --> b<?no?></p>", ["a b"]),
        ("<p><![CDATA[a < b]]></p>", ["a < b"]),
        ("<p>a < b and c</p>", ["a < b and c"]),
        ("<script>var a = '<p>no</p>';</script><style>p{}</style><p>a</p>", ["a"]),
        ("<p>a <script/>b</p><pre>no</pre><textarea>no</textarea>", ["a <1/>b"]),
        ("<p>a <code>no</code> <svg><title>no</title></svg> b</p>", ["a <1/> b"]),
        ("<p translate='no'>no</p><p>a</p>", ["a"]),
        ("<p>* * *</p><p>1984</p><p>&nbsp;</p><p>…</p>", []),
        ("<p><ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp>字</ruby>です</p>", ["漢字です"]),
        ("<p>a<br>b<br> <br>c</p>", ["a<1/>b", "c"]),
        ("<span>a <p>b</p> c</span>", ["a", "b", "c"]),
        ("<p>a <b>b</p><p>c</b> d</p>", ["a <1/>b", "c<1/> d"]),
        ("<p>a <b><i>b</b></i> c</p>", ["a <1><2/>b</1><3/> c"]),
        ("<p><a id='x'></a>a <em class=x>b</em><img src=a.png> c</p>", ["a <1>b</1><2/> c"]),
        ("<p title='a>b' class=\"c'\">a</p>", ["a"]),
        ("<p class='never closed>a</p>", ["a"]),
        ("<P>A</P><H2>B</H2>", ["A", "B"]),
        ("<x:p>a</x:p>", ["a"]),
        ("<p>in <a href='http://x'>1984</a> he</p>", ["in <1>1984</1> he"]),
    ],
)
def test_prose_is_read(body: str, texts: list[str]) -> None:
    assert read_texts(body) == texts
    assert Page(body, xml=False).render({}, "de") == body


@pytest.mark.parametrize(
    "mark",
    [
        '<a href="#fn1">1</a>',
        '<sup><a href="n.html#fn1">[12]</a></sup>',
        "<sup>2</sup>",
        '<a epub:type="noteref" href="#a">a</a>',
        '<a role="doc-noteref" href="#a">*</a>',
    ],
)
def test_a_note_mark_is_one_tag_and_never_lost(mark: str) -> None:
    document = Page(f"<p>He said{mark} so.</p>", xml=True)
    assert document.blocks[0].inline.text == "He said<1/> so."
    assert document.render({0: "Er sagte es."}, "de") == f"<p>Er sagte es.{mark}</p>"


def test_blocks_have_kinds_and_levels() -> None:
    body = (
        "<title>a</title><h1>b</h1><p>c</p><ul><li><p>d</p></li></ul><table><caption>e</caption><tr><td>f</td>"
        "</tr></table><blockquote><h3>g</h3></blockquote><p>h"
    )
    blocks = [(block.kind, block.level) for block in Page(body, xml=False).blocks]
    assert blocks == [
        ("metadata", 0),
        ("heading", 1),
        ("text", 0),
        ("item", 0),
        ("caption", 0),
        ("cell", 0),
        ("heading", 3),
        ("text", 0),
    ]


def test_only_the_words_change() -> None:
    body = page(
        '<!-- c -->\n<p  class="x"\n>\n  <em>All</em> of &amp; it\n  again.<img src="i.png"/>\n</p>\n<hr  />'
        "\n<p>* *</p>"
    )
    assert render(body) == body.replace("All", "ALL").replace(
        "of &amp; it\n  again", "OF &amp; IT AGAIN"
    ).replace('lang="en" xml:lang="en"', 'lang="de" xml:lang="de"').replace("<title>x", "<title>X")


def test_translations_are_escaped() -> None:
    assert Page("<p>a</p>", xml=True).render({0: 'x < "y" & z > 1\xa0!'}, "de") == (
        '<p>x &lt; "y" &amp; z &gt; 1&#160;!</p>'
    )


def test_the_language_changes_where_it_is_that_of_the_page() -> None:
    body = '<html lang="zh-CN"><body lang="zh-cn"><p lang="la">Veni</p><div xml:lang="zh-CN">a</div>'
    body += "</body></html>"
    assert render(body) == (
        '<html lang="de"><body lang="de"><p lang="la">VENI</p><div xml:lang="de">A</div></body></html>'
    )
    assert render("<html><p>a</html>") == '<html xml:lang="de"><p>A</html>'
    assert render("<html><p>a</html>", xml=False) == '<html lang="de"><p>A</html>'


def test_the_direction_follows_the_language() -> None:
    body = '<html lang="en"><body dir="ltr"><p>a</p></body></html>'
    assert render(body, language="ar-EG") == body.replace('"en"', '"ar-EG" dir="rtl"').replace(
        'body dir="ltr"', 'body dir="rtl"'
    ).replace(">a<", ">A<")
    body = '<html lang="he" dir="rtl"><p dir="auto">a</p></html>'
    assert render(body) == '<html lang="de" dir="ltr"><p dir="auto">A</p></html>'


def test_bilingual_pages_have_both_languages() -> None:
    body = (
        '<h1 id="h">a</h1><p id="i" lang="en" class="c">b <a id="j" href="#k">c</a><img src="i"/> d</p>'
        "<li>e\n</li>"
    )
    assert render(body, bilingual=True) == (
        '<h1 id="h">a<br/><span xml:lang="de">A</span></h1>'
        '<p id="i" lang="en" class="c">b <a id="j" href="#k">c</a><img src="i"/> d</p>\n'
        '<p class="c" xml:lang="de">B <a href="#k">C</a> D</p>'
        '<li>e<br/><span xml:lang="de">E</span>\n</li>'
    )


def test_a_page_with_damage_is_read_in_linear_time() -> None:
    for hostile in (
        "<a",
        "<!--",
        "<p>",
        "</p>",
        "<b>",
        "</b>",
        "<a href='",
        "<![CDATA[",
        "<?",
        "<script>",
        "&",
        "<li>",
    ):
        text = hostile * 30_000
        assert Page(text, xml=False).render({}, "de") == text


def test_tokens_add_up_to_the_text() -> None:
    draw = random.Random(1)
    parts = [
        "<p>",
        "</p>",
        "<",
        ">",
        "a",
        "<!--",
        "-->",
        "<b c='",
        "'>",
        '"',
        "<script>",
        "</script>",
        "]]>",
        "<![CDATA[",
    ]
    for _ in range(300):
        text = "".join(draw.choices(parts, k=20))
        assert "".join(text[t.start : t.end] for t in tokens_of(text)) == text


def test_attributes_are_read() -> None:
    tag = """<a b c='d "e"' f = g epub:type="x &amp; y" />"""
    assert [(a.name, a.value) for a in attributes_of(tag)] == [
        ("b", ""),
        ("c", 'd "e"'),
        ("f", "g"),
        ("epub:type", "x & y"),
    ]


def test_elements_of_xml_are_found() -> None:
    elements = list(elements_of('<a><x:b c="1"/><b>t</b><!--<b/>--></a>', {"b"}))
    assert [(e.name, e.start, e.end) for e in elements] == [("b", 15, 15), ("b", 18, 19)]


NAMES = ["em", "b", "span", "q", "i"]


@st.composite
def prose(draw: st.DrawFn, depth: int = 3) -> str:
    pieces = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.integers(0, 4 if depth else 2))
        if kind <= 1:
            pieces.append(
                draw(st.sampled_from(["word ", " ", "é", "&amp;", "&lt;3", "1 ", "\n", "漢", "<!--c-->"]))
            )
        elif kind == 2:
            pieces.append(
                draw(st.sampled_from(["<br/>", '<img src="x"/>', "<code>x</code>", '<a href="#x">1</a>']))
            )
        else:
            name = draw(st.sampled_from([*NAMES, "div", "p"] if depth == 3 else NAMES))
            pieces.append(f"<{name}>{draw(prose(depth - 1))}</{name}>")
    return "".join(pieces)


@given(prose(), st.booleans())
def test_any_nesting_is_translated_to_xml_that_reads_as_the_translation(body: str, bilingual: bool) -> None:
    source = page(body)
    document = Page(source, xml=True)
    assert document.render({}, "de") == source
    out = render(source, bilingual=bilingual)
    ET.fromstring(out.encode())
    if not bilingual:
        assert read_texts(out) == [shout(text) for text in read_texts(source)]


@given(
    prose(),
    st.lists(
        st.sampled_from(["<1>", "</1>", "<2>", "</2>", "<1/>", "<3/>", "</3>", "x", "<p>", "&"]), max_size=9
    ),
)
def test_broken_tags_give_xml_with_every_image(body: str, answer: list[str]) -> None:
    source = page(body)
    document = Page(source, xml=True)
    out = document.render(dict.fromkeys(range(len(document.blocks)), "".join([*answer, "x"])), "de")
    ET.fromstring(out.encode())
    for markup in ("<img", "<code", "<!--", "#x"):
        assert out.count(markup) == source.count(markup)


IMAGE = '<p>See <img src="a.png" alt="A red boat"> there.</p>'


def test_an_alt_text_is_a_block_of_its_own() -> None:
    page = Page(IMAGE, xml=False)
    assert [(b.kind, b.inline.text) for b in page.blocks] == [
        ("text", "See <1/> there."),
        ("caption", "A red boat"),
    ]
    assert page.render({0: "Dort ist <1/>.", 1: 'Ein "rotes" Boot'}, "de") == (
        '<p>Dort ist <img src="a.png" alt="Ein &quot;rotes&quot; Boot">.</p>'
    )
    assert page.render({1: "Ein rotes Boot"}, "de") == IMAGE.replace("A red boat", "Ein rotes Boot")
    assert page.render({1: "..."}, "de") == IMAGE, "no words"


def test_a_bilingual_alt_text_has_both_languages() -> None:
    out = Page(IMAGE, xml=False).render({0: "Dort <1/>.", 1: "Ein rotes Boot"}, "de", bilingual=True)
    assert '<img src="a.png" alt="A red boat / Ein rotes Boot"> there.</p>' in out
    assert out.endswith('<p lang="de">Dort .</p>')


@pytest.mark.parametrize("alt", ["''", '""', "boat.jpg", "'3'", "'* * *'"])
def test_alt_texts_without_words_are_left_out(alt: str) -> None:
    assert Page(f"<p><img alt={alt}></p>", xml=False).blocks == []


def test_a_description_without_quotes_gets_them() -> None:
    assert Page("<img alt=boat src=x>", xml=False).render({0: "das Boot"}, "de") == (
        '<img alt="das Boot" src=x>'
    )


def test_only_the_description_among_meta_tags_is_read() -> None:
    head = (
        '<meta name="Description" content="A tale"><meta name="author" content="Ann"><meta charset="utf-8">'
    )
    page = Page(head, xml=False)
    assert [(b.kind, b.inline.text) for b in page.blocks] == [("metadata", "A tale")]
    assert page.render({0: "Ein M\u00e4rchen"}, "de") == head.replace("A tale", "Ein M\u00e4rchen")


def test_images_marked_as_untranslatable_are_left_out() -> None:
    assert Page('<p translate="no"><img alt="A boat"></p>', xml=False).blocks == []


PIECES = ["<img alt=", "a red boat", '"', "'", ">", "<p>", "</p>", " src=x", "<a ", "\n", "<!--", "words"]


def test_a_comment_at_the_end_stays_after_an_image() -> None:
    """Before the image, a broken comment would swallow it."""
    page = Page('<p>A boat<img alt="A lamp"><!-- end -->', xml=False)
    assert page.render({0: "Ein Boot", 1: "Lampe"}, "de") == '<p>Ein Boot<img alt="Lampe"><!-- end -->'


@given(st.lists(st.sampled_from(PIECES), max_size=12))
@example(["a red boat", "<img alt=", "<p>", "<!--", ">"])
def test_broken_tags_around_a_description_lose_no_block(pieces: list[str]) -> None:
    page = Page("".join(pieces), xml=False)
    translations = dict.fromkeys(range(len(page.blocks)), "so \"it\" 'is' > & <")
    assert len(Page(page.render(translations, "de"), xml=False).blocks) == len(page.blocks)
