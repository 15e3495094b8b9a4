"""How fast, in which hours, for how much: the limits of a job, from values and `now`.

Rate is a bucket of one call: it fills at the rate, a call takes it, and a call that turned out not
to have asked the upstream gives it back, so that what is cached already costs no time. Quiet hours
are hours on a wall in some time zone, whatever daylight saving does to them: between two times, or
over midnight. Money and tokens are reserved by estimate before a call and settled after it, so that
calls in flight together cannot overrun the budget but by what an estimate was wrong.
"""

import datetime as dt
import re
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from index.entry import Instant, Timestamp

ANSWER_TOKENS = 300
"""What an answer is taken to cost until some have come; then it is their mean."""
_RATE = re.compile(r"(\d+(?:\.\d+)?)/(s|m|min|h)")
_PER_S = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BETWEEN = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h|d)?")
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds(text: str) -> float:
    """`90`, `90s`, `15min`, `12h` or `7d`. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip())
    if not found or not float(found[1]):
        raise ValueError(f"{text!r} is no duration: write 90s, 15min, 12h or 7d")
    return float(found[1]) * _SECONDS[found[2] or "s"]


class Rate:
    """Calls a second; None: no limit."""

    def __init__(self, per_s: float | None = None) -> None:
        self._interval_s = 1 / per_s if per_s else 0.0
        self._next = Instant(float("-inf"))

    @classmethod
    def read(cls, text: str) -> "Rate":
        """`2/s`, `30/min` or `500/h`. Raises ValueError."""
        found = _RATE.fullmatch(text.strip())
        if not found or not float(found[1]):
            raise ValueError(f"{text!r} is no rate: write 2/s, 30/min or 500/h")
        return cls(float(found[1]) / _PER_S[found[2]])

    def wait_s(self, now: Instant) -> float:
        """Seconds until a call may be made; 0: now."""
        return max(0.0, self._next - now)

    def take(self, now: Instant) -> None:
        self._next = Instant(max(self._next, now) + self._interval_s)

    def give_back(self) -> None:
        self._next = Instant(self._next - self._interval_s)

    def time_s(self, calls: int) -> float | None:
        """How long so many calls take at least; None without a limit."""
        return calls * self._interval_s if self._interval_s else None


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` to `end` each day, by the clocks of `zone` (None: this machine's)."""

    begin: dt.time
    end: dt.time
    zone: ZoneInfo | None = None

    @classmethod
    def read(cls, text: str, zone: ZoneInfo | None = None) -> "QuietHours":
        """`01:00-06:00`, or over midnight `22:00-06:00`. Raises ValueError."""
        found = _BETWEEN.fullmatch(text.strip())
        try:
            if not found:
                raise ValueError
            begin = dt.time(int(found[1]), int(found[2]))
            end = dt.time(int(found[3]) % 24, int(found[4]))  # 24:00 is the next day's 00:00
        except ValueError:
            raise ValueError(f"{text!r} are no hours: write 01:00-06:00") from None
        if begin == end:
            raise ValueError(f"{text!r} never ends, or never begins")
        return cls(begin, end, zone)

    def wait_s(self, now: Timestamp) -> float:
        """Seconds until they begin; 0: it is quiet now."""
        here = dt.datetime.fromtimestamp(now, dt.UTC).astimezone(self.zone)
        if self._holds(here.time()):
            return 0.0
        opens = dt.datetime.combine(here.date(), self.begin)
        if here.time() >= self.begin:
            opens += dt.timedelta(days=1)
        # An hour that daylight saving skips has the offset from before, so it is a real moment.
        moment = opens.replace(tzinfo=self.zone) if self.zone else opens.astimezone()
        return max(1.0, moment.timestamp() - now)

    def _holds(self, time: dt.time) -> bool:
        if self.begin < self.end:
            return self.begin <= time < self.end
        return time >= self.begin or time < self.end

    def __str__(self) -> str:
        where = self.zone.key if self.zone else "local time"
        return f"{self.begin:%H:%M}-{self.end:%H:%M} {where}"


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars for a million tokens."""

    prompt_usd: float = 0.0
    answer_usd: float = 0.0

    def usd(self, spent: "Tokens") -> float:
        return (spent.prompt * self.prompt_usd + spent.answer * self.answer_usd) / 1e6

    @property
    def known(self) -> bool:
        return bool(self.prompt_usd or self.answer_usd)


@dataclass(frozen=True, slots=True)
class Tokens:
    prompt: int = 0
    answer: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt + other.prompt, self.answer + other.answer)

    def __sub__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt - other.prompt, self.answer - other.answer)

    @property
    def total(self) -> int:
        return self.prompt + self.answer


NONE = Tokens()


@dataclass(slots=True)
class Budget:
    """What may be spent, what is, and what calls in flight may still come to."""

    prices: Prices = field(default_factory=Prices)
    tokens_max: int | None = None
    usd_max: float | None = None
    spent: Tokens = NONE
    reserved: Tokens = NONE
    _answers: int = 0
    _answer_tokens: int = 0

    def estimate(self, prompt_tokens: int, answer_tokens_max: int | None) -> Tokens:
        answer = self._answer_tokens // self._answers if self._answers else ANSWER_TOKENS
        return Tokens(prompt_tokens, min(answer, answer_tokens_max or answer))

    def affords(self, more: Tokens) -> bool:
        would = self.spent + self.reserved + more
        return (self.tokens_max is None or would.total <= self.tokens_max) and (
            self.usd_max is None or self.prices.usd(would) <= self.usd_max
        )

    def reserve(self, estimate: Tokens) -> None:
        self.reserved += estimate

    def settle(self, estimate: Tokens, actual: Tokens) -> None:
        """A call that was reserved for is over, and cost `actual`: nothing if none was made."""
        self.reserved -= estimate
        self.spent += actual
        if actual.answer:
            self._answers += 1
            self._answer_tokens += actual.answer

    @property
    def spent_usd(self) -> float:
        return self.prices.usd(self.spent)
