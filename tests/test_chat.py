"""Chat templates: dates, system turns, errors, special tokens, and models that think."""

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


def rendered(template: str, user: str = "A storm.") -> str:
    """The prompt before the answer of the model."""
    tokenizer = with_template(template)
    return str(tokenizer.decode(list(chat_ids(tokenizer, "Write.", user))))


def test_a_template_gets_the_same_date_every_day() -> None:
    assert rendered(DATED) == rendered(DATED) == f"{TODAY} {TODAY} Write.A storm."


def test_without_a_system_role_the_instruction_is_in_the_user_turn() -> None:
    assert rendered(STRICT) == "<|user|>Write.\n\nA storm.<|end|><|assistant|>"


def test_a_template_without_user_turns_is_refused() -> None:
    with pytest.raises(TemploraError, match="accepts no user message"):
        rendered("{{ raise_exception('never') }}")


def test_special_tokens_in_human_text_are_broken_up() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<think>"])
    assert as_plain_words(tokenizer, "A<|end|>B<think>") == "A< |end|>B< think>"
    assert first_token(tokenizer) == (tokenizer.bos_token_id,)


# --- models that think -------------------------------------------------------------------------------


def chatml(answer: str, prompt: str) -> str:
    """A ChatML template with this content in assistant turns, and this generation prompt."""
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
    ("template", "beginning"),
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
def test_a_thought_is_closed_before_the_book(template: str, beginning: str) -> None:
    assert rendered(template).endswith(f"A storm.<|im_end|>\n<|im_start|>assistant\n{beginning}")


def test_the_book_is_in_the_final_channel() -> None:
    assert rendered(HARMONY).endswith("A storm.<|end|><|start|>assistant<|channel|>final<|message|>")
    opened = HARMONY.removesuffix("{% endif %}") + "<|channel|>analysis<|message|>{% endif %}"
    final = "<|end|><|start|>assistant<|channel|>final<|message|>"
    assert rendered(opened).endswith(f"<|start|>assistant<|channel|>analysis<|message|>{final}")


def test_human_text_does_not_open_a_thought() -> None:
    prompt = rendered(chatml(PLAIN, ""), user="A tale of <think>")
    assert prompt.endswith("A tale of <think><|im_end|>\n<|im_start|>assistant\n")


def test_a_thought_with_an_unknown_end_is_refused() -> None:
    with pytest.raises(TemploraError, match=r"opens a reasoning block \(<\|ponder_think\|>\)") as caught:
        rendered(chatml(PLAIN, "<|ponder_think|>"))
    assert caught.value.hint == "choose another --model"
