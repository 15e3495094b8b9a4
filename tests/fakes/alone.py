"""A node whose fleet is itself."""

from collections.abc import Callable
from dataclasses import dataclass, field

from index.clock import HybridClock
from index.entry import CacheKey, Entry, NodeName, Scope, Timestamp, Version


@dataclass
class Alone:
    """Implements `edge.fill.Others`; remembers what it was told."""

    wall: Callable[[], Timestamp]
    name: NodeName = NodeName("edge")  # noqa: RUF009  a text
    clock: HybridClock = field(default_factory=HybridClock)
    given: list[CacheKey] = field(default_factory=list)
    kept: list[CacheKey] = field(default_factory=list)
    elsewhere: dict[tuple[Scope, CacheKey], Entry] = field(default_factory=dict)
    """What another node has."""

    def stamp(self, above: Version | None = None) -> Version:
        return self.clock.tick(self.wall())

    def asked(self, entry: Entry) -> None:
        self.given.append(entry.key)

    def stored(self, entry: Entry) -> None:
        self.kept.append(entry.key)

    async def find(self, scope: Scope, key: CacheKey) -> Entry | None:
        return self.elsewhere.get((scope, key))
