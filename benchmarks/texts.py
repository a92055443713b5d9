"""Real English text that every machine with Python has: the docstrings of its standard library."""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SHORTEST = 200  # characters; shorter docstrings are unlike documents


def docstrings() -> Iterator[str]:
    """Yield all docstrings of `SHORTEST` characters or more, in sorted order of files, except those of tests."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if {"test", "tests", "site-packages", "dist-packages"} & set(path.parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) >= SHORTEST:
                    yield text


def triple_quoted() -> Iterator[str]:
    """Yield all triple-quoted strings of `SHORTEST` characters or more of installed packages and the standard library.

    Nearly all are docstrings. There are tens of thousands, in sorted order of files, with repeats as in real corpora.
    """
    quoted = re.compile(r'"""(.*?)"""', re.DOTALL)
    for root in ("purelib", "stdlib"):
        for path in sorted(Path(sysconfig.get_paths()[root]).rglob("*.py")):
            if root == "stdlib" and {"site-packages", "dist-packages"} & set(path.parts):
                continue
            for text in quoted.findall(path.read_text("utf-8", errors="replace")):
                if len(text) >= SHORTEST:
                    yield text
