"""Token shards for `annotate prove`: two tags of one family on every sentence, and text that is held out.

    python pipelines/demo_corpus.py out-proof/corpus --documents 5500
    python examples/train_tokenizer.py out-proof/corpus out-proof/tokenizer --size 2048
    annotate run pipelines/proof.py --workdir out-proof/run
    annotate prove out-proof/run --out out-proof/proof

The axis is `letters`, letters in a word: what the Automated Readability Index (Senter and Smith 1967) counts beside
the words of a sentence. Its cue is lexical, so a small model can learn it, and a bag of words can find it too: the
proof says which of the two finds more. With `--set probe=tone` the axis is that of a shipped probe. With
`--set marks=true` each sentence has a tag of a second family too: by `marks`, punctuation marks and symbols for each
word, which go with neither letters nor length. Then the proof also says whether tags do their own work, and add up.
With `--set levels=4` the axis has four tags, `<letters_1>` to `<letters_4>`: then it also says whether what models
write follows the grades.
"""

from __future__ import annotations

from typing import Any, Literal

import annotate
from annotate import (
    Corpus,
    Family,
    NearDuplicates,
    Pipeline,
    Place,
    Probe,
    PythonScorer,
    Schedule,
    Split,
    Splitter,
    Subsets,
    Tag,
    TagScheme,
    TokenShards,
    graded,
    score,
)

ANCHORS = {"letters": ("We go up to it.", "Implementations automatically reinitialise.")}
MARK_ANCHORS = {"marks": ("We go up to it", "(see `it`, 'us')")}


def letters_a_word(table: Any) -> Any:
    """The mean number of letters in a word of each span: float32 `[n]`; 0 for a span without words."""
    import pyarrow.compute as pc

    letters = pc.count_substring_regex(table["text"], r"\pL").cast("float32")
    words = pc.count_substring_regex(table["text"], r"\pL+").cast("float32")
    return pc.divide(letters, pc.max_element_wise(words, 1.0))


def marks_a_word(table: Any) -> Any:
    """The mean number of punctuation marks and symbols for each word of each span: float32 `[n]`."""
    import pyarrow.compute as pc

    marks = pc.count_substring_regex(table["text"], r"[\pP\pS]").cast("float32")
    words = pc.count_substring_regex(table["text"], r"\pL+").cast("float32")
    return pc.divide(marks, pc.max_element_wise(words, 1.0))


def pipeline(
    corpus: str = "out-proof/corpus",
    tokenizer: str = "out-proof/tokenizer",
    text: str = "text",
    id: str | None = "id",
    probe: str | None = None,
    window: int = 256,
    held_out: float = 0.1,
    loss: Literal["train", "mask"] = "mask",
    part_mb: float = 1,
    *,
    levels: int = 2,
    marks: bool = False,
) -> Pipeline:
    """Build the pipeline; `--set NAME=VALUE` sets a parameter.

    Args:
        corpus: a file, directory, glob or URL.
        tokenizer: a directory, a tokenizer.json or a name on the hub.
        text: the column of texts.
        id: the column of ids; None if there is none.
        probe: the name of a shipped probe, or a file: its axis in place of `letters`.
        window: tokens in each row of a shard.
        held_out: the share of documents that are not trained on. No near-copy of one is in training.
        loss: whether tags are trained on.
        part_mb: text in a shard, in MB.
        levels: how many tags the axis has, each on as many sentences. More than two are called `<letters_1>`, the
            lowest, and so on.
        marks: whether there is a second family, `<many_marks>` and `<few_marks>`, on either side of the median.
    """
    documents = Corpus(corpus, text=text, id=id)
    subsets = Subsets(train=0.95 - held_out, calibration=0.05, evaluation=held_out)
    verdicts = NearDuplicates(documents, subsets=subsets)
    scorer: Any = PythonScorer(function=letters_a_word, axes=("letters",), anchors=ANCHORS)
    if probe is not None:
        scorer = Probe(probe)
    scorers: list[Any] = [scorer]
    second: tuple[Tag, ...] = ()
    if marks:
        scorers.append(PythonScorer(function=marks_a_word, axes=("marks",), anchors=MARK_ANCHORS))
        second = (
            Tag(name="many_marks", rule="marks >= q(0.5)", family="marks"),
            Tag(name="few_marks", rule="else", family="marks"),
        )
    scores = score(Split(documents, Splitter(by="sentence")), skip=verdicts, scorers=scorers)
    (axis,) = scorer.axes
    first: tuple[Tag, ...] = (
        Tag(name="long_words" if probe is None else f"high_{axis}", rule=f"{axis} >= q(0.5)", family="axis"),
        Tag(name="short_words" if probe is None else f"low_{axis}", rule="else", family="axis"),
    )
    if levels != 2:
        first = graded("axis", axis, bins=levels, names=[f"{axis}_{k}" for k in range(1, levels + 1)])
    scheme = TagScheme(
        tags=(*first, *second),
        # Some spans lose their tag, and some documents lose all: so the model knows a span without a tag in both cases.
        families=tuple(Family(name=name, dropout=0.1) for name in (("axis", "marks") if marks else ("axis",))),
        document_dropout=0.1,
    )
    placements = Place(scores, scheme, schedule=Schedule())
    common: dict[str, Any] = {
        "tokenizer": tokenizer,
        "window": window,
        "loss": loss,
        "span_ids": True,
        "part_bytes": int(part_mb * (1 << 20)),
    }
    return Pipeline(
        train=TokenShards(placements, **common), held_out=TokenShards(placements, subset="evaluation", **common)
    )


if __name__ == "__main__":
    annotate.main(pipeline)
