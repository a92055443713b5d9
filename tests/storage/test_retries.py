"""Faults of an object store: what may pass is tried again and counted, and what is written is there once."""

from __future__ import annotations

import itertools
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import object_store
import obstore
import pyarrow as pa
import pytest
from object_store import FaultProxy, mixed
from obstore.exceptions import GenericError

from annotate import tally
from annotate.errors import StorageError
from annotate.storage import connections, retries
from annotate.storage.contracts import contract
from annotate.storage.parts import UnitOutput, commit, find, read_part
from annotate.storage.store import Directory

DATA = bytes(range(256)) * 1200
KINDS = {
    "503": "throttled",
    "429": "throttled",
    "500": "server error",
    "reset": "connection",
    "cut": "body cut off",
    "stalled": "time-out",
    "short": "body cut off",
    "lies": "server error",
    "lost": "connection",
}
"""By fault, how the failure of a read or, where only writes are spoiled, of a write is counted."""
_prefixes = map(str, itertools.count())


def tried_again():
    """The counts of what was tried again since the last call."""
    return {name: number for name, number in tally.taken().items() if name.startswith(retries.COUNTED)}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with object_store.s3() as endpoint:
        yield endpoint


@pytest.fixture
def proxy(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.005)
    with FaultProxy(endpoint, seed=1) as proxy:
        for name, value in object_store.environment(proxy.address).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_READ_TIMEOUT", "700ms")
        proxy.pause = 0.01
        connections.forget()
        tally.taken()
        yield proxy
    connections.forget()


@pytest.fixture
def directory(proxy: FaultProxy) -> Directory:
    return Directory.at(f"s3://{object_store.BUCKET}/{next(_prefixes)}")


def meet(proxy: FaultProxy, fault: str, most: int = 1, only: tuple[str, ...] | None = None) -> None:
    """Let a fault meet the next requests."""
    proxy.shares, proxy.only = {fault: 1.0}, only
    proxy.most = sum(proxy.done.values()) + most


def test_what_is_tried_again_is_told_once_a_request_without_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "TELL_SECONDS", 0.0)
    told: list[str] = []
    place = Directory.at("https://127.0.0.1:9/a?key=mine")
    with retries.telling(told.append), retries.within(0.3, 2), pytest.raises(StorageError):
        place.size("words.csv")
    assert told == ["https://127.0.0.1:9/a?key=***: no connection; trying again for up to 0.3 s"]
    with retries.within(0.1, 2), pytest.raises(StorageError):
        place.size("words.csv")
    assert len(told) == 1


@pytest.mark.parametrize("fault", KINDS)
def test_each_fault_is_tried_again_and_counted_by_its_kind(fault: str, proxy: FaultProxy, directory: Directory) -> None:
    directory.put("a", DATA)
    if fault in ("lies", "lost"):
        meet(proxy, fault)
        directory.put("a", DATA)
    else:
        file = directory.open("a", len(DATA))
        file.seek(100)
        meet(proxy, fault)
        assert bytes(file.read(1000)) == DATA[100:1100]
    assert tried_again() == {f"retries: {KINDS[fault]}": 1}
    assert directory.get("a") == DATA


@pytest.mark.parametrize("fault", [fault for fault in object_store.MIXED if fault != "stalled"])
def test_every_operation_outlasts_each_fault(fault: str, proxy: FaultProxy, directory: Directory) -> None:
    """Two faults before each operation; of those that only spoil writes, two before each write."""
    many = [f"deep/{n:04}" for n in range(1010)]  # two pages of a listing

    def after_faults() -> Directory:
        meet(proxy, fault, most=2)
        return directory

    after_faults().create()
    after_faults().put("a", DATA)
    assert after_faults().put_new("b", b"1") is True
    assert after_faults().put_new("b", b"2") is False
    assert after_faults().get("a") == DATA
    assert after_faults().get("b") == b"1"
    assert after_faults().size("a") == len(DATA)
    assert after_faults().size("c") is None
    assert after_faults().version("a") == directory.version("a")
    assert after_faults().open_stream("a").read() == DATA
    if fault == "cut":
        for path in many:
            directory.put(path, b"")
        assert sorted(path for path, _ in after_faults().sizes("deep")) == many
        after_faults().delete(many)
    after_faults().put("d/e", b"12")
    assert sorted(after_faults().sizes("")) == [("a", len(DATA)), ("b", 1), ("d/e", 2)]
    assert sorted(after_faults().sizes("", deep=False)) == [("a", len(DATA)), ("b", 1)]
    assert after_faults().folders() == ["d"]
    after_faults().delete(["a", "never was", "d/e"])
    assert [path for path, _ in directory.sizes("")] == ["b"]


@pytest.mark.parametrize("fault", ["lies", "lost", "cut"])
def test_an_object_whose_creation_was_not_confirmed_is_ours_if_it_has_our_bytes(
    fault: str, proxy: FaultProxy, directory: Directory
) -> None:
    meet(proxy, fault, only=("PUT",))
    assert directory.put_new("units/a", b"ours")
    assert proxy.done[fault] == 1
    assert directory.get("units/a") == b"ours"
    meet(proxy, "500", only=("PUT",))
    assert not directory.put_new("units/a", b"late")  # a try failed, and the object is another's
    assert directory.get("units/a") == b"ours"
    meet(proxy, fault, only=("PUT",))
    assert not directory.put_new("units/a", b"late")


def test_an_upload_in_pieces_outlasts_faults(proxy: FaultProxy, directory: Directory, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 20
    proxy.shares = {"503": 0.2, "reset": 0.2}
    directory.put("large", data)
    (tmp_path / "file").write_bytes(data)
    directory.put("file", tmp_path / "file")
    assert sum(proxy.done.values()) > 0
    assert directory.get("large") == data
    assert directory.get("file") == data


def output(n: int) -> UnitOutput:
    table = pa.table(
        [[f"id-{n}-{i}" for i in range(50)], pa.array([2] * 50, pa.int64()), ["a:0"] * 50, ["a:1"] * 50],
        schema=contract("repeated-ids").schema,
    )
    return UnitOutput(table, None, {"n": n}, {})


@pytest.mark.parametrize("seed", [1, 2])
def test_commits_through_mixed_faults_leave_what_undisturbed_ones_leave(
    seed: int, proxy: FaultProxy, directory: Directory, tmp_path: Path
) -> None:
    local = Directory.at(tmp_path / "local")
    for n in range(40):
        commit(local, f"key{n}", output(n), schema="repeated-ids")
    proxy.seed, proxy.shares = seed, {**mixed(0.1), "stalled": 0.003}  # each stall takes as long as the time-out
    for n in range(40):
        entry = commit(directory, f"key{n}", output(n), schema="repeated-ids")
        assert find(directory, f"key{n}") == entry
        assert read_part(directory, entry.part, schema="repeated-ids") == output(n).table
    assert len(proxy.done) > 5
    assert {path: directory.get(path) for path, _ in directory.sizes("")} == {
        path: local.get(path) for path, _ in local.sizes("")
    }
    assert sum(tried_again().values()) >= sum(proxy.done[fault] for fault in KINDS)


@pytest.mark.parametrize("act", [lambda d: d.get("a"), lambda d: d.put("a", b""), lambda d: list(d.sizes(""))])
def test_tries_are_bounded_in_time_and_the_error_says_how_often(
    act: object, proxy: FaultProxy, directory: Directory
) -> None:
    proxy.shares = {"503": 1.0}
    with (
        retries.within(0.3),
        pytest.raises(StorageError, match=r"503 Service.*\(SlowDown, tried \d+ times in [\d.]+ s\)"),
    ):
        act(directory)  # type: ignore[operator]


def test_what_can_not_pass_is_not_tried_again(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match=r"no-such-bucket/a cannot be written: .*404 Not Found"):
        Directory.at("s3://no-such-bucket").put("a", b"")
    assert proxy.requests == 1
    with pytest.raises(StorageError, match="Unable to recognise URL"):
        Directory.at("scheme://bucket").size("a")
    assert tried_again() == {}


def test_a_local_disk_is_not_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        Directory.at(tmp_path / "file" / "out").put("a", b"")
    assert tried_again() == {}


def test_the_waits_double_up_to_a_limit_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    def fails(_: int) -> None:
        raise retries.ShortRead("short")

    monkeypatch.setattr(retries.time, "sleep", sleep)
    monkeypatch.setattr(retries.time, "monotonic", lambda: now[0])
    with pytest.raises(retries.ShortRead):
        retries.again(fails)
    most = [min(retries.LONGEST_WAIT, retries.FIRST_WAIT * 2**n) for n in range(len(waits))]
    assert all(m / 2 <= wait <= m for wait, m in zip(waits, most, strict=True))
    assert retries.LIMIT_SECONDS - retries.LONGEST_WAIT <= sum(waits) <= retries.LIMIT_SECONDS
    assert len({wait / m for wait, m in zip(waits, most, strict=True)}) == len(waits)


def test_a_store_that_ignores_conditional_writes_is_refused_by_name(proxy: FaultProxy, directory: Directory) -> None:
    proxy.ignored = ("if-none-match",)
    with pytest.raises(StorageError, match=f"the store of {directory.url} does not honour conditional writes") as error:
        directory.create()
    assert "could both commit the same work unit" in str(error.value.hint)
    proxy.ignored = ()
    directory.create()
    assert list(directory.sizes("")) == []


@pytest.mark.parametrize(
    "unset, set_, said, hint",
    [
        (["AWS_ALLOW_HTTP"], {}, "plain HTTP, which is not allowed", "Set AWS_ALLOW_HTTP=true in the environment of"),
        (
            ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
            {"AWS_METADATA_ENDPOINT": "http://127.0.0.1:9"},
            "no credentials were found",
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
    ],
)
def test_what_the_environment_lacks_is_named(
    unset: list[str],
    set_: dict[str, str],
    said: str,
    hint: str,
    directory: Directory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in unset:
        monkeypatch.delenv(name)
    for name, value in set_.items():
        monkeypatch.setenv(name, value)
    connections.forget()
    with retries.within(1.0), pytest.raises(StorageError, match=said) as error:
        directory.create()
    assert hint in str(error.value.hint)


@pytest.mark.parametrize("act", [lambda d: d.get("a"), lambda d: d.put("a", b""), lambda d: list(d.sizes(""))])
def test_a_signature_in_the_address_of_a_request_is_in_no_message(
    act: object, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", proxy.address)
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2022-11-02&sig=marked-secret&se=2030-01-01")
    proxy.shares = {"500": 1.0}
    with retries.within(0), pytest.raises(StorageError, match="500 Internal Server Error") as caught:
        act(Directory.at("az://container/a"))  # type: ignore[operator]
    assert proxy.done["500"] and "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "answer, shown",
    [
        ("<Error><Code>ExpiredToken</Code><Token-0>marked-secret</Token-0></Error>", r"400 Bad \(ExpiredToken\)\n"),
        ('{"error": "invalid_grant", "key": "marked-secret"}', r"400 Bad \(invalid_grant\)\n"),
        ('{"error": {"code": 400, "status": "PERMISSION_DENIED", "m": "marked-secret"}}', r"400 Bad \(PERMISSION_DEN"),
        ("<!doctype html><title>marked-secret</title>", r"400 Bad\n"),
        ("the token marked-secret is not known here", r"400 Bad\n"),
        ("\n\nmarked-secret", r"400 Bad\n"),
    ],
)
def test_a_token_that_the_store_repeats_is_in_no_message(
    answer: str, shown: str, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expired(*_: object, **__: object) -> None:
        raise GenericError(
            f"Error performing GET http://s in 1ms - Server returned non-2xx status code: 400 Bad: {answer}"
        )

    monkeypatch.setattr(obstore, "get", expired)
    with pytest.raises(StorageError, match=shown) as caught:
        directory.get("a")
    assert "secret" not in "".join(traceback.format_exception(caught.value))
