"""The files beside a saved model: the tokenizer, and `tags.json`. With them, its folder is all that a program needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from annotate.storage.store import Directory

TAGS = "tags.json"
TOKENIZER = "tokenizer"


def read_companions(beside: str) -> dict[str, bytes]:
    """The files by name: those of the tokenizer, which lie flat beside a model, and `tags.json`.

    Args:
        beside: the folder beside token shards.
    """
    folder = Directory.at(beside)
    files = {path.removeprefix(f"{TOKENIZER}/"): folder.get(path) for path, _ in folder.sizes(TOKENIZER)}
    return {**files, TAGS: folder.get(TAGS)}


def write_companions(model: Path, files: Mapping[str, bytes]) -> None:
    """Write those that are not there to the folder of a model. Each is there whole or not at all."""
    for name, content in files.items():
        path = model / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f".{path.name}.unfinished")
            unfinished.write_bytes(content)
            unfinished.replace(path)
