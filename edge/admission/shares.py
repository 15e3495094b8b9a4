"""One limit that several nodes grant from: each a part of what is left, by how much is asked of it.

    every TURN_S    each node tells the others what it granted since, what it has set aside, and how
                    much is asked of it; what others granted counts here as what was granted here
    in between      it grants no more than its share of what it knew to be left, and of the rate

A share is mostly by demand: a tenant that asks one node alone gets nearly all of its limit there,
two turns after it came, when the others had time to say that they are asked as well or not; until
then it gets an even share. A node that nobody asked keeps a little, so that whoever comes is not
turned away until the others hear of it.

All parts together are what is left, so nodes that know the same grant no more than the limit. They
never quite do. What is too much is at most what the others granted in the last turn and while that
was on the way, and one request a node, as a part may be overdrawn by its last request: else one
that is larger than each part, and not than what is left, would never be granted. It is not lost: it
counts everywhere, and is waited for. In tests/edge/admission/test_shares.py it was a third of the
limit, at times half of it, for seconds, when thousands of times the rate came to all nodes at once.

A node that hears nobody takes the others for gone (`sync.peers`, after 20 s) and grants the whole:
while a fleet is in k pieces its tenants may get up to k times their limit. That is the price of
serving on; who would rather not pay it sets `admission.quotas = "strict"`.
"""

from dataclasses import dataclass, field
from math import exp, inf

from edge.admission.rate import Limit, Meter, Taken
from index.entry import Instant, NodeName
from sync.messages import Granted

TURN_S = 2.0
FLOOR = 0.2
"""Of each limit, what is divided evenly."""
NEW = 0.5
"""The same for a node where nobody was heard to ask while others were: more than what is free, so
that whoever comes there is served, and the others grant somewhat too much until they hear of it."""
DEMAND_S = 5.0
"""What was asked so long ago counts for about a third."""
FIRST_TURNS = 2
"""Of a node that has just started, in which it may not have heard what is asked of the others."""
DEBT = 2.0
"""What others say they granted counts up to so many times the limit: no one of them can shut a
tenant out for long."""
_NOTHING = 1e-3
_SOON_S = 0.01


@dataclass(slots=True)
class Fleetwide:
    """Who else grants from the same limits, as of the last turn."""

    others: frozenset[NodeName] = frozenset()
    turn: int = 0


@dataclass(slots=True, eq=False)
class SharedMeter:
    """A meter of a whole limit, and this node's part of what is left of it. Not thread-safe."""

    limit: Limit
    fleet: Fleetwide = field(default_factory=Fleetwide)
    _meter: Meter = field(init=False)
    _turn: int = -1
    _part: float = inf
    """Units that may still be granted here in this turn; less than nothing when overdrawn."""
    _part_per_s: float = 0.0
    _since: Instant = Instant(0.0)  # noqa: RUF009  a number
    _demand: float = 0.0
    _asked_at: Instant = Instant(0.0)  # noqa: RUF009  a number
    _telling: float = 0.0
    """The demand that the others are being told of."""
    _known: float = 0.0
    """The one that they were told before, and have answered with theirs."""
    _spent: float = 0.0
    _held: float = 0.0
    _told: dict[NodeName, tuple[float, float]] = field(default_factory=dict)
    """Of other nodes: units set aside, and asked a second."""

    def __post_init__(self) -> None:
        self._meter = Meter(self.limit)

    # What is granted here.

    def asked(self, units: float, now: Instant) -> None:
        """Somebody wants so much here, whether or not it will be granted."""
        self._demand = self.demand(now) + min(units, self.limit.units) / DEMAND_S
        self._asked_at = now

    def wait_s(self, units: float, now: Instant) -> float:
        """How long until `units` may be taken by anybody; 0 if now, infinite if never."""
        if units > self.limit.units:
            return inf
        self._renew(now)
        with_others = units + self._held_elsewhere()
        if with_others > self.limit.units:  # until calls there end, whenever that is
            return max(self._meter.wait_s(self.limit.units, now), TURN_S)
        return self._meter.wait_s(with_others, now)

    def part_wait_s(self, now: Instant) -> float:
        """How long until this node may grant something; 0 if now."""
        self._renew(now)
        part = self._part + self._part_per_s * (now - self._since)
        if part > 0:
            return 0.0
        return max(min(-part / self._part_per_s, TURN_S), _SOON_S)

    def spend(self, units: float, now: Instant) -> None:
        """Use it up, whether or not it was there."""
        self._meter.spend(units, now)
        self._part -= units
        self._note(units)

    def take(self, units: float, now: Instant) -> Taken:
        """Set it aside, whether or not it was there. To be settled."""
        self._part -= units
        self._held += units
        return self._meter.take(units, now)

    def settle(self, taken: Taken, used: float, now: Instant) -> None:
        """So much of it was used. To be called once."""
        self._meter.settle(taken, used, now)
        self._part += taken.units - used
        self._held -= taken.units
        self._note(used)

    def left(self, now: Instant) -> int:
        """Whole units that all nodes together may still grant now."""
        return max(self._meter.left(now) - int(self._held_elsewhere()), 0)

    def reset_s(self, now: Instant) -> float:
        """How long until all is there again."""
        return self._meter.reset_s(now)

    def idle(self, now: Instant) -> bool:
        """Is it as good as new?"""
        return self._meter.idle(now) and not self._told

    # What is granted elsewhere.

    def hear(self, node: NodeName, told: Granted, now: Instant) -> None:
        """Another node grants from this limit too."""
        spent, held, demand = told
        room = DEBT * self.limit.units - self._in_use(now)
        self._meter.spend(max(min(spent, room), 0.0), now)
        if held > _NOTHING or demand > _NOTHING:
            self._told[node] = min(held, self.limit.units), self._bounded(demand)
        else:
            self._told.pop(node, None)

    def tell(self, now: Instant) -> Granted:
        """What others have not been told yet."""
        told = self._spent, self._held, self.demand(now)
        self._spent = 0.0
        self._known, self._telling = self._telling, self._bounded(told[2])
        spent, held, demand = (one if one > _NOTHING else 0.0 for one in told)
        return spent, held, demand

    def demand(self, now: Instant) -> float:
        """Units asked a second, of late."""
        return self._demand * exp(min(self._asked_at - now, 0.0) / DEMAND_S)

    def _note(self, units: float) -> None:
        """To be told; to nobody, if nobody is there, also when they come later."""
        if self.fleet.others:
            self._spent += units

    def _renew(self, now: Instant) -> None:
        """In a new turn: this node's part of what is left."""
        if self._turn == self.fleet.turn:
            return
        self._turn, self._since = self.fleet.turn, now
        for gone in self._told.keys() - self.fleet.others:
            del self._told[gone]
        if not self.fleet.others:
            self._part, self._part_per_s = inf, 0.0
            return
        share = self._share()
        left = max(self.limit.units - self._in_use(now) - self._held_elsewhere(), 0.0)
        self._part = share * left
        self._part_per_s = share / self.limit.interval_s

    def _share(self) -> float:
        nodes = 1 + len(self.fleet.others)
        mine = self._known
        asked = mine + sum(demand for _, demand in self._told.values())
        if asked < _NOTHING or self.fleet.turn <= FIRST_TURNS:
            return 1 / nodes
        if mine < _NOTHING:  # whoever comes here now, the others have not heard of it
            return NEW / nodes
        return FLOOR / nodes + (1 - FLOOR) * mine / asked

    def _bounded(self, demand: float) -> float:
        """Nobody gets a larger share for asking more than all there is."""
        return min(demand, 1 / self.limit.interval_s)

    def _held_elsewhere(self) -> float:
        return sum(held for held, _ in self._told.values())

    def _in_use(self, now: Instant) -> float:
        return self._meter.reset_s(now) / self.limit.interval_s
