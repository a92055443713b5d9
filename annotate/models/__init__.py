"""Models that read text: how one is found, what it reads, how it is loaded and run.

What a model is:

    base                  the three steps of scoring a unit, as protocols, and what passes between them
    text_model            the settings of a Transformers model, with its config, tokenizer and longest input
    sequence_classifier   the backbone of classifiers and reward models
    causal_model          the backbone of likelihood scorers
    encoder_with_head     the backbone of classifiers that no class of Transformers makes
    kinds                 which of these a model is for, as its configuration tells
    (the encoder of probes is in `annotate.probes`)

Before the model, on a CPU:

    files                 a model's files, found by folder or hub name, known by their hashes
    weights               what its weight files hold, as their headers tell
    repeats               equal inputs are read once
    reading               how a model reads texts, for processes without Transformers
    encode                texts become token ids
    prompts               a prompt and a span in one input, and which is cut
    chat_template         the same, as the model's chat template writes them
    batches               inputs are sorted by length and cut into batches
    axes                  checks of axis names, anchors and signs

The model itself, on torch:

    load                  weights are read and checked
    fit                   whether the weights fit into memory
    positions             how many tokens fit
    linear_on_cpu         which library runs linear layers on a CPU
    padding_masks         are made without waiting for a GPU; so are batches that need none
    precision             what the dtypes of 16 bits mean here
    device                CPU or GPU
    run                   batches go through a model
    failing_inputs        an input that fails does not spoil its batch
    smoke_test            a loaded model is tried before it scores
    speed                 how fast a loaded model is here
    advice                which of its settings make it slow here
    tuning                how fast it is with other settings, and how far its scores move
    trials                what that found
    sequence_forward      a loaded sequence classifier
    causal_forward        a loaded causal language model
    head_forward          a loaded encoder with a head of its own
    pooling               hidden states of tokens become one vector of a text
"""
