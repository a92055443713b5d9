import io
import random
from types import SimpleNamespace

import polars as pl
import pytest
from rich.console import Console

KIND = "thank you so much, I really appreciate your kind and helpful reply about the"
RUDE = "you are a stupid idiot and nobody wants to hear your worthless garbage about the"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    draw = random.Random(0)
    rows = [
        {
            "words": f"{' '.join(draw.choices((KIND if i % 2 else RUDE).split(), k=8))} {i}",
            "kind": i % 2,
            "forum": ("garden", "[b]car[/b]")[i // 2 % 2],
        }
        for i in range(120)
    ]
    path = tmp_path_factory.mktemp("labels") / "labelled.parquet"
    pl.DataFrame(rows).write_parquet(path)
    return path


COLUMNS = ("--text", "words", "--label", "kind", "--source", "forum")


def test_a_probe_is_trained_measured_and_shown(annotate, labelled, tmp_path):
    from annotate import Probe

    out = tmp_path / "kindness.safetensors"
    code, shown, err = annotate("probe", "train", labelled, "--axis", "kindness", "--out", out, *COLUMNS)
    assert code == 0, err
    assert Probe(str(out)).axes == ("kindness",)
    rows = [line for line in shown.splitlines() if "auroc" in line]
    assert len(rows) == 2 and any("garden" in row for row in rows) and any("[b]car[/b]" in row for row in rows)
    assert all(row.count(" to ") == 2 for row in rows), "each source is measured, and measured when it is held out"
    assert "Held out whole: a probe of the other sources alone, with the penalty that all of them chose" in shown
    assert "Labels of garden: 0 and 1 (" in shown and "Labels of [b]car[/b]: 0 and 1 (" in shown
    assert "fitted curve (platt)" in shown and f'Probe("{out}")' in shown
    assert shown.count(" characters ") == 3 and "Scores follow length by " in shown
    wrong = shown.partition("most wrong")[2].partition("Labels of")[0].splitlines()
    assert sum("garden" in row or "[b]car[/b]" in row for row in wrong) == 10
    code, card, _ = annotate("probe", "show", out)
    anchors = Probe(str(out)).anchors["kindness"]
    assert code == 0 and "kindness" in card and all(anchor in card for anchor in anchors)
    assert "mean of layer" in card and "1 / (1 + exp(" in card and "[b]car[/b]" in card


@pytest.mark.parametrize(("before", "after", "said"), [(0.20, 0.12, 0), (0.20, 0.20, 1), (0.20, 0.31, 1)])
def test_a_curve_that_is_no_better_than_none_is_remarked_on(annotate, monkeypatch, before, after, said):
    from annotate.cli import probe
    from annotate.probes.report import CalibrationReport

    curve = CalibrationReport(
        kind="platt", labels=40, error_before=0.1, error_after=0.1, brier_before=before, brier_after=after
    )
    found = SimpleNamespace(axis="kindness", calibration=curve)
    monkeypatch.setattr(probe, "say", lambda out, text, style="": told.append(text))
    told = []
    probe.print_probability(found, Console(file=io.StringIO()))
    assert sum("p(kindness) in rules is not to be trusted" in text for text in told) == said


def test_the_file_is_named_by_the_axis(annotate, labelled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    meant = ("--meaning", "kind to the reader", "--anchors", "you stupid idiot", "thank you so much")
    code, shown, err = annotate("probe", "train", labelled, "--axis", "kindness", *COLUMNS[:4], *meant)
    assert code == 0, err
    assert "Held out whole" not in shown, "of one source none is"
    card = annotate("probe", "show", "kindness.safetensors")[1]  # without a folder it would be a shipped one
    assert "kind to the reader" in card and "you stupid idiot" in card


def test_wrong_labels_and_probes_are_errors(annotate, labelled, tmp_path):
    out = ("--out", tmp_path / "p.safetensors")
    code, _, err = annotate("probe", "train", labelled, "--axis", "kindness", *out)
    assert code in (2, 3) and "'text'" in err
    code, _, err = annotate("probe", "train", tmp_path / "none.parquet", "--axis", "kindness", *out)
    assert code in (2, 3) and "none.parquet" in err
    code, _, err = annotate("probe", "show", tmp_path / "none.safetensors")
    assert code == 2 and "none.safetensors" in err
    code, _, err = annotate("probe", "show", labelled)
    assert code == 2 and "labelled.parquet" in err
    assert not (tmp_path / "p.safetensors").exists()


def test_listed_words_and_weights_of_sources(annotate, labelled, tmp_path):
    csv, out = tmp_path / "words.csv", tmp_path / "p.safetensors"
    csv.write_text("text,group,severity\nstupid,[b]rude[/b],2\nworthless,[b]rude[/b],1\n\N{SNOWMAN},[b]rude[/b],1\n")
    given = ("probe", "train", labelled, "--axis", "kindness", "--out", out, *COLUMNS)
    code, shown, err = annotate(*given, "--words", csv, "--weight", "garden=2.5", "--weight", "[b]car[/b]=0")
    assert code == 0, err
    rows = {line.split("│")[1].strip(): line for line in shown.splitlines() if line.startswith("│")}
    assert " -" in rows["share of '[b]rude[/b]'"] and "length" in rows
    assert "1 listed words were left out" in shown
    assert " 0 │   60 │" in rows["[b]car[/b]"], "a source of weight 0 has no training spans, all are measured"
    assert "neither trained on nor measured" not in shown
    card = annotate("probe", "show", out)[1]
    assert "listed, in the groups [b]rude[/b], you" in card
    parts = pl.read_parquet(labelled).with_columns(
        part=pl.when(pl.int_range(pl.len()) % 5 < 4).then(pl.lit("train")).otherwise(pl.lit("test"))
    )
    parts.write_parquet(split := tmp_path / "split.parquet")
    code, shown, err = annotate(*given[:2], split, *given[3:], "--split", "part", "--weight", "[b]car[/b]=0")
    assert code == 0, err
    assert "48 spans were neither trained on nor measured: their source has the weight 0" in shown
    for wrong in ("garden", "garden=many"):
        code, _, err = annotate(*given, "--weight", wrong)
        assert code == 2 and f"a weight is SOURCE=N, got '{wrong}'" in err
    code, _, err = annotate(*given, "--words", tmp_path / "none.csv")
    assert code in (2, 3) and "none.csv" in err
