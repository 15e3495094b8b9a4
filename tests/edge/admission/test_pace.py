"""Who waits is served in time, as far as can be, and who will not be is told when it comes."""

from collections import Counter
from heapq import heappop, heappush
from random import Random

from edge.admission.fair_queue import FairQueue
from edge.admission.pace import LATELY_S, Pace
from edge.line import PRUDENCE
from index.entry import Instant


def test_what_heavier_ones_take_is_not_there_for_the_others() -> None:
    pace, now = Pace(), Instant(0.0)
    for number in range(600):  # six a second
        now = Instant(number / 6)
        pace.took(4.0, now)
    assert 5.5 < pace.rate(4.0, now) < 6.5
    assert 3.5 < pace.left(1.0, 10.0, now) < 4.5
    assert pace.left(4.0, 10.0, now) == 10.0
    assert pace.left(0.1, 10.0, now) == pace.left(1.0, 10.0, now)
    assert pace.left(1.0, 5.0, now) == 1.0  # its share by weight
    assert pace.left(1.0, 10.0, Instant(now + 20 * LATELY_S)) > 9.99


def test_a_round_is_a_turn_of_everybody() -> None:
    queue: FairQueue[int] = FairQueue(flow_max=10, total_max=100)
    now, never = Instant(0.0), Instant(1e9)
    for flow in ("a", "a", "b", "c"):
        queue.put(0, flow, weight=1.0, deadline=never, now=now)
    assert [queue.alike(flow, 1.0) for flow in ("new", "b", "a")] == [3, 5, 8]
    assert queue.alike("paid", 4.0) == 0


ROOM, CALL_S, QUEUE_S = 10, 1.0, 5.0


def crowd(seed: int, times: float) -> Counter[str]:
    """Room for ten calls of a second; three who pay ask for six a second, twelve others for what is
    left of `times` the room."""
    random, queue, pace = Random(seed), FairQueue[str](flow_max=100, total_max=1_000), Pace()
    told: Counter[str] = Counter()
    busy: list[float] = []

    def take(kind: str, weight: float, at: float) -> None:
        told[f"{kind} served"] += 1
        pace.took(weight, Instant(at))
        heappush(busy, at + CALL_S)

    def serve(until: float) -> None:
        while busy and busy[0] <= until:
            at = heappop(busy)
            chosen, late = queue.next(Instant(at))
            told["late"] += len(late)
            if chosen is not None:
                take(chosen.item, chosen.weight, at)

    at = 0.0
    while at < 60:
        at += random.expovariate(times * ROOM)
        serve(at)
        now = Instant(at)
        paid = random.random() < 0.6 / times
        kind, weight, flow = ("paid", 4.0, 3) if paid else ("free", 1.0, 12)
        name = f"{kind} {random.randrange(flow)}"
        told[kind] += 1
        if len(busy) < ROOM and not len(queue):
            take(kind, weight, at)
            continue
        per_s = ROOM / CALL_S
        foreseen_s = max(
            (queue.ahead(name, weight) + 1) / per_s,
            (queue.alike(name, weight) + 1) / pace.left(weight, per_s, now),
        )
        if foreseen_s > PRUDENCE * QUEUE_S:
            told["at once"] += 1
            continue
        queue.put(kind, name, weight=weight, deadline=Instant(at + QUEUE_S), now=now)
    serve(at + QUEUE_S)
    return told


def test_in_a_surge_hardly_anybody_waits_in_vain() -> None:
    for seed in range(3):
        told = crowd(seed, times=10)
        assert told["late"] <= 0.01 * told["at once"]
        assert told["paid served"] >= 0.99 * told["paid"]
        assert told["paid served"] + told["free served"] >= 0.97 * 60 * ROOM
