"""Render the chat template of a model: the same text on any day, with thinking turned off."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from templora_cli.engine.models.reasoning_tags import closing_of, is_reasoning_tag, open_tags
from templora_cli.errors import TemploraError

TODAY = "26 Jul 2024"
"""The date in templates that print one, so that the prompt of a book stays the same on another day."""
STOPPED_CLOCK = "{%- macro strftime_now(form) -%}" + TODAY + "{%- endmacro %}"
"""Put before a template that reads the clock itself."""
WITHOUT_THOUGHT = {"enable_thinking": False, "thinking": False}
"""Template variables, by either of their names, that turn off thinking: the book must follow at once."""
USER, THOUGHT, ANSWER = "\ue003", "\ue004", "\ue005"
"""Private-use characters that mark texts, to find out what a template puts between them."""

Messages = Sequence[dict[str, str]]


def render_chat(tokenizer: Any, messages: Messages, *, prompt: bool) -> str | None:
    """The messages in the model's chat template; with `prompt`, up to where the assistant's answer begins.

    None if the template refuses them: some have no system message. Raises TemploraError if it opens a
    reasoning block that cannot be closed.
    """
    text = _rendered(tokenizer, messages, prompt=prompt)
    if text is None or not prompt:
        return text
    user_only = _rendered(tokenizer, [{"role": "user", "content": USER}], prompt=True) or ""
    end = user_only.rpartition(USER)[2]
    return text.removesuffix(end) + _before_answer(tokenizer, end) if text.endswith(end) else text


def chat_ids(tokenizer: Any, system: str, user: str) -> tuple[int, ...]:
    """Token ids of a system and a user message, up to the beginning of the model's answer.

    Raises TemploraError as `render_chat` does, and if the template accepts no user message.
    """
    both = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    merged = [{"role": "user", "content": f"{system}\n\n{user}"}]
    for messages in (both, merged):
        text = render_chat(tokenizer, messages, prompt=True)
        if text is not None:
            return tuple(tokenizer.encode(text, add_special_tokens=False))
    raise TemploraError("the chat template of this model accepts no user message", "choose another --model")


def as_plain_words(tokenizer: Any, text: str) -> str:
    """`text` with a space inside each special token and reasoning tag, so that none is read as one."""
    for token in tokenizer.added_tokens_decoder.values():
        if (token.special or is_reasoning_tag(token.content)) and token.content in text:
            text = text.replace(token.content, f"{token.content[0]} {token.content[1:]}")
    return text


def first_token(tokenizer: Any) -> tuple[int, ...]:
    """The first token of a text without a prompt, as a tuple of one: the model needs a token to continue.

    Raises TemploraError if the tokenizer has none.
    """
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if start is None:
        raise TemploraError("this tokenizer has no BOS or EOS token", "give a --premise")
    return (start,)


def _rendered(tokenizer: Any, messages: Messages, *, prompt: bool, **variables: Any) -> str | None:
    """Render `messages`; `variables` override the defaults."""
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        template = STOPPED_CLOCK + template
    variables = {"date_string": TODAY, **WITHOUT_THOUGHT, **variables}
    try:
        return tokenizer.apply_chat_template(  # type: ignore[no-any-return]
            list(messages), chat_template=template, tokenize=False, add_generation_prompt=prompt, **variables
        )
    except Exception as error:  # jinja's TemplateError: templates raise their own
        if type(error).__module__.split(".")[0] != "jinja2":
            raise
        return None


def _before_answer(tokenizer: Any, end: str) -> str:
    """The text between a user message and the answer, with any reasoning block closed.

    `end` is the generation prompt of the template. If the template puts more text before an answer in the
    history of a chat, that text is used.
    """
    history = [{"role": "user", "content": USER}, {"role": "assistant", "content": ANSWER}]
    between = _between(_rendered(tokenizer, history, prompt=False), USER, ANSWER)
    if between is not None and between.startswith(end) and between[len(end) :].strip():
        end = between
    tags = open_tags(end)
    return end + _closing(tokenizer, end, tags) if tags else end


def _closing(tokenizer: Any, end: str, tags: Sequence[str]) -> str:
    """The text that closes the reasoning block open at `end`, from the template itself if it shows how."""
    answer = {"role": "assistant", "content": ANSWER}
    for key in ("reasoning_content", "reasoning", "thinking"):
        history = [{"role": "user", "content": USER}, {**answer, key: THOUGHT}]
        for may_think in (False, True):
            text = _rendered(tokenizer, history, prompt=False, **dict.fromkeys(WITHOUT_THOUGHT, may_think))
            closing = _between(text, THOUGHT, ANSWER)
            if closing is not None and not open_tags(end + closing):
                return closing
    vocabulary = tokenizer.get_chat_template() + " ".join(tokenizer.get_added_vocab())
    closings = [closing_of(tag, vocabulary) for tag in reversed(tags)]
    if None in closings:
        raise TemploraError(
            f"the chat template of this model opens a reasoning block ({tags[-1]}) and does not show how to "
            "close it",
            "choose another --model",
        )
    return ("\n" if end.endswith("\n") else "") + "".join(map(str, closings)) + "\n\n"


def _between(text: str | None, before: str, after: str) -> str | None:
    match = re.search(f"{before}(.*?){after}", text or "", re.DOTALL)
    return match and match[1]
