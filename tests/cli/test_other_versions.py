"""What another version of annotate made is named, with what to do, before anything is scored again or written."""

import json
import shutil

import pytest

from annotate import Options
from annotate.engine.events import Silent
from annotate.engine.plan import plan
from annotate.errors import StorageError
from annotate.storage.marker import FORMAT

pytestmark = pytest.mark.usefixtures("ray_in_process")


class Record(Silent):
    """Remembers in order what a run said and which stages it began."""

    def __init__(self):
        self.told = []

    def started(self, stage, units, detail):
        self.told.append(("started", stage))

    def said(self, level, message):
        self.told.append((level, message))


def planned(pipeline):
    return lambda workdir: plan(pipeline.outputs, workdir, Options(), 0, checks=pipeline.checks)


def datasets(workdir):
    return sorted(path.parent.name for path in workdir.glob("*/dataset.json"))


def of_format(workdir, name, number):
    """Rewrite a marker as another version would have it."""
    path = workdir / name / "dataset.json"
    said = json.loads(path.read_text())
    keys = ("what", "dataset", "recipe") if number < FORMAT else said
    path.write_text(json.dumps({key: said[key] for key in keys} | {"format": number}))


@pytest.mark.parametrize("number", [FORMAT - 1, FORMAT + 1])
@pytest.mark.parametrize("used", [True, False])
def test_a_dataset_of_another_format_stops_a_run_a_plan_and_a_clean(annotate, workdir, pipeline, tree, number, used):
    name = next(name for name in datasets(workdir) if name.startswith("annotations-"))
    if not used:  # as where a recipe has changed too: its name tells nothing of what is asked for now
        (workdir / name).rename(workdir / "annotations-00000000")
        path = workdir / "annotations-00000000" / "dataset.json"
        path.write_text(path.read_text().replace(name, "annotations-00000000"))
        name = "annotations-00000000"
    of_format(workdir, name, number)
    before = tree(workdir)
    said = f"in {workdir} {name} has format {number}; this version of annotate reads and writes format {FORMAT}"
    for look in (pipeline.run, planned(pipeline)):
        with pytest.raises(StorageError, match=said) as caught:
            look(str(workdir))
        assert "Choose another work directory, or go on with the version" in caught.value.hint
    code, _, err = annotate("clean", workdir, "--yes")
    assert code == 4 and f"{name} has format {number}" in " ".join(err.split())
    assert tree(workdir) == before


def test_of_many_datasets_of_another_format_some_are_named(workdir, pipeline):
    for name in datasets(workdir):
        of_format(workdir, name, FORMAT - 1)
    names = datasets(workdir)
    with pytest.raises(StorageError, match=rf"{names[0]} has .*{names[2]} has format 1 and {len(names) - 3} more;"):
        pipeline.run(str(workdir))


def test_a_dataset_without_a_marker_is_neither_used_nor_removed(annotate, workdir, pipeline, tree):
    """A version that put none made it; or somebody has removed the marker."""
    for path in workdir.glob("*/dataset.json"):
        path.unlink()
    before = tree(workdir)
    code, out, _ = annotate("clean", workdir, "--yes")
    assert code == 0 and "holds nothing" in out and out.count("Left alone") > 5
    for options in (Options(), Options(rescore=True)):
        with pytest.raises(StorageError, match=r"and no dataset\.json of annotate"):
            pipeline.run(str(workdir), options)
    assert tree(workdir) == before


def test_a_work_directory_whose_last_run_was_of_another_version_is_named(annotate, workdir, pipeline, tree):
    """Also where nothing else tells: of the oldest versions there are no markers, and each recipe is another now."""
    left = json.loads((workdir / "latest.json").read_text())
    for item in left.values():
        del item["role"], item["schema"]
    (workdir / "latest.json").write_text(json.dumps(left))
    before = tree(workdir)
    for look in (pipeline.run, planned(pipeline)):
        with pytest.raises(StorageError, match=r"latest\.json was written by another version of annotate") as caught:
            look(str(workdir))
        assert "Choose another work directory" in caught.value.hint
    for command, *options in (("clean", "--yes"), ("status",), ("show",)):
        code, _, err = annotate(command, workdir, *options)
        assert code == 4 and "was written by another version of annotate" in " ".join(err.split())
    assert tree(workdir) == before


def test_scores_of_another_version_of_a_recipe_are_named_before_they_are_made_again(workdir, pipeline):
    name = json.loads((workdir / "latest.json").read_text())["annotations (niceness)"]["dataset"]
    (workdir / name).rename(workdir / "annotations-00000000")
    marker = workdir / "annotations-00000000" / "dataset.json"
    said = json.loads(marker.read_text())
    other = {"dataset": "annotations-00000000", "recipe": "0" * 32, "version": 7}
    assert said["version"] != 7
    marker.write_text(json.dumps(said | other))
    for made in ("calibration", "thresholds", "placements", "text-shards"):  # what the other version made of them
        for folder in workdir.glob(f"{made}-*"):
            shutil.rmtree(folder)
    record = Record()
    pipeline.run(str(workdir), Options(workers=2), record)
    first = record.told[0]
    assert first[0] == "warning" and "annotations-00000000 has scores of the same settings" in first[1]
    assert f"version 7 of the recipe, this one has {said['version']}" in first[1]
    assert ("started", "annotations (niceness)") in record.told
    again = Record()
    pipeline.run(str(workdir), observer=again)  # nothing is to be scored: nothing is said
    assert not any("another version" in text for _, text in again.told)
