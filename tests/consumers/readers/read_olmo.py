"""Run in the environment of OLMo-core: FOLDER, where to put what was read, options."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from olmo_core.data import (
    NumpyFSLDatasetConfig,
    NumpyPackedFSLDatasetConfig,
    TokenizerConfig,
)
from olmo_core.data.utils import get_labels, iter_document_indices, load_array_slice
from olmo_core.version import VERSION

folder, answer, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
work = Path(answer).parent
tokenizer = TokenizerConfig(vocab_size=options["size"], eos_token_id=options["eos"], pad_token_id=options["pad"])
common = {
    "tokenizer": tokenizer,
    "sequence_length": options["width"],
    "paths": [f"{folder}/tokens/*.npy"],
    "label_mask_paths": [f"{folder}/label_mask/*.npy"],
    "expand_glob": True,
    "generate_doc_lengths": True,
    "work_dir": str(work / "olmo"),
    "include_instance_metadata": False,
}


def instances(config):
    dataset = config.build()
    dataset.prepare()
    found = [dataset[i] for i in range(len(dataset))]
    for item in found:
        batch = {name: item[name].unsqueeze(0) for name in ("input_ids", "label_mask")}
        item["labels"] = get_labels(batch)[0]
    return [{name: torch.as_tensor(value).tolist() for name, value in item.items()} for item in found]


config = NumpyFSLDatasetConfig(**common)
dtype = config.get_dtype()
files = sorted(Path(folder, "tokens").glob("*.npy"))
Path(answer).write_text(
    json.dumps(
        {
            "version": VERSION,
            "dtype": np.dtype(dtype).name,
            "windows": instances(config),
            "packed": instances(NumpyPackedFSLDatasetConfig(**common)),
            "bounds": [list(map(list, iter_document_indices(file, use_array_if_local=False))) for file in files],
            "slice": load_array_slice(files[0], 3, 9, dtype).tolist(),
        }
    )
)
