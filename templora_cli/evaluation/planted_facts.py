"""Invented facts for `eval consistency`: names, kin, places and objects, from a seed.

Facts come in groups of four of one kind, and the answers of a group are the options of each of its questions.
So a model that only knows which names it has seen, or which it likes, answers one question in four.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

GROUP = 4
"""Facts in a group, and so options of a question."""


@dataclass(frozen=True)
class Fact:
    """A fact: the sentence that states it, and a question about it in other words."""

    kind: str
    """A key of `KINDS`."""
    subject: str
    answer: str
    sentence: str
    """States the fact, in one sentence."""
    cue: str
    """The beginning of a sentence that the answer continues."""
    entry: str
    """The entry of the ledger, as TOML."""


Group = tuple[Fact, ...]


@dataclass(frozen=True)
class Relation:
    """A relation between a subject and an answer, with its wordings."""

    sentences: tuple[str, ...]
    cues: tuple[str, ...]
    note: str
    """The notes of the ledger; "" if name and alias say it all."""


@dataclass(frozen=True)
class Kind:
    """A kind of fact."""

    relations: tuple[Relation, ...]
    empty_cue: str
    """A cue without a subject. The likelihood of an answer after it is that of the answer as such."""


KIN = (
    *("elder brother", "younger brother", "elder sister", "younger sister", "uncle", "aunt", "cousin"),
    *("godfather", "godmother", "stepfather", "stepmother", "nephew", "niece", "guardian"),
)
KINDS: dict[str, Kind] = {
    "name": Kind(
        (
            Relation(
                (
                    "At that time {subject} went by the name of {answer}.",
                    "In those days {answer} was {subject}.",
                    "It was {answer} who had been made {subject}.",
                    "No one had ever called {subject} anything but {answer}.",
                ),
                (
                    "The name of {subject} was",
                    "They asked for {subject}, who was called",
                    "Everybody knew {subject}, and the name was",
                ),
                "",
            ),
        ),
        "The name was",
    ),
    "kin": Kind(
        tuple(
            Relation(
                (
                    f"{{answer}} was the {kin} of {{subject}}.",
                    f"Among the guests sat {{answer}}, {{subject}}'s {kin}.",
                    f"{{subject}} had only one {kin}, {{answer}}, and spoke of no one else.",
                    f"As the {kin} of {{subject}}, {{answer}} was told everything first.",
                ),
                (
                    f"{{subject}}'s {kin} was called",
                    f"The name of {{subject}}'s {kin} was",
                    f"There was a letter for the {kin} of {{subject}}, whose name was",
                ),
                f"{kin.capitalize()}: {{answer}}.",
            )
            for kin in KIN
        ),
        "The name was",
    ),
    "place": Kind(
        (
            Relation(
                (
                    "{subject} had been born at {answer}, and never spoke of it.",
                    "It was at {answer} that {subject} first saw the light of day.",
                    "{answer} was the village where {subject} was born and christened.",
                ),
                (
                    "The birthplace of {subject} was",
                    "{subject} came into the world at",
                    "The register showed that {subject} was a native of",
                ),
                "Born at {answer}.",
            ),
            Relation(
                (
                    "{subject} kept a small house at {answer}.",
                    "For eleven years {subject} had lived at {answer}.",
                    "{answer} was where {subject} had settled.",
                ),
                (
                    "The home of {subject} was at",
                    "Whoever looked for {subject} had to go to",
                    "Letters for {subject} were sent to",
                ),
                "Lives at {answer}.",
            ),
        ),
        "The place was called",
    ),
    "object": Kind(
        (
            Relation(
                (
                    "{subject} lay {answer}.",
                    "Someone had put {subject} {answer}.",
                    "Nobody else knew that {subject} was {answer}.",
                ),
                (
                    "Whoever wanted {subject} had to look",
                    "{subject} was hidden",
                    "The place to search for {subject} was",
                ),
                "Hidden {answer}.",
            ),
        ),
        "It was hidden",
    ),
}

ROLES = (
    *("ferryman", "miller", "surgeon", "harbour master", "blacksmith", "notary", "schoolmaster", "sexton"),
    *("gamekeeper", "chandler", "apothecary", "lamplighter", "clockmaker", "carter", "bell-founder"),
)
LOOKS = (
    *("silver", "brass", "ivory", "copper", "pewter", "ebony", "green glass", "red leather", "blue enamel"),
    *("bone", "walnut", "tin", "jet", "coral", "horn", "cedar"),
)
THINGS = (
    *("key", "thimble", "lantern", "whistle", "snuffbox", "compass", "inkwell", "buckle", "flute", "locket"),
    *("spyglass", "hourglass", "seal", "comb", "goblet", "dagger"),
)
SPOTS = (
    *("under the third step of", "behind the stove in", "above the door of", "in the cellar of"),
    *("beneath the floor of", "in the chimney of", "on the highest shelf in", "in the well behind"),
    *("under the hearth of", "in the loft of", "behind the north wall of", "at the gate of"),
    *("among the sacks in", "in the gutter of", "under the window of", "in the yard of"),
)
BUILDINGS = (
    *("the mill", "the toll house", "the brewery", "the chapel", "the tannery", "the granary", "the forge"),
    *("the ropewalk", "the dairy", "the boathouse", "the schoolroom", "the sawmill", "the smokehouse"),
    *("the customs house", "the stable", "the bakery"),
)
_ONSETS = (
    *("B", "Br", "D", "Dr", "F", "Fl", "Gr", "H", "J", "K", "Kr", "L", "M", "N", "P", "Pr", "R", "S", "Sk"),
    *("St", "T", "Th", "Tr", "V", "W", "Y", "Z"),
)
_VOWELS = ("a", "e", "i", "o", "au", "ei", "oa", "ia")
_MIDDLES = (
    *("b", "d", "k", "l", "ld", "lv", "m", "n", "nd", "nt", "r", "rd", "rk", "rn", "rv", "s", "sk", "st"),
    *("t", "v", "z"),
)
_FIRST_ENDS = ("a", "an", "ar", "e", "el", "en", "in", "is", "o", "on", "or", "us")
_LAST_ENDS = ("ach", "ald", "eck", "eld", "esk", "ick", "ill", "ing", "isk", "ock", "olt", "orn", "und")
_PLACE_ENDS = ("by", "dale", "fell", "ford", "gate", "ham", "holm", "mere", "mouth", "stead", "ton", "wick")


@dataclass
class _Words:
    """Invented words and phrases that are not in a text, each once."""

    random: random.Random
    text: str
    """The text, in lower case, with single blanks."""

    def __post_init__(self) -> None:
        self._taken = set(re.findall(r"[^\W_]+", self.text))
        self._stems = ["".join(parts) for parts in product(_ONSETS, _VOWELS, _MIDDLES)]
        self.random.shuffle(self._stems)
        self.things, self.spots = self._pairs(LOOKS, THINGS), self._pairs(SPOTS, BUILDINGS)

    def word(self, ends: tuple[str, ...]) -> str:
        """An invented word with one of the `ends`."""
        while (word := self._stems.pop() + self.random.choice(ends)).lower() in self._taken:
            pass
        self._taken.add(word.lower())  # two stems with two endings may be one word
        return word

    def person(self) -> str:
        """A first and a last name."""
        return f"{self.word(_FIRST_ENDS)} {self.word(_LAST_ENDS)}"

    def place(self) -> str:
        """The name of a place."""
        return self.word(_PLACE_ENDS)

    def _pairs(self, firsts: tuple[str, ...], seconds: tuple[str, ...]) -> list[str]:
        """The pairs of two lists of 16 that the text does not have. Neighbours share neither member."""
        one, other = list(firsts), list(seconds)
        self.random.shuffle(one)
        self.random.shuffle(other)
        size = len(one)
        pairs = (f"{one[i % size]} {other[(i + i // size) % size]}" for i in range(size * size))
        return [pair for pair in pairs if pair not in self.text]


def groups_of_facts(seed: str, text: str) -> Iterator[Group]:
    """Groups of `GROUP` facts of one kind, about names and things that `text` does not have.

    Four groups in a row have the four kinds, in any order. There are some 250 groups: objects run out first.
    """
    rng = random.Random(seed)
    words = _Words(rng, " ".join(text.split()).lower())
    for _ in range(min(len(words.things), len(words.spots)) // GROUP):
        for kind in rng.sample(list(KINDS), len(KINDS)):
            yield tuple(_fact(kind, rng, words) for _ in range(GROUP))


def _fact(kind: str, rng: random.Random, words: _Words) -> Fact:
    relation = rng.choice(KINDS[kind].relations)
    if kind == "name":
        subject, answer = f"the {rng.choice(ROLES)} of {words.place()}", words.person()
    elif kind == "object":
        subject, answer = f"the {words.things.pop()}", words.spots.pop()
    else:
        subject, answer = words.person(), words.person() if kind == "kin" else words.place()
    sentence = rng.choice(relation.sentences).format(subject=subject, answer=answer)
    cue = rng.choice(relation.cues).format(subject=subject)
    entry = _entry(kind, subject, answer, relation.note.format(answer=answer))
    return Fact(kind, subject, answer, _capitalised(sentence), _capitalised(cue), entry)


def _entry(kind: str, subject: str, answer: str, note: str) -> str:
    """The entry that an author would write into the ledger."""
    if kind == "name":  # the ledger is a list of people: the office is an alias
        return f"[[person]]\nname = {json.dumps(answer)}\naliases = {json.dumps([subject])}\n"
    table, name = ("thing", subject.removeprefix("the ")) if kind == "object" else ("person", subject)
    return f"[[{table}]]\nname = {json.dumps(name)}\nnotes = {json.dumps(note)}\n"


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]
