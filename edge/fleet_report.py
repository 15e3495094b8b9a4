"""What operators are shown of this node's part in its fleet: people, monitors, and for advice."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edge.advice import Standing
from edge.neighbours import Neighbours
from edge.policy import ReachName
from index.clock import Now
from index.entry import NodeName
from sync.feed import Feed
from sync.jetstream.driver import JetStream
from sync.peers import Health
from sync.popularity import Popularity
from sync.replica import Replica
from sync.roster import Enrolment
from sync.unlinked import REVOKED


class FleetReport:
    def __init__(
        self,
        replica: Replica,
        feed: Feed,
        bus: JetStream | None,
        neighbours: Neighbours,
        popularity: Popularity,
        now: Callable[[], Now],
        *,
        has_operator_key: bool,
        configured_region: str,
    ) -> None:
        self._replica = replica
        self._feed = feed
        self._bus = bus
        self._neighbours = neighbours
        self._popularity = popularity
        self._now = now
        self._has_operator_key = has_operator_key
        self._configured_region = configured_region

    def facts(self) -> Mapping[str, Any]:
        """The same for people, ready for JSON."""
        now, own = self._now(), self._replica.own
        links = [f"{end.role.value} {end.peer}" for end in self._feed.links]
        return {
            "node": own.name,
            "fleet": self._replica.roster.fleet.hex(),
            "region": own.region,
            "address": own.address,
            "state": self._replica.state.name.lower(),
            "may_invite": self._has_operator_key,
            "links": links,
            "nats": self._bus and self._bus.facts(),
            "nodes": [
                self._told_of(one, now) for one in self._replica.roster if one.name != own.name
            ],
            "answers_taken": dict(self._replica.hearing.taken),
            "dropped": dict(self._replica.hearing.dropped),
            "offers_waiting": self._popularity.waiting,
            "offers_dropped": self._popularity.dropped,
            "asked_of_others": {
                "found": self._neighbours.counts.found,
                "in_vain": self._neighbours.counts.in_vain,
                "late": self._neighbours.counts.late,
            },
            "told_to_others": self._neighbours.counts.told,
            "digests": {
                "audiences": self._neighbours.audiences,
                "no_room": self._neighbours.counts.undigested,
            },
        }

    def _told_of(self, one: Enrolment, now: Now) -> Mapping[str, Any]:
        peer = self._replica.peers.get(one.name)
        return {
            "node": one.name,
            "region": one.region,
            "address": one.address,
            "state": "revoked" if one.revoked else self._health(one.name),
            "lag_s": round(self._replica.peers.lag_s(one.name, now), 3),
            "answers": peer.presence.entries if peer else None,
            "may_invite": one.may_invite,
            "same_encoder": peer.presence.encoder == self._replica.own.encoder if peer else None,
            "not_linked": self._feed.unreached.get(one.name),
        }

    def standing(self, reaches: frozenset[ReachName]) -> Standing:
        own = self._replica.roster.get(self._replica.own.name)
        assert own is not None, "a node is in its own roster"
        return Standing(
            own,
            self._others(),
            self._has_operator_key,
            self._configured_region,
            reaches,
            sorted(self._revoked_by()),
            self._replica.hearing.skewed(self._now()),
            self._neighbours.counts.undigested,
        )

    @property
    def revoked(self) -> bool:
        """Is this node of the fleet no more, as far as it knows?"""
        return bool(self._revoked_by())

    def _revoked_by(self) -> set[NodeName]:
        dialled = {name for name, why in self._feed.unreached.items() if why == REVOKED}
        return dialled | self._neighbours.revoked_by

    def gauges(self) -> Iterator[tuple[str, str, Callable[[], float]]]:
        """What a monitor should see of it: name, meaning, how to read it."""
        yield (
            "sync_links",
            "Links that are up, with other nodes and with a NATS server.",
            lambda: len(self._feed.links) + len(self._bus.links if self._bus is not None else ()),
        )
        yield "sync_offers_waiting", "Answers to be told.", lambda: self._popularity.waiting
        yield (
            "sync_found",
            "Answers that another node had when they were missed here.",
            lambda: self._neighbours.counts.found,
        )
        yield (
            "sync_in_vain",
            "Questions to other nodes that found nothing.",
            lambda: self._neighbours.counts.in_vain,
        )
        yield "sync_told", "Answers given to other nodes.", lambda: self._neighbours.counts.told

    def members(self) -> Mapping[str, Any]:
        """How the others are, in short."""
        lags = list(self.lags())
        states = Counter(health for _, health, _ in lags)
        return {
            **{health.value: 0 for health in Health},
            **states,
            "lag_s": round(max((lag_s for *_, lag_s in lags), default=0.0), 3),
        }

    def lags(self) -> Iterator[tuple[NodeName, str, float]]:
        """Of every other node: its name, how it is, and for how long what it told is missing."""
        now = self._now()
        for name in (one.name for one in self._others()):
            lag_s = self._replica.peers.lag_s(name, now)
            on_bus_s = self._bus.lag_s(name) if self._bus is not None else 0.0
            yield name, self._health(name), max(lag_s, on_bus_s)

    def _health(self, name: NodeName) -> str:
        health = self._replica.peers.health(name, self.heard_at())
        unheard = self._bus is not None and self._bus.lost_at is not None
        return "unheard" if unheard and health in (Health.ALIVE, Health.SUSPECT) else health.value

    def heard_at(self) -> Now:
        """Until when others could be heard: now, or when the bus was lost. That it is silent says
        nothing of the nodes, which may well answer when they are asked."""
        now = self._now()
        lost_at = self._bus.lost_at if self._bus is not None else None
        return now if lost_at is None else Now(now.wall, lost_at)

    def _others(self) -> list[Enrolment]:
        own = self._replica.own.name
        return [one for one in self._replica.roster if one.name != own and not one.revoked]
