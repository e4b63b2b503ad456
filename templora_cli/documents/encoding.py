"""Decodes text files: by the encoding from the user, a byte order mark, or detection."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Sequence

from templora_cli.errors import TemploraError

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_CHARS = 20_000
_NAMES = {
    "cp932": "Shift_JIS",
    "euc_jp": "EUC-JP",
    "mac_roman": "Mac-Roman",
    "iso8859_2": "ISO-8859-2",
    "iso8859_5": "ISO-8859-5",
    "cp949": "EUC-KR",
    "gb18030": "GB18030",
    "big5": "Big5",
    "koi8_r": "KOI8-R",
    "utf-16-le": "UTF-16-LE",
    "utf-16-be": "UTF-16-BE",
    **{f"cp125{number}": f"Windows-125{number}" for number in range(9)},
}
"""Encodings by their usual names, all of which can be given to --encoding."""
SAVE = "save the file as UTF-8"

_COMMON_ENCODINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("zh", "cmn"), ("gb18030", "big5")),
    **dict.fromkeys(("zh-Hant", "zh-TW", "zh-HK", "yue"), ("big5", "gb18030")),
    "ja": ("cp932", "euc_jp"),
    "ko": ("cp949",),
    **dict.fromkeys(("ru", "uk", "be", "bg", "mk", "sr"), ("cp1251", "koi8_r")),
    "el": ("cp1253",),
    **dict.fromkeys(("he", "yi"), ("cp1255",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("cp1256",)),
}
"""The common encodings of languages with other letters than Latin ones. For a list of names the language says
more than the bytes.
"""

# Letters that make up half of any text in the language. Rare letters say little: a detector that relies on
# them misreads a heading and two sentences, and some chapters have no more.
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


def _alphabet_score(frequent: str, possible: str) -> Callable[[str], float]:
    """A score of 1 for the letters that make up half of every text: in these, alphabets differ most."""
    capitals = frequent.upper() + possible.upper()
    return lambda c: 1.0 if c in frequent else 0.7 if c in possible else 0.4 if c in capitals else -1.0


def _latin_score(alphabet: str) -> Callable[[str], float]:
    """A score for one language: a text with letters of two languages is in another encoding."""
    letters = alphabet + alphabet.upper() + "“”‘’„–—…«»•"
    return lambda char: 1.0 if char in letters else -1.0


def _script_score(frequent: str, first: str, last: str) -> Callable[[str], float]:
    """A score of 1 for frequent letters, and 0.3 for the rest of the script (`first` to `last`)."""
    letters = frozenset(frequent)
    return lambda char: 1.0 if char in letters else 0.3 if first <= char <= last else -0.3


_CYRILLIC = _alphabet_score("оеаинтсрвл", "кмдпуяыьгзбчйхжшюцщэфёъіїєґўј“”‘’„–—…«»№")
_THAI = "".join(map(chr, [*range(0x0E01, 0x0E3B), *range(0x0E40, 0x0E5A)])) + "“”‘’–—…"
_WESTERN = tuple(
    map(
        _latin_score,
        (
            "éèêàçîôûâëïùœæ",  # French, and loanwords in English
            "äöüßé",  # German
            "ñáéíóúü¿¡",  # Spanish
            "èàòìùéî",  # Italian
            "ãõçáéíóúâêôàü",  # Portuguese
            "åäöæøé",  # Swedish, Danish, Norwegian, Finnish
            "áéíóúýþæöð",  # Icelandic
        ),
    )
)
_CENTRAL_EUROPEAN = tuple(
    map(
        _latin_score,
        (
            "ąćęłńóśźż",  # Polish
            "áčďéěíňóřšťúůýžäľĺôŕ",  # Czech, Slovak
            "áéíóöőúüű",  # Hungarian
            "ăâîşţ",  # Romanian
            "čćđšž",  # Croatian, Slovene
        ),
    )
)
_CANDIDATES: tuple[tuple[str, Callable[[str], float]], ...] = (
    # the first of two with equal scores is chosen
    ("gb18030", _script_score(_SIMPLIFIED, "一", "龥")),
    ("big5", _script_score(_TRADITIONAL, "一", "龥")),
    ("cp932", _script_score(_JAPANESE, "一", "龥")),
    ("euc_jp", _script_score(_JAPANESE, "一", "龥")),
    ("cp949", _script_score(_KOREAN, "가", "힣")),
    *(("cp1252", score) for score in _WESTERN),
    *(("cp1250", score) for score in _CENTRAL_EUROPEAN),
    ("cp1254", _latin_score("çğıöşüâîûİ")),  # Turkish
    ("cp1251", _CYRILLIC),
    ("koi8_r", _CYRILLIC),
    ("cp1253", _alphabet_score("αοιετσνηυρπ", "βγδζθκλμξςφχψωάέήίόύώϊϋΐΰ“”‘’–—…«»")),
    ("cp1255", _alphabet_score("יוהלאברמתש", "גדזחטךכםןנסעףפץצק“”‘’–—…")),
    ("cp1256", _alphabet_score("اليمنورتبهدع", "ثجحخذزسشصضطظغفقكىةأإءئآؤپچژگک،؟؛“”‘’–—…«»\u200c\u200f")),
    ("cp874", _alphabet_score("านรอกเงมยลวดทตสะ", _THAI)),
    *(("iso8859_2", score) for score in _CENTRAL_EUROPEAN),
    *(("mac_roman", score) for score in _WESTERN),
    *((encoding, _CYRILLIC) for encoding in ("cp866", "iso8859_5")),
)
_RARE = {"cp874", "mac_roman", "cp866", "iso8859_5"}
_MIN_ADVANTAGE = 0.2
"""How much better than a common encoding a rare one must fit."""
_MIXED_SCRIPTS = re.compile(r"[A-Za-z][^\W\d_a-zA-Z\u00c0-\u024f]|[^\W\d_a-zA-Z\u00c0-\u024f][A-Za-z]")
"""A word that mixes Latin and other letters."""
_CAPITALS = "".join(filter(str.isupper, map(chr, range(0xC0, 0x250))))
_CAPITAL_IN_WORD = re.compile(rf"(?<=[а-яё])[А-ЯЁ]|(?<=[a-zß-öø-ÿ])[{_CAPITALS}]")
_ACCENTS = re.compile(r"[\u00c0-\u024f]{3,}")
"""Three letters with accents in a row: no Latin alphabet has that."""
_NO_VOWEL = re.compile(r"(?<!\w)(?:[бвгджзйклмнпрстфхцчшщ]{3,}|[βγδζθκλμνξπρσςτφχψ]{3,})(?!\w)")
"""Hebrew that was decoded as Cyrillic or Greek."""


def decode(
    content: bytes,
    name: str,
    encoding: str | None = None,
    *,
    languages: Sequence[str] = (),
    flag: str | None = "--encoding",
) -> str:
    """The text of `content`, without a byte order mark; line ends stay as they are.

    Without an `encoding`, in this order: a byte order mark, UTF-8, UTF-16 without a mark, the common East
    Asian or Windows encoding whose text has the best score, the guess of charset-normalizer. If the
    `languages` (BCP 47 codes) of the text are known, their common encodings come before the others.
    `flag` is the option that names an encoding, for hints.
    Raises TemploraError: an unknown `encoding`, a wrong one, none that fits.
    """
    if encoding is not None:
        return _decode_as(content, name, encoding)
    for mark, marked_encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return _decode_marked(content[len(mark) :], name, marked_encoding)
    guess = guessed_encoding(content, name, languages=languages, flag=flag)
    return content.decode(guess or "utf-8")


def guessed_encoding(
    content: bytes, name: str, *, languages: Sequence[str] = (), flag: str | None = "--encoding"
) -> str | None:
    """The encoding that `decode` detects; None for UTF-8 or a byte order mark, which leave no doubt.

    Raises TemploraError if no encoding fits.
    """
    if any(content.startswith(mark) for mark, _ in _BYTE_ORDER_MARKS):
        return None
    try:
        if b"\0" not in content and b"\x1b$" not in content:
            content.decode("utf-8")
            return None
    except UnicodeDecodeError as error:
        _check_for_broken_utf_8(content, name, error.start)
    common = [encoding for code in languages for encoding in _common_encodings(code)]
    guess = (
        _utf_16_without_mark(content)
        or _iso_2022(content)
        or _best_by_score(content, [row for encoding in common for row in _CANDIDATES if row[0] == encoding])
        or _best_by_score(content, _CANDIDATES)
        or _best_by_normalizer(content)
    )
    if guess is None:
        raise TemploraError(
            f"{name} is not text, or its encoding is unknown",
            f"name the encoding ({flag} shift_jis), or {SAVE}" if flag else SAVE,
        )
    return guess


def notice_of_guess(encoding: str, name: str, flag: str | None = "--encoding") -> str:
    """A notice that a file is read in a guessed encoding, and what to do if the guess is wrong."""
    remedy = f"name the right one: {flag} NAME" if flag else SAVE
    return f"reading {name} as {_NAMES.get(encoding, encoding)}; if that is wrong, {remedy}"


def _check_for_broken_utf_8(content: bytes, name: str, first: int) -> None:
    """Raise TemploraError for UTF-8 with a few wrong bytes, which any other encoding would garble."""
    text = content.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    if broken * 20 < sum(char > "\x7f" for char in text):
        raise TemploraError(
            f"{name} is UTF-8 with {broken} broken characters, the first at byte {first}",
            "correct them, or remove them: iconv -c -f UTF-8 -t UTF-8 old.txt > new.txt",
        )


def _decode_marked(content: bytes, name: str, encoding: str) -> str:
    """Decode a file by the encoding that its byte order mark names."""
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise TemploraError(
            f"{name} begins with a mark of {encoding.upper()}, but is damaged at byte {error.start}", SAVE
        ) from None


def _decode_as(content: bytes, name: str, encoding: str) -> str:
    try:
        codec = codecs.lookup(encoding)
        text = content.decode(codec.name)
    except (LookupError, ValueError) as error:
        if not isinstance(error, UnicodeError):
            raise TemploraError(
                f"{name}: unknown encoding {encoding!r}",
                "common ones: utf-8 gb18030 big5 shift_jis euc_kr windows-1252",
            ) from None
        at = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        raise TemploraError(
            f"{name} is not in {encoding}{at}", "leave out --encoding, or name another one"
        ) from None
    return text.removeprefix("\ufeff")


def _decode_or_none(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def _utf_16_without_mark(content: bytes) -> str | None:
    """UTF-16 without a mark: one byte of each pair is often zero, at least in blanks and line breaks."""
    if len(content) % 2 or not content:
        return None
    zeros = content[0::2].count(0), content[1::2].count(0)
    if max(zeros) == 0 or min(zeros) * 10 > max(zeros):
        return None
    return _if_possible(content, "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le")


def _iso_2022(content: bytes) -> str | None:
    """The encodings of old Japanese and Korean mail: ASCII with escape sequences."""
    if b"\x1b$" not in content or not content.isascii():
        return None
    return _if_possible(content, "iso2022_kr" if b"\x1b$)C" in content else "iso2022_jp_2")


def _if_possible(content: bytes, encoding: str) -> str | None:
    """The encoding, if it fits and leaves no null characters."""
    text = _decode_or_none(content, encoding)
    return encoding if text and "\0" not in text else None


def _common_encodings(code: str) -> tuple[str, ...]:
    """The common encodings of a language, by its code with script or region, or without."""
    parts = code.split("-")
    codes = ("-".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((_COMMON_ENCODINGS[code] for code in codes if code in _COMMON_ENCODINGS), ())


def _best_by_score(content: bytes, candidates: Iterable[tuple[str, Callable[[str], float]]]) -> str | None:
    """The encoding whose text has the best score, if that is above 0.29."""
    if b"\0" in content:
        return None
    best: tuple[float, str] | None = None
    for encoding, score_of in candidates:
        text = _decode_or_none(content, encoding)
        if text is None:
            continue
        score = _mean_score(text[:_SAMPLE_CHARS], score_of)
        score -= _MIN_ADVANTAGE if encoding in _RARE else 0
        if best is None or score > best[0] + 1e-9:
            best = score, encoding
    return best[1] if best is not None and best[0] > 0.29 else None


def _mean_score(text: str, score_of: Callable[[str], float]) -> float:
    """The mean score of the non-ASCII characters, minus faults that no word has."""
    foreign = [char for char in text if char > "\x7f" and char not in "\u3000\xa0"]
    if not foreign:
        return 0.0
    faults = len(_CAPITAL_IN_WORD.findall(text)) + sum(char < "\xa0" for char in foreign)
    faults += 2 * len(_MIXED_SCRIPTS.findall(text))
    faults += sum(map(len, _ACCENTS.findall(text) + _NO_VOWEL.findall(text)))
    return (sum(map(score_of, foreign)) - faults) / len(foreign)


def _best_by_normalizer(content: bytes) -> str | None:
    from charset_normalizer import from_bytes

    best = from_bytes(content).best()
    return None if best is None else _if_possible(content, best.encoding)
