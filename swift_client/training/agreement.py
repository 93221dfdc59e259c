"""Agreement first: weights learnt from questions without labels, from which training with labels goes on.

A completion's target is the share of the other completions of its question with the same answer (self-consistency, as
in EliCal, arXiv 2510.17509). The scores are then scaled to the labels (Platt), and training with labels starts from
these weights and is penalized for the distance from them, so that few labels change little.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch

from swift_client import answers
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.errors import ConfigurationError
from swift_client.features.segments import F64
from swift_client.training.calibration import fit_platt
from swift_client.training.feature_matrix import FeatureMatrix
from swift_client.training.folds import EmptyPartError, Parts, SingleLabelError, read_groups
from swift_client.training.network import Network
from swift_client.training.optimize import TrainedNetwork, network_scores, train
from swift_client.training.recipes import LossName, Recipe
from swift_client.training.vote_exponent import learn_beta
from swift_client.types import completeness

# λ of the penalty on the distance from the weights learnt by agreement, chosen among 10, 100 and 1000.
LABELS_PRIOR = 1000.0


@dataclass(frozen=True, kw_only=True)
class AgreementNetwork:
    """A network trained by agreement, with the counts of what it learnt from."""

    trained: TrainedNetwork
    questions: int  # questions without labels that were learnt from, those for early stopping included
    completions: int  # their completions that were learnt from, subsampled ones included

    def refine(self, parts: Parts, recipe: Recipe, **options: Any) -> TrainedNetwork:
        """Train on labels from this network's weights; ``options`` are those of ``optimize.train()``."""
        start = scale_to_labels(self.trained.network, parts.train)
        # Pairs of few questions are soon learnt by heart, so "both" becomes the cross-entropy alone.
        loss: LossName = "bce" if recipe.loss == "both" else recipe.loss
        return train(parts, replace(recipe, prior=LABELS_PRIOR, loss=loss), start=start, **options)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, as stored in the head's file."""
        return {
            "unlabelled_questions": self.questions,
            "unlabelled_completions": self.completions,
            "epochs": self.trained.best_epoch,
        }


def train_by_agreement(
    groups: Iterable[Group],
    recipe: Recipe,
    *,
    labelled: Collection[str],
    split: Split,
    answer: answers.Spec,
    k: int,
    seed: int,
    device: torch.device,
    count_questions: Callable[[int], None] = lambda done: None,
    count_epochs: Callable[[int], None] = lambda done: None,
) -> AgreementNetwork:
    """Train a network to predict how many other completions of a question have the same answer.

    Args:
        groups: the questions; their labels are not read.
        recipe: features and settings; the loss is always the cross-entropy.
        labelled: ids of questions to leave out, since they have labels or test the head.
        split: its share for validation, here of the unlabelled questions, ends training.
        answer: how answers are compared.
        k: alternatives per token to read.
        seed: seed of the order of questions and the subsampling.
        device: of the training.
        count_questions: called with the number of questions read.
        count_epochs: called with the number of epochs trained.

    Raises:
        ConfigurationError: no question is left, or nothing can be learnt from them.
    """
    usable = _label_majority(groups, labelled, answer)
    first = next(usable, None)
    hint = "Collect samples of more questions: they need no answers, but ids of their own and several completions."
    if first is None:
        raise ConfigurationError("There is no question without labels to learn from.", hint=hint)
    try:
        folds = read_groups(
            chain([first], usable),
            recipe,
            split=replace(split, test=0.0),
            answer=answer,
            k=k,
            seed=seed,
            progress=count_questions,
        )
        parts = folds.parts()
    except EmptyPartError as error:
        raise ConfigurationError("There are too few questions without labels to learn from.", hint=hint) from error
    except SingleLabelError as error:
        raise ConfigurationError(
            "All answers to each question without labels agree, so there is nothing to learn from them.",
            hint="Collect samples of harder questions, or at a higher temperature.",
        ) from error
    except ConfigurationError as error:
        raise ConfigurationError(f"Questions without labels: {error.message}", hint=error.hint) from error
    parts = replace(parts, train=_with_shares(parts.train), validation=_with_shares(parts.validation))
    trained = train(parts, replace(recipe, loss="bce"), seed=seed, device=device, progress=count_epochs)
    return AgreementNetwork(
        trained=trained,
        questions=folds.counts.questions.total(),
        completions=sum(parts.completion_counts.values()),
    )


# Scores learnt from agreement know part of what a vote counts, so β is 4 unless another one is better by two standard
# errors: a few dozen labelled questions are no evidence on β.
learn_agreement_beta = partial(learn_beta, default=4.0, margin=2.0)


def agreement_shares(matrix: FeatureMatrix) -> F64:
    """Return the share of the other completions of its question with the same answer, (N,); 0 without an answer.

    A question's only completion has the share 0.
    """
    shares = np.zeros(len(matrix.labels))
    sizes = np.bincount(matrix.question)[matrix.question]
    readable = np.flatnonzero(matrix.answers >= 0)
    pairs = np.stack([matrix.question[readable], matrix.answers[readable]])
    _, cell, count = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    shares[readable] = (count[cell.ravel()] - 1) / np.maximum(sizes[readable] - 1, 1)
    return shares


def scale_to_labels(network: Network, matrix: FeatureMatrix) -> Network:
    """Return a copy of the network whose scores are logits of the labels of ``matrix`` (Platt).

    Scores that rank right completions no higher than wrong ones become 0 but for the bias.
    """
    platt = fit_platt(network_scores(network, matrix), matrix.labels, matrix.weights)
    scaled = deepcopy(network)
    scaled.rescale(float(platt.a), float(platt.b))
    return scaled


def _label_majority(groups: Iterable[Group], excluded: Collection[str], answer: answers.Spec) -> Iterator[Group]:
    """Yield the questions with two or more answers to compare, labelled 1 for the most frequent answer, else 0.

    These labels only say which completions can be learnt from; ``_with_shares()`` replaces them.
    """
    for group in groups:
        if group.question_id in excluded:
            continue
        read = answers.read(*answers.texts_to_read(group.completions, answer)).groups
        numbers = np.array([-1 if number is None else number for number in read], np.int64)
        votes = numbers[(numbers >= 0) & np.array(completeness(group.completions), np.bool_)]
        if len(votes) > 1:
            most_frequent = np.bincount(votes).argmax()
            yield replace(group, labels=(numbers == most_frequent).astype(np.float64))


def _with_shares(matrix: FeatureMatrix) -> FeatureMatrix:
    return replace(matrix, labels=agreement_shares(matrix))
