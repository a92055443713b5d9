"""Checks the commands of the documentation: `annotate` by its own parser, others by what they name here."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence

import click
from pages import REPOSITORY

from annotate.cli.app import app, guarded
from annotate.cli.run import settings_of
from annotate.pipeline_files import build, load

RUN = ("show", "status", "export", "scheme", "new", "clean", "model")
"""The commands that are run on the fixtures; others are parsed, and of `run` the settings are checked."""
PLACEHOLDERS = {"FILE": "my.py", "tokenizer=...": "tokenizer=path/to/model"}
"""What pages leave open, and what it is in the fixtures."""


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a block, as words."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&;|")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&;|"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def check(words: Sequence[str], *, run: bool) -> None:
    """Check a command; `run` it where that is cheap."""
    name, *rest = words
    match name:
        case "annotate":
            check_annotate(rest, run=run)
        case "ray":
            assert rest[:2] == ["job", "submit"]
            check(rest[rest.index("--") + 1 :], run=False)
        case "make":
            targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
            variables = re.findall(r"^([A-Z_]+) \?=", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
            for word in rest:
                known = variables if "=" in word else targets
                assert word.partition("=")[0] in known, f"make has no {word}"
        case "python" if rest[:2] == ["-m", "annotate"]:
            check_annotate(rest[2:], run=False)
        case "python" | "python3":
            assert rest[:2] == ["-m", "venv"] or rest[0] == "FILE" or (REPOSITORY / rest[0]).is_file(), rest[0]
        case "pip":
            check_pip(rest)
        case "export" | ".":
            pass
        case _:
            raise AssertionError(f"teach {__file__} to check the command {name!r}")


def check_pip(rest: Sequence[str]) -> None:
    """What is installed is this repository, with extras that there are."""
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert rest[:4] == ["install", "-c", "constraints.txt", "-e"], rest
    place, extra = re.fullmatch(r"(.+)\[(\w+)\]", rest[4]).groups()
    assert place == "." and extra in extras


def check_annotate(rest: Sequence[str], *, run: bool) -> None:
    """Parse an `annotate` command as click does."""
    rest = [PLACEHOLDERS.get(word, word) for word in rest]
    context = click.Context(app, info_name="annotate")
    command: click.Command = app
    path: list[str] = []
    while isinstance(command, click.Group):
        assert rest, f"annotate {' '.join(path)} needs a command"
        path.append(rest[0])
        found = command.get_command(context, rest.pop(0))
        assert found is not None, f"there is no command annotate {' '.join(path)}"
        command = found
    if not run and rest in ([], ["..."]):
        return  # a command that is only spoken of
    context = command.make_context(path[-1], list(rest))
    if path in (["run"], ["submit"]):
        definition, _ = load(context.params["file"])
        # Without a corpus the shipped pipeline would make one.
        build(definition, {"corpus": "data"} | settings_of(context.params["settings"]))
    if run and path[0] in RUN:
        assert guarded(app, [*path, *rest]) == 0, f"annotate {shlex.join([*path, *rest])}"
