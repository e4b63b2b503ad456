"""The encoding of a text file: told by the user, marked in the file, or recognised."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Sequence

from templora_cli.errors import TemploraError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 20_000  # characters
SAVE = "save the file as UTF-8"

_USUAL: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("zh", "cmn"), ("gb18030", "big5")),
    **dict.fromkeys(("zh-Hant", "zh-TW", "zh-HK", "yue"), ("big5", "gb18030")),
    "ja": ("cp932", "euc_jp"),
    "ko": ("cp949",),
    **dict.fromkeys(("ru", "uk", "be", "bg", "mk", "sr"), ("cp1251", "koi8_r")),
    "el": ("cp1253",),
    **dict.fromkeys(("he", "yi"), ("cp1255",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("cp1256",)),
}
"""Encodings of languages in other letters than Latin ones: of a few names they say more than the bytes do."""

# Letters that make up half of any text in the language; rare ones tell little, and a detector that
# counts on them misreads a heading and two sentences, which is all that some chapters give.
_CHINESE = (
    "，。、：；？！“”‘’（）《》「」『』…—的一是不了在人有我他她你这那着个上们来到时大地为子中说生年就和出也里后自以"
    "会家可下而过天去能对小多然于心学么之都好看起没成只如事把还用第样道想作开手十二三四章回卷节又从前见间走知话面头"
)
_TRADITIONAL = (
    _CHINESE + "這個們來時為說後會過對學麼沒還樣開節從見間話頭無與書裡裏著總當兒東長門問聽親點幾聲氣進"
)
_SIMPLIFIED = _CHINESE + "无与书总当儿东长门问听亲点几声气进给经让动现发已些很什"
_JAPANESE = "、。「」『』…―・ー！？（）" + "".join(map(chr, [*range(0x3041, 0x3097), *range(0x30A1, 0x30FB)]))
_JAPANESE += (
    "一二三四十人日大年出本中子見国言上分生手自行者間事思時気前後入下何今私彼女男話章第目心家世界部屋来知方立"
)
_KOREAN = (
    "이다는을의에가고하지도그한사리로기나어들자아대인시서해라일주정만있었것보게제수오장여와으부스마안구전비소"
)
_KOREAN += "니은를까면신거무상우공위성러모관조과동말세내저야없던않했으며때데진원유문습요작집방간화장생각래"


def _alphabet(usual: str, possible: str) -> Callable[[str], float]:
    """Full marks for the letters that are half of every text, in which alphabets differ most."""
    capitals = usual.upper() + possible.upper()
    return lambda c: 1.0 if c in usual else 0.7 if c in possible else 0.4 if c in capitals else -1.0


def _latin(alphabet: str) -> Callable[[str], float]:
    """Marks for one language: a text that needs letters of two languages is in another encoding."""
    letters = alphabet + alphabet.upper() + "“”‘’„–—…«»•"
    return lambda char: 1.0 if char in letters else -1.0


def _script(usual: str, first: str, last: str, level: float = 0.3) -> Callable[[str], float]:
    """Full marks for usual letters, `level` for the rest of the script."""
    frequent = frozenset(usual)
    return lambda char: 1.0 if char in frequent else level if first <= char <= last else -0.3


_CYRILLIC = _alphabet("оеаинтсрвл", "кмдпуяыьгзбчйхжшюцщэфёъіїєґўј“”‘’„–—…«»№")
_CANDIDATES: tuple[tuple[str, Callable[[str], float]], ...] = (
    # of two with equal marks the first is taken
    ("gb18030", _script(_SIMPLIFIED, "一", "龥")),
    ("big5", _script(_TRADITIONAL, "一", "龥")),
    ("cp932", _script(_JAPANESE, "一", "龥")),
    ("euc_jp", _script(_JAPANESE, "一", "龥")),
    ("cp949", _script(_KOREAN, "가", "힣")),
    ("cp1252", _latin("éèêàçîôûâëïùœæ")),  # French, and the loans of English
    ("cp1252", _latin("äöüßé")),  # German
    ("cp1252", _latin("ñáéíóúü¿¡")),  # Spanish
    ("cp1252", _latin("èàòìùéî")),  # Italian
    ("cp1252", _latin("ãõçáéíóúâêôàü")),  # Portuguese
    ("cp1252", _latin("åäöæøé")),  # Swedish, Danish, Norwegian, Finnish
    ("cp1252", _latin("áéíóúýþæöð")),  # Icelandic
    ("cp1250", _latin("ąćęłńóśźż")),  # Polish
    ("cp1250", _latin("áčďéěíňóřšťúůýžäľĺôŕ")),  # Czech, Slovak
    ("cp1250", _latin("áéíóöőúüű")),  # Hungarian
    ("cp1250", _latin("ăâîşţ")),  # Romanian
    ("cp1250", _latin("čćđšž")),  # Croatian, Slovene
    ("cp1254", _latin("çğıöşüâîûİ")),  # Turkish
    ("cp1251", _CYRILLIC),
    ("koi8_r", _CYRILLIC),
    ("cp1253", _alphabet("αοιετσνηυρπ", "βγδζθκλμξςφχψωάέήίόύώϊϋΐΰ“”‘’–—…«»")),
    ("cp1255", _alphabet("יוהלאברמתש", "גדזחטךכםןנסעףפץצק“”‘’–—…")),
    ("cp1256", _script("ابتثجحخدذرزسشصضطظعغفقكلمنهويىةأإءئآؤپچژگ،؟؛", "ء", "ي")),
)
_MIXED = re.compile(r"[A-Za-z][^\W\d_a-zA-Z\u00c0-\u024f]|[^\W\d_a-zA-Z\u00c0-\u024f][A-Za-z]")
"""A word of Latin and other letters."""
_CROWDED = re.compile(r"[\u00c0-\u024f]{3,}")
"""Letters with accents side by side: no Latin alphabet puts so many there."""
_NO_VOWEL = re.compile(r"(?<!\w)(?:[бвгджзйклмнпрстфхцчшщ]{3,}|[βγδζθκλμνξπρσςτφχψ]{3,})(?!\w)")
"""Hebrew, read as Cyrillic or Greek."""


def decode(
    content: bytes,
    name: str,
    encoding: str | None = None,
    *,
    languages: Sequence[str] = (),
    flag: str | None = "--encoding",
) -> str:
    """The text of `content`, without a byte order mark; line ends stay as they are.

    Without an `encoding`: a byte order mark, UTF-8, UTF-16 without a mark, then the one among the usual
    encodings of East Asia and of Windows in which the text looks most like a text, then what
    charset-normalizer finds. What is usual for one of the `languages` (BCP 47 codes) that the text is
    known to be in comes before what is not. `flag` is the option by which a user may say it, for the hints.
    Raises TemploraError: an unknown `encoding`, a wrong one, none that fits.
    """
    if encoding is not None:
        return _decoded_as(content, name, encoding)
    for mark, marked in _MARKS:
        if content.startswith(mark):
            return _marked_as(content[len(mark) :], name, marked)
    try:
        if b"\0" not in content and b"\x1b$" not in content:
            return content.decode("utf-8")
    except UnicodeDecodeError as error:
        _check_for_broken_utf_8(content, name, error.start)
    usual = [encoding for code in languages for encoding in _usual(code)]
    likely = [one for encoding in usual for one in _CANDIDATES if one[0] == encoding]
    found = (
        _utf_16(content)
        or _escaped(content)
        or _recognised(content, likely)
        or _recognised(content, _CANDIDATES)
        or _normalizers(content)
    )
    if found is None or "\0" in found:
        raise TemploraError(
            f"{name} is in no encoding that is known here, or no text",
            f"if you know it, say it ({flag} shift_jis); else {SAVE}" if flag else SAVE,
        )
    return found


def _check_for_broken_utf_8(content: bytes, name: str, first: int) -> None:
    """Raise TemploraError for UTF-8 with a few wrong bytes: any other encoding would make nonsense of it."""
    text = content.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    if broken * 20 < sum(char > "\x7f" for char in text):
        raise TemploraError(
            f"{name} is UTF-8 with {broken} broken characters, the first at byte {first}",
            "mend them, or drop them: iconv -c -f UTF-8 -t UTF-8 old.txt > new.txt",
        )


def _marked_as(content: bytes, name: str, marked: str) -> str:
    """The text of a file whose byte order mark says its encoding."""
    try:
        return content.decode(marked)
    except UnicodeDecodeError as error:
        raise TemploraError(
            f"{name} begins as {marked.upper()} does, and is damaged at byte {error.start}", SAVE
        ) from None


def _decoded_as(content: bytes, name: str, encoding: str) -> str:
    try:
        codec = codecs.lookup(encoding)
        text = content.decode(codec.name)
    except (LookupError, ValueError) as error:
        if not isinstance(error, UnicodeError):
            raise TemploraError(
                f"{name}: there is no encoding {encoding!r}",
                "usual ones: utf-8 gb18030 big5 shift_jis euc_kr windows-1252",
            ) from None
        at = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        raise TemploraError(
            f"{name} is not in {encoding}{at}", "leave the encoding out, or say another"
        ) from None
    return text.removeprefix("\ufeff")


def _strictly(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def _utf_16(content: bytes) -> str | None:
    """UTF-16 without a mark: one byte of a pair is mostly zero, or line breaks and blanks are pairs."""
    if len(content) % 2 or not content:
        return None
    zeros = content[0::2].count(0), content[1::2].count(0)
    if max(zeros) == 0 or min(zeros) * 10 > max(zeros):
        return None
    return _strictly(content, "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le")


def _escaped(content: bytes) -> str | None:
    """The encodings of old Japanese and Korean mail, which are ASCII and escapes."""
    if b"\x1b$" not in content or not content.isascii():
        return None
    return _strictly(content, "iso2022_kr" if b"\x1b$)C" in content else "iso2022_jp_2")


def _usual(code: str) -> tuple[str, ...]:
    """The encodings that are usual for a language, by its code with script or region, or by its own."""
    parts = code.split("-")
    return next((_USUAL[f] for n in range(len(parts), 0, -1) if (f := "-".join(parts[:n])) in _USUAL), ())


def _recognised(content: bytes, candidates: Iterable[tuple[str, Callable[[str], float]]]) -> str | None:
    """The text in the encoding that gives the most usual letters, if most are usual or at least possible."""
    if b"\0" in content:
        return None
    best: tuple[float, str] | None = None
    for encoding, marks_of in candidates:
        text = _strictly(content, encoding)
        if text is None:
            continue
        marks = _marks(text[:_SAMPLE], marks_of)
        if best is None or marks > best[0] + 1e-9:
            best = marks, text
    return best[1] if best is not None and best[0] > 0.29 else None


def _marks(text: str, marks_of: Callable[[str], float]) -> float:
    """The mean mark of the characters beyond ASCII, less what no word has."""
    foreign = [char for char in text if char > "\x7f" and char not in "\u3000\xa0"]
    if not foreign:
        return 0.0
    faults = len(re.findall(r"(?<=[а-яё])[А-ЯЁ]", text)) + sum(char < "\xa0" for char in foreign)
    faults += 2 * len(_MIXED.findall(text)) + sum(map(len, _CROWDED.findall(text) + _NO_VOWEL.findall(text)))
    return (sum(map(marks_of, foreign)) - faults) / len(foreign)


def _normalizers(content: bytes) -> str | None:
    from charset_normalizer import from_bytes

    best = from_bytes(content).best()
    return str(best) if best is not None else None
