"""The result of a run in plain values: names, numbers, paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from annotate.engine.ledger import Ledger
from annotate.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class MadeDataset:
    """A dataset that a run made, or found committed.

    Attributes:
        label: label of its stage, as in `annotate status` and `annotate.tables`.
        described: for an output its name, with subset and control; else the label.
        folder: path or URL of its folder, which may hold files of earlier runs too. `annotate.shards` lists the files
            of the last run, and `annotate.tables` reads them.
        fingerprint: hash of the recipe of its stage and of the fingerprints of its inputs.
        rows: number of rows.
        units: number of work units; for training shards, the number of shards.
        bytes: size of its files.
        counts: the counts of the stage.
    """

    label: str
    described: str
    folder: str
    fingerprint: str
    rows: int
    units: int
    bytes: int
    counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a run.

        result = pipeline.run("out")
        result.outputs["shards"].rows, result.ledger.states["written"]

    Attributes:
        workdir: path, or URL, of the work directory.
        outputs: the pipeline's outputs, by name.
        datasets: the datasets of all stages, by label, without those that were not needed.
        ledgers: by name, for outputs of shards: every input document in one state.
        quarantined: number of quarantined rows by reason.
        remarks: the warnings of the run.
    """

    workdir: str
    outputs: Mapping[str, MadeDataset]
    datasets: Mapping[str, MadeDataset]
    ledgers: Mapping[str, Ledger]
    quarantined: Mapping[str, int]
    remarks: tuple[str, ...]

    @property
    def ledger(self) -> Ledger | None:
        """The ledger of the only output that is shards; None where there is none.

        Raises:
            ConfigError: there are several.
        """
        if len(self.ledgers) > 1:
            raise ConfigError(
                f"there are ledgers of several outputs: {', '.join(self.ledgers)}",
                hint=f"Take one by its name, as in result.ledgers[{next(iter(self.ledgers))!r}].",
            )
        return next(iter(self.ledgers.values()), None)
