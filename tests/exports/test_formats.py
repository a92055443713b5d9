"""Each format against its documented layout, by readers written here: struct, numpy.frombuffer, json, gzip, pyarrow."""

import gzip
import io
import itertools
import json
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_tables import EOS, example, token_tables, vocabulary

from annotate.errors import ConfigError
from annotate.exports.datatrove import Datatrove, metric
from annotate.exports.huggingface import HuggingFace
from annotate.exports.mds import Mds
from annotate.exports.megatron import Megatron
from annotate.exports.olmo import Olmo
from annotate.exports.windows import read_windows

FORMATS = [HuggingFace(), Megatron(), Datatrove(), Mds(), Olmo()]


def files(form, table, number=0, size=1000):
    windows = read_windows(table, vocabulary(size))
    return {path: bytes(data) for path, data in form.files(windows, vocabulary(size), number)}


def column(table, name):
    return table[name].to_pylist()


def flat(table, name):
    return [value for row in column(table, name) for value in row]


# Megatron


def read_indexed(found, stem):
    """The sequences of a .bin/.idx pair, and its document indices, by the layout alone."""
    index, data = found[f"{stem}.idx"], found[f"{stem}.bin"]
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, count, documents = struct.unpack_from("<QBQQ", index, 9)
    assert version == 1 and len(index) == 34 + 12 * count + 8 * documents
    dtype = np.dtype({1: "<u1", 4: "<i4", 5: "<i8", 8: "<u2"}[code])
    lengths = np.frombuffer(index, "<i4", count, 34)
    offsets = np.frombuffer(index, "<i8", count, 34 + 4 * count)
    ends = np.frombuffer(index, "<i8", documents, 34 + 12 * count)
    assert len(data) == int(lengths.sum()) * dtype.itemsize
    return [np.frombuffer(data, dtype, n, at).tolist() for n, at in zip(lengths, offsets, strict=True)], ends.tolist()


@given(token_tables(size=70_000), st.sampled_from([70_000, 80_000]))
def test_megatron_comes_back(table, size):
    found = files(Megatron(), table, 3, size)
    tokens, ends = read_indexed(found, "tokens_00003")
    assert tokens == column(table, "input_ids")
    assert ends == list(range(table.num_rows + 1))
    assert read_indexed(found, "tokens_00003_mask")[0] == [[0, *mask[1:]] for mask in column(table, "loss_mask")]
    assert read_indexed(found, "tokens_00003_segments")[0] == column(table, "segment_lengths")
    assert read_indexed(found, "tokens_00003_documents")[0] == column(table, "document_rows")
    assert read_indexed(found, "tokens_00003_pieces")[0] == column(table, "document_pieces")
    assert len(found) == 10


# datatrove


@given(token_tables(), st.sampled_from([1000, 1 << 16, (1 << 16) + 1]))
def test_datatrove_comes_back(table, size):
    found = files(Datatrove(prefix="web"), table, 7, size)
    stem = "web_00007_unshuffled.ds"
    assert sorted(found) == [stem, f"{stem}.index", f"{stem}.loss", f"{stem}.metadata"]
    dtype = "<u2" if size <= 1 << 16 else "<u4"
    assert np.frombuffer(found[stem], dtype).tolist() == flat(table, "input_ids")
    assert np.frombuffer(found[f"{stem}.loss"], bool).tolist() == flat(table, "loss_mask")
    ends, at = [], 0
    for ids, lengths in zip(column(table, "input_ids"), column(table, "segment_lengths"), strict=True):
        pieces = [*lengths, len(ids) - sum(lengths)] if len(ids) > sum(lengths) else lengths
        for length in pieces:
            at += length
            ends.append(at)
    assert np.frombuffer(found[f"{stem}.index"], "<u8").tolist() == ends
    name, count, _ = found[f"{stem}.metadata"].decode().split("\n")
    assert name == f"test/tokenizer|{np.dtype(dtype).itemsize}" and int(count) == at


@pytest.mark.parametrize(
    "count, said",
    [
        (0, "0.00 T"),
        (7, "7.00 T"),
        (999, "999 T"),
        (1500, "1.50 kT"),
        (9999, "10.0 kT"),
        (999_999, "1.00 MT"),
        (123_000, "123 kT"),
        (12_345_678_901, "12.3 GT"),
        (3_200_000_000_000, "3.20 TT"),
    ],
)
def test_counts_are_said_as_humanize_says_them(count, said):
    assert metric(count) == said


# MDS


def read_array(data, at, dtype):
    """One `ndarray` encoding with a shape of its own."""
    ndim, code = data[at] >> 2, data[at] & 3
    shape = np.frombuffer(data, f"<u{1 << code}", ndim, at + 1)
    return np.frombuffer(data[at + 1 + (ndim << code) :], dtype).reshape(shape)


def read_shard(data):
    """The samples of an MDS shard, by its own configuration."""
    (count,) = struct.unpack_from("<I", data)
    offsets = struct.unpack_from(f"<{count + 1}I", data, 4)
    config = json.loads(data[4 + 4 * (count + 1) : offsets[0]])
    assert offsets[-1] == len(data)
    assert config["column_names"] == sorted(config["column_names"])
    rows = []
    for start, stop in itertools.pairwise(offsets):
        variable = config["column_sizes"].count(None)
        sizes = iter(struct.unpack_from(f"<{variable}I", data, start))
        at, row = start + 4 * variable, {}
        columns = zip(config["column_names"], config["column_encodings"], config["column_sizes"], strict=True)
        for name, encoding, fixed in columns:
            size = next(sizes) if fixed is None else fixed
            kind, _, dtype = encoding.partition(":")
            value = data[at : at + size]
            row[name] = read_array(value, 0, dtype).tolist() if kind == "ndarray" else struct.unpack("<Q", value)[0]
            at += size
        assert at == stop
        rows.append(row)
    return rows, config


@given(token_tables(), st.sampled_from([1, 600, 900, 1 << 26]))
def test_mds_comes_back(table, limit):
    form = Mds(size_limit=limit, hashes=("sha1",))
    found = files(form, table, 2)
    index = json.loads(found["00002/index.json"])
    rows = []
    for i, shard in enumerate(index["shards"]):
        data = found[f"00002/{shard['raw_data']['basename']}"]
        assert shard["raw_data"]["basename"] == f"shard.{i:05d}.mds" and shard["raw_data"]["bytes"] == len(data)
        samples, config = read_shard(data)
        assert shard["samples"] == len(samples) and {**shard, **config} == shard
        assert len(data) <= limit or len(samples) == 1
        rows += samples
    assert len(found) == len(index["shards"]) + 1
    for row, given_row in zip(rows, table.to_pylist(), strict=True):
        ends = np.cumsum(given_row["segment_lengths"]).tolist()
        assert row == {
            "input_ids": given_row["input_ids"],
            "mask": given_row["loss_mask"],
            "length": ends[-1],
            "indices": [[start, end] for start, end in zip([0, *ends], ends, strict=False)],
            "documents": given_row["document_rows"],
            "pieces": given_row["document_pieces"],
        }
    merged = json.loads(next(iter(form.root([2], found.__getitem__))).data)
    assert [s["raw_data"]["basename"] for s in merged["shards"]] == sorted(p for p in found if p.endswith(".mds"))


@pytest.mark.parametrize("width", [255, 256, 65_535, 65_536])
def test_mds_shapes_of_every_width(width):
    """The type of a shape grows with it: 8192 tokens are 05 00 20, 70000 would be 06 and four bytes."""
    found = files(Mds(), example(windows=2, width=width))
    rows, _ = read_shard(found["00000/shard.00000.mds"])
    assert [len(row["input_ids"]) for row in rows] == [width, width]
    header = {255: b"\x04\xff", 256: b"\x05\x00\x01", 65_535: b"\x05\xff\xff", 65_536: b"\x06\x00\x00\x01\x00"}[width]
    assert header in found["00000/shard.00000.mds"]


# OLMo


@given(token_tables(size=256), st.sampled_from([256, 257, 1 << 16, (1 << 16) + 1]))
def test_olmo_comes_back(table, size):
    found = files(Olmo(), table, 4, size)
    dtype = {256: "u1", 257: "<u2", 1 << 16: "<u2", (1 << 16) + 1: "<u4"}[size]
    assert np.frombuffer(found["tokens/part-00004.npy"], dtype).tolist() == flat(table, "input_ids")
    assert np.frombuffer(found["label_mask/part-00004.npy"], bool).tolist() == flat(table, "loss_mask")
    lines = gzip.decompress(found["tokens/part-00004.csv.gz"]).decode().split()
    bounds = [tuple(map(int, line.split(","))) for line in lines]
    starts = np.cumsum([0, *map(len, column(table, "input_ids"))])
    expected = []
    for at, row in zip(starts, table.to_pylist(), strict=False):
        for length, *of in zip(row["segment_lengths"], row["document_rows"], row["document_pieces"], strict=True):
            expected.append((at, at + length, *of))
            at += length
    assert bounds == expected


# Hugging Face


@given(token_tables(), st.integers(1, 3))
def test_hugging_face_comes_back(table, row_group):
    found = files(HuggingFace(row_group=row_group), table.append_column("axis", table["loss_mask"]), 5)
    file = pq.ParquetFile(io.BytesIO(found["data/train-00005.parquet"]))
    assert file.num_row_groups == -(-table.num_rows // row_group)
    read = file.read()
    for name, source in {
        "input_ids": "input_ids",
        "loss_mask": "loss_mask",
        "position_ids": "position_ids",
        "seq_lengths": "segment_lengths",
        "document_rows": "document_rows",
        "document_pieces": "document_pieces",
        "axis": "loss_mask",
    }.items():
        assert column(read, name) == column(table, source)
    for labels, row in zip(column(read, "labels"), table.to_pylist(), strict=True):
        expected = [t if m else -100 for t, m in zip(row["input_ids"], row["loss_mask"], strict=True)]
        assert labels == expected
    assert "attention_mask" not in read.column_names


def test_windows_of_one_width_are_fixed_size_lists():
    read = pq.read_table(io.BytesIO(files(HuggingFace(), example(width=16))["data/train-00000.parquet"]))
    assert str(read.schema.field("input_ids").type) == "fixed_size_list<element: int32>[16]"


# All


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_bytes_are_a_function_of_the_windows(form):
    """Not of how Arrow holds them, nor of the part's number, but for the names."""
    table = example(windows=40)
    pieces = [table.slice(i, 7) for i in range(0, 40, 7)]
    first = list(files(form, table).values())
    assert list(files(form, pa.concat_tables(pieces)).values()) == first
    assert list(files(form, table, 9).values()) == first


@pytest.mark.parametrize(
    "form, size, dtype",
    [
        (Megatron(), 65_499, "uint16"),
        (Megatron(), 65_500, "int32"),
        (Datatrove(), 65_536, "uint16"),
        (Datatrove(), 65_537, "uint32"),
        (Olmo(), 256, "uint8"),
        (Olmo(), 257, "uint16"),
        (Olmo(), 65_536, "uint16"),
        (Olmo(), 65_537, "uint32"),
        (Mds(), 300, "uint32"),
        (HuggingFace(), 300, "int32"),
    ],
)
def test_token_types_follow_the_vocabulary(form, size, dtype):
    """Of the vocabulary with its tags: two tags can take a tokenizer over the limit of 16 bits."""
    assert form.token_dtype(vocabulary(size)) == np.dtype(dtype)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: Mds(size_limit=1 << 32), "32-bit offsets"),
        (lambda: Mds(size_limit=0), "got 0"),
        (lambda: Mds(hashes=("nope",)), "nope"),
        (lambda: Mds(hashes=("sha256", "sha1")), "sorted"),
        (lambda: Megatron(prefix="a/b"), "'a/b'"),
        (lambda: Datatrove(prefix=""), "''"),
        (lambda: HuggingFace(row_group=0), "got 0"),
    ],
)
def test_settings_that_no_reader_takes_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def test_eos_stays_where_it_is():
    table = example()
    assert EOS in flat(table, "input_ids")
    found = files(Olmo(), table)
    assert (np.frombuffer(found["tokens/part-00000.npy"], "<u2") == EOS).sum() == 3 * table.num_rows
