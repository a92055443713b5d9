from __future__ import annotations

import pyarrow as pa
import pytest

from annotate.engine import worker


class Pool:
    released = False

    def release_unused(self) -> None:
        self.released = True


def test_memory_is_given_back_when_a_unit_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool()
    monkeypatch.setattr(pa, "default_memory_pool", lambda: pool)

    @worker.frugal
    def work(a: int, *, b: int) -> int:
        assert not pool.released
        return a - b

    assert work(5, b=3) == 2
    assert pool.released


def test_whatever_makes_a_unit_gives_memory_back() -> None:
    tasks = (worker._run_unit, worker.run_pieces, worker.merge_pieces, worker.finish_wide)
    for task in (*tasks, worker.prepare_unit, worker.finish_unit, worker.send, worker.receive):
        assert hasattr(task, "__wrapped__"), task.__name__
