"""The command line: the only place that prints, exits or starts Ray.

`app` has the table of commands, and turns errors into exit codes. Each command is a file of its name: `run`,
`submit`, `jobs`, `duplicates`, `show`, `status`, `clean`, `new`, `scheme`, `export`, `tune`, `model`, `probe`. They
share:

    plan_view          prints a plan (`annotate run --plan`)
    summary_view, ledger_view
                       print the end of a run
    duplicates_view    prints a report on near-duplicates
    colours, text_diff print documents in colour, and the difference of two
    progress           shows how far a run is
    option_types        types of options that several commands share
    cluster_address    what RAY_ADDRESS may be
    local_ray          connects to a cluster, or starts Ray here and ends it
    interrupts         Ctrl-C, SIGTERM, a closed terminal
    terminal           the console, and how foreign text is printed
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    from annotate.pipeline_files import Definition


def entry() -> NoReturn:
    """The `annotate` command."""
    from annotate.installed import check_ours

    try:
        check_ours()
    except ImportError as error:
        sys.stderr.write(f"error: {error}\n")
        _leave(2)

    def run(arguments: list[str]) -> int:
        from annotate.cli.app import app, guarded

        return guarded(app, arguments)

    _leave(_interruptible(run))


def main(pipeline: Definition) -> NoReturn:
    """`annotate run` on the file that calls this: `python pipelines/FILE.py --workdir out` does the same.

        if __name__ == "__main__":
            annotate.main(pipeline)

    Args:
        pipeline: a `Pipeline`, or a function with typed keyword parameters that returns one.
    """

    def run(arguments: list[str]) -> int:
        from annotate.cli.app import guarded
        from annotate.cli.run import command_for

        return guarded(command_for(pipeline), arguments)

    _leave(_interruptible(run))


def _interruptible(run: Callable[[list[str]], int]) -> int:
    """Run a command so that a signal at any time, even during its imports, ends it with our message."""
    from annotate.cli.interrupts import listen, told

    arguments = sys.argv[1:]
    try:
        listen()
        return run(arguments)
    except KeyboardInterrupt:
        return told(arguments)


def _leave(code: int) -> NoReturn:
    """End this process without Python's shutdown, in which a thread of Arrow's pool that frees memory would crash."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # the reader of a pipe may be gone
            stream.flush()
    os._exit(code)
