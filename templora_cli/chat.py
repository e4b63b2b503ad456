"""The chat template of a model, asked so that it says the same every time."""

from __future__ import annotations

from typing import Any

from templora_cli.errors import TemploraError

TODAY = "26 Jul 2024"
"""What a template that tells the date says: a resumed book has the prompt that it had on another day."""
STOPPED_CLOCK = "{%- macro strftime_now(form) -%}" + TODAY + "{%- endmacro %}"
"""Before a template that looks at the clock itself."""


def render_chat(tokenizer: Any, messages: list[dict[str, str]], **settings: Any) -> Any:
    """The messages in the model's chat template, as `apply_chat_template` returns them.

    None where the template refuses them: some have no turn of the system.
    """
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        template = STOPPED_CLOCK + template
    # A template that can think is asked not to: the book follows at once.
    fixed = {"enable_thinking": False, "date_string": TODAY}
    try:
        return tokenizer.apply_chat_template(messages, chat_template=template, **fixed, **settings)
    except Exception as error:  # jinja's TemplateError: templates raise their own
        if type(error).__module__.split(".")[0] != "jinja2":
            raise
        return None


def chat_ids(tokenizer: Any, system: str, user: str) -> tuple[int, ...]:
    """Token ids of an instruction and a request, to where the model's answer begins."""
    both = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    merged = [{"role": "user", "content": f"{system}\n\n{user}"}]
    for messages in (both, merged):
        ids = render_chat(tokenizer, messages, add_generation_prompt=True, return_dict=False)
        if ids is not None:
            return tuple(ids)
    raise TemploraError("the chat template of this model takes no user's turn", "choose another --model")


def as_plain_words(tokenizer: Any, text: str) -> str:
    """`text` with nothing in it that the tokenizer would take for one of its special tokens."""
    for token in tokenizer.added_tokens_decoder.values():
        if token.special and token.content in text:
            text = text.replace(token.content, f"{token.content[0]} {token.content[1:]}")
    return text


def first_token(tokenizer: Any) -> tuple[int, ...]:
    """What a text begins with where nothing is said: the model needs a token to go on from.

    Raises TemploraError where it has none.
    """
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if start is None:
        raise TemploraError("this model has no token that begins a text", "give a --premise")
    return (start,)
