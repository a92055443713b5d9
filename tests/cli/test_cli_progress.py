import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from annotate.cli import progress
from annotate.cli.progress import _Stage, observer


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(at=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now.at))
    monkeypatch.setattr(progress, "_Stage", lambda units: _Stage(units, since=0.0, told=0.0))
    return now


@pytest.fixture
def told(clock):
    """An observer on what is no terminal, and the lines that it has printed."""
    out = io.StringIO()
    with observer(Console(file=out)) as watching:
        yield watching, lambda: out.getvalue().splitlines()


def test_a_line_has_units_rows_rate_and_time_left(told, clock):
    watching, lines = told
    watching.started("spans", 4, "1 model, CPU")
    clock.at = 20.0
    watching.advanced("spans", 1, 3000)
    watching.advanced("spans", 3, 1)
    watching.finished("spans", "")
    assert lines() == [
        "spans: started, 4 units (1 model, CPU)",
        "spans: 1 of 4 units, 3,000 rows, 150/s, 1 min 0 s left",
        "spans: done, 4 units, 3,001 rows, 150/s, 20.0 s",
    ]


def test_what_is_not_known_or_nothing_is_not_printed(told, clock):
    watching, lines = told
    watching.started("ids", 0, "")
    clock.at = 20.0
    watching.advanced("ids", 1, 0)
    watching.advanced("ids", 1, 0)
    watching.finished("ids", "1 unit")  # another one was sent from
    assert lines() == ["ids: started", "ids: 1 unit", "ids: done, 1 unit, 20.0 s"]
