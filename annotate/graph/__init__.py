"""What a stage is: a frozen dataclass whose inputs are other stages, and the pure functions that do its work.

A stage knows nothing of Ray, retries or paths: it gets tables and returns tables. There are five kinds. A *map* makes
a unit from a group of consecutive units of its inputs, usually of one. A *reduce* merges pieces of all units, in any
order, into one table. In a *shuffle* units send rows to partitions, and a partition makes a unit. A *model* stage is a
map in three steps; an actor that holds a model does the middle one. A *source* lists files outside the work directory.
Whatever else the engine has to know of a stage, the stage says in properties and methods of `Stage`.
"""

from annotate.graph.documents import Documents, MadeDocuments, Slice, documents_of
from annotate.graph.map import Map
from annotate.graph.model import Model, Rows, Sample, Tuned
from annotate.graph.reduce import Reduce
from annotate.graph.roles import EndsDocuments, LedgerStates
from annotate.graph.shuffle import PARTITION_UNITS, RANGE_UNITS, Partitions, Received, Shuffle, partitions_of
from annotate.graph.source import Imports, ImportStep, Listing, Source
from annotate.graph.stage import AGAINST, Cut, Kind, Stage, digest, every, graph, lineages, source_of
from annotate.graph.tables import ITSELF, Tables, Work, first_unit

__all__ = [
    "AGAINST",
    "ITSELF",
    "PARTITION_UNITS",
    "RANGE_UNITS",
    "Cut",
    "Documents",
    "EndsDocuments",
    "ImportStep",
    "Imports",
    "Kind",
    "LedgerStates",
    "Listing",
    "MadeDocuments",
    "Map",
    "Model",
    "Partitions",
    "Received",
    "Reduce",
    "Rows",
    "Sample",
    "Shuffle",
    "Slice",
    "Source",
    "Stage",
    "Tables",
    "Tuned",
    "Work",
    "digest",
    "documents_of",
    "every",
    "first_unit",
    "graph",
    "lineages",
    "partitions_of",
    "source_of",
]
