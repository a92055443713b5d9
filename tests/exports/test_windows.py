import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from token_tables import example, to_table, token_tables, vocabulary, window

from annotate.errors import ConfigError, InputError
from annotate.exports.windows import Vocabulary, read_windows


@given(token_tables())
def test_rows_come_back_from_the_flat_arrays(table):
    windows = read_windows(table, vocabulary())
    assert len(windows) == table.num_rows
    ends = windows.segment_ends
    for i, row in enumerate(table.to_pylist()):
        tokens = slice(windows.starts[i], windows.starts[i + 1])
        segments = slice(windows.firsts[i], windows.firsts[i + 1])
        assert windows.tokens[tokens].tolist() == row["input_ids"]
        assert windows.mask[tokens].tolist() == row["loss_mask"]
        assert windows.documents[segments].tolist() == row["document_rows"]
        assert windows.pieces[segments].tolist() == row["document_pieces"]
        assert (ends[segments] - windows.starts[i]).tolist() == np.cumsum(row["segment_lengths"]).tolist()
        assert windows.padding[i] == len(row["input_ids"]) - sum(row["segment_lengths"])
        assert windows.targets()[tokens].tolist() == [0, *row["loss_mask"][1:]]


@given(token_tables())
def test_chunks_and_kinds_of_lists_make_no_difference(table):
    whole = read_windows(table, vocabulary())
    chunked = pa.concat_tables([table.slice(i, 1) for i in range(table.num_rows)])
    large = table.cast(pa.schema([(f.name, pa.large_list(f.type.value_type)) for f in table.schema]))
    for other in (chunked, large):
        read = read_windows(other, vocabulary())
        for name in ("tokens", "mask", "positions", "starts", "segments", "documents", "firsts"):
            np.testing.assert_array_equal(getattr(read, name), getattr(whole, name))


def test_no_rows():
    windows = read_windows(example().slice(0, 0), vocabulary())
    assert len(windows) == 0 and windows.width is None and len(windows.segment_ends) == 0


def test_fixed_size_lists():
    table = example(width=16)
    ids = table["input_ids"].combine_chunks().cast(pa.list_(pa.int32(), 16))
    windows = read_windows(table.set_column(0, "input_ids", ids), vocabulary())
    assert windows.width == 16
    assert windows.tokens.tolist() == table["input_ids"].combine_chunks().flatten().to_pylist()


def broken(**columns):
    row = {**window([[5, 6], [7]], 4, lambda _: True, 0), **columns}
    return to_table([window([[9]], 4, lambda _: True, 0), row])


@pytest.mark.parametrize(
    "table, said",
    [
        (broken(input_ids=[5, 6, 1000, 0]), "has id 1000, but the vocabulary has ids 0 to 999"),
        (broken(input_ids=[5, 6, -1, 0]), "has id -1"),
        (broken(input_ids=[5, 6, 7]), "row 1 of the token table has 3 input_ids but 4 loss_mask"),
        (broken(position_ids=[0, 1]), "4 input_ids but 2 position_ids"),
        (broken(document_rows=[1]), "2 segment_lengths but 1 document_rows"),
        (broken(loss_mask=[1, 2, 1, 0]), "has the value 2"),
        (broken(loss_mask=[1, 1, 1, 1]), "is 1 on padding"),
        (broken(segment_lengths=[2, 3]), "row 1 of the token table has 4 tokens, but its segments have 5"),
        (broken(segment_lengths=[3, 0]), "a segment of 0 tokens"),
        (broken(segment_lengths=[], document_rows=[], document_pieces=[]), "row 1 of the token table has no segment"),
        (broken(input_ids=None), "has 1 nulls"),
        (example().drop_columns("loss_mask"), "has no column loss_mask"),
        (example().set_column(0, "input_ids", [["a"]] * 8), "it has to be a list of integers"),
    ],
)
def test_a_broken_table_is_refused(table, said):
    with pytest.raises(InputError, match=said):
        read_windows(table, vocabulary())


@pytest.mark.parametrize(
    "options, said",
    [
        ({"size": 0}, "1 to 2\\*\\*31 ids, not 0"),
        ({"size": 10, "eos": 10}, "eos is id 10"),
        ({"size": 10, "pad": -1}, "pad is id -1"),
        ({"size": 10, "tokenizer": "a\nb"}, "one line"),
    ],
)
def test_a_broken_vocabulary_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        Vocabulary(**{"tokenizer": "t", **options})
