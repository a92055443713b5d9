"""Of which corpus a stage is: what a limit cuts, and what a plan counts."""

from length_scorer import length_scorer
from support import to_shards

from annotate import (
    Calibrate,
    Corpus,
    NearDuplicates,
    Render,
    RepeatedSpans,
    Schedule,
    Split,
    Subsets,
    Tag,
    TagScheme,
    score,
)
from annotate.engine.source import limited
from annotate.graph import AGAINST, documents_of, graph
from annotate.stages.fit_curves import FitCurves


def everything():
    """Shards that need every kind of stage there is, with labels and a corpus to filter against."""
    corpus, old = Corpus("new"), Corpus("old")
    subsets = Subsets(train=0.8, calibration=0.1, evaluation=0.1)
    verdicts = NearDuplicates(corpus, against=old, verify="exact", keep="highest:quality", subsets=subsets)
    spans = Split(corpus)
    scores = score(spans, skip=verdicts, scorers=[length_scorer()])
    scheme = TagScheme(
        tags=(Tag(name="long", rule="p(length) > 0.5"), Tag(name="q", rule="length > q(0.5, by=source)")),
        control="shuffled",
    )
    calibration = Calibrate(scores, labels="labels.parquet", repeated=RepeatedSpans(drop=True, above=2))
    made = to_shards(calibration, scheme, schedule=Schedule(), exclude=("a",))
    return corpus, old, made


def test_every_stage_is_of_the_corpus_whose_documents_it_is_about():
    corpus, old, made = everything()
    stages = graph(made.outputs.values())
    learned = [stage for stage in stages if isinstance(stage, FitCurves)]
    of_others = set(graph(learned))
    for stage in stages:
        behind = [source for name, source in stage.inputs.items() if name.startswith(AGAINST)]
        of_others |= set(graph(behind))
    own = [stage for stage in stages if stage not in of_others]
    assert len(own) > 20 and {documents_of(stage) for stage in own} == {corpus}
    assert {documents_of(stage) for stage in of_others} == {old, learned[0].labels}


def test_a_limit_cuts_the_corpora_of_outputs_and_no_other():
    corpus, _, made = everything()
    assert limited(made.outputs.values()) == {corpus}
    other = Corpus("other")
    assert limited([*made.outputs.values(), NearDuplicates(other)]) == {corpus, other}
    assert isinstance(made.outputs["shards"], Render)
