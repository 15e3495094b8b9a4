"""Nodes that share a limit grant it, not much more, and not much less, wherever it is asked for.

In virtual time: nodes with clocks that begin at different moments, messages that take their time or
are lost, and tenants that ask as scripted. What was granted is judged by the test's own record.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from random import Random

import pytest

from edge.admission.plans import PlanSettings, Quotas, Reservation
from edge.admission.shares import DEBT, TURN_S
from index.entry import Instant, NodeName
from sync.messages import Grant

LIMIT = 600
WINDOW_S = 60.0
RATE = LIMIT / WINDOW_S
PLANS = (
    PlanSettings("pro", requests_per_minute=LIMIT),
    PlanSettings("tokens", tokens_per_minute=LIMIT, tokens_per_day=100 * LIMIT),
)
Script = Callable[[str, float], float]
"""Requests a second that are asked of a node at a time."""


@dataclass
class Region:
    """Nodes, and the network between them."""

    names: tuple[str, ...]
    seed: int
    delay_s: float = 0.1
    lost: float = 0.0
    dead_s: float = 20.0
    now: float = 0.0
    granted: list[tuple[float, str, float]] = field(default_factory=list)
    """When, where, how much."""
    refused: int = 0
    cut: set[str] = field(default_factory=set)
    """Nodes that hear nobody and are heard by nobody."""

    def __post_init__(self) -> None:
        self.chance = Random(self.seed)
        self.quotas = {name: Quotas(PLANS) for name in self.names}
        self.heard: dict[str, dict[str, float]] = {
            name: dict.fromkeys(self.names, 0.0) for name in self.names
        }
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        for name in self.names:
            self._at(self.chance.uniform(0, TURN_S), partial(self._turn, name))

    def run(self, until: float, script: Script, plan: str = "pro", tenant: str = "acme") -> None:
        for name in self.names:
            self._at(self.now, partial(self._asks, name, until, script, plan, tenant))
        while self._events and self._events[0][0] <= until:
            self.now, _, do = heappop(self._events)
            do()
        self.now = until

    def ask(self, name: str, plan: str = "pro", tenant: str = "acme") -> bool:
        usage = self.quotas[name].usage(tenant, plan, Instant(self.now))
        assert usage is not None
        if usage.request(Instant(self.now)) is None:
            self.granted.append((self.now, name, 1.0))
            return True
        self.refused += 1
        return False

    def between(self, begin: float, end: float, *names: str) -> float:
        """Units granted in that time."""
        return sum(
            units
            for at, name, units in self.granted
            if begin <= at < end and (not names or name in names)
        )

    def worst(self) -> float:
        """By how much what was granted in any stretch of time was more than the limit allows."""
        over = level = 0.0
        at = 0.0
        for now, _, units in self.granted:
            level = max(level - (now - at) * RATE, 0.0) + units
            over, at = max(over, level - LIMIT), now
        return over

    def _asks(self, name: str, until: float, script: Script, plan: str, tenant: str) -> None:
        rate = script(name, self.now)
        if rate > 0:
            self.ask(name, plan, tenant)
        wait_s = self.chance.expovariate(rate) if rate > 0 else 1.0
        if self.now + wait_s < until:
            self._at(self.now + wait_s, partial(self._asks, name, until, script, plan, tenant))

    def _turn(self, name: str) -> None:
        others = [
            NodeName(other)
            for other in self.names
            if other != name and self.now - self.heard[name][other] <= self.dead_s
        ]
        rows = self.quotas[name].turn(others, Instant(self.now))
        for other in self.names:
            if other != name and not self.cut & {name, other}:
                self.heard[other][name] = self.now
                if self.chance.random() >= self.lost:
                    delay_s = self.delay_s * self.chance.uniform(0.5, 1.5)
                    self._at(self.now + delay_s, partial(self._hear, other, name, rows))
        self._at(self.now + TURN_S, partial(self._turn, name))

    def _hear(self, name: str, by: str, rows: list[Grant]) -> None:
        self.quotas[name].hear(NodeName(by), rows, Instant(self.now))

    def _at(self, when: float, do: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._events, (when, self._count, do))


def everywhere(rate: float) -> Script:
    return lambda name, now: rate


def only(node: str, rate: float) -> Script:
    return lambda name, now: rate if name == node else 0.0


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("nodes", [2, 5])
def test_however_it_is_asked_for_the_limit_is_granted_and_little_more(
    seed: int, nodes: int
) -> None:
    """Load that comes and goes on each node by chance, three times the limit in all."""
    region = Region(tuple(f"n{n}" for n in range(nodes)), seed, lost=0.02)
    chance = Random(seed)
    busy = {(name, at): chance.random() < 0.5 for name in region.names for at in range(100)}
    load = 6 * RATE / nodes
    region.run(600.0, lambda name, now: load if busy[name, int(now / 15)] else 0.0)
    assert region.worst() < LIMIT * 0.4, "for seconds"
    assert region.between(0, 600) < LIMIT * 1.4 + RATE * 600, "and it is waited for"
    asked = [any(busy[name, int(at / 15)] for name in region.names) for at in range(600)]
    assert region.between(60, 600) > 0.8 * RATE * sum(asked[60:])


@pytest.mark.parametrize("seed", range(4))
def test_a_flood_of_all_nodes_at_once_is_granted_little_more(seed: int) -> None:
    region = Region(("a", "b", "c"), seed)
    region.run(30.0, everywhere(0.0))
    region.run(31.0, everywhere(3 * LIMIT))
    assert LIMIT * 0.9 < region.between(30, 31) < LIMIT * 1.6
    region.run(90.0, everywhere(LIMIT))
    assert region.worst() < LIMIT * 0.6
    assert region.between(30, 90) < LIMIT * 1.1 + RATE * 60, "and it is waited for"


def test_a_tenant_at_one_node_gets_nearly_all_of_its_limit_there() -> None:
    region = Region(("a", "b", "c"), 1)
    region.run(300.0, only("a", 2 * RATE))
    assert region.between(10, 300) > 0.85 * RATE * 290
    assert region.worst() < 1.0


def test_a_tenant_that_moves_is_served_where_it_has_gone() -> None:
    region = Region(("a", "b", "c"), 1)
    region.run(120.0, only("a", RATE))
    region.run(240.0, only("b", RATE))
    assert region.between(140, 240, "b") > 0.8 * RATE * 100
    assert region.worst() < RATE * TURN_S + 3


def test_a_node_that_is_alone_grants_the_whole() -> None:
    region = Region(("a",), 1)
    region.run(120.0, everywhere(3 * RATE))
    assert region.between(60, 120) == pytest.approx(RATE * 60, rel=0.02)
    assert region.worst() < 1e-3


def test_a_fleet_in_pieces_grants_each_piece_the_limit_and_no_more() -> None:
    region = Region(("a", "b"), 1)
    region.run(60.0, everywhere(3 * RATE))
    region.cut = {"b"}
    region.run(180.0, everywhere(3 * RATE))
    for name in region.names:
        assert region.between(120, 180, name) > 0.9 * RATE * 60
        assert region.between(60, 180, name) < RATE * 120 + LIMIT
    region.cut = set()
    region.run(240.0, everywhere(3 * RATE))
    after = region.between(200, 240)
    assert 0.7 * RATE * 40 < after < RATE * 40 + RATE * 2 * TURN_S, "nor is it paid back for long"


def test_a_node_that_dies_leaves_its_part_to_the_others() -> None:
    region = Region(("a", "b"), 1)
    region.run(60.0, everywhere(3 * RATE))
    region.cut = {"b"}
    region.run(150.0, only("a", 3 * RATE))
    assert region.between(60, 80, "a") > 0.4 * RATE * 20, "never less than it had"
    assert region.between(90, 150, "a") > 0.9 * RATE * 60


def test_one_that_cries_for_more_gets_no_more_than_its_share() -> None:
    region = Region(("a", "b"), 1)
    region.run(240.0, lambda name, now: 100 * RATE if name == "a" else RATE / 2)
    assert region.between(60, 240, "b") > 0.3 * RATE * 180


def test_many_nodes_grant_small_limits_too() -> None:
    """Each node's part is less than one request."""
    region = Region(tuple(f"n{n}" for n in range(40)), 1)
    region.run(300.0, everywhere(RATE / 20))
    assert region.between(60, 300) > 0.8 * RATE * 240
    assert region.worst() < RATE * TURN_S + 40


class Calls:
    """Two nodes whose calls hold tokens for a while."""

    def __init__(self) -> None:
        self.region = Region(("a", "b"), 1)
        self.region.run(30.0, everywhere(0.0))

    def reserve(self, name: str, tokens: float) -> Reservation | None:
        now = Instant(self.region.now)
        usage = self.region.quotas[name].usage("acme", "tokens", now)
        assert usage is not None
        found = usage.reserve(tokens, 0.0, 1.0, now)
        return found if isinstance(found, Reservation) else None

    def pass_time(self, seconds: float) -> None:
        self.region.run(self.region.now + seconds, everywhere(0.0))

    def left(self, name: str) -> int:
        now = Instant(self.region.now)
        usage = self.region.quotas[name].usage("acme", "tokens", now)
        assert usage is not None
        assert usage.tokens is not None
        return usage.tokens.left(now)


def test_what_is_set_aside_on_one_node_is_not_granted_on_another() -> None:
    calls = Calls()
    held = calls.reserve("a", LIMIT - 100)
    assert held is not None
    calls.pass_time(2 * TURN_S)
    assert calls.left("b") <= 100
    assert calls.reserve("b", 200) is None
    held.settle(0.0, Instant(calls.region.now))
    calls.pass_time(2 * TURN_S)
    assert calls.left("b") == LIMIT, "it was not used"
    assert calls.reserve("b", 200) is not None


def test_what_was_used_on_one_node_is_used_up_on_another() -> None:
    calls = Calls()
    held = calls.reserve("a", 500)
    assert held is not None
    held.settle(400.0, Instant(calls.region.now))
    calls.pass_time(2 * TURN_S)
    assert calls.left("b") == pytest.approx(LIMIT - 400 + 2 * TURN_S * RATE, abs=RATE * TURN_S)


def test_a_call_larger_than_each_part_is_granted_when_all_have_room() -> None:
    calls = Calls()
    for _ in range(3):
        for name in ("a", "b"):
            calls.reserve(name, 1)  # both are asked, so each has half
            calls.pass_time(TURN_S / 2)
    assert calls.reserve("a", 0.9 * LIMIT) is not None
    calls.pass_time(2 * TURN_S)
    assert calls.reserve("b", 0.5 * LIMIT) is None


def test_what_a_node_claims_shuts_nobody_out_for_long() -> None:
    quotas, now = Quotas(PLANS), Instant(1.0)
    quotas.turn([NodeName("liar")], now)
    quotas.hear(NodeName("liar"), [Grant("acme", "pro", ((1e9, 1e9, 1e9),))], now)
    usage = quotas.usage("acme", "pro", now)
    assert usage is not None
    assert usage.request(now) is not None
    quotas.turn([], now)  # it is thrown out
    later = Instant(now + (DEBT - 1) * WINDOW_S + 1.0)
    assert usage.request(later) is None


def test_what_is_of_another_plan_is_not_counted() -> None:
    quotas, now = Quotas(PLANS), Instant(1.0)
    rows = [
        Grant("acme", "gold", ((LIMIT, 0.0, 0.0),)),
        Grant("acme", "pro", ((LIMIT, 0.0, 0.0),) * 3),
        Grant("other", "pro", ((LIMIT, 0.0, 0.0),)),
    ]
    quotas.turn([NodeName("b")], now)
    quotas.hear(NodeName("b"), rows, now)
    usage = quotas.usage("acme", "pro", now)
    assert usage is not None
    assert usage.request(now) is None


def test_who_was_told_all_is_told_nothing_more() -> None:
    quotas, now = Quotas(PLANS), Instant(1.0)
    for _ in range(3):
        quotas.turn([NodeName("b")], now)
    usage = quotas.usage("acme", "pro", now)
    assert usage is not None
    usage.request(now)
    (told,) = quotas.turn([NodeName("b")], now)
    assert told.meters[0][0] == 1.0
    later = Instant(now + 100.0)
    (last,) = quotas.turn([NodeName("b")], later)
    assert last.meters == ((0.0, 0.0, 0.0),)
    assert quotas.turn([NodeName("b")], later) == []


def test_what_was_granted_while_nobody_was_there_is_told_to_nobody() -> None:
    quotas, now = Quotas(PLANS), Instant(1.0)
    quotas.turn([], now)
    usage = quotas.usage("acme", "pro", now)
    assert usage is not None
    for _ in range(500):
        usage.request(now)
    quotas.turn([NodeName("b")], now)
    quotas.usage("acme", "pro", now)
    assert [one.meters[0][0] for one in quotas.turn([NodeName("b")], now)] == [0.0]
