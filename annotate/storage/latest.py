"""`latest.json`: the datasets that the last run left in a work directory, by the labels of their stages."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.errors import StorageError
from annotate.storage.layout import LATEST
from annotate.storage.manifests import Manifest, read_manifest
from annotate.storage.marker import ANOTHER_VERSION
from annotate.storage.store import Directory


class Role(enum.StrEnum):
    """How a dataset can be read, whatever stage made it."""

    SOURCE = "source"
    """A source: its data lie elsewhere, except for files that were imported."""
    UNITS = "units"
    """It has one unit for each unit of its corpus."""
    TEXT_SHARDS = "text-shards"
    TOKEN_SHARDS = "token-shards"
    OTHER = "other"
    """An intermediate dataset."""


SHARDS = (Role.TEXT_SHARDS, Role.TOKEN_SHARDS)


@dataclass(frozen=True)
class Latest:
    """One dataset that the last run left.

    Attributes:
        label: of its stage, as `annotate status` shows it.
        stage: the name of the stage that made it.
        schema: the contract that its parts keep.
        role: how it can be read.
        dataset: its directory in the work directory.
        recipe: of the stage.
        fingerprint: of the dataset.
        settings: of the stage.
        inputs: the fingerprints of the datasets that it was made from, by the names of the stage's inputs.
        location: for a corpus, the path where it was read. It is stored nowhere else, since the recipe doesn't hold it.
        output: its name as an output of the pipeline, if it is one.
        subset: for training shards, the subset of documents in them, if there are subsets.
        control: for training shards, the control that made their tags, if any.
    """

    label: str
    stage: str
    schema: str
    role: Role
    dataset: str
    recipe: str
    fingerprint: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    location: str | None = None
    output: str | None = None
    subset: str | None = None
    control: str | None = None

    @property
    def described(self) -> str:
        """The output as messages name it, with subset and control."""
        about = [f"{name} {getattr(self, name)}" for name in ("subset", "control") if getattr(self, name) is not None]
        return (self.output or self.label) + (f" ({', '.join(about)})" if about else "")

    def manifest(self, workdir: Directory) -> Manifest:
        """Read its manifest.

        Raises:
            StorageError: there is none any more.
        """
        manifest = read_manifest(workdir.child(self.dataset), self.fingerprint)
        if manifest is None:
            raise StorageError(
                f"the manifest of {workdir.url}/{self.dataset} is gone",
                hint="Run the pipeline again: it writes the manifest again.",
            )
        return manifest


def write_latest(workdir: Directory, datasets: list[Latest]) -> None:
    """Write the datasets of a run to `latest.json`, in this order: each after its inputs."""
    data = {item.label: {k: v for k, v in vars(item).items() if k != "label" and v is not None} for item in datasets}
    workdir.put(LATEST, json.dumps(data, indent=1).encode())


def read_latest(workdir: Directory) -> list[Latest]:
    """Read the datasets that the last run left; none if no run has finished.

    Raises:
        StorageError: the file is damaged, or of another version of annotate.
    """
    try:
        data = workdir.get(LATEST)
    except FileNotFoundError:
        return []
    try:
        items = dict(json.loads(data))
    except (ValueError, TypeError) as error:
        raise StorageError(
            f"{workdir.url}/{LATEST} is damaged: {error}", hint="Delete it, and run the pipeline again."
        ) from error
    try:
        return [Latest(label=label, **{**fields, "role": Role(fields["role"])}) for label, fields in items.items()]
    except (ValueError, TypeError, KeyError) as error:
        raise StorageError(
            f"{workdir.url}/{LATEST} was written by another version of annotate", hint=ANOTHER_VERSION
        ) from error


def made_from(items: Sequence[Latest], output: str) -> list[Latest]:
    """The dataset of an output of the last run, and those that it was made from.

    Raises:
        StorageError: there is no such output.
    """
    outputs = [item for item in items if item.output is not None]
    waiting = [item.fingerprint for item in outputs if item.output == output]
    if not waiting:
        raise StorageError(f"the last run has no output {output!r}", hint=outputs_left(outputs))
    wanted: set[str] = set()
    by_fingerprint = {item.fingerprint: item for item in items}
    while waiting:
        fingerprint = waiting.pop()
        if fingerprint not in wanted and fingerprint in by_fingerprint:
            wanted.add(fingerprint)
            waiting.extend(by_fingerprint[fingerprint].inputs.values())
    return [item for item in items if item.fingerprint in wanted]


def outputs_left(outputs: Sequence[Latest]) -> str:
    """A hint that names the outputs of the last run."""
    return f"The last run's outputs are: {', '.join(item.described for item in outputs) or 'none'}."
