from __future__ import annotations

import pyarrow as pa
import pytest

from annotate.engine import map as maps
from annotate.engine import model as models
from annotate.engine import reduce as reduces
from annotate.engine import shuffle as shuffles
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
    tasks = (maps.make_unit, reduces.make_piece, reduces.merge_pieces, reduces.finish)
    for task in (*tasks, models._prepare, models._finish, shuffles.send, shuffles._receive):
        assert hasattr(task, "__wrapped__"), task.__name__
