"""The upstreams of a node, and the way of one request among them.

A `Trip` is one request on its way: `next` says whom to call, and again whom if that failed. Another
upstream is tried only while no token has come. Where a connection was lost or a model is not there,
that is always done: it has cost the upstream nothing. Any other failure has perhaps cost it its
work, so going on is a retry, and needs the budget.
"""

from collections.abc import Callable, Iterable, Sequence
from math import inf
from random import Random

from edge.errors import ClientError, EdgeError, Overloaded, UpstreamError, after_s
from edge.routing.budget import Budget
from edge.routing.call import Call
from edge.routing.choice import Choice
from edge.routing.maintenance import Drain, Window, refusal, windows
from edge.routing.need import Need, Usual
from edge.routing.settings import MaintenanceSettings, RoutingSettings
from edge.routing.upstream import UNTRIED, Upstream
from index.entry import Instant, Timestamp

RETRIES_PER_S_MIN = 1.0
RETRIES_FIRST = 10.0
SECOND_TURNS_PER_S = 1.0
"""How many that were refused since an upstream had too many may wait and be sent once more. A crowd
of those that were sent to find that out has it at once; for ever it would be a second crowd."""
DRAINED_RETRY_S = 60
"""When to come again if every upstream was drained by hand, which says not until when."""


class Pool:
    def __init__(
        self,
        upstreams: Iterable[Upstream],
        chance: Random,
        settings: RoutingSettings | None = None,
        maintenance: Iterable[MaintenanceSettings] = (),
    ) -> None:
        settings = settings or RoutingSettings()
        self.upstreams = list(upstreams)
        self.usual = Usual(penalty_s=settings.failure_penalty_s)
        self.retries = Budget(settings.retry_share_max, RETRIES_PER_S_MIN, RETRIES_FIRST)
        self.hedges = Budget(settings.hedge_share_max)
        self.second_turns = Budget(0.0, SECOND_TURNS_PER_S, balance=UNTRIED, most=UNTRIED)
        self.choice = Choice(self.usual, settings.probe_interval_s, chance)
        self.hedging = settings.hedge
        self.drains: dict[str, Drain] = {}
        """By name: what the operator took out of service."""
        self._maintenance = tuple(maintenance)
        self._calls = 0

    def __repr__(self) -> str:
        return f"<Pool {self.upstreams}>"

    def trip(self, need: Need, now: Instant, wall: Timestamp) -> "Trip":
        """A request sets out.

        Raises:
            Overloaded: there is no upstream yet.
            ClientError: none serves what is needed.
        """
        if not self.upstreams:
            raise Overloaded(
                "No model can answer on this node: the demonstration model is loading, or no "
                "upstream is configured (the log says which). Try again shortly.",
                code="no_upstream",
                retry_after_s=2,
            )
        able = self.able(need)
        if not able:
            raise self._unknown(need)
        choice = self.choice
        for budget in (self.retries, self.hedges, choice.probes, choice.first_probes):
            budget.earn(now)
        return Trip(self, need, able, self.resting(wall))

    def able(self, need: Need) -> "tuple[Upstream, ...]":
        """Those that may be sent it, as far as was configured."""
        return tuple(one for one in self.upstreams if one.may_take(need))

    def spare(self, able: Iterable[Upstream], now: Instant, wall: Timestamp) -> int | None:
        """How many more requests they bear, all together; None: none of them is to be asked, and
        whoever sets out will be told that at once.

        Those that are thought down count only where all are: one of them is asked then. None that
        wants to be left alone for a moment is, as a moment can be waited for. A local
        one counts where there is no other: it stands in for others that do not work, not for
        others that are full.
        """
        resting = self.resting(wall)
        left = [one for one in able if not one.drained and one.name not in resting]
        well = [one for one in left if one.well(now)]
        if not left:
            return None
        left = well or [one for one in left if not one.pauses(now)]
        others = [one for one in left if one.settings.tier != "local"]
        return sum(one.spare(now) for one in others or left)

    def number(self) -> int:
        """Of the next call."""
        self._calls += 1
        return self._calls

    def resting(self, wall: Timestamp) -> dict[str, Window]:
        """The upstreams in maintenance, by name."""
        return {one.upstream: one for one in self.windows(wall) if one.holds(wall)}

    def windows(self, wall: Timestamp) -> list[Window]:
        return windows(self._maintenance, wall)

    def find(self, name: str) -> Upstream | None:
        return next((one for one in self.upstreams if one.name == name), None)

    def add(self, one: Upstream) -> None:
        one.drain = self.drains.get(one.name)
        self.upstreams.append(one)

    def drain(self, name: str, drain: Drain) -> None:
        """Send it no new requests from now on. It need not be there yet."""
        self.drains[name] = drain
        self._tell_drains()

    def resume(self, name: str) -> None:
        self.drains.pop(name, None)
        self._tell_drains()

    def _tell_drains(self) -> None:
        for one in self.upstreams:
            one.drain = self.drains.get(one.name)

    def remove(self, name: str) -> None:
        self.upstreams[:] = [one for one in self.upstreams if one.name != name]

    def check(self) -> None:
        for one in self.upstreams:
            one.check()

    def _unknown(self, need: Need) -> ClientError:
        names = sorted({name for one in self.upstreams for name in one.models})
        said = f"The model {need.model!r} does not exist on this node."
        if need.regions is not None and any(one.serves(need.model) for one in self.upstreams):
            where = ", ".join(need.regions) or "no region"
            said = (
                f"No upstream in {where} has the model {need.model!r}, and it may go nowhere else."
            )
        return ClientError(
            f"{said} Models here: {', '.join(names)}.",
            status=404,
            code="model_not_found",
            param="model",
        )


class Trip:
    def __init__(
        self, pool: Pool, need: Need, able: Sequence[Upstream], closed: dict[str, Window]
    ) -> None:
        self._pool = pool
        self._need = need
        self._able = able
        self._left = [one for one in able if not one.drained and one.name not in closed]
        self._closed = [closed[one.name] for one in able if one.name in closed and not one.drained]
        self.calls: list[Call] = []
        self.winner: Call | None = None
        """The call whose first token came first: from then on nobody else is called."""
        self.on_answer: Callable[[Call], None] | None = None

    def first(self, now: Instant, wall: Timestamp) -> Call:
        """Whom to call. Raises Overloaded when all want to be left alone."""
        chosen = self._choose(now) or self._all_the_same(now)
        if chosen is None:
            raise self._busy(now, wall)
        return self._call(chosen, now)

    def next(self, after: Call, error: EdgeError, now: Instant) -> Call | None:
        """Whom to call after that failed; None if that is how it ends."""
        if self.winner is not None or not _elsewhere_better(error):
            return None
        chosen = self._choose(now) or self._all_the_same(now)
        if chosen is None or not (_cost_nothing(error) or self._pool.retries.spend(now)):
            return None
        after.upstream.retries += 1
        return self._call(chosen, now)

    def hedge(self, now: Instant) -> Call | None:
        """A second one to call beside the first, if there is one that is well and the budget."""
        chosen = self._choose(now)
        if chosen is None or not self._pool.hedges.spend(now):
            return None
        return self._call(chosen, now)

    def unanimous(self, now: Instant) -> bool:
        """Was the request found at fault by whoever was asked, while no other was out of reach that
        might have thought otherwise?"""
        there = len(self._able) == len(self._left) + len(self.calls)
        at_fault = all(call.result == "declined" for call in self.calls)
        return there and at_fault and all(one.well(now) for one in self._able)

    def again_s(self, now: Instant) -> int:
        """When to come again, if whoever was asked did not say."""
        out = {*self._left, *(call.upstream for call in self.calls)}
        waits = [max(one.rests_until(self._need), one.out_until) - now for one in out]
        return after_s(min(waits), self._draw())

    def _choose(self, now: Instant) -> Upstream | None:
        return self._pool.choice.among(self._left, self._need, now)

    def _all_the_same(self, now: Instant) -> Upstream | None:
        """That one is down is a guess, which must not turn into an outage of our own making. The
        one that was to be asked soonest; never one that said itself that it does not want to be."""
        guessed = [one for one in self._left if now >= one.rests_until(self._need)]
        return min(guessed, key=lambda one: one.out_until, default=None)

    def _call(self, chosen: Upstream, now: Instant) -> Call:
        self._left.remove(chosen)
        pool = self._pool
        call = Call(
            chosen, self._need, pool.usual, pool.upstreams, pool.number(), now, self._answers
        )
        self.calls.append(call)
        return call

    def _answers(self, call: Call) -> None:
        self.winner = call
        if self.on_answer is not None:
            self.on_answer(call)

    def _busy(self, now: Instant, wall: Timestamp) -> Overloaded:
        waits = [one.rests_until(self._need) - now for one in self._left]
        ends = min((window.ends for window in self._closed), default=None)
        if ends is not None and ends - wall <= min(waits, default=inf):
            return refusal(ends, wall, self._draw())
        what = (
            "is at its rate limit or out of service."
            if waits
            else "was taken out of service, and nobody said until when."
        )
        wait_s = after_s(min(waits, default=DRAINED_RETRY_S), self._draw())
        return Overloaded(
            f"Every upstream that could answer {what} Try again in {wait_s} s.",
            code="upstreams_unavailable",
            retry_after_s=wait_s,
        )

    def _draw(self) -> float:
        return self._pool.choice.chance.random()


def _elsewhere_better(error: EdgeError) -> bool:
    """Might another upstream do what this one did not? A model that it lacks the next may have."""
    return isinstance(error, UpstreamError) or error.status == 404


def _cost_nothing(error: EdgeError) -> bool:
    return error.status == 404 or (isinstance(error, UpstreamError) and error.connection_lost)
