"""Condition tags for pretraining corpora: score spans on Ray, keep the scores, render tagged training shards.

Public names are imported when they are first used.
"""

from typing import TYPE_CHECKING

from annotate.lazy import attributes

if TYPE_CHECKING:
    from annotate.cli import main
    from annotate.engine.run import Options, Result
    from annotate.errors import AnnotateError, ConfigError, InputError, StorageError, WorkError
    from annotate.pipeline import Pipeline
    from annotate.scorers import Classifier, Encoder, Likelihood, Probe, PythonScorer, RewardModel
    from annotate.stages.calibrate import Calibrate
    from annotate.stages.corpus import Corpus
    from annotate.stages.near_duplicates import NearDuplicates
    from annotate.stages.place import Place
    from annotate.stages.render import Render
    from annotate.stages.repeated_spans import RepeatedSpans
    from annotate.stages.score import Score, score
    from annotate.stages.split import Split
    from annotate.stages.thresholds import Thresholds
    from annotate.storage.latest import shards, tables
    from annotate.tags import DEFAULT_SCHEME, Tag, TagScheme
    from annotate.text.splitting import KORBAK, Splitter

_HOMES = {
    "AnnotateError": "annotate.errors",
    "Calibrate": "annotate.stages.calibrate",
    "Classifier": "annotate.scorers",
    "ConfigError": "annotate.errors",
    "Corpus": "annotate.stages.corpus",
    "DEFAULT_SCHEME": "annotate.tags",
    "KORBAK": "annotate.text.splitting",
    "Encoder": "annotate.scorers",
    "InputError": "annotate.errors",
    "Likelihood": "annotate.scorers",
    "NearDuplicates": "annotate.stages.near_duplicates",
    "Options": "annotate.engine.run",
    "Pipeline": "annotate.pipeline",
    "Place": "annotate.stages.place",
    "Probe": "annotate.scorers",
    "PythonScorer": "annotate.scorers",
    "Render": "annotate.stages.render",
    "RepeatedSpans": "annotate.stages.repeated_spans",
    "Result": "annotate.engine.run",
    "RewardModel": "annotate.scorers",
    "Score": "annotate.stages.score",
    "Split": "annotate.stages.split",
    "Splitter": "annotate.text.splitting",
    "StorageError": "annotate.errors",
    "Tag": "annotate.tags",
    "TagScheme": "annotate.tags",
    "Thresholds": "annotate.stages.thresholds",
    "WorkError": "annotate.errors",
    "main": "annotate.cli",
    "score": "annotate.stages.score",
    "shards": "annotate.storage.latest",
    "tables": "annotate.storage.latest",
}

__all__ = [
    "DEFAULT_SCHEME",
    "KORBAK",
    "AnnotateError",
    "Calibrate",
    "Classifier",
    "ConfigError",
    "Corpus",
    "Encoder",
    "InputError",
    "Likelihood",
    "NearDuplicates",
    "Options",
    "Pipeline",
    "Place",
    "Probe",
    "PythonScorer",
    "Render",
    "RepeatedSpans",
    "Result",
    "RewardModel",
    "Score",
    "Split",
    "Splitter",
    "StorageError",
    "Tag",
    "TagScheme",
    "Thresholds",
    "WorkError",
    "main",
    "score",
    "shards",
    "tables",
]

__getattr__ = attributes(__name__, _HOMES)
