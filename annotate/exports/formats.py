"""The formats that token shards are exported in: a new one is a file here, and an entry of this table."""

from __future__ import annotations

from annotate.exports.base import Format
from annotate.exports.datatrove import Datatrove
from annotate.exports.huggingface import HuggingFace
from annotate.exports.mds import Mds
from annotate.exports.megatron import Megatron
from annotate.exports.olmo import Olmo

FORMATS: dict[str, type[Format]] = {form.name: form for form in (HuggingFace, Megatron, Datatrove, Mds, Olmo)}
"""The formats by the name that `export` and `annotate export` take."""
