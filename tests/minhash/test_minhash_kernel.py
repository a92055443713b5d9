"""The compiled kernel against the plain reference and datasketch: equal, value for value, on whatever text there is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from datasketch.hashfunc import sha1_hash32
from hypothesis import given, settings
from hypothesis import strategies as st
from real_texts import docstrings

from annotate.minhash.documents import sign_with
from annotate.minhash.kernel import EMPTY, ROOM, STEP
from annotate.minhash.reference import exact_hash, folded, rolling_hash, shingle_hash, shingles
from annotate.minhash.signing import Permutations, sign, sign_hashes

SCHEMES = ("affine32", "legacy")
FEW = Permutations.draw(16, 1)
PIECES = [
    *("a", "word", "other", "x" * 40, "naïve", "“quoted”", "–", "Wörter,"),
    *(" ", "  ", "\t", "\n\n", "\r\n", "\x1c", "\x1f", "\x00", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u202f"),
    *(
        "\u200b",
        "\u205f",
        "\u3000",
        "中文",
        "日本語の、テスト。",
        "ภาษาไทย",
        "ພາສາລາວ",
        "བོད་",
        "မြန်မာ",
        "ខ្មែរ",
        "한국어",
    ),
    *(
        "𠀀",
        "\U0002fa1d",
        "\U0003ffff",
        "\U00040000",
        "\U0010ffff",
        "😀",
        "👩‍🚀",
        "１２３",
        "ｶﾞ",
        "é",
        "ÿ",
        "߿",
        "ࠀ",
        "￿",
    ),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=40).map("".join)
ODD = [
    *("", " ", "\n \t\u3000 ", "one", "one two three four", "one two three four five", " one  two three four five "),
    *("中", "中文字", " 中 ", "中a", "a中", "中 a", "ab中文cd", "a\u00a0b\u2003c d\x85e f", "\u3000中\u3000文\u3000"),
    "中文字符 测试\u3000这是一个 test ไทยภาษา mixed １２３ 𠀀𠀁 x",
    "\u00c2 \u00c2\u00c2 a\u00c2",  # its first byte is also that of a blank
    *("\ue000 \u2e80 \ufb00", "\u2000x\u200a", "\u200b x \u2060"),
    "word " * 5000,
    "中" * (3 * ROOM + 1),
    " ".join(f"w{i}" for i in range(ROOM)),
    " ".join(f"w{i}" for i in range(ROOM + 1)),
    " ".join(f"w{i}" for i in range(2 * ROOM + 7)),
    "y" * 200_000 + " b c d e f g " + "z" * 70_000 + " h i",
]


def array(texts: list[str | None]) -> pa.Array:
    return pa.array(texts, pa.large_string())


def signature(hashed: list[int], number: int, seed: int, scheme: str) -> np.ndarray:
    """datasketch's, of hashes."""
    minhash = MinHash(number, seed=seed, scheme=scheme, hashfunc=int)
    minhash.update_batch(hashed)
    return minhash.hashvalues


def check(texts: list[str], shingle: int, tokens: str, permutations: Permutations = FEW) -> None:
    """Compare signatures of folded texts with the reference, and with datasketch."""
    signed = sign(array([folded(text) for text in texts]), shingle, tokens, permutations)
    for i, text in enumerate(texts):
        expected = shingles(text, shingle, tokens)
        assert signed.shingles[i] == len(expected), (text[:80], shingle, tokens)
        assert tuple(signed.exact[i].tolist()) == exact_hash(text), text[:80]
        minhash = MinHash(
            len(permutations.a),
            permutations=(permutations.a, permutations.b),
            scheme=permutations.scheme,
            hashfunc=shingle_hash,
        )
        minhash.update_batch(expected)
        assert np.array_equal(signed.values[i], minhash.hashvalues), (text[:80], shingle, tokens)


@pytest.mark.parametrize("tokens", ["words", "characters"])
@pytest.mark.parametrize("shingle", [1, 2, 5, 9])
def test_odd_texts(shingle: int, tokens: str) -> None:
    texts = ODD if tokens == "words" else [text for text in ODD if len(text) < 50_000]
    check(texts, shingle, tokens)


@settings(max_examples=300, deadline=None)  # the first call may compile
@given(st.lists(TEXTS, max_size=5), st.integers(1, 9), st.sampled_from(["words", "characters"]))
def test_any_texts(texts: list[str], shingle: int, tokens: str) -> None:
    check(texts, shingle, tokens)


@settings(deadline=None)  # the first call may compile
@given(st.lists(TEXTS, min_size=1, max_size=3))
def test_blanks_are_folded(texts: list[str]) -> None:
    normal = [folded(text) for text in texts]
    spread = [f"\u3000{text}\n".replace(" ", " \t\u2003\x85") for text in normal]
    ours, theirs = sign(array(spread), 3, "words", FEW), sign(array(normal), 3, "words", FEW)
    assert np.array_equal(ours.values, theirs.values)
    assert np.array_equal(ours.exact, theirs.exact)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("number", [1, 3, 4, 7, 128, 130])
def test_schemes_and_numbers_of_permutations(scheme: str, number: int) -> None:
    check([*docstrings()[:20], "", "a b"], 5, "words", Permutations.draw(number, 42, scheme))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_thousands_of_documents_as_datasketch_signs_them(scheme: str) -> None:
    texts = docstrings()
    assert len(texts) >= 2000
    expected = MinHash.bulk(
        [shingles(text, 5) for text in texts], num_perm=64, seed=3, hashfunc=shingle_hash, scheme=scheme
    )
    found = sign(array([folded(text) for text in texts]), 5, "words", Permutations.draw(64, 3, scheme))
    assert np.array_equal(found.values, [minhash.hashvalues for minhash in expected])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_thousands_of_documents_with_datasketchs_own_hash(scheme: str) -> None:
    texts = docstrings()
    expected = MinHash.bulk([shingles(text, 5) for text in texts], num_perm=64, seed=3, scheme=scheme)
    found = sign_with(sha1_hash32, array(texts), Permutations.draw(64, 3, scheme))
    assert np.array_equal(found, [minhash.hashvalues for minhash in expected])


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(deadline=None)  # the first call may compile
@given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=50), max_size=4))
def test_given_hashes(scheme: str, documents: list[list[int]]) -> None:
    permutations = Permutations.draw(6, 9, scheme)
    offsets = np.cumsum([0, *map(len, documents)])
    found = sign_hashes(np.array([h for hashed in documents for h in hashed], np.uint32), offsets, permutations)
    expected = [signature(hashed, 6, 9, scheme) for hashed in documents]
    assert np.array_equal(found, np.array(expected).reshape(-1, 6))


def test_more_given_hashes_than_a_block() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**32, 3 * ROOM + 5, np.uint32)
    before = hashes.copy()
    found = sign_hashes(hashes, np.array([0, 2 * ROOM + 1, 2 * ROOM + 1, len(hashes)]), FEW)
    assert np.array_equal(found[0], signature(hashes[: 2 * ROOM + 1].tolist(), 16, 1, "affine32"))
    assert np.array_equal(found[2], signature(hashes[2 * ROOM + 1 :].tolist(), 16, 1, "affine32"))
    assert (found[1] == EMPTY).all()
    assert np.array_equal(hashes, before)


def test_slices_nulls_and_skipped_texts() -> None:
    texts = [*ODD[:12], None, *ODD[12:20]]
    whole = sign(array([text or "" for text in texts]), 2, "words", FEW)
    for start, stop in ((0, 21), (3, 17), (12, 13), (20, 21), (5, 5), (21, 21)):
        part = sign(array(texts).slice(start, stop - start), 2, "words", FEW)
        assert np.array_equal(part.values, whole.values[start:stop])
        assert np.array_equal(part.exact, whole.exact[start:stop])
        assert np.array_equal(part.shingles, whole.shingles[start:stop])
    skip = np.arange(len(texts)) % 3 == 0
    part = sign(array(texts), 2, "words", FEW, skip=skip)
    assert np.array_equal(part.values[~skip], whole.values[~skip])
    assert (part.values[skip] == EMPTY).all() and not part.exact[skip].any() and not part.shingles[skip].any()


def test_a_null_has_no_text_whatever_lies_under_it() -> None:
    full = array(["a b c d", "e f g h"])
    nulled = pa.Array.from_buffers(full.type, 2, [pa.py_buffer(b"\x02"), *full.buffers()[1:]])
    signed = sign(nulled, 2, "words", FEW)
    assert signed.shingles.tolist() == [0, 3]
    assert (signed.values[0] == EMPTY).all() and signed.exact[0].tolist() == [0, 0]
    assert sign(pa.nulls(3, pa.large_string()), 2, "words", FEW).shingles.tolist() == [0, 0, 0]


@pytest.mark.parametrize("tokens", ["words", "characters"])
@pytest.mark.parametrize(
    "tail", [b"\xc2", b"\xe3", b"\xe3\x80", b"\xf0", b"\xf0\xa0", b"\xf0\xa0\x80", b"\xff", b"\x80"]
)
def test_a_cut_tail_is_not_completed_from_what_follows(tail: bytes, tokens: str) -> None:
    def signed(following: bytes) -> list[object]:
        data = b"a b " + tail + following
        offsets = np.array([0, 4 + len(tail), len(data)], np.int64)
        texts = pa.Array.from_buffers(pa.large_string(), 2, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
        found = sign(texts, 2, tokens, FEW)
        return [found.values[0].tolist(), found.exact[0].tolist(), int(found.shingles[0])]

    assert signed(b"") == signed(b"\x80\x80\x80") == signed(b"\xa0\xa0\xa0 x") == signed(b"\x85")


def test_no_texts() -> None:
    signed = sign(array([]), 5, "words", FEW)
    assert signed.values.shape == (0, 16) and signed.exact.shape == (0, 2) and signed.shingles.shape == (0,)


def test_texts_on_which_polynomials_collide_are_told_apart() -> None:
    bits = np.array([bin(i).count("1") % 2 for i in range(4096)], np.uint8)
    one, other = (bits + ord("a")).tobytes(), (1 - bits + ord("a")).tobytes()
    assert rolling_hash(one) == rolling_hash(other)
    exact = sign(array([one.decode(), other.decode()]), 5, "words", FEW).exact
    assert exact[0, 0] != exact[1, 0] and exact[0, 1] != exact[1, 1]


@pytest.mark.parametrize("tokens", ["words", "characters"])
def test_whatever_lies_on_the_border_of_two_blocks(tokens: str) -> None:
    random = np.random.default_rng(7)
    middles = ["word another", "  \n ", "中文 字", "中", "é“–”é", "\u3000", " \u2003x", "a", "x" * 300, "𠀀 😀"]
    texts = []
    for before in range(ROOM - 40, ROOM + 8):
        middle = "".join(random.choice(middles, 4))
        texts.append("x" * before + middle + " end of the text")  # a word over the border, or ending near it
        texts.append("中 " * (before // 4) + "y" * (before % 4) + middle)
        texts.append("w " * (before // 2) + middle + " " * before + middle + " " * (before % 3))
    check(texts, 3, tokens)


@pytest.mark.parametrize("middle", ["中", "中 ", "中文 a", "–", "\u3000", " – ", "é 中"])
def test_whatever_lies_on_the_border_of_two_steps(middle: str) -> None:
    plain = " plain words  that tell by themselves where they end" * 4
    check([start * before + middle + plain for before in range(STEP + 4) for start in ("x", "x ")], 2, "words")


def test_permutations_are_datasketchs() -> None:
    for scheme in SCHEMES:
        drawn = Permutations.draw(10, 5, scheme)
        expected = MinHash(10, seed=5, scheme=scheme).permutations
        assert np.array_equal(drawn.a, expected[0]) and np.array_equal(drawn.b, expected[1])


@pytest.mark.slow
def test_it_works_where_nothing_can_be_kept_on_disk(tmp_path: Path) -> None:
    package = Path(__file__).parents[2] / "annotate"
    inside = tmp_path / "annotate"
    inside.mkdir()
    for path in package.iterdir():
        if path.name not in ("minhash", "__pycache__"):
            (inside / path.name).symlink_to(path)
    (inside / "minhash").mkdir()
    for path in (package / "minhash").glob("*.py"):
        (inside / "minhash" / path.name).write_bytes(path.read_bytes())
    (inside / "minhash" / "__pycache__").write_text("a file, where numba would make a folder; holds for root too")
    code = """
import pyarrow as pa
from annotate.minhash import kernel, signing
assert type(kernel.sign_documents._cache).__name__ == "NullCache"
print(signing.sign(pa.array(["a b c"], pa.large_string()), 2, "words", signing.Permutations.draw(4, 1)).values.tolist())
"""
    nowhere = {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull, "LOCALAPPDATA": os.devnull}
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **nowhere, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    expected = sign(array(["a b c"]), 2, "words", Permutations.draw(4, 1))
    assert done.stdout.strip() == str(expected.values.tolist())


def test_numba_is_imported_only_to_sign() -> None:
    code = "import sys, annotate\nannotate.NearDuplicates(annotate.Corpus('x'))\nassert 'numba' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
