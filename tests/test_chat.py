"""Chat templates: dates, system turns, errors and special tokens."""

from __future__ import annotations

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
)


def test_a_template_gets_the_same_date_every_day() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = DATED
    text = tokenizer.decode(list(chat_ids(tokenizer, "Write.", "A storm.")))
    assert text == f"{TODAY} {TODAY} Write.A storm."
    assert chat_ids(tokenizer, "Write.", "A storm.") == chat_ids(tokenizer, "Write.", "A storm.")


def test_without_a_system_role_the_instruction_is_in_the_user_turn() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = STRICT
    text = tokenizer.decode(list(chat_ids(tokenizer, "Write.", "A storm.")))
    assert text == "<|user|>Write.\n\nA storm.<|end|>"


def test_a_template_without_user_turns_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(TemploraError, match="takes no user's turn"):
        chat_ids(tokenizer, "Write.", "A storm.")


def test_special_tokens_in_human_text_become_plain_words() -> None:
    tokenizer = byte_tokenizer()
    assert as_plain_words(tokenizer, "A<|end|>B") == "A< |end|>B"
    assert first_token(tokenizer) == (tokenizer.bos_token_id,)
