"""Using a model that was trained on token shards: prompts under tags, and how likely text is under them."""

from annotate.inference.likelihood import log_likelihood
from annotate.inference.prompts import prompt

__all__ = ["log_likelihood", "prompt"]
