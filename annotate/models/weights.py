"""What a model's weight files hold, read from their headers alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from annotate.errors import ConfigError
from annotate.models.files import reason

_TABLES = ("I64", "BOOL")
"""Dtypes of tables that Transformers computes, such as positions. They are no weights."""

NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8", "U8": "uint8"}
"""What the dtypes of safetensors are called in torch; others keep their names."""


def count_weights(paths: Iterable[Path]) -> dict[str, int]:
    """Numbers in some safetensors files by dtype, the most frequent first.

    Raises:
        ConfigError: a file is no safetensors file, or is not whole.
    """
    counts: Counter[str] = Counter()
    for path in paths:
        try:
            with safe_open(path, framework="numpy") as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    part = file.get_slice(name)
                    if (dtype := part.get_dtype()) not in _TABLES:
                        counts[NAMES.get(dtype, dtype)] += math.prod(part.get_shape())
        except (SafetensorError, OSError, TypeError) as error:
            raise ConfigError(
                f"{path} is no readable safetensors file: {reason(error)}",
                hint="It may be cut off, or be the pointer that Git LFS leaves: fetch the model again.",
            ) from error
    return dict(counts.most_common())
