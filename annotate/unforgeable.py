"""The twin of a tokenizer: it never gives a text a special token, whatever the text spells.

`encode_special_tokens` alone is not enough. It keeps the library from looking for special tokens before it tokenizes.
But if such a token is also an entry of the model's vocabulary, the model itself may find it: Unigram always, WordPiece
and WordLevel if words are cut at blanks only, BPE with `ignore_merges`. In the twin these entries have names that no
text can spell. Ids stay as they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from annotate.tokenizer_file import highest_id

# No word of a tokenizer has both a blank and this character: some cut at blanks, others turn blanks into other
# characters, and the alphabet of bytes has neither. All the same, every document is checked for special tokens.
_HIDDEN = "\U0010fffe {} \U0010fffe"


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A tokenizer for text alone.

    Attributes:
        tokenizer: gives text the same ids as the original, but never a special token. It has no post-processor, which
            would add special tokens, and would leave blanks out of offsets.
        unknown: the id that stands for what the vocabulary can't spell, if there is one.
        special: bool `[vocabulary]`, the ids that no text may get: those of special tokens, but for `unknown`.
        spellings: how special tokens are spelled, sorted.
        made: the content of the twin's `tokenizer.json`.
    """

    tokenizer: Tokenizer
    unknown: int | None
    special: npt.NDArray[np.bool_]
    spellings: tuple[str, ...]
    made: dict[str, Any]


def unforgeable(tokenizer: Tokenizer) -> Twin:
    """Make the twin of a tokenizer. The original is not changed."""
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
    """Rename special tokens that are in the model's vocabulary, there and among the added tokens."""
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
    """Rename entries of a model's vocabulary, and leave out the merges that make one of them or use one."""
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
