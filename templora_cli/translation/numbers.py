"""Numbers in a text, and their forms in another language: digits, number words, Chinese numerals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_DIGITS = re.compile(r"\d+(?:[.,'’ \u00a0\u202f]\d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,]\d+)?")
_MULTIPLIER = re.compile(
    r"\s*-?(?:[十百千万萬億亿兆]"
    r"|(?:thousands?|[mb]illi(?:on|ard)(?:s|en?|es)?|mille|mil|mill[oó]n(?:es)?|tausend|mio|k)\b)",
    re.IGNORECASE,
)
_LOCAL_UNIT = re.compile(
    r"\s*-?(?:多|几|余)?(?:[里斤亩尺寸丈两]|(?:miles?|feet|foot|inch(?:es)?|yards?|acres?|pounds?|lbs?|ounces?|°F)\b)"
)
"""Units of measure that a translator may convert, which changes the number."""
_HAN = "〇零一二两兩三四五六七八九十百千万萬億亿"
_HAN_RUN = re.compile(f"[{_HAN}]{{1,30}}")
_HAN_VALUE = {char: value for value, char in enumerate("〇一二三四五六七八九")} | {"零": 0, "两": 2, "兩": 2}
_HAN_UNIT = {"十": 10, "百": 100, "千": 1000}
_HAN_BLOCK = {"万": 10**4, "萬": 10**4, "億": 10**8, "亿": 10**8}

MAX_SPELT = 100_000
"""Whole numbers below this are searched for in words."""


@dataclass(frozen=True)
class Number:
    """A number in digits in a text."""

    text: str
    """As written."""
    digits: str
    """Without separators."""
    is_scaled: bool
    """A word such as "million" or 万 follows: only the significant digits can be compared."""
    is_convertible: bool
    """A unit such as miles or 斤 follows, which a translator may convert."""

    @property
    def value(self) -> float:
        """The value of the digits, without the word after them."""
        ungrouped = re.sub(r"(?<=\d)[.,'’ \u00a0\u202f](?=\d{3}(?!\d))", "", self.text)
        return float(ungrouped.replace(",", "."))

    @property
    def significant_digits(self) -> str:
        """The digits without leading and trailing zeros."""
        return self.digits.strip("0")


def numbers_in(text: str) -> Iterator[Number]:
    """The numbers in digits in `text`, including full-width and other Unicode digits."""
    ascii_digits = re.sub(r"\d", lambda digit: str(int(digit.group())), text)
    for match in _DIGITS.finditer(ascii_digits):
        is_scaled = _MULTIPLIER.match(ascii_digits, match.end()) is not None
        is_convertible = _LOCAL_UNIT.match(ascii_digits, match.end()) is not None
        yield Number(match.group(), re.sub(r"\D", "", match.group()), is_scaled, is_convertible)


def missing_numbers(source: str, target: str, base: str) -> list[str]:
    """Numbers in digits in `source` that `target` has in no form.

    `base` is the language of the target. Its number words are known for "en", "de", "fr" and "es", its
    numerals for Chinese and Japanese. Numbers below 10 are ignored; in other languages numbers below 1000
    are, because they may be written out.
    """
    target_numbers = list(numbers_in(target))
    words = _normalized(target)
    han = set(han_values(target))
    min_value = 10 if base in _NUMBER_WORDS or base in ("zh", "ja", "yue") else 1000
    return [
        number.text
        for number in numbers_in(source)
        if number.value >= min_value
        and not number.is_convertible
        and not _is_present(number, target_numbers, words, han, base)
    ]


def _is_present(number: Number, target_numbers: list[Number], words: str, han: set[int], base: str) -> bool:
    for other in target_numbers:
        if number.digits.lstrip("0") == other.digits.lstrip("0"):
            return True
        if (number.is_scaled or other.is_scaled) and number.significant_digits == other.significant_digits:
            return True
        if _same_clock_or_decade(number, other):
            return True
    if number.is_scaled:
        digits = number.significant_digits
        return any(str(value).strip("0") == digits for value in han) or _is_spelt_scaled(number, words, base)
    value = number.value
    if not value.is_integer():
        return False
    return int(value) in han or any(_has_form(words, form, base) for form in spelt_forms(int(value), base))


def _has_form(words: str, form: str, base: str) -> bool:
    """Whether a word begins with `form`, or contains it in German, which joins numbers into long words."""
    return form in words if base == "de" else f" {form}" in f" {words}"


def _same_clock_or_decade(number: Number, other: Number) -> bool:
    """Whether they may be the same time or year: 18:30 and 6:30, the 80s and the 1980s, '17 and 2017."""
    if len(number.digits) == 2 and other.digits[-2:] == number.digits and len(other.digits) == 4:
        return True
    if len(number.digits) == 4 and number.digits[-2:] == other.digits:
        return True
    return 13 <= number.value <= 24 and other.value == number.value - 12


def _is_spelt_scaled(number: Number, words: str, base: str) -> bool:
    """Whether `words` has the digits times a power of ten, such as "twenty thousand" for 2万."""
    head = int(number.significant_digits or 0)
    return any(
        _has_form(words, form, base) for power in range(4) for form in spelt_forms(head * 10**power, base)
    )


def han_values(text: str) -> Iterator[int]:
    """The values of the Chinese numerals in `text`, including plain digit sequences such as years."""
    for match in _HAN_RUN.finditer(text):
        run = match.group()
        if all(char in _HAN_VALUE for char in run):
            yield int("".join(str(_HAN_VALUE[char]) for char in run))
            continue
        total = block = digit = 0
        for char in run:
            if char in _HAN_VALUE:
                digit = _HAN_VALUE[char]
            elif char in _HAN_UNIT:
                block += (digit or 1) * _HAN_UNIT[char]
                digit = 0
            else:
                total += (block + digit or 1) * _HAN_BLOCK[char]
                block = digit = 0
        yield total + block + digit


def _normalized(text: str) -> str:
    """`text` in the style of `spelt_forms`: lower case, single spaces, no punctuation, no "and"."""
    text = re.sub(r"[^\w]+", " ", text.lower())
    return text.replace(" and ", " ")


def spelt_forms(value: int, base: str) -> list[str]:
    """The ways to write `value` in lower-case words of the language `base`, including stems of ordinals.

    Empty if the number words of the language are unknown, or from MAX_SPELT on.
    """
    if base not in _NUMBER_WORDS or not 0 < value < MAX_SPELT:
        return []
    forms = [_cardinal(value, base)]
    if base in ("en", "de") and 1100 <= value < 2100 and value % 1000 >= 100:
        hundreds, rest = divmod(value, 100)
        hundred = " hundred" if base == "en" else "hundert"
        tail = _cardinal(rest, base) if rest else ""
        forms.append(f"{_cardinal(hundreds, base)}{hundred}{' ' if base == 'en' else ''}{tail}".strip())
        if base == "en" and rest:
            forms += [f"{_cardinal(hundreds, base)} {tail}", f"{_cardinal(hundreds, base)} oh {tail}"]
    if base == "en":
        forms += [
            form[: -len(end)] + short for form in forms for end, short in _ORDINAL if form.endswith(end)
        ]
        if value in (100, 1000):
            forms.append("hundred" if value == 100 else "thousand")
        if value == 12:
            forms.append("dozen")
    return forms


_ORDINAL = (("y", "ie"), ("e", "th"), ("ve", "f"), ("one", "first"), ("two", "second"), ("three", "third"))

_EN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen",
    "twenty thirty forty fifty sixty seventy eighty ninety",
)
_DE = (
    "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
    "siebzehn achtzehn neunzehn",
    "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
)
_FR = (
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize "
    "dix-sept dix-huit dix-neuf",
    "vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt",
)
_ES = (
    "cero un dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis "
    "diecisiete dieciocho diecinueve",
    "veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa",
)
_NUMBER_WORDS = {"en": _EN, "de": _DE, "fr": _FR, "es": _ES}
_ES_HUNDREDS = (
    "ciento",
    "doscient",
    "trescient",
    "cuatrocient",
    "quinient",
    "seiscient",
    "setecient",
    "ochocient",
    "novecient",
)


def _cardinal(value: int, base: str) -> str:
    """`value` (above 0) in words with the spaces of the language; hyphens become spaces."""
    below_20, tens = (part.split() for part in _NUMBER_WORDS[base])
    if value < 20:
        return below_20[value].replace("-", " ")
    if value < 100:
        return _tens(value, base, below_20, tens)
    unit, word = (1000, _THOUSAND[base]) if value >= 1000 else (100, _HUNDRED[base])
    head, rest = divmod(value, unit)
    tail = _cardinal(rest, base) if rest else ""
    if base == "de":
        return f"{_cardinal(head, base)}{word}{tail}"
    if base == "es" and unit == 100:
        return f"{_ES_HUNDREDS[head - 1]} {tail}".strip() if tail and head == 1 else _es_hundreds(head, tail)
    count = "" if head == 1 and base in ("fr", "es") else f"{_cardinal(head, base)} "
    return f"{count}{word} {tail}".strip()


def _es_hundreds(head: int, tail: str) -> str:
    """Spanish hundreds. 200 may be doscientos or doscientas; alone, the common stem matches both, before
    other words the more usual form is returned.
    """
    if head == 1:
        return "cien"
    return f"{_ES_HUNDREDS[head - 1]}os {tail}".strip() if tail else _ES_HUNDREDS[head - 1]


_HUNDRED = {"en": "hundred", "de": "hundert", "fr": "cent", "es": ""}
_THOUSAND = {"en": "thousand", "de": "tausend", "fr": "mille", "es": "mil"}


def _tens(value: int, base: str, below_20: list[str], tens: list[str]) -> str:
    ten, rest = divmod(value, 10)
    if base == "fr" and ten in (7, 9):
        rest += 10  # soixante-douze, quatre-vingt-douze
    if not rest:
        return tens[ten - 2].replace("-", " ")
    if base == "de":
        return f"{below_20[rest]}und{tens[ten - 2]}"
    if base == "es":
        if ten == 2:
            return f"veinti{_VEINTI.get(rest, below_20[rest])}"
        return f"{tens[ten - 2]} y {below_20[rest]}"
    joint = " et " if base == "fr" and rest in (1, 11) and ten < 8 else " "
    return f"{tens[ten - 2]}{joint}{below_20[rest]}".replace("-", " ")


_VEINTI = {2: "dós", 3: "trés", 6: "séis"}
