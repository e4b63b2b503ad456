"""A Hugging Face Hub in memory, which records every request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from huggingface_hub import errors
from huggingface_hub.utils import filter_repo_objects

from templora_cli.engine.models.hub import Hub

SHA = "0123456789abcdef0123456789abcdef01234567"
NEWER = "89abcdef0123456789abcdef0123456789abcdef"
CONFIG = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}).encode()


def refused(kind: type[Exception]) -> Exception:
    """An error of huggingface_hub, made without `__init__`, whose arguments differ between versions."""
    return kind.__new__(kind)


@dataclass
class FakeHub:
    """A Hub with the files of models by their ids; with `failure`, every request raises it."""

    cache: Path
    models: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    revision: str = SHA
    licence: str = "apache-2.0"
    failure: Exception | None = None
    gated: bool = False
    requests: list[str] = field(default_factory=list)

    def hub(self) -> Hub:
        return Hub(self.info, self.file, self.snapshot, self.search, self.cache)

    def info(self, name: str) -> Any:
        self._record(f"info {name}")
        ids = {model_id.lower(): model_id for model_id in self.models}
        if name.lower() not in ids:
            raise refused(errors.RepositoryNotFoundError)
        model_id = ids[name.lower()]
        files = [
            SimpleNamespace(rfilename=file, size=len(data)) for file, data in self.models[model_id].items()
        ]
        tags = ["text-generation", f"license:{self.licence}"]
        return SimpleNamespace(id=model_id, sha=self.revision, siblings=files, tags=tags, card_data=None)

    def file(self, name: str, file: str, *, revision: str, cache_dir: Path | None) -> str:
        self._record(f"file {name} {file}")
        if self.gated:
            raise refused(errors.GatedRepoError)
        if file not in self.models[name]:
            raise refused(errors.RemoteEntryNotFoundError)
        return str(self._fetch(name, [file], revision) / file)

    def snapshot(
        self,
        name: str,
        *,
        revision: str,
        allow_patterns: list[str],
        ignore_patterns: list[str],
        cache_dir: Path | None,
    ) -> str:
        self._record(f"snapshot {name}")
        patterns = {"allow_patterns": allow_patterns, "ignore_patterns": ignore_patterns}
        return str(self._fetch(name, list(filter_repo_objects(self.models[name], **patterns)), revision))

    def search(self, words: str) -> list[str]:
        self._record(f"search {words}")
        return [name for name in self.models if words.lower() in name.lower()]

    def _record(self, request: str) -> None:
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure

    def _fetch(self, name: str, files: list[str], revision: str) -> Path:
        """Store the files like huggingface_hub, which records no branch for a commit."""
        folder = self.cache / f"models--{name.replace('/', '--')}" / "snapshots" / revision
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(self.models[name][file])
        return folder
