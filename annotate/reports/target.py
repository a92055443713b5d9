"""Finds what a path names: a work directory, the datasets in a folder of one, or a single shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from annotate.errors import ConfigError, StorageError
from annotate.storage import layout
from annotate.storage.latest import Latest, made_from, read_latest
from annotate.storage.store import Directory

SHARDS, ANNOTATIONS = "text-shards", "annotations"


@dataclass(frozen=True, kw_only=True)
class Target:
    """The shard that a path names, or the work directory, with `datasets` if the path names a folder in it."""

    path: str
    file: tuple[Directory, str] | None = None
    workdir: Directory | None = None
    latest: Sequence[Latest] = ()
    datasets: Sequence[Latest] = ()

    @staticmethod
    def of(path: str) -> Target:
        """Find out what a path names.

        Raises:
            ConfigError: it names a dataset that can't be shown by itself.
            StorageError: it names nothing that can be shown; the hint says what can.
        """
        place = Directory.at(path.rstrip("/").removesuffix(f"/{layout.PARTS}"))
        parent, _, name = place.url.rpartition("/")
        above = Directory(parent)
        if name.endswith(".parquet"):
            if above.size(name) is None:
                raise StorageError(f"there is no file {place.url}", hint="Check the path.")
            return Target(path=path, file=(above, name))
        if place.size(layout.LATEST) is not None:
            return Target(path=path, workdir=place, latest=read_latest(place))
        if above.size(layout.LATEST) is not None:
            latest = read_latest(above)
            if chosen := [item for item in latest if item.dataset == name]:
                _check_shown(path, chosen)
                return Target(path=path, workdir=above, latest=latest, datasets=chosen)
            shown = dict.fromkeys(item.dataset for item in latest if item.stage in (SHARDS, ANNOTATIONS))
            raise StorageError(
                f"{place.url} is no dataset of the last run in {parent}",
                hint=f"These can be shown: {', '.join(shown) or 'none'}. Of an older dataset, name a .parquet file.",
            )
        raise StorageError(
            f"{place.url} is neither a work directory with a finished run, nor a dataset in one, nor a .parquet file",
            hint="Name the work directory of a run that went to its end, a dataset in it (text-shards-..., "
            "annotations-...), or a training shard.",
        )

    def of_output(self, name: str) -> Target:
        """Only one output and the datasets that it was made from.

        Raises:
            ConfigError: the path names a file; or the datasets that it names are of other outputs.
            StorageError: there is no such output.
        """
        if self.file is not None:
            raise ConfigError(f"{self.path} is one file, of one output", hint="Leave --output out.")
        latest = made_from(self.latest, name)
        datasets = [item for item in self.datasets if item in latest]
        if self.datasets and not datasets:
            raise ConfigError(f"the output {name!r} was not made from {self.path}", hint="Leave --output out.")
        return replace(self, latest=latest, datasets=datasets)

    def of_scores(self) -> Target:
        """The target for showing scores. If the path names training shards, it is the output that has them.

        Raises:
            ConfigError: the path names a file, which has no scores.
        """
        if self.file is not None:
            raise ConfigError(
                f"{self.path} alone has no scores: they are in the work directory",
                hint="Write `annotate show WORKDIR --scores`.",
            )
        if all(item.stage != SHARDS for item in self.datasets):
            return self
        outputs = {item.output for item in self.datasets}
        name = outputs.pop() if len(outputs) == 1 else None
        return replace(self if name is None else self.of_output(name), datasets=())

    def of_stage(self, stage: str) -> list[Latest]:
        """The last run's datasets of a stage."""
        return [item for item in self.latest if item.stage == stage]

    def input(self, item: Latest, name: str) -> Latest | None:
        """The dataset that a dataset has as its input `name`; None if the last run did not leave it."""
        wanted = item.inputs.get(name)
        return next((source for source in self.latest if source.fingerprint == wanted), None)

    def tag_axes(self) -> dict[str, tuple[str, ...]]:
        """The axes that the rule of each tag reads, in the order of the scheme."""
        from annotate.tags.rules import parse_rule

        tags = [tag for item in self.of_stage("placements") for tag in item.settings["tags"]]
        return {tag["name"]: parse_rule(tag["rule"]).axes for tag in tags}

    def axes(self) -> list[str]:
        """All axes that are scored; if there is a calibration, in the order of the pipeline."""
        groups = [group for item in self.of_stage("calibration") for group in item.settings["axes"]]
        groups += [item.settings["axes"] for item in self.of_stage(ANNOTATIONS)]
        return list(dict.fromkeys(axis for group in groups for axis in group))


def _check_shown(path: str, datasets: Sequence[Latest]) -> None:
    if others := {item.stage for item in datasets} - {SHARDS, ANNOTATIONS}:
        raise ConfigError(
            f"{path} holds {min(others)}, which can't be shown by themselves",
            hint="Show text-shards-... or annotations-..., or the work directory.",
        )
