"""MDS shards of MosaicML and their `index.json`, byte for byte as `streaming.MDSWriter` writes them.

Layout: https://github.com/mosaicml/streaming, streaming/base/format/mds (writer.py, encodings.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from annotate.errors import ConfigError
from annotate.exports.base import TARGET_ALIGNED, File, Format, little_endian
from annotate.exports.windows import Vocabulary, Windows

COLUMNS = {
    "documents": "ndarray:int64",
    "indices": "ndarray:uint32",
    "input_ids": "ndarray:uint32",
    "length": "uint64",
    "mask": "ndarray:uint8",
    "pieces": "ndarray:int32",
}
"""Encodings by column, sorted as in a shard. They are those of MeCo, with the document and piece of each segment."""
SIZES = [8 if encoding == "uint64" else None for encoding in COLUMNS.values()]
OFFSET = 4  # bytes that each sample takes in the table of a shard


@dataclass(frozen=True, kw_only=True)
class Mds(Format):
    """A folder for each part, as `MDSWriter` writes it, and one `index.json` of all, as `merge_index` writes it.

    A sample is a window. It has `input_ids` and `mask` (with padding), `length` (tokens without padding), `indices`
    (start and end of each segment, k x 2), `documents` (the corpus row of each segment) and `pieces` (its number among
    the pieces of its document).

    Attributes:
        size_limit: the most bytes of a shard. A larger sample is a shard of its own.
        hashes: names of hashlib, such as `("sha1",)`. Readers can check shards by them.
    """

    size_limit: int = 1 << 26
    hashes: tuple[str, ...] = ()

    name: ClassVar[str] = "mds"
    reader: ClassVar[str] = "streaming.StreamingDataset"
    mask_alignment: ClassVar[str] = TARGET_ALIGNED

    def __post_init__(self) -> None:
        if not 1 <= self.size_limit < 1 << 32:
            raise ConfigError(
                f"size_limit must be 1 to 2**32-1 bytes, since MDS has 32-bit offsets, got {self.size_limit}"
            )
        unknown = set(self.hashes) - hashlib.algorithms_guaranteed
        if unknown or list(self.hashes) != sorted(set(self.hashes)):
            raise ConfigError(f"hashes must be names of hashlib, sorted, each once, got {list(self.hashes)}")

    def token_dtype(self, vocabulary: Vocabulary) -> np.dtype:
        """uint32, as in MeCo."""
        del vocabulary
        return np.dtype(np.uint32)

    def files(self, windows: Windows, vocabulary: Vocabulary, number: int) -> Iterator[File]:
        """The shards of a part, and its index."""
        del vocabulary
        folder = f"{number:05d}"
        config = json.dumps(self._config(), sort_keys=True).encode()
        encoded = samples(windows)
        ends = np.concatenate([[0], np.cumsum(pc.binary_length(encoded).to_numpy())])
        body = memoryview(encoded.buffers()[2])
        shards: list[dict[str, Any]] = []
        start = 0
        while start < len(encoded):
            stop = self._shard_end(ends, start, 2 * OFFSET + len(config))
            name = f"shard.{len(shards):05}.mds"
            data = _shard(body[ends[start] : ends[stop]], ends[start : stop + 1] - ends[start], config)
            hashes = {algorithm: hashlib.new(algorithm, data).hexdigest() for algorithm in self.hashes}
            raw = {"basename": name, "bytes": len(data), "hashes": hashes}
            shards.append({"samples": stop - start, "raw_data": raw, "zip_data": None, **self._config()})
            yield File(f"{folder}/{name}", data)
            start = stop
        yield File(f"{folder}/index.json", json.dumps({"version": 2, "shards": shards}, sort_keys=True).encode())

    def root(self, parts: Sequence[int], read: Callable[[str], bytes]) -> Iterator[File]:
        """The index of all parts."""
        merged = []
        for number in parts:
            for shard in json.loads(read(f"{number:05d}/index.json"))["shards"]:
                shard["raw_data"]["basename"] = f"{number:05d}/{shard['raw_data']['basename']}"
                merged.append(shard)
        yield File("index.json", json.dumps({"version": 2, "shards": merged}).encode())

    def usage(self, vocabulary: Vocabulary, width: int | None) -> str:
        """How it is loaded."""
        del vocabulary, width
        return (
            "`StreamingDataset(local=FOLDER, batch_size=...)`, or `remote=` and a `local` cache. A sample has "
            "`input_ids`, `mask`, `length`, `indices`, `documents` and `pieces`. The last three have an entry a "
            "segment: they differ in length, and a DataLoader can't batch them by itself. Give it `collate` of "
            "`annotate/exports/adapters/mds_collate.py`, a file that can be copied:\n\n"
            "    DataLoader(StreamingDataset(local=FOLDER, batch_size=8), batch_size=8, collate_fn=collate)\n\n"
            "Batches have `input_ids`, `labels` (-100 where `mask` is 0, not shifted) and `position_ids`, as a "
            "Transformers model takes them.\n"
        )

    def _config(self) -> dict[str, Any]:
        return {
            "version": 2,
            "format": "mds",
            "compression": None,
            "hashes": list(self.hashes),
            "size_limit": self.size_limit,
            "column_names": list(COLUMNS),
            "column_encodings": list(COLUMNS.values()),
            "column_sizes": SIZES,
        }

    def _shard_end(self, ends: NDArray[np.int64], start: int, fixed: int) -> int:
        """The end of the shard that starts at sample `start`: one past the last sample that fits."""
        room = self.size_limit - fixed
        taken = ends - ends[start] + OFFSET * (np.arange(len(ends)) - start)
        return max(start + 1, int(np.searchsorted(taken, room, side="right")) - 1)


def samples(windows: Windows) -> pa.LargeBinaryArray:
    """Each window as an encoded sample: the sizes of the columns that vary, then the columns, sorted by name."""
    spans = np.diff(windows.firsts)
    ends = windows.segment_ends - np.repeat(windows.starts[:-1], spans)
    indices = np.stack([ends - windows.segments, ends], axis=1)
    lengths = np.diff(windows.starts)
    used = (lengths - windows.padding).astype(np.uint64)
    variable = {
        "documents": _arrays(windows.documents, np.int64, windows.firsts, spans),
        "indices": _arrays(indices, np.uint32, windows.firsts, spans),
        "input_ids": _arrays(windows.tokens, np.uint32, windows.starts, lengths),
        "mask": _arrays(windows.mask, np.uint8, windows.starts, lengths),
        "pieces": _arrays(windows.pieces, np.int32, windows.firsts, spans),
    }
    sizes = np.stack([pc.binary_length(column).to_numpy() for column in variable.values()], axis=1)
    columns = {**variable, "length": _cut(used, np.uint64, np.arange(len(used) + 1))}
    head = _cut(sizes, np.uint32, np.arange(len(sizes) + 1))
    return _join([head, *(columns[name] for name in COLUMNS)])


def _shard(body: memoryview, ends: NDArray[np.int64], config: bytes) -> bytes:
    """Encode a shard: number of samples, where each begins and the last ends, configuration, samples.

    Raises:
        ConfigError: an offset needs more than 32 bits.
    """
    offsets = ends + OFFSET * (1 + len(ends)) + len(config)
    if offsets[-1] >= 1 << 32:
        raise ConfigError(
            f"a window of {offsets[-1]} bytes is too large for MDS, which has 32-bit offsets",
            hint="Make the token shards with a smaller window=.",
        )
    return b"".join([(len(ends) - 1).to_bytes(4, "little"), little_endian(offsets, np.uint32), config, body])


def _arrays(
    values: NDArray[Any], dtype: type[np.generic], starts: NDArray[np.int64], rows: NDArray[np.int64]
) -> pa.LargeBinaryArray:
    """Pieces of an array in the encoding `NDArray`: a byte for ndim and type of the shape, the shape, the values."""
    shape = np.stack([rows, *(np.full(len(rows), n) for n in values.shape[1:])], axis=1).astype("<u4")
    widest = shape.max(axis=1, initial=0)
    code = (widest >= 1 << 8).astype(np.int64) + (widest >= 1 << 16)  # uint8, uint16, uint32
    bytes_of_shape = shape.view(np.uint8).reshape(len(rows), shape.shape[1], 4)
    kept = np.arange(4) < (1 << code)[:, None, None]
    tag = ((shape.shape[1] << 2) | code).astype(np.uint8)
    head = np.concatenate([tag[:, None], bytes_of_shape.reshape(len(rows), -1)], axis=1)
    keep = np.ones(head.shape, bool)
    keep[:, 1:] = np.broadcast_to(kept, bytes_of_shape.shape).reshape(len(rows), -1)
    heads = _cut(head[keep], np.uint8, np.concatenate([[0], np.cumsum(keep.sum(axis=1))]))
    return _join([heads, _cut(values, dtype, starts)])


def _cut(values: NDArray[Any], dtype: type[np.generic], starts: NDArray[np.int64]) -> pa.LargeBinaryArray:
    """The bytes of the rows of an array, cut at `starts`."""
    width = np.dtype(dtype).itemsize * int(np.prod(values.shape[1:]))
    offsets = pa.py_buffer(little_endian(starts * width, np.int64))
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(starts) - 1, [None, offsets, pa.py_buffer(little_endian(values, dtype))]
    )


def _join(columns: list[pa.LargeBinaryArray]) -> pa.LargeBinaryArray:
    return pc.binary_join_element_wise(*columns, pa.scalar(b"", pa.large_binary()))
