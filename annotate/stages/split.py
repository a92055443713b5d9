"""Split documents into the spans that are scored and tagged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from annotate.errors import ConfigError
from annotate.graph import Documents, Map, Stage, Tables
from annotate.stages.shared.tables import bad_documents, text_hashes
from annotate.storage.contracts import contract
from annotate.storage.parts import UnitOutput
from annotate.text.arrays import one_array
from annotate.text.splitting import SpanUnit, Splitter


@dataclass(frozen=True, init=False)
class Split(Map):
    """Spans that tile each document of a corpus.

        Split(corpus, by="paragraph")
        Split(corpus, Splitter(by="sentence", blanks="previous"))

    Attributes:
        corpus: the documents.
        splitter: how they are split; or `by`, what a span is, for a splitter with no other setting. By sentence, if
            neither is given.

    Raises:
        ConfigError: both are given, or the splitter refuses `by`.
    """

    corpus: Documents
    splitter: Splitter

    name: ClassVar[str] = "spans"
    schema: ClassVar[str] = "spans"

    def __init__(self, corpus: Documents, splitter: Splitter | None = None, *, by: SpanUnit | None = None) -> None:
        if splitter is not None and by is not None:
            raise ConfigError(
                f"Split(...) is given a splitter and by={by!r}", hint=f"Write Split(corpus, Splitter(by={by!r}, ...))."
            )
        if not isinstance(splitter, Splitter | None):
            raise ConfigError(
                f"a splitter must be a Splitter, got {splitter!r}", hint='Write Split(corpus, by="line").'
            )
        object.__setattr__(self, "corpus", corpus)
        object.__setattr__(self, "splitter", splitter or Splitter(by=by or "sentence"))

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The corpus."""
        return {"corpus": self.corpus}

    @property
    def label(self) -> str:
        """With the name of the stage that has the documents, unless it is a corpus."""
        return self.name if self.corpus.name == "corpus" else f"{self.name} of {self.corpus.name}"

    def settings(self) -> Mapping[str, Any]:
        """The splitter's, and the column of the ids that quarantine names."""
        return {**self.splitter.identity(), "id": self.corpus.id}

    def unit(self, tables: Tables) -> UnitOutput:
        """Split the documents of a unit; those that cannot be used go to quarantine."""
        documents = tables["corpus"]
        texts = one_array(documents["text"])
        spans = self.splitter.split(texts)
        document = spans["document"].to_numpy()
        table = pa.table(
            [
                pa.array(document + tables.rows.start, pa.int64()),
                spans["start"],
                spans["end"],
                spans["byte_start"],
                spans["byte_end"],
                pa.array(text_hashes(texts)[document]),
            ],
            schema=contract("spans").schema,
        )
        bad = bad_documents(documents, tables.shard)
        return UnitOutput(
            table,
            quarantine=bad,
            counts={
                "documents": documents.num_rows,
                "quarantined": bad.num_rows,
                "documents_with_spans": len(np.unique(document)),
                "text_bytes": int(table["byte_end"].to_numpy().sum() - table["byte_start"].to_numpy().sum()),
            },
        )
