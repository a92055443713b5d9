"""`annotate model check` prints what `annotate.check_model` found."""

import pytest
from tiny_models import save_tiny_model

from annotate.models import speed


@pytest.fixture(autouse=True)
def _small_sample(monkeypatch):
    monkeypatch.setattr(speed, "_MOST", 8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "[red]bert"
    save_tiny_model("bert", folder)
    return folder


def test_a_model_is_told_scored_and_timed(annotate, model):
    code, out, err = annotate("model", "check", model, "--text", "a good dog", "--text", "bad \x1b[31m cat")
    assert code == 0, err
    assert f'Classifier("{model}", axis="toxic", label="toxic")' in out
    assert "3: toxic, neutral, nice" in out and "softmax" in out and "64 tokens" in out
    assert "a good dog" in out and "\x1b" not in out
    [row] = [line for line in out.splitlines() if "│ nice " in line]
    assert row.count("(0.") == 2
    assert "tokens/s in float32 on cpu" in out and "batch_tokens=2,048" in out


def test_nothing_is_loaded_where_that_is_asked_for(annotate, model, monkeypatch):
    monkeypatch.setattr("annotate.models.load.load_model", None)
    code, out, err = annotate("model", "check", model, "--no-run")
    assert code == 0, err
    assert "In a pipeline:" in out and "tokens/s" not in out
    code, out, err = annotate("model", "check", model, "--no-run", "--text", "good dog")
    assert (code, out) == (2, "") and "--no-run and --text can't be given together" in err


def test_what_can_not_be_used_is_an_error_with_a_hint(annotate, tmp_path):
    code, out, err = annotate("model", "check", tmp_path)
    assert (code, out) == (2, "") and "no config.json" in err and "hint:" in err
