"""Sampling: N completions from one provider, with what it takes to get them.

``draw`` plans the calls and joins what they brought; ``call`` makes one of them, with its ``retry`` policy and under
the shared ``limit``; ``reading`` sends and decodes. ``order`` is what was asked, ``terms`` what the endpoint accepts.
A ``budget`` is kept by a ``meter``, which every request asks for leave.
"""

from swift_client.sampling.budget import Budget, BudgetTracker, Cost
from swift_client.sampling.call import CallResult
from swift_client.sampling.context import NO_LOGPROBS_HINT, CallContext
from swift_client.sampling.early_abort import AbortMonitor, EarlyAbort, parse_abort
from swift_client.sampling.endpoint import Endpoint, lacks_logprobs
from swift_client.sampling.meter import RequestBudget
from swift_client.sampling.rate_limiter import RateLimit, RateLimiter, resolve_rate_limit
from swift_client.sampling.request import SampleRequest, create_sample_request
from swift_client.sampling.sampler import SampleResult, sample_completions

__all__ = [
    "NO_LOGPROBS_HINT",
    "AbortMonitor",
    "Budget",
    "BudgetTracker",
    "CallContext",
    "CallResult",
    "Cost",
    "EarlyAbort",
    "Endpoint",
    "RateLimit",
    "RateLimiter",
    "RequestBudget",
    "SampleRequest",
    "SampleResult",
    "create_sample_request",
    "lacks_logprobs",
    "parse_abort",
    "resolve_rate_limit",
    "sample_completions",
]
