"""Prose as chapters of paragraphs, and the words, sentences, speech and names in it.

In scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) each character is a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from templora_cli.documents.document import Document
from templora_cli.documents.inline import strip_tags
from templora_cli.documents.prose import PROSE
from templora_cli.novel.sentence_end import ends_sentence
from templora_cli.scripts import CHARACTERS, UNSPACED

_UNSPACED = "".join(CHARACTERS[script] for script in sorted(UNSPACED))
_UNSPACED += "\u0e80-\u0fff\u1000-\u109f\u1780-\u17ff"  # Lao, Tibetan, Burmese, Khmer
_MARKS = "".join(chr(code) for code in range(0x300, 0x3100) if unicodedata.category(chr(code))[0] == "M")
"""Accents and vowel signs, which belong to the letter before them."""
_LETTERS = rf"(?:[^\W_{_UNSPACED}][{_MARKS}\u200c\u200d]*)+"
_CHARACTERS = re.compile(rf"[{_UNSPACED}{_MARKS}]+")
_WORD = re.compile(rf"[{_UNSPACED}][{_MARKS}]*|{_LETTERS}(?:['’]{_LETTERS})*")

_GREEK_QUESTION = r"(?<=[\u0370-\u03ff\u1f00-\u1fff])[;\u037e]"
_CLOSING = r"\"'”’»)\]」』】）"
_SENTENCE = re.compile(
    rf"(?:[.!?…‽؟۔।॥։።]|{_GREEK_QUESTION})+[{_CLOSING}“‘«›‹]*\s+|[。｡．！？]+[{_CLOSING}]*\s*"
)
"""The end of a sentence. “ and « close quotations in some languages, where white space follows."""
_OPENING = " \"'“‘„«»‹›([「『—–-"
_QUESTION = re.compile(rf"[?？؟]|{_GREEK_QUESTION}")

_SPEECH = re.compile(
    r"“[^”]*(?:”|$)"
    r'|"[^"]*(?:"|$)'
    r"|„[^“”]*(?:[“”]|$)"
    r"|«[^»]*(?:»|$)"
    r"|»[^«]*«"
    r"|「[^」]*(?:」|$)|『[^』]*(?:』|$)"
    r"|(?<![\w.,!?])[‘'](?=\w)[^‘]*?(?<=[.,!?;:…—–-])[’'](?!\w)"
)
"""A quotation. It ends with its paragraph if nothing closes it, because speech can go on in the next one.
Single quotation marks are apostrophes too, so they close a quotation only after punctuation."""
_DASH = re.compile(r"[—–―]\s*\w")

_INSIDE_SENTENCE = re.compile(r"[\s,;.”’»-]*")
"""Characters between two words after which a capital shows a name, not the beginning of a sentence."""
_CASED_SHARE = 0.5


@dataclass(frozen=True)
class ProseChapter:
    """The paragraphs of a chapter, each on one line, without its heading; `title` may be empty."""

    title: str
    paragraphs: tuple[str, ...]


class ParsedParagraph(NamedTuple):
    """The words of a paragraph and what they are part of."""

    words: tuple[str, ...]
    """Normalised by `words_of`."""
    sentence_words: tuple[int, ...]
    """The length of each sentence, in words."""
    questions: int
    """Sentences with a question mark."""
    spoken_words: int
    """Words in quotation marks, or all words of a paragraph that begins with a dash."""


def chapters_of(document: Document) -> list[ProseChapter]:
    """The chapters of a document that have words; tables, captions and tables of contents are left out."""
    chapters = []
    for chapter in document.chapters:
        in_chapter = document.paragraphs[chapter.first : chapter.end]
        texts = [strip_tags(p.text) for p in in_chapter if p.kind in PROSE and p.kind != "heading"]
        if paragraphs := tuple(text for text in texts if _WORD.search(text)):
            chapters.append(ProseChapter(strip_tags(chapter.title), paragraphs))
    return chapters


def limited(chapters: Iterable[ProseChapter], max_words: int) -> list[ProseChapter]:
    """The first `max_words` words of the chapters."""
    remaining, limited_chapters = max_words, []
    for chapter in chapters:
        paragraphs = []
        for text in chapter.paragraphs:
            matches = list(_WORD.finditer(text))
            if remaining and matches:
                is_last = len(matches) > remaining
                paragraphs.append(text[: matches[remaining - 1].end()] if is_last else text)
                remaining -= min(remaining, len(matches))
        if paragraphs:
            limited_chapters.append(ProseChapter(chapter.title, tuple(paragraphs)))
    return limited_chapters


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, with straight apostrophes; punctuation is left out."""
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]


def joined(words: Sequence[str]) -> str:
    """Words as a text, with blanks between them unless they are characters of scripts without spaces."""
    without_blanks = "".join(words)
    return without_blanks if _CHARACTERS.fullmatch(without_blanks) else " ".join(words)


def sentences_of(paragraph: str) -> list[str]:
    """The sentences of a paragraph; joined they are `paragraph`.

    It does not end after an abbreviation or initial, nor before a lower-case letter ("Who?" he asked).
    """
    sentences, start = [], 0
    for match in _SENTENCE.finditer(paragraph):
        end = match.end()
        following = paragraph[end : end + 8].lstrip(_OPENING)
        if ends_sentence(paragraph[start:end]) and not following[:1].islower():
            sentences.append(paragraph[start:end])
            start = end
    return [*sentences, paragraph[start:]] if start < len(paragraph) else sentences


def parse_paragraph(text: str) -> ParsedParagraph:
    """The words, sentences and speech of a paragraph."""
    words, lengths, questions = words_of(text), [], 0
    for sentence in sentences_of(text):
        if length := len(_WORD.findall(sentence)):
            lengths.append(length)
            questions += bool(_QUESTION.search(sentence))
    if _DASH.match(text):
        spoken = len(words)
    else:
        spoken = sum(len(_WORD.findall(quotation)) for quotation in _SPEECH.findall(text))
    return ParsedParagraph(tuple(words), tuple(lengths), questions, min(spoken, len(words)))


def name_counts(paragraphs: Sequence[str]) -> Counter[str] | None:
    """How often each name occurs, in lower case and without "'s"; None in scripts without capitals.

    A name is a word that has a capital inside a sentence, more often than it is in lower case. In German, all
    nouns are names by this rule.
    """
    inside: Counter[str] = Counter()
    capitalised: Counter[str] = Counter()
    lower_case: Counter[str] = Counter()
    total = 0
    for paragraph in paragraphs:
        for sentence in sentences_of(paragraph):
            for word, is_inside in _with_position(sentence):
                total += 1
                if word[0].islower():
                    lower_case[base_form(word)] += 1
                elif word[0].isupper():
                    capitalised[base_form(word)] += 1
                    inside[base_form(word)] += is_inside and not word.isupper()
    if sum(lower_case.values()) + sum(capitalised.values()) < _CASED_SHARE * total:
        return None
    names = (word for word, count in inside.items() if count > lower_case[word] and word != "i")
    return Counter({name: capitalised[name] for name in names})


def _with_position(sentence: str) -> Iterator[tuple[str, bool]]:
    """Each word of a sentence as it is written, and whether a capital there shows a name."""
    end = None
    for match in _WORD.finditer(sentence):
        gap = None if end is None else sentence[end : match.start()]
        yield match[0], gap is not None and bool(_INSIDE_SENTENCE.fullmatch(gap))
        end = match.end()


def base_form(word: str) -> str:
    """A word in lower case without what follows its apostrophe: "Anna" for "Anna's", "I" for "I'll"."""
    return re.split("['’]", word.lower(), maxsplit=1)[0]
