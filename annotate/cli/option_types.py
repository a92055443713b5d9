"""Types of options that several commands share. They are checked before a command imports what takes seconds."""

from __future__ import annotations

import re
from typing import Any

import click


class Device(click.ParamType[str]):
    """Where models run: "cpu", "cuda", "cuda:1"; or "auto", if that is allowed. Whether it is there is seen later."""

    name = "device"

    def __init__(self, *, auto: bool) -> None:
        self.auto = auto

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the spelling."""
        if not re.fullmatch(f"cpu|cuda(:[0-9]+)?{'|auto' if self.auto else ''}", value):
            self.fail(f"{value!r} is none of {'auto, ' if self.auto else ''}cpu, cuda, cuda:1", param, ctx)
        return str(value)
