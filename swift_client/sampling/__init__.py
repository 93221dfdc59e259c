"""Sampling: N completions from one provider, with what it takes to get them.

``draw`` plans the calls and joins what they brought; ``call`` makes one of them, with its ``retry`` policy and under
the shared ``limit``; ``reading`` sends and decodes. ``order`` is what was asked, ``terms`` what the endpoint accepts.
A ``budget`` is kept by a ``meter``, which every request asks for leave.
"""

from swift_client.sampling.budget import Account, Budget, Cost
from swift_client.sampling.call import Outcome
from swift_client.sampling.context import REMEDY, Line
from swift_client.sampling.early_abort import Abort, Aborting, abort_of
from swift_client.sampling.endpoint import Endpoint, lacks_logprobs
from swift_client.sampling.meter import Meter
from swift_client.sampling.rate_limiter import Limit, RateLimit, rate_limit
from swift_client.sampling.request import Order, order, positive, whole
from swift_client.sampling.sampler import Draw, draw

__all__ = [
    "REMEDY",
    "Abort",
    "Aborting",
    "Account",
    "Budget",
    "Cost",
    "Draw",
    "Endpoint",
    "Limit",
    "Line",
    "Meter",
    "Order",
    "Outcome",
    "RateLimit",
    "abort_of",
    "draw",
    "lacks_logprobs",
    "order",
    "positive",
    "rate_limit",
    "whole",
]
