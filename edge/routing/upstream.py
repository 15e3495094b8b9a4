"""One upstream: what was said of it, what is known of it, and what asking it would cost.

The cost is in seconds, and asks how long a client would wait:

    (first token + share of failures x penalty) x load + length of answers / tokens a second

divided by the operator's weight. A failure is no fast answer: how long it took is not looked at,
and it costs what the operator says it is worth. The load is 1 until it is busy, then grows with
those that wait there already; what is learned of first tokens is divided by the load that they met,
so a choice sees at once what the choices before it have done.

While answers are outstanding, their silence is news too. If the oldest request that no later one
has overtaken has waited three times as long as it was to, then so, for all we know, will the next:
a choice need not wait for the slow answers to arrive to learn that they are slow.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from math import ceil, exp2, inf

from edge.routing.breaker import Breaker
from edge.routing.ceiling import Ceiling
from edge.routing.knee import Knee, Since, steady
from edge.routing.lane import Lane
from edge.routing.latency import LEAST_S, UNKNOWN_S, Latency, length_of
from edge.routing.limit import IN_USE, Limit
from edge.routing.maintenance import Drain
from edge.routing.need import Need, Usual
from edge.routing.recent import Record
from edge.routing.settings import LIMIT_MIN, UpstreamSettings
from index.entry import Instant

SPEED_SHARE = 0.05
"""How much one answer counts in the average speed."""
ROUND_TRIPS = 2.0
"""A new connection's handshakes, as a measure of how far an upstream is that was never asked."""
PAUSE_S_MAX = 2.0
"""An upstream that wants to be left alone for no longer is worth waiting for."""
CHANCE_ANSWERS = 3
"""So few answers may all have been slow by chance."""
LANES_MAX = 64
"""Models that are told apart: clients may name any, where the operator did not list them."""
UNTRIED = 256
"""So many may wait for a first token at a time while nothing speaks against it: to hold requests
back on suspicion, where a model thinks for a minute first, would refuse what it could bear."""
FULL = 0.9
"""From this share of what it takes on, it has as many requests as it takes."""
LATE, TOO_LATE = 0.8, 0.4
"""Who left while it was faster than the first, as usual is 1, did not leave because it was slow,
nor perhaps who left a stream that was faster than the second: some take twice as long as others by
themselves, and there are clients that do not wait for most of what they ask..."""
NOBODY_WAITS = 32
"""...unless so many left in a row, none of them in time, as far as that is known."""
_LONG_AGO = Instant(0.0)


@dataclass(slots=True, eq=False, repr=False)
class Upstream:
    settings: UpstreamSettings
    name: str
    models: frozenset[str]
    """Empty: takes any model."""
    breaker: Breaker = field(default_factory=Breaker)
    """Shut while it is down."""
    limit: Limit = field(init=False)
    ceiling: Ceiling = field(default_factory=Ceiling)
    knee: Knee = field(default_factory=Knee)
    record: Record = field(default_factory=Record)
    lanes: dict[str, Lane] = field(default_factory=dict)
    """By model, the one used last at the end."""
    tokens_per_s: float | None = None
    connect_s: float | None = None
    drain: Drain | None = None
    """By the operator: it gets no new requests."""
    ejected_until: Instant = _LONG_AGO
    ejections: int = 0
    in_flight: int = 0
    busy_s: float = 0.0
    """`in_flight`, summed over the time until `counted_at`."""
    counted_at: Instant = _LONG_AGO
    unanswered: int = 0
    """So many in a row were not waited for, and none of them came in time, as far as is known."""
    asked_at: Instant | None = None
    """When it was last asked, or first thought of."""
    waiting: dict[int, float] = field(default_factory=dict)
    """Calls without a first token, and what the load was when they began; see `_load`."""
    silent: dict[int, tuple[Instant, float]] = field(default_factory=dict)
    """Those of them that no later one has overtaken, oldest first: when they began, and how long
    they were to wait."""
    results: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    """Requests that failed here and were then sent elsewhere."""

    def __post_init__(self) -> None:
        most, first = self.settings.connections_max, self.settings.concurrency
        self.limit = Limit(most) if first is None else Limit(most, first, first)
        self.knee = Knee() if first is None else Knee(first)

    def __repr__(self) -> str:
        shut = "" if self.breaker.closed else " shut"
        return f"<Upstream {self.name}{shut} {self.in_flight} in flight>"

    @property
    def drained(self) -> bool:
        return self.drain is not None

    # What it may be asked.

    def serves(self, model: str) -> bool:
        return not self.models or model in self.models or self._alias(model) is not None

    def calls(self, model: str) -> str:
        """Its own name for the model."""
        return self._alias(model) or model

    def _alias(self, model: str) -> str | None:
        aliases = self.settings.aliases.items()
        return next((name for known, name in aliases if fnmatchcase(model, known)), None)

    def may_take(self, need: Need) -> bool:
        """By what was configured, whatever its health."""
        here = need.regions is None or self.settings.region in need.regions
        return here and self.serves(need.model) and (self.settings.tier != "local" or need.local)

    # How it is.

    def lane(self, model: str) -> Lane:
        found = self.lanes.get(model)
        if found is None:
            nearness_s = ROUND_TRIPS * (self.connect_s or 0.0)
            found = Lane(Latency(UNKNOWN_S + nearness_s))
        return found

    def sound(self, need: Need, now: Instant) -> bool:
        """Does all we know say that it works?"""
        lane = self.lane(need.model)
        closed = self.breaker.closed and lane.breaker.closed and now >= self.ejected_until
        return closed and not lane.doubted(now)

    def well(self, now: Instant) -> bool:
        """The same of some model at least."""
        lanes = self.lanes.values()
        willing = not lanes or any(one.breaker.closed and not one.doubted(now) for one in lanes)
        return willing and self.breaker.closed and now >= self.ejected_until

    def pauses(self, now: Instant) -> bool:
        """Did it say that it may be asked again, for whatever model, in a moment?"""
        waits = [lane.breaker.rests_until - now for lane in self.lanes.values()]
        return bool(waits) and min(waits) > 0 and min(waits) <= PAUSE_S_MAX

    def may_be_tried(self, need: Need, now: Instant) -> bool:
        """By one request at a time, to see."""
        lane = self.lane(need.model)
        if lane.doubted(now) and lane.waiting:
            return False
        return self.breaker.lets(now) and lane.breaker.lets(now) and now >= self.ejected_until

    def not_asked_since_shut(self, need: Need) -> bool:
        """Has nothing been sent to it after the time for which its breakers were shut last?"""
        opened = max(one.shut_until for one in (self.breaker, self.lane(need.model).breaker))
        return self.asked_at is not None and self.asked_at < opened

    def hardly_asked(self, need: Need) -> bool:
        """Has it answered, but so rarely that it may have been slow by chance?"""
        track = self.lane(need.model).latency.tracks[length_of(need.prompt_bytes)]
        return 0 < track.answers <= CHANCE_ANSWERS

    def rests_until(self, need: Need) -> Instant:
        """When it said that it may be asked again."""
        return max(self.breaker.rests_until, self.lane(need.model).breaker.rests_until)

    @property
    def out_until(self) -> Instant:
        """When it will be thought well again, as far as can be said."""
        lanes = (lane.breaker.open_until for lane in self.lanes.values())
        return max(self.breaker.open_until, self.ejected_until, *lanes)

    def bears(self, need: Need, now: Instant) -> float:
        """How many requests may wait for a first token at a time."""
        lane = self.lane(need.model).breaker
        recovers_s = min(self.breaker.recovered_for(now), lane.recovered_for(now))
        return min(self.limit.now, LIMIT_MIN * exp2(recovers_s))

    def full(self, need: Need, now: Instant) -> bool:
        many = self.in_flight >= self.at_once(now)
        return many or len(self.waiting) >= self.bears(need, now)

    def busy(self, need: Need, now: Instant) -> bool:
        return len(self.waiting) > IN_USE * self.bears(need, now)

    def spare(self, now: Instant) -> int:
        """How many more requests it bears, of whatever model, if it is well."""
        untried = UNTRIED if self.knee.most == inf else inf
        begin = min(untried, LIMIT_MIN * exp2(self.breaker.recovered_for(now)))
        return max(0, ceil(min(begin - len(self.waiting), int(self.at_once(now)) - self.in_flight)))

    def at_once(self, now: Instant) -> float:
        """How many it takes, as far as is known."""
        return min(self.settings.connections_max, self.knee.most, self.ceiling.now(now))

    # What it would cost.

    def cost_s(self, need: Need, now: Instant, usual: Usual) -> float:
        ttft_s = self.lane(need.model).latency.of(need.prompt_bytes).expect(now)
        failing_s = self.breaker.recent.share_bad(now) * usual.penalty_s
        return self._cost(ttft_s * self._overdue(now) + failing_s, need, now, usual)

    def best_cost_s(self, need: Need, now: Instant, usual: Usual) -> float:
        """What it would cost if it were as well as it has been."""
        ttft_s = self.lane(need.model).latency.of(need.prompt_bytes).usual_s
        return self._cost(ttft_s, need, now, usual)

    def _cost(self, ttft_s: float, need: Need, now: Instant, usual: Usual) -> float:
        writing_s = usual.answer_tokens / self.speed(usual)
        return (ttft_s * self._load(self.bears(need, now)) + writing_s) / self.settings.weight

    def _load(self, bears: float) -> float:
        """How many times as long as alone one more would wait, with those that wait already."""
        return max(1.0, (len(self.waiting) + 1) / (IN_USE * bears))

    def _overdue(self, now: Instant) -> float:
        for began, expected_s in self.silent.values():
            return max(1.0, (now - began) / expected_s)
        return 1.0

    def speed(self, usual: Usual) -> float:
        """In tokens a second."""
        return self.tokens_per_s or usual.tokens_per_s

    # What happens to it.

    def connected(self, connect_s: float) -> None:
        """A new connection took so long, TLS included."""
        self.connect_s = connect_s

    def begins(self, call: int, need: Need, now: Instant) -> Since:
        """A request to it begins, under a number of its own."""
        lane = self.lanes.pop(need.model, None) or self.lane(need.model)
        self.lanes[need.model] = lane  # at the end
        for idle in list(islice(self._idle_lanes(), max(0, len(self.lanes) - LANES_MAX))):
            del self.lanes[idle]
        lane.waiting += 1
        lane.breaker.asked()
        self.breaker.asked()
        self.count(now)
        self.in_flight += 1
        self.asked_at = now
        load = self._load(self.limit.now)
        expected_s = max(lane.latency.of(need.prompt_bytes).expect(now), LEAST_S)
        self.silent[call] = (now, expected_s * load)
        self.waiting[call] = load
        return Since(now, self.in_flight, self.busy_s)

    def answers(self, call: int, need: Need, ttft_s: float, began: Instant, now: Instant) -> None:
        """Its first token, after so long; any request older than this one is no news any more."""
        lane, waiting = self.lane(need.model), len(self.waiting)
        lane.news = lane.latency.observe(need.prompt_bytes, ttft_s, self.waiting[call], now)
        lane.norm.begun(need.prompt_bytes, ttft_s, now)
        self.limit.answered(max(ttft_s, LEAST_S), lane.news.usual_s, waiting)
        while call in self.silent:
            del self.silent[next(iter(self.silent))]
        self._no_longer_waits(call, need)
        # Now and not at the answer's end: failures are told at once, and the two are compared.
        if not self.breaker.closed and began >= self.breaker.since:
            self.record = Record()  # an outage is no habit
        self.record.note(now, good=True)
        self.breaker.answers(began, now)
        lane.breaker.answers(began, now)

    def speaks(self, need: Need, tokens: int, took_s: float, now: Instant) -> None:
        """It wrote so many tokens in that time."""
        self.lane(need.model).norm.written(tokens, took_s, now)
        before = self.tokens_per_s or tokens / took_s
        self.tokens_per_s = before + SPEED_SHARE * (tokens / took_s - before)

    def count(self, now: Instant) -> float:
        """How busy it has been until now, in requests times seconds."""
        self.busy_s += self.in_flight * (now - self.counted_at)
        self.counted_at = now
        return self.busy_s

    def over(
        self,
        need: Need,
        tokens: int,
        usual: Usual,
        since: Since,
        now: Instant,
        *,
        left: bool,
        streams: bool,
    ) -> None:
        """An answer has come to its end, or with so many tokens to that of its client's patience.
        Were there too many at a time?"""
        took_s = max(now - since.at, LEAST_S)
        norm = self.lane(need.model).norm
        speed = norm.of(need.prompt_bytes, tokens, 1 / self.speed(usual)) / took_s
        norm.answers += not left
        in_time = norm.known and speed > LATE
        self.unanswered = self.unanswered + 1 if left and not in_time else 0
        in_vain = norm.known and speed <= (TOO_LATE if streams else LATE)
        if left and not in_vain and self.unanswered < NOBODY_WAITS:
            return
        if not left and not (speed and steady(since.number, self.in_flight)):
            return
        number = (self.count(now) - since.busy_s) / took_s
        full = number >= FULL * self.at_once(now)
        self.knee.observe(number, 0.0 if left else speed, since.at, now, full=full)

    def refused(self, need: Need, began: Instant, now: Instant, wait_s: float | None) -> bool:
        """The model's rate limit is reached, for so long if it said so; or it has more requests at
        a time than it takes. Is it the latter, for all we know?"""
        lane = self.lane(need.model)
        used_up_s = lane.allowances.empty_for(now)
        lane.breaker.refused(began, now, wait_s or used_up_s or None)
        self.breaker.answers(began, now)
        self.limit.refused()
        return not used_up_s and self.ceiling.refused(self.in_flight - 1, began, now)

    def ends(self, call: int, need: Need, result: str, now: Instant) -> None:
        self.count(now)
        self.in_flight -= 1
        self._no_longer_waits(call, need)
        self.silent.pop(call, None)
        self.results[result] = self.results.get(result, 0) + 1

    def abandoned(self, call: int, need: Need, waited_s: float, now: Instant) -> None:
        """Its client left, or took another's answer. A first token that it did not wait for any
        longer would have come later than that, which is news if it was to come sooner."""
        lane, load = self.lane(need.model), self.waiting.get(call)
        if load is not None and waited_s > load * lane.latency.of(need.prompt_bytes).expect(now):
            lane.news = lane.latency.observe(need.prompt_bytes, waited_s, load, now)
        self.breaker.abandoned()
        lane.breaker.abandoned()

    def check(self) -> None:
        """What must hold at any time."""
        assert self.silent.keys() <= self.waiting.keys()
        assert len(self.waiting) == sum(lane.waiting for lane in self.lanes.values())
        assert len(self.waiting) <= self.in_flight

    def _no_longer_waits(self, call: int, need: Need) -> None:
        if self.waiting.pop(call, None) is not None:
            self.lane(need.model).waiting -= 1

    def _idle_lanes(self) -> list[str]:
        """Those that nobody waits in, the one longest unused first."""
        return [model for model, lane in self.lanes.items() if not lane.waiting]
