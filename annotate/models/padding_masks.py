"""Keeps Transformers from looking into padding masks, which makes a CPU wait for its GPU in each batch.

A mask of which all is set can be left out, so Transformers asks whether it is: the answer has to come from the GPU, and
until then nothing more is sent to it. A model here gets a mask only where something is padded, so the answer is known.
Left are MPNet, Longformer, T5 and BART, whose own code looks at values.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

_SKIPS = ("allow_is_causal_skip", "allow_is_bidirectional_skip")


def trust_masks() -> None:
    """Let masks that are given be made without a look at them, in this process; those of `sdpa` attention.

    Scores keep their bytes: the same mask is made. Before Transformers 4.53 there is nothing to be changed.
    """
    with contextlib.suppress(ImportError, AttributeError, KeyError):
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS as makers

        if not isinstance(make := makers["sdpa"], _Trusting):
            makers.register("sdpa", _Trusting(make))


class _Trusting:
    """Makes masks as a function of Transformers does, but does not ask whether a given one can be left out."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make
        functools.update_wrapper(self, make)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("attention_mask") is not None:
            kwargs |= dict.fromkeys(_SKIPS, False)
        return self.make(*args, **kwargs)
