"""What lies beside token shards."""

from pathlib import Path

import pytest
import tagged_model


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    tagged_model.write_files(folder)
    return folder
