"""How the upstreams are, in words for the public: no address, no number, and since when."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edge.routing.maintenance import Window
from edge.routing.report import state
from edge.routing.settings import Tier
from edge.routing.upstream import Upstream
from index.entry import Instant, Timestamp

Word = Literal["healthy", "slow", "limited", "down", "draining", "maintenance"]
_WORDS: Mapping[str, Word] = {
    "draining": "draining",
    "drained": "draining",
    "maintenance": "maintenance",
    "ejected": "down",
    "down": "down",
    "on trial": "down",
    "at its limit": "limited",
}
SLOW = 2.0
"""Times as long for a first token as it usually takes."""


@dataclass(frozen=True, slots=True)
class Health:
    name: str
    tier: Tier
    word: Word
    since: Timestamp


@dataclass(slots=True)
class Healths:
    """Remembers since when each upstream has been as it is."""

    named: bool
    """Whether upstreams are called by their names."""
    _since: dict[str, tuple[Word, Timestamp]] = field(default_factory=dict)

    def of(
        self,
        upstreams: list[Upstream],
        resting: Mapping[str, Window],
        now: Instant,
        wall: Timestamp,
    ) -> list[Health]:
        """To be asked often: what changes in between is noticed at the next time."""
        names = self.names(upstreams)
        found = []
        for one in upstreams:
            word = health(one, resting, now)
            if self._since.get(one.name, ("", 0))[0] != word:
                self._since[one.name] = word, wall
            since = _told(one, resting) or self._since[one.name][1]
            found.append(Health(names[one.name], one.settings.tier, word, since))
        return found

    def names(self, upstreams: list[Upstream]) -> dict[str, str]:
        """What the public calls each. One that was given no name bears its address."""
        return {
            one.name: one.settings.name if self.named and one.settings.name else f"upstream {at}"
            for at, one in enumerate(upstreams, 1)
        }


def health(one: Upstream, resting: Mapping[str, Window], now: Instant) -> Word:
    word = _WORDS.get(state(one, now, resting))
    if word is not None:
        return word
    news = next((lane.news for lane in reversed(one.lanes.values()) if lane.news), None)
    slow = news is not None and news.expect(now) > SLOW * news.usual_s
    return "slow" if slow else "healthy"


def _told(one: Upstream, resting: Mapping[str, Window]) -> Timestamp | None:
    """Since when it gets no requests, where it is by the operator's wish."""
    if one.drain is not None:
        return one.drain.since
    return resting[one.name].begins if one.name in resting else None
