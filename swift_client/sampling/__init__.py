"""Sampling N completions of one prompt from one endpoint, with retries, rate limits, budgets and deadlines.

``sampler`` plans the calls in waves and joins their results; ``call`` sends one request, with the ``retry`` policy and
under the shared ``rate_limiter``. ``endpoint`` knows what the endpoint accepts; ``context`` holds the request and the
state that calls share. ``request_budget`` reserves the worst-case cost of each request before it is sent; ``shared``
leases rates and budgets that several processes share.
"""

from swift_client.sampling.budget import Budget, BudgetTracker, Cost
from swift_client.sampling.call import CallResult
from swift_client.sampling.context import (
    NO_LOGPROBS_HINT,
    CallContext,
    SampleRequest,
    check_messages,
    create_sample_request,
    resolve_sampling,
)
from swift_client.sampling.early_abort import AbortMonitor, EarlyAbort, parse_abort
from swift_client.sampling.endpoint import Endpoint, lacks_logprobs
from swift_client.sampling.rate_limiter import RateLimit, RateLimiter, resolve_rate_limit
from swift_client.sampling.request_budget import RequestBudget, find_max_tokens
from swift_client.sampling.sampler import Sampler, SampleResult

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
    "Sampler",
    "check_messages",
    "create_sample_request",
    "find_max_tokens",
    "lacks_logprobs",
    "parse_abort",
    "resolve_rate_limit",
    "resolve_sampling",
]
