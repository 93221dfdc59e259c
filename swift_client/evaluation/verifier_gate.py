"""The test of a verifier's learnt weight: choices with and without it, on questions that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from swift_client import answers
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.evaluation.compare import Comparison
from swift_client.evaluation.gate import MIN_QUESTIONS, NS, mean_difference
from swift_client.evaluation.methods import METHODS
from swift_client.evaluation.pool_table import PoolTable
from swift_client.evaluation.pools import Agreement, Pool, build_pool, head_scorer
from swift_client.evaluation.verifier_rows import head_method
from swift_client.models import AnyHead, HeadArtifact
from swift_client.models.verifier_term import VerifierTerm
from swift_client.training.verifier_weight import LearntWeight

_SUBSETS = 100


def judge_verifiers(
    head: AnyHead,
    weights: Mapping[str, LearntWeight],
    groups: Iterable[Group],
    *,
    split: Split,
    answer: answers.Spec,
    test_groups: Iterable[Group] | None = None,
    seed: int = 0,
) -> tuple[VerifierTerm, ...]:
    """Return what each verifier adds to a head's vote, mean over the n of NS; its exponent is 0 if that may be nothing.

    The difference is paired by question. A verifier with fewer than MIN_QUESTIONS judged test questions gets no term:
    nothing is known about it.

    Args:
        head: the head.
        weights: what was learnt about each verifier; of a weight of 0 the gain at 1 is measured, for the record.
        groups: the graded questions of its training.
        split: the split of its training.
        answer: how answers are compared.
        test_groups: graded questions that its training never saw; default: the split's test questions.
        seed: of the draws and the resamples.
    """
    if not weights:
        return ()
    source = (
        (group for group in groups if split.part(group.question_id) == "test") if test_groups is None else test_groups
    )
    pools = [
        build_pool(group, {"head": head_scorer(head)}, answer)
        for group in source
        if group.verifier_scores and group.feedback_on is None
        if len(group.completions) >= min(NS) and not np.isnan(group.labels).all()
    ]
    terms = []
    for verifier, learnt in weights.items():
        judged_pools = [pool for pool in pools if not np.isnan(pool.judgements.get(verifier, np.nan)).all()]
        if len(judged_pools) >= MIN_QUESTIONS:
            terms.append(_judge(head, verifier, learnt, judged_pools, auto_answer=answer == "auto", seed=seed))
    return tuple(terms)


def _judge(
    head: AnyHead, verifier: str, learnt: LearntWeight, pools: list[Pool], *, auto_answer: bool, seed: int
) -> VerifierTerm:
    vote = next(method for method in METHODS if method.name == "head_vote")
    fused = head_method(verifier, learnt.weight or 1.0, learnt.mean_log_odds)
    ns = [n for n in NS if n <= max(len(pool.labels) for pool in pools)]
    comparison = Comparison(
        PoolTable(pools),
        [vote, fused],
        ns=ns,
        max_subsets=_SUBSETS,
        seed=seed,
        auto_answer=auto_answer,
        agreement=Agreement.from_head(head) if isinstance(head, HeadArtifact) else None,
        beta=head.beta,
    )
    differences = [comparison.accuracy(fused.name, n) - comparison.accuracy(vote.name, n) for n in ns]
    gain = mean_difference(np.stack(differences, axis=1), seed)
    return VerifierTerm(
        verifier=verifier,
        exponent=learnt.weight if gain.low > 0 else 0.0,
        mean_log_odds=learnt.mean_log_odds,
        gain=100 * gain.value,
        low=100 * gain.low,
        high=100 * gain.high,
        questions=len(pools),
    )
