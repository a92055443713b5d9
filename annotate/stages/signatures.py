from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotate.stages.base import Narrow
from annotate.stages.tables import one_array
from annotate.storage.contracts import contract
from annotate.storage.parts import Output


@dataclass(frozen=True)
class Signatures(Narrow):
    corpus: Any
    shingle: int = 5
    tokens: str = "words"
    permutations: int = 128
    seed: int = 1
    name: ClassVar[str] = "signatures"
    schema: ClassVar[str] = "signatures"
    version: ClassVar[int] = 2

    @property
    def inputs(self):
        return {"corpus": self.corpus}

    def settings(self):
        return {"shingle": self.shingle, "permutations": self.permutations, "seed": self.seed, "tokens": self.tokens}

    def unit(self, tables):
        from annotate.minhash.kernel import Permutations, sign

        documents = tables["corpus"]
        texts = one_array(documents["text"])
        signed = sign(texts, self.shingle, self.tokens, Permutations.draw(self.permutations, self.seed))
        has = signed.shingles > 0
        offsets = np.concatenate([[0], np.cumsum(has * self.permutations)]).astype(np.int32)
        sig = pa.ListArray.from_arrays(pa.array(offsets), pa.array(signed.values[has].ravel()))
        columns = [
            documents["row"],
            pa.array(signed.exact[:, 0]),
            pa.array(signed.exact[:, 1]),
            pc.fill_null(pc.utf8_length(documents["text"]), 0).cast(pa.int64()),
            documents["problem"].is_null(),
            sig,
        ]
        return Output(pa.table(columns, schema=contract("signatures").schema))
