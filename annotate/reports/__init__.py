"""Reports for people on the datasets of runs: plain values, read a work unit at a time.

    documents         documents with their tags, or span by span with their scores
    target            the datasets that a path names
    duplicates        a report on near-duplicates
    prompts           whether prompts change what a model writes
    large_clusters    the clusters of near-duplicates, and the documents of the largest

The package also exports the types that `Pipeline.run`, `Pipeline.plan`, `annotate.status` and `annotate.clean` return.
"""

from typing import TYPE_CHECKING

from annotate.lazy import attributes

if TYPE_CHECKING:
    from annotate.engine.clean import Cleanup
    from annotate.engine.ledger import Ledger
    from annotate.engine.plan import Plan
    from annotate.engine.result import MadeDataset, Result
    from annotate.engine.status import Status
    from annotate.reports.documents import ScoredDocument, TaggedDocument, scored_documents, tagged_documents
    from annotate.reports.duplicates import DuplicatesReport, find_duplicates

_HOMES = {
    "Cleanup": "annotate.engine.clean",
    "DuplicatesReport": "annotate.reports.duplicates",
    "Ledger": "annotate.engine.ledger",
    "MadeDataset": "annotate.engine.result",
    "Plan": "annotate.engine.plan",
    "Result": "annotate.engine.result",
    "ScoredDocument": "annotate.reports.documents",
    "Status": "annotate.engine.status",
    "TaggedDocument": "annotate.reports.documents",
    "find_duplicates": "annotate.reports.duplicates",
    "scored_documents": "annotate.reports.documents",
    "tagged_documents": "annotate.reports.documents",
}

__all__ = [
    "Cleanup",
    "DuplicatesReport",
    "Ledger",
    "MadeDataset",
    "Plan",
    "Result",
    "ScoredDocument",
    "Status",
    "TaggedDocument",
    "find_duplicates",
    "scored_documents",
    "tagged_documents",
]

__getattr__ = attributes(__name__, _HOMES)
