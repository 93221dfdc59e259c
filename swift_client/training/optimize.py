"""Gradient descent over questions, best validation weights kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swift_client.features import FEATURES, column_names
from swift_client.features.segments import F64, I64
from swift_client.models import Standardizer
from swift_client.training.feature_matrix import FeatureMatrix
from swift_client.training.folds import Dataset
from swift_client.training.losses import LOSSES, Labels
from swift_client.training.network import Batch, Network
from swift_client.training.recipes import Recipe
from swift_client.training.threads import single_thread

MIN_BLOCK_ROWS = 2048
"""Token rows at least that are multiplied at once on a processor: more would leave its cache, fewer cost calls."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Losses after one pass over the training questions."""

    train_loss: float
    """Mean over the epoch's steps, penalty left out."""
    validation_loss: float


@single_thread()
def train(
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Network, tuple[Epoch, ...]]:
    """Return the network with the weights of the lowest validation loss, and the losses of each epoch."""
    dtype = {"float32": torch.float32, "float64": torch.float64}[recipe.precision]
    network = _init_network(data, recipe, dtype, seed).to(device)
    loss_of = LOSSES[recipe.loss]
    optimizer = getattr(torch.optim, recipe.optimizer)(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    questions, held = _QuestionBatches(data.train, dtype, device), _QuestionBatches(data.validation, dtype, device)
    held_labels = Labels.from_arrays(data.validation.labels, data.validation.question, dtype=dtype, device=device)
    order = np.random.default_rng(seed)
    prior = torch.as_tensor(_column_priors(recipe, data.k_max, data.train.values.shape[1]), dtype=dtype, device=device)
    steps = 0
    best, best_state, history = np.inf, copy.deepcopy(network.state_dict()), list[Epoch]()
    for epoch in range(recipe.epochs):
        losses = []
        for batch, labels in questions.batches(recipe.batch, order.permutation(questions.n_questions)):
            loss = loss_of(network(batch), labels)
            losses.append(loss.item())
            optimizer.zero_grad()
            penalty = (
                prior * network.token_linear.weight.square()
            ).sum() + recipe.prior * network.response_weights.square().sum()
            loss = loss + penalty / (2 * len(data.train.labels))
            torch.autograd.backward(loss)
            optimizer.step()
        with torch.no_grad():
            validation = loss_of(_score_all(network, held), held_labels).item()
        steps += len(losses)
        history.append(Epoch(train_loss=float(np.mean(losses)), validation_loss=validation))
        progress(epoch + 1)
        if validation < best:
            best, best_state = validation, copy.deepcopy(network.state_dict())
        elif epoch - int(np.argmin([each.validation_loss for each in history])) >= recipe.patience:
            break
        if recipe.steps is not None and steps >= recipe.steps:
            break
    network.load_state_dict(best_state)
    return network, tuple(history)


@single_thread()
def network_scores(network: Network, matrix: FeatureMatrix) -> F64:
    """Return the scores (N,) of all completions of a matrix."""
    weight = network.token_linear.weight
    with torch.no_grad():
        scores: F64 = _score_all(network, _QuestionBatches(matrix, weight.dtype, weight.device)).double().cpu().numpy()
    return scores


class _QuestionBatches:
    """A matrix on the device, cut into batches of whole questions."""

    def __init__(self, matrix: FeatureMatrix, dtype: torch.dtype, device: torch.device) -> None:
        self._matrix, self._dtype, self._device = matrix, dtype, device
        self._values = torch.from_numpy(matrix.values).to(device)
        self._terms = torch.from_numpy(matrix.terms).to(device)
        self._lengths = torch.from_numpy(matrix.lengths).to(device)
        self._starts = matrix.question_offsets
        self._min_block_rows = MIN_BLOCK_ROWS if device.type == "cpu" else len(matrix.values)
        self.n_questions = len(self._starts) - 1

    def batches(self, size: int, order: I64) -> Iterator[tuple[Batch, Labels]]:
        """Yield batches of at least ``size`` completions, the last one perhaps smaller, of questions in this order."""
        counts = np.diff(self._starts)
        chosen: list[int] = []
        for at, question in enumerate(order.tolist()):
            chosen.append(question)
            if counts[chosen].sum() >= size or at == len(order) - 1:
                yield self._batch(chosen)
                chosen = []

    def _batch(self, questions: list[int]) -> tuple[Batch, Labels]:
        matrix, runs = self._matrix, [(self._starts[q], self._starts[q + 1]) for q in questions]
        tokens = [
            (matrix.first_rows[start], matrix.first_rows[end - 1] + matrix.lengths[end - 1]) for start, end in runs
        ]
        batch = Batch(
            blocks=self._blocks(tokens),
            lengths=torch.cat([self._lengths[start:end] for start, end in runs]),
            terms=torch.cat([self._terms[start:end] for start, end in runs]),
        )
        rows = np.concatenate([np.arange(start, end) for start, end in runs])
        labels = Labels.from_arrays(matrix.labels[rows], matrix.question[rows], dtype=self._dtype, device=self._device)
        return batch, labels

    def _blocks(self, segments: list[tuple[int, int]]) -> list[Tensor]:
        """Cut out runs of token rows: long ones as they lie, short ones joined to their neighbours."""
        blocks: list[Tensor] = []
        pieces: list[Tensor] = []
        for at, (start, end) in enumerate(segments, 1):
            pieces.append(self._values[start:end])
            if sum(map(len, pieces)) >= self._min_block_rows or at == len(segments):
                blocks.append(pieces[0] if len(pieces) == 1 else torch.cat(pieces))
                pieces = []
        return blocks


def _score_all(network: Network, questions: _QuestionBatches) -> Tensor:
    """Score in the stored order, a bounded number of completions at a time."""
    return torch.cat([network(batch) for batch, _ in questions.batches(512, np.arange(questions.n_questions))])


def _init_network(data: Dataset, recipe: Recipe, dtype: torch.dtype, seed: int) -> Network:
    # Identities stay 0 or 1: divided by its deviation, a rare token would escape the penalty.
    tokens, terms = data.train.token_standardizer, Standardizer.fit(data.train.terms)
    named = _identity_columns(recipe, data.k_max, len(tokens.mean))
    tokens = Standardizer(mean=np.where(named, 0.0, tokens.mean), scale=np.where(named, 1.0, tokens.scale))
    if not recipe.standardize:
        tokens, terms = (Standardizer(mean=0 * part.mean, scale=1 + 0 * part.scale) for part in (tokens, terms))
    # In float32, as the network holds them: what is served must be what was trained.
    tokens, terms = (
        Standardizer(mean=part.mean.astype(np.float32), scale=part.scale.astype(np.float32)) for part in (tokens, terms)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(tokens, terms, dtype=dtype)
    if recipe.start == "zero":
        network.zero_weights()
    if not recipe.gate:
        network.disable_gate()
    return network


def _identity_columns(recipe: Recipe, width: int, columns: int) -> NDArray[np.bool_]:
    """Return for each of the ``columns`` whether it says which token it is, (d,); hidden states stand first."""
    counts = [len(column_names(FEATURES, [name], width=width)) for name in recipe.features]
    named = np.repeat([name in recipe.identity for name in recipe.features], counts).astype(np.bool_)
    return np.concatenate([np.zeros(columns - len(named), np.bool_), named])


def _column_priors(recipe: Recipe, width: int, columns: int) -> F64:
    states = columns - len(column_names(FEATURES, recipe.features, width=width))
    priors = np.where(_identity_columns(recipe, width, columns), recipe.identity_prior, recipe.prior)
    return np.where(np.arange(columns) < states, recipe.states_prior, priors)
