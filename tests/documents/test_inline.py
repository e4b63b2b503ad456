"""Numbered tags: the text for a model, and the markup made from its answers."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from templora_cli.documents.inline import Inline, Mark, number_markup, one_line, strip_tags, tags_of

Pieces = list[str | Mark[str]]


def inline(*pieces: str) -> Inline[str]:
    """The paragraph of pieces such as "<em>", "</em>", "<br/>", "words"."""
    return number_markup([_mark(piece) if re.match("</?[a-z]", piece) else piece for piece in pieces])


def _mark(raw: str) -> Mark[str]:
    form = "close" if raw.startswith("</") else "void" if raw.endswith("/>") else "open"
    return Mark(form, raw, is_link=raw.startswith("<a"), is_optional=raw == "<br/>", is_anchor=" id" in raw)  # type: ignore[arg-type]


def join(pieces: list[str | Mark[str]] | None) -> str:
    return "".join(piece if isinstance(piece, str) else piece.raw for piece in pieces or [])


def test_markup_inside_is_numbered() -> None:
    paragraph = inline("so ", "<em>", "much", "</em>", " of", "<img/>", " it\n  again")
    assert paragraph.text == "so <1>much</1> of<2/> it again"
    assert join(paragraph.restore_markup("VON<2/> IHM <1>SO</1> VIEL")) == "VON<img/> IHM <em>SO</em> VIEL"


def test_markup_at_the_ends_and_around_everything_gets_no_tag() -> None:
    paragraph = inline(" ", "<a id/>", "<b>", "<i>", "all of it", "</i>", "</b>", "<sup/>", "\n")
    assert paragraph.text == "all of it"
    assert join(paragraph.lead) == " <a id/><b><i>"
    assert join(paragraph.trail) == "</i></b><sup/>\n"


def test_elements_with_the_same_content_share_a_tag() -> None:
    paragraph = inline("a ", "<b>", "<i>", "b", "</i>", "</b>", " c")
    assert paragraph.text == "a <1>b</1> c"
    assert join(paragraph.restore_markup("c <1>b</1>")) == "c <b><i>b</i></b>"


def test_an_element_without_words_is_a_lone_tag_and_keeps_its_blank() -> None:
    paragraph = inline("a", "<b>", " ", "</b>", "b", "<i>", "<img/>", "</i>", "<br/>", "c")
    assert paragraph.text == "a<1/> b<2/>c"
    restored = join(paragraph.restore_markup("x"))
    assert restored == "x<b></b><i><img/></i>", "only a line break may be dropped"


def test_literal_tags_in_the_source_stay_text() -> None:
    paragraph = inline("press <1> or ", "<b>", "<2>", "</b>", " now")
    assert paragraph.literals == {1, 2} and paragraph.text == "press <1> or <3><2></3> now"
    assert join(paragraph.restore_markup("drück <1>, <3>dann</3> <2> <4>")) == "drück <1>, <b>dann</b> <2> "


def test_tags_may_contain_blanks_and_full_width_brackets() -> None:
    paragraph = inline("a ", "<b>", "b", "</b>", " c", "<img/>", " d")
    assert join(paragraph.restore_markup("x < 1 >y</ 1 > z <2 /> w")) == "x <b>y</b> z <img/> w"
    assert join(paragraph.restore_markup("他＜1＞说＜/1＞了＜2/＞")) == "他<b>说</b>了<img/>"


def test_mismatched_tags_are_repaired() -> None:
    paragraph = inline("a ", "<b>", "b", "</b>", " ", "<i>", "c", "</i>", "<img/>", " d")
    assert paragraph.text == "a <1>b</1> <2>c</2><3/> d"
    for broken, repaired in {
        "no tag": "no tag<img/>",
        "<1>open": "<b>open</b><img/>",
        "shut</1>": "shut<img/>",
        "<1>a<2>b</1>c</2>": "<b>a<i>b</i></b>c<img/>",
        "<1>a</1><1>b</1>": "<b>a</b>b<img/>",
        "<9>a</9><8/>": "a<img/>",
        "<3/>a<3/>": "<img/>a",
        "<3>a</3>": "<img/>a",
        "<1/>a": "a<img/>",
        "<0>a<01>b</1>": "a<b>b</b><img/>",
    }.items():
        assert join(paragraph.restore_markup(broken)) == repaired, broken


def test_links_are_not_nested_and_anchors_stay() -> None:
    paragraph = inline("<a>", "a", "</a>", " ", "<a>", "b", "</a>", "c ", "<b id>", "d", "</b>", "e")
    assert join(paragraph.restore_markup("<1>x <2>y</2></1>")) == "<a>x y</a><b id></b>"


def test_an_answer_without_words_is_not_a_translation() -> None:
    assert inline("a", "<img/>", "b").restore_markup(" <1/> ") is None
    assert inline("a").restore_markup("") is None


def test_line_breaks_and_forbidden_characters_are_removed_and_hard_spaces_stay() -> None:
    assert one_line(" a\r\n\u2028b\0\ud800\x1b c\xa0! ") == "a b c\xa0!"


def test_tags_are_listed_and_stripped() -> None:
    text = "a <1>b</1> c<2/>. 1 < 2, I <3 it"
    assert tags_of(text) == ("<1>", "</1>", "<2/>")
    assert strip_tags(text) == "a b c. 1 < 2, I <3 it"
    assert strip_tags("<1>12</1><2/>The <3>End</3><4/>") == "12 The End"
    assert tags_of("< 1 >x</1 >") == ("<1>", "</1>")


def test_elements_may_be_nested_to_any_depth() -> None:
    depth = 5000
    paragraph = inline(*["<i>", "x "] * depth, *["</i>"] * depth)
    assert paragraph.text.count("<") == 2 * (depth - 1)


@st.composite
def nested(draw: st.DrawFn, depth: int = 4) -> list[str]:
    pieces: list[str] = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.integers(0, 3 if depth else 1))
        if kind == 0:
            pieces.append(draw(st.sampled_from(["words", " ", "a b", "é", "7", ". "])))
        elif kind == 1:
            pieces.append(draw(st.sampled_from(["<img/>", "<br/>"])))
        else:
            name = draw(st.sampled_from(["b", "i", "a"]))
            pieces += [f"<{name}>", *draw(nested(depth - 1)), f"</{name}>"]
    return pieces


@given(nested())
def test_the_text_of_a_paragraph_restores_it(pieces: list[str]) -> None:
    paragraph = inline(*pieces)
    restored = paragraph.restore_markup(paragraph.text)
    if restored is None:
        assert not strip_tags(paragraph.text)
        return
    result = number_markup([*paragraph.lead, *restored, *paragraph.trail])
    assert result.text == paragraph.text or "<a>" in pieces  # a link in a link is dropped
    if "<a>" not in pieces:
        assert join([m for m in restored if isinstance(m, Mark)]) == "".join(
            p for p in pieces if p.startswith("<")
        )[len(join([m for m in paragraph.lead if isinstance(m, Mark)])) :].removesuffix(
            join([m for m in paragraph.trail if isinstance(m, Mark)])
        )


def is_balanced(pieces: list[str | Mark[str]]) -> bool:
    stack = []
    for piece in pieces:
        if isinstance(piece, Mark) and piece.form == "open":
            stack.append(piece.raw)
        elif (
            isinstance(piece, Mark)
            and piece.form == "close"
            and (not stack or stack.pop() != piece.raw.replace("/", ""))
        ):
            return False
    return not stack


TAGS = ["<1>", "</1>", "<2>", "</2>", "<3/>", "<3>", "</3>", "<1/>", "<4>", "</4>", "<x>", "< 2 >", "w ", "<"]


@given(nested(), st.lists(st.sampled_from(TAGS), max_size=12))
def test_broken_tags_always_give_balanced_markup_and_lose_nothing(
    pieces: list[str], answer: list[str]
) -> None:
    paragraph = inline(*pieces)
    restored = paragraph.restore_markup("".join([*answer, "word"]))
    assert restored is not None
    result = [*paragraph.lead, *restored, *paragraph.trail]
    assert is_balanced(result)
    images = [p for p in result if isinstance(p, Mark) and p.raw == "<img/>"]
    assert len(images) == pieces.count("<img/>")
