"""How long an upstream lets wait for the first token.

Time to first token grows with the prompt, so each of a few lengths has a track of its own. A track
is a *peak-sensitive* moving average, after Finagle's `peak_ewma`: what is worse than expected
counts with each answer, what is better only as time passes, so that a choice made from it leaves a
slow upstream within a few answers and comes back with some care.

Without answers there is no news, and old news is worth less and less: the average decays to what
the upstream takes when it is well (`usual`). That one is a low quantile, moved by no more than so
much per second of time, whatever the number of answers: a minute of trouble hardly lifts it, so it
says how near an upstream could be while it is not.
"""

from bisect import bisect
from dataclasses import dataclass, field
from math import exp, log

from index.entry import Instant

LENGTHS_BYTES = (2_000, 16_000, 128_000)
"""Where one length of prompt ends and the next begins: about 500, 4,000 and 32,000 tokens."""

UNKNOWN_S = 0.5
"""What is expected of an upstream that nobody has asked yet."""
TAU_S = 2.0
"""How long it takes for better answers to count for two thirds, where they are few."""
ATTACK, RELEASE = 0.2, 0.1
"""How much of the difference a single worse answer counts, and a better one at least. A whole and
nothing would be the peak itself, and take each upstream for as slow as its slowest answer of late:
the busier, the worse it would look. What a peak is for, to notice trouble at once, `Upstream` does
by the silence before such an answer."""
FORGET_S = 15.0
"""How long it takes without any answer until two thirds of what was known is forgotten."""
QUANTILE = 0.2
RISE = 0.02
"""Of its own size a second, `usual` rises by QUANTILE times this and falls by the rest of it."""
FIRST_ANSWERS = 8
"""So many answers are averaged before `usual` moves as slowly as that."""
TAIL, TAIL_STEP = 0.99, 0.05
"""The late answers: `tail_s` moves until one of a hundred is later. In good times that takes half
of the hedges that there may be, and leaves as many for when trouble begins."""
LEAST_S = 1e-4
"""Nothing is faster. Keeps logarithms and ratios finite."""


def length_of(prompt_bytes: int) -> int:
    return bisect(LENGTHS_BYTES, prompt_bytes)


@dataclass(slots=True)
class Track:
    """One length of prompt at one upstream. Times in seconds."""

    value_s: float = UNKNOWN_S
    usual_s: float = UNKNOWN_S
    tail_s: float = UNKNOWN_S
    at: Instant | None = None
    answers: int = 0

    def observe(self, waited_s: float, load: float, now: Instant) -> None:
        ttft_s = max(waited_s / load, LEAST_S)
        if self.at is None:
            self.value_s = self.usual_s = self.tail_s = ttft_s
        else:
            since_s = now - self.at
            expected = self.expect(now)
            release = max(RELEASE, 1 - exp(-since_s / TAU_S))
            share = ATTACK if ttft_s > expected else release
            self.value_s = expected + share * (ttft_s - expected)
            self._learn(ttft_s, since_s)
            self.tail_s *= exp(TAIL_STEP * (TAIL - (waited_s < self.tail_s)))
        self.answers += 1
        self.at = now

    def expect(self, now: Instant) -> float:
        if self.at is None:
            return self.value_s
        return self.usual_s + (self.value_s - self.usual_s) * exp((self.at - now) / FORGET_S)

    def _learn(self, ttft_s: float, since_s: float) -> None:
        below = ttft_s < self.usual_s
        if self.answers < FIRST_ANSWERS:
            self.usual_s *= (ttft_s / self.usual_s) ** (1 / (self.answers + 1))
        else:
            step = RISE * min(since_s, FORGET_S) * (QUANTILE - below)
            self.usual_s *= exp(max(step, log(ttft_s / self.usual_s)) if below else step)


@dataclass(slots=True)
class Latency:
    """An upstream's tracks, by length of prompt."""

    unknown_s: float = UNKNOWN_S
    tracks: list[Track] = field(default_factory=lambda: [Track() for _ in range(4)])

    def observe(self, prompt_bytes: int, ttft_s: float, load: float, now: Instant) -> Track:
        track = self.tracks[length_of(prompt_bytes)]
        track.observe(ttft_s, load, now)
        return track

    def of(self, prompt_bytes: int) -> Track:
        """The track for this length or, where nothing is known of it, for the nearest that is."""
        at = length_of(prompt_bytes)
        known = [i for i, track in enumerate(self.tracks) if track.answers]
        if not known:
            return Track(self.unknown_s, self.unknown_s, self.unknown_s)
        return self.tracks[min(known, key=lambda i: (abs(i - at), i))]
