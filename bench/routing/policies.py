"""Other ways to choose an upstream, each as far as its choice goes, to compare ours with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp
from random import Random

from edge.errors import UpstreamError
from tests.fakes.regions import Region

TAU_S, FORGET_S, PROBE_S = 5.0, 15.0, 5.0


@dataclass
class Known:
    """What a policy knows of one upstream."""

    name: str
    prior_s: float
    in_flight: int = 0
    value_s: float = 0.0
    at: float = 0.0
    asked_at: float = 0.0
    not_before: float = 0.0
    latencies: list[float] = field(default_factory=list)


@dataclass
class Attempt:
    policy: "Policy"
    to: Known
    began: float
    tried: list[str]
    ttft_s: float = 0.0

    @property
    def name(self) -> str:
        return self.to.name

    def answers(self, now: float) -> None:
        self.ttft_s = now - self.began
        self.policy.answered(self.to, self.ttft_s, now)

    def succeeded(self, now: float, tokens: int) -> None:
        self.to.in_flight -= 1
        self.policy.ended(self.to, self.ttft_s, tokens)

    def abandoned(self, now: float) -> None:
        self.to.in_flight -= 1


class Policy:
    """Chooses in `pick`, learns in `answered` and `failed`. This one: the nearest, and another only
    when that fails."""

    name = "nearest, another on errors only"

    def __init__(self, regions: Sequence[Region], seed: int) -> None:
        self.all = [Known(one.name, one.ttft_s, value_s=one.ttft_s) for one in regions]
        self.chance = Random(seed)

    def first(self, now: float) -> Attempt:
        return self._attempt([], now)

    def next(self, after: Attempt, error: UpstreamError, now: float) -> Attempt | None:
        after.to.in_flight -= 1
        self.failed(after.to, error, now)
        tried = [*after.tried, after.name]
        return None if len(tried) == len(self.all) else self._attempt(tried, now)

    def late_after_s(self, handle: Attempt) -> float | None:
        return None

    def hedge(self, beside: Attempt, now: float) -> Attempt | None:
        return None

    def _attempt(self, tried: list[str], now: float) -> Attempt:
        able = [one for one in self.all if one.name not in tried]
        one = self.pick([one for one in able if one.not_before <= now] or able, now)
        one.in_flight += 1
        one.asked_at = now
        return Attempt(self, one, now, tried)

    def pick(self, able: list[Known], now: float) -> Known:
        return able[0]

    def answered(self, one: Known, ttft_s: float, now: float) -> None:
        pass

    def ended(self, one: Known, ttft_s: float, tokens: int) -> None:
        pass

    def failed(self, one: Known, error: UpstreamError, now: float) -> None:
        pass

    def two(self, able: list[Known]) -> list[Known]:
        return self.chance.sample(able, 2) if len(able) > 2 else able


class LeastInFlight(Policy):
    name = "least in flight, two choices"

    def pick(self, able: list[Known], now: float) -> Known:
        return min(self.two(able), key=lambda one: one.in_flight)


class LatencyList(Policy):
    """LiteLLM's `lowest_latency`: the wait by answer token, in a list of ten whose nine oldest
    stay; a failure cools down for 5 s whatever it says."""

    name = "LiteLLM-style list"

    def pick(self, able: list[Known], now: float) -> Known:
        return min(able, key=lambda one: sum(one.latencies) / max(1, len(one.latencies)))

    def ended(self, one: Known, ttft_s: float, tokens: int) -> None:
        one.latencies = [*one.latencies[:9], ttft_s / tokens]

    def failed(self, one: Known, error: UpstreamError, now: float) -> None:
        one.not_before = now + 5.0


class Average(Policy):
    name = "EWMA, minimum, no probe"

    def pick(self, able: list[Known], now: float) -> Known:
        return min(able, key=lambda one: one.value_s)

    def answered(self, one: Known, ttft_s: float, now: float) -> None:
        share = 1 - exp(-(now - one.at) / TAU_S)
        one.value_s += share * (ttft_s - one.value_s)
        one.at = now

    def failed(self, one: Known, error: UpstreamError, now: float) -> None:
        one.not_before = now + (error.wait_s or 1.0)


class PeakTwoChoices(Average):
    """Finagle's and linkerd's."""

    name = "peak EWMA x in flight, two choices"

    def pick(self, able: list[Known], now: float) -> Known:
        return min(self.two(able), key=lambda one: one.value_s * (1 + one.in_flight))

    def answered(self, one: Known, ttft_s: float, now: float) -> None:
        if ttft_s > one.value_s:
            one.value_s, one.at = ttft_s, now
        else:
            super().answered(one, ttft_s, now)


class PeakProbed(PeakTwoChoices):
    name = "peak EWMA, decay, probes, minimum"

    def pick(self, able: list[Known], now: float) -> Known:
        best = min(able, key=lambda one: self._expect(one, now))
        due = (one for one in able if one is not best and now - one.asked_at >= PROBE_S)
        return next(due, best)

    def answered(self, one: Known, ttft_s: float, now: float) -> None:
        one.value_s = self._expect(one, now)
        super().answered(one, ttft_s, now)

    def _expect(self, one: Known, now: float) -> float:
        return one.prior_s + (one.value_s - one.prior_s) * exp((one.at - now) / FORGET_S)


POLICIES: tuple[type[Policy], ...] = (
    Policy,
    LeastInFlight,
    LatencyList,
    Average,
    PeakTwoChoices,
    PeakProbed,
)
