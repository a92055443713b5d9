"""A tokenizer's twin that no text can get a special token from, whatever the text spells.

`encode_special_tokens` alone is not enough. It keeps the library from looking for special tokens before it tokenizes,
but where such a token is also an entry of the model's vocabulary, the model itself finds it: Unigram always, WordPiece
and WordLevel where words are cut at blanks only, BPE with `ignore_merges`. In the twin these entries have names that
text can't have; ids stay as they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from annotate.tokenizer_file import highest_id

# No tokenizer's words have both a blank and this character: some cut at blanks, others turn them into marks, and the
# alphabet of bytes has neither. That no text gets through all the same is checked on every document.
_HIDDEN = "\U0010fffe {} \U0010fffe"


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A tokenizer for text alone.

    Attributes:
        tokenizer: gives text the ids that the original gives it, but never a special token, and offsets that count
            blanks: it has no post-processor, which is what trims them and adds special tokens.
        unknown: the id that stands for what the vocabulary can't spell, if there is one.
        special: bool `[vocabulary]`, ids that no text may get: those of special tokens, except the one that stands for
            what the vocabulary can't spell.
        spellings: what special tokens look like in text, sorted.
        made: the twin as JSON-ready data.
    """

    tokenizer: Tokenizer
    unknown: int | None
    special: npt.NDArray[np.bool_]
    spellings: tuple[str, ...]
    made: dict[str, Any]


def unforgeable(tokenizer: Tokenizer) -> Twin:
    """Make the twin of a tokenizer; the original stays as it is."""
    made = json.loads(tokenizer.to_str())
    made |= {"truncation": None, "padding": None, "post_processor": None}
    special = [token for token in made["added_tokens"] if token["special"]]
    spellings = tuple(sorted(token["content"] for token in special))
    forbidden = np.zeros(highest_id(tokenizer) + 1, np.bool_)
    forbidden[[token["id"] for token in special]] = True
    unknown = _unknown_id(made["model"])
    if unknown is not None:
        forbidden[unknown] = False
    _hide(made, special)
    twin = Tokenizer.from_str(json.dumps(made))
    twin.encode_special_tokens = True
    return Twin(tokenizer=twin, unknown=unknown, special=forbidden, spellings=spellings, made=made)


def _hide(made: dict[str, Any], special: list[dict[str, Any]]) -> None:
    """Give special tokens that the model's vocabulary holds other names, there and among the added tokens."""
    vocabulary = _pieces(made["model"])
    names = {token["content"]: _HIDDEN.format(token["id"]) for token in special if token["content"] in vocabulary}
    if not names:
        return
    for token in special:
        token["content"] = names.get(token["content"], token["content"])
    _rename(made["model"], names)


def _unknown_id(model: dict[str, Any]) -> int | None:
    if isinstance(model["vocab"], list):
        return model.get("unk_id")
    return model["vocab"].get(model.get("unk_token"))


def _pieces(model: dict[str, Any]) -> set[str]:
    vocabulary = model["vocab"]
    return {piece for piece, _ in vocabulary} if isinstance(vocabulary, list) else set(vocabulary)


def _rename(model: dict[str, Any], names: dict[str, str]) -> None:
    """Rename entries of a model's vocabulary; merges that make one of them, or are made from one, are left out."""
    if isinstance(model["vocab"], list):
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
        return
    model["vocab"] = {names.get(piece, piece): i for piece, i in model["vocab"].items()}
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        prefix = model.get("continuing_subword_prefix") or ""
        pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [[a, b] for a, b in pairs if names.keys().isdisjoint((a, b, a + b.removeprefix(prefix)))]
