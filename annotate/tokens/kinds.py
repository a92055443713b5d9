"""The kinds of tokens in a shard.

These numbers never change, and a new kind gets a new one: compiled loops keep them in their cache on disk.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Kinds = npt.NDArray[np.uint8]

TEXT = 0
OPEN = 1
CLOSE = 2
BEGIN = 3
END = 4
REPEATED = 5
PADDING = 6
