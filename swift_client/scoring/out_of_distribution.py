"""Whether completions are like those that a head was trained on: elsewhere its scores mean nothing, or the opposite.

What is compared is what a head reads of whole answers, their lengths, their numbers and how sure their tokens are, as
far as it does not depend on how many alternatives are listed: a shorter list is no other ground.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swift_client.features import RESPONSE_TERMS, column_names
from swift_client.features.segments import F64
from swift_client.models import AnyHead, HiddenHead, ResponseWeights
from swift_client.types import F32, Bool

COMPARED_TERMS = frozenset(
    {
        *("log_length", "sum_logprob", "min_logprob", "logprob_q01", "logprob_q05", "logprob_q10", "logprob_q25"),
        *("tail_logprob", "share_below_50", "share_below_10", "share_below_01", "distinct_share"),
        *("number_share", "sum_number_logprob", "min_number_logprob"),
    }
)
"""Rows of RESPONSE_TERMS that read no list of alternatives."""
MIN_TERMS = 8
"""Fewest of them that say what kind of answers a head knows."""
Z_CLIP = 10.0
"""Deviations beyond which a term is no further away: a constant one may have a deviation of next to nothing."""
QUANTILE = 0.99
"""Share of completions of the training's kind that lie within a head's reach."""


def distances(response: ResponseWeights, terms: Sequence[str], values: F32 | F64, *, width: int) -> F64 | None:
    """Return how far N completions are from those of training, (N,): the mean of |z| over the compared terms.

    Args:
        response: of a head, with the mean and deviation of each term over its training's completions.
        terms: rows of RESPONSE_TERMS that it reads.
        values: (N, m) their columns.
        width: its rank columns.

    Returns:
        None where it reads too few terms to say.
    """
    names = column_names(RESPONSE_TERMS, terms, width=width)
    kept = [at for at, name in enumerate(names) if name in COMPARED_TERMS]
    if len(kept) < MIN_TERMS:
        return None
    found: F64 = np.minimum(np.abs(response.standardizer(values)[:, kept]), Z_CLIP).mean(axis=1)
    return found


def is_out_of_distribution(head: AnyHead, values: F32, readable_mask: Bool) -> bool:
    """Whether those completions that are ``readable`` (N,) lie beyond the head's reach on average.

    ``values`` (N, m) are the response terms that it reads. False where its training did not say how far it reaches.
    """
    reads = head.logprob_head if isinstance(head, HiddenHead) else head
    reach = head.training.get("reach")
    if reads is None or not isinstance(reach, (int, float)) or not reach > 0 or not readable_mask.any():
        return False
    found = distances(reads.response, reads.response_terms, values[readable_mask], width=reads.width)
    return found is not None and float(found.mean()) > reach
