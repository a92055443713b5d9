"""Run in the environment of MosaicML streaming: FOLDER, where to put what was read, options, the adapter's path."""

import importlib.machinery
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np

# `import streaming` imports its datasets of pictures. They are not what is tested, and torchvision has to be of the
# same build (CPU, CUDA) as torch to be imported: names are all that is needed.
for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
sys.modules["torchvision.datasets"].VisionDataset = object
sys.modules["torchvision.transforms.functional"].to_tensor = None

import streaming  # noqa: E402
import torch  # noqa: E402
from streaming import LocalDataset, MDSWriter, StreamingDataset  # noqa: E402
from streaming.base.util import merge_index  # noqa: E402

folder, answer, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
work = Path(answer).parent


spec = importlib.util.spec_from_file_location("adapter", sys.argv[4])
adapter = importlib.util.module_from_spec(spec)
spec.loader.exec_module(adapter)


def plain(sample):
    return {name: np.asarray(value).tolist() for name, value in sample.items()}


local = LocalDataset(folder)
kinds = {name: str(np.asarray(value).dtype) for name, value in local[0].items()}
streamed = StreamingDataset(
    local=str(work / "cache"), remote=folder, shuffle=False, batch_size=1, validate_hash=options["hashes"][0]
)

batches = [
    {name: [torch.as_tensor(value).tolist() for value in values] for name, values in batch.items()}
    for batch in torch.utils.data.DataLoader(streamed, batch_size=4, collate_fn=adapter.collate)
]
try:
    torch.utils.data.default_collate([local[i] for i in range(4)])
    without = "no error"
except Exception as error:
    without = str(error)

# What MDSWriter itself writes of the same samples, and merge_index of their folders.
own = work / "own"
for name, samples in options["samples"].items():
    writer = MDSWriter(
        columns=options["columns"],
        out=str(own / name),
        hashes=options["hashes"],
        size_limit=options["size_limit"],
    )
    for sample in samples:
        kinds_of = {column: encoding.split(":")[-1] for column, encoding in options["columns"].items()}
        writer.write({column: np.array(value, kinds_of[column]) for column, value in sample.items()})
    writer.finish()
merge_index(str(own), keep_local=True)
files = sorted(str(path.relative_to(own)) for path in own.rglob("*") if path.is_file())
Path(answer).write_text(
    json.dumps(
        {
            "version": streaming.__version__,
            "kinds": kinds,
            "local": [plain(local[i]) for i in range(len(local))],
            "batches": batches,
            "without collate": without,
            "streamed": [plain(sample) for sample in streamed],
            "equal bytes": {name: (own / name).read_bytes() == (Path(folder) / name).read_bytes() for name in files},
        }
    )
)
