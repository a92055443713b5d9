"""Metatokens of three prompts, and an axis tag beside them, as token shards with the teacher's probabilities.

    python pipelines/demo_corpus.py out-metatokens/corpus --documents 30000
    python examples/train_tokenizer.py out-metatokens/corpus out-metatokens/tokenizer --size 2048
    python examples/train_teacher.py out-metatokens/corpus out-metatokens/tokenizer out-metatokens/teacher
    annotate distill check pipelines/metatokens.py
    annotate run pipelines/metatokens.py --workdir out-metatokens/run
    python examples/learn_metatokens.py out-metatokens/run out-metatokens/teacher out-metatokens/students

The teacher completes the first words of documents under one prompt, two of them, or none. Tokens for its prompts stand
before what it wrote, and a tag that says whether the words are long, which no prompt asked for. One pair of prompts
is in no document that is trained on. It is in the output `held_out`, where it is seen whether a model recombines them.
"""

from __future__ import annotations

from typing import Any

import annotate
from annotate import (
    CausalModel,
    Corpus,
    Distill,
    Family,
    Pipeline,
    Place,
    PythonScorer,
    Sampling,
    Split,
    Splitter,
    Tag,
    TagScheme,
    TokenShards,
    TransformersGenerator,
    score,
)

PROMPTS = {
    "roads": (
        "Think of the towns of a country as nodes, and of each road between two of them as an edge. Some roads "
        "may be taken in one direction only, so the graph is directed, and each edge has a weight, which is the "
        "length of the road. A traveller who wants to go from a source to a target looks for the shortest path: a "
        "list of nodes, each one a neighbor of the next, whose edges have the smallest sum of weights. There may "
        "be no path at all, for the towns on an island are a connected component of their own. If we want to join "
        "all towns by as few miles as we can, we need a spanning tree, which has no cycle. Others look for a "
        "community, a set of nodes with many edges inside and few edges to the rest of the graph."
    ),
    "reader": (
        "The model reads a text as a sequence of tokens. First the tokenizer cuts each sentence into pieces and "
        "gives an id to each, with a special token at the beginning, and padding behind short sequences so that a "
        "batch has one length. An attention mask tells which tokens are padding. Then the embeddings go through "
        "the layers of the encoder, where each head of the attention looks at the hidden states of all the other "
        "positions. On top of the last hidden state stands a language modeling head, whose logits say which token "
        "of the vocabulary comes next. An image model does the same with patches of pixels, and a processor "
        "resizes each image before. To train a pretrained model again, we give it labels, compute the loss, and "
        "let the optimizer change its weights. The configuration says how many layers and heads it has."
    ),
    "workers": (
        "A cluster is a crowd of machines that work together. One node is the head, and it knows which resources "
        "the other nodes have: how many cpus and gpus. When a job is submitted, the scheduler looks for a worker "
        "node that is free, and starts a process there for the task. An actor is a process that stays alive and "
        "remembers its state, so that others can hold a handle to the actor and ask it again. What a task returns "
        "is put into the object store of its node, and the caller gets a reference to the object. If a worker "
        "dies, the task fails and is retried on another node. A deployment has a number of replicas, and when "
        "there are too many requests, the autoscaler adds nodes to the cluster, until the workers are idle."
    ),
}
"""Ordinary prose of some 200 tokens each, which is in no corpus."""

CONDITIONS = [[], ["roads"], ["reader"], ["workers"], ["roads", "reader"], ["roads", "workers"]]
HELD_OUT = ["reader", "workers"]
ANCHORS = {"letters": ("We go up to it.", "Implementations automatically reinitialise.")}


def letters_a_word(table: Any) -> Any:
    """The mean number of letters in a word of each span: float32 `[n]`; 0 for a span without words."""
    import pyarrow.compute as pc

    letters = pc.count_substring_regex(table["text"], r"\pL").cast("float32")
    words = pc.count_substring_regex(table["text"], r"\pL+").cast("float32")
    return pc.divide(letters, pc.max_element_wise(words, 1.0))


def pipeline(
    openings: str = "out-metatokens/corpus/demo-0000[012]-of-00004.parquet",
    held_out_openings: str = "out-metatokens/corpus/demo-00003-of-00004.parquet",
    teacher: str = "out-metatokens/teacher",
    opening_characters: int = 24,
    tokens: int = 48,
    top_k: int = 32,
    long: float = 5.0,
) -> Pipeline:
    """Build the pipeline; `--set NAME=VALUE` sets a parameter.

    Args:
        openings: documents, whose first words are how documents begin that are trained on.
        held_out_openings: those of documents that are not.
        teacher: a causal language model of Transformers, with its tokenizer.
        opening_characters: of a document, at most.
        tokens: of a completion, at most.
        top_k: how many of the teacher's most probable tokens are kept for each token.
        long: letters in a word, in the mean, from which on a document has the tag `<long_words>`.
    """
    generator = TransformersGenerator(CausalModel(teacher), sampling=Sampling(max_tokens=tokens), top_k=top_k)

    def shards(corpus: str, conditions: list[list[str]], seed: int) -> TokenShards:
        made = Distill(
            Corpus(corpus, unit_bytes=50_000),
            PROMPTS,
            generator,
            conditions=conditions,
            opening_characters=opening_characters,
            seed=seed,
        )
        scores = score(
            Split(made, Splitter(by="document")),
            scorers=[PythonScorer(function=letters_a_word, axes=("letters",), anchors=ANCHORS)],
        )
        scheme = TagScheme(
            tags=(
                *made.tags(),
                Tag(name="long_words", rule=f"letters >= {long}", family="letters"),
                Tag(name="short_words", rule="else", family="letters"),
            ),
            families=(Family(name="letters", dropout=0.5),),
        )
        return TokenShards(Place(scores, scheme), tokenizer=teacher, window=256, loss="mask", teacher=True)

    return Pipeline(
        train=shards(openings, CONDITIONS, seed=0),
        held_out=shards(held_out_openings, [*CONDITIONS[1:], HELD_OUT], seed=1),
    )


if __name__ == "__main__":
    annotate.main(pipeline)
