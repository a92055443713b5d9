"""What a model's weight files hold, read from their headers alone."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from annotate.errors import ConfigError
from annotate.models.files import reason

_LENGTH = struct.Struct("<Q")
_LONGEST = 100_000_000
"""Bytes of a header that the safetensors library reads at most."""

_TABLES = ("I64", "BOOL")
"""Dtypes of tables that Transformers computes, such as positions. They are no weights."""

NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8", "U8": "uint8"}
"""What the dtypes of safetensors are called in torch; others keep their names."""


def count_weights(paths: Iterable[Path]) -> dict[str, int]:
    """Numbers in some safetensors files by dtype, the most frequent first.

    Raises:
        ConfigError: a file is no safetensors file.
    """
    counts: Counter[str] = Counter()
    for path in paths:
        try:
            with path.open("rb") as file:
                (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
                header = json.loads(file.read(min(length, _LONGEST)))
            for tensor, about in header.items():
                if tensor != "__metadata__" and about["dtype"] not in _TABLES:
                    counts[NAMES.get(about["dtype"], about["dtype"])] += math.prod(about["shape"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise ConfigError(
                f"{path} is no readable safetensors file: {reason(error)}",
                hint="It may be cut off, or be the pointer that Git LFS leaves: fetch the model again.",
            ) from error
    return dict(counts.most_common())
