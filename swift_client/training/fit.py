"""From graded completions to a head: read, train, calibrate, judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from swift_client import answers
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.errors import ConfigurationError
from swift_client.features.segments import F64, I64
from swift_client.models import AnyHead
from swift_client.scoring.out_of_distribution import QUANTILE, distances
from swift_client.store import StateLayout
from swift_client.training.calibration import calibrate
from swift_client.training.export_head import build_hidden_head, build_logprob_head
from swift_client.training.feature_matrix import FeatureMatrix
from swift_client.training.folds import Dataset, EmptyPartError, FoldedDataset, read_groups
from swift_client.training.metrics import (
    brier,
    expected_calibration_error,
    pooled_auroc,
    within_question_auroc,
)
from swift_client.training.network import Network
from swift_client.training.optimize import Epoch, network_scores, train
from swift_client.training.recipes import Recipe, recipe_of
from swift_client.training.usefulness import UsefulnessTest, json_number, measure_usefulness

ProgressCallback = Callable[[str, int], None]
"""Called with "questions" and how many were read, then with "epochs" and how many were trained."""


MAX_IDENTITY_TOKENS = 300_000
"""Training tokens above which identities are not tried: 128 or 256 columns a token would take minutes, not seconds."""
MIN_IDENTITY_GAIN = 0.01
"""Within-question AUROC on validation that identities must bring to be kept."""
MIN_VALIDATION_COMPLETIONS = 5000
"""Validation completions from which the head's own validation questions alone say enough about it."""
MIN_OOD_COMPLETIONS = 200
"""Validation completions that it takes to say how far a head reaches."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainResult:
    """A head and how it came about."""

    artifact: AnyHead
    history: tuple[Epoch, ...]
    metrics: dict[str, float | None]
    """On held-out completions: within_question_auroc, pooled_auroc, brier, ece; None where undefined."""
    usefulness: UsefulnessTest

    @property
    def verdict(self) -> str:
        """Whether the head may weigh votes."""
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
    """Train a head on graded questions that ``provider`` and ``model`` answered; the same input gives the same head.

    ``groups`` is read question by question, once, or twice where identities are tried. ``answer`` is how answers are
    compared for agreement. ``split`` keeps its test questions out. Calibration and gate rest on completions that
    nothing was chosen by: where validation completions are few, further heads are trained, each without one fold of the
    split, which it then scores. ``device`` is torch's name, or "auto": a GPU where there is one. ``k`` reads that many
    alternatives a token and no more. A recipe that reads hidden states needs
    ``layout``, which says what their columns are, and makes a :class:`HiddenHead`. Raises ConfigurationError for
    questions that no head can be trained on.
    """
    name, row = (recipe, recipe_of(recipe)) if isinstance(recipe, str) else ("custom", recipe)
    split = split or Split()
    place = _resolve_device(device)
    again = list(groups) if iter(groups) is groups else groups

    def readings(row: Recipe) -> FoldedDataset:
        return read_groups(
            again,
            recipe=row,
            split=split,
            answer=answer,
            k=k,
            seed=seed,
            progress=lambda done: progress("questions", done),
        )

    def attempt(row: Recipe, known: FoldedDataset, held: int | None = None) -> _Attempt:
        data = known.dataset(held)
        network, history = train(data, row, seed=seed, device=place, progress=lambda done: progress("epochs", done))
        return _Attempt(row, data, network, history)

    known = readings(row)
    chosen = attempt(row, known)
    identity = [name for name in row.identity if name != "alternatives_hash" or chosen.data.has_top_ids]
    if identity and chosen.data.train.lengths.sum() <= MAX_IDENTITY_TOKENS:
        wider = replace(row, features=(*row.features, *identity))
        named = attempt(wider, both := readings(wider))
        if named.auroc > chosen.auroc + MIN_IDENTITY_GAIN:
            chosen, known = named, both
    row, data, network, history = chosen
    attempts = [chosen]
    if len(data.validation.labels) < MIN_VALIDATION_COMPLETIONS:
        attempts = []
        for held in range(split.folds):
            # Few questions may leave a fold without any.
            with suppress(EmptyPartError):
                attempts.append(attempt(row, known, held))
    unseen = _UnseenScores.from_attempts(attempts or [chosen])
    calibration = calibrate(unseen.scores, unseen.labels)
    probabilities = calibration(unseen.scores)
    judged = measure_usefulness(unseen.scores_without_agreement, unseen.labels, unseen.question, seed=seed)
    metrics = {
        "within_question_auroc": json_number(within_question_auroc(unseen.scores, unseen.labels, unseen.question)),
        "pooled_auroc": json_number(pooled_auroc(unseen.scores, unseen.labels)),
        "brier": json_number(brier(probabilities, unseen.labels)),
        "ece": json_number(expected_calibration_error(probabilities, unseen.labels)),
    }
    training: dict[str, Any] = {
        "recipe": name,
        "seed": seed,
        "split": asdict(split),
        "answer": answer if isinstance(answer, str) else None if answer is None else "custom",
        "questions": data.question_counts,
        "completions": data.completion_counts,
        "unlabelled": known.n_unlabelled,
        "folds": len(attempts),
        "epochs": len(history),
        "best_epoch": 1 + int(np.argmin([epoch.validation_loss for epoch in history])),
        "validation": metrics,
        "gate": judged.to_dict(),
        "verdict": judged.verdict,
        "reach": _ood_distance(chosen),
    }
    facts: dict[str, Any] = {"calibration": calibration, "training": training, "licence": licence}
    if row.states is None:
        artifact: AnyHead = build_logprob_head(network, row, data, provider=provider, model=model, **facts)
    elif layout is None:
        raise ConfigurationError(f'The recipe "{name}" reads hidden states.', hint="Say with layout= what they are.")
    else:
        artifact = build_hidden_head(network, row, data, layout, provider=provider, model=model, **facts)
    return TrainResult(artifact=artifact, history=history, metrics=metrics, usefulness=judged)


class _Attempt(NamedTuple):
    """One trained network."""

    recipe: Recipe
    data: Dataset
    network: Network
    history: tuple[Epoch, ...]

    @property
    def auroc(self) -> float:
        """Within-question AUROC on validation; 0 where it is undefined."""
        held = self.data.validation
        scores = network_scores(self.network, held)
        return float(np.nan_to_num(within_question_auroc(scores, held.labels, held.question)))


class _UnseenScores(NamedTuple):
    """Completions scored by networks that learned nothing from their questions."""

    scores: F64
    scores_without_agreement: F64
    """The scores without what agreement added: majority knows that much without a head."""
    labels: F64
    question: I64

    @classmethod
    def from_attempts(cls, attempts: Sequence[_Attempt]) -> _UnseenScores:
        """Join the folds that networks were trained without, or validation questions where none was set aside."""
        parts = [each.data.held_out or each.data.validation for each in attempts]
        scores = [network_scores(each.network, part) for each, part in zip(attempts, parts, strict=True)]
        added = [_agreement_contribution(each, part) for each, part in zip(attempts, parts, strict=True)]
        before = np.cumsum([0, *(int(part.question[-1]) + 1 for part in parts)])
        return cls(
            np.concatenate(scores),
            np.concatenate(scores) - np.concatenate(added),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.question + first for part, first in zip(parts, before, strict=False)]),
        )


def _ood_distance(attempt: _Attempt) -> float | None:
    """Return the distance that most validation completions lie within, or where those are few, training ones."""
    data = attempt.data
    known = data.validation if len(data.validation.labels) >= MIN_OOD_COMPLETIONS else data.train
    _, response = attempt.network.export()
    found = distances(response, attempt.recipe.terms, known.terms, width=data.k_max)
    return None if found is None else float(np.quantile(found, QUANTILE))


def _agreement_contribution(attempt: _Attempt, matrix: FeatureMatrix) -> F64:
    """Return what the response term "agreement" adds to the scores, (N,)."""
    terms = attempt.recipe.terms
    if "agreement" not in terms:
        return np.zeros(len(matrix.labels))
    column = terms.index("agreement") - len(terms)
    _, response = attempt.network.export()
    added: F64 = response.weight[column] / response.standardizer.scale[column] * matrix.terms[:, column]
    return added


def _resolve_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"torch cannot use the device {name!r}: {reason}.", hint='Use "cpu".') from error
