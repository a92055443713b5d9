"""Submits a run to a cluster: ships the pipeline's folder, and has `annotate run` started on the head."""

from __future__ import annotations

import ast
import json
import re
import secrets
import shlex
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from annotate import credentials
from annotate.arguments import as_path
from annotate.errors import ConfigError
from annotate.jobs.folder import Shipped, choose, pack
from annotate.jobs.server import Versions, check_versions, connect, server_address, versions_here, versions_there

# What a local Ray is started with, too: workers keep less memory and leave each other the CPUs.
_WORKERS = {"MALLOC_ARENA_MAX": "2", "POLARS_MAX_THREADS": "1"}
_NOT_READY = "No available agent"
_STARTING_SECONDS = 60.0
_NO_SECRETS = (
    "Ray logs the environment and the command of a job, and shows them to all who reach the cluster. Give the nodes "
    "their credentials where they are started: a role of the machine, or a secret of the container."
)


@dataclass(frozen=True)
class Submission:
    """A run that was submitted.

    Attributes:
        job: the id of the job.
        address: of the job server.
        command: what runs on the head.
        shipped: what was sent there.
        here: versions on this machine.
        cluster: versions of the cluster.
    """

    job: str
    address: str
    command: str
    shipped: Shipped
    here: Versions
    cluster: Versions


def submit(
    pipeline: str | PathLike[str],
    workdir: str,
    *,
    address: str,
    settings: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Submission:
    """Submit a run of a pipeline file to a Ray cluster, as a job. It goes on when this process ends.

        submit("pipelines/mine.py", "s3://bucket/out", address="http://localhost:8265").job

    The folder of the file is sent to the cluster, so that modules beside it can be imported there; a relative path in a
    pipeline means a file of that folder. Hidden files, virtual environments, data files in deeper folders, and what
    runs wrote are not sent. `annotate` has to be installed on the nodes.

    Credentials are never sent. The nodes must have their own.

    Args:
        pipeline: the pipeline file.
        workdir: where datasets are kept, as a URL that all nodes can reach; or an absolute path, on a disk that all
            nodes share.
        address: of the head's dashboard, as in `http://localhost:8265`.
        settings: parameters of the pipeline, as text.
        arguments: more of `annotate run`, as in `["--limit", "1000"]`.
        env: environment variables of the job and its workers. Ray shows them to all who can reach the cluster.

    Raises:
        ConfigError: the file or the work directory won't do, the folder is too large, a secret would be shown, the
            cluster can't be reached, or it has other versions.
    """
    file = Path(as_path(pipeline, "pipeline")).expanduser()
    _check_file(file)
    _check_workdir(workdir)
    for name, value in (settings or {}).items():
        _check_url(value, f"the parameter {name}")
    for name, value in (env or {}).items():
        _check_variable(name)
        _check_url(value, f"the environment variable {name}")
    for word in arguments:
        for url in re.findall(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", word):
            _check_url(url, "an argument")
    server_address(address)
    shipped = choose(file.absolute().parent)
    client = connect(address)
    here, there = versions_here(), versions_there(client)
    check_versions(here, there)
    set_ = [word for name, value in (settings or {}).items() for word in ("--set", f"{name}={value}")]
    name = f"./{file.name}" if file.name.startswith("-") else file.name
    # A job has no terminal, so it is told how wide the one is on which its log is read.
    columns = f"COLUMNS={shutil.get_terminal_size((160, 24)).columns}"
    run = ["python", "-m", "annotate", "run", name, "--workdir", workdir]
    command = f"{columns} {shlex.join([*run, *set_, *arguments])}"
    with tempfile.TemporaryDirectory(prefix="annotate-") as folder:
        archive = Path(folder, "pipeline.zip")
        pack(shipped, archive)
        job = _sent(
            client,
            entrypoint=command,
            submission_id=_job_id(file.stem),
            runtime_env={"working_dir": str(archive), "env_vars": {**_WORKERS, **_commit(shipped), **(env or {})}},
            metadata={"pipeline": file.name, "workdir": workdir},
        )
    return Submission(job, server_address(address), command, shipped, here, there)


def _commit(shipped: Shipped) -> dict[str, str]:
    """The variable that tells the job of the commit of the folder, whose repository is not sent."""
    from annotate.engine.provenance import COMMIT, git_commit  # with all of the engine

    found = git_commit(Path(shipped.folder))
    return {} if found is None else {COMMIT: json.dumps(found)}


def _sent(client: Any, **job: Any) -> str:
    """Send a job. A head that has just started has nobody yet who could start it, and says so."""
    until = time.monotonic() + _STARTING_SECONDS
    while True:
        try:
            return str(client.submit_job(**job))
        except Exception as error:
            if _NOT_READY in str(error) and time.monotonic() < until:
                time.sleep(1.0)
                continue
            reason = str(error).partition("\n")[0]
            if isinstance(error, OSError):  # of the connection; a refusal is another error
                raise ConfigError(
                    f"the cluster gave no answer to the job {job['submission_id']}: {reason}",
                    hint="It may have been started: `annotate jobs list` shows it then.",
                ) from error
            raise ConfigError(
                f"the cluster refused the job: {reason}",
                hint="`ray status` on the head shows how the cluster is. Nothing was started.",
            ) from error


def _job_id(stem: str) -> str:
    """An id that people can read; ours, so that a request which is sent twice starts one job."""
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', stem).strip('-').lower() or 'pipeline'}-{secrets.token_hex(4)}"


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise ConfigError(f"no such pipeline file: {file}", hint="`annotate new NAME` writes one to start from.")
    try:
        ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise ConfigError(
            f"{file}{line}: {getattr(error, 'msg', error)}", hint="Name a pipeline file, which Python can read."
        ) from error


def _check_workdir(workdir: str) -> None:
    _check_url(workdir, "the work directory")
    if "://" not in workdir and not Path(workdir).is_absolute():
        raise ConfigError(
            f"the work directory {workdir!r} is relative, and a job's folder is removed with the job",
            hint="Name a URL, as in --workdir s3://bucket/out; or an absolute path, on a disk that all nodes share.",
        )


def _check_url(value: str, what: str) -> None:
    """Refuse a secret in a URL."""
    if credentials.in_url(value):
        raise ConfigError(f"{what} is a URL with a credential in it", hint=_NO_SECRETS)


def _check_variable(name: str) -> None:
    """Refuse a variable that is a secret by its name."""
    if credentials.names_one(name):
        raise ConfigError(f"the environment variable {name} looks like a credential, and is not sent", hint=_NO_SECRETS)
