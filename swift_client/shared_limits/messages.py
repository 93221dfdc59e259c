"""Messages between an account and its members.

Amounts that a member reports are totals since it began, and the account answers with a total too: a message that is
repeated, because its answer was lost, changes nothing.
"""

from __future__ import annotations

import msgspec


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """The demand of one member for one resource, such as requests, tokens or US dollars."""

    capacity: float
    """Units that all members together may take at once; the whole limit of a budget."""
    rate: float = 0.0
    """Units per second that flow back, up to the capacity; 0 for a budget."""
    total_used: float = 0.0
    """Units that this member has used so far."""
    total_returned: float = 0.0
    """Units that this member was granted, and gives back unused, so far."""
    target: float = 0.0
    """Units that it would like to be able to use after this message."""
    quantum: float = 0.0
    """Smallest useful grant of a rate, which is granted in multiples of it; 0 for any amount."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's answer "too many requests"."""

    age: float
    """Seconds since the refused request was sent."""
    pause: float = 0.0
    """Seconds, from now, in which the provider wants no request; 0 if it did not say."""


class LeaseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a member to its account."""

    member: str
    """Id of the member, different for each process and start."""
    number: int
    """Number of the message, counted by the member; an older message that arrives late changes nothing."""
    account: str = ""
    """The account's id as of the last lease; empty in the first message. It differs if the home has lost its state."""
    demands: dict[str, Demand]
    """Demands by the name of the resource."""
    refusal: Refusal | None = None
    """The newest refusal that the account has not been told of."""
    leaves: bool = False
    """True in the last message: what the member has not used is free for others."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """An account's answer: the parts that a member may use without asking again."""

    account: str
    """Id of the account."""
    total_granted: dict[str, float]
    """Units by resource that the member was granted so far: it may use them less those used and returned."""
    in_use: dict[str, float]
    """Units by resource that all members have used, or may use, and that have not flowed back."""
    n_members: int
    """Number of members that the account has heard of lately, this one included."""
    wait_seconds: float = 0.0
    """Seconds until it is useful to ask again; 0 if all that is fair was granted."""
    refusal: Refusal | None = None
    """The newest refusal that any member met within the last seconds."""
