"""Keeps a node linked with the others of its fleet, and runs its replica. The embedded transport.

One connection for each reader and source, dialled by the reader: this node dials every other node
of the roster, or its parents alone, and every other node may dial this one. What decides is the
replica; here it gets a clock, and its messages get to whom they are for.

    wire ──► receive ──┐                     ┌──► outbox ──► wire
    timer ─► tick ─────┤      Replica        │
    edge ──► publish, purge … then flush ────┘

All of it happens in one task's turn: what a message or a purge causes is on its way before the loop
does anything else.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from random import Random
from typing import Protocol

from aiohttp import web

from index.clock import Now
from index.entry import Instant, NodeName, Timestamp
from sync.application import Refused
from sync.connection import Connection, WebSocket
from sync.dialling import dialled, pause_s
from sync.dialogue import is_aside
from sync.links import End, Role
from sync.peer_client import Peer
from sync.peers import Peers
from sync.roster import Enrolment, Roster
from sync.settings import SyncSettings
from sync.unlinked import BUG, ENDED, NO_ADDRESS, Unlinked

log = logging.getLogger("sync")

BUG_S = 1.0
"""So that one that is met at every turn does not fill the log, and the loop."""
TICK_MAX_S = 5.0
"""The replica is asked at least so often whether something is due."""


class Machine(Protocol):
    """`sync.replica.Replica`, as far as a transport needs it."""

    roster: Roster
    peers: Peers

    def linked(self, end: End, now: Now) -> None: ...
    def unlinked(self, end: End, now: Now) -> None: ...
    def receive(self, end: End, data: bytes, now: Now) -> None: ...
    def tick(self, now: Now) -> None: ...
    def wake_at(self) -> Instant: ...
    def outbox(self) -> list[tuple[End, bytes]]: ...


class Feed:
    def __init__(
        self,
        name: NodeName,
        replica: Machine,
        tls: ssl.SSLContext,
        settings: SyncSettings,
        *,
        wall: Callable[[], Timestamp],
        monotonic: Callable[[], Instant],
        chance: Random,
    ) -> None:
        """`name` is this node's, `tls` shows its certificate."""
        self._name = name
        self._replica = replica
        self._tls = tls
        self._settings = settings
        self._wall = wall
        self._monotonic = monotonic
        self._chance = chance
        self._connections: dict[End, Connection] = {}
        self._reading: dict[NodeName, asyncio.Task[None]] = {}
        self._roster_digest: int | None = None
        self._news = asyncio.Event()
        self._running = False
        self.sources: frozenset[NodeName] | None = None
        """Whom to read; None: as the settings say. For where another transport does that, and a
        node is read for what it alone has left."""
        self.unreached: dict[NodeName, str] = {}
        """Sources that are not linked, and why."""

    async def run(self) -> None:
        """Works until cancelled."""
        self._running = True
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._follow_roster(group)
                    await self._do_what_is_due()
                    await self._until_due()
        finally:
            self._running = False
            self._reading.clear()  # their tasks ended with the group: whoever runs this again dials
            for connection in self._connections.values():
                connection.cut("stopped")

    def flush(self) -> None:
        """Send what there is to send. To be called after anything was said to the replica."""
        for end, message in self._replica.outbox():
            if (connection := self._connections.get(end)) is not None:
                connection.send(message, urgent=is_aside(message))
        if self._replica.roster.digest != self._roster_digest:
            self._shut_out()
        self._news.set()  # what is due when may have changed

    def read(self, sources: frozenset[NodeName]) -> None:
        """Read these from now on, and nobody else."""
        self.sources = sources
        self._news.set()

    @property
    def links(self) -> list[End]:
        return sorted(self._connections, key=lambda end: (end.peer, end.role.value))

    # Being read.

    def check(self, peer: NodeName) -> None:
        """May it read now? Raises Refused."""
        readers = sum(end.role is Role.READER for end in self._connections)
        again = End(peer, Role.READER) in self._connections
        if not self._running or (readers >= self._settings.links_max and not again):
            raise Refused("This node feeds as many as it can, or is about to stop", 503)

    async def feed(self, peer: NodeName, websocket: web.WebSocketResponse) -> None:
        """Until it leaves, or has to."""
        await self._hold(End(peer, Role.READER), websocket)

    async def _hold(self, end: End, websocket: WebSocket) -> None:
        """Have the replica speak with a peer, until the connection ends."""
        connection = Connection(end.peer, websocket)
        if (former := self._connections.get(end)) is not None:
            former.cut("replaced")  # the peer knows that it is broken; here it was not seen yet
            self._replica.unlinked(end, self._now())
        self._connections[end] = connection
        self._replica.linked(end, self._now())
        self.flush()
        log.info("event=linked %s=%s", end.role.value, end.peer)
        why = "gone"  # aiohttp cancels whoever serves a peer that has closed its connection
        try:
            why = await connection.run(lambda message: self._received(end, message))
        finally:
            if self._connections.get(end) is connection:
                del self._connections[end]
                self._replica.unlinked(end, self._now())
                self.flush()
            log.info("event=unlinked %s=%s why=%s", end.role.value, end.peer, why)

    def _received(self, end: End, message: bytes) -> None:
        self._replica.receive(end, message, self._now())
        self.flush()

    # Reading.

    def _follow_roster(self, group: asyncio.TaskGroup) -> None:
        """Dial who is a source, and nobody else."""
        sources = {one.name for one in self._replica.roster if self._is_source(one)}
        for name in self._reading.keys() - sources:
            self._reading.pop(name).cancel()
            self.unreached.pop(name, None)
        for name in sorted(sources - self._reading.keys()):
            self._reading[name] = group.create_task(self._read(name), name=f"read {name}")

    def _is_source(self, one: Enrolment) -> bool:
        if self.sources is not None:
            chosen = one.name in self.sources
        else:
            parents = self._settings.parents
            chosen = not parents or one.name in parents or one.name.rpartition(".")[0] in parents
        return chosen and not one.revoked and one.name != self._name

    async def _read(self, name: NodeName) -> None:
        """Keep a link with a source, whatever happens to it."""
        failures = 0
        while True:
            began = self._monotonic()
            try:
                await self._read_once(name)
                failures, why = 0, ENDED
            except Unlinked as exc:
                failures, why = failures + 1, str(exc)
            except Exception:
                log.exception("event=bug part=sync")
                failures, why = failures + 1, BUG
            if self.unreached.get(name) != why:
                log.info("event=not_linked source=%s why=%s", name, why)
            self.unreached[name] = why
            took_s = self._monotonic() - began
            await asyncio.sleep(pause_s(failures, took_s, self._chance))

    async def _read_once(self, name: NodeName) -> None:
        """One link, from its beginning to its end. Raises Unlinked if it did not begin."""
        if (peer := self._peer(name)) is None:
            raise Unlinked(NO_ADDRESS)
        async with dialled(peer, self._tls) as websocket:
            self.unreached.pop(name, None)
            await self._hold(End(name, Role.SOURCE), websocket)

    def _peer(self, name: NodeName) -> Peer | None:
        """How a node is dialled: as it says itself, or as it was enrolled."""
        member = self._replica.roster.member(name)
        if member is None:
            return None
        heard = self._replica.peers.get(name)
        address = (heard.presence.address if heard else "") or member.address
        return Peer(name, address, member.public_key) if address else None

    # Both.

    def _shut_out(self) -> None:
        """Who was revoked is cut off, now."""
        self._roster_digest = self._replica.roster.digest
        for end, connection in self._connections.items():
            if self._replica.roster.member(end.peer) is None:
                log.warning("event=shut_out node=%s", end.peer)
                connection.cut("revoked")

    async def _do_what_is_due(self) -> None:
        try:
            self._replica.tick(self._now())
            self.flush()
        except Exception:
            log.exception("event=bug part=sync")
            await asyncio.sleep(BUG_S)

    async def _until_due(self) -> None:
        self._news.clear()
        due = min(self._replica.wake_at(), self._monotonic() + TICK_MAX_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due - self._monotonic())):
                await self._news.wait()

    def _now(self) -> Now:
        return Now(self._wall(), self._monotonic())

    def __repr__(self) -> str:
        return f"<Feed {self._name}: {', '.join(map(str, self.links)) or 'alone'}>"
