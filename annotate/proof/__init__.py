"""The proof that tags were learned: small models are trained on a run's token shards, with controls, and measured.

Estimators, pure functions of arrays:

    intervals        bootstrap over documents and seeds; what a size can show
    gaps             swap gap, gain, entropy, cost to untagged text
    discrimination   a likelihood ratio as a classifier of the tag
    sharpening       whether a measure grows with training
    generation       what a judge says of texts that were written under tags
    axes             whether each tag does its own work; whether tags add up
    unigram          the bag-of-words baseline
"""
