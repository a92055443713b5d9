"""The layout on disk: makes the name of everything that a run writes, and tells what a name is.

    WORKDIR/
      latest.json, ledger.json
      events/<run>-<n>.jsonl
      leases/<token>.json, with .lock and .gone
      quarantine/<dataset>-<fingerprint>.parquet     a view of a dataset's quarantine parts
      <stage>-<recipe>/                              a dataset
        dataset.json, rescore                        its marker; says that its scores are being dropped
        manifests/<fingerprint>.json
        manifests/units-<checksum>.parquet           a list of units that a manifest names
        units/<key>                                  the entry of a unit
        parts/<key>-<checksum>.parquet               or .slices
        quarantine/<key>-<checksum>.parquet
        files/<fingerprint>/...                      companions: what lies beside token shards

No other module spells these names. This one reads and writes nothing, and a name alone proves nothing: a work directory
may be any folder, with other things of its owner. What makes a folder a dataset is its marker, see `marker`.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

# Beside the datasets
LATEST, LEDGER = "latest.json", "ledger.json"
EVENTS, LEASES, VIEWS = "events", "leases", "quarantine"
FOLDERS = (EVENTS, LEASES, VIEWS)
"""The folders that runs keep beside the datasets."""

# In a dataset
MARKER, RESCORE = "dataset.json", "rescore"
MANIFESTS, ENTRIES, PARTS, QUARANTINES = "manifests", "units", "parts", "quarantine"

_KEY = r"[0-9a-f]{24}(?:-\d+)?"
_RUN = r"\d{8}T\d{6}-[0-9a-f]{6}"
_DATASET = r"[a-z][a-z0-9-]*-[0-9a-f]{8}"


class Kind(enum.IntEnum):
    """What a run writes in a dataset, in the order in which it is removed: what names others goes before these.

    Cut short anywhere, nothing that is left names what is gone; last go the two that say what the rest is.
    """

    MANIFEST = 0
    UNIT_LIST = 1
    ENTRY = 2
    PART = 3
    QUARANTINE = 4
    COMPANION = 5
    RESCORE = 6
    MARKER = 7


@dataclass(frozen=True)
class Name:
    """What a name in a dataset is.

    Attributes:
        kind: of what it names.
        of: the fingerprint of a manifest; the key of the unit that an entry, a part or a quarantine part is of; of a
            companion the folder that all companions of its dataset lie in; else empty.
    """

    kind: Kind
    of: str = ""


# A group a kind, and in each the group of what the name is of.
_IN_DATASET = re.compile(
    "|".join(
        f"(?P<{kind.name}>{pattern})"
        for kind, pattern in {
            Kind.MANIFEST: rf"{MANIFESTS}/([0-9a-f]{{32}})\.json",
            Kind.UNIT_LIST: rf"{MANIFESTS}/units-[0-9a-f]{{16}}\.parquet()",
            Kind.ENTRY: rf"{ENTRIES}/({_KEY})",
            Kind.PART: rf"{PARTS}/({_KEY})-[0-9a-f]{{16}}\.(?:parquet|slices)",
            Kind.QUARANTINE: rf"{QUARANTINES}/({_KEY})-[0-9a-f]{{16}}\.parquet",
            Kind.COMPANION: r"(files/[0-9a-f]{8})/(?:README\.md|tags\.json|tokenizer/[^#]+\.(?:json|txt|model|jinja))",
            Kind.RESCORE: rf"{RESCORE}()",
            Kind.MARKER: rf"{re.escape(MARKER)}()",
        }.items()
    )
)
_VIEW = re.compile(rf"{VIEWS}/{_DATASET}-[0-9a-f]{{8}}\.(?:parquet|json)")
_EVENTS = re.compile(rf"{EVENTS}/(?P<run>{_RUN})-(?P<number>\d+)\.jsonl")
_BESIDE = re.compile(rf"((?:.*/)?)(?:{_VIEW.pattern}|{EVENTS}/{_RUN}-\d+\.jsonl)")
_EVIDENCE = re.compile(rf"((?:.*/)?{_DATASET}/)(?:{MANIFESTS}/[0-9a-f]{{32}}\.json|{ENTRIES}/{_KEY})")
# By a token; or by a run, or "annotate clean", as in older versions.
_LEASE = re.compile(rf"{LEASES}/([0-9a-f]{{32}}|{_RUN}|annotate clean)\.json")
_UNFINISHED = re.compile(r"(.+)#\d+")  # as a local store names a file until it is whole


def dataset(stage: str, recipe: str) -> str:
    """The folder of a dataset in a work directory."""
    return f"{stage}-{recipe[:8]}"


def is_dataset(name: str) -> bool:
    """Whether a folder has the name that a dataset could have."""
    return re.fullmatch(_DATASET, name) is not None


def manifest(fingerprint: str) -> str:
    """The manifest of a dataset of this fingerprint."""
    return f"{MANIFESTS}/{fingerprint}.json"


def unit_list(checksum: str) -> str:
    """A list of units that a manifest names."""
    return f"{MANIFESTS}/units-{checksum[:16]}.parquet"


def entry(key: str) -> str:
    """The entry of a unit, or of one of several parts of it."""
    return f"{ENTRIES}/{key}"


def numbered(key: str, number: int) -> str:
    """The key of one of several entries of a unit."""
    return f"{key}-{number}"


def part(key: str, checksum: str) -> str:
    """A part of a unit."""
    return f"{PARTS}/{key}-{checksum[:16]}.parquet"


def sliced_part(key: str, checksum: str) -> str:
    """A part of a unit that is read in slices."""
    return f"{PARTS}/{key}-{checksum[:16]}.slices"


def quarantine(key: str, checksum: str) -> str:
    """The bad rows of a unit."""
    return f"{QUARANTINES}/{key}-{checksum[:16]}.parquet"


def companions(fingerprint: str) -> str:
    """The folder of what lies beside the parts of a dataset of this fingerprint."""
    return f"files/{fingerprint[:8]}"


def parse(path: str) -> Name | None:
    """What a path below a dataset's folder is; None for what no run writes."""
    found = _IN_DATASET.fullmatch(path)
    if found is None or found.lastgroup is None or found.lastindex is None:
        return None
    return Name(Kind[found.lastgroup], found[found.lastindex + 1])


def unfinished(path: str) -> str | None:
    """What a file was to be that a killed process left half written, on a local disk; None for others."""
    found = _UNFINISHED.fullmatch(path)
    return found[1] if found is not None else None


def view(folder: str, fingerprint: str) -> str:
    """The view of a dataset's quarantine parts."""
    return f"{VIEWS}/{folder}-{fingerprint[:8]}.parquet"


def is_view(path: str) -> bool:
    """Whether a path below a work directory is that of a view."""
    return _VIEW.fullmatch(path) is not None


def events(run: str, number: int) -> str:
    """A file of a run's events."""
    return f"{EVENTS}/{run}-{number}.jsonl"


def parse_events(path: str) -> tuple[str, int] | None:
    """The run, and the number, of a file of events below a work directory; None for others."""
    found = _EVENTS.fullmatch(path)
    return (found["run"], int(found["number"])) if found is not None else None


def lease(token: str) -> str:
    """A lease on a work directory."""
    return f"{LEASES}/{token}.json"


def parse_lease(path: str) -> str | None:
    """The token of a lease below a work directory; None for others."""
    found = _LEASE.fullmatch(path)
    return found[1] if found is not None else None


def lease_lock(token: str) -> str:
    """The file that the holder of a lease has locked, on a local disk."""
    return f"{LEASES}/{token}.lock"


def lease_gone(token: str) -> str:
    """What one who takes the holder of a lease for gone leaves for it."""
    return f"{LEASES}/{token}.gone"


def dataset_around(path: str) -> str | None:
    """The dataset that a path lies in, with a slash at its end, if it has a name that only datasets have in them."""
    found = _EVIDENCE.fullmatch(path)
    return found[1] if found is not None else None


def workdir_around(path: str) -> str | None:
    """The work directory of a path, with a slash at its end, if it has the name of a view or of events there."""
    found = _BESIDE.fullmatch(path)
    return found[1] if found is not None else None
