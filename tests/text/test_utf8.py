import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.errors import InputError
from annotate.text import utf8
from annotate.text.pages import pages

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)


def as_string(rows, kind="string"):
    """A string array of arbitrary bytes, as a careless Parquet reader would make."""
    binary = pa.array(rows, pa.binary() if kind == "string" else pa.large_binary())
    array = pa.StringArray if kind == "string" else pa.LargeStringArray
    return array.from_buffers(len(binary), binary.buffers()[1], binary.buffers()[2], binary.buffers()[0])


def is_invalid(row):
    try:
        (row or b"").decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


@pytest.fixture(autouse=True, params=[7, 1 << 20])
def block(request, monkeypatch):
    monkeypatch.setattr(utf8, "BLOCK", request.param)


@given(text=TEXTS)
@settings(deadline=None)
def test_code_point_and_byte_offsets_are_inverse(text):
    buffer = np.frombuffer(text.encode(), np.uint8)
    begins = np.array([len(text[:i].encode()) for i in range(len(text) + 1)], np.int64)
    points = np.arange(len(text) + 1)
    assert utf8.code_point_offsets(buffer, begins).tolist() == points.tolist()
    assert utf8.byte_offsets(buffer, points).tolist() == begins.tolist()
    assert utf8.begin_of_code_point(buffer, np.arange(len(buffer))).tolist() == [
        begins[begins <= i].max() for i in range(len(buffer))
    ]


@given(texts=st.lists(TEXTS, max_size=5))
@settings(deadline=None)
def test_code_points_are_decoded(texts):
    for page in pages(pa.array(texts, pa.string())):
        at = np.flatnonzero(~utf8.is_continuation(page.buffer))
        inside = at[(at >= page.starts[0]) & (at < page.ends[-1])]
        expected = [ord(c) for c in "\n".join(texts)]
        assert utf8.code_points_at(page.buffer, inside).tolist() == expected


HOSTILE = [
    b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xc0\x80", b"\xc1\xbf", b"\xc2",
    b"\x80", b"\xe0\x9f\xbf",
    b"\xe0\xa0\x80", b"\xe2\x82", b"\xf0\x8f\xbf\xbf", b"\xf0\x90\x80\x80", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf0\x9f\x98", b"\xc3\xa9\xa9", b"\xff", b"\xfe", b"\x00", b"plain", "漢字 😀".encode(), b"", None,
]  # fmt: skip
ROWS = st.one_of(
    st.none(), st.binary(max_size=12), TEXTS.map(str.encode), st.lists(st.sampled_from(HOSTILE[:-1])).map(b"".join)
)


@given(rows=st.lists(ROWS, max_size=12), kind=st.sampled_from(["string", "large_string"]))
@settings(deadline=None, max_examples=300)
def test_invalid_rows_are_those_that_python_cannot_decode(rows, kind):
    assert utf8.invalid_utf8(as_string(rows, kind)).tolist() == [is_invalid(row) for row in rows]


def test_invalid_rows_of_slices_and_chunks():
    expected = [is_invalid(row) for row in HOSTILE]
    array = as_string(HOSTILE)
    assert 8 < sum(expected) < len(HOSTILE) - 5
    assert utf8.invalid_utf8(array).tolist() == expected
    assert utf8.invalid_utf8(array[3:9]).tolist() == expected[3:9]
    assert utf8.invalid_utf8(pa.chunked_array([array[:5], array[5:5], array[5:]])).tolist() == expected
    # Halves of a code point in neighbouring rows do not make a whole one.
    assert utf8.invalid_utf8(as_string([b"\xc3", b"\xa9"])).tolist() == [True, True]


def test_only_text_is_taken():
    with pytest.raises(InputError, match="int64"):
        utf8.invalid_utf8(pa.array([1]))
