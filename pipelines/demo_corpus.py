"""Makes the demo corpus, a small sharded Parquet corpus, from English prose that every machine with this project has.

Nothing is shipped or downloaded. Documents are the docstrings of the standard library, and the docstrings, long
descriptions and documentation files of installed packages. Files are parsed, never imported. Only paragraphs of prose
are kept of a text: code, tables, parameter lists and badges say little about how people write.

    python pipelines/demo_corpus.py OUT_DIR [--documents N] [--shards K]
"""

from __future__ import annotations

import ast
import gc
import hashlib
import inspect
import json
import os
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from itertools import accumulate, islice
from pathlib import Path, PurePath
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

from annotate.errors import AnnotateError, ConfigError, InputError

FORMAT = 1  # raise it if the code makes other documents of the same packages: then older corpora are made anew
MIN_CHARACTERS, MAX_CHARACTERS = 200, 6_000
MAX_SOURCE_BYTES = 250_000  # larger source files are mostly tables and generated code, and slow to parse
SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("id", "text", "source")])

_SUMMARY = "corpus.json"
_SHARD = "demo-{index:05}-of-{shards:05}.parquet"
_SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "testing", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__"}
)
_NOT_DOCS = re.compile(r"licen[cs]e|copying|notice|authors|contributors|third.?party|template", re.IGNORECASE)
_NOT_PROSE = re.compile(
    r"""^\s*(
        >>> | \.\.(\s|$) | :\w+ | @\w+ | \$ | \#! | \| | <\w | !?\[!\[ | !\[ | ``` | --- | === | [\w*, `]+\s:\s
      | (args|arguments|parameters?|returns?|raises?|yields?|examples?|usage|attributes|keyword\ arguments)\s*:?\s*$
    )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_SENTENCE_END = re.compile(r"[.!?][\"')*_`]*$")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ \n,.'")


@dataclass(frozen=True, kw_only=True)
class Document:
    """One row, with an `id` like `stdlib/json.dumps` and a `source`: `stdlib`, or a package, as in `package:click`."""

    id: str
    text: str
    source: str


@dataclass(frozen=True, kw_only=True)
class DemoCorpus:
    """A finished demo corpus.

    Attributes:
        paths: the Parquet shards, in order.
        documents: number of documents; fewer than asked for if the machine has no more.
        characters: total length of all texts.
        sources: number of documents by source.
        written: False if the corpus was there already.
    """

    paths: tuple[Path, ...]
    documents: int
    characters: int
    sources: Mapping[str, int]
    written: bool


def make_demo_corpus(out: Path, *, documents: int = 2000, shards: int = 4) -> DemoCorpus:
    """Write the demo corpus into the folder `out`, with columns `id`, `text` and `source`, all strings.

    If a complete corpus of the same size is there already, it stays, even if packages were installed since: a new one
    would have to be scored again. A corpus of another size is replaced.

    Raises:
        ConfigError: a size below 1, more shards than documents, or a folder that holds other Parquet files.
        InputError: this Python has no source files to take documents from.
    """
    if documents < 1 or shards < 1 or shards > documents:
        raise ConfigError(f"the demo corpus needs 1 <= shards <= documents: got documents={documents}, shards={shards}")
    request = {"format": FORMAT, "documents": documents, "shards": shards}
    if finished := _finished(out, request):
        return finished
    old = set(out.glob("demo-*-of-*.parquet"))
    if foreign := sorted(set(out.glob("*.parquet")) - old):
        raise ConfigError(f"{out} holds other Parquet files: {foreign[0].name}", hint="name an empty folder")
    chosen = choose_documents(documents)
    if len(chosen) < shards:
        raise InputError(
            f"{shards} shards need as many documents; {_stdlib()} and the installed packages have {len(chosen)}",
            hint="use a Python whose library is installed as .py files",
        )
    return _write(out, chosen, request, old)


def _finished(out: Path, request: Mapping[str, int]) -> DemoCorpus | None:
    """Read the corpus in the folder, if it is complete and the one that is asked for."""
    try:
        summary = json.loads((out / _SUMMARY).read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if summary["request"] != request:
        return None
    for name, size in summary["shards"].items():
        if not (out / name).is_file() or (out / name).stat().st_size != size:
            return None
    return _corpus(summary, out, written=False)


def _write(out: Path, chosen: list[Document], request: Mapping[str, int], old: Iterable[Path]) -> DemoCorpus:
    out.mkdir(parents=True, exist_ok=True)
    # A corpus is complete if it has a summary, so the summary is removed first and written last.
    (out / _SUMMARY).unlink(missing_ok=True)
    for path in old:
        path.unlink()
    shards, paths = request["shards"], []
    for index in range(shards):
        rows = chosen[index * len(chosen) // shards : (index + 1) * len(chosen) // shards]
        table = pa.table({name: [getattr(row, name) for row in rows] for name in SCHEMA.names}, schema=SCHEMA)
        paths.append(out / _SHARD.format(index=index, shards=shards))
        with _replacing(paths[-1]) as unfinished:
            pq.write_table(table, unfinished, compression="zstd")
    summary = {
        "request": request,
        "documents": len(chosen),
        "characters": sum(len(each.text) for each in chosen),
        "sources": dict(sorted(Counter(each.source for each in chosen).items())),
        "shards": {path.name: path.stat().st_size for path in paths},
    }
    with _replacing(out / _SUMMARY) as unfinished:
        unfinished.write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
    return _corpus(summary, out, written=True)


def _corpus(summary: Mapping[str, Any], out: Path, *, written: bool) -> DemoCorpus:
    counts = {name: summary[name] for name in ("documents", "characters", "sources")}
    return DemoCorpus(paths=tuple(out / name for name in summary["shards"]), written=written, **counts)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; rename the file to `path` when it is complete."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def choose_documents(documents: int) -> list[Document]:
    """Choose documents from this machine, in mixed order; the same ones as long as its packages are the same.

    Documents come from the standard library and the packages in turn, and from each package in turn. Half as many again
    as needed are read, and the longest are chosen: 2,000 documents are about 2 MB.
    """
    # Of two packages with one name, the first on the path is taken.
    packages = {_normalized(each): each for each in reversed(list(distributions()))}
    # Left out: a broken installation, which has no name, and this project, whose docstrings change with each edit.
    for name in ("", "annotate-corpora"):
        packages.pop(name, None)
    streams = [package_documents(packages[name]) for name in sorted(packages)]
    candidates: dict[str, Document] = {}
    with _no_garbage_collection():
        for document in _take_turns([stdlib_documents(), _take_turns(streams)]):
            candidates.setdefault(document.id, document)  # a name may be defined twice, for two platforms
            if 2 * len(candidates) >= 3 * documents:
                break
    longest = sorted(candidates.values(), key=lambda each: (-len(each.text), each.id))[:documents]
    return sorted(longest, key=lambda each: _hash(each.id))


def _take_turns(streams: list[Iterator[Document]]) -> Iterator[Document]:
    while streams:
        left = []
        for stream in streams:
            for document in islice(stream, 1):
                yield document
                left.append(stream)
        streams = left


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Parse with the cycle collector off: syntax trees have no cycles, and looking for them takes most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def stdlib_documents() -> Iterator[Document]:
    """Read the standard library, file by file in hash order, except its tests and packages installed in its folder."""
    root = _stdlib()
    files = (path.relative_to(root) for path in root.rglob("*.py"))
    yield from _file_documents(root, files, prefix="stdlib", source="stdlib")


def package_documents(package: Distribution) -> Iterator[Document]:
    """Read an installed package: its long description, then its documentation and source files in hash order."""
    name = _normalized(package)
    for description in package.metadata.get_all("Description") or ():
        yield from _usable(f"{name}/DESCRIPTION", description, f"package:{name}")
    root = Path(str(package.locate_file("")))
    yield from _file_documents(root, package.files or (), prefix=name, source=f"package:{name}")


def _file_documents(root: Path, files: Iterable[PurePath], *, prefix: str, source: str) -> Iterator[Document]:
    wanted = (
        path
        for path in files
        if path.suffix in {".py", ".md", ".rst"} and ".." not in path.parts and _SKIPPED_FOLDERS.isdisjoint(path.parts)
    )
    for path in sorted(wanted, key=lambda path: _hash(f"{prefix}/{path.as_posix()}")):
        file = root / path
        if not file.is_file() or file.stat().st_size > MAX_SOURCE_BYTES:
            continue
        if path.suffix == ".py":
            for name, docstring in _docstrings(file.read_bytes(), module=_module(path)):
                yield from _usable(f"{prefix}/{name}", docstring, source)
        elif not _NOT_DOCS.search(path.as_posix()):
            yield from _usable(f"{prefix}/{path.as_posix()}", file.read_text("utf-8", errors="replace"), source)


def _docstrings(code: bytes, *, module: str) -> Iterator[tuple[str, str]]:
    """Yield the name and docstring of a module, its functions and its classes; a class and its methods are one text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(code)
    except (SyntaxError, ValueError):  # a template, code for another Python, NUL bytes
        return
    waiting: list[tuple[str, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]] = [(module, tree)]
    while waiting:
        name, node = waiting.pop()
        texts = [ast.get_docstring(node)]
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for each in _definitions(node):
                if isinstance(node, ast.ClassDef) and not isinstance(each, ast.ClassDef):
                    texts.append(ast.get_docstring(each))
                else:
                    waiting.append((f"{name}.{each.name}", each))
        yield name, "\n\n".join(text for text in texts if text)


def _definitions(node: ast.AST) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the definitions of a module or class in the order of the file, also those under `if`, `try` or `with`."""
    waiting = list(ast.iter_child_nodes(node))[::-1]
    while waiting:
        child = waiting.pop()
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        elif isinstance(child, ast.stmt | ast.ExceptHandler):
            waiting += list(ast.iter_child_nodes(child))[::-1]


def _usable(id: str, text: str, source: str) -> Iterator[Document]:
    """Yield the document, if it has enough prose."""
    # A docstring may contain a lone surrogate, which has no UTF-8.
    kept = prose(text).encode("utf-8", errors="replace").decode("utf-8")
    if len(kept) >= MIN_CHARACTERS:
        yield Document(id=id, text=kept, source=source)


def prose(text: str) -> str:
    """Keep the paragraphs of English prose, in order, with a blank line between two, up to `MAX_CHARACTERS`.

    A paragraph is prose if none of its lines starts like code, markup or a field list, if it ends like a sentence, has
    five words or more, and if nine of ten characters are ASCII letters, blanks, commas, full stops or apostrophes.
    """
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    kept = [inspect.cleandoc(each).rstrip() for each in paragraphs if _is_prose(each)]
    ends = accumulate(len(each) + 2 for each in kept)
    return "\n\n".join(each for each, end in zip(kept, ends, strict=True) if end <= MAX_CHARACTERS)


def _is_prose(paragraph: str) -> bool:
    if _NOT_PROSE.search(paragraph) or not _SENTENCE_END.search(paragraph.rstrip()) or len(paragraph.split()) < 5:
        return False
    return sum(map(_PLAIN.__contains__, paragraph)) >= 0.9 * len(paragraph)


def _stdlib() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _module(path: PurePath) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _normalized(package: Distribution) -> str:
    names = package.metadata.get_all("Name") or [""]
    return re.sub(r"[-_.]+", "-", names[0]).lower()


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", errors="surrogateescape"), digest_size=16, key=b"demo corpus").digest()


@click.command()
@click.argument("out_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--documents", default=2000, show_default=True, help="How many documents to write.")
@click.option("--shards", default=4, show_default=True, help="How many Parquet files to write them to.")
def main(out_dir: Path, documents: int, shards: int) -> None:
    """Write the demo corpus into OUT_DIR: English prose from this machine's Python and packages."""
    try:
        corpus = make_demo_corpus(out_dir, documents=documents, shards=shards)
    except AnnotateError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    click.echo(
        f"{'Wrote' if corpus.written else 'Found'} {corpus.documents:,} documents, {corpus.characters / 1e6:.1f} MB of "
        f"text, from {len(corpus.sources)} sources, in {len(corpus.paths)} shards under {out_dir}."
    )


if __name__ == "__main__":
    main()
