"""Condition tags for pretraining corpora: score spans on Ray, keep the scores, render tagged training shards.

Public names are imported when they are first used.
"""

from typing import TYPE_CHECKING

from annotate.installed import warn_of_other
from annotate.lazy import attributes

if TYPE_CHECKING:
    from annotate.cli import main
    from annotate.engine.clean import clean
    from annotate.engine.options import Options
    from annotate.engine.result import Result
    from annotate.engine.status import status
    from annotate.errors import AnnotateError, BudgetError, ConfigError, InputError, StorageError, WorkError
    from annotate.exports import export
    from annotate.generators import Price, Sampling, ServerGenerator, TransformersGenerator, VllmGenerator
    from annotate.pipeline import Pipeline
    from annotate.proof.prove import prove
    from annotate.scorers import (
        CausalModel,
        Classifier,
        Encoder,
        EncoderWithHead,
        Likelihood,
        Probe,
        PythonScorer,
        RewardModel,
        check_model,
        column_scorer,
    )
    from annotate.stages.attributes import AttributeScores
    from annotate.stages.calibrate import Calibrate
    from annotate.stages.combined import Combined
    from annotate.stages.corpus import Corpus
    from annotate.stages.distill import Distill
    from annotate.stages.near_duplicates import NearDuplicates
    from annotate.stages.nest import Nest
    from annotate.stages.place import Place
    from annotate.stages.render import Render
    from annotate.stages.repeated_spans import RepeatedSpans
    from annotate.stages.schedule import Schedule
    from annotate.stages.score import score
    from annotate.stages.split import Split
    from annotate.stages.thresholds import Thresholds
    from annotate.stages.token_shards import TokenShards
    from annotate.storage.results import read_tags, shards, tables, tags_folder
    from annotate.subsets import Subsets
    from annotate.tags import DEFAULT_SCHEME, Alias, Family, Tag, TagScheme, by_column, graded, load_scheme, preset
    from annotate.text.splitting import KORBAK_SPLITTER, Splitter
    from annotate.training_order.mix import Mix
    from annotate.training_order.phases import Phase

_HOMES = {
    "Alias": "annotate.tags",
    "AnnotateError": "annotate.errors",
    "AttributeScores": "annotate.stages.attributes",
    "BudgetError": "annotate.errors",
    "Calibrate": "annotate.stages.calibrate",
    "CausalModel": "annotate.scorers",
    "Classifier": "annotate.scorers",
    "Combined": "annotate.stages.combined",
    "ConfigError": "annotate.errors",
    "Corpus": "annotate.stages.corpus",
    "DEFAULT_SCHEME": "annotate.tags",
    "Distill": "annotate.stages.distill",
    "Encoder": "annotate.scorers",
    "EncoderWithHead": "annotate.scorers",
    "Family": "annotate.tags",
    "InputError": "annotate.errors",
    "KORBAK_SPLITTER": "annotate.text.splitting",
    "Likelihood": "annotate.scorers",
    "Mix": "annotate.training_order.mix",
    "NearDuplicates": "annotate.stages.near_duplicates",
    "Nest": "annotate.stages.nest",
    "Options": "annotate.engine.options",
    "Phase": "annotate.training_order.phases",
    "Pipeline": "annotate.pipeline",
    "Place": "annotate.stages.place",
    "Price": "annotate.generators",
    "Probe": "annotate.scorers",
    "PythonScorer": "annotate.scorers",
    "Render": "annotate.stages.render",
    "RepeatedSpans": "annotate.stages.repeated_spans",
    "Result": "annotate.engine.result",
    "RewardModel": "annotate.scorers",
    "Sampling": "annotate.generators",
    "Schedule": "annotate.stages.schedule",
    "ServerGenerator": "annotate.generators",
    "Split": "annotate.stages.split",
    "Splitter": "annotate.text.splitting",
    "StorageError": "annotate.errors",
    "Subsets": "annotate.subsets",
    "Tag": "annotate.tags",
    "TagScheme": "annotate.tags",
    "Thresholds": "annotate.stages.thresholds",
    "TokenShards": "annotate.stages.token_shards",
    "TransformersGenerator": "annotate.generators",
    "VllmGenerator": "annotate.generators",
    "WorkError": "annotate.errors",
    "by_column": "annotate.tags",
    "check_model": "annotate.scorers",
    "clean": "annotate.engine.clean",
    "column_scorer": "annotate.scorers",
    "export": "annotate.exports",
    "graded": "annotate.tags",
    "load_scheme": "annotate.tags",
    "main": "annotate.cli",
    "preset": "annotate.tags",
    "prove": "annotate.proof.prove",
    "read_tags": "annotate.storage.results",
    "score": "annotate.stages.score",
    "shards": "annotate.storage.results",
    "status": "annotate.engine.status",
    "tables": "annotate.storage.results",
    "tags_folder": "annotate.storage.results",
}

__all__ = [
    "DEFAULT_SCHEME",
    "KORBAK_SPLITTER",
    "Alias",
    "AnnotateError",
    "AttributeScores",
    "BudgetError",
    "Calibrate",
    "CausalModel",
    "Classifier",
    "Combined",
    "ConfigError",
    "Corpus",
    "Distill",
    "Encoder",
    "EncoderWithHead",
    "Family",
    "InputError",
    "Likelihood",
    "Mix",
    "NearDuplicates",
    "Nest",
    "Options",
    "Phase",
    "Pipeline",
    "Place",
    "Price",
    "Probe",
    "PythonScorer",
    "Render",
    "RepeatedSpans",
    "Result",
    "RewardModel",
    "Sampling",
    "Schedule",
    "ServerGenerator",
    "Split",
    "Splitter",
    "StorageError",
    "Subsets",
    "Tag",
    "TagScheme",
    "Thresholds",
    "TokenShards",
    "TransformersGenerator",
    "VllmGenerator",
    "WorkError",
    "by_column",
    "check_model",
    "clean",
    "column_scorer",
    "export",
    "graded",
    "load_scheme",
    "main",
    "preset",
    "prove",
    "read_tags",
    "score",
    "shards",
    "status",
    "tables",
    "tags_folder",
]

__getattr__ = attributes(__name__, _HOMES)
warn_of_other()
