"""A hybrid logical clock: wall time that never goes back, and always after what it has heard of.

Kulkarni et al., "Logical Physical Clocks", 2014. A reading is one integer: milliseconds since the
epoch in the upper bits, a counter for readings of the same millisecond in the lower sixteen. So
readings order as integers, look like time, and a cause always reads lower than its effect, on
whichever node. A clock that runs ahead would drag all others with it: it is not listened to.
"""

from dataclasses import dataclass

from index.entry import Instant, Timestamp, Version

AHEAD_MAX_S = 60.0
"""A reading further ahead of our wall clock than this is of a broken clock."""

_COUNTER_BITS = 16


@dataclass(frozen=True, slots=True)
class Now:
    """One moment, by both clocks: the one that dates and the one that measures."""

    wall: Timestamp
    mono: Instant


class ClockSkew(Exception):  # noqa: N818  a finding about another node, not a fault of the caller
    """A reading too far in the future to be followed."""


class HybridClock:
    """One node's clock. Not thread-safe."""

    def __init__(self, latest: int = 0) -> None:
        """`latest` is the highest reading that this node may have given before it was restarted."""
        self.latest = Version(latest)

    def tick(self, wall: Timestamp) -> Version:
        """A reading above all before it."""
        self.latest = Version(max(self.latest + 1, at(wall)))
        return self.latest

    def observe(self, version: Version, wall: Timestamp) -> None:
        """Readings from now on are above `version`. Raises ClockSkew, and is then unchanged."""
        if version > at(Timestamp(wall + AHEAD_MAX_S)):
            raise ClockSkew(f"{wall_of(version) - wall:.0f} s ahead")
        self.latest = max(self.latest, version)

    def __repr__(self) -> str:
        return f"<HybridClock {wall_of(self.latest):.3f}>"


def at(wall: Timestamp) -> Version:
    """The lowest reading of that moment."""
    return Version(int(wall * 1000) << _COUNTER_BITS)


def wall_of(version: Version) -> Timestamp:
    """When that reading was given, about: seconds since the epoch."""
    return Timestamp((version >> _COUNTER_BITS) / 1000)
