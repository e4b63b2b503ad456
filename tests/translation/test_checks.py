"""Checks of translated paragraphs: the faults that they find, and good translations that they accept."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from templora_cli.languages import Language, language
from templora_cli.translation.checks import FailedCheck, run_checks
from templora_cli.translation.terminology import Term

CODES = ("zh", "en", "de", "ja", "ko", "ru", "fr", "es")
LANGUAGES = {code: language(code) for code in CODES}


def pair(codes: str) -> tuple[Language, Language]:
    source, target = codes.split()
    return LANGUAGES[source], LANGUAGES[target]


def checks(source: str, target: str, codes: str, *glossary: Term) -> list[str]:
    return [failed.check for failed in run_checks(source, target, pair(codes), glossary)]


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
def test_good_translations_pass(codes: str, source: str, target: str) -> None:
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
def test_faulty_translations_fail(check: str, codes: str, source: str, target: str) -> None:
    assert check in checks(source, target, codes)


def test_messages_name_the_fault() -> None:
    (failed,) = run_checks("他看着李明。", "He looked at 李明.", pair("zh en"), ())
    assert failed == FailedCheck("script", "not in the script of English: 李明")
    (failed,) = run_checks("那是1984年的冬天。", "It was winter then.", pair("zh en"), ())
    assert failed.message == "numbers of the source that are missing: 1984"
    (failed,) = run_checks("He <1>ran</1> home.", "Er lief heim.", pair("en de"), ())
    assert failed.message == "missing tags: <1> </1>"
    german = "Der alte Mann stellte die Lampe auf das Brett."
    (failed,) = run_checks("老人把灯放在窗台上。", german, pair("zh en"), ())
    assert failed.message == "should be English, but seems to be German"


def test_an_echo_is_reported_once() -> None:
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
        ("家具都卖了。", "All of it was sold.", "家具 should be “furniture”, which is missing"),
        ("他走了。", "He left.", None),
    ],
)  # fmt: skip
def test_glossary(source: str, target: str, message: str | None) -> None:
    messages = [
        failed.message
        for failed in run_checks(source, target, pair("zh en"), GLOSSARY)
        if failed.check == "glossary"
    ]
    assert messages == ([] if message is None else [message])


def test_a_part_of_the_right_translation_may_be_forbidden_alone() -> None:
    term = Term("Tor", "Iron Gate", forbidden=("gate",))
    assert checks("Das Tor.", "The Iron Gate.", "de en", term) == []
    assert checks("Das Tor.", "The gate.", "de en", term) == ["glossary"]


@settings(max_examples=300)
@given(st.text(), st.text(), st.sampled_from(CODES), st.sampled_from(CODES), st.text(), st.text())
def test_any_text_is_checked(
    source: str, target: str, source_code: str, target_code: str, term: str, rendering: str
) -> None:
    glossary = [Term(term, rendering, forbidden=(target,)), Term(source[:3], target[:3])]
    languages = LANGUAGES[source_code], LANGUAGES[target_code]
    first = run_checks(source, target, languages, glossary)
    assert first == run_checks(source, target, languages, glossary)
    assert all("\n" not in failed.check for failed in first)


WORDS = st.lists(
    st.sampled_from(["the", "old", "man", "set", "his", "lamp", "on", "and"]), min_size=2, max_size=12
)


@given(WORDS, st.sampled_from(["de", "zh", "ru", "fr"]))
def test_a_copy_is_an_echo(words: list[str], target_code: str) -> None:
    if len(set(words)) > 1:
        assert "echo" in checks(" ".join(words), " ".join(words) + ".", f"en {target_code}")


UNTRANSLATABLE = [
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


@given(st.lists(st.sampled_from(UNTRANSLATABLE), min_size=1, max_size=5), st.sampled_from(["de", "zh", "ru"]))
def test_a_copy_of_untranslatable_text_is_no_echo(parts: list[str], target_code: str) -> None:
    text = " ".join(parts)
    assert "echo" not in checks(text, text, f"en {target_code}")


def test_an_unknown_language_still_has_its_numbers_checked() -> None:
    languages = Language("en", "English"), Language("tlh", "Klingon")
    failed_checks = run_checks("It was 1984, he said.", "nuqneH", languages, ())
    assert [failed.check for failed in failed_checks] == ["numbers"]
