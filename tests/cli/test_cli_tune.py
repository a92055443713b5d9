"""`annotate tune` prints what other settings of a model give, and what to write."""

import textwrap

import pytest
from support import write_corpus
from tiny_models import save_tiny_model

from annotate.models import tuning
from annotate.models.trials import Trial

FILE = """
    from typing import Literal
    from annotate import Classifier, Corpus, Pipeline, Place, PythonScorer, Render, Split, Tag, TagScheme, score

    def loud(table):
        return [float(text.count("!")) for text in table["text"].to_pylist()]

    def pipeline(model: bool = True, corpus: str = "corpus", dtype: Literal["float32", "bfloat16"] = "float32",
                 batch_tokens: int = 64):
        scorers = [PythonScorer(function=loud, axes=["loud"])]
        if model:
            scorers += [Classifier("model", axis="nice", label="nice", dtype=dtype, batch_tokens=batch_tokens)]
        scheme = TagScheme(tags=[Tag(name="loud", rule="loud >= 1")])
        return Pipeline(Render(Place(score(Split(Corpus(corpus)), scorers), scheme)))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus", shards=1, documents=12)
    save_tiny_model("bert", tmp_path / "model")
    (tmp_path / "mine.py").write_text(textwrap.dedent(FILE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tuning, "CPU_TOKENS", (32,))
    return tmp_path


def test_what_it_prints_can_be_written_and_run(annotate, folder, monkeypatch):
    trial = tuning._Trying.trial

    def fast(self, dtype, size):
        found = trial(self, dtype, size)
        return Trial(dtype=dtype, batch_tokens=size, tokens_per_second=9e9) if (dtype, size) == FAST else found

    FAST = ("bfloat16", 32)
    monkeypatch.setattr(tuning._Trying, "trial", fast)
    monkeypatch.setattr(tuning, "_HOPELESS", 1e9)
    code, out, err = annotate("tune", "mine.py", "--seconds", "0.01")
    assert code == 0, err
    assert "annotations (nice): " in out and "on 1 CPU thread" in out
    rows = [line.split("│")[1:3] for line in out.splitlines() if "float" in line and "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["float32", "64 (now)"],
        ["float32", "32"],
        ["bfloat16", "64"],
        ["bfloat16", "32"],
    ]
    assert 'Classifier(..., dtype="bfloat16", batch_tokens=32)' in out
    assert "9,000,000,000" in out and "CPUs busy" in out
    flags = out.split("or run it with ")[1].splitlines()[0].split()
    assert flags == ["--set", "dtype=bfloat16", "--set", "batch_tokens=32"]
    code, out, err = annotate("run", "mine.py", "--workdir", "out", "--plan", "--sample", "0", *flags)
    assert code == 0, err
    assert not (folder / "out").exists()


def test_a_pipeline_without_such_a_model_and_a_corpus_that_is_not_there_are_errors(annotate, folder):
    code, out, err = annotate("tune", "mine.py", "--set", "model=false")
    assert (code, out) == (2, "") and "no model of this pipeline has settings" in err
    code, out, err = annotate("tune", "mine.py", "--set", "corpus=nowhere")
    assert (code, out) == (3, "") and "nowhere" in err
    (folder / "lines.jsonl").write_text('{"id": "a", "text": "One."}\n')
    code, out, err = annotate("tune", "mine.py", "--set", "corpus=lines.jsonl")
    assert (code, out) == (2, "") and "--workdir" in err, err
    code, out, err = annotate("tune", "mine.py", "--device", "cuda")
    assert (code, out) == (2, "") and "no GPU" in err
