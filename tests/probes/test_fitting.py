import numpy as np
import pytest

from annotate.probes.fitting import ReadSpans
from annotate.probes.labels import LabelledSpans
from annotate.probes.linear_head import PENALTIES, fit_path
from annotate.probes.metrics import auroc


def test_an_intercept_a_source_keeps_the_direction_clean():
    # Feature 0 tells the label, feature 1 the source, whose labels are unbalanced.
    random = np.random.default_rng(0)
    sources = np.repeat([0, 1], 2000)
    labels = (random.random(4000) < np.where(sources == 1, 0.9, 0.1)).astype(np.float64)
    features = np.stack([labels + random.normal(size=4000), sources + 0.1 * random.normal(size=4000)], axis=1)
    (head,) = fit_path(features.astype(np.float32), labels, sources, np.ones(len(labels)), blocks=1, penalties=[0.01])
    assert abs(head.weight[1]) < 0.1 * head.weight[0]
    assert head.offsets[1] - head.offsets[0] > 2


def test_a_constant_feature_gets_no_weight():
    random = np.random.default_rng(0)
    features = np.stack([random.normal(size=100), np.full(100, 3.0)], axis=1).astype(np.float32)
    (head,) = fit_path(
        features, (features[:, 0] > 0) * 1.0, np.zeros(100, np.int64), np.ones(100), blocks=1, penalties=[0.1]
    )
    assert head.weight[1] == 0
    weight, bias = head.folded()
    assert features @ weight + bias == pytest.approx(head.scores(features), abs=1e-5)


def test_with_three_sources_those_left_out_have_a_say_in_the_penalty():
    """A few columns follow the labels; the weaker the penalty, the more of the others are taken for signs, too."""
    draws = np.random.default_rng(0)
    n, sources = 300, np.repeat(np.arange(3), 100)
    yes = draws.integers(0, 2, n)
    features = draws.normal(size=(n, 60))
    features[:, :4] += 0.4 * (2 * yes[:, None] - 1)
    parts = np.arange(n) % 4
    spans = LabelledSpans(
        texts=[str(i) for i in range(n)],
        labels=yes * 1.0,
        targets=yes * 1.0,
        sources=sources,
        names=("a", "b", "c"),
        rated=np.zeros(3, np.bool_),
        weights=np.ones(n),
        test=parts == 0,
        validation=parts == 1,
        repeats=0,
        understood=(),
        contradictions=0,
    )
    values = features.astype(np.float32)
    read_spans = ReadSpans(spans=spans, features=values, blocks=1, words=0)
    chosen = read_spans.choose()

    def unseen(head):
        """As the docstring of `choose` has it."""
        found = []
        for source in range(3):
            own = sources == source
            other = read_spans.fit(spans.train & ~own, [head.penalty])[0]
            for scorer, rows in ((head, own & spans.validation), (other, own & spans.train)):
                found.append(auroc(scorer.scores(values[rows]), yes[rows] == 1))
        return np.mean(found)

    measured = {head.penalty: unseen(head) for head in read_spans.fit(spans.fitting, PENALTIES)}
    assert measured[chosen.penalty] == pytest.approx(max(measured.values()), abs=1e-3)
    assert max(measured.values()) - min(measured.values()) > 0.01
    assert chosen.penalty != PENALTIES[-1]
