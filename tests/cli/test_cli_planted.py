"""Files in a work directory that somebody else wrote: they are never run, whatever is in them."""

import os
import pickle
import zipfile

import pytest


class Payload:
    """Leaves a file where it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def planted(path, marker, number):
    """Put a pickle in the place of a file: bare, or in an archive as torch writes it."""
    data = pickle.dumps(Payload(marker), protocol=number % 5)
    if number % 2:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", data)
    else:
        path.write_bytes(data)


@pytest.mark.parametrize("kind", ["parts", "units", "manifests", "beside"])
def test_a_pickle_in_a_work_directory_is_never_read_as_one(annotate, workdir, pipeline, tmp_path, kind):
    marker = tmp_path / "run"
    paths = [path for path in sorted(workdir.rglob("*")) if path.is_file() and "latest" not in path.name]
    chosen = [path for path in paths if (kind in path.parts) or (kind == "beside" and path.parent == workdir)]
    assert chosen
    for number, path in enumerate(chosen):
        planted(path, marker, number)
    for words in (["status"], ["show"], ["show", "--scores"], ["clean", "--dry-run"]):
        annotate(words[0], workdir, *words[1:])  # some end with an error, which is right
        assert not marker.exists(), words
    try:
        pipeline.plan(workdir, sample=0)
    except Exception as error:
        assert type(error).__module__ == "annotate.errors", error
    assert not marker.exists()
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists(), "the payload works"
