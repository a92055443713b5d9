"""The command line: the only place that prints, exits or starts Ray."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from annotate.pipeline import Definition


def entry() -> None:
    """The `annotate` command."""
    from annotate.cli.app import app, guarded

    sys.exit(guarded(app, sys.argv[1:]))


def main(pipeline: Definition) -> None:
    """`annotate run` on the file that calls this: `python pipelines/FILE.py --workdir out` does the same.

    Args:
        pipeline: a `Pipeline`, or a function with typed keyword parameters that returns one.
    """
    from annotate.cli.app import guarded
    from annotate.cli.run import command_for

    sys.exit(guarded(command_for(pipeline), sys.argv[1:]))
