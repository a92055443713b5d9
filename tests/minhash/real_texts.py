"""Real text that every machine with Python has: docstrings of its standard library."""

from __future__ import annotations

import ast
import functools
import sysconfig
from pathlib import Path


@functools.cache
def docstrings(number: int = 2000) -> list[str]:
    """Of modules, classes and functions, in sorted order of files."""
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-z]*/*.py")) + sorted(
        Path(sysconfig.get_paths()["stdlib"]).glob("*.py")
    ):
        if "-packages" in str(path) or "test" in path.parent.name or len(found) >= number:
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node, clean=False)
                if text and len(text) > 100:
                    found.append(text)
    return found[:number]
