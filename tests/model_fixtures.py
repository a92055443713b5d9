"""Fixtures of the tests of models, probes and scorers."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from tiny_models import TEXTS, save_tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """`tiny(name)`: directory of a saved model of that kind."""
    root = tmp_path_factory.mktemp("models")

    def build(name: str) -> str:
        directory = root / name
        if not directory.exists():
            save_tiny_model(name, directory)
        return str(directory)

    return build


@pytest.fixture
def copy_model(tiny, tmp_path):
    """`copy_model(name)`: a copy of a saved model that a test may spoil."""

    def build(name: str) -> Path:
        source, target = Path(tiny(name)), tmp_path / name
        target.mkdir()
        for file in source.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        return target

    return build


@pytest.fixture
def edit_json():
    def edit(path: Path, **changes) -> None:
        settings = json.loads(path.read_text())
        settings.update(changes)
        path.write_text(json.dumps({k: v for k, v in settings.items() if v is not ...}))

    return edit


@pytest.fixture
def spans():
    return pa.table({"text": TEXTS})
