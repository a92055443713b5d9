"""Token shards in the formats that trainers read.

A format is a file here, and an entry of the table `FORMATS` in `formats`.

    workdir       exports the token shards of a work directory
    base          what a format is
    datatrove, huggingface, mds, megatron, olmo
                  a file a format
    formats       the table of the formats
    windows       a token table as flat arrays, from which every format is made
    write         writes the files of an export, and last its manifest
    adapters/     readers that a trainer needs beside its own; each file can be copied by itself
"""

from typing import TYPE_CHECKING

from annotate.lazy import attributes

if TYPE_CHECKING:
    from annotate.exports.datatrove import Datatrove
    from annotate.exports.formats import FORMATS
    from annotate.exports.huggingface import HuggingFace
    from annotate.exports.mds import Mds
    from annotate.exports.megatron import Megatron
    from annotate.exports.olmo import Olmo
    from annotate.exports.workdir import Export, export
    from annotate.exports.write import Counts

_HOMES = {
    "Counts": "annotate.exports.write",
    "Datatrove": "annotate.exports.datatrove",
    "Export": "annotate.exports.workdir",
    "FORMATS": "annotate.exports.formats",
    "HuggingFace": "annotate.exports.huggingface",
    "Mds": "annotate.exports.mds",
    "Megatron": "annotate.exports.megatron",
    "Olmo": "annotate.exports.olmo",
    "export": "annotate.exports.workdir",
}

__all__ = [
    "FORMATS",
    "Counts",
    "Datatrove",
    "Export",
    "HuggingFace",
    "Mds",
    "Megatron",
    "Olmo",
    "export",
]

__getattr__ = attributes(__name__, _HOMES)
