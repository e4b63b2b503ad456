"""Markdown files."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from templora_cli.documents.inline import strip_tags
from templora_cli.documents.readers.markdown import MarkdownDocument
from tests.documents.fake import FIXTURES, parse, shout, shout_all, texts


def read_texts(text: str) -> list[str]:
    return texts(parse(text, ".md"))


def translate(text: str, *translations: str, bilingual: bool = False) -> str:
    return parse(text, ".md").render(dict(enumerate(translations)), "de", bilingual=bilingual).decode()


def test_the_fixture_is_translated_and_all_else_stays() -> None:
    content = (FIXTURES / "lighthouse.md").read_bytes()
    document = parse(content, ".md")
    assert document.render({}, "de") == content
    out = document.render(shout_all(document), "de")
    assert texts(parse(out, ".md")) == [shout(text) for text in texts(document)]
    before, after = content.decode().split("\n"), out.decode().split("\n")
    for line in (
        "title: The Lamp at Gull Point",
        "code stays as it is",
        "* * *",
    ):
        assert line in before and line in after
    assert "![THE LAMP, DRAWN BY HAND](lamp.png)" in after
    assert '- OIL FOR THE [LAMP](https://example.org/oil "Oil"),' in after
    assert "| MONDAY | WIND AND *RAIN* |" in after and "1. FIRST, THE HOUR." in after
    assert "[^2]: FOR ELEVEN MINUTES." in after
    assert [c.title for c in document.chapters] == ["The First Winter", "The Second Winter"]


@pytest.mark.parametrize(
    ("text", "paragraphs"),
    [
        ("a\nb\n\nc", ["a b", "c"]),
        ("# a #\n\nb\n===\n\nc", ["a", "b", "c"]),
        ("> - a\n>   b\n> - c", ["a b", "c"]),
        ("1. a\n\n   b\n2. c", ["a", "b", "c"]),
        ("a *b* __c__ ~~d~~ `no` e", ["a <1>b</1> <2>c</2> <3>d</3> <4/> e"]),
        ("a [b](c) [d][e] ![no](f) g\n\n[e]: http://x", ["a <1>b</1> <2>d</2> <3/> g", "no"]),
        ("see <http://x> &amp; &eacute; \\*no\\*", ["see <1/> & é *no*"]),
        ("a\\\nb  \nc", ["a<1/>b<2/>c"]),
        ("a[^1] b\n\n[^1]: note *x*", ["a<1/> b", "note <1>x</1>"]),
        ("[^1]: note", ["note"]),
        ("a <b>c</b> <br> d <i>e", ["a <1>c</1> <2/> d <3/>e"]),
        ("- [ ] a\n- [x] b", ["a", "b"]),
        ("```\nno\n```\n\n    no\n\n<div>\nno\n</div>\n\na", ["a"]),
        ("---\ntitle: no\n---\n\na", ["a"]),
        ("| a | b \\| c |\n|---|---|\n| a |  |\n", ["a", "b | c", "a"]),
        ("* * *\n\n1984\n\na", ["a"]),
        ("**all of it**", ["all of it"]),
        ("a\r\nb\r\n\r\nc\rd", ["a b", "c d"]),
        ("::: warning\n\na\n\n:::", ["a"]),
    ],
)
def test_prose_is_read_and_translated(text: str, paragraphs: list[str]) -> None:
    document = parse(text, ".md")
    assert texts(document) == paragraphs
    assert document.render({}, "de") == text.encode()
    assert texts(parse(document.render(shout_all(document), "de"), ".md")) == [shout(p) for p in paragraphs]


def test_paragraphs_have_kinds() -> None:
    document = parse("# a\n\nb\n\n- c\n\n| d |\n|---|\n", ".md")
    assert [p.kind for p in document.paragraphs] == ["heading", "text", "item", "cell"]


def test_line_ends_and_quotes_stay_and_reference_links_become_inline() -> None:
    text = "> - See [it][x]\\\r\n>   and more,\r\n>   and on.\r\n\r\n[x]: http://y 'z'\r\n"
    assert translate(text, "Sieh <1>es</1><2/>und <mehr>") == (
        "> - Sieh [es](http://y \"z\")\\\r\n>   und \\<mehr>\r\n\r\n[x]: http://y 'z'\r\n"
    )


@pytest.mark.parametrize(
    "words",
    """\
# a
- a
+ a
1. a
2) a
> a
*a*
_a_
`a`
[a](b)
![a](b)
<b>a
a &amp; b
a\\
=== a
~~a~~
a_b_c
a ]( b
http://a_b.c
[^1] a
a #
*** x
--- a
| a |
a!""".splitlines(),
)
@pytest.mark.parametrize("around", ["{}", "# {}", "- {}", "> {}", "{}\n===", "| {} |\n|---|"])
def test_markup_in_a_translation_is_escaped(words: str, around: str) -> None:
    out = translate(around.format("source"), words)
    assert read_texts(out) == [words], out


def test_emphasis_becomes_html_where_asterisks_do_not_work() -> None:
    out = translate("He *said* so", "他说<1>“这样”</1>了")
    assert out == "他说<em>“这样”</em>了"
    assert read_texts(out) == ["他说<1>“这样”</1>了"]


def test_a_link_after_an_exclamation_mark_is_not_an_image() -> None:
    assert translate("Go [there](x) now", "Los!<1>dort</1>") == "Los\\![dort](x)"


IMAGE = "![A *red*\n  boat](<a b.png> 'No')"


def test_an_alt_text_is_a_paragraph_of_its_own() -> None:
    document = parse(f"- See {IMAGE} there\n\nb", ".md")
    assert [(p.kind, p.text) for p in document.paragraphs] == [
        ("item", "See <1/> there"),
        ("caption", "A red boat"),
        ("text", "b"),
    ]
    image = "![Ein \\[rotes\\] Boot](<a b.png> 'No')"
    assert document.render({1: "Ein [rotes] Boot"}, "de").decode() == f"- See {image} there\n\nb"
    assert document.render({0: "Da <1/>", 1: "Ein [rotes] Boot"}, "de").decode() == f"- Da {image}\n\nb"
    assert document.render({0: "Da <1/>"}, "de").decode() == f"- Da {IMAGE}\n\nb"
    assert document.render({1: "..."}, "de").decode() == f"- See {IMAGE} there\n\nb", "no words"


def test_a_bilingual_alt_text_has_both_languages() -> None:
    assert translate("b ![c d](e) f", "B F<1/>", "C D", bilingual=True) == "b ![c d / C D](e) f\n\nB F"


@pytest.mark.parametrize("image", ["![](a)", "![boat.jpg](a)", "![3](a)", "![* * *](a)", "![`*`<b>](a)"])
def test_alt_texts_without_words_are_left_out(image: str) -> None:
    assert read_texts(f"a {image}") == ["a"]


@pytest.mark.parametrize(
    ("image", "alts"),
    [("![c d][e]", ["c d"]), ("![c d][E ]", ["c d"]), ("![e]", []), ("![e][]", []), ("![e] (c)", [])],
)
def test_an_alt_text_that_is_a_link_label_stays(image: str, alts: list[str]) -> None:
    text = f"a {image} *b*\n\n[e]: f 'g'\n"
    document = parse(text, ".md")
    assert [p.text for p in document.paragraphs if p.kind == "caption"] == alts
    translations = {i: "C D" for i, p in enumerate(document.paragraphs) if p.kind == "caption"}
    assert document.render(translations, "de").decode() == text.replace("c d", "C D")
    both = document.render({0: "A <1/> <2>B</2>", **translations}, "de").decode()
    written = image.replace("c d", "C D") if alts else '![e](f "g")'
    assert both.startswith(f"A {written} *B*")


@pytest.mark.parametrize("around", ["{}", "# {}", "- a\n\n  {}", "> {}", "{}\n===", "| a | {} |\n|---|---|"])
@pytest.mark.parametrize(
    "words", ["a | b", "a]b", "a](b)", "`a", "a\\", "\\`a", "<b>a", "'>a", "[^1] a", "&amp; a", "a*b*"]
)
def test_markup_in_a_translated_alt_text_is_escaped(words: str, around: str) -> None:
    document = parse(around.format("` <i t='[![c](d)](e) ![c](d)"), ".md")
    alts = [i for i, p in enumerate(document.paragraphs) if p.kind == "caption"]
    out = document.render(dict.fromkeys(alts, words), "de").decode()
    assert [p.text for p in parse(out, ".md").paragraphs if p.kind == "caption"] == [words, words], out


def test_an_image_before_the_first_heading_is_not_a_chapter() -> None:
    document = parse("![The cover](a)\n\n# One\n\nb\n\n# Two\n", ".md")
    assert [c.title for c in document.chapters] == ["One", "Two"]


def test_bilingual_files_have_both_languages() -> None:
    text = "# a\n\n> - b *c* ![i](j)\n>   d\n\ne\n===\n\n| f |\n|---|\n| g |\n\n[^1]: h\n"
    assert translate(text, "A", "B <1>C</1> D", "", "E", "F", "G", "H", bilingual=True) == (
        "# a\n\n# A\n\n> - b *c* ![i](j)\n>   d\n>\n>   B *C* D\n\ne\n===\n\n# E\n\n"
        "| f<br>F |\n|---|\n| g<br>G |\n\n[^1]: h\n\n    H\n"
    )


@st.composite
def inline(draw: st.DrawFn, depth: int = 2) -> str:
    pieces = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.integers(0, 6 if depth else 2))
        word = draw(st.sampled_from(["word", "a b", "é", "7", "\\*", "&lt;", "漢字", "x_y", "!", "(", "“q”"]))
        if kind <= 1:
            pieces.append(word)
        elif kind == 2:
            pieces.append(
                draw(st.sampled_from(["`c`", "![i](j)", "![i\\|k][r]", "<br>", "[^1]", "<http://x>"]))
            )
        else:
            inner = draw(inline(depth - 1))
            pieces.append([f"*{inner}*", f"**{inner}**", f"<b>{inner}</b>", f"[{inner}](u)"][kind - 3])
    return draw(st.sampled_from(["", " "])).join(pieces)


AROUND = ["{}\n", "# {}\n", "- {}\n", "> {}\n", "1. {}\n", "| {} |\n|---|\n"]


@given(st.lists(st.tuples(inline(), st.sampled_from(AROUND)), min_size=1, max_size=3))
def test_any_nesting_reads_back_as_the_translation(blocks: list[tuple[str, str]]) -> None:
    text = "\n".join(["end\n", *(around.format(inner) for inner, around in blocks), "[r]: s\n"])
    document = parse(text, ".md")
    assert document.render({}, "de") == text.encode()
    result = texts(parse(document.render(shout_all(document), "de"), ".md"))

    def words(text: str) -> str:  # where tags overlap, their ends may or may not separate words
        return strip_tags(text).replace(" ", "")

    assert [words(t) for t in result] == [words(shout(t)) for t in texts(document)]


@given(
    inline(),
    st.lists(st.sampled_from(["<1>", "</1>", "<2>", "</2>", "<3/>", "*", "[", "x", "`", "<p>"]), max_size=8),
)
def test_broken_tags_lose_no_image(words: str, answer: list[str]) -> None:
    images = words.count("![i](j)")
    assume(words.count("![") == images + words.count("![i\\|k]["))  # and no link after a "!"
    document = parse(f"end {words} end", ".md")
    out = document.render({0: "".join([*answer, "x"])}, "de").decode()
    assert out.count("![i](j)") == images and len(texts(parse(out, ".md"))) == 1 + images


def test_an_alt_text_that_would_change_the_prose_stays() -> None:
    text = b"A ![cat](cat.png) sleeps.\n"
    document = MarkdownDocument(text, "a.md", write_alt=lambda words: f"{words}\n\nmore")
    assert texts(document) == ["A <1/> sleeps.", "cat"]
    out = document.render({0: "Ein <1/> schläft.", 1: "Katze"}, "de").decode()
    assert out == "Ein ![cat](cat.png) schläft.\n"
