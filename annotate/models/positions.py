"""How many positions a model has: its own table of positions says so, not a list of model types."""

from __future__ import annotations

import functools
from typing import Any

from annotate.models.files import ModelFiles, Stamp


def usable_positions(model: Any) -> int | None:
    """Tokens that fit into a model's positions, or None where its config names no number.

    Some models, such as RoBERTa's kin, count positions from the one after the padding id. Their table says so by its
    padding index: the rows up to it are never a token's.
    """
    # DeBERTa may have relative positions only: then there is no table, and what is named is what it was trained with.
    named = named_positions(model.config)
    if named is None:
        return None
    limits = [named]
    for name, part in model.named_modules():
        padding = getattr(part, "padding_idx", None)
        weight = getattr(part, "weight", None)
        if "position" not in name.rpartition(".")[2] or not isinstance(padding, int) or weight is None:
            continue
        rows = int(weight.shape[0])
        limits.append(rows - padding % rows - 1)
    return min(limits)


def named_positions(config: Any) -> int | None:
    """The `max_position_embeddings` of a configuration, whatever it is called there; None where it has no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


@functools.lru_cache(maxsize=16)
def positions_of(files: ModelFiles, stamp: Stamp, *, remote_code: bool) -> int | None:
    """`usable_positions` of a model on disk, without its weights; read once a process.

    A model that can't be made without its weights gives what its config names: when it is loaded it is asked again.
    """
    del stamp
    import torch
    from transformers import AutoConfig, AutoModel

    def read() -> Any:
        return AutoConfig.from_pretrained(files.directory, trust_remote_code=remote_code)

    named = named_positions(read())
    # A table of positions does not depend on the layers, but some configurations can't have another number of them.
    for config in (_one_layer(read()), read()) if named is not None else ():
        try:
            with torch.device("meta"):
                return usable_positions(AutoModel.from_config(config, trust_remote_code=remote_code))
        except Exception:
            continue
    return named


def _one_layer(config: Any) -> Any:
    if isinstance(getattr(config, "num_hidden_layers", None), int):
        config.num_hidden_layers = 1
    return config
