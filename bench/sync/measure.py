"""What is measured on a fleet of two: how late things come, and what catching up takes."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.sync.datagrams import datagrams
from bench.sync.fleet import DELAYS, ONE, OTHER, Fleet, Node, both

SIZES = (1_024, 4_096, 16_384, 65_536)
BYTES_PER_S = 256_000
"""What a node may offer unless told otherwise: that fast each node tells, without loss."""
LOSSY_BYTES_PER_S = 25_000
"""With loss: what cubic carries that far with one packet in a hundred lost is some 100 kB/s, and
over NATS each node is sent its own words too."""
FRAME_BYTES = 1_000
"""Of an answer on the wire, besides its body."""
EVERY_MIN_S = 0.04
TELLING_S = 60.0
"""Of one size, at most."""
PURGE_EVERY_S = 0.02
WARM_UP, WARM_UP_BYTES = 20, 16_384
"""Answers told before anything is measured: TCP's windows open."""

Times = Mapping[str, int]
"""By key, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Plan:
    told: int
    """Answers of each size, each way."""
    purges: int
    many: int
    """Answers that a node which was away catches up with."""


FULL = Plan(told=300, purges=200, many=100_000)
QUICK = Plan(told=40, purges=30, many=5_000)


@dataclass(frozen=True, slots=True)
class Late:
    """Milliseconds from telling to holding beyond those of the path, and what it took."""

    p50: float
    p99: float
    most: float
    lost: int
    octets: float = 0.0
    """On the wire for each, on all paths."""
    cpu_ms: float = 0.0
    """Of both nodes, for each: to tell it, and to hear it."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    count: int
    first_s: float
    """From the start of its process to the first answer."""
    rest_s: float
    """From the first to the last."""
    cpu_s: float
    """On all threads."""
    loop_s: float
    """Of it, on the event loop."""
    octets: float
    """On the wire for each."""


def propagation(running: Fleet, plan: Plan, path_ms: float, *, lossy: bool) -> dict[str, Late]:
    nodes = running.start(ONE), running.start(OTHER)
    both(nodes, "met", others=1)
    bytes_per_s = LOSSY_BYTES_PER_S if lossy else BYTES_PER_S
    both(nodes, "tell", count=WARM_UP, size=WARM_UP_BYTES, every_s=WARM_UP_BYTES / bytes_per_s)
    both(nodes, "heard", count=WARM_UP)
    found: dict[str, Late] = {}
    keys: list[str] = []
    with datagrams(running.net[ONE], running.net[OTHER]) as bare:
        for size in SIZES:
            every_s = (size + FRAME_BYTES) / bytes_per_s
            late, told = _answers(running, nodes, plan, size, max(EVERY_MIN_S, every_s), path_ms)
            found[f"answer, {size // 1024} kB"] = late
            keys = keys or told[: plan.purges]
        purged = nodes[0].ask("purge", keys=keys, every_s=PURGE_EVERY_S)
        held = nodes[1].ask("purged", count=len(keys))
    found["purge"] = _late(_delays([(purged, held)]), len(keys), path_ms)
    return {"a bare datagram": _late(bare, len(bare), 1e3 * DELAYS[ONE, OTHER]), **found}


def _answers(
    running: Fleet, nodes: tuple[Node, Node], plan: Plan, size: int, every_s: float, path_ms: float
) -> tuple[Late, list[str]]:
    """Both tell at once. Also the keys that the first told."""
    count = min(plan.told, int(TELLING_S / every_s))
    both(nodes, "forget")
    octets, cpu_s = running.octets(), _cpu_s(nodes)
    sent = both(nodes, "tell", count=count, size=size, every_s=every_s)
    heard = both(nodes, "heard", count=count)
    octets, cpu_s = running.octets() - octets, _cpu_s(nodes) - cpu_s
    delays = _delays([(sent[0], heard[1]), (sent[1], heard[0])])
    each = 1 / (2 * count)
    return _late(delays, 2 * count, path_ms, octets * each, 1e3 * cpu_s * each), [*sent[0]]


def _cpu_s(nodes: tuple[Node, Node]) -> float:
    return sum(float(one["process"]) for one in both(nodes, "spent"))


def _delays(ways: list[tuple[Times, Times]]) -> list[float]:
    """Milliseconds, of what came."""
    return [
        (held[key] - told) / 1e6 for sent, held in ways for key, told in sent.items() if key in held
    ]


def _late(
    delays: list[float], sent: int, path_ms: float, octets: float = 0.0, cpu_ms: float = 0.0
) -> Late:
    beyond = sorted(delay - path_ms for delay in delays)
    p99 = beyond[min(len(beyond) - 1, int(0.99 * len(beyond)))]
    lost = sent - len(beyond)
    return Late(statistics.median(beyond), p99, beyond[-1], lost, octets, cpu_ms)


def catching_up(running: Fleet, plan: Plan) -> CaughtUp:
    """One node tells many while the other is away; then the other starts."""
    one, other = running.start(ONE), running.start(OTHER)
    both((one, other), "met", others=1)
    one.ask("tell", count=WARM_UP, size=1_024, every_s=0.0)
    other.ask("heard", count=WARM_UP)
    other.end()
    one.ask("tell", count=plan.many, size=1_024, every_s=0.0, together=64)
    one.ask("unsaid")
    octets, began = running.octets(), time.monotonic_ns()
    other = running.start(OTHER)
    before: dict[str, Any] = other.ask("spent")
    heard: Times = other.ask("heard", count=plan.many)
    after: dict[str, Any] = other.ask("spent")
    first, last = min(heard.values()), max(heard.values())
    return CaughtUp(
        len(heard),
        (first - began) / 1e9,
        (last - first) / 1e9,
        after["process"] - before["process"],
        after["loop"] - before["loop"],
        (running.octets() - octets) / len(heard),
    )
