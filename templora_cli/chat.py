"""The chat template of a model, asked so that it says the same every time and opens no thought."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from templora_cli.engine.models.thoughts import closing_of, is_thought_tag, open_tags
from templora_cli.errors import TemploraError

TODAY = "26 Jul 2024"
"""What a template that tells the date says: a resumed book has the prompt that it had on another day."""
STOPPED_CLOCK = "{%- macro strftime_now(form) -%}" + TODAY + "{%- endmacro %}"
"""Before a template that looks at the clock itself."""
WITHOUT_THOUGHT = {"enable_thinking": False, "thinking": False}
"""What templates of models that can think are told, by either name: the book follows at once."""
USER, THOUGHT, ANSWER = "\ue003", "\ue004", "\ue005"
"""Stand for texts while a template is asked what it puts between them: characters that none holds."""

Messages = Sequence[dict[str, str]]


def render_chat(tokenizer: Any, messages: Messages, *, prompt: bool) -> str | None:
    """The messages in the model's chat template; with `prompt` to where the words of its answer begin.

    None where the template refuses them: some have no turn of the system. Raises TemploraError where it opens
    a thought that cannot be closed.
    """
    text = _rendered(tokenizer, messages, prompt=prompt)
    if text is None or not prompt:
        return text
    asked = _rendered(tokenizer, [{"role": "user", "content": USER}], prompt=True) or ""
    end = asked.rpartition(USER)[2]
    return text.removesuffix(end) + _to_the_answer(tokenizer, end) if text.endswith(end) else text


def chat_ids(tokenizer: Any, system: str, user: str) -> tuple[int, ...]:
    """Token ids of an instruction and a request, to where the words of the model's answer begin.

    Raises TemploraError as `render_chat` does, and where the template takes no user's turn.
    """
    both = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    merged = [{"role": "user", "content": f"{system}\n\n{user}"}]
    for messages in (both, merged):
        text = render_chat(tokenizer, messages, prompt=True)
        if text is not None:
            return tuple(tokenizer.encode(text, add_special_tokens=False))
    raise TemploraError("the chat template of this model takes no user's turn", "choose another --model")


def as_plain_words(tokenizer: Any, text: str) -> str:
    """`text` with nothing in it that the model would take for one of its special tokens, or for a thought."""
    for token in tokenizer.added_tokens_decoder.values():
        if (token.special or is_thought_tag(token.content)) and token.content in text:
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


def _rendered(tokenizer: Any, messages: Messages, *, prompt: bool, **told: Any) -> str | None:
    """The messages in the chat template as it is, which is `told` this and that."""
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        template = STOPPED_CLOCK + template
    told = {"date_string": TODAY, **WITHOUT_THOUGHT, **told}
    try:
        return tokenizer.apply_chat_template(  # type: ignore[no-any-return]
            list(messages), chat_template=template, tokenize=False, add_generation_prompt=prompt, **told
        )
    except Exception as error:  # jinja's TemplateError: templates raise their own
        if type(error).__module__.split(".")[0] != "jinja2":
            raise
        return None


def _to_the_answer(tokenizer: Any, end: str) -> str:
    """What follows a user's words, where the template puts `end` there and the model would go on.

    To the place of an answer without a thought in the template's own rendering of one, if that goes on from
    there; else `end`, with the thought closed that it opens.
    """
    said = [{"role": "user", "content": USER}, {"role": "assistant", "content": ANSWER}]
    begins = _between(_rendered(tokenizer, said, prompt=False), USER, ANSWER)
    if begins is not None and begins.startswith(end) and begins[len(end) :].strip():
        end = begins
    tags = open_tags(end)
    return end + _closing(tokenizer, end, tags) if tags else end


def _closing(tokenizer: Any, end: str, tags: Sequence[str]) -> str:
    """What closes the thought that stands open at `end`, as the template itself does if it says how."""
    answer = {"role": "assistant", "content": ANSWER}
    for key in ("reasoning_content", "reasoning", "thinking"):
        said = [{"role": "user", "content": USER}, {**answer, key: THOUGHT}]
        for may_think in (False, True):
            text = _rendered(tokenizer, said, prompt=False, **dict.fromkeys(WITHOUT_THOUGHT, may_think))
            closing = _between(text, THOUGHT, ANSWER)
            if closing is not None and not open_tags(end + closing):
                return closing
    known = tokenizer.get_chat_template() + " ".join(tokenizer.get_added_vocab())
    closings = [closing_of(tag, known) for tag in reversed(tags)]
    if None in closings:
        raise TemploraError(
            f"the chat template of this model opens a thought ({tags[-1]}) that nothing tells how to close",
            "choose another --model",
        )
    return ("\n" if end.endswith("\n") else "") + "".join(map(str, closings)) + "\n\n"


def _between(text: str | None, before: str, after: str) -> str | None:
    found = re.search(f"{before}(.*?){after}", text or "", re.DOTALL)
    return found and found[1]
