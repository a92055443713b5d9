"""`latest.json`: which datasets of a work directory the last run left, by the label of their stage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import pyarrow as pa

from annotate.errors import StorageError
from annotate.storage import layout
from annotate.storage.layout import LATEST
from annotate.storage.manifests import Manifest, read_manifest, read_units
from annotate.storage.parts import read_part
from annotate.storage.store import Directory

BY_UNIT = {
    **{name: name for name in ("verdicts", "signatures", "spans", "annotations", "placements", "repeated-spans")},
    "nested-placements": "placements",
}
"""Contracts of the datasets that have the work units of the corpus, by the stage that made them."""

TEXT, TOKENS = SHARDS = ("training-shards", "token-shards")
"""Text shards, token shards."""


@dataclass(frozen=True)
class Latest:
    """One dataset that the last run left.

    Attributes:
        label: of its stage, as `annotate status` names it.
        stage: the name of the kind of stage.
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
        StorageError: the file is damaged.
    """
    try:
        data = workdir.get(LATEST)
    except FileNotFoundError:
        return []
    try:
        return [Latest(label=label, **fields) for label, fields in json.loads(data).items()]
    except (ValueError, TypeError) as error:
        raise StorageError(
            f"{workdir.url}/{LATEST} is damaged: {error}", hint="Delete it, and run the pipeline again."
        ) from error


def shards(workdir: str | PathLike[str], output: str | None = None) -> list[str]:
    """Paths, or URLs, of the training shards that the last run wrote, in the order in which they are trained on.

    This is what a trainer should read: a work directory may hold shards of earlier runs too.

    Args:
        workdir: the work directory.
        output: which shards, for a pipeline that has several: the name of the output, as in
            `Pipeline(train=..., evaluation=...)`.

    Raises:
        StorageError: there are none, or none of that name; or several, and no name says which.
    """
    directory = Directory.at(workdir)
    return list(_parts(directory, _shards(directory, output)))


def shard_tables(workdir: str | PathLike[str], output: str | None = None) -> Iterator[pa.Table]:
    """The tables of the token shards that the last run wrote, checked; in the order of `shards`.

    Args:
        workdir: the work directory.
        output: which of them, as for `shards`; text shards are none.

    Raises:
        StorageError: as for `shards`; or a part is damaged.
    """
    directory = Directory.at(workdir)
    item = _shards(directory, output, (TOKENS,))
    dataset = directory.child(item.dataset)
    for unit in read_units(dataset, item.manifest(directory)):
        for entry in unit.entries:
            yield read_part(dataset, entry.part, schema=item.stage)


def tags_folder(workdir: str | PathLike[str], output: str | None = None) -> str:
    """Path, or URL, of the folder beside token shards: `tokenizer`, which knows the tags, `tags.json` and `README.md`.

    Args:
        workdir: the work directory.
        output: which of them, as for `shards`; text shards are none.

    Raises:
        StorageError: as for `shards`.
    """
    directory = Directory.at(workdir)
    item = _shards(directory, output, (TOKENS,))
    return f"{directory.child(item.dataset).url}/{layout.companions(item.fingerprint)}"


def read_tags(folder: str | PathLike[str]) -> dict[str, Any]:
    """Read the `tags.json` of token shards.

    Args:
        folder: what `tags_folder` gives, or a copy of it: a path, or a URL.

    Raises:
        StorageError: there is none.
    """
    directory = Directory.at(folder)
    try:
        card: dict[str, Any] = json.loads(directory.get("tags.json"))
    except FileNotFoundError:
        raise StorageError(
            f"{directory.url} has no tags.json: these are no token shards, or it was removed",
            hint="Run the pipeline with TokenShards, in the shipped one by --set tokenizer=...; the same run of token "
            "shards writes the file again.",
        ) from None
    return card


def _shards(directory: Directory, output: str | None, kinds: Sequence[str] = SHARDS) -> Latest:
    left = [item for item in read_latest(directory) if item.stage in SHARDS]
    if not left:
        raise StorageError(f"there are no training shards in {directory.url}", hint="Run a pipeline to its end first.")
    named = [item for item in left if output in (None, item.output)]
    if not named:
        raise StorageError(f"{directory.url} has no training shards of an output {output!r}", hint=_they_are(left))
    found = [item for item in named if item.stage in kinds]
    if not found:
        raise StorageError(
            f"{directory.url} has text shards, no token shards: {', '.join(item.described for item in named)}",
            hint="Run the pipeline with TokenShards, in the shipped one by --set tokenizer=...",
        )
    if len(found) > 1:
        one = found[0].output
        raise StorageError(
            f"{directory.url} has training shards of several outputs: {', '.join(item.described for item in found)}",
            hint=f'Name one of them: output="{one}" in Python, --output {one} in a command.',
        )
    return found[0]


def _they_are(outputs: Sequence[Latest]) -> str:
    return f"The last run's outputs are: {', '.join(item.described for item in outputs) or 'none'}."


def made_from(items: Sequence[Latest], output: str) -> list[Latest]:
    """An output of the last run, and all that it was made from.

    Raises:
        StorageError: there is no such output.
    """
    outputs = [item for item in items if item.output is not None]
    waiting = [item.fingerprint for item in outputs if item.output == output]
    if not waiting:
        raise StorageError(f"the last run has no output {output!r}", hint=_they_are(outputs))
    wanted: set[str] = set()
    by_fingerprint = {item.fingerprint: item for item in items}
    while waiting:
        fingerprint = waiting.pop()
        if fingerprint not in wanted and fingerprint in by_fingerprint:
            wanted.add(fingerprint)
            waiting.extend(by_fingerprint[fingerprint].inputs.values())
    return [item for item in items if item.fingerprint in wanted]


def tables(workdir: str | PathLike[str], dataset: str, output: str | None = None) -> Iterator[pa.Table]:
    """The tables of a dataset that the last run left, a work unit at a time, in corpus order.

    Args:
        workdir: the work directory.
        dataset: its label, as `annotate status` names it: "verdicts", "signatures", "spans", "annotations (...)",
            "placements", "nested-placements", "repeated-spans".
        output: look only among what this output was made from; there "placements" is "placements #2", where that is
            the one.

    Returns:
        Tables as `schemas/` says, each with a column `shard` in front.

    Raises:
        StorageError: the last run left no such dataset, or several, or a part is damaged.
    """
    directory = Directory.at(workdir)
    items = read_latest(directory)
    left = [item for item in (items if output is None else made_from(items, output)) if item.stage in BY_UNIT]
    found = [item for item in left if item.label == dataset]
    if output is not None and not found:
        found = [item for item in left if item.label.partition(" #")[0] == dataset]
    if len(found) != 1:
        known = ", ".join(item.label for item in found or left) or "none"
        of = f" of the output {output!r}" if output is not None else ""
        raise StorageError(
            f"the last run in {directory.url} left {'several' if found else 'no'} dataset{'s' if found else ''} "
            f"{dataset!r}{of}",
            hint=f"{'They are' if found else 'It left'}: {known}.",
        )
    item = found[0]
    folder = directory.child(item.dataset)
    for unit in read_units(folder, item.manifest(directory)):
        for entry in unit.entries:
            table = read_part(folder, entry.part, schema=BY_UNIT[item.stage])
            yield table.add_column(0, "shard", pa.array([unit.shard] * table.num_rows, pa.string()))


def _parts(workdir: Directory, item: Latest) -> Iterator[str]:
    dataset = workdir.child(item.dataset)
    for unit in read_units(dataset, item.manifest(workdir)):
        yield from (f"{dataset.url}/{entry.part.path}" for entry in unit.entries)
