"""What a model is, how a pipeline uses it, what it says of two texts, and how fast it is here."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from annotate.arguments import as_path, as_tuple
from annotate.errors import ConfigError
from annotate.models.base import expand
from annotate.models.batches import BATCH_TOKENS, Side
from annotate.models.causal_model import CausalModel
from annotate.models.files import WEIGHTS
from annotate.models.kinds import architecture_of, kind_of
from annotate.models.positions import named_positions
from annotate.models.sequence_classifier import SequenceClassifier, Squashing
from annotate.models.speed import Speed, measure_speed
from annotate.models.text_model import LONGEST_DEFAULT, Dtype, TextModel
from annotate.models.weights import count_weights
from annotate.probes.encoder import Encoder
from annotate.probes.file import EncoderHashes, Feature, Head, ProbeCard
from annotate.scorers.classifier import Classifier
from annotate.scorers.likelihood import Likelihood
from annotate.scorers.probe import shipped_probes
from annotate.scorers.reward_model import RewardModel

TEXTS = (
    "Thank you for your help. Your explanation is clear and correct.",
    "you are all idiots and this is garbage, shut up",
)
"""What is scored unless the user has other texts."""

PROMPT = "What do you think of my essay?"
"""What the user says to a reward model, unless the user of this package says something else."""

ModelKind = Literal["classifier", "reward model", "causal language model", "encoder"]

_UNNAMED = re.compile(r"LABEL_\d+")
_OF_PAIRS = {"entailment", "contradiction", "not_entailment"}


@dataclass(frozen=True, kw_only=True)
class ModelTrial:
    """What a loaded model gave, after it had scored some texts alone as in a padded batch.

    Attributes:
        texts: what was scored.
        scores: by label, or by axis where there is none, the raw score of each text; empty for an encoder.
        speed: how fast it was on a sample.
        device: what it ran on.
    """

    texts: tuple[str, ...]
    scores: Mapping[str, tuple[float, ...]]
    speed: Speed
    device: str


@dataclass(frozen=True, kw_only=True)
class ModelCheck:
    """What a model is, and how a pipeline uses it.

    Attributes:
        name: as it was named.
        folder: where its files are on this machine.
        commit: on the hub, if it is from there.
        kind: what it is.
        architecture: the class that its configuration names.
        labels: of a classifier or a reward model, in order.
        activation: what makes probabilities of its logits: "softmax" over the labels, "sigmoid" of each, or "none", as
            for a regression or a reward; None where there are no labels.
        window: tokens of an input at most, special ones included.
        padding: the side on which its tokenizer pads.
        pad_token: what is padded with.
        chat_template: whether it has one.
        weights: numbers in its files, by dtype.
        dtype: in which it runs.
        batch_tokens: padded tokens of a batch at most.
        usage: a scorer of a pipeline, as Python.
        remarks: what else to know, as sentences.
        trial: what it gave; None if it was not run.
    """

    name: str
    folder: str
    commit: str | None
    kind: ModelKind
    architecture: str
    labels: tuple[str, ...]
    activation: Squashing | None
    window: int
    padding: Side
    pad_token: str
    chat_template: bool
    weights: Mapping[str, int]
    dtype: Dtype
    batch_tokens: int
    usage: str
    remarks: tuple[str, ...]
    trial: ModelTrial | None = None

    @property
    def parameters(self) -> int:
        """Numbers in its weights."""
        return sum(self.weights.values())

    def probability(self, score: float) -> float | None:
        """The model's probability of a label with this raw score; None where the model has none."""
        return None if self.activation in (None, "none") else 1 / (1 + math.exp(-max(score, -700.0)))


def check_model(
    model: str | PathLike[str],
    *,
    texts: Sequence[str] = TEXTS,
    prompt: str = PROMPT,
    revision: str | None = None,
    max_length: int | None = None,
    dtype: Dtype = "float32",
    batch_tokens: int = BATCH_TOKENS,
    trust_remote_code: bool = False,
    device: str = "auto",
    run: bool = True,
) -> ModelCheck:
    """Say what a model is and how a pipeline uses it; run it on a few texts, and time it on one thread.

        check_model("unitary/toxic-bert", texts=["Thank you.", "Go away, idiot."]).usage

    Args:
        model: a directory, local or at a URL, or a hub id.
        texts: what to score.
        prompt: what the user says before, for a reward model with a chat template.
        revision: branch, tag or commit of a hub id.
        max_length: as scorers have it.
        dtype: as scorers have it.
        batch_tokens: as scorers have it.
        trust_remote_code: whether Python files that come with the model may run.
        device: "cpu" or "cuda"; "auto": a GPU, if there is one.
        run: whether to load the model. One that is larger than the free memory is not loaded, and a remark says so.

    Raises:
        ConfigError: the model can't be found, or can't be used; the hint says what to do.
    """
    name, texts = as_path(model, "model"), as_tuple(texts, "texts")
    if name in shipped_probes() or (name.endswith(".safetensors") and Path(name).name != WEIGHTS):
        raise ConfigError(f"{name!r} is a probe, not a model", hint=f"`annotate probe show {name}` shows it.")
    settings = TextModel(
        name,
        revision=revision,
        max_length=max_length,
        dtype=dtype,
        batch_tokens=batch_tokens,
        trust_remote_code=trust_remote_code,
    )
    kind, scorers, usage = _as_scorers(settings, prompt)
    found = _described(settings, kind, scorers[0], usage)
    if not run or not texts:
        return found
    from annotate.models.fit import lacking_memory

    place = _device(device)
    if lacking := lacking_memory(found.weights, found.dtype, place):
        return dataclasses.replace(found, remarks=(*found.remarks, f"It was not run: {lacking}"))
    return _tried(found, scorers, texts, place)


def as_python(scorer: Any) -> str:
    """A scorer as one writes it in a pipeline: what is not a default is named."""
    given = []
    for position, field in enumerate(dataclasses.fields(scorer)):
        value = getattr(scorer, field.name)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if value == default:
            continue
        code = as_python(value) if dataclasses.is_dataclass(value) else _literal(value)
        given.append(code if position == 0 and not field.kw_only else f"{field.name}={code}")
    return f"{type(scorer).__name__}({', '.join(given)})"


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


@dataclass(frozen=True)
class _OfEncoder:
    """Stands for a probe that is not trained yet: a head that reads all numbers of the last layer's mean."""

    backbone: Encoder

    def resolved(self) -> _OfEncoder:
        self.backbone.resolved()
        return self

    def head(self) -> Head:
        encoder, config = self.backbone, self.backbone.config()
        card = ProbeCard(
            axis="trial",
            encoder=EncoderHashes(name=encoder.name, **encoder.files().hashes()),
            features=(Feature(layer=config.num_hidden_layers),),
            max_length=encoder.window(),
            anchors=("low", "high"),
            meaning="",
        )
        width = int(config.hidden_size)
        signs = np.resize(np.array([1, -1, 1]), width)
        return Head(card=card, weight=(signs / math.sqrt(width)).astype(np.float32), bias=0.0)


def _as_scorers(settings: TextModel, prompt: str) -> tuple[ModelKind, list[Any], str]:
    """What a model is, the scorers that are tried (one a label), and the one to write in a pipeline."""
    given = {field.name: getattr(settings, field.name) for field in dataclasses.fields(TextModel)}
    kind = kind_of(settings.config(), settings.name)
    if kind == "encoder":
        return "encoder", [_OfEncoder(Encoder(**given))], 'Probe("AXIS.safetensors")'
    if kind == "causal language model":
        likelihood = Likelihood(model=CausalModel(**given))
        return kind, [likelihood], as_python(likelihood)
    labels = SequenceClassifier(**given).labels()
    if len(labels) == 1 and settings.tokenizer().chat_template:
        reward = RewardModel(axis="reward", prompt=prompt, **given)
        return "reward model", [reward], as_python(reward)
    if len(labels) == 1:
        one = Classifier(axis="score" if _UNNAMED.fullmatch(labels[0]) else _axis(labels[0]), **given)
        return "classifier", [one], as_python(one)
    scorers = [Classifier(axis=_axis(label), label=i, **given) for i, label in enumerate(labels)]
    # Of two labels the second is the one that says yes, as POSITIVE or toxic.
    named = labels[1] if len(labels) == 2 else labels[0]
    return "classifier", scorers, as_python(Classifier(axis=_axis(named), label=named, **given))


def _axis(label: str) -> str:
    name = re.sub(r"\W+", "_", label.lower()).strip("_")
    return name if name.isidentifier() else f"label_{name}"


def _described(settings: TextModel, kind: ModelKind, scorer: Any, usage: str) -> ModelCheck:
    """What is known without the weights. The scorer's own checks are made too."""
    scorer.resolved()
    files, config, tokenizer, backbone = settings.files(), settings.config(), settings.tokenizer(), scorer.backbone
    labelled = isinstance(backbone, SequenceClassifier)
    found = ModelCheck(
        name=settings.name,
        folder=str(files.directory),
        commit=files.commit,
        kind=kind,
        architecture=architecture_of(config),
        labels=tuple(backbone.labels()) if labelled else (),
        activation=backbone.squashing() if labelled else None,
        window=backbone.window(),
        padding=settings.padding_side(),
        pad_token=str(tokenizer.convert_ids_to_tokens(settings.pad_id())),
        chat_template=bool(tokenizer.chat_template),
        weights=count_weights(files.weights()),
        dtype=settings.dtype,
        batch_tokens=settings.batch_tokens,
        usage=usage,
        remarks=(),
    )
    positions = named_positions(config) if settings.max_length is None else None
    return dataclasses.replace(found, remarks=tuple(_remarks(found, positions)))


def _remarks(found: ModelCheck, positions: int | None) -> Iterator[str]:
    if found.labels and all(map(_UNNAMED.fullmatch, found.labels)) and found.kind == "classifier":
        several = "labels have no names" if len(found.labels) > 1 else "label has no name"
        yield f"Its {several}: only its model card can say what a high score means."
    if found.kind == "classifier" and (_OF_PAIRS & set(map(str.lower, found.labels))):
        yield "It was trained on pairs of texts: Classifier(..., pair_column=...) names the column that is read first."
    if found.kind == "classifier" and found.activation == "none" and not found.chat_template:
        yield (
            'If it was trained on pairs of a question and an answer: RewardModel(..., inputs="pair", prompt=...) '
            "or Classifier(..., pair_column=...)."
        )
    if found.kind == "reward model":
        yield "A prompt for each span can come from a column: prompt_column= instead of prompt=."
    if found.kind == "classifier" and found.chat_template:
        yield "It has a chat template, which a Classifier does not use: spans are read as they are."
    if found.kind == "encoder":
        yield (
            "An encoder gives no scores by itself. Train a head on labelled texts: "
            f"annotate probe train labelled.parquet --axis AXIS --encoder {found.name}"
        )
    if found.window == LONGEST_DEFAULT < (positions or 0):
        yield f"It takes {positions:,} tokens. Inputs are cut at {LONGEST_DEFAULT:,}, unless max_length= says more."


def _device(name: str) -> Any:
    import torch

    from annotate.models.device import find_device

    return find_device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def _tried(found: ModelCheck, scorers: Sequence[Any], texts: tuple[str, ...], place: Any) -> ModelCheck:
    """Load the model, score the texts, and time a sample."""
    import torch

    from annotate.models.device import device_kind, use_threads

    backbone, threads = scorers[0].backbone, torch.get_num_threads()
    use_threads(1)  # as a run does
    try:
        forward = backbone.load(scorers, str(place))
        prepared = backbone.prepare(pa.table({"text": pa.array(texts, pa.string())}))
        results = [expand(prepared, scores) for scores in forward(prepared, range(len(scorers)))]
        speed = measure_speed(backbone, forward)
    finally:
        use_threads(threads)
    names = found.labels if len(found.labels) > 1 else scorers[0].axes if found.kind != "encoder" else ()
    scores = {name: tuple(values[:, 0].tolist()) for name, (values, _) in zip(names, results, strict=False)}
    trial = ModelTrial(texts=texts, scores=scores, speed=speed, device=device_kind(place))
    remarks = list(found.remarks)
    for position, text in enumerate(texts):
        if why := results[0][1].get(position):
            remarks.append(f"{text[:60]!r} has no score: {why}.")
        elif prepared.truncated[position]:
            remarks.append(f"{text[:60]!r} was cut at {found.window:,} tokens.")
        elif prepared.unknown is not None and prepared.unknown[position]:
            remarks.append(f"The tokenizer does not know half of {text[:60]!r}, or more: its score means nothing.")
    if scores and len(set(texts)) > 1 and all(len(set(values)) == 1 for values in scores.values()):
        remarks.append("All texts have the same score: is this the model that was meant?")
    return dataclasses.replace(found, trial=trial, remarks=tuple(remarks))
