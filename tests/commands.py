"""Commands of `annotate` in one process of their own, one after the other: a process for each would import all anew.

What a command prints is told apart for each. The process stays connected to its cluster, whose workers would else be
others for each command. How a process starts and ends, and connects, is tested elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from unittest import mock

Run = Callable[..., tuple[int, str, str]]
"""Runs a command, given its words; returns its exit code, and what it printed and said."""


@contextlib.contextmanager
def commands(environment: Mapping[str, str], folder: Path) -> Iterator[Run]:
    """Start the process, in a folder, with an environment that has the address of a cluster."""
    with subprocess.Popen(
        [sys.executable, __file__],
        env=environment,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None

        def run(*words: str) -> tuple[int, str, str]:
            print(json.dumps(words), file=process.stdin, flush=True)
            line = process.stdout.readline()
            assert line, f"the process ended in {' '.join(words)}"
            code, out, err = json.loads(line)
            return code, out, err

        yield run
        process.stdin.close()


def _main() -> None:
    import ray

    from annotate.cli.app import app, guarded

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that nothing else gets between the answers
    ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level="ERROR")
    connected = {"init": lambda *_, **__: None, "shutdown": lambda: None}
    for line in sys.stdin:
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.multiple(ray, **connected),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                code = guarded(app, json.loads(line))
            except BaseException:
                traceback.print_exc()
                code = 1
        print(json.dumps([code, out.getvalue(), err.getvalue()]), file=answers, flush=True)


if __name__ == "__main__":
    _main()
