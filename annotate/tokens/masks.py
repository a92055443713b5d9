"""Loss masks: which tokens of a window are targets that count.

The mask is aligned with `input_ids`: `mask[i]` is about token i as a target. So the label that Hugging Face models take
is the token where the mask is 1, and -100 elsewhere, without a shift: the model shifts. Megatron's own mask is about
`labels[i] = tokens[i + 1]` instead.

The first token of a segment never counts, whatever the policy. Nothing in the segment precedes it, and what stands
before it in the window is another document.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from annotate.errors import ConfigError
from annotate.tokens.kinds import BEGIN, CLOSE, END, OPEN, PADDING, TEXT
from annotate.tokens.packing import Packed

Policy = Literal["train", "mask", "mask-all-but-closing"]

ALIGNMENT = "target-aligned to input_ids: loss_mask[i] is 1 where token i is a target that counts"
"""How manifests say what the mask is aligned with."""

_COUNTING: dict[Policy, tuple[int, ...]] = {
    "train": (TEXT, BEGIN, END, OPEN, CLOSE),
    "mask": (TEXT, BEGIN, END),
    "mask-all-but-closing": (TEXT, BEGIN, END, CLOSE),
}


def loss_mask(packed: Packed, policy: Policy) -> npt.NDArray[np.uint8]:
    """The mask of packed windows: uint8 `[n_windows, window]`, 1 where the token is a target that counts.

    Args:
        packed: the windows.
        policy: "train": tags and closing tags count, as in Korbak et al. 2023 and Maini et al. 2025. "mask": neither
            does, as in MeCo, URLs-Help and CTRL. "mask-all-but-closing": of tags, closing ones alone count. Never
            counted are tags that are repeated at the head of a continuation, padding, and the first token of a segment,
            which a token for the begin of a document is. A token for its end counts.

    Raises:
        ConfigError: the policy is not known.
    """
    if policy not in _COUNTING:
        raise ConfigError(f"the loss policy must be one of {', '.join(get_args(Policy))}, not {policy!r}")
    counts = np.zeros(PADDING + 1, np.uint8)
    counts[list(_COUNTING[policy])] = 1
    mask = counts[packed.kinds]
    mask[packed.positions == 0] = 0  # the first of each segment, and padding
    return mask
