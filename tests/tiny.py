"""The model of the fast tests."""

from benchmarks.tiny_model import byte_tokenizer, save_tiny_model

__all__ = ["byte_tokenizer", "save_tiny_model"]
