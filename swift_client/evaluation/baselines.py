"""Baselines that need labels, as a head does: WEPR, length, SWIFT as published, CISC's temperature."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from swift_client import answers
from swift_client.dataset.question_samples import Group, trainable_indices
from swift_client.dataset.splits import Split
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.evaluation.methods import Method, accuracy_by_method
from swift_client.evaluation.pool_table import PoolTable
from swift_client.evaluation.pools import QuestionScorer, StackedPools, build_pools, label_free_scorers
from swift_client.evaluation.scratch.table_file import TableFile
from swift_client.features import TokenTable, listed_ranks, response, token
from swift_client.features.segments import F64, segment_mean
from swift_client.models import PlattCalibration
from swift_client.scoring.result import Scores
from swift_client.scoring.scorers import score, wepr
from swift_client.selection.voting import cisc, draw_orders
from swift_client.types import Completion

MAX_RANKS = 10  # ranks that WEPR reads; its authors found no gain from more
# Tolerated share of completions with too few ranks, which stay unscored, for one rank more of the others.
MAX_UNSCORED_SHARE = 0.01

TEMPERATURES = tuple(float(temperature) for temperature in np.round(np.geomspace(0.01, 10, 25), 4))
TUNING_N = 8  # completions per question for tuning the temperature


class Baselines(NamedTuple):
    """Trained baselines."""

    scorers: dict[str, QuestionScorer]  # "length", "wepr" and "swift"
    # Of CISC, with the highest accuracy on the training questions; None if they have fewer than two completions.
    temperature: float | None
    notes: tuple[str, ...]  # one per baseline that could not be trained


def train_baselines(
    groups: Iterable[Group],
    *,
    split: Split,
    answer: answers.Spec,
    k: int | None = None,
    seed: int = 0,
    progress: Callable[[str, int], None] = lambda stage, done: None,
) -> Baselines:
    """Train all baselines on the training questions of ``groups``, which are read several times.

    Raises MissingExtraError without the extra "train".
    """
    try:
        import sklearn.linear_model  # noqa: F401

        from swift_client.training.fit import fit
    except ImportError as error:
        raise MissingExtraError.needs("train", "Training the baselines") from error
    scorers: dict[str, QuestionScorer] = {}
    notes = []
    try:
        scorers |= _train_logistic_baselines(groups, split)
    except ConfigurationError as error:
        notes.append(f"WEPR and length are left out: {error.message}")
    try:
        # The recipe "swift" trains the head of the paper on the same questions.
        head = fit(
            groups, provider="", model="", answer=answer, recipe="swift", split=split, seed=seed, k=k, progress=progress
        ).artifact
        scorers["swift"] = lambda completions: score(completions, head)
    except ConfigurationError as error:
        notes.append(f"SWIFT as published is left out: {error.message}")
    return Baselines(scorers, _tune_temperature(groups, split, answer, seed), tuple(notes))


def _tune_temperature(groups: Iterable[Group], split: Split, answer: answers.Spec, seed: int) -> float | None:
    """Tune CISC like its authors: one temperature for all questions, on those with the most completions."""
    training = (group for group in groups if split.part(group.question_id) == "train")
    pools = PoolTable(build_pools(training, label_free_scorers({"probability"}), answer))
    size = pools.max_size
    if size < 2:
        return None
    candidates = [
        Method(name=f"{temperature}", label="", scorer="probability", rule=cisc(temperature))
        for temperature in TEMPERATURES
    ]
    draws = draw_orders(size, min(size, TUNING_N), max_subsets=50, seed=seed)
    table = TableFile(len(candidates))
    for block in pools.blocks(size):
        stack = StackedPools.from_columns(block.columns, auto_answer=answer == "auto", agreement=None)
        shares = accuracy_by_method(candidates, stack, draws)
        table.append(np.stack([shares[candidate.name] for candidate in candidates], axis=1))
    means = [table.mean(number) for number in range(len(candidates))]
    # Of equally good temperatures the highest is taken, the closest to majority.
    return max(zip(means, TEMPERATURES, strict=True))[1]


def _train_logistic_baselines(groups: Iterable[Group], split: Split) -> dict[str, QuestionScorer]:
    """Fit "length", and "wepr" if the completions have enough ranks."""
    column_blocks, label_blocks = [np.zeros((0, 1 + 2 * MAX_RANKS))], [np.zeros(0)]
    rank_counts: list[int] = []
    for group in groups:
        if split.part(group.question_id) == "train":
            indices = trainable_indices(group)
            completions = [group.completions[index] for index in indices]
            column_blocks.append(_feature_columns(completions))
            rank_counts += [listed_ranks(completion) for completion in completions]
            label_blocks.append(group.labels[indices])
    columns, labels = np.concatenate(column_blocks), np.concatenate(label_blocks)
    if len(set(labels.tolist())) < 2:
        raise ConfigurationError(f"{len(labels)} training completions are not both right and wrong.")
    (length_weight,), length_bias = fit_logistic(columns[:, :1], labels)

    def length(completions: Sequence[Completion]) -> F64:
        tokens = np.array([len(completion.tokens) for completion in completions])
        return np.where(tokens > 0, np.log1p(tokens) * length_weight + length_bias, np.nan)

    scorers = {"length": _with_probabilities(length, "length")}
    # WEPR reads the first k ranks, which nearly all completions have.
    n_ranks = np.array(rank_counts, np.int64)
    k = int(min(np.quantile(n_ranks, MAX_UNSCORED_SHARE, method="lower"), MAX_RANKS))
    readable = n_ranks >= k
    if k and len(set(labels[readable].tolist())) == 2:
        used_columns = [1 + rank for rank in range(k)] + [1 + MAX_RANKS + rank for rank in range(k)]
        weight, bias = fit_logistic(columns[readable][:, used_columns], labels[readable])
        # The sign is WEPR's own: its regression predicts wrong answers.
        scorers["wepr"] = _with_probabilities(wepr(bias=-bias, mean_weight=-weight[:k], max_weight=-weight[k:]), "wepr")
    return scorers


def _feature_columns(completions: Sequence[Completion]) -> F64:
    """Return log length, then mean and maximum surprise per rank, (N, 1 + 2 · MAX_RANKS)."""
    table = TokenTable(completions, width=MAX_RANKS)
    means = [segment_mean(surprise, table.offsets) for surprise in token.rank_surprise(table)]
    return np.stack([response.log_length(table), *means, *response.max_rank_surprise(table)], axis=1)


def _with_probabilities(scorer: Callable[[Sequence[Completion]], object], name: str) -> QuestionScorer:
    """Add probabilities to a scorer whose scores are log odds."""
    sigmoid = PlattCalibration(a=1.0, b=0.0)

    def score_completions(completions: Sequence[Completion]) -> Scores:
        values = np.asarray(scorer(completions), np.float64)
        return Scores(values=values.astype(np.float32), probabilities=sigmoid(values).astype(np.float32), name=name)

    return score_completions


def fit_logistic(columns: F64, labels: F64) -> tuple[F64, float]:
    """Fit a logistic regression (L2, C = 1, standardized columns); return weights (d,) and bias for raw columns."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = columns.mean(axis=0), columns.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    model = LogisticRegression(max_iter=1000).fit((columns - mean) / scale, labels)
    # Undo the standardization.
    weight = model.coef_[0] / scale
    return weight, float(model.intercept_[0] - weight @ mean)
