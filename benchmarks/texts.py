"""Real English text that every machine with Python has: the docstrings of its standard library."""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SHORTEST = 200  # characters; shorter docstrings are not what documents look like


def docstrings() -> Iterator[str]:
    """All docstrings of some length, in sorted order of files, tests aside."""
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
    """All triple-quoted strings of some length, nearly all of them docstrings, of installed packages and the library.

    There are tens of thousands, in sorted order of files, with the repeats that real corpora have.
    """
    quoted = re.compile(r'"""(.*?)"""', re.DOTALL)
    for root in ("purelib", "stdlib"):
        for path in sorted(Path(sysconfig.get_paths()[root]).rglob("*.py")):
            if root == "stdlib" and {"site-packages", "dist-packages"} & set(path.parts):
                continue
            for text in quoted.findall(path.read_text("utf-8", errors="replace")):
                if len(text) >= SHORTEST:
                    yield text
