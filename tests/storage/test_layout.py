"""Names on disk: what is made is told again, and nothing else is taken for it."""

from __future__ import annotations

import pytest

from annotate.storage import layout
from annotate.storage.layout import MARKER, RESCORE, UNIT_SIZE, FileKind, Name, parse

KEY, SUM, FINGERPRINT = "0123456789abcdef01234567", "0123456789abcdef" * 2, "fedcba9876543210" * 2
BESIDE = layout.companions(FINGERPRINT)
RUN = "20260101T000000-0a1b2c"
MADE = {
    layout.manifest(FINGERPRINT): Name(FileKind.MANIFEST, FINGERPRINT),
    layout.manifest_part(SUM): Name(FileKind.MANIFEST_PART),
    layout.entry(KEY): Name(FileKind.ENTRY, KEY),
    layout.entry(layout.numbered(KEY, 12)): Name(FileKind.ENTRY, f"{KEY}-12"),
    layout.part(KEY, SUM): Name(FileKind.PART, KEY),
    layout.part(layout.numbered(KEY, 0), SUM): Name(FileKind.PART, f"{KEY}-0"),
    layout.sliced_part(KEY, SUM): Name(FileKind.PART, KEY),
    layout.quarantine(KEY, SUM): Name(FileKind.QUARANTINE, KEY),
    f"{BESIDE}/tags.json": Name(FileKind.COMPANION, BESIDE),
    f"{BESIDE}/tokenizer/tokenizer.json": Name(FileKind.COMPANION, BESIDE),
    layout.refusal(KEY): Name(FileKind.REFUSAL, KEY),
    MARKER: Name(FileKind.MARKER),
    UNIT_SIZE: Name(FileKind.UNIT_SIZE),
    RESCORE: Name(FileKind.RESCORE),
}


@pytest.mark.parametrize("path", MADE)
def test_what_is_made_is_told_again_and_nothing_near_it(path: str) -> None:
    assert parse(path) == MADE[path]
    assert layout.unfinished(f"{path}#7") == path and layout.unfinished(path) is None
    for other in (f"{path}#7", f"{path}.", f"x{path}", f"x/{path}", f"{path}/x", path.upper(), f"{path}\n", path[1:]):
        assert parse(other) is None, other


def test_every_kind_has_a_name() -> None:
    assert {name.kind for name in MADE.values()} == set(FileKind)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a.parquet",
        "parts/a.parquet",
        f"parts/x/{KEY}-0123456789abcdef.parquet",
        f"parts/{KEY}.parquet",
        "units/notes",
        "manifests/list.json",
        "files/x",
        "files/0123abcd/tokenizer/model.safetensors",
        "files/0123abcd/mine.txt",
        "Dataset.json",
    ],
)
def test_what_no_run_writes_is_not_taken_for_it(path: str) -> None:
    assert parse(path) is None


def test_names_beside_the_datasets_are_told_again() -> None:
    dataset = layout.dataset("spans", FINGERPRINT)
    assert dataset == "spans-fedcba98" and layout.is_dataset(dataset)
    assert (
        not layout.is_dataset("spans") and not layout.is_dataset("spans-fedcba9") and not layout.is_dataset("my notes")
    )
    view = layout.view(dataset, FINGERPRINT)
    assert layout.is_view(view) and not layout.is_view(f"mine/{view}") and not layout.is_view("quarantine/mine.parquet")
    assert layout.parse_events(layout.events(RUN, 12)) == (RUN, 12)
    assert layout.parse_events("events/party.jsonl") is None
    assert layout.parse_lease(layout.lease(SUM)) == SUM
    for other in (layout.lease_lock(SUM), layout.lease_gone(SUM), "leases/flat.json"):
        assert layout.parse_lease(other) is None


@pytest.mark.parametrize("place", ["", "deep/er/"])
def test_a_dataset_and_a_work_directory_are_told_by_what_lies_in_them(place: str) -> None:
    dataset = layout.dataset("spans", FINGERPRINT)
    for path in (layout.manifest(FINGERPRINT), layout.entry(KEY)):
        assert layout.dataset_around(f"{place}{dataset}/{path}") == f"{place}{dataset}/"
        assert layout.dataset_around(f"{place}mine/{path}") is None
    assert layout.dataset_around(f"{place}{dataset}/{layout.part(KEY, SUM)}") is None  # a corpus may have such names
    for path in (layout.view(dataset, FINGERPRINT), layout.events(RUN, 0), layout.provenance(RUN)):
        assert layout.workdir_around(f"{place}{path}") == place
    assert layout.workdir_around(f"{place}quarantine/mine.parquet") is None
