"""Probe of hidden states: a linear classifier of right and wrong answers on the mean state of one layer.

PCA, then LDA, as in SWIFT's figure (arXiv 2505.12225). That figure has neither a baseline nor intervals, and its
published code allows completions of one question on both sides of the split. Here whole questions are held out, the
majority class is a baseline, intervals resample the questions, and discrimination within a question is reported, since
only that helps to choose. The same classifier on the means of our token features and the response terms is one more
row.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.question_samples import trainable_indices
from swift_client.dataset.stored import StoredGroups
from swift_client.errors import ConfigurationError
from swift_client.evaluation.result import Estimate, estimate, sums_with_resamples
from swift_client.features import DEFAULT_FEATURES, DEFAULT_RESPONSE_TERMS, response_terms, token_features
from swift_client.features.segments import F64, I64, segment_mean
from swift_client.store import StateFile, StateLayout
from swift_client.training.metrics import pair_wins
from swift_client.types import F32

COMPONENTS, FOLDS = 50, 5
"""Components of the PCA and folds of the questions, both as published."""


@dataclass(frozen=True, kw_only=True)
class ProbeRow:
    """Results of the classifier on one kind of features, on held-out questions."""

    # "layer 3", "vocabulary" (mean logprob of each token of the vocabulary) or "logprob features".
    name: str
    layer: int | None
    width: int  # features per completion
    accuracy: Estimate  # share of completions with a correct prediction, 0..1
    minus_baseline: Estimate  # accuracy less that of the majority class
    within_question_auroc: Estimate


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """Rows of a probe and its data."""

    rows: tuple[ProbeRow, ...]
    baseline: Estimate  # accuracy of predicting the class that is more frequent in the other folds
    questions: int
    completions: int
    right: float  # share of right completions
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


class _ProbeData(NamedTuple):
    """Data of N completions of Q questions."""

    keys: list[tuple[str, int]]  # question id and index of each completion
    labels: F64
    question: I64
    features: F64  # (N, d)


def probe(
    samples: str | os.PathLike[str],
    *,
    layers: Sequence[int] | None = None,
    grade: GraderSpec = "auto",
    components: int = COMPONENTS,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[str, int], None] = lambda stage, done: None,
) -> ProbeResult:
    """Probe each captured layer of a samples file, and the logprob features.

    Memory holds the mean states of one layer at a time.

    Args:
        samples: a samples file. Without captured states only logprob features are probed, with a note.
        layers: hidden states; default: all that were captured.
        grade: how completions without a label are compared with their question's answer.
        components: of the PCA.
        resamples: of the questions, for the 95 % intervals.
        seed: of folds, PCA and resamples.
        progress: called with "questions" and "rows" and the number done.

    Raises:
        ConfigurationError: no labelled completions of both kinds, fewer than five questions, or a layer that was not
            captured.
    """
    data = _read_data(samples, grade, lambda done: progress("questions", done))
    evaluator = _ProbeEvaluator(data, components=components, resamples=resamples, seed=seed)
    rows: list[ProbeRow] = []
    notes: list[str] = []
    try:
        file = StateFile(samples)
    except ConfigurationError as error:
        if layers is not None:
            raise
        notes.append(f"Only logprob features are probed. {error}")
    else:
        with file:
            selected = file.layout.layers if layers is None else file.layout.select_layers(layers).layers
            for layer in selected:
                states = _mean_states(file, data, file.layout.select_layers([layer]))
                rows.append(evaluator.evaluate(f"layer {layer}", layer, states))
                progress("rows", len(rows))
            # Vocabulary captures hold one mean logprob per token of the vocabulary, in place of states.
            if file.layout.vocabulary and layers is None:
                states = _mean_states(file, data, file.layout.select_vocabulary())
                rows.append(evaluator.evaluate("vocabulary", None, states))
    rows.append(evaluator.evaluate("logprob features", None, data.features))
    return ProbeResult(
        rows=tuple(rows),
        baseline=evaluator.baseline,
        questions=int(data.question[-1]) + 1,
        completions=len(data.labels),
        right=float(data.labels.mean()),
        notes=tuple(notes),
    )


class _ProbeEvaluator:
    """Cross-validation of the classifier over whole questions."""

    def __init__(self, data: _ProbeData, *, components: int, resamples: int, seed: int) -> None:
        self._data, self._components, self._resamples, self._seed = data, components, resamples, seed
        self._n_questions = int(data.question[-1]) + 1
        folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
        self._folds = list(folds.split(data.labels, groups=data.question))
        majority_class = np.empty(len(data.labels))
        # The baseline predicts the class that is more frequent in the training folds.
        for train, test in self._folds:
            majority_class[test] = data.labels[train].mean() >= 0.5
        self._baseline_correct = self._sum_by_question(majority_class == data.labels)
        self.baseline = self._accuracy(self._baseline_correct)

    def evaluate(self, name: str, layer: int | None, values: F64 | F32) -> ProbeRow:
        """Fit and evaluate the classifier on ``values`` (N, d)."""
        data, predicted, scores = self._data, np.empty(len(values)), np.empty(len(values))
        for train, test in self._folds:
            components = min(self._components, values.shape[1], len(train) - 1)
            pca = PCA(components, random_state=self._seed)
            classifier = make_pipeline(StandardScaler(), pca, LinearDiscriminantAnalysis())
            classifier.fit(values[train], data.labels[train])
            predicted[test], scores[test] = classifier.predict(values[test]), classifier.decision_function(values[test])
        correct = self._sum_by_question(predicted == data.labels)
        won, pairs = pair_wins(scores, data.labels, data.question, questions=self._n_questions)
        sums = self._sums(np.stack([won, pairs], axis=1))
        with np.errstate(invalid="ignore"):
            auroc = sums[:, 0] / sums[:, 1]
        return ProbeRow(
            name=name,
            layer=layer,
            width=values.shape[1],
            accuracy=self._accuracy(correct),
            minus_baseline=self._accuracy(correct - self._baseline_correct),
            within_question_auroc=estimate(auroc),
        )

    def _sum_by_question(self, values: Any) -> F64:
        return np.bincount(self._data.question, weights=values, minlength=self._n_questions).astype(np.float64)

    def _accuracy(self, correct: F64) -> Estimate:
        counts = self._sum_by_question(np.ones(len(self._data.labels)))
        sums = self._sums(np.stack([correct, counts], axis=1))
        return estimate(sums[:, 0] / sums[:, 1])

    def _sums(self, columns: F64) -> F64:
        return sums_with_resamples(columns, resamples=self._resamples, seed=self._seed)


def _read_data(samples: str | os.PathLike[str], grade: GraderSpec, progress: Callable[[int], None]) -> _ProbeData:
    keys: list[tuple[str, int]] = []
    labels: list[F64] = []
    question: list[I64] = []
    features: list[F64] = []
    for done, group in enumerate(StoredGroups([samples], grade=grade), 1):
        indices = trainable_indices(group)
        progress(done)
        if not len(indices):
            continue
        completions = [group.completions[index] for index in indices]
        # Logprob features of a completion: means of its token features, and its response terms.
        tokens = token_features(completions, DEFAULT_FEATURES)
        means = np.stack(
            [segment_mean(column, tokens.offsets) for column in tokens.values.T.astype(np.float64)], axis=1
        )
        features.append(np.concatenate([means, response_terms(completions, DEFAULT_RESPONSE_TERMS).values], axis=1))
        question.append(np.full(len(indices), len(labels)))
        labels.append(group.labels[indices])
        keys += [(group.question_id, completion.index) for completion in completions]
    classes = np.unique(np.concatenate(labels)) if labels else np.zeros(0)
    if len(labels) < FOLDS or len(classes) < 2:
        raise ConfigurationError(
            f"{os.fspath(samples)} has {len(labels)} questions with labelled completions, and "
            f"{'both right and wrong ones' if len(classes) == 2 else 'not both right and wrong ones'}.",
            hint=f"A probe needs {FOLDS} or more questions, and both right and wrong answers.",
        )
    return _ProbeData(keys, np.concatenate(labels), np.concatenate(question).astype(np.int64), np.concatenate(features))


def _mean_states(file: StateFile, data: _ProbeData, layout: StateLayout) -> F32:
    """Return the mean state of each completion, (N, D)."""
    means = np.empty((len(data.keys), layout.columns), np.float32)
    for row, key in enumerate(data.keys):
        means[row] = file.states(*key, layout).mean(axis=0, dtype=np.float32)
    return means
