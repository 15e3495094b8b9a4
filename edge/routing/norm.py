"""How long answers normally take, so that one of ten tokens can be compared with one of a thousand.

What is normal moves over hours, not over minutes: a crowd that slows all answers down for a quarter
of an hour must not become the measure of itself.
"""

from dataclasses import dataclass, field
from math import exp

from edge.routing.latency import LENGTHS_BYTES, length_of
from index.entry import Instant

FIRST_ANSWERS = 8
"""So many are averaged before the average becomes slow."""
TAU_S = 3600.0
_LONG_AGO = Instant(0.0)


@dataclass(slots=True)
class Slow:
    """An average over hours."""

    value: float = 0.0
    answers: int = 0
    at: Instant = _LONG_AGO

    def observe(self, value: float, now: Instant) -> None:
        self.answers += 1
        slowly = 1 - exp((self.at - now) / TAU_S)
        share = 1 / self.answers if self.answers <= FIRST_ANSWERS else slowly
        self.value += share * (value - self.value)
        self.at = now


@dataclass(slots=True)
class Norm:
    first_s: list[Slow] = field(default_factory=lambda: [Slow() for _ in (*LENGTHS_BYTES, None)])
    """Until the first token, by length of prompt."""
    token_s: Slow = field(default_factory=Slow)
    answers: int = 0
    """That were waited for to their end."""

    def begun(self, prompt_bytes: int, ttft_s: float, now: Instant) -> None:
        self.first_s[length_of(prompt_bytes)].observe(ttft_s, now)

    def written(self, tokens: int, took_s: float, now: Instant) -> None:
        self.token_s.observe(took_s / tokens, now)

    @property
    def known(self) -> bool:
        """Is it more than a guess?"""
        return self.answers >= FIRST_ANSWERS

    def of(self, prompt_bytes: int, tokens: int, token_s: float) -> float:
        """Seconds to the end, at `token_s` a token unless better is known; 0: that is unknown."""
        first_s = self.first_s[length_of(prompt_bytes)]
        if self.token_s.answers:
            token_s = self.token_s.value
        return first_s.value + tokens * token_s if first_s.answers else 0.0
