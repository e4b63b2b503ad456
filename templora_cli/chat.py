"""Render the chat template of a model, independently of the current date."""

from __future__ import annotations

from typing import Any

from templora_cli.errors import TemploraError

TODAY = "26 Jul 2024"
"""The date in templates that print one, so that the prompt of a book stays the same on another day."""
STOPPED_CLOCK = "{%- macro strftime_now(form) -%}" + TODAY + "{%- endmacro %}"
"""Put before a template that reads the clock itself."""


def render_chat(tokenizer: Any, messages: list[dict[str, str]], **settings: Any) -> Any:
    """The messages in the model's chat template, as `apply_chat_template` returns them.

    None if the template refuses them: some templates have no system message.
    """
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        template = STOPPED_CLOCK + template
    # No thinking: the book must follow at once.
    fixed = {"enable_thinking": False, "date_string": TODAY}
    try:
        return tokenizer.apply_chat_template(messages, chat_template=template, **fixed, **settings)
    except Exception as error:  # jinja's TemplateError, which templates also raise themselves
        if type(error).__module__.split(".")[0] != "jinja2":
            raise
        return None


def chat_ids(tokenizer: Any, system: str, user: str) -> tuple[int, ...]:
    """Token ids of a system and a user message, up to the beginning of the model's answer."""
    both = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    merged = [{"role": "user", "content": f"{system}\n\n{user}"}]
    for messages in (both, merged):
        ids = render_chat(tokenizer, messages, add_generation_prompt=True, return_dict=False)
        if ids is not None:
            return tuple(ids)
    raise TemploraError("the chat template of this model accepts no user message", "choose another --model")


def as_plain_words(tokenizer: Any, text: str) -> str:
    """`text` with a space inside each string that the tokenizer would read as a special token."""
    for token in tokenizer.added_tokens_decoder.values():
        if token.special and token.content in text:
            text = text.replace(token.content, f"{token.content[0]} {token.content[1:]}")
    return text


def first_token(tokenizer: Any) -> tuple[int, ...]:
    """The first token of a text without a prompt, as a tuple of one: the model needs a token to continue.

    Raises TemploraError if the tokenizer has none.
    """
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if start is None:
        raise TemploraError("this model has no token for the beginning of a text", "give a --premise")
    return (start,)
