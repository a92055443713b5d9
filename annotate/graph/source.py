"""Stages that read what lies outside the work directory."""

from __future__ import annotations

from annotate.graph.stage import Stage


class Source(Stage):
    """Reads what lies outside the work directory: the driver lists its units when a run begins."""
