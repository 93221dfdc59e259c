"""Rate limits and budgets that processes, hosts or actors share: accounts that grant leases.

An account has a name and one home, such as a samples file. Its members, one per process, ask it for leases in the
background: small parts of the rate or of the budget, which they use without asking again. ``account`` is the
arithmetic, ``backend`` the interface of a home.
"""

from swift_client.shared_limits.account import AccountState, grant
from swift_client.shared_limits.backend import AccountStore, LeaseSource, StoreLeases
from swift_client.shared_limits.messages import Demand, Lease, LeaseRequest, Refusal

__all__ = [
    "AccountState",
    "AccountStore",
    "Demand",
    "Lease",
    "LeaseRequest",
    "LeaseSource",
    "Refusal",
    "StoreLeases",
    "grant",
]
