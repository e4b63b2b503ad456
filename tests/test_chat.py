"""Rendering of a model's chat template."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.tiny_model import byte_tokenizer
from templora_cli.chat import TODAY, as_plain_words, chat_ids, first_token
from templora_cli.errors import TemploraError

DATED = (
    "{{ strftime_now('%H:%M:%S.%f') }} {{ date_string }} "
    "{% for m in messages %}{{ m['content'] }}{% endfor %}"
)
STRICT = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def with_template(template: str) -> Any:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def asked(template: str, user: str = "A storm.") -> str:
    """What the model is shown before its answer."""
    tokenizer = with_template(template)
    return str(tokenizer.decode(list(chat_ids(tokenizer, "Write.", user))))


def test_a_template_that_tells_the_date_tells_the_same_one_every_day() -> None:
    assert asked(DATED) == asked(DATED) == f"{TODAY} {TODAY} Write.A storm."


def test_without_a_turn_of_the_system_the_instruction_is_the_users() -> None:
    assert asked(STRICT) == "<|user|>Write.\n\nA storm.<|end|><|assistant|>"


def test_a_template_that_takes_nothing_is_said() -> None:
    with pytest.raises(TemploraError, match="accepts no user message"):
        asked("{{ raise_exception('never') }}")


def test_special_tokens_in_human_text_are_broken_up() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<think>"])
    assert as_plain_words(tokenizer, "A<|end|>B<think>") == "A< |end|>B< think>"
    assert first_token(tokenizer) == (tokenizer.bos_token_id,)


# --- models that think -------------------------------------------------------------------------------


def chatml(answer: str, prompt: str) -> str:
    """A template whose turns of the assistant, and whose prompt for one, are these."""
    return (
        "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n"
        + answer
        + "<|im_end|>\n"
        "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n" + prompt + "{% endif %}"
    )


PLAIN = "{{ m.content }}"
REASONED = "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
ALWAYS = "<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n"
SWITCHED = "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}"
OTHERWISE = "{% if thinking %}<think>{% else %}</think>{% endif %}"
HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}"
    "{% if m.role == 'assistant' %}{% if m.thinking %}<|channel|>analysis<|message|>{{ m.thinking }}<|end|>"
    "<|start|>assistant{% endif %}<|channel|>final{% endif %}<|message|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
NAMED = "{% set begin = '<seed:think>' %}{% set end = '</seed:think>' %}"


@pytest.mark.parametrize(
    ("template", "begins"),
    [
        (chatml(PLAIN, ""), ""),
        (chatml(PLAIN, "<think>\n"), "<think>\n\n</think>\n\n"),
        (chatml(PLAIN, "<think>"), "<think></think>\n\n"),
        (chatml(REASONED + PLAIN, "<think>\n"), "<think>\n\n</think>\n\n"),
        (chatml("<think>{{ m.reasoning }}</think>" + PLAIN, "<think>"), "<think></think>"),
        (chatml(ALWAYS + PLAIN, "<think>\n"), "<think>\n\n</think>\n\n"),
        (chatml(PLAIN, SWITCHED), "<think>\n\n</think>\n\n"),
        (chatml(PLAIN, OTHERWISE), "</think>"),
        (chatml(PLAIN, "[THINK]"), "[THINK][/THINK]\n\n"),
        (NAMED + chatml(PLAIN, "{{ begin }}"), "<seed:think></seed:think>\n\n"),
        ("{# <|/think|> #}" + chatml(PLAIN, "<|think|>"), "<|think|><|/think|>\n\n"),
        (
            "{# <|END_THINKING|> #}" + chatml(PLAIN, "<|START_THINKING|>"),
            "<|START_THINKING|><|END_THINKING|>\n\n",
        ),
        (
            "{# <|inner_suffix|> #}" + chatml(PLAIN, "<|inner_prefix|>"),
            "<|inner_prefix|><|inner_suffix|>\n\n",
        ),
        (
            "{# <|end_of_thought|> #}" + chatml(PLAIN, "<|begin_of_thought|>\n"),
            "<|begin_of_thought|>\n\n<|end_of_thought|>\n\n",
        ),
        (chatml(PLAIN, "<|channel>thought\n<channel|>"), "<|channel>thought\n<channel|>"),
    ],
)
def test_the_book_does_not_begin_inside_a_thought(template: str, begins: str) -> None:
    assert asked(template).endswith(f"A storm.<|im_end|>\n<|im_start|>assistant\n{begins}")


def test_the_answer_is_in_the_channel_of_answers() -> None:
    assert asked(HARMONY).endswith("A storm.<|end|><|start|>assistant<|channel|>final<|message|>")
    opened = HARMONY.removesuffix("{% endif %}") + "<|channel|>analysis<|message|>{% endif %}"
    final = "<|end|><|start|>assistant<|channel|>final<|message|>"
    assert asked(opened).endswith(f"<|start|>assistant<|channel|>analysis<|message|>{final}")


def test_what_a_person_says_opens_no_thought() -> None:
    shown = asked(chatml(PLAIN, ""), user="A tale of <think>")
    assert shown.endswith("A tale of <think><|im_end|>\n<|im_start|>assistant\n")


def test_a_thought_that_nobody_can_close_is_refused() -> None:
    with pytest.raises(TemploraError, match=r"opens a thought \(<\|ponder_think\|>\)") as caught:
        asked(chatml(PLAIN, "<|ponder_think|>"))
    assert caught.value.hint == "choose another --model"
