"""What models write under tags, and what judges say of it, where both are tables: the differences are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from proof_shards import card_and_tables, tokenizer
from tiny_models import save_tiny_model
from transformers import GPT2Config, GPT2LMHeadModel

from annotate import Classifier, PythonScorer
from annotate.errors import ConfigError
from annotate.proof.judged import HeldOut, judged, score_texts, towards_corpus
from annotate.proof.judges import BagOfWords, scorer_judge
from annotate.proof.material import read_material
from annotate.proof.persistence import gap_left, judged_left
from annotate.proof.texts import LONGEST, TEMPERATURE, TOP_P, Writing, read_tokens, save_texts, write_texts
from annotate.proof.unigram import Unigram
from annotate.proof.windows import TagFamily, read_text, tag_families
from annotate.proof.written_report import written_lines

WORDS = 6  # ids 0 to 5; then the end of a text, and the tags
END, TAGS = 6, (7, 8, 9)
FAMILY = TagFamily(names=("a", "b"), ids=TAGS[:2])
GRADES = TagFamily(names=("low", "middle", "high"), ids=TAGS)
UNDER = np.array([[0.2, 0.2, 0.2, 0.2, 0.1, 0.1], [0.5, 0.2, 0.15, 0.1, 0.03, 0.02], [0.05, 0.1, 0.15, 0.3, 0.2, 0.2]])
"""The probability of each word under no tag and two tags."""


class Table:
    """A model that looks at the tag alone: each next word has the probability of its table."""

    device = torch.device("cpu")

    def __init__(self, under: np.ndarray, end: float = 0.0) -> None:
        logs = np.full((len(under), 10), -30.0)
        logs[:, :WORDS] = np.log(under)
        logs[:, END] = np.log(end) if end else -30.0
        logs[:, TAGS[0]] = 5.0  # it would write a tag, if it could
        self.logs = torch.tensor(logs)

    def eval(self) -> None:
        pass

    def __call__(self, *, input_ids: torch.Tensor, past_key_values: object, use_cache: bool) -> SimpleNamespace:
        tags = input_ids[:, 0] - 6 if past_key_values is None else past_key_values
        tags = torch.where((tags > 0) & (tags < len(self.logs)), tags, 0)
        return SimpleNamespace(logits=self.logs[tags][:, None], past_key_values=tags)


def drawn_from(words: np.ndarray) -> np.ndarray:
    """What is left of a distribution at temperature 0.7 and top-p 0.9."""
    hot = words ** (1 / TEMPERATURE)
    hot /= hot.sum()
    order = np.argsort(-hot, kind="stable")
    kept = np.zeros(len(hot), bool)
    kept[order[np.cumsum(hot[order]) - hot[order] < TOP_P]] = True
    return np.where(kept, hot, 0) / hot[kept].sum()


def writing(n: int, family: TagFamily = FAMILY, length: int = 6, end: int | None = END) -> Writing:
    return Writing(
        families=(family,),
        firsts=np.arange(n) % WORDS,
        length=length,
        begin=None,
        end=end,
        tokenizer=tokenizer().backend_tokenizer.to_str().encode(),
    )


def tokens_of(table: pa.Table, asked: Writing, folder) -> np.ndarray:
    save_texts(table, folder / "texts.parquet")
    return read_tokens(folder / "texts.parquet", asked)


def bag(under: np.ndarray) -> BagOfWords:
    return BagOfWords(models=(Unigram(logs=np.log(np.pad(under, ((0, 0), (0, 4)), constant_values=1.0))),))


def corpus_of(under: np.ndarray, n: int, length: int = 6) -> HeldOut:
    """Spans of which the tag is known, drawn from the table."""
    generator = np.random.default_rng(1)
    states = generator.integers(1, len(under), n)
    words = np.stack([generator.choice(WORDS, p=under[state], size=length + 1) for state in states])
    return HeldOut(tokens=words.astype(np.int32), states=states[None], documents=np.arange(n))


def test_a_table_writes_what_its_chances_say_and_no_tag(tmp_path) -> None:
    asked = writing(3000)
    found = tokens_of(write_texts(Table(UNDER), asked, seed=3), asked, tmp_path)
    assert found.shape == (3, 3000, 7)
    assert (
        found[:, :, 0] == asked.firsts
    ).all() and found.max() < WORDS  # first tokens are given; the end is not there
    for state, texts in zip((1, 2, 0), found, strict=True):  # those without a tag are the last
        shares = np.bincount(texts[:, 1:].ravel(), minlength=WORDS) / texts[:, 1:].size
        np.testing.assert_allclose(shares, drawn_from(UNDER[state]), atol=0.015)
    again = write_texts(Table(UNDER), asked, seed=3)
    assert (
        again.equals(write_texts(Table(UNDER), asked, seed=3))
        and again["tokens"] != write_texts(Table(UNDER), asked, seed=4)["tokens"]
    )


def test_the_judged_difference_of_tables_is_the_known_one(tmp_path) -> None:
    asked, judge = writing(2000), bag(UNDER)
    blind = Table(UNDER[[0, 0, 0]])  # a control that heeds no tag
    texts = {
        "true": [tokens_of(write_texts(Table(UNDER), asked, seed=s), asked, tmp_path) for s in range(2)],
        "shuffled": [tokens_of(write_texts(blind, asked, seed=s), asked, tmp_path) for s in range(2)],
    }
    found = judged(score_texts(judge, texts, corpus_of(UNDER, 4000), asked))
    ratio = np.log(UNDER[1] / UNDER[2])
    generated = float((drawn_from(UNDER[1]) - drawn_from(UNDER[2])) @ ratio)
    corpus = float((UNDER[1] - UNDER[2]) @ ratio)
    a, b = found.families[0].tags
    assert (a.name, b.name) == ("a", "b") and found.texts == 2000 and found.left_out == (0, 0)
    assert a.true.low < generated < a.true.high and a.true.high - a.true.low < 0.2
    assert a.corpus.low < corpus < a.corpus.high
    assert a.fidelity == pytest.approx(generated / corpus, abs=0.05)
    nothing = a.shuffled.value, a.shuffled.low, a.shuffled.high  # the same texts under both tags
    assert nothing == pytest.approx((0, 0, 0), abs=1e-12)
    assert a.difference.value == pytest.approx(a.true.value)
    assert b.true.value == pytest.approx(a.true.value)  # of two tags the ratios are opposite
    assert a.highest > a.true.value / 2 and a.highest > a.highest_shuffled
    assert found.families[0].dose is None


def test_grades_are_written_in_their_order(tmp_path) -> None:
    middle = (UNDER[1] + UNDER[2]) / 2
    under = np.stack([UNDER[0], UNDER[2], middle, UNDER[1]])
    asked = writing(400, GRADES)
    texts = {
        name: [tokens_of(write_texts(Table(table), asked, seed=0), asked, tmp_path)]
        for name, table in (("true", under), ("shuffled", under[[0, 0, 0, 0]]))
    }
    found = judged(score_texts(bag(under), texts, corpus_of(under, 2000), asked))
    (family,) = found.families
    assert family.dose is not None and family.dose_shuffled is not None
    assert family.dose.spearman == 1.0 and family.dose.chance == pytest.approx(1 / 3)
    means = list(family.dose.generated.values())
    assert means[0] < means[1] < means[2]
    ratio = np.log(under[3] / under[1])
    expected = [float(drawn_from(row) @ ratio) for row in under[1:]]
    np.testing.assert_allclose(means, expected, atol=0.1)
    np.testing.assert_allclose(list(family.dose.corpus.values()), [float(row @ ratio) for row in under[1:]], atol=0.1)
    assert len(set(family.dose_shuffled.generated.values())) == 1  # the same texts under all grades
    said = "\n".join(written_lines(found))
    assert "### Grades <low> <middle> <high>" in said and f"| <low> | {means[0]:+.3f} |" in said
    assert "+1.00 (as far from 0 by chance: 33.3%); of the control +0.00 (as far from 0 by chance: 100.0%)" in said


def test_a_tag_without_others_is_judged_against_none(tmp_path) -> None:
    asked = writing(1000, TagFamily(names=("a",), ids=(7,)))
    texts = {
        name: [tokens_of(write_texts(Table(UNDER), asked, seed=0), asked, tmp_path)] for name in ("true", "shuffled")
    }
    corpus = corpus_of(UNDER, 500)
    corpus = HeldOut(tokens=corpus.tokens, states=2 - corpus.states, documents=corpus.documents)
    (family,) = judged(score_texts(bag(UNDER[[2, 1]]), texts, corpus, asked)).families
    ratio = np.log(UNDER[1] / UNDER[2])
    expected = float((drawn_from(UNDER[1]) - drawn_from(UNDER[0])) @ ratio)
    assert family.tags[0].true.low < expected < family.tags[0].true.high


def test_a_text_ends_where_the_model_ends_it_but_not_before_its_first_word(tmp_path) -> None:
    asked = writing(2000, length=4)
    found = tokens_of(write_texts(Table(UNDER, end=0.5), asked, seed=0), asked, tmp_path)
    assert (found[:, :, 1] >= 0).all()
    assert (found[:, :, 2:-1] == -1).any() and ((found[:, :, 3] == -1) <= (found[:, :, 4] == -1)).all()
    chance = drawn_from(np.append(UNDER[1], 0.5) / 1.5)[-1]
    assert (found[0, :, 2] == -1).mean() == pytest.approx(chance, abs=0.04)
    short = bag(UNDER).scores(np.array([[0, 1, -1], [0, 1, 1], [0, -1, -1]], np.int32))[0]
    assert short[0] == pytest.approx(short[1])  # a mean over what was written
    assert np.isnan(short[2]).all()


def test_the_cache_of_a_model_changes_nothing(tmp_path) -> None:
    """Step by step with the cache, as with a pass over all of the text for each token."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=10, n_positions=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.5)
    model = GPT2LMHeadModel(config).eval()

    def whole(*, input_ids, past_key_values, use_cache) -> SimpleNamespace:
        ids = input_ids if past_key_values is None else torch.cat([past_key_values, input_ids], dim=1)
        return SimpleNamespace(logits=model(input_ids=ids).logits, past_key_values=ids)

    whole.eval, whole.device = model.eval, model.device
    asked = writing(300)  # more than one pass
    assert write_texts(model, asked, seed=0).equals(write_texts(whole, asked, seed=0))


def test_first_tokens_are_those_of_documents() -> None:
    card, tables = card_and_tables(60, window=24, begin=True)
    text, families = read_text(tables, card), tag_families(card)
    end = card["shards"]["end_id"]
    asked = Writing.of(text, families, 500, begin=end, end=end, tokenizer=b"")
    heads = [
        next(int(t) for t, of in zip(text.tokens[a:b], text.spans[a:b], strict=True) if of >= 0)
        for a, b, more in zip(text.segments[:-1], text.segments[1:], text.continued, strict=True)
        if not more and (text.spans[a:b] >= 0).any()
    ]
    assert set(asked.firsts.tolist()) <= set(heads) and len(set(asked.firsts.tolist())) > 0.9 * len(set(heads))
    sizes = np.bincount(text.spans[text.spans >= 0])[text.whole_spans()]
    assert asked.length == int(np.median(sizes)) - 1 < LONGEST
    assert end not in asked.banned() and set(asked.banned()) == set(families[0].ids)
    spans = text.whole_spans()[:50]
    held = HeldOut.of(text, spans, asked)
    for span, row in zip(spans.tolist(), held.tokens, strict=True):
        assert row[row >= 0].tolist() == text.tokens[text.spans == span].tolist()[: 1 + asked.length]


def test_a_scorer_judges_the_text_and_not_if_the_tags_came_from_it(made) -> None:
    material = read_material(made.folder)
    words = PythonScorer(function=ups, axes=("ups",), anchors={"ups": ("w1", "up0")})
    judge = scorer_judge(words, material, made.folder, device="cpu")
    vocabulary = tokenizer().get_vocab()
    tokens = np.array([[vocabulary[word] for word in ("w1", "up1", "up2")], [vocabulary["w1"], -1, -1]], np.int32)
    assert judge.scores(tokens)[0].tolist() == [[2.0] * 3, [0.0] * 3]
    assert "PythonScorer" in judge.name and "'ups'" in judge.name

    nothing = PythonScorer(function=fails, axes=("ups",))
    with pytest.raises(ConfigError, match="can score no text"):
        scorer_judge(nothing, material, made.folder, device="cpu").scores(tokens)

    made.scored_by(words)
    with pytest.raises(ConfigError, match=r"is the scorer of annotations \(ups\), which the tags came from"):
        scorer_judge(words, material, made.folder, device="cpu")
    assert scorer_judge("niceness", material, made.folder, device="cpu").scorer.axes == ("niceness",)
    with pytest.raises(ConfigError, match="no probe named 'nicety'"):
        scorer_judge("nicety", material, made.folder, device="cpu")
    reads = PythonScorer(function=ups, axes=("ups",), columns=("text", "source"))
    with pytest.raises(ConfigError, match="reads the columns source"):
        scorer_judge(reads, material, made.folder, device="cpu")


def test_a_judge_that_is_the_scorer_in_other_settings_is_refused(made, tmp_path) -> None:
    material = read_material(made.folder)
    linked = PythonScorer(function=with_a_link, axes=("links",))
    made.scored_by(linked)  # the link's query is not in what the run left
    with pytest.raises(ConfigError, match="which the tags came from"):
        scorer_judge(linked, material, made.folder, device="cpu")

    save_tiny_model("bert", tmp_path / "model")
    given = {"model": str(tmp_path / "model"), "axis": "niceness"}
    made.scored_by(Classifier(**given, label="nice").resolved())
    for other in ({"batch_tokens": 64}, {"max_length": 16}, {"dtype": "bfloat16"}, {"sign": -1}):
        with pytest.raises(ConfigError, match="which the tags came from"):
            scorer_judge(Classifier(**given, label="nice", **other), material, made.folder, device="cpu")
    assert scorer_judge(Classifier(**given, label="toxic"), material, made.folder, device="cpu").tags == (2,)


def with_a_link(table: pa.Table) -> np.ndarray:
    link = "https://example.org/a?token=abc"  # pragma: allowlist secret
    return np.array([text.count(link) for text in table["text"].to_pylist()], np.float32)


def fails(table: pa.Table) -> np.ndarray:
    return np.full(table.num_rows, np.nan, np.float32)


def ups(table: pa.Table) -> np.ndarray:
    return np.array([text.count("up") for text in table["text"].to_pylist()], np.float32)


def test_texts_that_a_judge_can_not_score_are_left_out_of_all_and_counted(tmp_path) -> None:
    asked = writing(100)
    texts = {
        name: [tokens_of(write_texts(Table(UNDER), asked, seed=0), asked, tmp_path)] for name in ("true", "shuffled")
    }
    texts["shuffled"][0][1, 7, 1:] = -1  # nothing was written
    corpus = corpus_of(UNDER, 50)
    corpus.tokens[3, 1:] = -1
    found = judged(score_texts(bag(UNDER), texts, corpus, asked))
    assert found.texts == 99 and found.left_out == (1, 1)
    assert np.isfinite(found.families[0].tags[0].difference.value)
    texts["shuffled"][0][1, :, 1:] = -1
    with pytest.raises(ConfigError, match=r"a bag of words.* finds no number of which it can score"):
        score_texts(bag(UNDER), texts, corpus, asked)


def test_what_is_left_of_a_known_gap() -> None:
    generator = np.random.default_rng(0)
    states, documents = generator.integers(0, 3, 2000), np.arange(2000) // 4
    before = np.zeros((2000, 3))
    before[np.arange(2000), states] = 1.0
    kept = gap_left(before, before / 4, states, documents)
    assert kept.before.value == 1.0 and kept.after.value == 0.25
    assert kept.share is not None and kept.share.value == pytest.approx(0.25)
    nothing = gap_left(np.zeros((2000, 3)), before, states, documents)
    assert nothing.share is None  # a share of nothing
    texts = judged_left(np.tile([1.0, 3.0], 50), np.tile([1.0, 1.0], 50))
    assert texts.share is not None and texts.share.value == pytest.approx(0.5)
    assert texts.share.low < 0.5 < texts.share.high


def test_a_difference_counts_towards_the_corpus(tmp_path) -> None:
    """By a judge whose scores are those of the second tag: under the first tag they are low, as in the corpus."""
    asked = writing(500)
    texts = {
        name: [tokens_of(write_texts(Table(UNDER), asked, seed=0), asked, tmp_path)] for name in ("true", "shuffled")
    }
    own = bag(UNDER)

    class OneAxis:
        name = "one axis"

        def scores(self, tokens: np.ndarray) -> list[np.ndarray]:
            return [np.repeat(own.scores(tokens)[0][:, 2:], 3, axis=1)]

    scores = score_texts(OneAxis(), texts, corpus_of(UNDER, 500), asked)
    found = judged(scores)
    a, b = found.families[0].tags
    assert a.true.value == pytest.approx(-b.true.value) and a.fidelity == pytest.approx(b.fidelity)
    towards = towards_corpus(scores, found.families[0], 0, "true")
    assert towards is not None and towards.mean() == pytest.approx(b.true.value)
