"""Signatures: for the near-duplicate filter, the exact hash, length and MinHash signature of each document.

Anyone can check a signature, or query for one, with datasketch:

    MinHash.bulk([shingles(text, 5)], num_perm=128, seed=1, hashfunc=shingle_hash, scheme="affine32")

with `shingles` and `shingle_hash` from `annotate.minhash.reference`; with `hash="sha1"`, without `hashfunc`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError
from annotate.graph import Documents, Map, Stage, Tables
from annotate.minhash.reference import Scheme, Tokens
from annotate.storage.contracts import contract
from annotate.storage.parts import UnitOutput

Hash = Literal["rolling", "sha1"]


@dataclass(frozen=True)
class Signatures(Map):
    """MinHash signatures and exact hashes of documents.

    Attributes:
        corpus: the documents.
        shingle: tokens in a shingle.
        permutations: length of a signature.
        seed: of the permutations, as datasketch has it.
        tokens: "words" (in scripts without blanks between words each character is one), or "characters".
        hash: of shingles: "rolling", ours; or "sha1", datasketch's default, for signatures that have to match some that
            datasketch has made. Python computes it shingle by shingle, which is tens of times slower.
        scheme: of the permutations: "affine32", datasketch's since 2.0, or "legacy", its older one.
    """

    corpus: Documents
    shingle: int = 5
    permutations: int = 128
    seed: int = 1
    tokens: Tokens = "words"
    hash: Hash = "rolling"
    scheme: Scheme = "affine32"

    name: ClassVar[str] = "signatures"
    schema: ClassVar[str] = "signatures"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        for name in ("shingle", "permutations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 1 << 32:
            raise ConfigError(f"seed must be from 0 to 2**32 - 1, as NumPy's generator takes it, got {self.seed}")
        for name, known in (("tokens", Tokens), ("hash", Hash), ("scheme", Scheme)):
            if getattr(self, name) not in get_args(known):
                choices = " or ".join(f'"{value}"' for value in get_args(known))
                raise ConfigError(f"{name} must be {choices}, got {getattr(self, name)!r}")

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The corpus."""
        return {"corpus": self.corpus}

    def settings(self) -> Mapping[str, Any]:
        """All settings that decide what a signature is."""
        names = ("shingle", "permutations", "seed", "tokens", "hash", "scheme")
        return {name: getattr(self, name) for name in names}

    def unit(self, tables: Tables) -> UnitOutput:
        """Sign the documents of a unit."""
        # Numba takes 0.3 s to import, and datasketch 0.4 s, which workers that sign nothing need not wait for.
        from datasketch.hashfunc import sha1_hash32

        from annotate.minhash.documents import sign_texts, sign_with
        from annotate.minhash.signing import Permutations

        documents = tables["corpus"]
        texts = documents["text"]
        permutations = Permutations.draw(self.permutations, self.seed, self.scheme)
        signed = sign_texts(texts, permutations, shingle=self.shingle, tokens=self.tokens)
        values = signed.values
        if self.hash == "sha1":
            values = sign_with(sha1_hash32, texts, permutations, shingle=self.shingle, tokens=self.tokens)
        columns = [
            documents["row"],
            pa.array(signed.exact[:, 0]),
            pa.array(signed.exact[:, 1]),
            pc.fill_null(pc.utf8_length(texts), 0).cast(pa.int64()),
            documents["problem"].is_null(),
            _lists(values, signed.shingles > 0),
        ]
        return UnitOutput(pa.table(columns, schema=contract("signatures").schema))


def _lists(values: npt.NDArray[np.uint32], has: npt.NDArray[np.bool_]) -> pa.Array:
    """The rows of `[n, length]` as list<uint32> `[n]`, empty lists for those that have none."""
    ends = np.cumsum(np.append(0, has * values.shape[1]))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values[has].ravel()))
