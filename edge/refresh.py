"""Stored answers fetched anew while nobody waits for it.

    swr     it had expired and was served all the same (RFC 5861, 3)
    ahead   it is about to expire, and is asked for often: so the next to ask need not wait

Either is set off by a request that was answered from memory, so what nobody asks for any more is
left to expire. It goes the way of any prompt that comes with `no-cache`, in the name and at the
cost of whoever asked, but behind all who wait; one that is ahead of time is not made at all unless
upstreams have as much room left as is in use. There is one at a time for each prompt, and none soon
after one that came to nothing. What comes takes the place of what was there at once, or not at all.

Somebody else may have fetched anew by now what has expired: what the region shares and other nodes
are asked before an upstream is. Before it expires they are not: they would mostly have the same.
Whoever has to wait, as it expired for good meanwhile, waits for the call that runs (`edge.fill`).

What was put here on purpose and pinned is left alone until it has expired, as was promised, and
stays where it was put: nothing comes of it for all tenants (`edge.sharing`). Labels stay, as
somebody may know the answer by them: the new one is purged by what would have purged the old. And
it is found by meaning if the old one was, be it that whoever set it off wants no such one.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, assert_never

from annotated_types import Ge, Gt, Interval

from edge.ask import Ask, Curation, Query
from edge.collapse import Collapse, Flight, Found, Spawn, Whole
from edge.errors import EdgeError, Overloaded, OverQuota
from edge.metrics import Metrics
from edge.routing.budget import BALANCE_MAX, Budget
from index.entry import CacheKey, Entry, Instant, NodeName, Scope, Timestamp
from index.memory import Hot

log = logging.getLogger("refresh")

REST_S = 30.0
"""After one that came to nothing, until the same prompt is tried again."""
RESTING_MAX = 4_096
LABELS_KEPT_MAX = 32
"""One with more has them from an upstream that may name others each time: they would pile up."""

Why = Literal["swr", "ahead"]
Name = tuple[Literal["refresh"], Scope, CacheKey, tuple[str, ...] | None, int]


@dataclass(frozen=True, slots=True)
class RefreshSettings:
    """Popular answers are fetched anew before they expire, so that nobody waits for them. It costs
    a call for what might not have been asked for again, and is paid by whoever asked last."""

    share: Annotated[float, Interval(ge=0, le=0.5)] = 0.1
    """The last part of an answer's life, in which it is fetched anew when it is asked for; for one
    that came from another node half as long, so that its own node does so first. 0: never."""
    hits_min: Annotated[int, Gt(0)] = 3
    """How often it must have been served from memory by then."""
    per_s: Annotated[float, Ge(0)] = 1.0
    """How many may be fetched so in a second; up to 20 are saved up."""


class Refresh:
    def __init__(
        self,
        settings: RefreshSettings,
        collapse: Collapse,
        fill: Callable[[Ask, Flight], Coroutine[Any, Any, None]],
        spawn: Spawn,
        metrics: Metrics,
        node: NodeName,
        *,
        purges: Callable[[], int],
        monotonic: Callable[[], Instant],
        new_id: Callable[[], str],
    ) -> None:
        """`purges` grows with every purge: what began before one is not what is wanted after it."""
        self._settings = settings
        self._collapse = collapse
        self._fill = fill
        self._spawn = spawn
        self._metrics = metrics
        self._node = node
        self._purges = purges
        self._monotonic = monotonic
        self._new_id = new_id
        saved_up = BALANCE_MAX if settings.per_s else 0.0
        self._budget = Budget(0.0, settings.per_s, balance=saved_up)
        self._running: set[Name] = set()
        self._rests: OrderedDict[Name, Instant] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Refresh {len(self._running)} run, {len(self._rests)} rest>"

    def revalidate(self, ask: Ask, entry: Entry) -> None:
        """It had expired, and was served. One whose answer may not be kept here is no help."""
        allowed = ask.query.allowed
        if allowed.store and not allowed.only_if_cached:
            self._start(ask, entry, "swr")

    def served(self, ask: Ask, hot: Hot, now: Timestamp) -> None:
        """It is fresh, and was served to the very request. Is it time?"""
        entry, share = hot.entry, self._settings.share
        if entry.stored_by != self._node:
            share /= 2
        due = entry.expires_at - now <= share * (entry.expires_at - entry.stored_at)
        if not due or hot.served < self._settings.hits_min or entry.pinned:
            return
        name = name_of(ask.query, self._purges())
        if ask.query.allowed.plain and self._may(name) and self._budget.spend(self._monotonic()):
            self._start(ask, entry, "ahead")

    def _may(self, name: Name) -> bool:
        return name not in self._running and self._monotonic() >= self._rests.get(name, 0.0)

    def _start(self, ask: Ask, entry: Entry, why: Why) -> None:
        name = name_of(ask.query, self._purges())
        if not self._may(name):
            return
        again = self._again(ask, entry, why)
        flight, _ = self._collapse.join(name, lambda one: self._fill(again, one))
        flight.hold()
        self._running.add(name)
        self._spawn(self._ended(name, flight, why), f"refresh {again.request_id}")

    def _again(self, ask: Ask, entry: Entry, why: Why) -> Ask:
        query = ask.query
        labels = entry.labels if len(entry.labels) <= LABELS_KEPT_MAX else ()
        mode = query.allowed.mode if entry.question is None else query.route.mode
        query = replace(
            query,
            call=replace(query.call, stream=False),
            allowed=replace(query.allowed, mode=mode, lookup=False),
            route=replace(query.route, local=False),  # a stand-in's answer is not stored
            shared_key=None if entry.pinned else query.shared_key,
            curation=Curation(labels, entry.pinned and entry.scope == query.scope),
        )
        again = Ask(query, self._monotonic(), self._new_id(), ask.client, background=True)
        if why == "ahead":
            again.queue_s_max = 0.0
        elif not entry.pinned:
            again.expired = entry
        return again

    async def _ended(self, name: Name, flight: Flight, why: Why) -> None:
        result = "failed"
        try:
            result = _result(await flight.whole())
        except (Overloaded, OverQuota):
            result = "refused"
        except EdgeError as error:
            log.info("event=refresh_failed status=%d code=%s", error.status, error.code)
        finally:
            flight.release()
            self._running.discard(name)
        self._metrics.refreshed(why, result)
        if result not in ("stored", "found"):
            self._rests[name] = Instant(self._monotonic() + REST_S)
            if len(self._rests) > RESTING_MAX:
                self._rests.popitem(last=False)


def name_of(query: Query, purges: int) -> Name:
    """Under which a flight is found that fetches its answer anew. After a purge it is another, and
    for a key of the tenant whose prompts may not go to the same regions."""
    return "refresh", query.scope, query.key, query.regions, purges


def replaces(found: Entry, old: Entry, now: Timestamp) -> bool:
    """May another node's answer take the place of one that has expired? Only if it is fresh, and is
    found by all that the old one was found by."""
    by_meaning = found.question is not None or old.question is None
    return found.expires_at > now and by_meaning and {*old.labels} <= {*found.labels}


def _result(outcome: Found | Whole) -> str:
    match outcome:
        case Found():
            return "found"
        case Whole(stored=stored):
            return "stored" if stored else "unfit"
    assert_never(outcome)
