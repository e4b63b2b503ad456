"""Rewinding: every backend goes back, and the decoded text has no banned phrase."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from templora_cli.config import DecodeConfig
from templora_cli.engine.decoding.banned_phrases import BannedPhrases
from templora_cli.engine.decoding.cpu.int8_backend import Int8Backend
from templora_cli.engine.decoding.cuda.graph_backend import GraphBackend
from templora_cli.engine.decoding.eager import EagerBackend
from templora_cli.engine.decoding.protocols import Backend, DecodedToken, Sampler, Stop
from templora_cli.engine.decoding.rewinding import (
    MAX_ALTERNATIVES,
    MAX_DROPPED,
    ForbiddingSampler,
    decode_without,
    remaining_phrases,
)
from templora_cli.engine.decoding.sampling import DeviceSampler, HostSampler, sampler_for
from templora_cli.text import TextStream
from tests.engine.decoding.cpu.test_int8_backend import RecordingSampler
from tests.engine.decoding.cpu.test_int8_decoder import CONFIGS, IDS, adapted_model
from tests.engine.models.tiny_kinds import KINDS

PROMPT, CHUNK, OTHER = IDS[:30], IDS[30:40], IDS[50:60]
"""A sliding window of `CONFIGS` is full after 24 tokens."""
SLIDING = ("mistral, sliding", "qwen3", "gemma3")
BACKENDS: dict[str, Callable[[nn.Module], Backend]] = {
    "int8": Int8Backend,
    "graph": lambda module: GraphBackend(module, block=64),
    "eager": EagerBackend,
}


def decoded(backend: Backend, prompt: Sequence[int], tokens: Sequence[int]) -> list[Tensor]:
    """The logits from which these tokens are drawn, after a prompt."""
    sampler = RecordingSampler(tokens)
    list(backend.decode(prompt, sampler=sampler, max_tokens=len(tokens), stop=lambda tokens: False))
    return sampler.logits


def rewound(backend: Backend, prompt: Sequence[int], *, length: int) -> list[Tensor]:
    """Those of `OTHER` after `prompt` and the first `length` tokens of `CHUNK`, which was decoded whole."""
    decoded(backend, prompt, CHUNK)
    return decoded(backend, [*prompt, *CHUNK[:length]], OTHER)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("make", BACKENDS.values(), ids=BACKENDS)
def test_after_a_rewind_logits_are_those_of_decoding_from_scratch(
    make: Callable[[nn.Module], Backend], name: str
) -> None:
    module = adapted_model(name)
    for length in (0, 1, 7, 10):
        ours = rewound(make(module), PROMPT, length=length)
        theirs = decoded(make(module), PROMPT, [*CHUNK[:length], *OTHER])[length:]
        if length and (name not in SLIDING or make is not EagerBackend):
            assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True)), "bit for bit"
        else:  # the last token of the prompt is read alone; or the text is read again at once
            tolerance = 0.05 if make is Int8Backend else 1e-4
            torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_models_that_cannot_go_back_read_the_text_again(kind: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = AutoModelForCausalLM.from_config(KINDS[kind]()).eval()
    for prompt in (PROMPT, PROMPT[:5]):
        ours = rewound(EagerBackend(module), prompt, length=6)
        theirs = decoded(EagerBackend(module), prompt, [*CHUNK[:6], *OTHER])[6:]
        torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=1e-3, atol=1e-4)


def forward_passes(module: nn.Module) -> list[int]:
    """The numbers of tokens of all following forward passes."""
    lengths: list[int] = []

    def record(module: nn.Module, args: Any, kwargs: dict[str, Tensor]) -> None:
        lengths.append(kwargs["input_ids"].shape[1])

    module.get_base_model().register_forward_pre_hook(record, with_kwargs=True)  # type: ignore[operator]
    return lengths


@pytest.mark.parametrize("kind", ["free_cache", "reset", "adapter_changed", None])
def test_the_eager_backend_reads_one_token_to_go_back(kind: str | None) -> None:
    module = adapted_model("llama")
    backend, lengths = EagerBackend(module), forward_passes(module)
    decoded(backend, PROMPT, CHUNK)
    assert lengths == [30] + [1] * 9
    lengths.clear()
    if kind:
        getattr(backend, kind)()
    decoded(backend, [*PROMPT, *CHUNK[:4]], OTHER[:2])
    assert lengths == ([34, 1] if kind else [1, 1])
    lengths.clear()
    decoded(backend, [*PROMPT[:20], *OTHER], OTHER[:1])
    assert lengths == [30], "another prompt is read at once, as without the one before"


# --- without phrases ---------------------------------------------------------------------------------


class Typewriter:
    """A backend whose tokens are the bytes of a text; after a rewind it goes on with another one."""

    exact = True

    def __init__(self, *texts: str) -> None:
        self.texts = [list(text.encode()) for text in texts]
        self.calls: list[tuple[str, int]] = []
        self.forbidden: list[dict[int, list[int]]] = []
        """What its sampler may not draw, at each call."""
        self.count = 0
        """Tokens decoded so far."""

    def decode(
        self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
    ) -> Iterator[DecodedToken]:
        if isinstance(sampler, ForbiddingSampler):
            self.forbidden.append(sampler.forbidden)
        self.calls.append((bytes(prompt).decode(errors="replace"), max_tokens))
        for token in self.texts.pop(0)[:max_tokens]:
            self.count += 1
            yield DecodedToken(token)

    def reset(self) -> None: ...

    def free_cache(self) -> None: ...

    def adapter_changed(self) -> None: ...


def text_stream(before: Sequence[int]) -> Callable[[int], str]:
    return TextStream(text_of, before).push


def text_of(tokens: Sequence[int]) -> str:
    return bytes(tokens).decode(errors="replace")


def written(
    backend: Backend, *phrases: str, tokens: int = 100, book: str = "", end_tokens: Sequence[int] = ()
) -> str:
    decoding = decode_without(
        BannedPhrases(phrases),
        backend,
        b"prompt ",
        sampler=RecordingSampler(),
        max_tokens=tokens,
        end_tokens=end_tokens,
        text_stream=text_stream,
        book=book.encode(),
    )
    return text_of([token.id for token in decoding])


def test_decoding_goes_back_to_the_beginning_of_the_phrase() -> None:
    backend = Typewriter("It was a cold heart, and", "warm heart.")
    assert written(backend, "cold heart") == "It was a warm heart."
    assert backend.calls == [("prompt ", 100), ("prompt It was a ", 91)]


def test_a_word_may_go_on_beyond_a_phrase() -> None:
    backend = Typewriter("The colder hearts.")
    assert written(backend, "cold", "heart") == "The colder hearts."
    assert len(backend.calls) == 1


def test_a_phrase_at_the_end_of_a_chunk_is_dropped_too() -> None:
    assert written(Typewriter("so cold", "warm"), "cold", tokens=7) == "so warm"
    assert written(Typewriter("so cold\x00", "warm\x00!"), "cold", end_tokens=[0]) == "so warm\x00"


def test_a_phrase_that_begins_before_the_chunk_forbids_its_first_token() -> None:
    backend = Typewriter(" heart beat", " day")
    assert written(backend, "cold heart", book="It was a cold") == " day"
    assert backend.calls[1] == ("prompt ", 100)
    assert written(Typewriter(" heart"), "cold", book="It was cold") == " heart", "that is in the book"


def test_a_character_of_several_tokens_is_dropped_whole() -> None:
    backend = Typewriter("黑暗中", "光明")
    assert written(backend, "暗") == "黑光明"
    assert backend.calls[1][0] == "prompt 黑"


def test_other_tokens_are_forbidden_one_by_one_and_in_the_end_the_phrase_stays() -> None:
    words = [f"{letter}ad news." for letter in "bcdefghijklmnopqrstuvwxyz"]
    backend = Typewriter(*words)
    text = written(backend, *(word[:3] for word in words))
    assert text == words[MAX_ALTERNATIVES] and len(backend.calls) == MAX_ALTERNATIVES + 1
    left = remaining_phrases(BannedPhrases([text[:3], "bad"]), text_stream, b"", text.encode())
    assert left == [text[:3]]


def test_a_rewind_allows_the_tokens_that_were_forbidden_after_it() -> None:
    backend = Typewriter("a bad ", "good end.", "the end")
    assert written(backend, "bad", "a good end") == "the end"
    assert backend.forbidden == [{}, {9: [ord("b")]}, {7: [ord("a")]}]


def test_the_work_for_a_chunk_is_bounded() -> None:
    """Each first word is tried with all second words before the phrase of three words is complete."""
    first, second = ([letter + end for letter in "abcdefghijklmnopqrst"] for end in "xy")
    texts = [*(f"{word} " for word in first), *(f"{word} " for word in second), "zz "]
    count = 0

    class Uniform(Typewriter):
        def decode(
            self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
        ) -> Iterator[DecodedToken]:
            nonlocal count
            ids = list(prompt)
            for _ in range(max_tokens):
                logits = torch.full((len(texts),), -torch.inf)
                logits[[slice(0, 20), slice(20, 40), slice(40, 41)][len(ids) % 3]] = 0
                ids.append(sampler.draw(ids, logits))
                count += 1
                yield DecodedToken(ids[-1])

    decoding = decode_without(
        BannedPhrases([*second, *(f"{one} {other} zz" for one in first for other in second)]),
        Uniform(),
        (),
        sampler=sampler_for(DecodeConfig(temperature=1.0), torch.Generator().manual_seed(0), ()),
        max_tokens=12,
        text_stream=lambda before: texts.__getitem__,
        book=(),
    )
    assert len(list(decoding)) == 12
    assert count <= (MAX_DROPPED + 2) * 12


def test_text_is_released_as_soon_as_no_phrase_can_begin_in_it() -> None:
    backend = Typewriter("So cold, co")
    decoding = decode_without(
        BannedPhrases(["cold heart", "colder"]),
        backend,
        b"",
        sampler=RecordingSampler(),
        max_tokens=50,
        text_stream=text_stream,
        book=b"",
    )
    released = [(chr(token.id), backend.count) for token in decoding]
    held = [(char, len("So cold,")) for char in "cold"]
    assert released == [*zip("So ", (1, 2, 3), strict=True), *held, (",", 8), (" ", 9), ("c", 11), ("o", 11)]


def test_without_phrases_the_backend_is_asked_once() -> None:
    backend = Typewriter("Anything")
    assert written(backend) == "Anything" and backend.calls == [("prompt ", 100)]


@pytest.mark.parametrize("kind", [HostSampler, DeviceSampler])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_forbidden_token_is_not_drawn_at_its_position(kind: Any, temperature: float) -> None:
    config = DecodeConfig(temperature=temperature, repetition_penalty=1.3, dry_multiplier=1.0, top_k=2)
    sampler = ForbiddingSampler(kind(config, torch.Generator().manual_seed(0), ()))
    sampler.forbidden = {3: [1, 2]}
    logits = torch.tensor([0.0, 9.0, 8.0, 1.0])
    assert {sampler.draw([1, 2, 1], logits) for _ in range(50)} <= {0, 3}
    assert {sampler.draw([1, 2], logits) for _ in range(50)} <= {1, 2}
    assert logits.tolist() == [0, 9, 8, 1], "their NLL is computed afterwards"


PHRASES = st.lists(
    st.sampled_from(["ab", "ba ab", "b", "a a", "abba", "a b a b", "a c a", "c. a", "b a c"]),
    min_size=1,
    max_size=5,
    unique=True,
)


@settings(max_examples=300)
@given(phrases=PHRASES, seed=st.integers(0, 1000), book=st.text("ab ", max_size=6))
def test_the_text_has_no_phrase_and_depends_on_the_seed_alone(
    phrases: list[str], seed: int, book: str
) -> None:
    """Tokens of up to two letters, each equally likely; few phrases, so that there is a way around."""
    texts = ["a", "b", " ", "ab", " b", ".", "c", ""]

    class Uniform(Typewriter):
        def decode(
            self, prompt: Sequence[int], *, sampler: Sampler, max_tokens: int, stop: Stop
        ) -> Iterator[DecodedToken]:
            ids = list(prompt)
            for _ in range(max_tokens):
                ids.append(sampler.draw(ids, torch.zeros(len(texts))))
                yield DecodedToken(ids[-1])

    def to_text(before: Sequence[int]) -> Callable[[int], str]:
        return texts.__getitem__

    def run() -> list[int]:
        config = DecodeConfig(temperature=1.0, top_p=1.0, repetition_penalty=1.0)
        decoding = decode_without(
            BannedPhrases(phrases),
            Uniform(),
            (),
            sampler=sampler_for(config, torch.Generator().manual_seed(seed), ()),
            max_tokens=25,
            text_stream=to_text,
            book=[texts.index(char) for char in book],
        )
        return [token.id for token in decoding]

    tokens = run()
    assert len(tokens) == 25 and tokens == run()
    before = [texts.index(char) for char in book]
    assert not remaining_phrases(BannedPhrases(phrases), to_text, before, tokens)
