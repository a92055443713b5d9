import pyarrow as pa
import pytest

from annotate.text.pages import MARGIN, SEPARATOR, pages


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_documents_come_back_from_their_pages(kind):
    texts = ["one", None, "", "é😀", "x" * 50, "y", "last"]
    chunks = pa.chunked_array([pa.array(["skipped", *texts[:3]], kind)[1:], pa.array(texts[3:], kind)])
    for size in (1, 7, 1000):
        found = []
        for page in pages(chunks, size):
            assert page.first == len(found)
            found += [bytes(page.buffer[a:b]).decode() for a, b in zip(page.starts, page.ends, strict=True)]
            around = [
                *page.buffer[:MARGIN],
                *page.buffer[-MARGIN:],
                *page.buffer[page.ends],
                *page.buffer[page.starts - 1],
            ]
            assert set(around) == {SEPARATOR}
        assert found == [text or "" for text in texts]


def test_a_page_ends_with_the_document_that_fills_it():
    texts = pa.array(["12345"] * 5 + ["x" * 100] + ["1"])
    assert [len(page.starts) for page in pages(texts, 10)] == [2, 2, 2, 1]
