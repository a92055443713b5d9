"""The identity of a user's function or class: its source and the source of what it uses, or a declared version.

"Source" means source code here; the kind of stage that is called a source is in `annotate.graph.source`.
"""

from annotate.source_code.functions import MODULES, source_identity

__all__ = ["MODULES", "source_identity"]
