import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_models import TEXTS
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from annotate.errors import ConfigError
from annotate.models.base import Backbone, expand
from annotate.scorers import Classifier, RewardModel, check_anchors
from annotate.scorers.base import Scorer


def score(scorer, spans):
    scorer = scorer.resolved()
    prepared = scorer.backbone.prepare(spans)
    values, failures = expand(prepared, scorer.backbone.load([scorer], "cpu")(prepared, [0])[0])
    assert failures == {}
    return values[:, 0]


def logits(directory, texts, pairs=None):
    """Text by text, as Transformers runs the model."""
    model, tokenizer = (a.from_pretrained(directory) for a in (AutoModelForSequenceClassification, AutoTokenizer))
    rows = []
    for i, text in enumerate(texts):
        inputs = tokenizer(*([text] if pairs is None else [pairs[i], text]), return_tensors="pt")
        if pairs is None:
            inputs.pop("token_type_ids", None)
        with torch.inference_mode():
            rows.append(model(**inputs).logits[0])
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_softmax_models_raw_score_is_the_log_odds_of_the_label(tiny, spans, kind):
    found = score(Classifier(tiny(kind), axis="niceness", label="nice", batch_tokens=40), spans)
    probability = logits(tiny(kind), TEXTS).softmax(1)[:, 2]
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), probability, atol=1e-5)


def test_it_does_not_saturate_where_the_probability_does():
    from annotate.scorers.classifier import _log_odds

    extreme = torch.tensor([[0.0, 200.0], [0.0, 100.0], [0.0, -150.0]])
    assert _log_odds(extreme, 1).tolist() == [200.0, 100.0, -150.0]
    assert torch.softmax(extreme, 1)[:2, 1].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("kind", "activation", "expected"),
    [
        ("bert", "logit", lambda x: x[:, 2]),
        ("bert", "softmax", lambda x: x.softmax(1)[:, 2]),
        ("bert", "sigmoid", lambda x: x.sigmoid()[:, 2]),
        ("bert-multi", "none", lambda x: x[:, 2]),
        ("bert-multi", "auto", lambda x: x.sigmoid()[:, 2]),
    ],
)
def test_activations(tiny, spans, kind, activation, expected):
    found = score(Classifier(tiny(kind), axis="niceness", label="nice", activation=activation), spans)
    np.testing.assert_allclose(found, expected(logits(tiny(kind), TEXTS)), atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "bert-multi", "bert-regression"])
def test_auto_is_what_the_transformers_pipeline_reports(tiny, spans, kind):
    label = None if kind == "bert-regression" else "nice"
    found = score(Classifier(tiny(kind), axis="niceness", label=label, activation="auto"), spans)
    reference = pipeline("text-classification", model=tiny(kind), top_k=None, device="cpu")
    for text, value in zip(TEXTS, found, strict=True):
        by_label = {entry["label"]: entry["score"] for entry in reference([text])[0]}
        assert by_label[label or "LABEL_0"] == pytest.approx(value, abs=1e-5)


def test_a_single_logit_is_not_squashed_behind_the_users_back(tiny, spans):
    raw = logits(tiny("bert-single"), TEXTS)[:, 0]
    np.testing.assert_allclose(score(Classifier(tiny("bert-single"), axis="reward"), spans), raw, atol=1e-5)
    with pytest.raises(ConfigError, match=r"one label and does not say .* squash it by a sigmoid"):
        score(Classifier(tiny("bert-single"), axis="reward", activation="auto"), spans)
    squashed = score(Classifier(tiny("bert-single"), axis="reward", activation="sigmoid"), spans)
    np.testing.assert_allclose(squashed, raw.sigmoid(), atol=1e-5)


def test_polarity_follows_the_labels_name_not_its_place(tiny, copy_model, edit_json, spans):
    swapped = copy_model("bert")
    edit_json(swapped / "config.json", id2label={"0": "nice", "1": "neutral", "2": "toxic"}, label2id=...)
    by_name = score(Classifier(str(swapped), axis="niceness", label="nice"), spans)
    by_index = score(Classifier(tiny("bert"), axis="niceness", label=0), spans)
    np.testing.assert_array_equal(by_name, by_index)
    assert not np.allclose(by_name, score(Classifier(tiny("bert"), axis="niceness", label="nice"), spans))


def test_sign_turns_the_score_round(tiny, spans):
    toxic = score(Classifier(tiny("bert"), axis="niceness", label="toxic"), spans)
    nice = score(Classifier(tiny("bert"), axis="niceness", label="toxic", sign=-1), spans)
    np.testing.assert_array_equal(nice, -toxic)


def test_weights_give_the_expected_value(tiny, spans):
    weights = {"toxic": -1.0, "neutral": 0.0, "nice": 2.0}
    found = score(Classifier(tiny("bert"), axis="niceness", weights=weights), spans)
    probabilities = logits(tiny("bert"), TEXTS).softmax(1)
    np.testing.assert_allclose(found, 2 * probabilities[:, 2] - probabilities[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": "kind"}, r"no label 'kind'; its labels are \['toxic', 'neutral', 'nice'\]"),
        ({"label": 3}, "no label 3"),
        ({"label": -1}, "no label -1"),
        ({}, r"has the labels \['toxic', 'neutral', 'nice'\]: name one"),
        ({"weights": {"toxic": 1.0}}, "a value for each label"),
    ],
)
def test_a_wrong_label_is_refused_before_any_work(tiny, settings, message):
    scorer = Classifier(tiny("bert"), axis="niceness", **settings)
    for check in (scorer.resolved, scorer.identity, lambda: scorer.backbone.load([scorer], "cpu")):
        with pytest.raises(ConfigError, match=message):
            check()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "tanh"}, "activation must be"),
        ({"sign": 0}, "sign must be 1 or -1"),
        ({"label": 1, "weights": {"a": 1.0}}, "not both"),
        ({"weights": {"a": 1.0}, "activation": "logit"}, "expected value"),
        ({"axis": "not nice"}, "letters, digits"),
        ({"anchors": {"tone": ("a", "b")}}, "got one for 'tone'"),
        ({"anchors": {"niceness": ("a", "a")}}, "must be"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ConfigError, match=message):
        Classifier("some/model", **{"axis": "niceness", **settings})


def test_scorers_of_one_model_share_the_pass(tiny, spans):
    scorers = [Classifier(tiny("bert"), axis=axis, label=axis) for axis in ("toxic", "neutral", "nice")]
    assert len({scorer.backbone for scorer in scorers}) == 1
    backbone = scorers[0].backbone
    forward, prepared = backbone.load(scorers, "cpu"), backbone.prepare(spans)
    calls = []
    forward.model.register_forward_hook(lambda *_: calls.append(1))
    together = forward(prepared, [0, 1, 2])
    assert len(calls) == len(prepared.arrays["bounds"]) - 1
    for i in range(3):
        assert forward(prepared, [i])[0].values.tobytes() == together[i].values.tobytes()
    assert scorers[0].identity() != scorers[1].identity()
    assert isinstance(scorers[0], Scorer)
    assert isinstance(backbone, Backbone)


def test_a_pair_column_is_read_before_the_span(tiny):
    contexts = ["hello", "you are nice", "hello"]
    texts = ["the cat", "a dog", "a dog"]
    found = score(
        Classifier(tiny("bert"), axis="niceness", label="nice", activation="logit", pair_column="context"),
        pa.table({"text": texts, "context": contexts}),
    )
    np.testing.assert_allclose(found, logits(tiny("bert"), texts, contexts)[:, 2], atol=1e-5)


def anchored(directory, **settings):
    texts = ("you are an idiot .", "thank you , good dog !")
    scorer = Classifier(directory, axis="niceness", **settings)
    low, high = score(scorer, pa.table({"text": texts}))
    order = texts if low < high else texts[::-1]
    return Classifier(directory, axis="niceness", anchors={"niceness": order}, **settings)


def test_anchors_the_wrong_way_round_are_refused(tiny):
    right = anchored(tiny("bert"), label="nice")
    wrong = Classifier(tiny("bert"), axis="niceness", label="nice", sign=-1, anchors=right.anchors)
    backbone = right.backbone
    forward = backbone.load([right, wrong], "cpu")
    check_anchors([right], backbone, backbone.load([right], "cpu"))
    with pytest.raises(ConfigError, match=r"score the wrong way round: .* must score low and got") as caught:
        check_anchors([right, wrong], backbone, forward)
    assert "sign=-1" in str(caught.value)


def test_anchors_that_cannot_be_scored_are_refused(tiny):
    scorer = anchored(tiny("bert"), label="nice")
    forward = scorer.backbone.load([scorer], "cpu")
    with torch.no_grad():
        forward.model.classifier.weight.fill_(torch.nan)
    with pytest.raises(ConfigError, match="can't be scored: non-finite"):
        check_anchors([scorer], scorer.backbone, forward)


def reward_logits(directory, prompt, texts):
    """One conversation at a time, unpadded, tokenized by Transformers' own chat template."""
    model, tokenizer = (a.from_pretrained(directory) for a in (AutoModelForSequenceClassification, AutoTokenizer))
    rows = []
    for text in texts:
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
        ids = tokenizer.apply_chat_template(messages, tokenize=True, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            rows.append(model(input_ids=ids["input_ids"]).logits[0, 0])
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("kind", ["reward", "reward-no-pad"])
def test_a_reward_model_reads_its_chat_template_in_batches(tiny, spans, kind):
    scorer = RewardModel(tiny(kind), axis="helpful", prompt="hello dog")
    found = score(scorer, spans)
    np.testing.assert_allclose(found, reward_logits(tiny(kind), "hello dog", TEXTS), atol=1e-5)
    assert len(set(found.tolist())) == len(set(TEXTS))


def test_the_chat_template_gives_the_only_first_token(tiny):
    prepared = RewardModel(tiny("reward"), axis="helpful", prompt="hello").backbone.prepare(pa.table({"text": ["a"]}))
    ids = prepared.arrays["ids"].tolist()
    assert ids.count(1) == 1
    assert ids[0] == 1


def test_a_pair_gets_one_first_token_too(tiny):
    scorer = RewardModel(tiny("reward"), axis="helpful", inputs="pair", prompt="hello")
    assert scorer.backbone.prepare(pa.table({"text": ["a"]})).arrays["ids"].tolist().count(1) == 1


def test_a_span_is_cut_inside_the_chat_template(tiny):
    scorer = RewardModel(tiny("reward"), axis="helpful", prompt="hello", max_length=12)
    texts = ["cat " * 30, "dog", "cat " * 30 + "dog"]
    prepared = scorer.backbone.prepare(pa.table({"text": texts}))
    assert prepared.truncated.tolist() == [True, False, True]
    assert prepared.arrays["lengths"].max() == 12
    ids, lengths = prepared.arrays["ids"], prepared.arrays["lengths"]
    ends = np.cumsum(lengths) - 1
    assert ids[ends].tolist() == [2, 2, 2]


def test_prompts_may_come_with_the_spans(tiny):
    scorer = RewardModel(tiny("reward"), axis="helpful", prompt_column="prompt")
    table = pa.table({"text": ["a dog", "a dog", "a dog"], "prompt": ["hello", None, "hello"]})
    prepared = scorer.backbone.prepare(table)
    assert prepared.inverse.tolist() == [0, 1, 0]
    found = score(scorer, table)
    expected = [reward_logits(tiny("reward"), prompt, ["a dog"])[0] for prompt in ("hello", "", "hello")]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_reward_is_raw_and_has_one_logit(tiny, spans):
    scorer = RewardModel(tiny("bert-single"), axis="helpful", inputs="text", sign=-1)
    np.testing.assert_allclose(score(scorer, spans), -logits(tiny("bert-single"), TEXTS)[:, 0], atol=1e-5)
    with pytest.raises(ConfigError, match="a reward model has one logit"):
        RewardModel(tiny("bert"), axis="helpful", inputs="text").resolved()


def test_what_a_reward_model_reads_is_checked(tiny, spans):
    with pytest.raises(ConfigError, match="no chat template"):
        RewardModel(tiny("bert-single"), axis="helpful", prompt="hello").backbone.prepare(spans)
    with pytest.raises(ConfigError, match="needs prompt or prompt_column"):
        RewardModel("x", axis="helpful")
    with pytest.raises(ConfigError, match="needs no prompt"):
        RewardModel("x", axis="helpful", inputs="text", prompt="hello")
    with pytest.raises(ConfigError, match="inputs must be"):
        RewardModel("x", axis="helpful", inputs="mail")


@pytest.mark.parametrize(
    ("kind", "settings"), [("bert", {"label": "nice", "activation": "logit"}), ("roberta", {"label": "nice"})]
)
def test_bfloat16_leaves_the_head_in_float32(tiny, spans, kind, settings):
    exact, half = (
        score(Classifier(tiny(kind), axis="niceness", dtype=dtype, **settings), spans)
        for dtype in ("float32", "bfloat16")
    )
    assert 0 < np.abs(exact - half).max() < 0.1
    # A bfloat16 logit would come back from bfloat16 as it was.
    rounded = torch.from_numpy(half).bfloat16().float().numpy()
    assert (half != rounded).mean() > 0.5


def test_a_reward_model_in_16_bits_is_near_float32_in_float16_nearer(tiny, spans):
    exact, *halves = (
        score(RewardModel(tiny("reward"), axis="helpful", prompt="hello", dtype=dtype), spans)
        for dtype in ("float32", "bfloat16", "float16")
    )
    apart = [np.abs(exact - half).max() for half in halves]
    assert 0 < 2 * apart[1] < apart[0] < 0.1


def test_a_model_that_fails_on_everything_stops_the_run(tiny, monkeypatch):
    from transformers import BertForSequenceClassification

    def broken(self, **inputs):
        raise TypeError("unexpected keyword")

    monkeypatch.setattr(BertForSequenceClassification, "forward", broken)
    scorer = Classifier(tiny("bert"), axis="niceness", label="nice")
    with pytest.raises(ConfigError, match="can't score a short text: TypeError: unexpected keyword"):
        scorer.backbone.load([scorer], "cpu")
