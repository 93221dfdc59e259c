"""Fitting of a head on graded completions: features, training, calibration and the usefulness test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from swift_client import answers
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.errors import ConfigurationError
from swift_client.features import agreement_column
from swift_client.features.segments import F64, I64
from swift_client.models import AnyHead, Calibration
from swift_client.scoring.out_of_distribution import OOD_QUANTILE, distances
from swift_client.store import StateLayout
from swift_client.training.agreement import AgreementNetwork, learn_agreement_beta, train_by_agreement
from swift_client.training.calibration import calibrate
from swift_client.training.export_head import build_head
from swift_client.training.feature_matrix import FeatureMatrix
from swift_client.training.folds import EmptyPartError, Folds, Parts, read_groups
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
from swift_client.training.question_kind import sketch_questions
from swift_client.training.recipes import Recipe, recipe_of
from swift_client.training.stopping_costs import learn_costs
from swift_client.training.verifier_weight import LearntWeight, learn_weight
from swift_client.training.vote_exponent import learn_beta
from swift_client.types import Bool
from swift_client.verify.modes import MODES, mode_of

# Called with "questions" and the number read, then with "epochs" and the number trained.
ProgressCallback = Callable[[str, int], None]
_Read = Callable[[Recipe], Folds]  # read the questions and build the features of a recipe
_Train = Callable[[Parts, Recipe], TrainedNetwork]  # train one network

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
        metrics: within_question_auroc, pooled_auroc, brier and ece; None if undefined. With folds each completion was
            scored by the network that never saw its fold. Without (large validation set) these are the validation
            questions, which also chose the epoch, so the metrics are slightly optimistic.
        verifier_weights: Weight of the judgements of each verifier, learnt on the same completions. The head does not
            use them before ``evaluation.verifier_gate`` has tested them.
        notes: Facts about the labels, one sentence each.
    """

    artifact: AnyHead
    history: tuple[Epoch, ...]
    metrics: dict[str, float | None]
    usefulness: UsefulnessTest
    verifier_weights: Mapping[str, LearntWeight] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The result of the comparison in words, as stored in the head."""
        return str(self.artifact.training["verdict"])


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
    unlabelled: Iterable[Group] | AgreementNetwork | None = None,
    progress: ProgressCallback = lambda stage, done: None,
) -> TrainResult:
    """Train and calibrate a head, and check on held-out training data whether it is useful.

    The same input gives the same head.

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
        unlabelled: questions to learn from by agreement first, without their labels; those that have a label in
            ``groups`` are left out. Or the network of ``train_by_agreement()`` with the same recipe.
        progress: called with a stage and the number done.

    Raises:
        ConfigurationError: no head can be trained on these questions, or an argument is wrong.
    """
    recipe_name = recipe if isinstance(recipe, str) else "custom"
    base_recipe = recipe_of(recipe) if isinstance(recipe, str) else recipe
    if base_recipe.states is not None and unlabelled is not None:
        raise ConfigurationError(
            f'The recipe "{recipe_name}" reads hidden states and learns from labels only.',
            hint='Use recipe "default", or leave out the unlabelled samples.',
        )
    if base_recipe.states is not None and layout is None:
        raise ConfigurationError(
            f'The recipe "{recipe_name}" reads hidden states, but layout= is missing.',
            hint="Pass the layout of the states file: StateFile(samples).layout.",
        )
    # An iterator can be read once only, but trying token identities reads the questions twice.
    if iter(groups) is groups:
        groups = list(groups)
    split = split or Split()
    # All networks are trained with the same settings.
    count_questions, count_epochs = partial(progress, "questions"), partial(progress, "epochs")
    read = partial(read_groups, groups, split=split, answer=answer, k=k, seed=seed, progress=count_questions)
    options: dict[str, Any] = {"seed": seed, "device": _resolve_device(device)}
    folds, agreement = read(base_recipe), None
    train_network: _Train = partial(train, **options, progress=count_epochs)
    if isinstance(unlabelled, AgreementNetwork):
        agreement = unlabelled
    elif unlabelled is not None:
        agreement = train_by_agreement(
            unlabelled,
            base_recipe,
            labelled=folds.counts.labelled_ids,
            split=split,
            answer=answer,
            k=folds.k_max,
            **options,
            count_questions=partial(progress, "unlabelled questions"),
            count_epochs=count_epochs,
        )
    if agreement is not None:
        train_network = partial(agreement.refine, **options, progress=count_epochs)
        base_recipe = replace(base_recipe, identity=())  # agreement was learnt without identities
    # Train the network that will serve, then one per fold to score completions that it has not seen. A large
    # validation set makes the folds unnecessary.
    final, folds = _train_final_network(base_recipe, folds, read, train_network)
    is_validation_large = len(final.parts.validation.labels) >= MIN_VALIDATION_COMPLETIONS
    fold_networks = [final] if is_validation_large else _cross_validate(final, folds, train_network)
    # Calibrate and check the head on completions that no weight was fitted to.
    holdout = _HoldoutScores.from_networks(fold_networks or [final])
    calibration = calibrate(holdout.scores, holdout.labels, holdout.weights)
    # Feedback labels all answers only if the choice was right, so it cannot teach which answer to choose.
    graded = holdout.select(holdout.is_graded)
    columns = (graded.scores, calibration(graded.scores), graded.labels, graded.answers, graded.question)
    exponent = learn_beta(*columns, seed=seed) if agreement is None else learn_agreement_beta(*columns, seed=seed)
    costs = learn_costs(*columns, graded.lengths, beta=exponent.beta, seed=seed)
    weights = {
        verifier: learn_weight(*columns, judgements, beta=exponent.beta, seed=seed)
        for verifier, judgements in graded.judgements.items()
        if not MODES[mode_of(verifier)].holds_votes  # comparisons hold for all samples of a question together only
    }
    validation = _measure(holdout, calibration)
    usefulness = measure_usefulness(graded.scores_without_agreement, graded.labels, graded.question, seed=seed)
    # The head's file records how it was made and what the tests showed. Its historical keys are explained in
    # docs/reference/file-formats.md.
    training = {
        "recipe": recipe_name,
        "seed": seed,
        "split": asdict(split),
        "answer": _answer_name(answer),
        "questions": final.parts.question_counts,
        "completions": final.parts.completion_counts,
        "unlabelled": folds.counts.unlabelled,
        "folds": len(fold_networks),  # 1 if the validation set is large: no fold was trained
        "epochs": len(final.history),
        "best_epoch": final.best_epoch,
        "validation": validation,
        "vote_exponents": exponent.to_dict(),  # what each β of the votes was worth
        "stopping": costs.to_dict(),  # what stopping early costs and saves
        "gate": usefulness.to_dict(),  # the usefulness test, unrelated to the gate of a network
        "verdict": usefulness.verdict,
        "reach": _ood_threshold(final),  # distance above which answers are out of distribution
    }
    if weights:
        training["verifier_weights"] = {verifier: weight.to_dict() for verifier, weight in weights.items()}
    if agreement is not None:
        training["agreement_first"] = agreement.to_dict()
    artifact = build_head(
        final,
        layout,
        provider=provider,
        model=model,
        calibration=calibration,
        beta=exponent.beta,
        stopping_costs=costs.pairs,
        training=training,
        licence=licence,
        sketch=sketch_questions(folds.questions, folds.question_folds),
    )
    return TrainResult(
        artifact=artifact,
        history=final.history,
        metrics=validation,
        usefulness=usefulness,
        verifier_weights=weights,
    )


def _train_final_network(
    recipe: Recipe, folds: Folds, read: _Read, train_network: _Train
) -> tuple[TrainedNetwork, Folds]:
    """Train with the recipe's features, then again with token-hash columns, and return the better network.

    The second network is returned if it gains MIN_IDENTITY_GAIN in AUROC on validation.
    """
    base = train_network(folds.parts(), recipe)
    can_read = {"token_hash": base.parts.has_token_texts, "alternatives_hash": base.parts.has_top_ids}
    identity = [name for name in recipe.identity if can_read.get(name, True)]
    if not identity or base.parts.train.lengths.sum() > MAX_IDENTITY_TOKENS:
        return base, folds
    extended_recipe = replace(recipe, features=(*recipe.features, *identity))
    extended_folds = read(extended_recipe)
    extended = train_network(extended_folds.parts(), extended_recipe)
    if extended.validation_auroc > base.validation_auroc + MIN_IDENTITY_GAIN:
        return extended, extended_folds
    return base, folds


def _cross_validate(final: TrainedNetwork, folds: Folds, train_network: _Train) -> list[TrainedNetwork]:
    """Train one network per fold, without that fold."""
    networks = []
    for fold in range(folds.split.folds):
        # With few questions a fold may be empty.
        with suppress(EmptyPartError):
            networks.append(train_network(folds.parts(held_out=fold), final.recipe))
    return networks


class _HoldoutScores(NamedTuple):
    """Scores of completions by networks that were not trained on their questions.

    With folds, each fold is scored by the network that never saw it. Without, these are the validation questions, which
    also chose the epoch, so the scores are slightly optimistic.
    """

    scores: F64
    # Scores less the contribution of agreement, which majority vote knows without a head.
    scores_without_agreement: F64
    labels: F64
    answers: I64
    question: I64
    lengths: I64  # tokens
    weights: F64
    is_graded: Bool
    judgements: Mapping[str, F64]  # by verifier: judgements of the answers, NaN if unknown

    def select(self, mask: Bool) -> _HoldoutScores:
        """Return the completions in ``mask`` (N,)."""
        return _HoldoutScores(
            self.scores[mask],
            self.scores_without_agreement[mask],
            self.labels[mask],
            self.answers[mask],
            self.question[mask],
            self.lengths[mask],
            self.weights[mask],
            self.is_graded[mask],
            {verifier: values[mask] for verifier, values in self.judgements.items()},
        )

    @classmethod
    def from_networks(cls, networks: Sequence[TrainedNetwork]) -> _HoldoutScores:
        """Score each network's held-out fold, or its validation questions if it has none."""
        parts = [trained.parts.held_out or trained.parts.validation for trained in networks]
        pairs = list(zip(networks, parts, strict=True))
        scores = np.concatenate([network_scores(trained.network, part) for trained, part in pairs])
        agreement = np.concatenate([_agreement_contribution(trained, part) for trained, part in pairs])
        # Questions are numbered from 0 in each part.
        first_numbers = np.cumsum([0, *(int(part.question[-1]) + 1 for part in parts[:-1])])
        return cls(
            scores,
            scores - agreement,
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.answers for part in parts]),
            np.concatenate([part.question + first for part, first in zip(parts, first_numbers, strict=True)]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.weights for part in parts]),
            np.concatenate([part.is_graded for part in parts]),
            {
                verifier: np.concatenate([part.judgements[verifier] for part in parts])
                for verifier in parts[0].judgements
            },
        )


def _measure(holdout: _HoldoutScores, calibration: Calibration) -> dict[str, float | None]:
    """Return the metrics of ``TrainResult``; within a question those of grades only, see ``fit()``."""
    probabilities, graded = calibration(holdout.scores), holdout.select(holdout.is_graded)
    values = {
        "within_question_auroc": within_question_auroc(graded.scores, graded.labels, graded.question),
        "pooled_auroc": pooled_auroc(holdout.scores, holdout.labels, holdout.weights),
        "brier": brier(probabilities, holdout.labels, holdout.weights),
        "ece": expected_calibration_error(probabilities, holdout.labels, holdout.weights),
    }
    return {name: json_number(value) for name, value in values.items()}


def _agreement_contribution(trained: TrainedNetwork, matrix: FeatureMatrix) -> F64:
    """Return the part of each score that the response term "agreement" adds, (N,)."""
    terms = trained.recipe.terms
    if "agreement" not in terms:
        return np.zeros(len(matrix.labels))
    column = agreement_column(terms)
    _, response = trained.network.export()
    # Without the mean: a constant shifts all scores alike.
    contribution: F64 = response.weight[column] / response.standardizer.scale[column] * matrix.terms[:, column]
    return contribution


def _ood_threshold(trained: TrainedNetwork) -> float | None:
    """Return the OOD_QUANTILE of the validation completions' distances; of the training ones if those are few."""
    parts = trained.parts
    matrix = parts.validation if len(parts.validation.labels) >= MIN_OOD_COMPLETIONS else parts.train
    _, response = trained.network.export()
    values = distances(response, trained.recipe.terms, matrix.terms, width=parts.k_max)
    return None if values is None else float(np.quantile(values, OOD_QUANTILE))


def _answer_name(answer: answers.Spec) -> str | None:
    """Return the name of an answer specification for the head's file; "custom" for one without a name."""
    if answer is None or isinstance(answer, str):
        return answer
    return "custom"


def _resolve_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"torch cannot use the device {name!r}: {reason}.", hint='Use "cpu".') from error
