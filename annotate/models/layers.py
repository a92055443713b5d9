"""The layers of a Transformers model: the plain list that its blocks are in."""

from __future__ import annotations

from typing import Any

from torch import nn

from annotate.errors import ConfigError


def find_layers(model: Any, name: str) -> nn.ModuleList:
    """The list of a model's layers, in the model itself: what is put into it takes the place of a layer.

    Args:
        model: of Transformers.
        name: of the model, for the message.

    Raises:
        ConfigError: it has no list of as many layers as its config says.
    """
    count = getattr(model.config, "num_hidden_layers", None)
    lists = [part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    if not lists:
        raise ConfigError(
            f"model {name!r} ({type(model).__name__}) has no plain list of {count} layers, so its hidden states can't "
            "be read layer by layer",
            hint="use a model such as BERT, RoBERTa, MiniLM, DeBERTa, ModernBERT, GPT-2, Llama or Qwen",
        )
    return lists[0]
