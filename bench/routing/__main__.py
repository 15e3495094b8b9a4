"""Which upstream, beside other ways to choose it: a simulation.

    python -m bench.routing [--seeds 5] [--rate 40]

Four regions whose first tokens take 0.25, 0.40, 0.55 and 0.80 s in the middle and 1.8 times as
long once in a hundred, computed by 32 workers each. The nearest is ten times as slow from 100 s to
200 s, answers 429 with `Retry-After: 20` from 250 s to 300 s, and from 350 s to 400 s takes no
connections. A figure is the middle and the 99th of a hundred waits for the first token, with
retries, in seconds, and in parentheses the share of requests that were sent to the nearest first.

What the simulation is and what it leaves out: tests/fakes/regions.py.
"""

import argparse
import datetime as dt
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench.routing.policies import POLICIES
from edge.routing.settings import RoutingSettings
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


if __name__ == "__main__":
    main()
