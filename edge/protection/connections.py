"""Who may open a connection, on either wire: counted by source as they come and while they last.

To be asked before anything is spent: on TCP when a connection is accepted, before its TLS; on QUIC
once the client has proven its address, as anybody can write any address on a first packet, and
would otherwise use up what is somebody else's.
"""

from collections import Counter
from functools import lru_cache
from typing import Literal

from edge.admission.source import Networks, Source, source_of
from edge.protection.rates import Rates
from edge.protection.settings import ProtectionSettings

FINE = 0.2
"""Of what a source may open in a minute: of its connections the sixth is refused if those before
had to be closed so, and after that one is let in each 12 s. Others at its address are with it."""

Refusal = Literal["too_many_connections", "too_many_new_connections"]
"""Of one source."""


class Place:
    """That of one open connection."""

    __slots__ = ("_connections", "_left", "_source")

    def __init__(self, connections: "Connections", source: Source | None) -> None:
        self._connections = connections
        self._source = source
        self._left = False

    def fine(self, now: float) -> None:
        """It made more work than a client may: its source may open fewer others for a while."""
        if self._source is not None:
            self._connections._rates.spend(self._source, now, FINE)

    def leave(self) -> bool:
        """It is closed. False if that was known."""
        if self._left:
            return False
        self._left = True
        if self._source is not None:
            self._connections._left(self._source)
        return True


class Connections:
    def __init__(self, settings: ProtectionSettings) -> None:
        self._per_source_max = settings.connections_per_source_max
        self._trusted = Networks(settings.trusted)
        self._rates = Rates(settings.new_connections_per_minute)
        self._open: Counter[str] = Counter()
        self._source = lru_cache(4096)(self._find)
        self.refused: Counter[Refusal] = Counter()

    def __repr__(self) -> str:
        return f"<Connections sources={len(self._open)} refused={dict(self.refused)}>"

    def refusal(self, host: str, now: float) -> Refusal | None:
        """Why `host` may not open one more now, if so."""
        source = self._source(host)
        if source is None:
            return None
        if any(self._open[name] >= self._per_source_max * n for name, n in source.shares):
            return "too_many_connections"
        return "too_many_new_connections" if self._rates.wait_s(source, now) else None

    def enter(self, host: str, now: float) -> Place:
        """It has opened one."""
        source = self._source(host)
        if source is not None:
            self._rates.spend(source, now)
            for name, _ in source.shares:
                self._open[name] += 1
        return Place(self, source)

    def _find(self, host: str) -> Source | None:
        """None: nothing limits it."""
        return None if host in self._trusted else source_of(host)

    def _left(self, source: Source) -> None:
        for name, _ in source.shares:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]
