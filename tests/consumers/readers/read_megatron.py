"""Run in the environment of megatron-core: FOLDER, where to put what was read, options, the adapter's path."""

import importlib.util
import json
import sys
import warnings
from pathlib import Path

import numpy
import torch

# Of all of Megatron, what reads data is needed: it says what it misses of GPU libraries, and goes on.
warnings.simplefilter("ignore")
from megatron.core import __version__  # noqa: E402
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig  # noqa: E402
from megatron.core.datasets.indexed_dataset import DType, IndexedDataset, IndexedDatasetBuilder  # noqa: E402
from megatron.core.datasets.utils import Split  # noqa: E402

folder, answer, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
spec = importlib.util.spec_from_file_location("adapter", sys.argv[4])
adapter = importlib.util.module_from_spec(spec)
spec.loader.exec_module(adapter)


class Tokenizer:
    """What GPTDataset asks of one."""

    vocab_size, eod, pad = options["size"], options["eos"], options["pad"]
    unique_identifiers = {"class": "test"}  # noqa: RUF012


def samples(prefix, *, extra, masked):
    """The samples of one epoch, from the dataset that a training run builds."""
    config = GPTDatasetConfig(
        random_seed=7,
        sequence_length=options["width"],
        blend=([prefix], None),
        split="1,0,0",
        path_to_cache=str(Path(answer).parent / f"cache-{extra}-{masked}"),
        tokenizer=Tokenizer(),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        add_extra_token_to_sequence=extra,
        mid_level_dataset_surplus=0.005,
    )
    kind = adapter.MaskedGPTDataset if masked else GPTDataset
    low = kind.build_low_level_dataset(prefix, config)
    indices = numpy.arange(low.sequence_lengths.shape[0], dtype=numpy.int32)
    dataset = kind(low, prefix, indices, None, Split.train, config)
    found = [dataset[i] for i in range(len(dataset))]
    return [{name: value.tolist() for name, value in sample.items()} for sample in found]


def sequences(prefix):
    """All sequences of a pair, and its documents, by the reader itself."""
    read = IndexedDataset(prefix)
    return {
        "dtype": str(numpy.dtype(read.index.dtype)),
        "sequences": [read[i].tolist() for i in range(len(read))],
        "documents": read.document_indices.tolist(),
    }


def own_bytes(name, sequences, dtype):
    """Whether a pair has the bytes that Megatron's own builder writes of the same sequences."""
    own = f"{Path(answer).parent}/own{name}"
    builder = IndexedDatasetBuilder(f"{own}.bin", dtype=dtype)
    for sequence in sequences:
        builder.add_document(torch.tensor(sequence, dtype=torch.int64), [len(sequence)])
    builder.finalize(f"{own}.idx")
    return all(Path(own + end).read_bytes() == Path(prefix + name + end).read_bytes() for end in (".bin", ".idx"))


prefix = f"{folder}/tokens_00000"
found = {name or "tokens": sequences(prefix + name) for name in ("", "_mask", "_segments", "_documents", "_pieces")}
for extra in (True, False):
    for masked in (True, False):
        found[f"samples, extra {extra}, masked {masked}"] = samples(prefix, extra=extra, masked=masked)
found["equal bytes"] = {
    "": own_bytes("", options["tokens"], DType.optimal_dtype(options["size"])),
    "_mask": own_bytes("_mask", options["mask"], numpy.uint8),
}
Path(answer).write_text(json.dumps({"version": __version__, "torch": torch.__version__, **found}))
