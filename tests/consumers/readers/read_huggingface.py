"""Run in the environment of `datasets`: FOLDER, and where to put what was read, as JSON."""

import json
import sys
from pathlib import Path

import datasets

folder, answer, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
cache = Path(answer).parent / "cache"
stored = datasets.load_dataset(folder, split="train", cache_dir=str(cache))
streamed = datasets.load_dataset(folder, split="train", streaming=True)
rows = list(stored)
assert list(streamed) == rows
tensors = stored.with_format("torch")[0]
Path(answer).write_text(
    json.dumps(
        {
            "version": datasets.__version__,
            "features": {name: repr(feature) for name, feature in stored.features.items()},
            "shapes": {name: list(value.shape) for name, value in tensors.items()},
            **{name: [row[name] for row in rows] for name in rows[0]},
        }
    )
)
