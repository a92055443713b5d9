"""Every block of the documentation does what it says: Python is run, TOML loaded, commands parsed, some of them run.

A block that can't be run has a comment before it in its page: `<!-- not run: why -->`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pages
import pytest
import shell
import torch
from pages import PAGES, REPOSITORY
from transformers import GPT2Config, GPT2LMHeadModel

import annotate
from annotate.directions import Direction
from annotate.directions.direction import DirectionCard
from annotate.exports.base import Format
from annotate.exports.windows import Vocabulary
from annotate.exports.write import Counts, readme
from annotate.probes.file import EncoderHashes
from annotate.tags.scheme_file import parse_scheme

MOST_EXCUSES = 3
FIRST = "README.md"
"""The page whose example the others go on from: they may use its names."""


def read(page):
    return (REPOSITORY / page).read_text("utf-8")


@pytest.fixture(params=PAGES)
def page(request):
    return request.param


def given(page):
    """What a page speaks of without making it: a user's model, and texts."""
    if page == "docs/token-shards.md":
        torch.manual_seed(0)
        return {"model": GPT2LMHeadModel(GPT2Config(vocab_size=257, n_embd=16, n_layer=1, n_head=2, n_positions=256))}
    if page == "docs/directions.md":
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=257, n_embd=16, n_layer=3, n_head=2, n_positions=64))
        hashes = EncoderHashes(name="model", weights="", tokenizer="", config="")
        card = DirectionCard(model=hashes, found="tags", tags=("nice",), against=(), spans=9)
        Direction(card=card, vectors=np.ones((3, 16), np.float32)).save("directions/nice.safetensors")
        return {"model": model, "inputs": {"input_ids": torch.tensor([[1, 2, 3]])}}
    if page == "docs/near-duplicates.md":
        return {"texts": ["One two three four five six.", "Seven eight nine ten eleven twelve."]}
    return {}


def execute(page, names, folder):
    """Run the Python blocks of a page in order, in one namespace, with line numbers that are those of the page."""
    module = types.ModuleType(f"page_{page.replace('/', '_').partition('.')[0].replace('-', '_')}")
    file = folder / f"{module.__name__}.py"
    sys.modules[module.__name__] = module  # where scorers look for the source of a function
    module.__dict__.update(names, __file__=str(file))
    text = ""
    for block in pages.blocks(page, read(page)):
        if block.language == "python" and not block.excuse:
            text += "\n" * (block.line - 1 - text.count("\n")) + block.text
            file.write_text(text)
            lines = "\n" * (block.line - 1) + block.text
            exec(compile(lines, str(file), "exec"), module.__dict__)
    return {name: value for name, value in vars(module).items() if not name.startswith("__")}


def test_blocks_do_what_they_say(page, place):
    names = execute(FIRST, {}, place) if page != FIRST else {}
    execute(page, {**names, **given(page)}, place)
    for block in pages.blocks(page, read(page)):
        assert block.language in ("python", "toml", "sh"), f"{block.where}: no block of Python, TOML or sh"
        if block.excuse:
            continue
        if block.language == "toml":
            assert parse_scheme(whole(block.text), block.where).tags
        if block.language == "sh":
            for words in shell.commands(block.text):
                try:
                    shell.check(words, run=True)
                except Exception as error:
                    raise AssertionError(f"{block.where}: {' '.join(words)}: {error}") from error


def whole(text):
    """A scheme, with a tag where the block is about something else."""
    return text if "family" in tomllib.loads(text) else f'{text}\n[[family]]\nname = "a"\ntags = {{ b = "a > 0" }}\n'


def test_few_blocks_are_excused_and_each_says_why():
    excused = [block for page in PAGES for block in pages.blocks(page, read(page)) if block.excuse]
    assert len(excused) <= MOST_EXCUSES and all(len(block.excuse.split()) >= 3 for block in excused)


def test_code_spans_speak_of_what_there_is(page, world, monkeypatch):
    monkeypatch.chdir(world)
    for number, code in pages.spans(read(page)):
        try:
            check_span(code, page)
        except Exception as error:
            raise AssertionError(f"{page}:{number}: `{code}`: {error}") from error


def check_span(code, page):
    """Check a command, a setting of the shipped pipeline, a path, a dotted name or a call, where the code is one."""
    if code.startswith(("annotate ", "make ", "python ")):
        [words] = shell.commands(code)
        shell.check(words, run=False)
    elif code.startswith("--set ") and code != "--set NAME=VALUE":
        shell.check_annotate(["run", "my.py", "--workdir", "out", *next(shell.commands(code))], run=False)
    elif code.startswith(("annotate/", "tests/", "docs/", "benchmarks/", "examples/", "pipelines/", "schemas/")):
        path = REPOSITORY / code.split()[0]
        assert (path.parent if path.stem == "NAME" else path).exists(), "there is no such path"
    elif code.startswith("annotate.") and all(part.isidentifier() for part in code.split(".")):
        resolve(code)
    elif "(" in code:
        check_calls(code)


def resolve(name):
    """Find a module of ours, or a name in one; the module may need what is not installed here."""
    above, _, last = name.rpartition(".")
    try:
        module = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # what is above is no package
        module = False
    assert module or hasattr(importlib.import_module(above), last), f"there is no {name}"


def check_calls(code):
    """Check the arguments that are named in calls of our public names."""
    try:
        tree = ast.parse(code.replace("=...", "=None"), mode="eval")
    except SyntaxError:
        return  # no Python
    for call in ast.walk(tree):
        name = ast.unparse(call.func).removeprefix("annotate.") if isinstance(call, ast.Call) else ""
        if name in annotate.__all__:
            signature = inspect.signature(getattr(annotate, name)).parameters
            free = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature.values())
            for keyword in call.keywords:
                assert free or keyword.arg in signature, f"{name} takes no {keyword.arg}"


def test_links_lead_to_files(page):
    for number, target in pages.links(read(page)):
        path, _, anchor = target.partition("#")
        file = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert file.exists(), f"{page}:{number}: no file {target}"
        if anchor:
            headings = [line.lstrip("# ") for _, line in pages.outside(file.read_text()) if line.startswith("#")]
            slugs = ["".join(c for c in h.lower().replace(" ", "-") if c.isalnum() or c == "-") for h in headings]
            assert anchor in slugs, f"{page}:{number}: no heading {target}"


def test_commands_are_in_blocks_that_are_checked(page):
    for number, line in pages.outside(read(page)):
        indented = line.startswith(("    annotate ", "    make ", "    pip "))
        assert not indented, f"{page}:{number}: make this a block of sh"


def formats():
    from annotate.exports import FORMATS

    return list(FORMATS.values())


@pytest.mark.parametrize("form", formats(), ids=lambda form: form.name)
def test_readmes_of_exports_speak_of_what_there_is(form: type[Format]):
    text = readme(form(), Vocabulary(tokenizer="T", size=300, eos=0, pad=0), 2048, Counts(windows=1))
    assert not [line for line in text.splitlines() if line.startswith("```")]
    for number, code in pages.spans(text):
        try:
            check_span(code, "an export")
        except Exception as error:
            raise AssertionError(f"line {number}: `{code}`: {error}") from error


@pytest.mark.parametrize("page", [FIRST])
def test_what_annotate_new_says_can_be_typed(page, place, capsys):
    assert shell.guarded(shell.app, ["new", "another"]) == 0
    said = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  annotate ")]
    assert len(said) == 2 and Path("another.py").is_file()
    for line in said:
        for words in shell.commands(line):
            shell.check(words, run=False)
