"""What a token of a shard is.

Compiled loops keep these numbers in their cache on disk: a new kind gets a new number, and none is ever changed.
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

NAMES = ("text", "tag", "closing tag", "begin of document", "end of document", "repeated tag", "padding")
"""The names of the kinds, by number."""
