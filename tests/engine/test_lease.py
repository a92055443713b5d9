"""Leases: who is alive is told without clocks, hosts and process numbers, and what removes things is alone.

Holders are processes of their own. Those of another machine have another kernel, whose file locks say nothing here.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from annotate.engine import lease as leases
from annotate.engine.lease import hold, holder
from annotate.errors import StorageError
from annotate.storage.layout import LEASES
from annotate.storage.store import Directory

HOLD = Path(__file__).with_name("hold_lease.py")
SHORT = 2.0  # seconds
LONG = 30.0  # of leases that are renewed in time whatever else this machine does


class Other:
    """A process that holds a lease."""

    def __init__(self, workdir, what="run", seconds=SHORT, **how):
        self.process = subprocess.Popen(
            [sys.executable, str(HOLD), str(workdir), what, str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **{f"LEASE_{name.upper()}": str(value) for name, value in how.items()}},
        )

    def said(self):
        return self.process.stdout.readline().strip()

    def end(self):
        """Let it go on; what it says."""
        self.process.send_signal(signal.SIGCONT)
        out, _ = self.process.communicate("go on\n", timeout=60)
        return out.strip()

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "kernel").write_text("of another machine")
    return tmp_path / "out"


@pytest.fixture
def other(workdir):
    started = []

    def start(*arguments, **options):
        started.append(Other(workdir, *arguments, **options))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def elsewhere(tmp_path):
    """How a process on another machine is: with the same host name, and a number that no process here has."""
    return {"kernel": tmp_path / "kernel", "host": socket.gethostname(), "pid": 2**22 + 1}


def attempt(workdir, what="clean", *, share=False):
    """Try to take a lease: what it was told, and the refusal or None."""
    told = []
    try:
        with hold(
            Directory.at(workdir), "mine", share=share, what=what, seconds=SHORT, say=lambda *said: told.append(said)
        ) as held:
            held.confirm()
    except StorageError as error:
        return told, error
    return told, None


def until(done):
    """Wait for something to come true."""
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("mine", ["clean", "rescore", "run"])
@pytest.mark.parametrize("what", ["run", "clean"])
def test_a_live_holder_is_known_at_once_on_this_machine(workdir, other, mine, what):
    there = other(what, host=socket.gethostname(), pid=2**22 + 1)  # in a container that shares our host name
    assert there.said() == "held"
    told, refused = attempt(workdir, mine)
    assert refused is not None and f"another {what} works in" in refused.message and told == []
    assert ("--share" in refused.hint) == (what == mine == "run")
    found = holder(Directory.at(workdir))
    assert (found.what, found.pid) == (what, str(2**22 + 1))
    assert there.end() == "ended"
    assert attempt(workdir, mine) == ([], None) and holder(Directory.at(workdir)) is None


@pytest.mark.parametrize("skew", [-600, 0, 600])
def test_a_live_holder_on_another_machine_is_seen_by_its_renewals(workdir, other, elsewhere, skew):
    there = other(seconds=LONG, skew=skew, **elsewhere)
    assert there.said() == "held"
    told, refused = attempt(workdir)
    assert refused is not None and "another run works in" in refused.message
    assert told == [
        (
            "info",
            f"waiting up to 30 s to see whether run-{2**22 + 1} (process {2**22 + 1} on "
            f"{socket.gethostname()}) is alive",
        )
    ]
    assert holder(Directory.at(workdir)).what == "run"
    assert there.end() == "ended"


@pytest.mark.parametrize("skew", [-600, 600])
def test_a_killed_holder_on_another_machine_is_gone_after_its_length_and_not_before(workdir, other, elsewhere, skew):
    there = other(skew=skew, **elsewhere)
    assert there.said() == "held"
    there.kill()
    before = time.monotonic()
    told, refused = attempt(workdir)
    assert refused is None and time.monotonic() - before > SHORT and len(told) == 1
    before = time.monotonic()
    assert attempt(workdir) == ([], None)  # once is enough


def test_a_killed_holder_on_this_machine_is_gone_at_once_and_one_that_stands_still_is_not(workdir, other):
    there = other(seconds=0.2)
    assert there.said() == "held"
    there.process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    told, refused = attempt(workdir)
    assert refused is not None and told == []
    there.kill()
    assert attempt(workdir) == ([], None)
    assert list((workdir / LEASES).iterdir()) == []


def test_a_holder_that_stood_still_elsewhere_stops_when_it_goes_on_and_removes_nothing(workdir, other, elsewhere):
    target = workdir / "kept"
    target.touch()
    there = other("clean", removes=target, **elsewhere)
    assert there.said() == "held"
    there.process.send_signal(signal.SIGSTOP)
    told, refused = attempt(workdir, "run")
    assert refused is None and len(told) == 1
    assert f"clean-{2**22 + 1} did not renew its lease for over 2 s: another process took it for dead" in there.end()
    assert target.exists()
    assert list((workdir / LEASES).iterdir()) == []


def test_a_holder_that_was_never_taken_for_gone_removes(workdir, other, elsewhere):
    target = workdir / "kept"
    target.touch()
    there = other("clean", removes=target, **elsewhere)
    assert there.said() == "held"
    there.process.send_signal(signal.SIGSTOP)
    time.sleep(SHORT)
    assert there.end() == "ended" and not target.exists()


def test_a_lease_that_is_renewed_in_the_last_moment_is_not_taken(workdir, other, elsewhere, monkeypatch):
    there = other(**elsewhere)
    assert there.said() == "held"
    there.process.send_signal(signal.SIGSTOP)
    put = Directory.put

    def late(directory, path, data):
        put(directory, path, data)
        if path.endswith(".gone"):  # the word lies there, and before we look a last time the holder goes on
            [lease] = [found for found in (workdir / LEASES).glob("*.json") if found.stem == Path(path).stem]
            before = lease.read_bytes()  # while it stands still: it writes once, and stops at the word
            there.process.send_signal(signal.SIGCONT)
            until(lambda: lease.read_bytes() != before)

    monkeypatch.setattr(Directory, "put", late)
    _, refused = attempt(workdir)
    assert refused is not None and "another run works in" in refused.message
    assert "another process took it for dead" in there.end()


def test_of_two_that_clean_at_once_at_most_one_goes_on(workdir, other):
    for turn in range(3):
        both = [other("clean") for _ in range(2)]
        said = [each.said() for each in both]
        assert said.count("held") <= 1, (turn, said)
        assert all("another clean works in" in each for each in said if each != "held")
        for each, first in zip(both, said, strict=True):
            assert each.end() == ("ended" if first == "held" else "")


def test_runs_may_share_and_then_nobody_waits(workdir, other, elsewhere):
    there = other(seconds=LONG, **elsewhere)
    assert there.said() == "held"
    assert attempt(workdir, "run", share=True) == ([], None)
    assert attempt(workdir, "rescore", share=True)[1] is not None


@pytest.mark.parametrize("how", ["removed", "another's"])
def test_a_holder_whose_lease_was_removed_or_replaced_is_told(workdir, how):
    with (
        pytest.raises(StorageError, match="the lease of mine was removed from"),
        hold(Directory.at(workdir), "mine", share=False, seconds=SHORT) as held,
    ):
        [path] = (workdir / LEASES).glob("*.json")
        path.unlink() if how == "removed" else path.write_text("{}")
        until(held.check)
    assert not list((workdir / LEASES).glob("*.json"))


def test_renewals_that_fail_are_said_once_and_stop_what_removes(workdir, monkeypatch):
    told = []
    with hold(
        Directory.at(workdir), "mine", share=False, what="clean", seconds=SHORT, say=lambda *said: told.append(said)
    ) as held:
        put = Directory.put

        def fails(directory, path, data):
            raise StorageError("the network is gone")

        monkeypatch.setattr(Directory, "put", fails)
        until(lambda: held.check() or told)
        held.check()
        assert len(told) == 1 and told[0][0] == "warning" and "the network is gone" in told[0][1]
        with pytest.raises(StorageError, match="the network is gone"):
            held.confirm()
        monkeypatch.setattr(Directory, "put", put)
        held.confirm()
        assert len(told) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("20260101T000000-0a1b2c.json", {"run": "r", "what": "run", "host": "h", "pid": 1, "until": 1e12}),
        (f"{'0' * 32}.json", {"token": "0" * 32, "seconds": 1e9, "lock": {"kernel": "k"}}),
        (f"{'0' * 32}.json", "{]"),
    ],
)
def test_a_lease_that_says_nothing_of_use_is_watched(workdir, monkeypatch, name, content):
    monkeypatch.setattr(leases, "SECONDS", 0.5)
    path = workdir / LEASES / name
    path.parent.mkdir()
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    told, refused = attempt(workdir)
    assert refused is None and "waiting up to 0.5 s" in told[0][1] and not path.exists()


def test_files_of_others_beside_leases_are_nobody_s_lease(workdir):
    mine = workdir / LEASES / "flat.json"
    mine.parent.mkdir()
    mine.write_text("{}")
    assert attempt(workdir) == ([], None) and mine.exists()


def test_a_signal_while_a_lease_is_written_leaves_none(tmp_path, monkeypatch):
    write = leases.Lease._write

    def interrupted(self):
        write(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(leases.Lease, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt), hold(Directory.at(tmp_path), "run-1", share=False):
        pass
    assert list((tmp_path / LEASES).iterdir()) == []


def test_a_lease_that_can_not_be_written_is_told_of_by_what_failed(tmp_path, monkeypatch):
    def full(self):
        raise StorageError("the disk is full")

    monkeypatch.setattr(leases.Lease, "_write", full)
    with pytest.raises(StorageError, match="the disk is full"), hold(Directory.at(tmp_path), "run-1", share=False):
        pass
