"""Documents in any normal form and any kind of Arrow array."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.minhash.documents import sign_texts, sign_with
from annotate.minhash.kernel import EMPTY
from annotate.minhash.reference import exact_hash, shingle_hash, shingles
from annotate.minhash.signing import Permutations, Signed

FEW = Permutations.draw(8, 2)
TEXTS = [
    "plain text of some words",
    "cafe\u0301 au lait, s’il vous plaît",
    None,
    "नमस्ते दुनिया आप कैसे हैं",
    "",
    "か\u3099 中文",
]


def same(one: Signed, other: Signed) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("values", "exact", "shingles"))


@settings(deadline=None)  # the first call may compile
@given(st.lists(st.text() | st.sampled_from([t for t in TEXTS if t]), max_size=6), st.sampled_from(["NFC", "NFD"]))
def test_the_normal_form_does_not_matter(texts: list[str], form: str) -> None:
    signed = sign_texts(pa.array([unicodedata.normalize(form, t) for t in texts], pa.large_string()), FEW, shingle=2)
    assert signed.exact.tolist() == [list(exact_hash(text)) for text in texts]
    assert signed.shingles.tolist() == [len(shingles(text, 2)) for text in texts]


def test_kinds_of_arrays() -> None:
    expected = sign_texts(pa.array(TEXTS, pa.large_string()), FEW, shingle=1)
    assert (expected.values[2] == EMPTY).all() and (expected.values[0] != EMPTY).all()
    assert same(expected, sign_texts(pa.array(TEXTS, pa.string()), FEW, shingle=1))
    chunks = [pa.array(TEXTS[:2]), pa.array([], pa.string()), pa.array(TEXTS[2:])]
    assert same(expected, sign_texts(pa.chunked_array(chunks), FEW, shingle=1))
    assert same(expected, sign_texts(pa.chunked_array([pa.array(TEXTS)]), FEW, shingle=1))
    assert len(sign_texts(pa.chunked_array([], pa.string()), FEW).values) == 0


def test_another_hash_signs_the_same_shingles() -> None:
    for tokens in ("words", "characters"):
        texts = pa.array(TEXTS)
        signed = sign_texts(texts, FEW, shingle=2, tokens=tokens)
        assert np.array_equal(sign_with(shingle_hash, texts, FEW, shingle=2, tokens=tokens), signed.values)
        assert not np.array_equal(sign_with(len, texts, FEW, shingle=2, tokens=tokens), signed.values)
    assert sign_with(shingle_hash, pa.array([], pa.string()), FEW).shape == (0, 8)
