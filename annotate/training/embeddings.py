"""A model's rows for the tags: in its embedding, and in its output matrix."""

from __future__ import annotations

from os import PathLike
from typing import Any

import torch

from annotate.errors import ConfigError
from annotate.storage.results import read_tags
from annotate.tokens import check_ids


def padded_vocabulary_size(folder: str | PathLike[str]) -> int:
    """How many rows a model needs for token shards, in its embedding and in its output matrix.

        rows = padded_vocabulary_size(annotate.tags_folder("out"))

    Args:
        folder: what `annotate.tags_folder` gives.

    Raises:
        StorageError: there is no `tags.json`.
    """
    size: int = read_tags(folder)["vocabulary"]["padded_size"]
    return size


def add_tag_embeddings(model: Any, tokenizer: Any, folder: str | PathLike[str], *, seed: int = 0) -> None:
    """Give a model rows for the tags, in place, as `tags.json` says.

    Each new row, in the embedding and in the output matrix, is the mean of the old rows plus a little normal noise. So
    no tag has a large logit from the start (Korbak et al. 2023; Hewitt 2021, "Initializing new word embeddings").

    Args:
        model: a Transformers model whose vocabulary is that of the tokenizer without the tags, or larger.
        tokenizer: the one that lies beside the shards.
        folder: what `annotate.tags_folder` gives.
        seed: of the noise.

    Raises:
        ConfigError: the tokenizer does not have the tags of these shards, or the model lacks rows for other tokens.
        StorageError: there is no `tags.json`.
    """
    card = read_tags(folder)
    check_ids(card, tokenizer)
    old = card["initialisation"]["of_rows_below"]
    there = model.get_input_embeddings().weight.shape[0]
    if there < old:
        raise ConfigError(
            f"the model has rows for {there} tokens, but the tokenizer of the shards has {old} without tags"
        )
    size = card["vocabulary"]["padded_size"]
    if there < size:
        model.resize_token_embeddings(size, mean_resizing=False)
    rows = sorted({*card["initialisation"]["rows"], *range(max(old, there), size)})
    draw = torch.Generator().manual_seed(seed)
    matrices = {
        id(layer.weight): layer.weight
        for layer in (model.get_input_embeddings(), model.get_output_embeddings())
        if layer is not None
    }
    with torch.no_grad():
        for weight in matrices.values():
            known = torch.ones(min(old, weight.shape[0]), dtype=torch.bool)
            known[[row for row in rows if row < len(known)]] = False
            mean = weight[: len(known)][known.to(weight.device)].float().mean(dim=0)
            noise = torch.randn(len(rows), weight.shape[1], generator=draw) * card["initialisation"]["noise"]
            weight[rows] = (mean + noise.to(mean.device)).to(weight.dtype)
