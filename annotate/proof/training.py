"""Small GPTs, trained on the windows of an arm. A run that was killed goes on where it was saved."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from annotate.errors import ConfigError
from annotate.exports.huggingface import IGNORED
from annotate.proof.arms import Batch, Rendering
from annotate.proof.intervals import Int64
from annotate.proof.likelihoods import allowed
from annotate.randomness import keyed_hash, name_key

STATE = "state.safetensors"
SAVED_EVERY = 30.0  # seconds
WARM_UP = 0.03  # share of the steps
CLIPPED = 1.0
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the models of a proof are made: all arms alike.

    Attributes:
        width: of the model.
        layers: of the model.
        batch: windows of a step.
        steps: of training.
        checkpoints: how many are measured. Their steps are spaced by equal factors, and the last is the last step.
        learning_rate: the highest; it rises over 3 % of the steps, then falls along a cosine to a tenth.
        weight_decay: of AdamW, on matrices.

    Raises:
        ConfigError: a number is out of range.
    """

    width: int = 128
    layers: int = 4
    batch: int = 8
    steps: int
    checkpoints: int = 6
    learning_rate: float = 2e-3
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        for name in ("width", "layers", "batch", "steps", "checkpoints"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is at least 1, not {getattr(self, name)}")
        if self.width % self.heads:
            raise ConfigError(f"width must be a multiple of {self.heads}, the number of heads, not {self.width}")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be above 0, not {self.learning_rate}")

    @property
    def heads(self) -> int:
        """One for 32 of the width."""
        return max(1, self.width // 32)

    @property
    def measured(self) -> tuple[int, ...]:
        """The steps of the checkpoints, rising by factors of two where there are steps enough."""
        steps = {round(self.steps / 2**k) for k in range(self.checkpoints)}
        return tuple(sorted(step for step in steps if step))

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        warm = max(1, round(WARM_UP * self.steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        along = (step - warm) / max(1, self.steps - warm)
        return self.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * along)))


def new_model(recipe: Recipe, vocabulary: int, positions: int, *, seed: int) -> Any:
    """A GPT-2 of Transformers with random weights: those of the seed, whatever the arm.

    Args:
        recipe: width and layers.
        vocabulary: how many ids there are, with those of the tags.
        positions: tokens of the longest window.
        seed: of the weights.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_positions=positions,
            n_embd=recipe.width,
            n_layer=recipe.layers,
            n_head=recipe.heads,
            resid_pdrop=0.0,  # text is seen once, or a few times
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def window_numbers(step: int, recipe: Recipe, n: int, *, seed: int, ordered: bool) -> Int64:
    """The windows of a step, from 0: epoch after epoch, each in an order of its own, or in that of the shards.

    Args:
        step: which.
        recipe: of the training.
        n: how many windows there are.
        seed: of the order.
        ordered: whether the windows are in phases, and their order stays.
    """
    at = step * recipe.batch + np.arange(recipe.batch)
    epochs, index = np.divmod(at, n)
    if ordered:
        return index
    orders = {epoch: _order(seed, epoch, n) for epoch in set(epochs.tolist())}
    return np.array([orders[epoch][i] for epoch, i in zip(epochs.tolist(), index.tolist(), strict=True)], np.int64)


def _order(seed: int, epoch: int, n: int) -> Int64:
    return np.argsort(keyed_hash(seed, name_key("proof: windows"), epoch, np.arange(n)), kind="stable")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is told of a run while it trains: the steps that are done, of how many, and the loss of the last, nats."""

    step: int
    steps: int
    loss: float


def train(
    model: Any,
    rendering: Rendering,
    recipe: Recipe,
    folder: Path,
    *,
    seed: int,
    checkpoint: Callable[[int, Any], None],
    tell: Callable[[Progress], None],
) -> None:
    """Train a model up to the last step, from where the folder's state is.

    Args:
        model: with the weights to start from.
        rendering: the windows of the arm.
        recipe: how.
        folder: where the state is kept.
        seed: of the order of windows.
        checkpoint: called with the step and the model at each checkpoint, before the state of that step is saved. After
            a kill it may be called again, with equal weights.
        tell: called after each step.

    Raises:
        ConfigError: the state is of another model.
    """
    optimizer = torch.optim.AdamW(_groups(model, recipe), lr=recipe.learning_rate, betas=(0.9, 0.95))
    first = load_state(folder, model, optimizer)
    saved = time.monotonic()
    for step in range(first, recipe.steps):
        loss = train_step(model, optimizer, rendering, recipe, step, seed=seed)
        done = step + 1
        if done in recipe.measured:
            checkpoint(done, model)
        if done in recipe.measured or time.monotonic() - saved > SAVED_EVERY:
            save_state(folder, model, optimizer, done)
            saved = time.monotonic()
        tell(Progress(step=done, steps=recipe.steps, loss=loss))


def train_step(model: Any, optimizer: Any, rendering: Rendering, recipe: Recipe, step: int, *, seed: int) -> float:
    """One step; gives the mean loss of its targets, in nats."""
    numbers = window_numbers(step, recipe, rendering.text.n_windows, seed=seed, ordered=rendering.text.ordered)
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate(step)
    loss = mean_loss(model, rendering.batch(numbers, step / recipe.steps))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIPPED)
    optimizer.step()
    return float(loss.detach())


@contextlib.contextmanager
def as_in_a_process(device: str) -> Iterator[None]:
    """On a CPU: with one thread, as the processes have it. So weights and times do not depend on who trains."""
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def mean_loss(model: Any, batch: Batch) -> torch.Tensor:
    """The mean loss of the targets of some windows."""
    ids, labels, positions, segments = (
        torch.from_numpy(getattr(batch, name)).to(model.device) for name in ("ids", "labels", "positions", "segments")
    )
    logits = model(input_ids=ids, position_ids=positions, attention_mask=allowed(segments)).logits
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED
    )


def _groups(model: Any, recipe: Recipe) -> list[dict[str, Any]]:
    """Weights with and without decay."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    return [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def save_state(folder: Path, model: Any, optimizer: Any, step: int) -> None:
    """Save weights and moments; the file is there whole or not at all."""
    tensors = dict(_named(model, optimizer))
    write_whole(folder / STATE, tensors, {"step": str(step)})


def write_whole(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, str]) -> None:
    """Write a safetensors file under another name, then give it its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, unfinished, dict(about))
    unfinished.replace(path)


def load_state(folder: Path, model: Any, optimizer: Any) -> int:
    """Load what was saved; gives the number of steps that were done, 0 if there is nothing.

    Raises:
        ConfigError: the state is of another model.
    """
    path = folder / STATE
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        step = int(file.metadata()["step"])
        weights = dict(model.named_parameters())
        for name, weight in weights.items():
            if name not in file.keys() or file.get_slice(name).get_shape() != list(weight.shape):  # noqa: SIM118
                raise ConfigError(f"{path} is the state of another model", hint="Give another folder, or remove it.")
            with torch.no_grad():
                weight.copy_(file.get_tensor(name))
            optimizer.state[weight] = {
                "step": torch.tensor(float(step)),
                **{moment: file.get_tensor(f"{moment} {name}").to(weight.device) for moment in MOMENTS},
            }
    return step


def _named(model: Any, optimizer: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for name, weight in model.named_parameters():
        yield name, weight.detach()
        for moment in MOMENTS:
            yield f"{moment} {name}", optimizer.state[weight][moment]
