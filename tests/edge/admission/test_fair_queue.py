"""Fair shares by weight whatever each sends, bounds, deadlines; nobody is lost or served twice."""

from collections import Counter
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge.admission.fair_queue import FairQueue, Waiting
from edge.admission.flows import HAND, SHARDS, anonymous, hand
from index.entry import Instant

WEIGHTS = {"paid": 4.0, "free": 1.0, "other": 1.0, "tiny": 0.1}
NEVER = Instant(float("inf"))


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue(flow_max=5, total_max=12)
        self.now = Instant(0.0)
        self.waiting: dict[int, Waiting[int]] = {}
        self.number = 0

    def gone(self, *ones: Waiting[int]) -> None:
        for one in ones:
            assert self.waiting.pop(one.item) is one  # once

    @rule(flow=st.sampled_from(sorted(WEIGHTS)), patience_s=st.floats(0, 20))
    def put(self, flow: str, patience_s: float) -> None:
        self.number += 1
        deadline = Instant(self.now + patience_s)
        one, out = self.queue.put(
            self.number, flow, weight=WEIGHTS[flow], deadline=deadline, now=self.now
        )
        self.waiting[self.number] = one
        self.gone(*out)

    @rule(seconds=st.floats(0, 10))
    def pass_time(self, seconds: float) -> None:
        self.now = Instant(self.now + seconds)

    @rule()
    def next(self) -> None:
        chosen, late = self.queue.next(self.now)
        assert all(one.deadline <= self.now for one in late)
        self.gone(*late)
        if chosen is None:
            assert not self.waiting
        else:
            assert chosen.deadline > self.now
            self.gone(chosen)

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        if self.waiting:
            one = self.waiting.pop(data.draw(st.sampled_from(sorted(self.waiting))))
            self.queue.withdraw(one)
            self.queue.withdraw(one)  # harmless

    @invariant()
    def all_is_accounted_for(self) -> None:
        self.queue.check()
        assert len(self.queue) == len(self.waiting) <= 12
        lengths = dict(self.queue.lengths())
        assert Counter(one.flow for one in self.waiting.values()) == lengths
        assert max(lengths.values(), default=0) <= 5


TestQueue = QueueMachine.TestCase


@given(st.integers(0, 1_000_000), st.integers(1, 9))
def test_room_is_shared_by_weight(seed: int, weight: int) -> None:
    queue: FairQueue[None] = FairQueue(flow_max=1_000, total_max=10_000)
    names = ["heavy"] * 200 + ["light"] * 200
    Random(seed).shuffle(names)
    weights = {"heavy": float(weight), "light": 1.0}
    for name in names:
        queue.put(None, name, weight=weights[name], deadline=NEVER, now=Instant(0.0))
    served = Counter(_served(queue) for _ in range(100))
    assert abs(served["heavy"] - 100 * weight / (weight + 1)) <= 2


def _served(queue: FairQueue[None]) -> object:
    chosen, _ = queue.next(Instant(0.0))
    assert chosen is not None
    return chosen.flow


def test_a_crowd_of_light_flows_does_not_outweigh_a_few_heavy_ones() -> None:
    queue: FairQueue[None] = FairQueue(flow_max=1_000, total_max=10_000)
    for number in range(200):
        for _ in range(3):
            queue.put(None, f"light {number}", weight=1, deadline=NEVER, now=Instant(0.0))
    for number in range(2):
        for _ in range(200):
            queue.put(None, f"heavy {number}", weight=4, deadline=NEVER, now=Instant(0.0))
    served = Counter(str(_served(queue)).split()[0] for _ in range(400))
    assert 0.78 <= served["heavy"] / 400 <= 0.82


def test_who_was_quiet_does_not_wait_behind_who_floods() -> None:
    queue: FairQueue[None] = FairQueue(flow_max=1_000, total_max=10_000)
    for _ in range(500):
        queue.put(None, "flood", weight=1, deadline=NEVER, now=Instant(0.0))
    for _ in range(50):
        queue.next(Instant(0.0))
    assert queue.ahead("quiet", 1) <= 1
    queue.put(None, "quiet", weight=1, deadline=NEVER, now=Instant(0.0))
    assert "quiet" in [_served(queue) for _ in range(2)]


def test_an_overloaded_flow_serves_its_newest() -> None:
    queue: FairQueue[int] = FairQueue(flow_max=10, total_max=10, stale_s=5.0)
    for number in range(3):
        queue.put(number, "a", weight=1, deadline=NEVER, now=Instant(float(number)))
    oldest, _ = queue.next(Instant(4.0))
    newest, _ = queue.next(Instant(20.0))
    assert (oldest and oldest.item, newest and newest.item) == (0, 2)


def test_the_longest_queue_for_its_weight_gives_way() -> None:
    queue: FairQueue[str] = FairQueue(flow_max=100, total_max=10)
    for number in range(8):
        queue.put(f"paid {number}", "paid", weight=4, deadline=NEVER, now=Instant(0.0))
    for number in range(2):
        queue.put(f"free {number}", "free", weight=0.5, deadline=NEVER, now=Instant(0.0))
    _, out = queue.put("new", "other", weight=1, deadline=NEVER, now=Instant(0.0))
    assert [one.item for one in out] == ["free 1"]


STREAMS, CALL_S, PATIENCE_S = 50, 4.0, 15.0


@dataclass
class Crowd:
    """design: 50 streams of 4 s (12.5/s), three times as many arrivals for 120 s of 420 s."""

    arrived: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)

    def share(self, kind: str) -> float:
        return self.served[kind] / self.arrived[kind]


def crowd(seed: int, surge: float = 37.5, paid: float = 0.16) -> Crowd:
    """Arrivals: 40 % of one abuser, a share of eight who `paid` (with a weight of 4), the rest of a
    hundred free tenants."""
    random, done = Random(seed), Crowd()
    queue: FairQueue[str] = FairQueue(flow_max=100, total_max=1_000)
    busy: list[float] = []
    now = 0.0

    def serve(until: float) -> None:
        while busy and busy[0] <= until:
            at = heappop(busy)
            chosen, _ = queue.next(Instant(at))
            if chosen is not None:
                done.served[chosen.item] += 1
                heappush(busy, at + random.expovariate(1 / CALL_S))

    while now < 420:
        now += random.expovariate(surge if 120 <= now < 240 else 10.0)
        serve(now)
        kind = random.choices(("abuser", "paid", "free"), (40, 100 * paid, 60 - 100 * paid))[0]
        tenant = {"abuser": 1, "paid": 8, "free": 100}[kind]
        flow = f"{kind} {random.randrange(tenant)}"
        done.arrived[kind] += 1
        if len(busy) < STREAMS and not len(queue):
            done.served[kind] += 1
            heappush(busy, now + random.expovariate(1 / CALL_S))
            continue
        weight = 4.0 if kind == "paid" else 1.0
        if (queue.ahead(flow, weight) + 1) * CALL_S / STREAMS > PATIENCE_S:
            continue  # told at once, as `edge.line` does
        deadline = Instant(now + PATIENCE_S)
        queue.put(kind, flow, weight=weight, deadline=deadline, now=Instant(now))
    serve(now + PATIENCE_S)
    return done


def test_those_who_pay_are_served_through_a_surge_with_an_abuser() -> None:
    for seed in range(5):
        done = crowd(seed)
        assert done.share("paid") >= 0.95
        assert 0.35 <= done.share("abuser") <= 0.45
        assert done.share("free") >= 0.60
        assert sum(done.served.values()) >= 0.95 * 12.5 * 120 + 0.9 * 10 * 300  # no room was wasted


def test_they_are_through_five_times_of_what_there_is_room_for() -> None:
    for seed in range(3):
        done = crowd(seed, surge=5 * 12.5, paid=0.6 / 5)  # 60 % of the room are asked for by them
        assert done.share("paid") >= 0.95
        assert done.share("free") >= done.share("abuser")


def test_an_address_floods_its_own_hand_alone() -> None:
    secret = b"s" * 16
    lengths: Counter[object] = Counter()
    for _ in range(800):
        lengths[anonymous("203.0.113.7", secret, lambda flow: lengths[flow])] += 1
    assert len(lengths) == HAND
    others = [f"198.51.100.{number}" for number in range(200)]
    free = [anonymous(one, secret, lambda flow: lengths[flow]) not in lengths for one in others]
    assert all(free)


def test_a_hand_is_a_households() -> None:
    secret = b"s" * 16
    assert hand("2001:db8:1:2::1", secret) == hand("2001:db8:1:2:ffff::9", secret)
    assert hand("2001:db8:1:2::1", secret) != hand("2001:db8:1:3::1", secret)
    assert hand("::ffff:192.0.2.1", secret) == hand("192.0.2.1", secret)
    assert hand("192.0.2.1", secret) != hand("192.0.2.1", b"t" * 16)
    for client in ("", "somewhere", "fe80::1%eth0"):
        assert len(set(hand(client, secret))) == HAND
        assert max(hand(client, secret)) < SHARDS
