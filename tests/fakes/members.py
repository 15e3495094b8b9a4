"""Nodes of a fleet as their peers see them: real keys, real TLS on loopback, nothing to serve."""

import asyncio
import datetime as dt
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from edge import listen
from index.clock import HybridClock
from index.entry import CacheKey, Instant, NodeName, Scope, Timestamp
from sync.credentials import Credentials
from sync.enrolment import Registrar
from sync.invites import Invites, Terms
from sync.listener import Listener
from sync.peer_client import Peer
from sync.roster import Enrolment, Roster
from sync.settings import SyncSettings

SECRET = bytes(range(32))
NOW = Timestamp(time.time())  # noqa: TID251  certificates are compared with the real clock


@dataclass
class Shelf:
    """What a node has to tell: set by tests."""

    frames: dict[tuple[Scope, CacheKey], bytes] = field(default_factory=dict)
    digested: bytes | None = None
    asked_by: list[NodeName] = field(default_factory=list)
    pause: Callable[[], Awaitable[None]] | None = None

    async def fetch(self, peer: Enrolment, scope: Scope, key: CacheKey) -> bytes | None:
        self.asked_by.append(peer.name)
        if self.pause:
            await self.pause()
        return self.frames.get((scope, key))

    async def digest(self, peer: Enrolment) -> bytes | None:
        return self.digested


@dataclass
class Member:
    """One node, and the clock it reads."""

    data: Path
    credentials: Credentials
    roster: Roster
    registrar: Registrar
    shelf: Shelf = field(default_factory=Shelf)
    wall: Timestamp = NOW
    address: str = "127.0.0.1:1"
    """Where it listens; until then, where nobody does."""

    @property
    def name(self) -> NodeName:
        return self.credentials.name

    def peer(self) -> Peer:
        return Peer(self.name, self.address, self.credentials.public_key)

    def invite(self, valid_s: float = 3600.0, **terms: Any) -> str:
        return self.registrar.invite(Terms(**terms), self.address, valid_s, self.wall)


def member(data: Path, name: str, credentials: Credentials | None = None) -> Member:
    """A node that has started; the first of its fleet unless it is given credentials."""
    now = dt.datetime.fromtimestamp(NOW, dt.UTC)
    own = credentials or Credentials.load(data, name, now)
    roster = Roster(own.operator_public_key)
    clock, steps = HybridClock(), itertools.count(NOW)

    def tell(line: bytes) -> None:
        roster.merge(line)

    registrar = Registrar(
        own,
        roster,
        Invites(data / "fleet" / "invites.json"),
        SECRET,
        tick=lambda: clock.tick(Timestamp(next(steps))),
        tell=tell,
    )
    registrar.settle(name, "eu", "", now)
    return Member(data, own, roster, registrar)


async def nobody(_peer: NodeName, _websocket: web.WebSocketResponse) -> None:
    """Feeds no one."""


@asynccontextmanager
async def listening(one: Member, settings: SyncSettings | None = None) -> AsyncIterator[Member]:
    """Reached by others while this lasts."""
    sock = listen.bind_tcp(listen.parse("127.0.0.1:0"))
    one.address = str(listen.bound(sock))
    listener = Listener(
        sock,
        one.credentials.server_tls(),
        settings or SyncSettings(),
        one.roster,
        one.registrar,
        one.shelf,
        nobody,
        wall=lambda: one.wall,
        monotonic=lambda: Instant(asyncio.get_running_loop().time()),
    )
    await listener.start()
    try:
        yield one
    finally:
        await listener.stop()
