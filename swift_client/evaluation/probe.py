"""The paper's probe: can a linear rule tell right answers from wrong ones by the mean state of one layer?

PCA, then LDA, as in SWIFT's figure (arXiv 2505.12225), which has neither a baseline nor intervals and whose published
code lets completions of one question stand on both sides of the split. Here whole questions are held out, the majority
class stands beside, intervals resample the questions, and discrimination within a question is shown too, since that
alone helps to choose. The same rule reads the means of our token features and the response terms, as one more row.
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
from swift_client.evaluation.bootstrap import estimate, resampled_sums
from swift_client.evaluation.result import Estimate
from swift_client.features import DEFAULT_FEATURES, DEFAULT_RESPONSE_TERMS, response_terms, token_features
from swift_client.features.segments import F64, I64, segment_mean
from swift_client.store import StateFile, StateLayout
from swift_client.training.metrics import pair_wins
from swift_client.types import F32

COMPONENTS, FOLDS = 50, 5
"""PCA's, and parts that the questions fall into; both as published."""


@dataclass(frozen=True, kw_only=True)
class ProbeRow:
    """What the rule tells from one kind of numbers, on questions that it did not see."""

    name: str
    """"layer 3", "vocabulary" (mean logprob of each token of the vocabulary) or "logprob features"."""
    layer: int | None
    width: int
    """Numbers a completion."""
    accuracy: Estimate
    """Share of completions whose label is guessed, 0..1."""
    minus_baseline: Estimate
    """Accuracy less the majority class's."""
    within_question_auroc: Estimate


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """The rows, and what they rest on."""

    rows: tuple[ProbeRow, ...]
    baseline: Estimate
    """Accuracy of the class that is more frequent in the other folds."""
    questions: int
    completions: int
    right: float
    """Share of the completions."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


class _ProbeData(NamedTuple):
    """N completions of Q questions."""

    keys: list[tuple[str, int]]
    """Question id and number."""
    labels: F64
    question: I64
    features: F64
    """(N, d)"""


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
    """Probe each layer that was captured beside a samples file (all, or ``layers``), and the logprob features.

    Memory holds one layer's mean states at a time. Without captured states the features stand alone, and a note says
    so. ``progress`` is told "questions" and "rows" done. Raises ConfigurationError for a file without labelled
    completions of both kinds, with fewer than five questions, or a layer that was not captured.
    """
    data = _read_data(samples, grade, lambda done: progress("questions", done))
    said = _ProbeEvaluator(data, components=components, resamples=resamples, seed=seed)
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
            chosen = file.layout.layers if layers is None else file.layout.select_layers(layers).layers
            for layer in chosen:
                rows.append(
                    said.evaluate(f"layer {layer}", layer, _mean_states(file, data, file.layout.select_layers([layer])))
                )
                progress("rows", len(rows))
            if file.layout.vocabulary and layers is None:
                rows.append(
                    said.evaluate("vocabulary", None, _mean_states(file, data, file.layout.select_vocabulary()))
                )
    rows.append(said.evaluate("logprob features", None, data.features))
    return ProbeResult(
        rows=tuple(rows),
        baseline=said.baseline,
        questions=int(data.question[-1]) + 1,
        completions=len(data.labels),
        right=float(data.labels.mean()),
        notes=tuple(notes),
    )


class _ProbeEvaluator:
    """What the rule says of questions that it was not fitted to."""

    def __init__(self, data: _ProbeData, *, components: int, resamples: int, seed: int) -> None:
        self._data, self._components, self._resamples, self._seed = data, components, resamples, seed
        self._n_questions = int(data.question[-1]) + 1
        folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
        self._folds = list(folds.split(data.labels, groups=data.question))
        likelier = np.empty(len(data.labels))
        for fitted, held in self._folds:
            likelier[held] = data.labels[fitted].mean() >= 0.5
        self._baseline_correct = self._sum_by_question(likelier == data.labels)
        self.baseline = self._accuracy(self._baseline_correct)

    def evaluate(self, name: str, layer: int | None, values: F64 | F32) -> ProbeRow:
        """Fit and judge the rule on ``values`` (N, d)."""
        data, guessed, scores = self._data, np.empty(len(values)), np.empty(len(values))
        for fitted, held in self._folds:
            kept = min(self._components, values.shape[1], len(fitted) - 1)
            rule = make_pipeline(StandardScaler(), PCA(kept, random_state=self._seed), LinearDiscriminantAnalysis())
            rule.fit(values[fitted], data.labels[fitted])
            guessed[held], scores[held] = rule.predict(values[held]), rule.decision_function(values[held])
        right = self._sum_by_question(guessed == data.labels)
        won, pairs = pair_wins(scores, data.labels, data.question, questions=self._n_questions)
        sums = self._bootstrap_sums(np.stack([won, pairs], axis=1))
        with np.errstate(invalid="ignore"):
            auroc = sums[:, 0] / sums[:, 1]
        return ProbeRow(
            name=name,
            layer=layer,
            width=values.shape[1],
            accuracy=self._accuracy(right),
            minus_baseline=self._accuracy(right - self._baseline_correct),
            within_question_auroc=estimate(float(auroc[0]), auroc[1:]),
        )

    def _sum_by_question(self, values: Any) -> F64:
        return np.bincount(self._data.question, weights=values, minlength=self._n_questions).astype(np.float64)

    def _accuracy(self, correct: F64) -> Estimate:
        sums = self._bootstrap_sums(np.stack([correct, self._sum_by_question(np.ones(len(self._data.labels)))], axis=1))
        shares = sums[:, 0] / sums[:, 1]
        return estimate(float(shares[0]), shares[1:])

    def _bootstrap_sums(self, columns: F64) -> F64:
        """Return the columns' sums: over the questions as they are, then over draws of them."""
        drawn = resampled_sums(columns, resamples=self._resamples, seed=self._seed)
        return np.concatenate([columns.sum(axis=0)[None], drawn])


def _read_data(samples: str | os.PathLike[str], grade: GraderSpec, progress: Callable[[int], None]) -> _ProbeData:
    keys: list[tuple[str, int]] = []
    labels: list[F64] = []
    question: list[I64] = []
    features: list[F64] = []
    for done, group in enumerate(StoredGroups([samples], grade=grade), 1):
        kept = trainable_indices(group)
        progress(done)
        if not len(kept):
            continue
        completions = [group.completions[at] for at in kept]
        tokens = token_features(completions, DEFAULT_FEATURES)
        means = np.stack(
            [segment_mean(column, tokens.offsets) for column in tokens.values.T.astype(np.float64)], axis=1
        )
        features.append(np.concatenate([means, response_terms(completions, DEFAULT_RESPONSE_TERMS).values], axis=1))
        question.append(np.full(len(kept), len(labels)))
        labels.append(group.labels[kept])
        keys += [(group.question_id, each.index) for each in completions]
    kinds = np.unique(np.concatenate(labels)) if labels else np.zeros(0)
    if len(labels) < FOLDS or len(kinds) < 2:
        raise ConfigurationError(
            f"{os.fspath(samples)} has {len(labels)} questions with labelled completions, and "
            f"{'both right and wrong ones' if len(kinds) == 2 else 'not both right and wrong ones'}.",
            hint=f"A probe needs {FOLDS} or more questions, and both right and wrong answers.",
        )
    return _ProbeData(keys, np.concatenate(labels), np.concatenate(question).astype(np.int64), np.concatenate(features))


def _mean_states(file: StateFile, data: _ProbeData, layout: StateLayout) -> F32:
    """Return each completion's mean state, (N, D)."""
    means = np.empty((len(data.keys), layout.columns), np.float32)
    for at, key in enumerate(data.keys):
        means[at] = file.states(*key, layout).mean(axis=0, dtype=np.float32)
    return means
