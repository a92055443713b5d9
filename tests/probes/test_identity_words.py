import identity_words
import numpy as np
import polars as pl
from click.testing import CliRunner
from test_encoder import make_card

from annotate.probes import Feature, save_probe
from annotate.probes.word_list import feature_names, hash_words
from annotate.scorers import Encoder, Probe


def test_a_head_that_reads_a_word_is_found_out(tiny, tmp_path, monkeypatch):
    encoder = Encoder(tiny("bert-encoder"))
    schema = {"text": pl.String, "group": pl.String, "severity": pl.Float32}
    frame = pl.DataFrame({"text": ["idiot", "bad"], "group": ["a", "a"], "severity": [1.0, 0.5]}, schema)
    listed, _ = hash_words(frame, encoder.reading().tokenizer)
    weight = np.zeros(32 + len(feature_names(listed.groups)))
    weight[-3] = -1  # the greatest severity
    path = tmp_path / "kind.safetensors"
    save_probe(path, make_card(encoder, [Feature(layer=1)], "kind"), weight, 0.0, words=listed)
    texts = ["idiot", *["the cat"] * 9, "bad", *["the dog"] * 9, "idiot", "idiot", "idiot"]
    labelled = pl.DataFrame(
        {
            "text": texts,
            "label": [1.0] * 20 + [0.0, 1.0, 2.0],
            "source": ["one"] * 10 + ["two"] * 10 + ["one", "rated", "rated"],
            "split": ["test"] * 23,
        }
    )
    probe = Probe(str(path)).resolved()
    assert [identity_words.threshold(probe, labelled, share) for share in (0.04, 0.06, 0.12)] == [-1, -0.5, 0]
    monkeypatch.setattr(identity_words, "WORDS", ["nice", "bad"])
    monkeypatch.setattr(identity_words, "PLAIN", ["idiot"])
    labelled.write_parquet(tmp_path / "labelled.parquet")
    run = CliRunner().invoke(identity_words.main, [str(path), str(tmp_path / "labelled.parquet"), "--share", "0.12"])
    assert run.exit_code == 0, run.output
    assert "words for groups of people: 50.0% in the mean; bad 100%" in run.output
    assert "other words: 100.0% in the mean; idiot 100%" in run.output


def test_articles():
    assert identity_words.sentences("Asian")[0] == "I am an Asian teacher."
    assert identity_words.sentences("European")[-1] == "It is a European club that is open to everyone."
