"""Which upstream, and how many requests at a time, beside other ways to choose: simulations.

    python -m bench.routing [--seeds 5] [--rate 40]

Four regions whose first tokens take 0.25, 0.40, 0.55 and 0.80 s in the middle and 1.8 times as
long once in a hundred, computed by 32 workers each. The nearest is ten times as slow from 100 s to
200 s, answers 429 with `Retry-After: 20` from 250 s to 300 s, and from 350 s to 400 s takes no
connections. A figure is the middle and the 99th of a hundred waits for the first token, with
retries, in seconds, and in parentheses the share of requests that were sent to the nearest first.

What the simulation is and what it leaves out: tests/fakes/regions.py.

Then single servers of several kinds, which do about four to fifty answers a second and are asked
for calm numbers in the first minute and too many in the next two. A figure is whole answers a
second, in time, from half a minute into the crowd on; in parentheses, within that half minute. See
tests/fakes/crowd.py.
"""

import argparse
import datetime as dt
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bench.routing.policies import POLICIES
from edge.routing.knee import Knee
from edge.routing.settings import RoutingSettings
from index.entry import Instant
from tests.fakes.crowd import Crowd, Server, alone, batches, shares, thrashes
from tests.fakes.regions import Asked, Chooser, Ours, Region, Trouble, World, part, quantile, share

REGIONS = (Region("a", 0.25), Region("b", 0.40), Region("c", 0.55), Region("d", 0.80))
TROUBLES = (
    Trouble("a", 100, 200, "slow", 10),
    Trouble("a", 250, 300, "limited", 20),
    Trouble("a", 350, 400, "down"),
)
END_S = 430.0 + 20
PHASES = {
    "healthy": (20, 100),
    "first 10 s slow": (100, 110),
    "rest of slow": (110, 200),
    "recovered": (210, 250),
    "429": (250, 300),
    "down": (350, 400),
    "back": (410, 430),
}


def slow_later(now: float) -> float:
    return 1.0 if now < 60 else 3.0


SERVERS = {
    "more than 5 at a time get less done": (Server(thrashes(5)), 50.0),
    "the same, and it refuses the 21st": (Server(thrashes(5), takes=20), 50.0),
    "more than 5 get as much done": (Server(shares(5)), 25.0),
    "it computes 8, the others wait there": (Server(alone, lanes=8), 25.0),
    "more always get more done, each slower": (Server(batches(32)), 40.0),
    "it computes any number": (Server(alone), 50.0),
    "it does, 3 times as slow in the crowd": (Server(alone, slower=slow_later), 20.0),
}
NUMBERS = (4, 5, 6, 8, 10, 16, 32, 64, 128, 256)


@dataclass
class Run:
    asked: list[Asked]
    limited: int
    refused: int


def simulate(make: Callable[[int], Chooser], seed: int, rate: float) -> Run:
    world = World(REGIONS, TROUBLES, seed, rate)
    asked = world.run(make(seed), END_S)
    kinds = [status for _, _, status in world.failures]
    return Run(asked, kinds.count("429"), kinds.count("502"))


def row(name: str, runs: Sequence[Run]) -> str:
    cells = []
    for phase, (begins, ends) in PHASES.items():
        asked = [one for run in runs for one in part(run.asked, begins, ends)]
        middle, late = quantile(asked, 0.5), quantile(asked, 0.99)
        text = f"{middle:.2f}/{late:.2f} ({share(asked, 'a'):.0%}"
        if phase == "429":
            text += f"; {sum(run.limited for run in runs) / len(runs):.0f}"
        if phase == "down":
            text += f"; {sum(run.refused for run in runs) / len(runs):.0f}"
        cells.append(text + ")")
    return f"{name:<36}" + "".join(f"{cell:<23}" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.routing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs for each policy (5)")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second (40)")
    options = parser.parse_args()
    print(f"$ python -m bench.routing {shlex.join(sys.argv[1:])}".rstrip())
    print(dt.datetime.now(dt.UTC).date())
    print("seconds to the first token, p50/p99 (share sent to the nearest; 429s, refusals seen)")
    print(f"{'':<36}" + "".join(f"{phase:<23}" for phase in PHASES))
    seeds = range(options.seeds)
    for policy in POLICIES:
        runs = [simulate(partial(policy, REGIONS), seed, options.rate) for seed in seeds]
        print(row(policy.name, runs), flush=True)
    runs = [simulate(partial(Ours, REGIONS), seed, options.rate) for seed in seeds]
    print(row("ours", runs), flush=True)
    hedging = RoutingSettings(hedge=True)
    runs = [
        simulate(partial(Ours, REGIONS, settings=hedging), seed, options.rate) for seed in seeds
    ]
    print(row("ours, hedged (2 %)", runs))
    crowds(seeds)


class Boundless(Knee):
    """As many as come, or as many as were said."""

    def observe(
        self, number: float, speed: float, began: Instant, now: Instant, *, full: bool
    ) -> None:
        pass


def crowds(seeds: Sequence[int]) -> None:
    print()
    print("whole answers a second in a crowd, once it has been there for 30 s (before that)")
    head = "".join(f"{name:<18}" for name in ("all that come", "at best", "as many", "ours"))
    print(f"{'':<44}{head}")
    for name, (server, after) in SERVERS.items():
        played = partial(play, server, after, seeds)
        best = max(NUMBERS, key=lambda number: played(Boundless(number))[0])
        cells = [played(Boundless()), played(Boundless(best)), None, played(None)]
        texts = [f"{best}" if one is None else f"{one[0]:.1f} ({one[1]:.1f})" for one in cells]
        print(f"{name:<44}" + "".join(f"{text:<18}" for text in texts), flush=True)


def play(
    server: Server, after: float, seeds: Sequence[int], knee: Knee | None
) -> tuple[float, float]:
    found = []
    for seed in seeds:
        crowd = Crowd(server, lambda now: 3 if now < 60 else after, seed, spread=0.3)
        if knee is not None:
            crowd.upstream.knee = replace(knee)
        crowd.run(180)
        found.append((crowd.goodput(90, 170), crowd.goodput(60, 90)))
    late, soon = (sum(column) / len(found) for column in zip(*found, strict=True))
    return late, soon


if __name__ == "__main__":
    main()
