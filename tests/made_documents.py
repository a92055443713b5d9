"""A stage that makes documents of a corpus, for tests: they name it, and say what it makes of one unit."""

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from annotate import Corpus
from annotate.graph import MadeDocuments, Map
from annotate.storage.parts import UnitOutput


@dataclass(frozen=True)
class Made(MadeDocuments, Map):
    """Documents that are made of those of a corpus, one of each; `made` gives their columns, besides `row`."""

    corpus: Corpus
    schema: str

    id = "id"

    @property
    def inputs(self):
        return {"corpus": self.corpus}

    @property
    def unit_bytes(self):
        return self.corpus.unit_bytes

    @property
    def unit_size(self):
        return self.corpus.unit_size

    def settings(self):
        return {}

    def unit(self, tables):
        documents = tables["corpus"]
        table = pa.table({"row": documents["row"], **self.made(documents)})
        return UnitOutput(table, counts={"documents": table.num_rows})


def write_contract(folder, name):
    """Write the contract of such a stage; returns its path."""
    columns = [{"name": "row", "type": "int64"}, {"name": "id", "type": "large_string"}]
    columns += [{"name": "text", "type": "large_string", "nullable": True}]
    path = Path(folder) / f"{name}.json"
    path.write_text(json.dumps({"name": name, "columns": columns, "other_columns": "any"}))
    return str(path)
