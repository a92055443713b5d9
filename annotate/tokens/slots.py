"""Tags on reserved slots: tokens that the makers of a tokenizer kept free. With them a model keeps its size."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from annotate.errors import ConfigError
from annotate.tokenizer_file import load_held_to_file
from annotate.tokens.tokenizer import backend_of

# Llama 3, BERT, Gemma, T5, Qwen, Mistral.
_SLOT = re.compile(
    r"<\|reserved_(?:special_token_)?\d+\|>|\[unused\d+\]|<unused\d+>|<extra_id_\d+>|<\|extra_\d+\|>|<SPECIAL_\d+>"
)


def reserved_slots(tokenizer: Any) -> list[str]:
    """The reserved slots of a tokenizer, in order of ids. They are found by their usual names."""
    known = backend_of(tokenizer).get_vocab(with_added_tokens=True)
    return sorted((token for token in known if _SLOT.fullmatch(token)), key=known.__getitem__)


def put_on_slots(tokenizer: Any, tokens: Sequence[str], reserved: Sequence[str]) -> Any:
    """Make a tokenizer in which reserved slots have the names of these tokens, in turn, and are special tokens.

    The tokenizer is saved, its files are changed, and they are loaded: all versions of Transformers agree on the files.

    Raises:
        ConfigError: there are too few slots; or a slot is named twice, is missing, or is needed by the tokenizer.
    """
    names = dict(zip(reserved, tokens, strict=False))
    if len(names) != len(tokens):
        raise ConfigError(
            f"{len(tokens)} tokens need as many different reserved slots, got {len(names)}",
            hint="Closing tags need slots too. Leave `reserved` out, and tokens are added.",
        )
    backend = backend_of(tokenizer)
    if missing := [slot for slot in names if backend.token_to_id(slot) is None]:
        raise ConfigError(
            f"the tokenizer has no token {missing[0]!r} to put {names[missing[0]]} on",
            hint="Name slots that are in its vocabulary. Or leave `reserved` out, and tokens are added.",
        )
    needed = {str(token) for token in tokenizer.special_tokens_map.values() if isinstance(token, str)}
    if used := sorted(needed & set(names)):
        raise ConfigError(
            f"the tokenizer needs {used[0]!r} itself: {names[used[0]]} can't be put on it",
            hint="Name slots that its makers kept free: `reserved_slots` finds the usual ones.",
        )
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for file in sorted(Path(folder).glob("*.json")):
            content = json.loads(file.read_text("utf-8"))
            if file.name == "tokenizer.json":
                _rename_slots(content, names)
            else:
                content = _renamed(content, names)
            file.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
        try:
            return load_held_to_file("the tokenizer with its slots renamed", folder).tokenizer
        except ConfigError as error:  # T5 of Transformers 4 counts its slots
            raise ConfigError(
                f"{type(tokenizer).__name__} can't be without its slots: {error.__cause__ or error.message}",
                hint="Leave `reserved` out, and tokens are added.",
            ) from error


def _rename_slots(content: dict[str, Any], names: Mapping[str, str]) -> None:
    """Rename slots in a `tokenizer.json`, and make them special tokens."""
    model = content["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
        known = {piece: i for i, (piece, _) in enumerate(model["vocab"])}
    else:
        known = model["vocab"] = {names.get(piece, piece): i for piece, i in model["vocab"].items()}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [token for token in content["added_tokens"] if token["content"] not in names]
    for slot, name in names.items():
        i = next((t["id"] for t in content["added_tokens"] if t["content"] == slot), known.get(name))
        added.append({"id": i, "content": name, **flags})
    content["added_tokens"] = sorted(added, key=lambda token: token["id"])


def _renamed(content: Any, names: Mapping[str, str]) -> Any:
    if isinstance(content, dict):
        return {names.get(key, key): _renamed(value, names) for key, value in content.items()}
    if isinstance(content, list):
        return [_renamed(value, names) for value in content]
    return names.get(content, content) if isinstance(content, str) else content
