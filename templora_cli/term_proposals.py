"""Terms and names, proposed from the statistics of a book."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from templora_cli.languages import Language
from templora_cli.name_hints import CONTRACTED, DETERMINERS, HAN, KOREAN, LINKS, TITLES, Hints
from templora_cli.scripts import UNSPACED, scripts_of, without_tags

EXAMPLE_CHARACTERS = 80
MIN_COUNT = 3
"""A term that occurs less often is not worth an entry."""
MAX_COUNTED_STRINGS = 1_000_000
"""Beyond this number, strings with a count of 1 so far are dropped."""

MAX_NAME_CHARACTERS = 4
"""Maximum length of a name in scripts without spaces."""
MIN_COHESION = 4.0
"""Minimum pointwise mutual information of the parts of a term, in bits."""
MIN_NEIGHBOUR_ENTROPY = 1.5
"""Minimum entropy of the characters on either side of a term, in bits; half a term has less."""


@dataclass(frozen=True)
class Proposal:
    """A term that a glossary or a ledger should define."""

    source: str
    count: int
    """Occurrences in the book."""
    example: str
    """The text around its first occurrence."""


def propose_terms(
    paragraphs: Iterable[str], source: Language, *, existing: Collection[str], limit: int
) -> list[Proposal]:
    """At most `limit` frequent names and terms that `existing` lacks, the most likely first.

    Only statistics are used: capitals within sentences in scripts with capitals, and frequent strings with
    varying neighbours in Chinese, Japanese and Korean. Other scripts (Arabic, Hindi, Thai) have neither, and
    get no proposals.
    """
    lines = [without_tags(paragraph) for paragraph in paragraphs]
    scripts = scripts_of(source.code)
    if "Hang" in scripts:
        ranked = _rank_unspaced(lines, r"(?<![가-힣])[가-힣]+", KOREAN)
    elif "Kana" in scripts:
        ranked = _rank_unspaced(lines, r"[㐀-䶿一-鿿々〇]+", HAN) + _rank_katakana(lines)
    elif scripts & UNSPACED:
        ranked = _rank_unspaced(lines, r"[㐀-䶿一-鿿々〇]+", HAN)
    else:
        ranked = _rank_capitalised(lines, source.base)
    ranked.sort(key=lambda entry: (-entry[1], entry[0]))
    chosen = [(term, count) for term, _, count in ranked if term not in existing][:limit]
    return [Proposal(term, count, _example(term, lines)) for term, count in chosen]


_RankedTerm = tuple[str, float, int]
"""A term, its score (higher is more likely) and its count."""


def _example(term: str, lines: Sequence[str]) -> str:
    """The text around the first occurrence of `term`."""
    for line in lines:
        offset = line.find(term)
        if offset >= 0:
            start = max(0, offset + len(term) // 2 - EXAMPLE_CHARACTERS // 2)
            return " ".join(line[start : start + EXAMPLE_CHARACTERS].split())
    return ""


def _rank_unspaced(lines: Sequence[str], run: str, hints: Hints) -> list[_RankedTerm]:
    """Strings of 2 to MAX_NAME_CHARACTERS characters that are frequent and have varying neighbours."""
    runs = re.compile(run)
    counts: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for line in lines:
        for match in runs.finditer(line):
            text = match.group()
            characters.update(text)
            for size in range(2, MAX_NAME_CHARACTERS + 1):
                counts.update(text[i : i + size] for i in range(len(text) - size + 1))
        if len(counts) > MAX_COUNTED_STRINGS:
            counts = Counter({string: count for string, count in counts.items() if count > 1})
    total = sum(characters.values())
    candidates = {
        string
        for string, count in counts.items()
        if count >= MIN_COUNT
        and _may_be_name(string, hints)
        and _cohesion(string, counts, characters, total)
        >= (MIN_COHESION / 4 if _is_familiar(string, hints) else MIN_COHESION)
    }
    before, after = _neighbours(lines, runs, candidates)
    entropies = {
        string: min(_entropy(before[string]), _entropy(after[string]))
        for string in candidates
        if string in before and string in after
    }
    names = [string for string, bits in entropies.items() if bits >= MIN_NEIGHBOUR_ENTROPY]
    weights = {string: _name_weight(before[string], after[string], hints) for string in names}
    return _rank({string: counts[string] for string in names}, weights, hints)


def _may_be_name(string: str, hints: Hints) -> bool:
    return (
        string not in hints.words
        and string[0] not in hints.never_first
        and string[-1] not in hints.never_last
        and not any(char in hints.never_in_names for char in string)
        and not any(string[:-1] == word or string[1:] == word for word in hints.words)
        and len(set(string)) > 1
    )


def _is_familiar(string: str, hints: Hints) -> bool:
    """Whether it is a name such as 小王 or 老李, whose parts are both too frequent for a high cohesion."""
    return len(string) == 2 and string[0] in hints.familiar and string[1] in hints.surnames


def _cohesion(string: str, counts: Counter[str], characters: Counter[str], total: int) -> float:
    """Minimum pointwise mutual information over all splits of `string` in two, in bits."""

    def share(part: str) -> float:
        return (characters[part] if len(part) == 1 else counts[part] or 1) / total

    joint = counts[string] / total
    return min(math.log2(joint / (share(string[:i]) * share(string[i:]))) for i in range(1, len(string)))


def _neighbours(
    lines: Sequence[str], runs: re.Pattern[str], candidates: set[str]
) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """Counts of the characters before and after each of `candidates`; "" is the edge of a run."""
    before: dict[str, Counter[str]] = {}
    after: dict[str, Counter[str]] = {}
    for line in lines:
        for match in runs.finditer(line):
            text = match.group()
            for size in range(2, MAX_NAME_CHARACTERS + 1):
                for start in range(len(text) - size + 1):
                    end = start + size
                    string = text[start:end]
                    if string in candidates:
                        before.setdefault(string, Counter())[text[start - 1 : start]] += 1
                        after.setdefault(string, Counter())[text[end : end + 1]] += 1
    return before, after


def _entropy(neighbours: Counter[str]) -> float:
    """In bits. Each edge of a run counts as a different neighbour, because it is the edge of a word too."""
    total = sum(neighbours.values())
    edges = neighbours[""]
    bits = edges * math.log2(total) / total
    return bits - sum(n / total * math.log2(n / total) for char, n in neighbours.items() if char)


def _name_weight(before: Counter[str], after: Counter[str], hints: Hints) -> float:
    """How typical the neighbours of a string are for a name.

    Names act (a verb of speech or movement follows) and are acted upon (a preposition precedes them). Adverbs
    only precede verbs, and most other words do neither. Words after a degree ("very ...") or before an aspect
    are verbs or adjectives.
    """
    total = sum(before.values())

    def share(neighbours: Counter[str], chars: str) -> float:
        return sum(neighbours[char] for char in chars) / total

    acting, acted_upon = (
        min(share(*side), 0.15) + 0.01 for side in ((after, hints.verbs), (before, hints.prepositions))
    )
    graded = share(before, hints.degrees) + share(after, hints.aspects) > 0.1
    return (0.2 + 100 * acting * acted_upon) * (0.3 if graded else 1.0)


def _rank(counts: dict[str, int], weights: dict[str, float], hints: Hints) -> list[_RankedTerm]:
    """Score terms by count, multiplied by `weights`, surnames and titles; drop parts of longer terms."""
    count_in_longer: Counter[str] = Counter()
    for string, count in counts.items():
        for size in range(2, len(string)):
            for start in range(len(string) - size + 1):
                part = string[start : start + size]
                count_in_longer[part] = max(count_in_longer[part], count)
    ranked = []
    for string, count in counts.items():
        if count_in_longer[string] >= 0.7 * count:
            continue
        weight = weights[string]
        if string[0] in hints.surnames and len(string) <= 3:
            weight *= 2
        if len(string) > 2 and string.endswith(hints.titles):
            weight *= 3
        ranked.append((string, weight * count, count))
    return ranked


_KATAKANA = re.compile(r"[ァ-ヺー]{2,}(?:[・＝][ァ-ヺー]{2,})*")


def _rank_katakana(lines: Sequence[str]) -> list[_RankedTerm]:
    """Runs of katakana: foreign names, but also other foreign words."""
    counts = Counter(run for line in lines for run in _KATAKANA.findall(line))
    return [(run, 2.0 * count, count) for run, count in counts.items() if count >= MIN_COUNT]


_TOKEN = re.compile(
    rf"\b(?:{'|'.join(sorted(TITLES))})\.|[^\W\d_]+(?:['’-][^\W\d_]+)*|[.!?…:;“”\"„«»¡¿()—–]|\d+|,"
)
_SENTENCE_MARKS = set('.!?…:;“”"„«»¡¿()—–')
"""Tokens before the first word of a sentence or a quotation."""


def _rank_capitalised(lines: Sequence[str], base: str) -> list[_RankedTerm]:
    """Words and sequences of words with capitals within sentences that do not occur in lower case too."""
    lower_case: Counter[str] = Counter()
    for line in lines:
        lower_case.update(token for token in _TOKEN.findall(line) if token[0].islower())
    counts: Counter[str] = Counter()
    after_determiner: Counter[str] = Counter()
    for line in lines:
        tokens = _TOKEN.findall(line)
        for start, size in _capitalised_spans(tokens, lower_case):
            name = " ".join(_without_possessive(token) for token in tokens[start : start + size])
            counts[name] += 1
            after_determiner[name] += tokens[start - 1].lower() in DETERMINERS
        if len(counts) > MAX_COUNTED_STRINGS:
            counts = Counter({name: count for name, count in counts.items() if count > 1})
    counts_in_longer = _counts_in_longer(counts)
    ranked = []
    for name, alone in counts.items():
        count = alone + counts_in_longer[name]
        if count < MIN_COUNT or alone < 0.2 * count or len(name) < 2 or name in CONTRACTED:
            continue  # for example the surname of "Anna Weber" if nobody is called "Weber" alone
        if " " not in name and lower_case[name.lower()] > 0.1 * count:
            continue
        if base == "de" and " " not in name and after_determiner[name] > 0.15 * alone:
            continue  # all German nouns have capitals, but names have no article
        ranked.append((name, alone * (1.5 if " " in name else 1.0), count))
    return ranked


def _counts_in_longer(names: Counter[str]) -> Counter[str]:
    """How often each name occurs inside longer ones."""
    counts: Counter[str] = Counter()
    for name, count in names.items():
        words = name.split()
        for start in range(len(words)):
            for end in range(start + 1, len(words) + 1):
                if end - start < len(words):
                    counts[" ".join(words[start:end])] += count
    return counts


def _without_possessive(token: str) -> str:
    return re.sub(r"['’]s$|['’]$", "", token)


def _capitalised_spans(tokens: Sequence[str], lower_case: Counter[str]) -> list[tuple[int, int]]:
    """(start, length) of sequences of tokens with capitals.

    The first word of a sentence has a capital anyway. It counts only if more such words follow and it never
    occurs in lower case.
    """
    spans = []
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
        is_first = at == 0 or tokens[at - 1] in _SENTENCE_MARKS
        start = at + 1 if is_first and (end == at + 1 or lower_case[tokens[at].lower()]) else at
        if start < end and tokens[start][0].isupper():
            spans.append((start, end - start))
        at = end
    return spans
