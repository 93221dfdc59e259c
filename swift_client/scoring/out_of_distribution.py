"""Detection of completions unlike a head's training data, on which its scores may be meaningless or reversed.

It compares the response terms that a head reads (length, numbers, confidence of the tokens) and that do not depend
on the number of listed alternatives: fewer alternatives do not count as out of distribution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swift_client.features import RESPONSE_TERMS, column_names
from swift_client.features.segments import F64
from swift_client.models import AnyHead, HiddenHead, ResponseWeights
from swift_client.types import F32, Bool

# Rows of RESPONSE_TERMS that read no list of alternatives.
COMPARED_TERMS = frozenset(
    {
        *("log_length", "sum_logprob", "min_logprob", "logprob_q01", "logprob_q05", "logprob_q10", "logprob_q25"),
        *("tail_logprob", "share_below_50", "share_below_10", "share_below_01", "distinct_share"),
        *("number_share", "sum_number_logprob", "min_number_logprob"),
    }
)
MIN_TERMS = 8  # fewest compared terms that describe the training data well enough
# Upper limit of |z| per term, since the deviation of a nearly constant term is close to 0.
Z_CLIP = 10.0
# Quantile of the distances of held-out validation completions (training ones if those are few) that becomes a head's
# threshold, stored under its historical name ``training["reach"]``.
OOD_QUANTILE = 0.99


def distances(response: ResponseWeights, terms: Sequence[str], values: F32 | F64, *, width: int) -> F64 | None:
    """Return the distance of N completions from a head's training data, (N,): the mean of |z| over the compared terms.

    Args:
        response: the head's response weights, with mean and deviation of each term over the training completions.
        terms: rows of RESPONSE_TERMS that the head reads.
        values: (N, m) their columns.
        width: number of rank columns of the head.

    Returns:
        None if the head reads too few of the compared terms.
    """
    names = column_names(RESPONSE_TERMS, terms, width=width)
    columns = [column for column, name in enumerate(names) if name in COMPARED_TERMS]
    if len(columns) < MIN_TERMS:
        return None
    mean_z: F64 = np.minimum(np.abs(response.standardizer(values)[:, columns]), Z_CLIP).mean(axis=1)
    return mean_z


def is_out_of_distribution(head: AnyHead, values: F32, readable_mask: Bool) -> bool:
    """Return whether the mean distance of the readable completions exceeds the head's threshold.

    False if the head's training stored no threshold.

    Args:
        head: a head.
        values: (N, m) the response terms that it reads.
        readable_mask: (N,) the completions that it can score.
    """
    logprob_head = head.logprob_head if isinstance(head, HiddenHead) else head
    threshold = head.training.get("reach")
    if logprob_head is None or not isinstance(threshold, (int, float)) or not threshold > 0 or not readable_mask.any():
        return False
    readable = values[readable_mask]
    means = distances(logprob_head.response, logprob_head.response_terms, readable, width=logprob_head.width)
    return means is not None and float(means.mean()) > threshold
