"""What a stage is: a frozen dataclass whose inputs are other stages, and the pure functions that do its work.

A stage knows nothing of Ray, retries or paths: it gets tables and returns tables. A *map* makes a unit from the same
unit of its inputs. A *reduce* needs all units of its inputs and is merged from pieces. A *regroup* plans its units from
the manifests of its inputs. A *shuffle* sends the rows of one input to partitions, and makes a unit of each. Beside
them stand the *sources*.
"""

from annotate.graph.map import Map
from annotate.graph.reduce import Reduce
from annotate.graph.regroup import Regroup
from annotate.graph.shuffle import RANGE_UNITS, Received, Shuffle
from annotate.graph.source import Source
from annotate.graph.stage import AGAINST, Stage, digest, documents_of, graph
from annotate.graph.tables import Tables, Work

__all__ = [
    "AGAINST",
    "RANGE_UNITS",
    "Map",
    "Received",
    "Reduce",
    "Regroup",
    "Shuffle",
    "Source",
    "Stage",
    "Tables",
    "Work",
    "digest",
    "documents_of",
    "graph",
]
