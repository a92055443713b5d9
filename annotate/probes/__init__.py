"""Probes: linear heads on the hidden states of one encoder.

What scores:

    file                  a probe's file: read, checked, written
    encoder               the backbone that probes share
    encoder_forward       a loaded encoder with the heads of some probes
    trunk                 runs the encoder layer by layer, and pools hidden states
    heads/                the probes that come with this package, and their model card

What trains:

    training              from labelled spans to a file and a report
    labels                labelled spans: read, checked, cut into parts
    linear_head           fits the head
    tail                  trains a probe's own copies of some layers
    metrics               how well scores follow labels
    report                what training reports

The scorer is `annotate.scorers.Probe`.
"""
