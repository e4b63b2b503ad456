"""Checks of translated paragraphs: what they find, and what they must leave alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from templora_cli.translation.checks import FailedCheck, run_checks
from templora_cli.translation.languages import Language, language
from templora_cli.translation.terminology import Term

CODES = ("zh", "en", "de", "ja", "ko", "ru", "fr", "es")
LANGUAGES = {code: language(code) for code in CODES}


def pair(codes: str) -> tuple[Language, Language]:
    source, target = codes.split()
    return LANGUAGES[source], LANGUAGES[target]


def checks(source: str, target: str, codes: str, *glossary: Term) -> list[str]:
    return [failure.check for failure in run_checks(source, target, pair(codes), glossary)]


GOOD = [
    (
        "zh en",
        "老人把灯放在窗台上，等着儿子回来。",
        "The old man set the lamp on the sill and waited for his son.",
    ),
    ("zh en", "“……”", "“...”"),
    ("zh en", "“OK！”", "“OK!”"),
    ("zh ja", "李明", "李明"),
    ("zh ja", "老人把灯放在窗台上，等着儿子回来。", "老人はランプを窓辺に置き、息子の帰りを待っていた。"),
    ("zh ko", "老人把灯放在窗台上。", "노인은 등불(燈)을 창가에 내려놓았다."),
    ("en zh", "He read the BBC news and then Oliver Twist.", "他看了BBC的新闻，然后读了《Oliver Twist》。"),
    ("en de", "Anna Weber", "Anna Weber"),
    ("en de", "No.", "Nein."),
    ("en de", "See https://example.org/a/long/path for it.", "Siehe https://example.org/a/long/path dazu."),
    (
        "en de",
        "See www.example.org/it-was-snowing-and-the-old-man-was-waiting-for-his-son/1984",
        "Siehe dort.",
    ),
    ("en ru", "The word means love in Greek: ἀγάπη.", "По-гречески это слово значит любовь: ἀγάπη."),
    (
        "ru en",
        "Она сказала: «Je ne sais pas pourquoi je suis venue ici.»",
        "She said “Je ne sais pas pourquoi.”",
    ),
    (
        "en es",
        "“Ha, ha, ha, ha, ha, ha, ha!” the old man laughed.",
        "—¡Ja, ja, ja, ja, ja, ja, ja! —rio el viejo.",
    ),
    ("en de", "He <1>never</1> came back.<2/>", "Er kam <1>nie</1> zurück.<2/>"),
    ("en en", "The same text.", "The same text."),
]


@pytest.mark.parametrize(("codes", "source", "target"), GOOD)
def test_good_translations_have_no_flaw(codes: str, source: str, target: str) -> None:
    assert run_checks(source, target, pair(codes), ()) == []


@pytest.mark.parametrize(
    ("check", "codes", "source", "target"),
    [
        ("empty", "en de", "He came back.", " "),
        ("empty", "en de", "He <1>came</1> back.", "<1></1>"),
        ("echo", "en de", "He came back to the house.", "He came back to the house."),
        ("echo", "en de", "He came back to the house.", "“he came back, to the house”"),
        ("echo", "en de", "Chapter 12", "Chapter 12"),
        ("echo", "zh en", "他回来了。", "他回来了。"),
        ("echo", "zh ja", "他没有回到那座房子里去。", "他没有回到那座房子里去。"),
        ("echo", "en de", "He came back to the old house one day.", "He came back to the old house one Tag."),
        ("script", "zh en", "他看着李明。", "He looked at 李明."),
        ("script", "en de", "He came back to his village.", "Er kam zurück в свою деревню."),
        ("script", "zh ko", "他看着李明。", "그는 李明을 바라보았다."),
        ("script", "ja zh", "彼は窓をそっと閉めた。", "他轻轻地关上了まど。"),
        ("script", "en ja", "He shut the window and went to bed.", "He closed the window and then he slept."),
        ("script", "en ja", "Hello, my old friend.", "Hello, old friend."),
        ("script", "en ja", "He shut it and went.", "彼は長いあいだ外を眺めてshut the window and wentした。"),
        ("script", "en ja", "He shut the window and went to bed.", "彼はshut the window and then wentした。"),
        ("language", "zh en", "老人把灯放在窗台上。", "Der alte Mann stellte die Lampe auf das Brett."),
        (
            "language",
            "zh ja",
            "老人把灯放在窗台上，等着儿子回来，外面下着很大的雪。",
            "那个老人将一盏灯搁到了窗边，等待他的儿子回家，外面正下着大雪。",
        ),
        (
            "language",
            "en de",
            "It snowed through the night, and all was white. The old man lit the lamp on the sill again.",
            "Es schneite die ganze Nacht, und am Morgen lag das Dorf still und weiß unter dem Schnee, "
            "so weit man sehen konnte. The old man was lighting the lamp on the window again.",
        ),
        ("short", "zh en", "老人把灯放在窗台上，等着儿子回来，外面下着大雪。", "The old man sat."),
        (
            "long",
            "en de",
            "It snowed.",
            "Es schneite. Der alte Mann stellte die Lampe auf das Brett am Fenster und dachte an die Zeit, "
            "in der er selbst noch jung gewesen war und durch den Schnee lief.",
        ),
        ("loop", "en de", "He went on and on.", "Er ging weiter" + " und weiter" * 8 + "."),
        ("loop", "en de", "He went home.", "Er ging heim, er ging heim, er ging heim, er ging heim."),
        ("loop", "en zh", "He laughed loudly.", "他大笑起来" + "，他大笑" * 6),
        ("loop", "en de", "No!", "Nei" + "i" * 40 + "n!"),
        (
            "loop",
            "en de",
            "He went away and came home.",
            " ".join(f"und dann ging er wieder heim {word}" for word in ("am", "im", "zum", "vom", "ans")),
        ),
        ("numbers", "zh en", "那是1984年的冬天。", "It was winter then, a long time ago."),
        ("markup", "en de", "He <1>never</1> came.", "Er kam nie."),
        ("markup", "en de", "He never came.", "Er kam <1>nie</1>."),
        ("markup", "en de", "He <1>never</1> came.", "Er kam </1>nie<1>."),
    ],
)  # fmt: skip
def test_a_flaw_is_found(check: str, codes: str, source: str, target: str) -> None:
    assert check in checks(source, target, codes)


def test_messages_say_what_was_expected_and_found() -> None:
    (failure,) = run_checks("他看着李明。", "He looked at 李明.", pair("zh en"), ())
    assert failure == FailedCheck("script", "not in the script of English: 李明")
    (failure,) = run_checks("那是1984年的冬天。", "It was winter then.", pair("zh en"), ())
    assert failure.message == "of the source, not in the translation: 1984"
    (failure,) = run_checks("He <1>ran</1> home.", "Er lief heim.", pair("en de"), ())
    assert failure.message == "tags lost <1> </1>"


def test_an_echo_is_not_said_twice() -> None:
    text = "The old man set the lamp on the sill and waited for his son."
    assert checks(text, text, "en de") == ["echo"]


FORBIDDEN = "铁门 should be “the Iron Gate”, not “iron door”, which is forbidden"
GLOSSARY = (
    Term("李明", "Li Ming"),
    Term("铁门", "the Iron Gate", forbidden=("iron door",)),
    Term("家具", "furniture"),
)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("李明回家了。", "Li Ming went home.", None),
        ("李明回家了。", "He went home.", None),  # a pronoun stands for a name
        ("李明回家了。", "Li Mign went home.", "李明 should be “Li Ming”, not “Li Mign”"),
        ("李明回家了。", "LiMing went home.", "李明 should be “Li Ming”, not “LiMing”"),
        ("他走到铁门前。", "He went up to the Iron Gate's bars.", None),
        ("他走到铁门前。", "He went up to the iron door.", FORBIDDEN),
        ("家具都卖了。", "The furniture was sold.", None),
        ("家具都卖了。", "All of it was sold.", "家具 should be “furniture”, which is not there"),
        ("他走了。", "He left.", None),
    ],
)  # fmt: skip
def test_glossary(source: str, target: str, message: str | None) -> None:
    found = [
        failure.message
        for failure in run_checks(source, target, pair("zh en"), GLOSSARY)
        if failure.check == "glossary"
    ]
    assert found == ([] if message is None else [message])


def test_a_part_of_the_right_translation_may_be_forbidden_alone() -> None:
    term = Term("Tor", "Iron Gate", forbidden=("gate",))
    assert checks("Das Tor.", "The Iron Gate.", "de en", term) == []
    assert checks("Das Tor.", "The gate.", "de en", term) == ["glossary"]


@settings(max_examples=300)
@given(st.text(), st.text(), st.sampled_from(CODES), st.sampled_from(CODES), st.text(), st.text())
def test_any_text_is_checked(
    source: str, target: str, ours: str, theirs: str, term: str, wanted: str
) -> None:
    glossary = [Term(term, wanted, forbidden=(target,)), Term(source[:3], target[:3])]
    first = run_checks(source, target, (LANGUAGES[ours], LANGUAGES[theirs]), glossary)
    assert first == run_checks(source, target, (LANGUAGES[ours], LANGUAGES[theirs]), glossary)
    assert all("\n" not in failure.check for failure in first)


WORDS = st.lists(
    st.sampled_from(["the", "old", "man", "set", "his", "lamp", "on", "and"]), min_size=2, max_size=12
)


@given(WORDS, st.sampled_from(["de", "zh", "ru", "fr"]))
def test_a_copy_is_an_echo(words: list[str], theirs: str) -> None:
    if len(set(words)) > 1:
        assert "echo" in checks(" ".join(words), " ".join(words) + ".", f"en {theirs}")


NOTHING = [
    "12",
    "1,250.5",
    "...",
    "“……！”",
    "BBC",
    "Anna",
    "Anna Weber",
    "https://a.org/some/page",
    "<1/>",
    "***",
]


@given(st.lists(st.sampled_from(NOTHING), min_size=1, max_size=5), st.sampled_from(["de", "zh", "ru"]))
def test_a_copy_of_nothing_to_translate_is_none(parts: list[str], theirs: str) -> None:
    text = " ".join(parts)
    assert "echo" not in checks(text, text, f"en {theirs}")


def test_unknown_languages_are_checked_for_what_does_not_need_them() -> None:
    two = Language("en", "English"), Language("tlh", "Klingon")
    assert [failure.check for failure in run_checks("It was 1984, he said.", "nuqneH", two, ())] == [
        "numbers"
    ]
