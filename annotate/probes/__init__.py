"""Probes: linear heads on the hidden states of one encoder.

What scores:

    file                  a probe's file: read, checked, written
    encoder               the backbone that probes share
    encoder_forward       a loaded encoder with the heads of some probes
    trunk                 runs the encoder layer by layer, and pools hidden states
    word_list             words that a head looks for, as hashes of their token ids
    word_features         what a head reads of them
    heads/                the probes that come with this package, and their model card

What trains:

    training              from labelled spans to a file and a report
    labels                labelled spans: read, checked, cut into parts
    feature_choice        which hidden states a head reads
    linear_head           fits a head
    fitting               fits heads to labelled spans, and chooses the penalty
    tail                  trains a probe's own copies of some layers
    metrics               how well scores follow labels
    report                what training reports

The scorer is `annotate.scorers.Probe`.
"""

from typing import TYPE_CHECKING

from annotate.lazy import attributes

if TYPE_CHECKING:
    from annotate.probes.encoder import probe_features
    from annotate.probes.file import EncoderHashes, Feature, Head, ProbeCard, load_probe, save_probe
    from annotate.probes.report import ProbeReport
    from annotate.probes.training import train_probe

_HOMES = {
    "EncoderHashes": "annotate.probes.file",
    "Feature": "annotate.probes.file",
    "Head": "annotate.probes.file",
    "ProbeCard": "annotate.probes.file",
    "ProbeReport": "annotate.probes.report",
    "load_probe": "annotate.probes.file",
    "probe_features": "annotate.probes.encoder",
    "save_probe": "annotate.probes.file",
    "train_probe": "annotate.probes.training",
}

__all__ = [
    "EncoderHashes",
    "Feature",
    "Head",
    "ProbeCard",
    "ProbeReport",
    "load_probe",
    "probe_features",
    "save_probe",
    "train_probe",
]

__getattr__ = attributes(__name__, _HOMES)
