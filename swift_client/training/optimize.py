"""Gradient descent over batches of whole questions with early stopping on validation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from swift_client.features import FEATURES, column_names
from swift_client.features.segments import F64, I64
from swift_client.models import Standardizer
from swift_client.training.feature_matrix import FeatureMatrix
from swift_client.training.folds import Parts
from swift_client.training.losses import LOSSES, Labels
from swift_client.training.metrics import within_question_auroc
from swift_client.training.network import Batch, Network, single_thread
from swift_client.training.recipes import Recipe

# Token rows per multiplication on a CPU: more would leave its cache, fewer would cost calls.
MIN_BLOCK_ROWS = 2048


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Losses after one pass over the training questions."""

    train_loss: float  # mean over the epoch's steps, without the penalty
    validation_loss: float


class TrainedNetwork(NamedTuple):
    """A network with the recipe and the parts of the data that it was trained on."""

    recipe: Recipe
    parts: Parts
    network: Network
    history: tuple[Epoch, ...]
    best_epoch: int  # epochs after which the weights were kept; 0: no epoch was better than the start

    @property
    def validation_auroc(self) -> float:
        """Within-question AUROC on validation; 0 if undefined."""
        validation = self.parts.validation
        scores = network_scores(self.network, validation)
        return float(np.nan_to_num(within_question_auroc(scores, validation.labels, validation.question)))


@single_thread()
def train(
    parts: Parts,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    start: Network | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> TrainedNetwork:
    """Return the network with the weights of the lowest validation loss, and the losses of each epoch.

    With ``start`` training goes on from this network: it keeps its standardizing, the penalty is on the distance from
    its weights, and these weights are returned if no epoch has a lower validation loss.
    """
    dtype = getattr(torch, recipe.precision)
    network = (_init_network(parts, recipe, dtype, seed) if start is None else copy.deepcopy(start)).to(device)
    loss_function = LOSSES[recipe.loss]
    optimizer = getattr(torch.optim, recipe.optimizer)(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    questions = _QuestionBatches(parts.train, dtype, device)
    validation = _QuestionBatches(parts.validation, dtype, device)
    validation_labels = Labels.from_arrays(
        parts.validation.labels,
        parts.validation.question,
        dtype=dtype,
        device=device,
        weights=parts.validation.weights,
    )
    prior_of = {"state": recipe.states_prior, "identity": recipe.identity_prior, "other": recipe.prior}
    priors = torch.as_tensor([prior_of[kind] for kind in _column_kinds(parts, recipe)], dtype=dtype, device=device)
    penalized = (network.token_linear.weight, network.response_weights)
    centres = [torch.zeros_like(weight) if start is None else weight.detach().clone() for weight in penalized]

    def measure_validation_loss() -> float:
        with torch.no_grad():
            return loss_function(_score_all(network, validation), validation_labels).item()

    rng = np.random.default_rng(seed)
    best_loss = np.inf if start is None else measure_validation_loss()
    n_steps, best_epoch, best_weights = 0, 0, copy.deepcopy(network.state_dict())
    history: list[Epoch] = []
    for epoch in range(1, recipe.epochs + 1):
        # One pass over the questions in a new order; the penalty is spread over all completions.
        losses = []
        for batch, labels in questions.batches(recipe.batch, rng.permutation(questions.n_questions)):
            loss = loss_function(network(batch), labels)
            losses.append(loss.item())
            optimizer.zero_grad()
            token_shift, response_shift = (weight - centre for weight, centre in zip(penalized, centres, strict=True))
            penalty = (priors * token_shift.square()).sum() + recipe.prior * response_shift.square().sum()
            torch.autograd.backward(loss + penalty / (2 * len(parts.train.labels)))
            optimizer.step()
        # Keep the best weights; stop after too many epochs without better ones, or when the steps are used up.
        validation_loss = measure_validation_loss()
        n_steps += len(losses)
        history.append(Epoch(train_loss=float(np.mean(losses)), validation_loss=validation_loss))
        progress(epoch)
        if validation_loss < best_loss:
            best_loss, best_epoch, best_weights = validation_loss, epoch, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= recipe.patience:
            break
        if recipe.steps is not None and n_steps >= recipe.steps:
            break
    network.load_state_dict(best_weights)
    return TrainedNetwork(recipe, parts, network, tuple(history), best_epoch)


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
        """Yield batches of at least ``size`` completions (the last may be smaller), of questions in this order."""
        counts = np.diff(self._starts)
        questions: list[int] = []
        for position, question in enumerate(order.tolist(), 1):
            questions.append(question)
            if counts[questions].sum() >= size or position == len(order):
                yield self._batch(questions)
                questions = []

    def _batch(self, questions: list[int]) -> tuple[Batch, Labels]:
        # Completions of a question are contiguous, and so are their tokens: a question is one slice of each array.
        matrix, segments = self._matrix, [(self._starts[q], self._starts[q + 1]) for q in questions]
        token_segments = [
            (matrix.first_rows[start], matrix.first_rows[end - 1] + matrix.lengths[end - 1]) for start, end in segments
        ]
        batch = Batch(
            blocks=self._blocks(token_segments),
            lengths=torch.cat([self._lengths[start:end] for start, end in segments]),
            terms=torch.cat([self._terms[start:end] for start, end in segments]),
        )
        rows = np.concatenate([np.arange(start, end) for start, end in segments])
        labels = Labels.from_arrays(
            matrix.labels[rows],
            matrix.question[rows],
            dtype=self._dtype,
            device=self._device,
            weights=matrix.weights[rows],
        )
        return batch, labels

    def _blocks(self, segments: list[tuple[int, int]]) -> list[Tensor]:
        """Slice segments of token rows; copy only short ones, to join them with their neighbours."""
        blocks: list[Tensor] = []
        pieces: list[Tensor] = []
        for position, (start, end) in enumerate(segments, 1):
            pieces.append(self._values[start:end])
            if sum(map(len, pieces)) >= self._min_block_rows or position == len(segments):
                blocks.append(pieces[0] if len(pieces) == 1 else torch.cat(pieces))
                pieces = []
        return blocks


def _score_all(network: Network, questions: _QuestionBatches) -> Tensor:
    """Return all scores (N,) in the stored order, computed in batches of bounded size."""
    return torch.cat([network(batch) for batch, _ in questions.batches(512, np.arange(questions.n_questions))])


def _init_network(parts: Parts, recipe: Recipe, dtype: torch.dtype, seed: int) -> Network:
    # Identities stay 0 or 1: divided by its deviation, a rare token would escape the penalty.
    tokens, terms = parts.train.token_standardizer, Standardizer.fit(parts.train.terms)
    kinds = np.array(_column_kinds(parts, recipe))
    is_identity, is_state = kinds == "identity", kinds == "state"
    # Thousands of state columns have together the variance of one column, within a question: neither the prior nor the
    # step size then depends on their number, on the length of completions, or on how much questions differ.
    state_scale = parts.train.moments.within_question_scale() * np.sqrt(is_state.sum())
    tokens = Standardizer(
        mean=np.where(is_identity, 0.0, tokens.mean),
        scale=np.select([is_identity, is_state], [1.0, state_scale], tokens.scale),
    )
    if not recipe.standardize:
        tokens, terms = (Standardizer(mean=0 * part.mean, scale=1 + 0 * part.scale) for part in (tokens, terms))
    # In float32, as the network holds them: the served head must equal the trained one.
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


def _column_kinds(parts: Parts, recipe: Recipe) -> list[str]:
    """Return the kind of each of the d columns: "state", "identity" (of the token) or "other". States come first."""
    kinds = [
        "identity" if name in recipe.identity else "other"
        for name in recipe.features
        for _ in column_names(FEATURES, [name], width=parts.k_max)
    ]
    return ["state"] * (parts.train.values.shape[1] - len(kinds)) + kinds
