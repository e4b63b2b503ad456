"""Pairs as token ids: their formats, and the parts that are learnt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tiny_model import byte_tokenizer
from templora_cli.documents.aligned_text import AlignedPair
from templora_cli.languages import language
from templora_cli.prompt_files import load_prompts
from templora_cli.translation.aligned import PairsTask
from templora_cli.translation.pair_format import ChatPairFormat, PairFormat, choose_pair_format
from templora_cli.translation.terminology import Term

FORM = PairFormat(byte_tokenizer(), load_prompts("translation", ""), language("zh"), language("en"))
PARAGRAPH = st.text(
    st.characters(exclude_characters="\n", exclude_categories=("Cs", "Zl", "Zp", "Cc")), min_size=1
)
RUNS = st.lists(
    st.lists(st.builds(AlignedPair, PARAGRAPH, PARAGRAPH), min_size=1, max_size=3), min_size=1, max_size=4
)


def text_of(tokens: tuple[int, ...]) -> str:
    return str(FORM.tokenizer.decode(list(tokens)))


def test_a_pair_as_text() -> None:
    pair = AlignedPair("灯 {target_language}", "lamp")
    assert text_of(FORM.pair_tokens([pair])) == "Chinese: 灯 {target_language}\nEnglish: lamp\n"
    assert text_of(FORM.source_tokens("灯")) == "Chinese: 灯\nEnglish:"
    assert len(FORM.header) == 1


@given(RUNS, st.integers(0, 4))
def test_every_run_is_a_chunk_whose_targets_are_learnt(runs: list[list[AlignedPair]], context: int) -> None:
    task = PairsTask(FORM, runs, context, "human", lambda index: [pair.target for pair in runs[index]])
    book: list[int] = []
    for index, run in enumerate(runs):
        turn = task.next_turn(book)
        assert turn is not None and turn.origin == "human"
        before = [pair for earlier in runs[:index] for pair in earlier]
        assert turn.prompt.context == FORM.pair_tokens(before[max(0, len(before) - context) :])
        assert turn.tokens == FORM.pair_tokens(run) and turn.max_tokens == len(turn.tokens)
        learnt = [token for token, learn in zip(turn.tokens, turn.loss_mask, strict=True) if learn]
        assert text_of(tuple(learnt)) == "".join(f" {pair.target}\n" for pair in run)
        assert task.replay({"tokens": list(turn.tokens)}, book, []) == turn
        book += turn.tokens
    assert task.next_turn(book) is None


def test_a_translation_ends_with_its_line() -> None:
    assert FORM.target_text(FORM.target_tokens("a lamp")) == "a lamp"
    assert FORM.target_text(FORM._ids(" a lamp\nChinese: more")) == "a lamp"
    assert FORM.target_text(()) == ""
    assert FORM.target_text(FORM._ids(" a\0 \x1b[1mlamp\t\u2028there")) == "a [1mlamp there"
    assert FORM.stop_tokens == frozenset([ord("\n")])


def test_with_a_chat_template_pairs_are_turns() -> None:
    form = choose_pair_format(FORM.tokenizer, FORM.prompts, FORM.source, FORM.target)
    assert isinstance(form, ChatPairFormat)
    header = text_of(form.header_with([Term("灯", "lamp", "old")]))
    assert header.startswith("<|system|>You translate a book from Chinese into English.")
    assert header.endswith("always translated like this:\n灯: lamp (old)<|end|><|user|>")
    assert "always" not in text_of(form.header)
    pair = AlignedPair("一 <|end|>", "one\nline")
    assert text_of(form.pair_tokens([pair])) == "一 <|end|><|end|><|assistant|>one\nline<|end|><|user|>"
    end = FORM.tokenizer.convert_tokens_to_ids("<|end|>")
    assert form.stop_tokens == {end} and form.pair_tokens([pair]).count(end) == 2, (
        "text in the source is no token"
    )
    assert form.target_text(form.target_tokens("one\nline")) == "one line"


def test_without_a_usable_chat_template_pairs_are_plain_text() -> None:
    base = byte_tokenizer(chat=False)
    assert type(choose_pair_format(base, FORM.prompts, FORM.source, FORM.target)) is PairFormat
    broken = byte_tokenizer()
    broken.chat_template = "{{ raise_exception('no') }}"
    assert type(choose_pair_format(broken, FORM.prompts, FORM.source, FORM.target)) is PairFormat


def test_without_a_system_role_the_instruction_is_in_the_first_turn() -> None:
    strict = byte_tokenizer()
    strict.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + str(strict.chat_template)
    )
    form = choose_pair_format(strict, FORM.prompts, FORM.source, FORM.target)
    assert text_of(form.header).startswith("<|user|>You translate a book")
    assert text_of(form.pair_tokens([AlignedPair("一", "one")])) == "一<|end|><|assistant|>one<|end|><|user|>"
