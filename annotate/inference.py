"""Prompts under tags, for a model that was trained on token shards."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch

from annotate.errors import ConfigError
from annotate.storage.latest import read_tags
from annotate.tokens import Encoder, check_ids


def prompt(
    tokenizer: Any,
    files: str,
    text: str = "",
    tags: Sequence[str] = (),
    *,
    against: Sequence[str] = (),
    guidance: float = 1.0,
) -> dict[str, Any]:
    """What `model.generate` takes to write on from a text under tags.

        model.generate(**prompt(tokenizer, files, "Once", ["nice"]), max_new_tokens=50)

    Args:
        tokenizer: the one that lies beside the shards.
        files: what `annotate.shard_files` gives.
        text: to be continued.
        tags: in force: names of tags, or of aliases that stand for several.
        against: tags of the other prompt that guidance goes away from; none for the untagged text.
        guidance: 1 for none. Above, logits are those of the other prompt plus so many times the difference to them
            (Sanchez et al. 2023, arXiv 2306.17806; with tags, Fan et al. 2025, arXiv 2505.16570), by Transformers' own
            logits processor.

    Returns:
        `input_ids` and `attention_mask`, int64 `[1, n]`; `bad_words_ids`, the tags, so that none is sampled; with
        guidance also `guidance_scale` and `negative_prompt_ids`.

    Raises:
        ConfigError: a tag is not known, the tokenizer has other ids for the tags, or there is nothing to start from.
        StorageError: there is no `tags.json`.
    """
    card = read_tags(files)
    check_ids(card, tokenizer)
    ids = torch.tensor([_ids(tokenizer, card, text, tags)])
    found: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "bad_words_ids": [[token] for token in card["banned_when_sampling"]],
    }
    if guidance != 1.0:
        found["guidance_scale"] = guidance
        found["negative_prompt_ids"] = torch.tensor([_ids(tokenizer, card, text, against)])
    return found


def _ids(tokenizer: Any, card: Mapping[str, Any], text: str, tags: Sequence[str]) -> list[int]:
    known = {tag["name"]: tag["id"] for tag in card["tags"]}
    names = [name for tag in tags for name in card["aliases"].get(tag, [tag])]
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no tag {name!r}; tags: {', '.join([*known, *card['aliases']])}")
    begin = card["shards"]["begin_id"]
    ids = [*([] if begin is None else [begin]), *(known[name] for name in names)]
    encoder = _encoder(tokenizer, len(tokenizer))
    ids += encoder.encode(pa.array([text], pa.large_string())).ids.tolist()  # no text can be a tag
    if not ids:
        raise ConfigError("there is neither a text, nor a tag, nor a token for the begin of a document to start from")
    return ids


@functools.lru_cache(maxsize=4)
def _encoder(tokenizer: Any, size: int) -> Encoder:
    """Parses the tokenizer, once for a number of prompts; with more tokens it is another one."""
    del size
    return Encoder(tokenizer)
