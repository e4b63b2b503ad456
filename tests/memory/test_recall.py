"""Recalled passages: what is found, what is left out, and that only the texts decide."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from templora_cli.memory.passages import MAX_CHARACTERS, MAX_WORDS, MIN_WORDS, spans
from templora_cli.memory.recall import Passage, Recall, copied_run, situation
from templora_cli.memory.terms import count_words, last_words, terms

FACT = "Ortwin Kessel keeps the silver key under the third step."
WORDS = (
    *("the", "a", "of", "rain", "harbour", "lamp", "quay", "bread", "fish", "boat", "house", "dusk", "clock"),
    *(
        "tower",
        "door",
        "window",
        "stone",
        "hill",
        "horse",
        "coat",
        "voice",
        "letter",
        "road",
        "garden",
        "fire",
    ),
    *("water", "glass", "table", "morning", "winter", "brother", "sister", "friend", "went", "came", "said"),
    *(
        "saw",
        "took",
        "held",
        "left",
        "found",
        "turned",
        "stood",
        "waited",
        "slowly",
        "again",
        "never",
        "there",
    ),
)


def filler(paragraphs: int, seed: str = "") -> str:
    """Paragraphs of four sentences of random words, each with a number of its own."""
    draw = random.Random(seed)
    sentences = (
        " ".join([f"She{n}{seed}", *draw.choices(WORDS, k=11)]) + (".\n\n" if n % 4 == 3 else ". ")
        for n in range(4 * paragraphs)
    )
    return "".join(sentences)


def found(recall: Recall, query: str, window: str = "", **options: int) -> list[str]:
    return [passage.text for passage in recall.find(query, window=window, **options)]


def test_a_fact_is_found_by_the_name_of_its_person() -> None:
    recall = Recall()
    recall.update([f"{filler(30, 'a')}{FACT}\n\n{filler(30, 'b')}", filler(30, "c")])
    recent = f"{filler(3, 'd')}Then the door opened and Kessel’s brother came in."
    passages = recall.find(situation(recent), window=recent, limit=3)
    assert FACT in passages[0].text
    assert passages[0].volume == ""


def test_a_name_in_the_plan_is_part_of_the_query() -> None:
    recall = Recall()
    recall.update([f"{filler(30, 'a')}{FACT}\n\n{filler(30, 'b')}"])
    assert FACT in found(recall, situation(filler(3, "d"), "Kessel comes back."), limit=1)[0]


def test_a_name_outweighs_another_word_that_is_as_rare() -> None:
    recall = Recall()
    recall.update([f"{filler(9, 'a')}The zither was broken.\n\n{filler(9, 'b')}{FACT}\n\n{filler(9, 'c')}"])
    assert FACT in found(recall, "The zither was broken, said Kessel.", limit=1)[0]
    assert "zither" in found(recall, "The zither was broken, he said.", limit=1)[0]


def test_names_can_be_listed_where_a_script_has_no_capital_letters() -> None:
    other = "院子里的老槐树被雷劈倒了。"
    fact = "沈墨棠把银钥匙藏在第三级台阶下面。"
    text = "".join(f"第{n}天下着雨，第{n + 40}条船停在岸边，谁也没有来。\n\n" for n in range(60))
    recall = Recall()
    recall.update([f"{text}{other}\n\n{text.replace('天', '夜')}{fact}\n\n{text.replace('天', '晚')}"])
    query = "槐树下，墨棠站着。"
    assert other in found(recall, query, limit=1)[0]
    assert fact in recall.find(query, window="", names=["墨棠"], limit=1)[0].text


def test_a_passage_says_where_it_is() -> None:
    volume, chapters = f"{filler(9, 'v')}{FACT}\n\n{filler(9, 'w')}", [filler(9, "a"), filler(9, "b")]
    recall = Recall([("first.txt", volume)])
    recall.update(chapters)
    (best, *others) = recall.find(f"{FACT} She4b went home.", window="", limit=9)
    assert best.volume == "first.txt"
    for passage in (best, *others):
        assert [volume, *chapters][passage.source][passage.start :].startswith(passage.text)
    assert "" in {passage.volume for passage in others}


def test_text_in_the_window_is_not_recalled() -> None:
    text = f"{filler(20, 'a')}{FACT}\n\n{filler(4, 'b')}"
    recall = Recall()
    recall.update([text])
    at_fact = len(text) - text.index(FACT)
    assert not any(FACT in text for text in found(recall, "Kessel", text[-at_fact:]))
    assert not any(FACT in text for text in found(recall, "Kessel", text[-at_fact + 20 :]))
    assert any(FACT in text for text in found(recall, "Kessel", text[-200:]))


def test_words_that_only_the_window_has_do_not_displace_others() -> None:
    text = f"{filler(20, 'a')}{FACT}\n\n{filler(20, 'b')}"
    window = " ".join(f"word{n}" for n in range(140)) + " Kessel"
    recall = Recall()
    recall.update([f"{text}{window}"])
    assert FACT in found(recall, situation(window), window, limit=1)[0]


def test_text_that_the_window_repeats_is_not_recalled() -> None:
    passage = filler(1, "a")
    text = f"{filler(20, 'b')}{passage}{filler(20, 'c')}"
    recall = Recall()
    recall.update([text, passage])
    assert passage.strip() not in "".join(found(recall, passage, passage))
    assert passage.strip() in "".join(found(recall, passage, "Another window."))


def test_a_volume_is_never_in_the_window() -> None:
    recall = Recall([("first.txt", FACT)])
    recall.update(["Short."])
    assert FACT in found(recall, "Kessel", "x" * 500)


def test_nearly_the_same_passage_is_recalled_once() -> None:
    passage = filler(1, "a")
    recall = Recall()
    recall.update([passage + filler(9, "b"), passage.replace("a", "a quiet ", 1) + filler(9, "c")])
    texts = found(recall, passage, limit=9)
    assert len(texts) > 1 and sum("She0a" in text for text in texts) == 1


def test_passages_are_within_the_number_of_words() -> None:
    recall = Recall()
    recall.update([filler(60)])
    for words in (0, 50, 100, 200):
        texts = found(recall, filler(2), limit=20, max_words=words)
        assert sum(map(count_words, texts)) <= words
        assert len(texts) >= words // MAX_WORDS


@pytest.mark.parametrize("query", ["", " \n", "?!", "absent", "\x00", '" OR *'])
def test_a_query_without_a_known_word_finds_nothing(query: str) -> None:
    recall = Recall()
    recall.update([filler(9)])
    assert recall.find(query, window="") == ()
    assert Recall().find(query, window="") == ()


PIECES = (
    "Mr. Kessel left. ",
    "She said “Go!” and he went…",
    "\n\n",
    "key ",
    "“Why?” ",
    "...",
    "他走了。",
    "”",
    "这时门开了",
    "word " * 50,
    "." * 700,
    "x" * 1300,
    "Long " * 130,
    "\n",
    "'s",
    "ถึงบ้านแล้ว ",
)
PROSE = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=25).map("".join)


@given(st.lists(st.lists(PROSE, max_size=3), min_size=1, max_size=5), PROSE, st.integers(0, 400))
@settings(max_examples=150, deadline=None)
def test_the_results_depend_on_the_texts_alone(states: Sequence[list[str]], query: str, window: int) -> None:
    by_updates = Recall([("v", "Kessel had the key. " * 9)])
    for chapters in states:
        by_updates.update(chapters)
    at_once = Recall([("v", "Kessel had the key. " * 9)])
    at_once.update(states[-1])
    end = "".join(states[-1])[-window:] if window else ""
    query = f"{query} Kessel key 走了"
    assert by_updates.find(query, window=end, limit=4) == at_once.find(query, window=end, limit=4)


@given(PROSE, st.data())
@settings(max_examples=150, deadline=None)
def test_growing_texts_get_the_same_passages(text: str, data: st.DataObject) -> None:
    growing, whole = Recall(), Recall()
    length = 0
    while length < len(text):
        length = data.draw(st.integers(length + 1, len(text)))
        growing.update([text[:length]])
    whole.update([text])
    assert everything(growing) == everything(whole)


def everything(recall: Recall) -> tuple[Passage, ...]:
    return recall.find("Kessel left key said word Long 走了 时门 why ถึงบ้านแล้ว", window="", limit=50)


@given(st.lists(PROSE, max_size=3), st.integers(1, 300))
@settings(max_examples=150, deadline=None)
def test_no_character_of_the_window_is_recalled(chapters: list[str], length: int) -> None:
    recall = Recall()
    recall.update(chapters)
    window = "".join(chapters)[-length:]
    before = [len(text) for text in chapters]
    for n in range(len(chapters) - 1, -1, -1):
        inside = min(length, len(chapters[n]))
        before[n] -= inside
        length -= inside
    for passage in recall.find("Kessel left key said word Long 走了", window=window, limit=50):
        assert passage.start + len(passage.text) <= before[passage.source]


def test_only_new_text_is_indexed() -> None:
    recall = Recall()
    indexed: list[int] = []
    add = recall._index.add
    recall._index.add = lambda words: indexed.append(len(words)) or add(words)  # type: ignore[method-assign,func-returns-value]
    first, second = filler(40, "a"), filler(40, "b")
    recall.update([first, second])
    indexed.clear()
    recall.update([first, second])
    assert not indexed
    recall.update([first, second + filler(1, "c")])
    assert 1 <= len(indexed) <= 3
    indexed.clear()
    recall.update([first, second[:-300]])
    assert len(indexed) <= 2
    recall.update(["The End." + first[20:], second])
    indexed.clear()
    recall.update([first, second])
    assert len(indexed) <= 45  # the first chapter, and not the second


@given(PROSE)
def test_passages_are_the_text_in_whole_sentences(text: str) -> None:
    parts = list(spans(text))
    assert "".join(text[part.start : part.end] for part in parts) == text
    assert all(count_words(text[part.start : part.end]) <= MAX_WORDS + 1 for part in parts)
    assert all(part.end - part.start <= MAX_CHARACTERS for part in parts)


def test_passages_end_at_paragraphs_and_sentences() -> None:
    text = f"{filler(3)}{'Mr. Kessel went on to speak of Dr. Lund and of the sea. ' * 20}"
    passages = [text[part.start : part.end] for part in spans(text)]
    assert passages[0] == filler(1)
    assert all(passage.rstrip().endswith(".") for passage in passages)
    assert not any(passage.rstrip().endswith(("Mr.", "Dr.")) for passage in passages)
    assert all(count_words(passage) >= MIN_WORDS for passage in passages[:-1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Kessel’s KEY, Kessels", ["kessel", "key", "kessels"]),
        ("don’t o'clock", ["don't", "o'clock"]),
        ("墨棠站着。好", ["墨棠", "棠站", "站着", "好"]),
        ("e\u0301te\u0301", ["été"]),
        ("दिल्ली में", ["दिल्ली", "में"]),
        ("3 Uhr 15", ["3", "uhr", "15"]),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@given(st.text(alphabet="ab 走了。\n", max_size=400), st.integers(1, 40))
def test_the_last_words_of_a_text(text: str, words: int) -> None:
    end = last_words(text, words)
    assert text.endswith(end)
    assert count_words(end) >= min(words, count_words(text))
    assert count_words(end) <= words + 1  # a run of characters may be divided into other pairs


SENTENCE = "In the grey light of that morning the two brothers went down to the old mill by the river"


def test_a_copied_run_is_returned_as_it_is_in_the_text() -> None:
    text = f"So it was. {SENTENCE.replace('grey light', 'GREY, light')}; and they sang."
    assert copied_run(text, ["Nothing here.", f"Then: {SENTENCE}."]) == SENTENCE.replace(
        "grey light", "GREY, light"
    )


@pytest.mark.parametrize("words", [11, 12, 13])
def test_a_run_of_twelve_words_is_no_copy(words: int) -> None:
    run = " ".join(SENTENCE.split()[:words])
    assert copied_run(f"Well, {run} again.", [SENTENCE]) == (run if words > 12 else None)


@pytest.mark.parametrize("characters", [24, 25])
def test_two_characters_of_a_script_without_spaces_are_a_word(characters: int) -> None:
    sentence = "沈墨棠把那把银钥匙藏在了磨坊门前第三级石台阶的下面没有告诉别人"
    run = sentence[:characters]
    assert copied_run(f"她想，{run}吗？", [sentence]) == (run if characters > 24 else None)


def test_words_of_two_passages_do_not_make_a_run() -> None:
    words = SENTENCE.split()
    assert copied_run(SENTENCE, [" ".join(words[:9]), " ".join(words[9:])]) is None
    assert copied_run(SENTENCE, []) is None
    assert copied_run("", [SENTENCE]) is None
