"""The account of a shared limit: whatever its members do, no rate or budget is exceeded by more than the leases."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swift_client.errors import ConfigurationError
from swift_client.shared_limits import AccountState, Demand, Lease, LeaseRequest, Refusal, StoreLeases, grant
from swift_client.shared_limits.account import ABSENCE_SECONDS, LEASE_SECONDS, MEMBER_SECONDS
from swift_client.store import FileAccountStore

START = 1_800_000_000.0


@dataclass
class Home:
    """An account and its clock."""

    clock: float = START
    state: AccountState | None = None

    def send(self, request: LeaseRequest) -> Lease:
        self.state, lease = grant(self.state, request, self.clock)
        return lease


@dataclass
class MemberModel:
    """A member with one resource, which uses no more than its lease."""

    name: str
    capacity: float
    rate: float
    quantum: float
    number: int = 0
    account: str = ""
    total_granted: float = 0.0
    total_used: float = 0.0
    total_returned: float = 0.0
    requests: list[LeaseRequest] = field(default_factory=list)

    @property
    def balance(self) -> float:
        return self.total_granted - self.total_used - self.total_returned

    def ask(self, home: Home, target: float, *, reply_arrives: bool = True, leaves: bool = False) -> None:
        self.number += 1
        demand = Demand(
            capacity=self.capacity,
            rate=self.rate,
            total_used=self.total_used,
            total_returned=self.total_returned,
            target=target,
            quantum=self.quantum,
        )
        request = LeaseRequest(
            member=self.name, number=self.number, account=self.account, demands={"units": demand}, leaves=leaves
        )
        self.requests.append(request)
        lease = home.send(request)
        if reply_arrives:
            self.account, self.total_granted = lease.account, lease.total_granted["units"]

    def give_back(self) -> None:
        self.total_returned += max(0.0, self.balance)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),  # the member
        st.sampled_from(["ask", "ask", "lose reply", "use", "use", "give back", "repeat", "leave", "vanish", "clock"]),
        st.integers(0, 20),  # units, or the message that is repeated
        st.sampled_from([0.0, 0.001, 0.1, 0.25, 1.0, 30.0, 70.0]),  # seconds until then
    ),
    max_size=60,
)


def play(steps: list[tuple[int, str, int, float]], *, rate: float, capacity: float) -> list[tuple[float, float, float]]:
    """Let members act on one account; return the moments of use: seconds, units, and units that were leased before."""
    home, seconds, uses, births = Home(), 0.0, [], 0
    quantum = 1.0 if rate else 0.0
    members = {number: MemberModel(f"m{number}", capacity, rate, quantum) for number in range(3)}
    requests: list[LeaseRequest] = []  # of all members, also of those that are gone
    for number, action, amount, wait in steps:
        seconds += wait
        home.clock += wait
        member = members[number]
        if action in ("ask", "lose reply"):
            member.ask(home, amount, reply_arrives=action == "ask")
            requests.append(member.requests[-1])
        elif action == "use":
            units = min(float(amount), float(int(member.balance)))
            if units > 0:
                leased = sum(max(0.0, other.balance) for other in members.values())
                member.total_used += units
                uses.append((seconds, units, leased))
        elif action == "give back":
            member.give_back()
        elif action == "repeat" and requests:
            home.send(requests[-1 - amount % len(requests)])
        elif action == "clock":
            home.clock -= 3 * amount
        elif action in ("leave", "vanish"):
            if action == "leave":
                member.ask(home, 0.0, leaves=True)
                requests.append(member.requests[-1])
            births += 1
            members[number] = MemberModel(f"n{births}", capacity, rate, quantum)
    return uses


@given(STEPS, st.sampled_from([0.5, 10.0, 400.0]), st.sampled_from([1.0, 8.0, 100.0]))
def test_no_window_has_more_starts_than_the_rate_the_burst_and_the_leases(
    steps: list[tuple[int, str, int, float]], rate: float, capacity: float
) -> None:
    uses = play(steps, rate=rate, capacity=capacity)
    for first, (begin, _, leased) in enumerate(uses):
        total = 0.0
        for end, units, _ in uses[first:]:
            total += units
            assert total <= rate * (end - begin) + capacity + leased + 1e-6


@given(STEPS, st.sampled_from([1.0, 8.0, 100.0, 1e6]))
def test_a_budget_is_never_exceeded(steps: list[tuple[int, str, int, float]], capacity: float) -> None:
    assert sum(units for _, units, _ in play(steps, rate=0.0, capacity=capacity)) <= capacity + 1e-6


@given(STEPS, st.booleans())
def test_a_repeated_message_changes_nothing(steps: list[tuple[int, str, int, float]], is_budget: bool) -> None:
    home, member = Home(), MemberModel("m", 100.0, 0.0 if is_budget else 10.0, 1.0)
    for _, action, amount, wait in steps:
        home.clock += wait
        if action == "use":
            member.total_used += min(float(amount), float(int(member.balance)))
        refusal = Refusal(age=wait, pause=amount)
        demand = Demand(capacity=100.0, rate=member.rate, total_used=member.total_used, target=amount, quantum=1.0)
        member.number += 1
        request = LeaseRequest(member="m", number=member.number, demands={"units": demand}, refusal=refusal)
        lease = home.send(request)
        before = home.state
        assert home.send(request) == lease
        assert home.state == before
        member.total_granted, member.account = lease.total_granted["units"], lease.account


def test_a_member_that_vanishes_leaves_its_lease_spent_and_one_that_leaves_does_not() -> None:
    home = Home()
    killed, polite = (MemberModel(name, 100.0, 0.0, 0.0) for name in ("killed", "polite"))
    killed.ask(home, 30.0)
    killed.total_used = 10.0  # never reported
    polite.ask(home, 30.0)
    polite.total_used = 5.0
    polite.ask(home, 0.0, leaves=True)
    home.clock += MEMBER_SECONDS + 1
    heir = MemberModel("heir", 100.0, 0.0, 0.0)
    heir.ask(home, 100.0)
    assert heir.balance == 100.0 - 30.0 - 5.0


def test_a_last_message_that_arrives_late_changes_nothing() -> None:
    home, member = Home(), MemberModel("m", 100.0, 0.0, 0.0)
    member.ask(home, 30.0)
    leave = LeaseRequest(member="m", number=1, account=member.account, demands={}, leaves=True)
    member.number = 1
    member.ask(home, 30.0)
    assert home.send(leave).total_granted == {"units": 30.0}
    member.total_used = 30.0
    member.ask(home, 70.0)
    assert member.balance == 70.0


def test_a_member_that_was_forgotten_returns_without_counting_twice() -> None:
    home = Home()
    sleeper, other = (MemberModel(name, 100.0, 0.0, 0.0) for name in ("sleeper", "other"))
    sleeper.ask(home, 40.0)
    sleeper.total_used = 25.0
    home.clock += ABSENCE_SECONDS + 1
    other.ask(home, 1.0)
    sleeper.ask(home, 10.0)
    assert sleeper.balance == 10.0
    other.ask(home, 100.0)
    assert other.balance == 100.0 - 40.0 - 10.0


@pytest.mark.parametrize("leaves", [False, True])
def test_a_member_that_was_absent_for_hours_returns_what_it_has_not_spent(leaves: bool) -> None:
    home = Home()
    sleeper, other = (MemberModel(name, 100.0, 0.0, 0.0) for name in ("sleeper", "other"))
    sleeper.ask(home, 40.0)
    sleeper.total_used = 25.0
    for _ in range(3):
        home.clock += 3600.0
        other.ask(home, 1.0)
    sleeper.give_back()
    sleeper.ask(home, 0.0, leaves=leaves)
    other.ask(home, 100.0)
    assert other.balance == 100.0 - 25.0


def test_absent_members_of_a_budget_are_not_counted_and_their_number_is_bounded() -> None:
    home = Home()
    for number in range(700):
        home.clock += 1.0
        MemberModel(f"m{number}", 1e12, 0.0, 0.0).ask(home, 10.0)
    home.clock += MEMBER_SECONDS + 1
    lease = home.send(LeaseRequest(member="late", number=0, demands={}))
    assert home.state
    assert lease.n_members == 1
    assert list(home.state.members) == [*(f"m{number}" for number in range(200, 700)), "late"]
    home.clock += ABSENCE_SECONDS + 1
    home.send(LeaseRequest(member="late", number=1, demands={}))
    assert list(home.state.members) == ["late"]


def test_a_home_that_lost_its_state_learns_from_its_members_what_is_spent() -> None:
    home = Home()
    member = MemberModel("m", 100.0, 0.0, 0.0)
    member.ask(home, 60.0)
    member.total_used = 50.0
    home.state, home.clock = None, home.clock + 5
    member.ask(home, 100.0)
    assert member.balance == 50.0


def test_units_used_beyond_the_lease_are_owed() -> None:
    home = Home()
    member = MemberModel("m", 100.0, 10.0, 20.0)
    member.ask(home, 20.0)
    member.total_used = 220.0
    member.ask(home, 20.0)
    assert member.balance == 0.0
    home.clock += 10.0  # 120 units more than the bucket holds are repaid in 12 s
    member.ask(home, 20.0)
    assert member.balance == 0.0
    home.clock += 4.0
    member.ask(home, 20.0)
    assert member.balance == 20.0


def test_members_that_wait_share_a_rate_and_are_told_when_to_ask() -> None:
    home = Home()
    first, second = (MemberModel(name, 500.0, 50.0, 1.0) for name in ("first", "second"))
    first.ask(home, 100.0)
    assert first.balance == int(50.0 * LEASE_SECONDS)
    second.ask(home, 100.0)
    assert second.balance == int(50.0 * LEASE_SECONDS / 2)
    demand = Demand(capacity=1.0, rate=50.0, target=9.0, quantum=1.0)
    lease = home.send(LeaseRequest(member="late", number=0, demands={"units": demand}))
    assert lease.n_members == 3
    assert lease.total_granted == {"units": 0.0}
    assert 0 < lease.wait_seconds <= 2.0


def test_a_clock_that_jumps_neither_freezes_a_rate_nor_lifts_it() -> None:
    home = Home()
    member = MemberModel("m", 10.0, 1.0, 1.0)
    for _ in range(10):
        member.ask(home, 1.0)
        member.total_used += member.balance
    assert member.total_used == 10.0
    home.clock -= 3600.0
    member.ask(home, 1.0)
    assert member.balance == 0.0
    home.clock += 1.0
    member.ask(home, 1.0)
    assert member.balance == 1.0


# --- refusals


def refused(home: Home, member: str, number: int, refusal: Refusal | None) -> Refusal | None:
    return home.send(LeaseRequest(member=member, number=number, demands={}, refusal=refusal)).refusal


def test_a_refusal_reaches_the_others_and_one_burst_counts_once() -> None:
    home = Home()
    assert refused(home, "a", 0, None) is None
    assert refused(home, "a", 1, Refusal(age=1.0, pause=4.0)) == Refusal(age=1.0, pause=4.0)
    home.clock += 0.5
    assert refused(home, "b", 0, Refusal(age=1.0)) == Refusal(age=1.5, pause=3.5)  # sent before the first was counted
    home.clock += 2.0
    assert refused(home, "b", 1, Refusal(age=1.0)) == Refusal(age=1.0, pause=1.5)
    home.clock += 60.0
    assert refused(home, "a", 2, None) is None


def test_a_pause_of_hours_is_told_to_nobody() -> None:
    assert refused(Home(), "a", 0, Refusal(age=0.0, pause=7200.0)) == Refusal(age=0.0, pause=0.0)


# --- the samples file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits.db"


def test_a_home_that_has_lost_its_state_grants_no_second_burst() -> None:
    home, member = Home(), MemberModel("m", capacity=100.0, rate=10.0, quantum=1.0)
    other = MemberModel("n", capacity=100.0, rate=10.0, quantum=1.0)
    member.ask(home, 40)
    assert member.balance > 0
    member.total_used = member.total_granted
    home.state, home.clock = None, home.clock + 1.0
    for asking in (member, other):
        asking.ask(home, 40)
    assert (member.balance, other.balance) == (0, 0)

    home.clock += 1.0
    member.ask(home, 40)
    other.ask(home, 40)
    assert 0 < member.balance + other.balance <= 10


def ask_file(path: Path, member: str = "m", target: float = 5.0) -> Lease:
    source = StoreLeases(FileAccountStore(path, clock=lambda: START))
    try:
        request = LeaseRequest(member=member, number=0, demands={"usd": Demand(capacity=10.0, target=target)})
        return source.lease("nightly", request)
    finally:
        source.close()


def test_a_relative_path_stays_where_it_was_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    leases = StoreLeases(FileAccountStore("limits.db"))
    monkeypatch.chdir(tmp_path / "other")
    leases.lease("nightly", LeaseRequest(member="m", number=0, demands={}))
    leases.close()
    assert (tmp_path / "limits.db").exists()
    assert not (tmp_path / "other" / "limits.db").exists()


def test_processes_share_an_account_by_a_samples_file(path: Path) -> None:
    assert ask_file(path).total_granted == {"usd": 5.0}
    lease = ask_file(path, "n", target=8.0)
    assert lease.total_granted == {"usd": 5.0}
    assert lease.in_use == {"usd": 10.0}
    assert lease.n_members == 2
    assert path.stat().st_mode & 0o77 == 0


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"\xff\xfe",
        b"[1]",
        b"{}",
        b'{"id": "x", "levels": {"usd": [1, 2]}}',
        b'{"id": "x", "levels": {"usd": {"in_use": 1e999, "updated_at": 0}}}',
        b'{"id": "x", "levels": {"usd": {"in_use": -1e300, "updated_at": 0}}}',
        b'{"id": "x", "levels": {"usd": {"in_use": NaN, "updated_at": 0}}}',
        b'{"id": "x", "members": {"m": {"number": 1e40, "seen_at": 0, "shares": {}}}}',
        b'{"id": "%s"}' % (b"x" * 300),
        b'{"id": "%s"}' % (b"x" * 5_000_000),
        b"[" * 100_000,
        5,
        "{}",
    ],
)
def test_a_state_that_is_not_ours_is_refused_and_stays(path: Path, state: object) -> None:
    ask_file(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE account SET state = ?", (state,))
    connection.close()
    with pytest.raises(ConfigurationError, match="damaged") as failure:
        ask_file(path)
    assert str(path) in str(failure.value)
    assert "nightly" in str(failure.value)
    assert len(str(failure.value)) < 500
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT state FROM account").fetchone() == (state,)
    connection.close()


def test_a_file_that_is_not_a_samples_file_is_refused(path: Path) -> None:
    path.write_text("not a database at all")
    with pytest.raises(ConfigurationError, match="is not a samples file"):
        FileAccountStore(path).check()
    with pytest.raises(ConfigurationError, match="is not a samples file"):
        ask_file(path)
