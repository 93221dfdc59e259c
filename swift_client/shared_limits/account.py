"""The account of a shared limit, which grants leases on rates and budgets. Pure arithmetic.

A rate is a bucket that refills; a budget is one that does not. ``in_use`` is what is missing in the bucket: units that
were granted, and have neither flowed back nor been returned. No grant lifts it above the capacity. So all members
together start at most ``capacity + rate * t`` units in t seconds, plus the leases that they had at the begin, and they
exceed a budget only by what they use beyond their leases. The lease of a member that vanishes stays in use.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
from msgspec.structs import replace

from swift_client.shared_limits.messages import Demand, Lease, LeaseRequest
from swift_client.shared_limits.throttle import Throttle, Time

MEMBER_SECONDS = 60.0  # seconds after its last message for which a member counts
# Seconds for which a member that does not return its units of a budget is remembered: its home may be out of reach.
ABSENCE_SECONDS = 86_400.0
_MAX_ABSENT = 500  # members that are remembered for that
LEASE_SECONDS = 0.25  # a rate's units of this many seconds are leased at a time, to all members together
MAX_LEASE_WAIT = 2.0  # longest wait in seconds until a member should ask again
_WAITING_SECONDS = 2 * MAX_LEASE_WAIT  # seconds for which a member that wanted units shares the rate
_BUDGET_SHARE = 1 / 64  # share of the rest of a budget that one lease has
_ROUNDING = 1e-9

# Stored states are untrusted: larger numbers are refused.
_Amount = Annotated[float, msgspec.Meta(ge=-1e18, le=1e18)]
_Name = Annotated[str, msgspec.Meta(max_length=256)]


class Level(msgspec.Struct, frozen=True):
    """The state of one resource."""

    in_use: _Amount
    updated_at: Time


class Share(msgspec.Struct, frozen=True):
    """One member's totals of one resource."""

    total_granted: _Amount
    total_used: _Amount
    total_returned: _Amount
    is_waiting: bool = False  # True if the member's last message wanted units
    is_budget: bool = False  # True if the resource does not flow back

    @property
    def balance(self) -> float:
        """Units that the member may still use."""
        return self.total_granted - self.total_used - self.total_returned


class Member(msgspec.Struct, frozen=True):
    """A process that uses the account."""

    number: Annotated[int, msgspec.Meta(ge=0)]  # of its newest message
    seen_at: Time
    shares: dict[_Name, Share]

    def is_waiting(self, resource: str, now: float) -> bool:
        """Return True if it wanted units of a resource lately."""
        share = self.shares.get(resource)
        return share is not None and share.is_waiting and now - self.seen_at <= _WAITING_SECONDS

    def is_present(self, now: float) -> bool:
        """Return True if it was heard of lately."""
        return now - self.seen_at <= MEMBER_SECONDS

    def may_return_units(self, now: float) -> bool:
        """Return True if units of a budget are lost unless the member is remembered."""
        has_units = any(share.is_budget and share.balance > 0 for share in self.shares.values())
        return has_units and now - self.seen_at <= ABSENCE_SECONDS


class AccountState(msgspec.Struct, frozen=True):
    """The state of an account. Times are Unix seconds of its home."""

    id: _Name
    levels: dict[_Name, Level] = {}
    members: dict[_Name, Member] = {}
    throttle: Throttle = Throttle()


def grant(state: AccountState | None, request: LeaseRequest, now: float) -> tuple[AccountState, Lease]:
    """Return the state after a member's message, and the lease that answers it.

    Args:
        state: the state before; None for a new account.
        request: the message.
        now: Unix seconds of the home's clock. If it jumps back, nothing flows back until it moves on; if it jumps
            ahead, a rate's bucket is full once.
    """
    if state is None:
        state = AccountState(id=f"{request.member}@{now:.6f}")
    members = _remembered_members(state, now)
    member = members.pop(request.member, None) or Member(-1, now, {})
    is_late, is_new = request.number < member.number, request.number > member.number
    demands = {} if is_late else request.demands
    levels, shares, wait_seconds = dict(state.levels), dict(member.shares), 0.0
    for name, demand in demands.items():
        level = levels.get(name)
        if level is None and demand.rate and request.account not in ("", state.id):
            # The home has lost its state: a full bucket would let all members take its whole capacity once more.
            level = Level(demand.capacity, now)
        in_use = _current_use(level, demand, now)
        share = shares.get(name)
        if share is None:
            share = Share(demand.total_used + demand.total_returned, demand.total_used, demand.total_returned)
            # A new member has used what it never had; and if the home has lost its state, what was spent of a budget
            # counts anew. Else the account has forgotten this member, whose lease is still in use.
            if not request.account or (request.account != state.id and not demand.rate):
                in_use += demand.total_used
        share, in_use = _settle(share, in_use, demand)
        if request.leaves:
            more = -max(0.0, share.balance)
        elif demand.rate:
            n_waiting = 1 + sum(other.is_waiting(name, now) for other in members.values())
            more, wait = _rate_grant(share.balance, demand.capacity - in_use, demand, n_waiting)
            wait_seconds = max(wait_seconds, wait)
        else:
            more = _budget_grant(share.balance, demand.capacity - in_use, demand)
        levels[name] = Level(max(0.0, in_use + more), now)
        shares[name] = replace(share, total_granted=share.total_granted + more)
    if is_late or not request.leaves:
        members[request.member] = Member(max(request.number, member.number), now, shares)
    throttle = state.throttle.advance(request.refusal if is_new else None, now)
    lease = Lease(
        account=state.id,
        total_granted={name: share.total_granted for name, share in shares.items()},
        in_use={name: level.in_use for name, level in levels.items()},
        n_members=max(1, sum(other.is_present(now) for other in members.values())),
        wait_seconds=wait_seconds,
        refusal=throttle.newest_refusal(now),
    )
    return replace(state, levels=levels, members=members, throttle=throttle), lease


def _current_use(level: Level | None, demand: Demand, now: float) -> float:
    """Return the units that are missing in the bucket now."""
    if level is None:
        return 0.0
    return max(0.0, level.in_use - demand.rate * max(0.0, now - level.updated_at))


def _settle(share: Share, in_use: float, demand: Demand) -> tuple[Share, float]:
    """Return the share after the member's report, and the units in use.

    Units that come back do so first; those that were used beyond the lease are granted afterwards.
    """
    in_use = max(0.0, in_use - max(0.0, demand.total_returned - share.total_returned))
    overdraft = max(0.0, demand.total_used + demand.total_returned - share.total_granted)
    share = Share(
        total_granted=share.total_granted + overdraft,
        total_used=demand.total_used,
        total_returned=demand.total_returned,
        is_waiting=demand.target > 0,
        is_budget=not demand.rate,
    )
    return share, in_use + overdraft


def _rate_grant(balance: float, free: float, demand: Demand, n_waiting: int) -> tuple[float, float]:
    """Return the units of a rate to grant, and seconds until a member should ask again.

    Args:
        balance: units that the member may use already.
        free: units in the bucket; below 0 if members have used more than they were granted.
        demand: the member's demand.
        n_waiting: members that share the rate at present.
    """
    quantum = min(demand.quantum, demand.capacity)
    fair_lease = max(quantum, demand.rate * LEASE_SECONDS / n_waiting)
    shortage = min(demand.target, fair_lease) - balance
    more = max(0.0, min(shortage, free))
    if quantum:
        more = quantum * math.floor(more / quantum + _ROUNDING)
    if shortage <= 0 or shortage - more < quantum:
        return more, 0.0
    # By then there is enough for all that wait, each of which takes its part.
    wait = (n_waiting * fair_lease - (free - more)) / demand.rate
    return more, min(MAX_LEASE_WAIT, max(0.0, wait))


def _budget_grant(balance: float, free: float, demand: Demand) -> float:
    """Return the units of a budget to grant.

    They are what is missing, or a small part of the rest if that is more.
    """
    shortage = demand.target - balance
    return max(0.0, min(free, max(shortage, free * _BUDGET_SHARE))) if shortage > 0 else 0.0


def _remembered_members(state: AccountState, now: float) -> dict[str, Member]:
    """Return the members that were heard of lately, and some that were not.

    These are the newest of those that may still return units of a budget. A time in the future, before the clock
    jumped back, is now.
    """
    members = {name: replace(member, seen_at=min(member.seen_at, now)) for name, member in state.members.items()}
    absent = [name for name, member in members.items() if not member.is_present(now)]
    lost = {name for name in absent if not members[name].may_return_units(now)}
    returning = sorted((name for name in absent if name not in lost), key=lambda name: members[name].seen_at)
    lost.update(returning[:-_MAX_ABSENT])
    return {name: member for name, member in members.items() if name not in lost}
