"""What is tried, each on systems that were started for it: a crowd, and the figures it left.

surge     a usual day, ten times the capacity for a while, a usual day again: the chart
ladder    prompts that nobody has asked yet, at 1, 2, 5, 10 times the capacity; those who pay ask
          for the same at every step, and for prompts that are remembered besides
repeats   how many calls of the upstream a crowd costs that fits
equal     the same prompt from everybody at once
killed    of two upstreams the nearer dies
slower    of two upstreams the nearer gets three times as slow
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from bench.http import machine
from bench.surge import load, systems
from bench.surge.crowd import FREE, PAID, TENANTS, Asking, Prompts, arrivals, zipf
from bench.surge.load import Outcome
from bench.surge.systems import SLOTS, System, Upstream

CAPACITY = float(SLOTS)
"""Answers a second."""
PAID_SHARE = 0.6
"""What those who pay ask for, as a share of the capacity."""
USUAL_SHARE = 0.7
"""What all ask for on a usual day."""
SURGE = 10
STEPS = (1, 2, 5, SURGE)
"""Times the capacity."""
IDLE = "idle"
HITS_PER_S = 15.0
REMEMBERED = 20
FAR_TTFT_S = 0.4
FOLLOWS_S = 10.0
"""So long after a change the traffic must have followed it."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long everything takes, in seconds."""

    calm: float
    surge: float
    after: float
    step: float
    rest: float
    pair: float

    @classmethod
    def full(cls) -> "Times":
        return cls(calm=20, surge=60, after=20, step=15, rest=6, pair=20)

    @classmethod
    def quick(cls) -> "Times":
        return cls(calm=4, surge=12, after=6, step=6, rest=6, pair=10)


@dataclass(frozen=True, slots=True)
class Ran:
    outcomes: list[Outcome]
    calls: list[dict[str, Any]]
    """What each upstream says that it did; of one that was killed, nothing."""
    cores: tuple[float, float]
    """The system's CPU time over time; and the same of what it could have used and did not get."""


class Stage:
    """Starts systems, asks them, and ends them."""

    def __init__(self, scratch: Path, times: Times) -> None:
        self._scratch = scratch
        self.times = times

    def play(
        self,
        system: System,
        askings: Sequence[Asking],
        meanwhile: Callable[[Sequence[Upstream]], load.Meanwhile] = lambda _: (),
        upstreams: Sequence[tuple[str, ...]] = (("model",),),
    ) -> Ran:
        with ExitStack() as stack:
            models = [systems.upstream(stack, self._scratch, *one) for one in upstreams]
            target = system.start(stack, self._scratch, models)
            before = _times(target.pid)
            outcomes = load.run(target, askings, meanwhile(models))
            took_s, used_s, lacked_s = (
                now - then for now, then in zip(_times(target.pid), before, strict=True)
            )
            alive = [one for one in models if one.server.process.poll() is None]
            calls = [one.stats() for one in alive]
            return Ran(outcomes, calls, (used_s / took_s, lacked_s / took_s))


def _times(pid: int) -> tuple[float, float, float]:
    return time.perf_counter(), machine.cpu_s(pid), machine.waited_s(pid)


# One crowd each.


def surge(stage: Stage, system: System) -> Ran:
    """Those who pay ask as always; the others come in crowds, and ask of what is new."""
    times, chance, prompts = stage.times, Random(1), Prompts(1)
    begins, ends = times.calm, times.calm + times.surge
    usual = zipf(chance, prompts.some(1_000))
    news = zipf(chance, prompts.some(1_000))
    end = ends + times.after
    paid = PAID_SHARE * CAPACITY
    calm = USUAL_SHARE * CAPACITY - paid

    def mixed() -> str:
        return news() if chance.random() < 0.5 else usual()

    return stage.play(
        system,
        [
            *arrivals(chance, paid, 0, begins, PAID, usual),
            *arrivals(chance, paid, begins, ends, PAID, mixed),
            *arrivals(chance, paid, ends, end, PAID, usual),
            *arrivals(chance, calm, 0, begins, FREE, usual),
            *arrivals(chance, SURGE * CAPACITY - paid, begins, ends, FREE, news),
            *arrivals(chance, calm, ends, end, FREE, usual),
        ],
    )


def ladder(stage: Stage, system: System) -> Ran:
    """Parts `learn`, `idle`, `1` … `10`; hits are `hits:PART`. Between the steps those who wait are
    served, and those who pay go on."""
    chance, prompts, times = Random(2), Prompts(2), stage.times
    known = prompts.some(REMEMBERED)
    paid = PAID_SHARE * CAPACITY
    askings = [
        Asking(at / (0.8 * CAPACITY), PAID[0], prompt, "learn") for at, prompt in enumerate(known)
    ]
    at_s = askings[-1].at_s + 3.0
    for step in (0, *STEPS):
        ends, part = at_s + times.step, str(step) if step else IDLE
        again = partial(chance.choice, known)
        if system.remembers:
            askings += arrivals(chance, HITS_PER_S, at_s, ends, PAID[:1], again, f"hits:{part}")
        if step:
            free = step * CAPACITY - paid
            askings += arrivals(chance, paid, at_s, ends, PAID, prompts.new, part)
            askings += arrivals(chance, free, at_s, ends, FREE, prompts.new, part)
            askings += arrivals(chance, paid, ends, ends + times.rest, PAID, prompts.new, "rest")
            ends += times.rest
        at_s = ends
    return stage.play(system, askings)


def repeats(stage: Stage, system: System) -> Ran:
    """One tenant, so that all may have what one got."""
    chance, prompts = Random(3), Prompts(3)
    draw = zipf(chance, prompts.some(200))
    ends = max(10.0, stage.times.step)
    return stage.play(system, list(arrivals(chance, 3 * CAPACITY, 0, ends, FREE[:1], draw)))


def equal(stage: Stage, system: System, count: int = 1_000) -> Ran:
    prompt = Prompts(4).new()
    return stage.play(system, [Asking(0.5, FREE[0], prompt)] * count)


def killed(stage: Stage, system: System) -> Ran:
    """With most of what one upstream can do, at half of the time. Parts `before` and `after`."""
    chance, prompts = Random(5), Prompts(5)
    begins, ends = stage.times.pair / 2, stage.times.pair
    rate = 0.7 * CAPACITY
    askings = [
        *arrivals(chance, rate, 0, begins, TENANTS, prompts.new, "before"),
        *arrivals(chance, rate, begins, ends, TENANTS, prompts.new, "after"),
    ]

    def meanwhile(upstreams: Sequence[Upstream]) -> load.Meanwhile:
        async def kill() -> None:
            os.kill(upstreams[0].server.pid, signal.SIGKILL)

        return [(begins, kill)]

    return stage.play(system, askings, meanwhile, _two())


def slower(stage: Stage, system: System) -> Ran:
    """Parts `first`, in which it is learned who is nearer; `before`, `change` (the next
    `FOLLOWS_S`), `after`."""
    chance, prompts = Random(6), Prompts(6)
    first, long = FOLLOWS_S, stage.times.pair
    slow = first + long
    bounds = {
        "first": (0.0, first),
        "before": (first, slow),
        "change": (slow, slow + FOLLOWS_S),
        "after": (slow + FOLLOWS_S, slow + FOLLOWS_S + long),
    }
    askings = [
        asking
        for part, (begins, ends) in bounds.items()
        for asking in arrivals(chance, CAPACITY / 4, begins, ends, TENANTS, prompts.new, part)
    ]

    def meanwhile(upstreams: Sequence[Upstream]) -> load.Meanwhile:
        async def slow_down() -> None:
            await asyncio.to_thread(upstreams[0].slow_down, 3.0)

        return [(slow, slow_down)]

    return stage.play(system, askings, meanwhile, _two())


def _two() -> Sequence[tuple[str, ...]]:
    return ("near",), ("far", "--ttft", str(FAR_TTFT_S))
