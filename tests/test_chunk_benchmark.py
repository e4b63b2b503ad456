"""The yardstick: its reference and its counts against sums by hand, and that a run reports all it says."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import typer
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig
from typer.testing import CliRunner

from benchmarks import bounds, loop, synthetic
from benchmarks.__main__ import app
from benchmarks.chunk import (
    Measured,
    compare,
    measure,
    medians,
    process,
    ratios,
    report_of,
    show,
    usual_sides,
)
from benchmarks.reference import Reference
from benchmarks.sides import begin, one_chunk, rates
from benchmarks.subject import Cost, Subject, Synthetic
from templora_cli.config import SessionConfig
from templora_cli.engine.training.loss import chunk_nll
from templora_cli.sessions.steps import committed_steps, read_chunks

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
TINY = LlamaConfig(
    vocab_size=384,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    tie_word_embeddings=True,
    attn_implementation="eager",  # torch counts the operations of no other one on a CPU
)
# Its weights by hand: query and out, key and value, gate, up and down, of two layers; and the head.
FIRST_INPUTS = 64 * 64 + 2 * 64 * 32
BLOCKS = 2 * (FIRST_INPUTS + 64 * 64 + 3 * 64 * 128)
HEAD = 384 * 64
NORMS = 5 * 64
RANK = 64
ADAPTER_INPUTS = 3 * RANK * 64
ADAPTER = 2 * RANK * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 128))


SMALL = bounds.Sizes(read_bytes=1 << 20, rows=64)
"""The machine is measured in milliseconds."""


def thread() -> ThreadPoolExecutor:
    """In place of a process: this one has torch already."""
    return ThreadPoolExecutor(1)


compare_here = partial(compare, start=thread, measure_machine=partial(rates, sizes=SMALL))


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def learnt_a_little(made: Reference) -> Reference:
    """The same adapter each time, and one that does something."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in made.module.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return made


def test_the_reference_learns_what_adamw_by_hand_learns(tiny_model: Path) -> None:
    made = learnt_a_little(Reference(plain(tiny_model), dropout=0.0))
    hand = learnt_a_little(Reference(plain(tiny_model), dropout=0.0))
    context, chunk = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[9, 10, 11]])
    losses = made.learn(context, chunk)

    learnt = [p for p in hand.module.parameters() if p.requires_grad]
    first, second = ([torch.zeros_like(p) for p in learnt] for _ in range(2))
    by_hand = []
    for step in (1, 2):
        logits = hand.module(input_ids=torch.cat([context, chunk], -1)).logits[0, 3:6]
        loss = cross_entropy(logits, chunk[0])
        by_hand.append(loss.item())
        for p, m, v, g in zip(learnt, first, second, torch.autograd.grad(loss, learnt), strict=True):
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g * g)
            with torch.no_grad():
                p -= 5e-5 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    assert losses == pytest.approx(by_hand, rel=1e-5) and losses[1] < losses[0]
    ours = [p for p in made.module.parameters() if p.requires_grad]
    for one, other in zip(ours, learnt, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("merge", [True, False])
def test_the_reference_writes_greedily_with_the_adapter_and_a_penalty(tiny_model: Path, merge: bool) -> None:
    made = learnt_a_little(Reference(plain(tiny_model), merge=merge))
    weight = made.module.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight
    before = weight.clone()
    prompt = torch.tensor([[5, 6, 7, 8]])

    def by_hand(penalty: float, end: int) -> list[int]:
        ids = prompt.tolist()[0]
        with torch.no_grad():
            while len(ids) < 16:
                scores = made.module(input_ids=torch.tensor([ids])).logits[0, -1]
                for token in set(ids):
                    scores[token] *= penalty if scores[token] < 0 else 1 / penalty
                scores[end] = -torch.inf
                ids.append(int(scores.argmax()))
        return ids

    made.module.eval()
    settings = made.module.get_base_model().generation_config
    settings.eos_token_id = by_hand(1.12, settings.eos_token_id)[4]  # it would come at once
    sequence, (first, last) = made.generate(prompt, 12, time.perf_counter)
    assert first < last
    torch.testing.assert_close(weight, before)  # taken out again
    assert sequence.tolist() == [by_hand(1.12, settings.eos_token_id)]
    assert sequence.tolist() != [by_hand(1.0, settings.eos_token_id)]


def test_operations_are_those_that_torch_counts() -> None:
    made = Reference(synthetic.build(TINY, CPU, torch.float32, nf4=False), dropout=0.0)
    work = bounds.Work.of(made.module)
    assert (work.blocks, work.head, work.adapter) == (BLOCKS, HEAD, ADAPTER)
    assert (work.queries, work.cached, work.windows) == (64, 64, (None, None))
    with FlopCounterMode(display=False) as counter:
        chunk_nll(made.module, range(20), range(30)).mean().backward()
    places = 20 + 30 - 1
    attention = 2 * 12 * 64 * (places * (places + 1) // 2)  # a place sees those before it and itself
    products = 4 * places * BLOCKS + 6 * places * ADAPTER + 4 * 30 * HEAD
    assert bounds.step_flops(work, 20, 30) == products + attention
    # Torch leaves out the gradient of the first layer's input, and counts what a mask then hides.
    left_out = 2 * places * (FIRST_INPUTS + ADAPTER_INPUTS)
    assert counter.get_total_flops() == products - left_out + 2 * 12 * 64 * places**2


def test_bytes_of_the_weights_in_each_form() -> None:
    module = Reference(synthetic.build(TINY, CPU, torch.float32, nf4=False)).module
    assert bounds.weight_bytes(module, "merged") == 4 * (BLOCKS + HEAD + NORMS)
    assert bounds.weight_bytes(module, "live") == 4 * (BLOCKS + HEAD + NORMS + ADAPTER)
    rows = 2 * (64 + 64 + 2 * 32 + 2 * 128 + 64) + 384
    assert bounds.weight_bytes(module, "int8") == BLOCKS + HEAD + 4 * rows + 4 * NORMS


def test_four_bits_are_counted_with_their_scales_and_the_scales_of_those() -> None:
    module = synthetic.build(TINY, CPU, torch.float32, nf4=True)
    assert bounds.Work.of(module).blocks == BLOCKS
    # Every 64 weights have a scale of a byte, every 256 of these one of four; in 14 linear layers.
    of_scales = 4 * sum(
        -(-weights // (64 * 256)) for weights in 2 * [4096, 2048, 2048, 4096, 8192, 8192, 8192]
    )
    held = BLOCKS // 2 + BLOCKS // 64 + of_scales
    assert bounds.weight_bytes(module, "live") == held + 4 * (HEAD + NORMS)


def test_bytes_of_the_cache_are_those_that_the_layers_see() -> None:
    work = bounds.Work(0, 0, 0, queries=8, cached=16, windows=(None, 6))
    # After a prompt of 4, the second, third and fourth token see 5, 6 and 7 places, or 6 at most.
    assert bounds.cache_bytes(work, 4, 4, itemsize=2) == 16 * 2 * (18 + 17) / 3
    assert bounds.cache_bytes(work, 4, 1, itemsize=2) == 0


def test_the_machine_is_measured() -> None:
    found = rates("cpu", SMALL)
    assert 1e8 < found["read_bandwidth"] < 1e13 and 1e8 < found["product_rate"] < 1e15


@pytest.mark.parametrize("nf4", [False, True])
def test_a_synthetic_model_is_the_same_in_every_process(nf4: bool) -> None:
    one = synthetic.build(TINY, CPU, torch.float32, nf4=nf4)
    torch.rand(1)  # another state of the process's own random numbers
    other = synthetic.build(TINY, CPU, torch.float32, nf4=nf4)
    linear = one.model.layers[1].mlp.up_proj
    assert (type(linear).__name__ == "Linear4bit") == nf4
    assert type(one.lm_head) is torch.nn.Linear and one.lm_head.weight is one.model.embed_tokens.weight
    assert not torch.equal(linear.weight, one.model.layers[0].mlp.up_proj.weight)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        logits = one(ids).logits
        assert torch.equal(logits, other(ids).logits)
    assert logits.isfinite().all() and logits.std() > 0


def test_every_shape_has_a_name() -> None:
    assert set(get_args(Synthetic)) == synthetic.CONFIGS.keys()
    with torch.device("meta"):
        sizes = {
            name: AutoModelForCausalLM.from_config(config).num_parameters()
            for name, config in synthetic.CONFIGS.items()
        }
    assert {name: round(size / 1e8) for name, size in sizes.items()} == {
        "135m": 1,
        "1b": 12,
        "7b": 67,
        "14b": 148,
    }


def test_the_loop_makes_a_chunk_and_commits_it(tiny_model: Path) -> None:
    subject = Subject("cpu", tiny_model, None, 32, 24)
    side = loop.load(subject, "default", "generated")
    side.config = replace(side.config, session=SessionConfig(keep_checkpoints=2, grid_checkpoints=0))
    before = {name: weight.clone() for name, weight in side.state.adapter.items()}
    for _ in range(4):
        seconds = side.chunk(list(range(1, 33)), list(range(24)), time.perf_counter)
        assert all(seconds[phase] > 0 for phase in ("prompt", "decode", "score", "train", "commit"))
    assert any(not torch.equal(weight, before[name]) for name, weight in side.state.adapter.items())
    chunks = read_chunks(side.steps)
    assert [len(chunk["tokens"]) for chunk in chunks] == [24] * 4 and chunks[0]["origin"] == "generated"
    whole = [step for step in committed_steps(side.steps) if (step / "adapter.safetensors").exists()]
    assert len(whole) == 2


def test_the_work_of_given_text_is_that_of_its_windows(tiny_model: Path) -> None:
    side = loop.load(Subject("cpu", tiny_model, None, 400, 300), "default", "human")
    given = [number % 200 for number in range(300)]
    passes, flops = side.train_work(given + given[:100], given)
    work, learning = bounds.Work.of(side.module), side.config.human
    assert (passes, learning.window_tokens, learning.context_tokens) == (learning.epochs, 256, 256)
    # The header is the first token of the prompt.
    steps = bounds.step_flops(work, 1 + 256, 256) + bounds.step_flops(work, 1 + 256, 44)
    assert flops == passes * steps


def test_a_loop_over_random_weights() -> None:
    config = loop.config_of(Subject("cpu", None, "135m", 16, 8), "paper")
    side = loop.Loop(loop.synthetic_model(TINY, config), config, "generated")
    side.chunk(list(range(1, 17)), list(range(8)), time.perf_counter)
    assert len(side.state.tokens) == 15 + 8 and side.config.train.recipe == "paper"
    assert side.config.generated.lr == 5e-5 and side.config.train.dropout == 0.05


def cost(decode: float, train: float, peak: int, tokens: int = 11) -> Cost:
    seconds = {"prompt": 1.0, "decode": decode, "train": train}
    return Cost(seconds, tokens, read_bytes=50.0, passes=2, train_flops=600, peak_bytes=peak)


def test_medians_shares_and_ratios() -> None:
    machine = {"read_bandwidth": 1000.0, "product_rate": 200.0}
    slow = Measured([cost(4, 12, 300), cost(5, 12, 300), cost(6, 15, 400)])
    fast = Measured([cost(2, 6, 100), cost(1, 6, 100), cost(1, 6, 200)])
    figures = medians(slow, machine)
    assert figures["total"] == 18 and figures["total_range"] == [17, 22]
    assert figures["seconds"] == {"prompt": 1, "decode": 5, "score": 0, "train": 12, "commit": 0}
    assert figures["tokens_per_second"] == 10 / 5
    assert figures["decode_share"] == 2 * 50 / 1000 and figures["train_share"] == 600 / 12 / 200
    assert figures["peak_bytes"] == 400
    found = ratios(fast, slow)
    assert found["total"] == {"ratio": 18 / 8, "min": 17 / 9, "max": 22 / 8}
    assert found["tokens_per_second"] == {"ratio": 10 / 2, "min": 2, "max": 6}
    assert found["train_pass"]["ratio"] == 2 and found["peak_bytes"]["ratio"] == 2
    read = Measured([cost(0, 3, 50, tokens=0)])
    assert medians(read, machine)["total"] is None and "total" not in ratios(read, slow)


def test_a_run_reports_every_side_by_phase(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = Path("book.txt")
    book.write_text("The lamp burns all night over the bay. " * 4, "utf-8")
    subject = Subject("cpu", None, None, context_tokens=32, chunk_tokens=24)
    raw = compare_here(subject, str(tiny_model), ["live", "eager", *usual_sides()], rounds=2, book=book)
    show(**json.loads(json.dumps(raw)))
    tables = capsys.readouterr().out
    assert raw["settings"] == {
        "model": str(tiny_model),
        "chunk_tokens": 24,
        "context_tokens": 32,
        "rounds": 2,
        "checkpointing": "off",
        "prompts": "book.txt",
    }
    assert raw["machine"]["read_bandwidth"] > 0 and raw["machine"]["product_rate"] > 0
    wanted = {
        "reference": {"prompt", "decode", "train"},
        "live": {"prompt", "decode", "train"},
        "paper": {"prompt", "decode", "score", "train", "commit"},
        "default": {"prompt", "decode", "score", "train", "commit"},
        "eager": {"prompt", "decode", "score", "train", "commit"},
        "human": {"score", "train", "commit"},
    }
    for name, side in raw["sides"].items():
        assert side["error"] is None and len(side["costs"]) == 2
        assert {phase for phase, seconds in side["seconds"].items() if seconds} == wanted[name]
        assert side["train_share"] > 0 and 1e7 < side["peak_bytes"] < 1e11
        written = name != "human"
        assert all(
            (side[key] is not None) == written for key in ("total", "tokens_per_second", "decode_share")
        )
        assert f"\n| {name} |" in tables
    assert raw["sides"].keys() == wanted.keys()
    merged, live = (raw["sides"][name]["costs"][0]["read_bytes"] for name in ("reference", "live"))
    assert live > merged
    assert raw["sides"]["default"]["ratios"].keys() == {
        *("total", "tokens_per_second", "train_pass", "train", "peak_bytes")
    }


def test_a_side_that_fails_is_left_out(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A chunk of 4 tokens is below what templora allows, and all the same to the reference.
    subject = Subject("cpu", tiny_model, None, context_tokens=8, chunk_tokens=4)
    measured = measure(subject, list(range(20)), ["live", "default"], rounds=1, start=thread)
    assert len(measured["live"].costs) == 1 and measured["live"].error is None
    assert not measured["default"].costs and "chunk_tokens" in str(measured["default"].error)
    machine = {"machine": "", "device": "", "torch": "", "threads": 1, "read_bandwidth": 1, "product_rate": 1}
    show({}, machine, report_of(measured, machine))
    assert "default ended early: TemploraError" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"names": ["fastest"]}, "no side fastest"),
        ({"subject": Subject("cpu", None, "7b", 8, 8)}, "no tokenizer"),
        ({"subject": Subject("cpu", None, None, 8, 4096)}, "are needed"),
        ({"model": "no-such-model"}, "no-such-model"),
    ],
)
def test_what_cannot_be_measured_is_said(tiny_model: Path, wanted: dict[str, Any], said: str) -> None:
    book = Path("book.txt")
    book.write_text("The lamp burns.", "utf-8")
    usual = {"subject": Subject("cpu", None, None, 8, 8), "model": str(tiny_model), "names": ["live"]}
    with pytest.raises(typer.BadParameter, match=said):
        compare_here(**{**usual, **wanted}, rounds=1, book=book)


def test_the_command_refuses_what_cannot_be_measured() -> None:
    result = CliRunner().invoke(app, ["chunk", "--side", "fastest"])
    assert result.exit_code == 2 and "no side fastest" in result.output


def test_a_command_loads_nothing_heavy_before_it_starts_its_processes() -> None:
    script = "import sys, benchmarks.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    loaded = done.stdout.split()
    assert "benchmarks.sides" in loaded
    assert not [name for name in loaded if name.startswith(("torch", "templora_cli.engine"))]


def test_the_reference_is_a_process_that_templora_does_not_reach(tiny_model: Path) -> None:
    subject = Subject("cpu", tiny_model, None, context_tokens=8, chunk_tokens=8)
    with process() as one:
        one.submit(begin, "reference", subject).result()
        assert one.submit(one_chunk, "reference", list(range(8)), list(range(8))).result().decoded_tokens == 8
        loaded = one.submit(eval, "list(__import__('sys').modules)").result()
    assert "torch" in loaded and "bitsandbytes" in loaded
    assert not [name for name in loaded if name.startswith("templora_cli")]
