"""The layout on disk: makes the names of all files that a run writes, and parses them.

    WORKDIR/
      latest.json, ledger.json
      events/<run>-<n>.jsonl
      provenance/<run>.json
      leases/<token>.json, .lock, .gone
      quarantine/<dataset>-<fingerprint>.parquet     a view: the bad rows of a dataset
      <stage>-<recipe>/                              a dataset
        dataset.json                                 its marker
        unit-size.json                               of a corpus: bytes of text in a unit, where a run chose them
        refused/<key>.json                           of a corpus: a document that ends the worker of a stage
        rescore                                      there while its scores are dropped
        manifests/<fingerprint>.json
        manifests/units-<checksum>.parquet           a manifest part: it lists units, and a manifest names it
        units/<key>                                  the entry of a unit
        parts/<key>-<checksum>.parquet               or .slices
        quarantine/<key>-<checksum>.parquet
        files/<fingerprint>/...                      companions: the files beside token shards

No other module spells these names. This module reads and writes nothing. A name alone proves nothing, since a work
directory may be any folder and hold other files of its owner: a folder is a dataset if it has a marker, see `marker`.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

# Beside the datasets
LATEST, LEDGER = "latest.json", "ledger.json"
EVENTS, LEASES, PROVENANCE, VIEWS = "events", "leases", "provenance", "quarantine"
FOLDERS = (EVENTS, LEASES, PROVENANCE, VIEWS)
"""The folders that runs keep beside the datasets."""

# In a dataset
MARKER, RESCORE, UNIT_SIZE = "dataset.json", "rescore", "unit-size.json"
MANIFESTS, ENTRIES, PARTS, QUARANTINES, REFUSALS = "manifests", "units", "parts", "quarantine", "refused"

_KEY = r"[0-9a-f]{24}(?:-\d+)?"
_RUN = r"\d{8}T\d{6}-[0-9a-f]{6}"
_COMPANION = r"(?:README\.md|tags\.json|tokenizer/[^#]+\.(?:json|txt|model|jinja))"
_DATASET = r"[a-z][a-z0-9-]*-[0-9a-f]{8}"


class FileKind(enum.IntEnum):
    """The kinds of files in a dataset, in the order in which they are removed.

    A file that names others goes before them. So if the removal is cut short, no file that is left names one that is
    gone. `RESCORE` and `MARKER` say what the other files are, and go last.
    """

    MANIFEST = 0
    MANIFEST_PART = 1
    ENTRY = 2
    PART = 3
    QUARANTINE = 4
    COMPANION = 5
    REFUSAL = 6
    UNIT_SIZE = 7
    RESCORE = 8
    MARKER = 9


@dataclass(frozen=True)
class Name:
    """A parsed name of a file in a dataset.

    Attributes:
        kind: the kind of the file.
        of: for a manifest its fingerprint; for an entry, a part or a quarantine part the key of its unit; for a
            refusal its key; for a companion the folder of all companions of its dataset; else empty.
    """

    kind: FileKind
    of: str = ""


# One group for each kind; inside it one group for `Name.of`.
_IN_DATASET = re.compile(
    "|".join(
        f"(?P<{kind.name}>{pattern})"
        for kind, pattern in {
            FileKind.MANIFEST: rf"{MANIFESTS}/([0-9a-f]{{32}})\.json",
            FileKind.MANIFEST_PART: rf"{MANIFESTS}/units-[0-9a-f]{{16}}\.parquet()",
            FileKind.ENTRY: rf"{ENTRIES}/({_KEY})",
            FileKind.PART: rf"{PARTS}/({_KEY})-[0-9a-f]{{16}}\.(?:parquet|slices)",
            FileKind.QUARANTINE: rf"{QUARANTINES}/({_KEY})-[0-9a-f]{{16}}\.parquet",
            FileKind.COMPANION: rf"(files/[0-9a-f]{{8}})/{_COMPANION}",
            FileKind.REFUSAL: rf"{REFUSALS}/([0-9a-f]{{24}})\.json",
            FileKind.UNIT_SIZE: rf"{re.escape(UNIT_SIZE)}()",
            FileKind.RESCORE: rf"{RESCORE}()",
            FileKind.MARKER: rf"{re.escape(MARKER)}()",
        }.items()
    )
)
_VIEW = re.compile(rf"{VIEWS}/{_DATASET}-[0-9a-f]{{8}}\.(?:parquet|json)")
_EVENTS = re.compile(rf"{EVENTS}/(?P<run>{_RUN})-(?P<number>\d+)\.jsonl")
_BESIDE = re.compile(rf"((?:.*/)?)(?:{_VIEW.pattern}|{EVENTS}/{_RUN}-\d+\.jsonl|{PROVENANCE}/{_RUN}\.json)")
_EVIDENCE = re.compile(rf"((?:.*/)?{_DATASET}/)(?:{MANIFESTS}/[0-9a-f]{{32}}\.json|{ENTRIES}/{_KEY})")
# Named by a token; older versions named it by a run, or "annotate clean".
_LEASE = re.compile(rf"{LEASES}/([0-9a-f]{{32}}|{_RUN}|annotate clean)\.json")
_UNFINISHED = re.compile(r"(.+)#\d+")  # the name that a local store gives to a file until it is whole


def dataset(stage: str, recipe: str) -> str:
    """The folder of a dataset in a work directory."""
    return f"{stage}-{recipe[:8]}"


def is_dataset(name: str) -> bool:
    """Whether a dataset could have this name."""
    return re.fullmatch(_DATASET, name) is not None


def manifest(fingerprint: str) -> str:
    """The manifest of a dataset of this fingerprint."""
    return f"{MANIFESTS}/{fingerprint}.json"


def manifest_part(checksum: str) -> str:
    """A manifest part, which lists units."""
    return f"{MANIFESTS}/units-{checksum[:16]}.parquet"


def entry(key: str) -> str:
    """The entry of a unit, or of one of the parts of a unit."""
    return f"{ENTRIES}/{key}"


def numbered(key: str, number: int) -> str:
    """The key of one entry of a unit that has several."""
    return f"{key}-{number}"


def part(key: str, checksum: str) -> str:
    """A part of a unit."""
    return f"{PARTS}/{key}-{checksum[:16]}.parquet"


def sliced_part(key: str, checksum: str) -> str:
    """A part of a unit whose rows are read in slices."""
    return f"{PARTS}/{key}-{checksum[:16]}.slices"


def quarantine(key: str, checksum: str) -> str:
    """The bad rows of a unit."""
    return f"{QUARANTINES}/{key}-{checksum[:16]}.parquet"


def refusal(key: str) -> str:
    """The note of a document that ends the worker of a stage."""
    return f"{REFUSALS}/{key}.json"


def companions(fingerprint: str) -> str:
    """The folder of the companions of a dataset of this fingerprint."""
    return f"files/{fingerprint[:8]}"


def parse(path: str) -> Name | None:
    """Parse a path below the folder of a dataset; None if it is no name that a run writes."""
    found = _IN_DATASET.fullmatch(path)
    if found is None or found.lastgroup is None or found.lastindex is None:
        return None
    return Name(FileKind[found.lastgroup], found[found.lastindex + 1])


def unfinished(path: str) -> str | None:
    """The name that a half-written file of a killed process should have had; None for other files."""
    found = _UNFINISHED.fullmatch(path)
    return found[1] if found is not None else None


def view(folder: str, fingerprint: str) -> str:
    """The view of the bad rows of a dataset."""
    return f"{VIEWS}/{folder}-{fingerprint[:8]}.parquet"


def is_view(path: str) -> bool:
    """Whether a path below a work directory is that of a view."""
    return _VIEW.fullmatch(path) is not None


def events(run: str, number: int) -> str:
    """A file of the events of a run."""
    return f"{EVENTS}/{run}-{number}.jsonl"


def parse_events(path: str) -> tuple[str, int] | None:
    """The run and the number of a file of events below a work directory; None for other files."""
    found = _EVENTS.fullmatch(path)
    return (found["run"], int(found["number"])) if found is not None else None


def provenance(run: str) -> str:
    """The file with the provenance of a run."""
    return f"{PROVENANCE}/{run}.json"


def lease(token: str) -> str:
    """The file of a lease on a work directory."""
    return f"{LEASES}/{token}.json"


def parse_lease(path: str) -> str | None:
    """The token of the file of a lease below a work directory; None for other files."""
    found = _LEASE.fullmatch(path)
    return found[1] if found is not None else None


def lease_lock(token: str) -> str:
    """The file that the holder of a lease keeps locked, on a local disk."""
    return f"{LEASES}/{token}.lock"


def lease_gone(token: str) -> str:
    """The file by which another process tells the holder of a lease that it was taken for dead."""
    return f"{LEASES}/{token}.gone"


def dataset_around(path: str) -> str | None:
    """The folder of the dataset around a path, ending with a slash, if the path is that of a manifest or an entry."""
    found = _EVIDENCE.fullmatch(path)
    return found[1] if found is not None else None


def workdir_around(path: str) -> str | None:
    """The work directory around a path, ending with a slash, if the path is that of a view, events or provenance."""
    found = _BESIDE.fullmatch(path)
    return found[1] if found is not None else None
