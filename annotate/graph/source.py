"""Stages that read what lies outside the work directory."""

from __future__ import annotations

from typing import ClassVar

from annotate.graph.stage import Stage
from annotate.storage.latest import Role


class Source(Stage):
    """Reads what lies outside the work directory: the driver lists its units when a run begins."""

    role: ClassVar[Role] = Role.SOURCE
