"""Keeps Transformers from looking at the values of a batch, which makes a CPU wait for its GPU in each.

A mask of which all is set can be left out, so Transformers asks whether it is. Where there is no mask, it asks whether
several texts are packed into a row, and in some models whether a row ends with padding. The answers have to come from
the GPU, and until then nothing more is sent to it. Here they are known: a model gets a mask only where something is
padded, and a row is one text. Left are MPNet, Longformer, T5 and BART, whose own code looks at values, and DeBERTa-v2,
whose own code copies one number to the GPU in each batch.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from torch import nn

_SKIPS = ("allow_is_causal_skip", "allow_is_bidirectional_skip")
_FIND, _WARN = "find_packed_sequence_indices", "warn_if_padding_and_no_attention_mask"

_unpacked: ContextVar[bool] = ContextVar("unpacked", default=False)


def trust_masks() -> None:
    """Let masks that are given be made without a look at them, in this process; those of `sdpa` attention.

    Inside `unpacked`, whether texts are packed is not looked for. Scores keep their bytes: the same masks are made.
    Before Transformers 4.53 there is nothing to be changed.
    """
    with contextlib.suppress(ImportError, AttributeError, KeyError):
        from transformers import masking_utils

        makers = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS
        if not isinstance(make := makers["sdpa"], _Trusting):
            makers.register("sdpa", _Trusting(make))
        if not isinstance(find := getattr(masking_utils, _FIND), _Finding):
            setattr(masking_utils, _FIND, _Finding(find))


def trust_ids(model: nn.Module) -> None:
    """Let a model run batches without a mask and not look for padding in them, of which it would warn."""
    for module in model.modules():
        if hasattr(module, _WARN):
            setattr(module, _WARN, _nothing)


@contextlib.contextmanager
def unpacked() -> Iterator[None]:
    """Inside, each row of a batch is one text. Outside, models of this process may be given packed ones by others."""
    before = _unpacked.set(True)
    try:
        yield
    finally:
        _unpacked.reset(before)


class _Trusting:
    """Makes masks as a function of Transformers does, but does not ask whether a given one can be left out."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make
        functools.update_wrapper(self, make)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("attention_mask") is not None:
            kwargs |= dict.fromkeys(_SKIPS, False)
        return self.make(*args, **kwargs)


class _Finding:
    """Finds packed texts as a function of Transformers does, but where there are none."""

    def __init__(self, find: Callable[..., Any]) -> None:
        self.find = find
        functools.update_wrapper(self, find)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return None if _unpacked.get() else self.find(*args, **kwargs)


def _nothing(*args: Any, **kwargs: Any) -> None:
    del args, kwargs
