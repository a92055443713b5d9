"""Using a model that was trained on token shards: prompts under tags, and how likely text is under them."""

from annotate.inference.guidance import Contrast, Posterior
from annotate.inference.likelihood import log_likelihood
from annotate.inference.prompts import prompt
from annotate.inference.safe_beam import Written, safe_beam

__all__ = ["Contrast", "Posterior", "Written", "log_likelihood", "prompt", "safe_beam"]
