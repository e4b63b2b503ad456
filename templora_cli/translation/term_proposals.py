"""Terms and names that a glossary may want, found in a book by counting."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from templora_cli.translation.languages import Language
from templora_cli.translation.name_hints import CONTRACTED, DETERMINERS, HAN, KOREAN, LINKS, Hints
from templora_cli.translation.scripts import UNSPACED, scripts_of, without_tags
from templora_cli.translation.terminology import Glossary

EXAMPLE_LETTERS = 80
MIN_COUNT = 3
"""A term that occurs less often is not worth an entry."""
COUNTED = 1_000_000
"""Strings that are counted at once; when there are more, those seen once so far are forgotten."""

MAX_NAME = 4
"""Characters of the longest string without spaces that is counted."""
COHESION = 4.0
"""Bits by which the parts of a term stand together more often than by chance (mutual information)."""
FREEDOM = 1.5
"""Bits of entropy of what stands before a term, and of what stands after it: fewer are half a term."""


@dataclass(frozen=True)
class Proposal:
    """A term to be translated once for the whole book."""

    source: str
    count: int
    """Occurrences in the book."""
    example: str
    """A place where it stands."""


def propose_terms(
    paragraphs: Iterable[str], source: Language, *, known: Glossary, limit: int
) -> list[Proposal]:
    """At most `limit` frequent names and terms that `known` does not have, the likeliest first.

    By statistics only: capitals within sentences in scripts that have them; strings that keep together among
    changing neighbours in Chinese, Japanese and Korean. Others (Arabic, Hindi, Thai) have no such sign, and
    nothing is proposed.
    """
    lines = [without_tags(paragraph) for paragraph in paragraphs]
    scripts = scripts_of(source.code)
    if "Hang" in scripts:
        ranked = _unspaced(lines, r"(?<![가-힣])[가-힣]+", KOREAN)
    elif "Kana" in scripts:
        ranked = _unspaced(lines, r"[㐀-䶿一-鿿々〇]+", HAN) + _katakana(lines)
    elif scripts & UNSPACED:
        ranked = _unspaced(lines, r"[㐀-䶿一-鿿々〇]+", HAN)
    else:
        ranked = _capitalised(lines, source.base)
    ranked.sort(key=lambda found: (-found[1], found[0]))
    have = {term.source for term in known.terms}
    chosen = [(term, count) for term, _, count in ranked if term not in have][:limit]
    return [Proposal(term, count, _example(term, lines)) for term, count in chosen]


_Ranked = tuple[str, float, int]
"""A term, its rank and its count."""


def _example(term: str, lines: Sequence[str]) -> str:
    """The surroundings of the first occurrence of `term`."""
    for line in lines:
        at = line.find(term)
        if at >= 0:
            start = max(0, at + len(term) // 2 - EXAMPLE_LETTERS // 2)
            return " ".join(line[start : start + EXAMPLE_LETTERS].split())
    return ""


def _unspaced(lines: Sequence[str], run: str, hints: Hints) -> list[_Ranked]:
    """Strings of 2 to LONGEST_NAME characters that keep together while their neighbours change."""
    runs = re.compile(run)
    counts: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for line in lines:
        for match in runs.finditer(line):
            text = match.group()
            characters.update(text)
            for size in range(2, MAX_NAME + 1):
                counts.update(text[i : i + size] for i in range(len(text) - size + 1))
        if len(counts) > COUNTED:
            counts = Counter({string: count for string, count in counts.items() if count > 1})
    total = sum(characters.values())
    candidates = {
        string
        for string, count in counts.items()
        if count >= MIN_COUNT
        and _may_be_name(string, hints)
        and _cohesion(string, counts, characters, total)
        >= (COHESION / 4 if _is_familiar(string, hints) else COHESION)
    }
    before, after = _neighbours(lines, runs, candidates)
    free = {
        string: min(_entropy(before[string]), _entropy(after[string]))
        for string in candidates
        if string in before and string in after
    }
    kept = [string for string, bits in free.items() if bits >= FREEDOM]
    weights = {string: _company(before[string], after[string], hints) for string in kept}
    return _ranked({string: counts[string] for string in kept}, weights, hints)


def _may_be_name(string: str, hints: Hints) -> bool:
    return (
        string not in hints.words
        and string[0] not in hints.first
        and string[-1] not in hints.last
        and not any(char in hints.inner for char in string)
        and not any(string[:-1] == word or string[1:] == word for word in hints.words)
        and len(set(string)) > 1
    )


def _is_familiar(string: str, hints: Hints) -> bool:
    """小王, 老李: both parts are too frequent to cohere by counting."""
    return len(string) == 2 and string[0] in hints.familiar and string[1] in hints.surnames


def _cohesion(string: str, counts: Counter[str], characters: Counter[str], total: int) -> float:
    """Pointwise mutual information of the weakest seam of `string`, in bits."""

    def share(part: str) -> float:
        return (characters[part] if len(part) == 1 else counts[part] or 1) / total

    joint = counts[string] / total
    return min(math.log2(joint / (share(string[:i]) * share(string[i:]))) for i in range(1, len(string)))


def _neighbours(
    lines: Sequence[str], runs: re.Pattern[str], candidates: set[str]
) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """What stands before and after each of `candidates`; "" at the edge of a run."""
    before: dict[str, Counter[str]] = {}
    after: dict[str, Counter[str]] = {}
    for line in lines:
        for match in runs.finditer(line):
            text = match.group()
            for size in range(2, MAX_NAME + 1):
                for at in range(len(text) - size + 1):
                    string = text[at : at + size]
                    if string in candidates:
                        before.setdefault(string, Counter())[text[at - 1 : at]] += 1
                        after.setdefault(string, Counter())[text[at + size : at + size + 1]] += 1
    return before, after


def _entropy(neighbours: Counter[str]) -> float:
    """In bits; every edge of a run counts as a neighbour of its own, since a whole word stands there."""
    total = sum(neighbours.values())
    edges = neighbours[""]
    bits = edges * math.log2(total) / total
    return bits - sum(n / total * math.log2(n / total) for char, n in neighbours.items() if char)


def _company(before: Counter[str], after: Counter[str], hints: Hints) -> float:
    """How much the neighbours of a string are those of a name.

    Names act (a verb of speech or movement follows) and are acted upon (a preposition stands before them);
    adverbs only do the first, and most things neither. What is graded ("very ...") or has an aspect is a verb
    or an adjective.
    """
    total = sum(before.values())

    def share(neighbours: Counter[str], chars: str) -> float:
        return sum(neighbours[char] for char in chars) / total

    acting, acted_upon = (
        min(share(*side), 0.15) + 0.01 for side in ((after, hints.deeds), (before, hints.prepositions))
    )
    graded = share(before, hints.degrees) + share(after, hints.aspects) > 0.1
    return (0.2 + 100 * acting * acted_upon) * (0.3 if graded else 1.0)


def _ranked(counts: dict[str, int], weights: dict[str, float], hints: Hints) -> list[_Ranked]:
    """Parts of longer terms taken out; `weights`, surnames and titles multiply the counts."""
    inside: Counter[str] = Counter()
    for string, count in counts.items():
        for size in range(2, len(string)):
            for at in range(len(string) - size + 1):
                part = string[at : at + size]
                inside[part] = max(inside[part], count)
    ranked = []
    for string, count in counts.items():
        if inside[string] >= 0.7 * count:
            continue
        weight = weights[string]
        if string[0] in hints.surnames and len(string) <= 3:
            weight *= 2
        if len(string) > 2 and string.endswith(hints.titles):
            weight *= 3
        ranked.append((string, weight * count, count))
    return ranked


_KATAKANA = re.compile(r"[ァ-ヺー]{2,}(?:[・＝][ァ-ヺー]{2,})*")


def _katakana(lines: Sequence[str]) -> list[_Ranked]:
    """Runs of katakana: foreign names, and foreign words with them."""
    counts = Counter(run for line in lines for run in _KATAKANA.findall(line))
    return [(run, 2.0 * count, count) for run, count in counts.items() if count >= MIN_COUNT]


_TOKEN = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|[.!?…:;“”\"„«»¡¿()—–]|\d+|,")
_ENDS = set('.!?…:;“”"„«»¡¿()—–')


def _capitalised(lines: Sequence[str], base: str) -> list[_Ranked]:
    """Words and sequences with a capital within sentences, which do not stand in small letters as well."""
    small: Counter[str] = Counter()
    for line in lines:
        small.update(token for token in _TOKEN.findall(line) if token[0].islower())
    inside: Counter[str] = Counter()
    determined: Counter[str] = Counter()
    for line in lines:
        tokens = _TOKEN.findall(line)
        for at, size in _sequences(tokens, small):
            name = " ".join(_bare(token) for token in tokens[at : at + size])
            inside[name] += 1
            determined[name] += tokens[at - 1].lower() in DETERMINERS
        if len(inside) > COUNTED:
            inside = Counter({name: count for name, count in inside.items() if count > 1})
    part = _parts(inside)
    ranked = []
    for name, alone in inside.items():
        count = alone + part[name]
        if count < MIN_COUNT or alone < 0.2 * count or len(name) < 2 or name in CONTRACTED:
            continue  # the surname of "Anna Weber", where nobody is called "Weber" alone
        if " " not in name and small[name.lower()] > 0.1 * count:
            continue
        if base == "de" and " " not in name and determined[name] > 0.15 * alone:
            continue  # German writes all its nouns with a capital, but names go without an article
        ranked.append((name, alone * (1.5 if " " in name else 1.0), count))
    return ranked


def _parts(names: Counter[str]) -> Counter[str]:
    """How often each name stands within longer ones."""
    part: Counter[str] = Counter()
    for name, count in names.items():
        words = name.split()
        for start in range(len(words)):
            for end in range(start + 1, len(words) + 1):
                if end - start < len(words):
                    part[" ".join(words[start:end])] += count
    return part


def _bare(token: str) -> str:
    """A word without a possessive ending."""
    return re.sub(r"['’]s$|['’]$", "", token)


def _sequences(tokens: Sequence[str], small: Counter[str]) -> list[tuple[int, int]]:
    """Starts and lengths of sequences with capitals.

    The word that begins a sentence is one only where more follow and it is never written small: it has its
    capital from the sentence otherwise.
    """
    found = []
    at = 0
    while at < len(tokens):
        if not tokens[at][0].isupper():
            at += 1
            continue
        end = at + 1
        while end < len(tokens) and not tokens[end - 1].endswith(("'s", "’s")):
            link = end
            while link < len(tokens) and tokens[link] in LINKS and link - end < 2:
                link += 1
            if (
                link >= len(tokens)
                or not tokens[link][0].isupper()
                or tokens[link - 1] in ("and", "und", "et")
            ):
                break
            end = link + 1
        first = at == 0 or tokens[at - 1] in _ENDS
        start = at + 1 if first and (end == at + 1 or small[tokens[at].lower()]) else at
        if start < end and tokens[start][0].isupper():
            found.append((start, end - start))
        at = end
    return found
