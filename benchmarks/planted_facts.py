"""Facts about invented people, planted in books, and the sentences that name these people again later."""

from __future__ import annotations

import json
import random
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from templora_cli.documents.text_input import read_text
from templora_cli.memory.terms import word_starts

FAMILIAR = 12
"""Number of other sentences about a familiar person."""


@dataclass(frozen=True)
class Language:
    """The names and sentences to plant in a book of a language."""

    given_names: tuple[Sequence[str], Sequence[str]]
    """Their beginnings, and their ends."""
    family_names: tuple[Sequence[str], Sequence[str]]
    full_name: str
    space: str
    """Between sentences."""
    facts: Sequence[tuple[str, str]]
    """A fact, and a sentence on the same subject."""
    mentions: Sequence[str]
    """Sentences that have nothing but the person in common with the facts."""
    sentence: re.Pattern[str]


@dataclass(frozen=True)
class Fact:
    """A planted sentence, and the sentence that names its person again."""

    word: int
    """Where it is planted: at the end of the sentence that this word of the book is in."""
    sentence: str
    mention: str
    name: str
    """The name in `mention`."""
    others: tuple[tuple[int, str], ...]
    """Other sentences about the person, each with the word where it is planted."""


def planted_facts(
    text: str, language: Language, count: int, words: range, *, familiar: bool, draw: random.Random
) -> list[Fact]:
    """Facts about people whose names are not in the book, at random positions among `words`."""
    facts: list[Fact] = []
    for given, family in unused_names(text, language, draw):
        full = language.full_name.format(given=given, family=family)
        name = draw.choice((full, given))
        sentence, same_subject = draw.choice(language.facts)
        word = draw.choice(words)
        others = [
            (draw.randrange(max(0, word - 20_000), word + 1000), draw.choice(language.mentions))
            for _ in range(FAMILIAR if familiar else 0)
        ]
        mention = same_subject if familiar else draw.choice(language.mentions)
        facts.append(
            Fact(
                word,
                sentence.format(name=full),
                mention.format(name=name),
                name,
                tuple((at, other.format(name=full)) for at, other in others),
            )
        )
        if len(facts) == count:
            return facts
    raise ValueError(f"the book leaves {len(facts)} names, {count} are needed")


def unused_names(text: str, language: Language, draw: random.Random) -> Iterator[tuple[str, str]]:
    """Given and family names; no given name is in the book or returned twice."""
    given_names = [a + b for a in language.given_names[0] for b in language.given_names[1]]
    family_names = [a + b for a in language.family_names[0] for b in language.family_names[1]]
    draw.shuffle(given_names)
    for given in given_names:
        if given not in text:
            yield given, draw.choice(family_names)


class PlantedBook:
    """A book with its facts, as it grows."""

    def __init__(self, text: str, language: Language, facts: Sequence[Fact]) -> None:
        self.source, self.space = text, language.space
        self.starts = list(word_starts(text))
        self.ends = [match.end() for match in language.sentence.finditer(text)]
        self.insertions = sorted(
            (self.sentence_end(word), sentence)
            for fact in facts
            for word, sentence in ((fact.word, fact.sentence), *fact.others)
        )
        self.text, self.offset, self.inserted = "", 0, 0

    def sentence_end(self, word: int) -> int:
        """Offset in the source of the end of the sentence that a word is in."""
        return self.ends[min(bisect_left(self.ends, self.starts[word] + 1), len(self.ends) - 1)]

    def grow(self, word: int) -> str:
        """The text up to the end of the sentence that a word of the source is in."""
        end = self.sentence_end(word)
        while self.inserted < len(self.insertions) and self.insertions[self.inserted][0] <= end:
            at, sentence = self.insertions[self.inserted]
            self.text += self.source[self.offset : at] + sentence + self.space
            self.offset, self.inserted = at, self.inserted + 1
        self.text += self.source[self.offset : end]
        self.offset = end
        return self.text

    def following(self, words: int) -> str:
        """The next words of the source."""
        index = bisect_left(self.starts, self.offset)
        return self.source[self.offset : self.starts[min(index + words, len(self.starts) - 1)]]


def book_of(path: Path) -> tuple[str, Language]:
    """The text of a book, or the Chinese side of an aligned book."""
    text = read_text(path)
    if not text.startswith("["):
        return text, ENGLISH
    pairs = [pair for record in json.loads(text) for pair in record["inference"]]
    return "\n\n".join(pair["zh"].removeprefix("#<#") for pair in pairs), CHINESE


ENGLISH = Language(
    (
        ("Ort", "Bel", "Hal", "Cres", "Dru", "Fen", "Gar", "Ild", "Jor", "Lys", "Mar", "Osk", "Per", "Quin"),
        ("win", "ela", "mund", "ick", "ora", "eth", "iver", "ane", "ulf", "ista", "ock", "enna"),
    ),
    (
        ("Kess", "Tarr", "Vand", "Wex", "Zell", "Brack", "Dorm", "Faul", "Grim", "Holl", "Lund", "Morr"),
        ("el", "ow", "er", "by", "ick", "ane"),
    ),
    "{given} {family}",
    " ",
    (
        ("{name} keeps the silver key under the third step.", "{name} had come back for the key."),
        ("{name} lost two fingers in the mill at Sarn.", "{name} drew the glove from the left hand."),
        ("{name} was born on the night of the great flood.", "They asked {name} about the birthday."),
        ("{name} is afraid of dogs, and has been since school.", "A dog barked, and {name} stood still."),
        ("{name} had sold the boat to a priest from Ulm.", "{name} looked along the quay for the boat."),
        ("{name} can read Greek but will not admit it.", "The inscription was Greek, and {name} bent down."),
        ("{name} has a brother in the prison of Vell.", "A letter came for {name} from a brother."),
        ("{name} wears a blue coat that was a dead man's.", "{name} hung the coat on the door."),
    ),
    (
        "Then the door opened and {name} came in.",
        "It was {name} who spoke first.",
        "Nobody had seen {name} for a long while.",
        "“Ask {name},” she said at last.",
        "At the corner stood {name}, waiting.",
        "{name}’s face was in the shadow.",
    ),
    re.compile(r"[^.!?]{20,}[.!?][\"”’']?\s+(?=[A-Z“\"])"),
)
CHINESE = Language(
    ("文志小建海云天雪玉春墨怀", "明华强红林平军芳兰瑾舟棠"),
    ("沈顾陆谢闻郁钟柏", ("",)),
    "{family}{given}",
    "",
    (
        ("{name}把银钥匙藏在第三级台阶下面。", "{name}回来取那把钥匙。"),
        ("{name}在磨坊里失去了两根手指。", "{name}摘下了左手的手套。"),
        ("{name}出生在发大水的那天夜里。", "他们问{name}生日是哪一天。"),
        ("{name}从小就怕狗。", "一条狗叫了起来，{name}站住了。"),
        ("{name}把那条船卖给了一个神父。", "{name}沿着码头寻找那条船。"),
        ("{name}看得懂梵文，却不肯承认。", "碑文是梵文，{name}俯下身去看。"),
        ("{name}有个兄弟关在南城的牢里。", "{name}收到了兄弟的一封信。"),
        ("{name}穿的蓝布长衫是死人留下的。", "{name}把长衫挂在门上。"),
    ),
    (
        "这时门开了，{name}走了进来。",
        "先开口的是{name}。",
        "很久没有人见过{name}了。",
        "“去问{name}吧。”她终于说道。",
        "{name}站在街角等着。",
        "{name}的脸藏在阴影里。",
    ),
    re.compile(r"[^。！？]{5,}[。！？]”?"),
)
