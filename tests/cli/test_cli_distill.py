"""`annotate distill check` says for each prompt whether it changes what a model writes."""

import textwrap

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_models import TEXTS, save_tiny_model

FILE = """
    from annotate import CausalModel, Corpus, Distill, Pipeline, Sampling, ServerGenerator, TransformersGenerator

    def pipeline(here: bool = True):
        generator = (
            TransformersGenerator(CausalModel("model"), sampling=Sampling(max_tokens=6))
            if here
            else ServerGenerator("http://127.0.0.1:9/v1", "a-model")
        )
        prompts = {"kind": "you are nice .", "rude": "you are an idiot !"}
        conditions = [["kind"], ["kind", "rude"], []]
        return Pipeline(Distill(Corpus("corpus"), prompts=prompts, conditions=conditions, generator=generator))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.table({"id": [str(i) for i in range(8)], "text": TEXTS}), tmp_path / "corpus" / "s.parquet")
    save_tiny_model("llama", tmp_path / "model")
    (tmp_path / "mine.py").write_text(textwrap.dedent(FILE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_has_a_line_for_each_prompt(annotate, folder):
    code, out, err = annotate("distill", "check", "mine.py", "--documents", "5")
    assert code == 0, err
    said = [line for line in out.splitlines() if line.endswith("...")]
    assert said[:2] == ["opening the corpus ...", "distilled: loading the model ..."]
    assert [line.partition(":")[0] for line in said[2:]] == ["kind", "kind+rude"]
    lines = [line.split() for line in out.splitlines() if "│" in line]
    found = {line[1]: line[3] for line in lines}
    assert found == {"kind": "5", "kind+rude": "5"}
    assert all(float(line[7]) > 0 for line in lines)
    assert "distilled: kind, kind+rude change little, less than 0.05 nats" in " ".join(out.split())
    assert {path.name for path in folder.iterdir()} == {"corpus", "model", "mine.py"}  # nothing is written


def test_several_outputs_are_told_apart(annotate, folder):
    text = (folder / "mine.py").read_text()
    whole = text[text.index("Distill(Corpus") : text.index("generator=generator)")] + "generator=generator)"
    (folder / "mine.py").write_text(
        text.replace(f"Pipeline({whole})", f"Pipeline(one={whole}, two={whole[:-1]}, seed=1))")
    )
    code, out, err = annotate("distill", "check", "mine.py", "--documents", "2")
    assert code == 0, err
    assert [line for line in out.splitlines() if line in ("distilled, for one", "distilled #2, for two")], out


def test_a_server_tells_no_probabilities(annotate, folder):
    code, _, err = annotate("distill", "check", "mine.py", "--set", "here=False")
    assert code == 2 and "no Distill whose probabilities can be read" in err
