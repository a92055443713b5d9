"""Commits a dataset in a child process that is killed at one step after the other: `kill_commits.py URL`.

A step is each request that writes or removes, before it is made, and each fault point. For every step the dataset is
made in a folder of its own: a child is killed there, and a second one does the same work to its end. Prints, as JSON,
for each step its name and the checksums of all files that are left; under "undisturbed", those of a dataset that nobody
disturbed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.parquet as pq

from annotate.storage import faults
from annotate.storage.contracts import contract
from annotate.storage.manifests import FileRows, ManifestWriter, Unit, missing_parts, read_manifest, read_units
from annotate.storage.marker import mark
from annotate.storage.parts import (
    Entry,
    UnitOutput,
    commit,
    commit_all,
    commit_file,
    create_entry,
    find_all,
    joined,
    parquet_bytes,
    put_output,
    read_part,
)
from annotate.storage.slices import put_slices
from annotate.storage.store import Directory, checksum

IDS, LINKS = "repeated-ids", "sent-links"
RECIPE, FINGERPRINT = "1234abcd" + "0" * 24, "1" * 32


def key(number: int) -> str:
    return f"{number:024x}"


def output(name: str, rows: int, bad: int = 0) -> UnitOutput:
    ids = [f"{name}-{row}" for row in range(rows)]
    table = pa.table(
        [ids, pa.array([2] * rows, pa.int64()), ["a:0"] * rows, ["a:1"] * rows], schema=contract(IDS).schema
    )
    rejected = [{"shard": name, "row": row, "reason": "why"} for row in range(bad)]
    return UnitOutput(table, pa.Table.from_pylist(rejected, schema=contract("quarantine").schema), {"rows": rows})


def links() -> pa.Table:
    numbers = pa.array(range(6), pa.uint64())
    return pa.table([pa.array([0, 0, 1, 2, 2, 2], pa.int32()), numbers, numbers], schema=contract(LINKS).schema)


def units(dataset: Directory) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The key of each unit, and what commits it: one for each way in which the engine commits."""

    def parts() -> Iterator[Entry]:
        for n in range(3):
            yield put_output(dataset, key(2), output(f"several-{n}", 4, bad=n), schema=IDS)

    def file() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "part.parquet"
            pq.write_table(output("file", 5).table, path)
            commit_file(dataset, key(4), path, 5)

    def both() -> None:
        others = [find_all(dataset, key(n)) for n in (1, 2)]
        first, second = (entries[-1] for entries in others if entries is not None)
        joined(dataset, key(5), first, [second])

    bad = output("sliced", 1, bad=2).quarantine
    yield key(1), lambda: commit(dataset, key(1), output("one", 3, bad=2), schema=IDS)
    yield key(2), lambda: commit_all(dataset, key(2), parts())
    yield key(3), lambda: create_entry(dataset, put_slices(dataset, key(3), [links()], schema=LINKS, quarantine=bad))
    yield key(4), file
    yield key(5), both


def work(location: str) -> None:
    """Make the dataset as a run does: find what is committed, make the rest, then write the manifest."""
    workdir = Directory.at(location)
    workdir.create()
    dataset = workdir.child("ids-1234abcd")
    mark(dataset, RECIPE, version=1, settings="s")
    writer = ManifestWriter(dataset)
    for number, (name, make) in enumerate(units(dataset)):
        if find_all(dataset, name) is None:
            make()
        entries = find_all(dataset, name)
        assert entries is not None
        writer.add(Unit(f"s{number}", 0, 1, 1, entries, FileRows(path="p", size=1, checksum="c")))
    if (stands := read_manifest(dataset, FINGERPRINT)) is None or missing_parts(dataset, stands):
        about = {"stage": "ids", "recipe": RECIPE, "fingerprint": FINGERPRINT}
        writer.commit(**about, settings={}, inputs={}, replace=stands is not None)


def read_back(location: str) -> dict[str, str]:
    """Check all that the manifest names, and that no row is there twice; the checksum of each file, by its path."""
    workdir = Directory.at(location)
    dataset = workdir.child("ids-1234abcd")
    manifest = read_manifest(dataset, FINGERPRINT)
    assert manifest is not None
    ids: list[str] = []
    for unit in list(read_units(dataset, manifest))[:2]:
        for entry in unit.entries:
            ids += read_part(dataset, entry.part, schema=IDS)["id"].to_pylist()
    assert len(ids) == len(set(ids)) == 3 + 3 * 4
    return {path: checksum(workdir.get(path)) for path, _ in workdir.sizes("")}


def killed_at(wanted: int, named: Any) -> None:
    """Let this process be killed at a step, by its number, after writing the step's name to `named`."""
    number = 0

    def reach(name: str) -> None:
        nonlocal number
        if number == wanted:
            os.write(named, name.encode())
            os.kill(os.getpid(), signal.SIGKILL)
        number += 1

    def before(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def wrapped(store: Any, path: Any, *args: Any, **more: Any) -> Any:
            shown = path if isinstance(path, str) else path[0]
            reach(f"{name} {'.writable' if '.writable-' in shown else shown}")
            return function(store, path, *args, **more)

        return wrapped

    obstore.put, obstore.delete = before(obstore.put, "put"), before(obstore.delete, "delete")
    faults._hook = reach


def in_child(act: Callable[[Any], Any]) -> tuple[int, bytes]:
    """Run in a child that was forked before any store was opened; its exit code or minus the signal, and its words."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        code = 1
        try:
            said = act(writes)
            if said is not None:
                os.write(writes, json.dumps(said).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        words = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), words


def main(url: str) -> None:
    found: dict[str, Any] = {"steps": []}
    data = parquet_bytes(output("", 1).table)
    pq.read_table(pa.BufferReader(data), use_threads=False)  # imports, before the forks, what Arrow imports late
    for step in range(200):
        place = f"{url}/{step}"

        def once(named: Any, place: str = place, step: int = step) -> None:
            killed_at(step, named)
            work(place)

        code, name = in_child(once)
        again, files = in_child(lambda _, place=place: work(place) or read_back(place))
        assert again == 0, (step, name, code)
        if code == 0:
            found["undisturbed"] = json.loads(files)
            break
        assert code == -signal.SIGKILL, (step, code)
        found["steps"].append([name.decode(), json.loads(files)])
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
