"""Languages by code and by name, and language detection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.errors import TemploraError
from templora_cli.languages import detect_language, language


@pytest.mark.parametrize(
    ("text", "code", "name"),
    [
        ("zh", "zh", "Chinese"),
        ("Chinese", "zh", "Chinese"),
        ("english", "en", "English"),
        ("Deutsch", "de", "German"),
        ("zho", "zh", "Chinese"),
        ("pt-BR", "pt-BR", "Portuguese (Brazil)"),
    ],
)
def test_a_language_by_code_or_name(text: str, code: str, name: str) -> None:
    result = language(text)
    assert (result.code, result.name) == (code, name)
    assert result.base == code.split("-")[0]


@pytest.mark.parametrize("text", ["", "xx", "qqqq", "../en", "qqq", "und", "mul"])
def test_an_unknown_language_is_an_error(text: str) -> None:
    with pytest.raises(TemploraError, match="is not a language"):
        language(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("frensh", "French or fr"),
        ("inglish", "English or en"),
        ("germna", "German or de"),
        ("Dutsch", "Dutch or nl"),
        ("franch", "French or fr"),
        ("spainish", "Spanish or es"),
        ("portugese", "Portuguese or pt"),
    ],
)
def test_a_misspelt_language_is_an_error_with_the_nearest_name(text: str, meant: str) -> None:
    with pytest.raises(TemploraError) as caught:
        language(text)
    assert caught.value.message == f"{text!r} is not a language; did you mean {meant.split()[0]}?"
    assert caught.value.hint == f"languages are given by name or BCP 47 code: {meant}"


@pytest.mark.parametrize(
    ("text", "code"),
    [("italien", "it"), ("anglais", "en"), ("немецкий", "de"), ("英语", "en"), ("Klingon", "tlh")],
)
def test_names_of_common_languages_are_known_in_other_languages(text: str, code: str) -> None:
    assert language(text).code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The old man set the lamp on the sill and waited for his son.", "en"),
        ("Der alte Mann stellte die Lampe auf das Fensterbrett.", "de"),
        ("Le vieil homme posa la lampe sur le rebord de la fenêtre.", "fr"),
        ("El viejo puso la lámpara en el alféizar de la ventana.", "es"),
        ("Старик поставил лампу на подоконник и стал ждать сына.", "ru"),
        ("老人はランプを窓辺に置き、息子の帰りを待っていた。", "ja"),
        ("老人把灯放在窗台上，等着儿子回来。", "zh"),
        ("“他没有看BBC的新闻，也没有看《Oliver Twist》。”", "zh"),
        ("노인은 등불을 창가에 내려놓고 아들을 기다렸다.", "ko"),
    ],
)
def test_the_language_of_a_text(text: str, code: str) -> None:
    assert detect_language(text) == language(code)
    assert detect_language(f"<1>{text}</1>") == language(code)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Anna.",
        "1984",
        "“……”",
        "Быть или не быть",
        "Anna Weber, Karl Holm, Maria Sand, Otto Berg",
        "<1/>" * 40,
    ],
)
def test_texts_that_are_too_short_to_identify(text: str) -> None:
    assert detect_language(text) is None


def test_only_the_middle_of_a_long_text_is_read() -> None:
    licence = "This book may be copied and given away by everyone who likes to do so. " * 30
    book = "Der alte Mann stellte die Lampe auf das Fensterbrett und wartete auf seinen Sohn. " * 90
    assert detect_language(licence + book + licence) == language("de")


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    detected = detect_language(text)
    assert detected is None or detected == language(detected.code)
