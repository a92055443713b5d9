"""The signatures stage alone, against datasketch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH

from annotate.errors import ConfigError
from annotate.graph import Tables
from annotate.minhash.reference import exact_hash, shingle_hash, shingles
from annotate.stages.corpus import Corpus
from annotate.stages.signatures import Signatures
from annotate.storage.contracts import contract

CORPUS = Corpus("corpus")
TEXTS = [
    "one two three four five six",
    "cafe\u0301 au lait " * 3,
    None,
    "",
    "a b",
    " \n",
    "中文字符测试",
    "x\u3000y\tz w v",
]


class Given(Tables):
    """A corpus that is given instead of read."""

    def __init__(self, texts: list[str | None]) -> None:
        self._texts = texts

    def __getitem__(self, name: str) -> pa.Table:
        assert name == "corpus"
        return pa.table(
            {
                "row": pa.array(range(10, 10 + len(self._texts)), pa.int64()),
                "text": pa.array(self._texts, pa.large_string()),
                "problem": pa.array(["bad" if text is None else None for text in self._texts], pa.string()),
            }
        )


def made(texts: list[str | None], **settings: Any) -> dict[str, list[Any]]:
    table = Signatures(CORPUS, **settings).unit(Given(texts)).table
    return contract("signatures").check(table, "here").to_pydict()


def test_what_is_known_of_each_document() -> None:
    found = made(TEXTS)
    assert found["row"] == list(range(10, 18))
    assert found["length"] == [len(text or "") for text in TEXTS]
    assert found["usable"] == [text is not None for text in TEXTS]
    exact = list(zip(found["exact_high"], found["exact_low"], strict=True))
    assert exact == [exact_hash(text or "") for text in TEXTS]
    assert [len(each) for each in found["signature"]] == [128, 128, 0, 0, 0, 0, 128, 128]


@pytest.mark.parametrize("tokens", ["words", "characters"])
@pytest.mark.parametrize("scheme", ["affine32", "legacy"])
@pytest.mark.parametrize("hash", ["rolling", "sha1"])
@pytest.mark.parametrize(("permutations", "seed", "shingle"), [(128, 1, 5), (33, 7, 3)])
def test_signatures_are_those_of_datasketch(
    permutations: int, seed: int, shingle: int, hash: str, scheme: str, tokens: str
) -> None:
    random = np.random.default_rng(8)
    texts = [
        "  ".join(f"wörd{n}" for n in random.integers(0, 50, random.integers(shingle, 80))) + "\n" for _ in range(50)
    ]
    settings = {"shingle": shingle, "permutations": permutations, "seed": seed, "tokens": tokens}
    found = made([*texts, *TEXTS], hash=hash, scheme=scheme, **settings)["signature"]
    options = {"hashfunc": shingle_hash} if hash == "rolling" else {}
    for text, signature in zip([*texts, *TEXTS], found, strict=True):
        shingled = shingles(text or "", shingle, tokens)
        expected = MinHash(permutations, seed=seed, scheme=scheme, **options)
        expected.update_batch(shingled)
        assert signature == (expected.hashvalues.tolist() if shingled else [])


def test_stored_signatures_can_be_queried_with_datasketch() -> None:
    texts = [" ".join(f"w{i + j}" for i in range(50)) for j in range(0, 500, 100)]
    lsh = MinHashLSH(threshold=0.7, num_perm=128)
    for row, signature in enumerate(made(texts)["signature"]):
        lsh.insert(row, MinHash(hashvalues=np.array(signature, np.uint32), scheme="affine32"))
    query = MinHash(128, seed=1, hashfunc=shingle_hash, scheme="affine32")
    query.update_batch(shingles(texts[3] + " more", 5))
    assert lsh.query(query) == [3]


@pytest.mark.parametrize("texts", [[], [None, None], [""]])
def test_nothing_to_sign(texts: list[str | None]) -> None:
    assert made(texts)["signature"] == [[]] * len(texts)
    assert made(texts, hash="sha1", scheme="legacy")["signature"] == [[]] * len(texts)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shingle": 0}, "shingle must be at least 1, got 0"),
        ({"permutations": -1}, "permutations must be at least 1, got -1"),
        ({"seed": -1}, r"seed must be from 0 to 2\*\*32 - 1, as NumPy's generator takes it, got -1"),
        ({"seed": 1 << 32}, "got 4294967296"),
        ({"tokens": "word"}, 'tokens must be "words" or "characters", got \'word\''),
        ({"hash": "sha-1"}, 'hash must be "rolling" or "sha1", got \'sha-1\''),
        ({"scheme": ""}, 'scheme must be "affine32" or "legacy", got \'\''),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Signatures(CORPUS, **settings)


def test_each_setting_is_in_the_recipe() -> None:
    others = [{"shingle": 4}, {"permutations": 64}, {"seed": 2}, {"tokens": "characters"}, {"hash": "sha1"}]
    stages = [Signatures(CORPUS, **settings) for settings in ({}, *others, {"scheme": "legacy"})]
    assert len({stage.recipe for stage in stages}) == len(stages)
