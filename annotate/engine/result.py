"""What a run made, in plain values: names, numbers, paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from annotate.engine.ledger import Ledger
from annotate.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class MadeDataset:
    """A dataset that a run made, or found made.

    Attributes:
        label: of its stage, as `annotate status` and `annotate.tables` name it.
        described: of an output its name, with subset and control; else the label.
        folder: path, or URL, of the folder that its files are in. It may hold files of earlier runs too: those of the
            last one are listed by `annotate.shards`, and read by `annotate.tables`.
        fingerprint: hash of all that the dataset was made from: the recipes of its stage and of those before it.
        rows: of the dataset.
        units: work units of the dataset; of training shards, how many shards there are.
        bytes: size of its files.
        counts: what the stage has counted.
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
    """What a run made.

        result = pipeline.run("out")
        result.outputs["shards"].rows, result.ledger.states["written"]

    Attributes:
        workdir: path, or URL, of the work directory.
        outputs: the pipeline's outputs, by name.
        datasets: those of all stages, by label; one that was not needed is left out.
        ledgers: of each output that is shards, by name: every input document in one state.
        quarantined: rows by reason.
        remarks: what was said loudly.
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
            raise ConfigError(f"there are ledgers of several outputs: {', '.join(self.ledgers)}", hint="See `ledgers`.")
        return next(iter(self.ledgers.values()), None)
