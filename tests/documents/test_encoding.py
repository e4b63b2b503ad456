"""Encodings of text files; a heading and two sentences must be enough to detect them."""

from __future__ import annotations

import pytest

from templora_cli.documents.encoding import decode
from templora_cli.errors import TemploraError

SHORT = [
    ("gb18030", "第一章 开始\n他走进了房间。"),
    ("gb18030", "天黑了，他还没有回来。"),
    ("gb18030", "他说：“走吧。”"),
    ("big5", "第一章 開始\n他走進了房間。"),
    ("big5", "天黑了，他還沒有回來。"),
    ("cp932", "第一章　始まり\n彼は部屋に入った。"),
    ("cp932", "日が暮れても、彼は帰ってこなかった。"),
    ("euc_jp", "こんにちは、世界"),
    ("cp949", "제1장 시작\n그는 방으로 들어갔다."),
    ("cp949", "안녕, 세계"),
    ("cp1251", "Глава 1. Начало\nОн вошёл в комнату."),
    ("cp1251", "Привет, мир"),
    ("koi8_r", "Глава 1. Начало\nОн вошёл в комнату."),
    ("cp1252", "Chapter 1\nHe said “no” — naïve café."),
    ("cp1252", "Das Mädchen ging über die Straße."),
    ("cp1252", "L’été fut très long à Besançon."),
    ("cp1252", "El niño comió. ¿Qué pasó?"),
    ("cp1252", "È vero, però non è così: perché?"),
    ("cp1252", "Hun så på øyet og åpnet døren."),
    ("cp1250", "Wszedł do pokoju i zobaczył żółtą łódź."),
    ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy."),
    ("cp1250", "Egy kőszívű ember fiai"),
    ("cp1254", "Odaya girdi ve ışığı açtı. Şaşırdı, çünkü ağaç yoktu."),
    ("cp1253", "Κεφάλαιο 1\nΜπήκε στο δωμάτιο."),
    ("cp1255", "פרק 1\nהוא נכנס לחדר."),
    ("cp1256", "الفصل الأول\nدخل الغرفة."),
    ("koi8_r", "Смотритель маяка нашёл письмо в бутылке. Оно было написано его рукой."),
    ("cp866", "Глава 1. Начало\nОн вошёл в комнату."),
    ("iso8859_5", "Смотритель маяка нашёл письмо в бутылке."),
    ("cp874", "บทที่ 1\nเขาเดินเข้าไปในห้อง"),
    ("iso8859_2", "Wszedł do pokoju i zobaczył żółtą łódź. Źle spał."),
    ("iso8859_2", "Příliš žluťoučký kůň úpěl ďábelské ódy."),
    ("mac_roman", "“Café,” said the keeper — naïve as ever. ‘Señor,’ he wrote…"),
    ("mac_roman", "He didn’t know, and she couldn’t say."),
    ("mac_roman", "Das Mädchen ging über die Straße."),
    ("cp1252", "He didn’t know, and she couldn’t say."),
    ("cp1256", "وصل حارس المنارة إلى الشاطئ فوجد رسالة في زجاجة."),
    ("cp1256", "نگهبان فانوس نامه را در جعبه پيدا کرد. چه شب سردي بود"),
    ("iso2022_jp", "第一章\n彼は部屋に入った。"),
    ("iso2022_kr", "제1장 시작"),
    ("utf-8", "Chapter 1\nnaïve 漢字 🙂"),
    ("utf-8-sig", "naïve"),
    ("utf-16", "第一章 naïve"),
    ("utf-16-le", "Chapter one\nHe went in."),
    ("utf-16-be", "第一章\n他走进了房间。"),
    ("utf-32", "naïve"),
]


@pytest.mark.parametrize(("encoding", "text"), SHORT)
@pytest.mark.parametrize("times", [1, 50])
def test_encodings_are_detected(encoding: str, text: str, times: int) -> None:
    assert decode("\n".join([text] * times).encode(encoding), "a.txt") == "\n".join([text] * times)


@pytest.mark.parametrize(
    ("language", "encoding", "text"),
    [
        ("zh", "gb18030", "苏眠,Su Mian"),
        ("zh-Hans", "gb18030", "青云宗,Azure Cloud Sect\n林晚,Lin Wan"),
        ("zh-TW", "big5", "蘇眠,Su Mian"),
        ("zh-Hant-HK", "big5", "蘇眠,Su Mian"),
        ("ja", "cp932", "源氏,Genji"),
        ("ru", "koi8_r", "Щука,pike"),
        ("ko", "cp949", "춘향,Chunhyang"),
    ],
)
def test_a_few_names_in_a_language_that_is_known(language: str, encoding: str, text: str) -> None:
    assert decode(text.encode(encoding), "a.csv", languages=["en", language]) == text
    assert decode(text.encode(), "a.csv", languages=[language]) == text
    english = "naïve,a café – so"
    assert decode(english.encode("cp1252"), "a.csv", languages=["en", language]) == english


def test_one_accent_in_an_english_book_is_enough() -> None:
    text = "He sat in the café and waited for a long time. " + "Nobody came. " * 2000
    assert decode(text.encode("cp1252"), "a.txt") == text


@pytest.mark.parametrize(
    ("named", "encoding"), [("windows-1251", "cp1251"), ("Shift_JIS", "shift_jis"), ("GBK", "gbk")]
)
def test_a_named_encoding_is_used(named: str, encoding: str) -> None:
    text = "Привет" if encoding == "cp1251" else "漢字"
    assert decode(text.encode(encoding), "a.txt", named) == text


def test_a_byte_order_mark_is_removed() -> None:
    assert decode(b"\xef\xbb\xbfa", "a.txt", "utf-8") == "a"
    assert decode("a".encode("utf-16"), "a.txt", "utf-16") == "a"


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"a", "klingon", "unknown encoding 'klingon'"),
        (b"6162", "hex", "unknown encoding 'hex'"),
        (b"a", "a\0b", "unknown encoding"),
        ("é".encode("latin-1"), "utf-8", r"is not in utf-8 \(byte 0\)"),
        ("привет, мир".encode(), "shift_jis", r"is not in shift_jis"),
        (b"abc", "utf-16", "is not in utf-16"),
        (b"\xff\xfe\0", None, "begins with a mark of UTF-16-LE, but is damaged at byte 0"),
        ("第一章 他走进了房间。".encode() * 3 + b"\xe7", None, "UTF-8 with 1 broken characters, .* byte 93"),
        (bytes(range(256)) * 4, None, "is not text, or its encoding is unknown"),
    ],
)
def test_undecodable_files_are_refused(content: bytes, encoding: str | None, message: str) -> None:
    with pytest.raises(TemploraError, match=message) as caught:
        decode(content, "a.txt", encoding)
    assert caught.value.hint and caught.value.message.startswith("a.txt")


def test_the_option_is_named_only_where_there_is_one() -> None:
    for flag, hint in (("--encoding", "(--encoding shift_jis)"), (None, "save the file as UTF-8")):
        with pytest.raises(TemploraError, match="is not text, or its encoding is unknown") as caught:
            decode(bytes(range(256)) * 4, "a.txt", flag=flag)
        assert hint in str(caught.value.hint) and ("--" in str(caught.value.hint)) == bool(flag)
