"""Chunks of good prose with a fault in each. The limits were set without the half that is held out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parent
Position = Literal["begin", "middle", "end", "inside"]
POSITIONS: tuple[Position, ...] = ("begin", "middle", "end", "inside")
"""After the first paragraph, after the third, after the last; inside of the third paragraph, at its end."""

SCRIPTS = {"zh": ("Hani",)}
"""Those of a language; Latin by default."""
_INSIDE = ("assistant", "note", "script", "characters")
"""Kinds that also occur inside of a paragraph."""


def word_list(words: str) -> list[str]:
    """The words of a string with spaces between them."""
    return words.split()


@dataclass(frozen=True)
class Sample:
    """A fault, or good prose if it has no kind."""

    kind: str
    language: str
    text: str
    held_out: bool
    source: Literal["template", "generator", "handwritten"] = "template"


@dataclass(frozen=True)
class FaultyChunk:
    """A chunk with a fault: the text before it, its text, and where the fault begins and what it is."""

    sample: Sample
    position: Position
    before: str
    text: str
    start: int


def read_samples(path: Path, source: Literal["template", "handwritten"]) -> list[Sample]:
    """The samples of a file: lines `=== kind language`, each with its text. Every second one is held out."""
    samples, counts = [], dict[str, int]()
    for block in path.read_text("utf-8").split("=== ")[1:]:
        title, text = block.split("\n", 1)
        *kind, language = title.split()
        name = "".join(kind).replace("_", " ").replace("after end", "after the end")
        counts[name] = counts.get(name, -1) + 1
        samples.append(Sample(name, language, text.strip("\n"), counts[name] % 2 == 1, source))
    return samples


def good_prose() -> dict[str, list[str]]:
    """Passages of good prose by language."""
    passages: dict[str, list[str]] = {}
    for sample in read_samples(FOLDER / "good.txt", "template"):
        passages.setdefault(sample.language, []).append(sample.text)
    return passages


def faulty_chunks(seed: int = 0, positions: Sequence[Position] = POSITIONS) -> Iterator[FaultyChunk]:
    """All samples of faults, in all positions by default."""
    prose = good_prose()
    samples = [
        *read_samples(FOLDER / "faults.txt", "template"),
        *generated_samples(seed),
        *read_samples(FOLDER / "handwritten.txt", "handwritten"),
    ]
    rng = random.Random(seed)
    for sample in samples:
        for position in positions:
            if position != "inside" or (sample.kind in _INSIDE and "\n" not in sample.text):
                yield _spliced(sample, position, rng.choice(prose[sample.language]), rng)


def _spliced(sample: Sample, position: Position, passage: str, rng: random.Random) -> FaultyChunk:
    """The passage with the fault; the chunk begins inside of its second paragraph."""
    paragraphs = passage.split("\n\n")
    line_end = rng.choice(["\n\n", "\n"])
    second = paragraphs[1]
    cut = len(second) // 2
    before, first = line_end.join([paragraphs[0], second[:cut]]), second[cut:]
    parts = [first, *paragraphs[2:]]
    index = {"begin": 1, "middle": 3, "end": len(parts), "inside": 3}[position]
    text = line_end.join(parts[:index])
    text += (" " if sample.language != "zh" else "") if position == "inside" else line_end
    start = len(text)
    return FaultyChunk(
        sample, position, before, text + sample.text + line_end + line_end.join(parts[index:]), start
    )


_SYLLABLES = word_list("bar vel or sa tin mor que lan dri osk ul fen tar mi zel ha dur wyn pe ro cal ish")
_NOUNS = word_list(
    "Lamp Rope Harbour Snow Mirror Violin Bread Iron Winter Daughter Border Sleep Salt Ferry Bell Orchard"
)
_PHRASES = (
    "full sky",
    "Nobody at home",
    "Have no iron",
    "The road north",
    "Some more bread",
    "As the moon rises",
    "One of those people",
    "Not enough light here",
)
_HAN_NAMES = word_list(
    "青石镇 柳树屯 白马渡 三河口 老鹰岩 赵家集 双桥 石门 小王庄 北岭 黑水潭 十里铺 杏花村 望江楼 南关"
)
_HAN_WORDS = word_list("雪 羊羔 炉子 山口 药 火 柿子 月亮 外婆 木箱 信 渡口 芦苇 水鸟 门 钥匙")
_VERBS = (
    "gave him a coat",
    "took the road",
    "said a word",
    "went out",
    "saw the lamp",
    "held the rail",
    "fell asleep",
)

ENGLISH_SENTENCE = (
    "She looked out of the window for a long time and did not say a word, because the snow was deep."
)


def _name(rng: random.Random) -> str:
    return "".join(rng.sample(_SYLLABLES, rng.randint(2, 3))).capitalize()


def _script_faults(rng: random.Random) -> Iterator[tuple[str, str]]:
    letters = {
        "Hebr": "אבגדהוזחטיכ",
        "Cyrl": "абвгдежзиклмн",
        "Arab": "ابتثجحخدذرز",
        "Hang": "가나다라마바사",
        "Thai": "กขคงจฉชซ",
    }
    letters |= {"Grek": "αβγδεζηθικλ", "Deva": "कखगघचछजझ", "Hani": "突然听见他说", "Khmr": "កខគឃងចឆ"}
    for name, alphabet in letters.items():
        words = ["".join(rng.choices(alphabet, k=rng.randint(2, 6))) for _ in range(rng.choice([1, 4, 30]))]
        yield "en", f"The door was open and {' '.join(words)} she went in."
        yield "en", rng.choice(alphabet) * rng.choice([30, 200])
        if name != "Hani":
            yield "zh", f"外婆看了看窗外，{words[0]}没有说话。"
    yield "zh", ENGLISH_SENTENCE


def _character_faults(rng: random.Random) -> Iterator[tuple[str, str]]:
    for char in "aeoh!?—.-=~":
        yield "en", f"She looked back and said no{char * rng.randint(16, 60)} and then it was quiet."
    for group in ("abc", "lamp", "!?", "xo", "-=", "haha", "0 1"):
        yield "en", f"He counted them: {group * rng.randint(16, 40)}"
    for char in "啊哈！？…—":
        yield "zh", f"他喊道{char * rng.randint(16, 60)}然后就安静了。"
    yield "en", "The lamp was \ufffd\ufffd\ufffd dark."


def _line_faults(rng: random.Random) -> Iterator[tuple[str, str]]:
    for count in (10, 14, 25, 40):
        for stop in (".", ""):
            for line_end in ("\n", "\n\n"):
                yield (
                    "en",
                    line_end.join(rng.choice([*_NOUNS, *_PHRASES, _name(rng)]) + stop for _ in range(count)),
                )
        yield "zh", "\n".join(rng.choice(_HAN_WORDS) + "。" for _ in range(count))
    for count in (20, 30):
        lines = (
            f"{rng.choice(['He', 'She', 'Nobody', 'The keeper'])} {rng.choice(_VERBS)}." for _ in range(count)
        )
        yield "en", "\n".join(lines)


def _name_faults(rng: random.Random) -> Iterator[tuple[str, str]]:
    for count in (12, 20, 40, 80):
        yield "en", ", ".join(_name(rng) for _ in range(count)) + "."
        yield "en", "They came from " + ", ".join(_name(rng) for _ in range(count)) + f" and {_name(rng)}."
        yield "en", " ".join(_name(rng) + "." for _ in range(count))
        yield "en", " ".join(rng.choice(_NOUNS) + "." for _ in range(count))
        yield "en", " ".join(_name(rng) for _ in range(3 * count))
        yield "zh", "、".join(rng.choice(_HAN_NAMES) for _ in range(count + 6)) + "。"


def _capital_faults(rng: random.Random) -> Iterator[tuple[str, str]]:
    for count in (60, 80, 120, 150):
        words = [
            rng.choice(["the", "a", "lamp", "went", "to", "harbour", "and", "saw", "you", "again"])
            for _ in range(count)
        ]
        yield "en", " ".join(words).upper() + "."
        yield "en", " ".join(word if rng.random() < 0.2 else word.capitalize() for word in words) + "."


def _spacing_faults(rng: random.Random) -> Iterator[tuple[str, str]]:
    for count in (10, 30, 60):
        yield "en", "".join(rng.choice(_NOUNS) for _ in range(count))
        yield "en", "".join(rng.choice(_NOUNS).lower() for _ in range(count))
        yield "en", "-".join(rng.choice([*_NOUNS, "of", "the"]) for _ in range(count))
        yield "en", "".join(f"{rng.choice(['He', 'She', 'It'])} {rng.choice(_VERBS)}." for _ in range(count))


def _sameness_faults(rng: random.Random) -> Iterator[tuple[str, str]]:
    for count in (10, 15, 25, 40):
        for subject in ("She", "You", "Family"):
            yield (
                "en",
                " ".join(
                    f"{subject} {rng.choice(_VERBS)} {rng.choice(_NOUNS).lower()}." for _ in range(count)
                ),
            )


_GENERATORS: dict[str, Callable[[random.Random], Iterator[tuple[str, str]]]] = {
    "script": _script_faults,
    "characters": _character_faults,
    "lines": _line_faults,
    "names": _name_faults,
    "capitals": _capital_faults,
    "spacing": _spacing_faults,
    "sameness": _sameness_faults,
}


def generated_samples(seed: int) -> list[Sample]:
    """Faults that are made from words and letters by chance. Every second one of a kind is held out."""
    return [
        Sample(kind, language, text, index % 2 == 1, "generator")
        for kind, generate in _GENERATORS.items()
        for index, (language, text) in enumerate(generate(random.Random(f"{seed} {kind}")))
    ]
