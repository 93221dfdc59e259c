"""Fitting of a head on graded completions: features, training, calibration and the usefulness test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from swift_client import answers
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.errors import ConfigurationError
from swift_client.features.segments import F64, I64
from swift_client.models import AnyHead, Calibration
from swift_client.scoring.out_of_distribution import QUANTILE, distances
from swift_client.store import StateLayout
from swift_client.training.calibration import calibrate
from swift_client.training.export_head import build_head
from swift_client.training.feature_matrix import FeatureMatrix
from swift_client.training.folds import Dataset, EmptyPartError, FoldedDataset, read_groups
from swift_client.training.metrics import (
    UsefulnessTest,
    brier,
    expected_calibration_error,
    json_number,
    measure_usefulness,
    pooled_auroc,
    within_question_auroc,
)
from swift_client.training.optimize import Epoch, TrainedNetwork, network_scores, train
from swift_client.training.recipes import Recipe, recipe_of

# Called with "questions" and the number read, then with "epochs" and the number trained.
ProgressCallback = Callable[[str, int], None]
_Read = Callable[[Recipe], FoldedDataset]  # read the questions and build the features of a recipe
_Train = Callable[[Dataset, Recipe], TrainedNetwork]  # train one network

# Training tokens above which identities are not tried: 128 or 256 columns per token would take minutes.
MAX_IDENTITY_TOKENS = 300_000
MIN_IDENTITY_GAIN = 0.01  # gain in within-question AUROC on validation required to keep identities
# Validation completions above which cross-validation is not needed to judge a head.
MIN_VALIDATION_COMPLETIONS = 5000
# Validation completions required to estimate the out-of-distribution threshold from them.
MIN_OOD_COMPLETIONS = 200


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainResult:
    """A trained head with its training history and its metrics.

    Attributes:
        metrics: On held-out completions: within_question_auroc, pooled_auroc, brier, ece; None if undefined.
    """

    artifact: AnyHead
    history: tuple[Epoch, ...]
    metrics: dict[str, float | None]
    usefulness: UsefulnessTest

    @property
    def verdict(self) -> str:
        """The usefulness test in words, as stored in the head."""
        return self.usefulness.verdict


def fit(
    groups: Iterable[Group],
    *,
    provider: str,
    model: str,
    answer: answers.Spec = "auto",
    recipe: str | Recipe = "default",
    split: Split | None = None,
    seed: int = 0,
    device: str = "auto",
    k: int | None = None,
    layout: StateLayout | None = None,
    licence: str = "unknown",
    progress: ProgressCallback = lambda stage, done: None,
) -> TrainResult:
    """Train, calibrate and test a head on graded questions. The same input gives the same head.

    Args:
        groups: questions with graded completions; read once, or twice if token identities are tried.
        provider: provider of the completions.
        model: model of the completions.
        answer: how answers are compared for agreement.
        recipe: the name of a row of RECIPES, or a recipe.
        split: shares of the questions; its test questions are never used.
        seed: seed of the initial weights, the order of questions and the subsampling.
        device: torch's name, or "auto" for a GPU if there is one.
        k: alternatives per token to read; None reads all that are listed.
        layout: columns of the captured hidden states, for a recipe that reads them.
        licence: licence of the head, stored in its file.
        progress: called with a stage and the number done.

    Raises:
        ConfigurationError: no head can be trained on these questions, or an argument is wrong.
    """
    recipe_name, base_recipe = (recipe, recipe_of(recipe)) if isinstance(recipe, str) else ("custom", recipe)
    if base_recipe.states is not None and layout is None:
        raise ConfigurationError(
            f'The recipe "{recipe_name}" reads hidden states.', hint="Describe their columns with layout=."
        )
    groups, split = list(groups) if iter(groups) is groups else groups, split or Split()
    # All networks are trained with the same settings.
    count_questions, count_epochs = partial(progress, "questions"), partial(progress, "epochs")
    read = partial(read_groups, groups, split=split, answer=answer, k=k, seed=seed, progress=count_questions)
    train_network = partial(train, seed=seed, device=_resolve_device(device), progress=count_epochs)
    # Train the network that will serve, then one per fold to score completions that it has not seen.
    final, dataset = _choose_features(base_recipe, read, train_network)
    folds = _cross_validate(final, dataset, train_network)
    # Calibration and test use only completions that no weight was fitted to and no epoch chosen by, if folds exist.
    unseen = _UnseenScores.from_networks(folds or [final])
    calibration = calibrate(unseen.scores, unseen.labels)
    validation = _measure(unseen, calibration)
    usefulness = measure_usefulness(unseen.scores_without_agreement, unseen.labels, unseen.question, seed=seed)
    # The head's file records how it was made and what the tests showed.
    training = {
        "recipe": recipe_name,
        "seed": seed,
        "split": asdict(split),
        "answer": answer if isinstance(answer, str) else None if answer is None else "custom",
        "questions": final.data.question_counts,
        "completions": final.data.completion_counts,
        "unlabelled": dataset.counts.unlabelled,
        "folds": len(folds),
        "epochs": len(final.history),
        "best_epoch": 1 + int(np.argmin([epoch.validation_loss for epoch in final.history])),
        "validation": validation,
        "gate": usefulness.to_dict(),
        "verdict": usefulness.verdict,
        "reach": _ood_distance(final),
    }
    artifact = build_head(
        final, layout, provider=provider, model=model, calibration=calibration, training=training, licence=licence
    )
    return TrainResult(artifact=artifact, history=final.history, metrics=validation, usefulness=usefulness)


def _choose_features(recipe: Recipe, read: _Read, train_network: _Train) -> tuple[TrainedNetwork, FoldedDataset]:
    """Train the final network, with token identities if they help on validation."""
    dataset = read(recipe)
    base = train_network(dataset.dataset(), recipe)
    identity = [name for name in recipe.identity if name != "alternatives_hash" or base.data.has_top_ids]
    if not identity or base.data.train.lengths.sum() > MAX_IDENTITY_TOKENS:
        return base, dataset
    extended_recipe = replace(recipe, features=(*recipe.features, *identity))
    extended_dataset = read(extended_recipe)
    extended = train_network(extended_dataset.dataset(), extended_recipe)
    if extended.validation_auroc > base.validation_auroc + MIN_IDENTITY_GAIN:
        return extended, extended_dataset
    return base, dataset


def _cross_validate(final: TrainedNetwork, dataset: FoldedDataset, train_network: _Train) -> list[TrainedNetwork]:
    """Train one network per fold without that fold; return the final one alone if validation is large."""
    if len(final.data.validation.labels) >= MIN_VALIDATION_COMPLETIONS:
        return [final]
    networks = []
    for fold in range(dataset.split.folds):
        # With few questions a fold may be empty.
        with suppress(EmptyPartError):
            networks.append(train_network(dataset.dataset(fold), final.recipe))
    return networks


class _UnseenScores(NamedTuple):
    """Scores of completions by networks that were not trained on their questions."""

    scores: F64
    # Scores less the contribution of agreement, which majority vote knows without a head.
    scores_without_agreement: F64
    labels: F64
    question: I64

    @classmethod
    def from_networks(cls, networks: Sequence[TrainedNetwork]) -> _UnseenScores:
        """Score each network's held-out fold, or its validation questions if it has none."""
        parts = [trained.data.held_out or trained.data.validation for trained in networks]
        pairs = list(zip(networks, parts, strict=True))
        scores = np.concatenate([network_scores(trained.network, part) for trained, part in pairs])
        agreement = np.concatenate([_agreement_contribution(trained, part) for trained, part in pairs])
        # Questions are numbered from 0 in each part.
        first_numbers = np.cumsum([0, *(int(part.question[-1]) + 1 for part in parts[:-1])])
        return cls(
            scores,
            scores - agreement,
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.question + first for part, first in zip(parts, first_numbers, strict=True)]),
        )


def _measure(unseen: _UnseenScores, calibration: Calibration) -> dict[str, float | None]:
    probabilities = calibration(unseen.scores)
    values = {
        "within_question_auroc": within_question_auroc(unseen.scores, unseen.labels, unseen.question),
        "pooled_auroc": pooled_auroc(unseen.scores, unseen.labels),
        "brier": brier(probabilities, unseen.labels),
        "ece": expected_calibration_error(probabilities, unseen.labels),
    }
    return {name: json_number(value) for name, value in values.items()}


def _agreement_contribution(trained: TrainedNetwork, matrix: FeatureMatrix) -> F64:
    """Return the part of each score that the response term "agreement" adds, (N,)."""
    terms = trained.recipe.terms
    if "agreement" not in terms:
        return np.zeros(len(matrix.labels))
    column = terms.index("agreement") - len(terms)
    _, response = trained.network.export()
    contribution: F64 = response.weight[column] / response.standardizer.scale[column] * matrix.terms[:, column]
    return contribution


def _ood_distance(trained: TrainedNetwork) -> float | None:
    """Return the distance that most validation completions lie within; training ones if those are few."""
    data = trained.data
    matrix = data.validation if len(data.validation.labels) >= MIN_OOD_COMPLETIONS else data.train
    _, response = trained.network.export()
    values = distances(response, trained.recipe.terms, matrix.terms, width=data.k_max)
    return None if values is None else float(np.quantile(values, QUANTILE))


def _resolve_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"torch cannot use the device {name!r}: {reason}.", hint='Use "cpu".') from error
