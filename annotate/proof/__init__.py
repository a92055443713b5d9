"""The proof that tags were learned: small models are trained on a run's token shards, with controls, and measured.

Estimators, pure functions of arrays:

    intervals        bootstrap over documents, spread of seeds; what a size can show
    gaps             swap gap, gain, entropy, cost to untagged text
    discrimination   a likelihood ratio as a classifier of the tag
    sharpening       whether a measure grows with training
    generation       judged differences of texts, their highest of some, the response to grades
    axes             whether each tag does its own work; whether the effects of two tags add up
    unigram          the bag-of-words baseline

Text and models:

    windows          token shards taken apart: text, and the tags of each span
    arms             the same text with true, shuffled, no tags, or tags in a part of training
    held_out         text that is not trained on, and shares none with the text that is
    training         small GPTs, from where they were left
    likelihoods      held-out spans under each tag, in one pass a segment
    joint_effects    what two tags do to the logits of held-out spans, alone and together

From a work directory to a report:

    material         the shards of a run, and what is held out
    companions       the files beside a saved model
    texts            what models write under tags
    runs             an arm and a seed each, in several processes
    timing           how long they will take
    measures         what the checkpoints of all arms say of a family of tags
    pairs            and of two tags of two families
    persistence      what is left after more training without tags
    judges           what tells whether a text is as its tag says
    judged           what a judge says of the texts of all models
    verdicts         the same in words
    findings         all of it together
    markdown, written_report, report
                     for programs, for people, and as pictures
    prove            `annotate prove`
"""
