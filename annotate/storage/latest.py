"""`latest.json`: which datasets of a work directory the last run left, by the label of their stage."""

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
    """What a dataset is to who reads it, whatever stage made it."""

    SOURCE = "source"
    """What a run reads from elsewhere; imported files are all that lies in it."""
    UNITS = "units"
    """It has a unit for each of its corpus."""
    TEXT_SHARDS = "text-shards"
    TOKEN_SHARDS = "token-shards"
    OTHER = "other"
    """What is made on the way."""


SHARDS = (Role.TEXT_SHARDS, Role.TOKEN_SHARDS)


@dataclass(frozen=True)
class Latest:
    """One dataset that the last run left.

    Attributes:
        label: of its stage, as `annotate status` names it.
        stage: the name of the stage that made it.
        schema: the contract that its parts keep.
        role: what it is to who reads it.
        dataset: its directory in the work directory.
        recipe: of the stage.
        fingerprint: of the dataset.
        settings: of the stage.
        inputs: fingerprints of what it was made from, by the name it was read under.
        location: where a corpus was read: the only place that says so, since a recipe does not change with it.
        output: its name as an output of the pipeline, if it is one.
        subset: of training shards, the subset of the documents that they are, where there are subsets.
        control: of training shards, the control of their tags, if any.
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
        """An output for people: its name, with subset and control."""
        about = [f"{name} {getattr(self, name)}" for name in ("subset", "control") if getattr(self, name) is not None]
        return (self.output or self.label) + (f" ({', '.join(about)})" if about else "")

    def manifest(self, workdir: Directory) -> Manifest:
        """Read its manifest.

        Raises:
            StorageError: it is gone.
        """
        manifest = read_manifest(workdir.child(self.dataset), self.fingerprint)
        if manifest is None:
            raise StorageError(f"{workdir.url}/{self.dataset} lost its manifest", hint="Run the pipeline again.")
        return manifest


def write_latest(workdir: Directory, datasets: list[Latest]) -> None:
    """Point at the datasets of a run, in their order: inputs before users."""
    data = {item.label: {k: v for k, v in vars(item).items() if k != "label" and v is not None} for item in datasets}
    workdir.put(LATEST, json.dumps(data, indent=1).encode())


def read_latest(workdir: Directory) -> list[Latest]:
    """What the last run left; nothing where there was none.

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
            f"{workdir.url}/{LATEST} is not what this version of annotate writes", hint=ANOTHER_VERSION
        ) from error


def made_from(items: Sequence[Latest], output: str) -> list[Latest]:
    """An output of the last run, and all that it was made from.

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
    """Names the outputs of the last run, for a hint."""
    return f"The last run's outputs are: {', '.join(item.described for item in outputs) or 'none'}."
