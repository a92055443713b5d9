"""The provenance of a run: what one needs to repeat it. A file of the work directory for each run, beside the datasets.

Manifests are equal however a dataset was made, so this is not in them. A run's file names all its datasets by their
fingerprints: the runs that made or found a dataset are those whose files have its fingerprint.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from annotate.credentials import redacted
from annotate.engine.datasets import Dataset, latest
from annotate.engine.options import Options
from annotate.engine.versions import versions
from annotate.errors import StorageError
from annotate.graph import Stage
from annotate.storage import layout
from annotate.storage.store import Directory

GIT_SECONDS = 5.0
COMMAND = "annotate"
"""The name of the file of our own command, which is no pipeline."""
MOST_READ = 20
"""So many of the newest files are looked through for one of a pipeline."""
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets this environment variable for the driver of a job."""
COMMIT = "ANNOTATE_COMMIT"
"""The environment variable in which a job is told what `git_commit` gives for the folder that was sent."""


@dataclass(frozen=True)
class Origin:
    """Where a pipeline comes from.

    Attributes:
        file: path of the pipeline file, or of the program that made the pipeline.
        source: its text. What is written of it has `***` where a credential stood; its hash is that of the whole.
        parameters: of the pipeline, as they were given.
    """

    file: str
    source: str
    parameters: Mapping[str, Any]

    @staticmethod
    def of(file: str | None, parameters: Mapping[str, Any] | None = None) -> Origin | None:
        """The origin in a file; None if there is no such file, as in an interactive session."""
        try:
            source = Path(file or "").read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        return Origin(str(file), source, dict(parameters or {}))


def write_provenance(
    workdir: Directory, run: str, origin: Origin | None, options: Options, datasets: Mapping[Stage, Dataset]
) -> None:
    """Write the provenance of a run.

    Args:
        workdir: the work directory.
        run: name of the run.
        origin: of the pipeline; None for the program that runs.
        options: of the run.
        datasets: of all stages, inputs before users.
    """
    found = origin or _program()
    told = {
        "run": run,
        "annotate": versions()["annotate"],
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "git": None if found is None else git_commit(Path(found.file).resolve().parent) or _commit_of_job(),
        "pipeline": None if found is None else _pipeline(found),
        "parameters": {} if found is None else _shown(found.parameters),
        "options": _shown(dataclasses.asdict(options)),
        "packages": _packages(),
        "stages": [_stage(dataset) for dataset in datasets.values()],
    }
    workdir.put(layout.provenance(run), json.dumps(redacted(told), indent=1, ensure_ascii=False).encode())


def other_pipeline(workdir: Directory, origin: Origin | None) -> str | None:
    """The pipeline file that the last run in a work directory had, if it was another; else None.

    A file at another path is the same pipeline if it has the same text. The file of a job is known by its path in the
    folder that was sent, so it is taken for the same as a file elsewhere whose path ends with that. Runs of no pipeline
    file, such as those of `annotate duplicates`, are passed over.

    Returns:
        The name of the file, or its path if the name is the same.
    """
    if origin is None:
        return None
    files = sorted((path for path, _ in workdir.sizes(f"{layout.PROVENANCE}/") if path.endswith(".json")), reverse=True)
    for path in files[:MOST_READ]:
        with suppress(ValueError, LookupError, TypeError, AttributeError, OSError):  # the files are for people only
            before, now = json.loads(workdir.get(path))["pipeline"], _pipeline(origin)
            if before is None or before["file"] == COMMAND:  # earlier versions wrote the command's own file
                continue
            at, here = (str(each.get("path", each["file"])) for each in (before, now))
            if before["sha256"] == now["sha256"] or _same_place(at, here):
                return None
            return str(before["file"]) if before["file"] != now["file"] else at
    return None


def _same_place(one: str, other: str) -> bool:
    """Whether one path ends with the other: a relative one, which may lie anywhere."""
    parts, others = Path(one).parts, Path(other).parts
    shorter = min(len(parts), len(others))
    return parts[-shorter:] == others[-shorter:]


@functools.cache
def _packages() -> dict[str, str]:
    """The versions of all installed packages. Reading what they say of themselves takes a tenth of a second."""
    return dict(sorted((each.name, each.version) for each in metadata.distributions() if each.name))


def read_provenance(workdir: Directory, run: str) -> Mapping[str, Any] | None:
    """Read the provenance of a run; None if it wrote none.

    Raises:
        StorageError: the file is damaged.
    """
    path = layout.provenance(run)
    try:
        found: Mapping[str, Any] = json.loads(workdir.get(path))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StorageError(
            f"{workdir.url}/{path} is damaged: {error}", hint="Delete it: it is for people only."
        ) from error
    return found


def _commit_of_job() -> dict[str, Any] | None:
    """The commit of the folder that was sent with a job, in which there is no repository."""
    try:
        told: dict[str, Any] | None = json.loads(os.environ.get(COMMIT, "null"))
    except ValueError:
        return None
    return told


def git_commit(folder: Path) -> dict[str, Any] | None:
    """The commit that a folder is at, and whether tracked files in it differ from the commit; None without git."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        if commit.returncode:
            return None
        differs = _git(folder, "diff", "--quiet", "HEAD", "--", ".").returncode != 0
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"commit": commit.stdout.strip(), "changed": differs}


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "--no-optional-locks", "-C", str(folder), *words],
        capture_output=True,
        text=True,
        timeout=GIT_SECONDS,
        check=False,
    )


def _program() -> Origin | None:
    """The program that runs; None if it is our own command, or an interactive session."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    ours = getattr(getattr(main, "__spec__", None), "name", None) == "annotate.__main__"  # python -m annotate
    return None if ours or file is None or Path(file).name == COMMAND else Origin.of(file)


def _pipeline(origin: Origin) -> dict[str, str]:
    digest, path = hashlib.sha256(origin.source.encode()).hexdigest(), Path(origin.file)
    path = path.parent.resolve() / path.name
    if JOB in os.environ and path.is_relative_to(Path.cwd()):  # a folder of Ray's, another for each job
        path = path.relative_to(Path.cwd())
    return {"file": path.name, "path": str(path), "sha256": digest, "source": origin.source}


def _stage(dataset: Dataset) -> dict[str, Any]:
    """A stage as `latest.json` has it, with the models that it names."""
    told = {name: value for name, value in vars(latest(dataset)).items() if value is not None}
    models = [dict(pairs) for pairs in dict.fromkeys(tuple(each.items()) for each in _models(dataset.stage))]
    return told | ({"models": models} if models else {})


def _models(value: Any) -> Iterator[dict[str, str]]:
    """The models and tokenizers in the settings of a stage: what has a revision. Inputs are stages of their own."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    name = next((fields[key] for key in ("model", "name", "tokenizer") if isinstance(fields.get(key), str)), None)
    if "revision" in fields and name is not None:
        yield {"name": name, "revision": fields["revision"] or "none: files of a directory or a package"}
    for inner in fields.values():
        parts: Iterable[Any] = inner if isinstance(inner, tuple | list) else (inner,)
        for part in parts:
            if not isinstance(part, Stage):
                yield from _models(part)


def _shown(value: Any) -> Any:
    """A value that JSON has."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _shown(item) for name, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list | tuple) else str(value)
