"""Connected components over pairs, by a shuffle in rounds: no process ever holds all pairs.

A pair is sent to the ranges of both its documents. There, connected documents are joined to the smallest of them. The
pairs that this makes are sent again, until no range makes a new pair. Then each component is a star round its earliest
document. (Each round does at least what Kiveris et al. 2014, "Connected Components in MapReduce and Beyond", call a
large-star and a small-star operation. The worst case are pairs that chain the ranges in order: then the number of sent
pairs grows with the square of the number of ranges.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from annotate.graph import Partitions, Received, Stage, Tables
from annotate.stages.duplicates.candidates import unique_pairs
from annotate.stages.duplicates.documents import DocumentShuffle, SignedDocuments, UInt64, range_of
from annotate.stages.duplicates.shared_spans import SharedSpans
from annotate.stages.duplicates.similarity import Similarity
from annotate.storage.contracts import contract
from annotate.storage.parts import UnitOutput


@dataclass(frozen=True)
class Components(DocumentShuffle):
    """Pairs of the earliest document of a component with each of the others.

    Attributes:
        documents: with their signatures.
        pairs: with their similarity.
        threshold: pairs with a lower similarity are left out.
        spans: pairs that count whatever their similarity.
    """

    documents: SignedDocuments
    pairs: Similarity
    threshold: float
    spans: SharedSpans | None = None

    name: ClassVar[str] = "components"
    schema: ClassVar[str] = "pairs"
    sent_schema: ClassVar[str] = "sent-links"
    source: ClassVar[str] = "pairs"
    rounds: ClassVar[bool] = True

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The pairs, and the signatures."""
        return {**super().inputs, **({"spans": self.spans} if self.spans is not None else {})}

    @property
    def label(self) -> str:
        """With the threshold: a filter has two."""
        return f"{self.name} ({self.threshold:g})"

    def settings(self) -> Mapping[str, Any]:
        """The threshold."""
        return {"threshold": self.threshold}

    def send(self, tables: Tables, partitions: Partitions) -> Iterator[UnitOutput]:
        """Send a pair to the ranges of both documents, once where they are the same."""
        del partitions
        table = tables.sent
        a, b = table["a"].to_numpy(), table["b"].to_numpy()
        if "similarity" in table.column_names:
            near = table["similarity"].to_numpy() >= np.float32(self.threshold)
            a, b = a[near], b[near]
        here, there = range_of(a), range_of(b)
        apart = here != there
        columns = [np.concatenate([here, there[apart]]), np.concatenate([a, a[apart]]), np.concatenate([b, b[apart]])]
        yield UnitOutput(pa.table([pa.array(column) for column in columns], schema=contract(self.sent_schema).schema))

    def receive(self, received: Received) -> Iterator[UnitOutput]:
        """Join connected documents to the smallest of them, and count the pairs that are new."""
        a, b = unique_pairs(received.sent["a"].to_numpy(), received.sent["b"].to_numpy())
        root, member = stars(a, b)
        both = np.concatenate([np.stack([root, member], 1), np.stack([a, b], 1)])
        known = len(a) + len(root) - len(np.unique(both, axis=0))
        table = pa.table([pa.array(root), pa.array(member)], schema=contract(self.schema).schema)
        yield UnitOutput(table, counts={"changed": len(root) - known})


def stars(a: UInt64, b: UInt64) -> tuple[UInt64, UInt64]:
    """The smallest document of each component and each of its others, in their order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    documents, at = np.unique(np.concatenate([a, b]), return_inverse=True)
    n, m = len(documents), len(a)
    graph = coo_array((np.ones(m, bool), (at[:m], at[m:])), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    root = documents[first][labels]
    others = root != documents
    return root[others], documents[others]
