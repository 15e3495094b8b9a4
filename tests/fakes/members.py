"""Nodes of a fleet as their peers see them: real keys, real TLS on loopback, nothing to serve."""

import asyncio
import datetime as dt
import itertools
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding

from edge import listen
from index.clock import HybridClock, Now
from index.entry import CacheKey, Instant, NodeName, Scope, Timestamp
from sync import certificates, tokens
from sync.application import Application, Refused
from sync.credentials import Credentials, fleet_file, node_key
from sync.enrolment import Registrar
from sync.feed import Feed, Machine
from sync.invites import Invites, Terms
from sync.links import End, Role
from sync.listener import Listener
from sync.peer_client import Peer
from sync.peers import Peers
from sync.roster import Enrolment, Roster
from sync.settings import SyncSettings
from tests.fakes.ports import free_address

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

    async def digest(self, peer: Enrolment, salt: bytes, added: int) -> bytes | None:
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
    address: str = ""
    """Where it listens."""

    def __post_init__(self) -> None:
        self.pipe = Pipe(self.roster)

    @property
    def name(self) -> NodeName:
        return self.credentials.name

    def peer(self) -> Peer:
        return Peer(self.name, self.address, self.credentials.public_key)

    def invite(self, valid_s: float = 3600.0, **terms: Any) -> str:
        return self.registrar.invite(
            Terms(**terms), self.address or "127.0.0.1:1", valid_s, self.wall
        )


def member(
    data: Path, name: str, credentials: Credentials | None = None, address: str = ""
) -> Member:
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
    registrar.settle(name, "eu", address, now)
    return Member(data, own, roster, registrar, address=address)


class Pipe:
    """In place of a replica: says what it is told to, remembers what it hears."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self.peers = Peers()
        self.links: list[End] = []
        self.ended: list[End] = []
        self.heard: list[tuple[End, bytes]] = []
        self.greeting: bytes | None = b"hello"
        """What a source is told first."""
        self._out: list[tuple[End, bytes]] = []

    def say(self, end: End, message: bytes) -> None:
        self._out.append((end, message))

    def linked(self, end: End, now: Now) -> None:
        self.links.append(end)
        if self.greeting is not None and end.role is Role.SOURCE:
            self.say(end, self.greeting)

    def unlinked(self, end: End, now: Now) -> None:
        self.links.remove(end)
        self.ended.append(end)

    def receive(self, end: End, data: bytes, now: Now) -> None:
        assert end in self.links
        self.heard.append((end, data))

    def tick(self, now: Now) -> None:
        """Nothing is ever due."""

    def wake_at(self) -> Instant:
        return Instant(math.inf)

    def outbox(self) -> list[tuple[End, bytes]]:
        out, self._out = self._out, []
        return out


def monotonic() -> Instant:
    return Instant(asyncio.get_running_loop().time())


@asynccontextmanager
async def running(
    one: Member, settings: SyncSettings | None = None, replica: Machine | None = None
) -> AsyncIterator[Feed]:
    """Linked with whoever it knows, and reached by others, while this lasts."""
    settings = settings or SyncSettings()
    feed = Feed(
        one.name,
        replica or one.pipe,
        one.credentials.client_tls(),
        settings,
        wall=lambda: one.wall,
        monotonic=monotonic,
        chance=Random(1),
    )
    async with listening(one, settings, feed):
        task = asyncio.get_running_loop().create_task(feed.run())
        try:
            yield feed
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def listening(
    one: Member, settings: SyncSettings | None = None, feed: Feed | None = None
) -> AsyncIterator[Member]:
    """Reached by others while this lasts; at the same address as before, if there was one."""
    one.address = one.address or free_address()
    sock = listen.bind_tcp(listen.parse(one.address))
    listener = Listener(
        sock,
        one.credentials.server_tls(),
        settings or SyncSettings(),
        one.roster,
        one.registrar,
        one.shelf,
        feed or _Nobody(),
        wall=lambda: one.wall,
        monotonic=monotonic,
    )
    await listener.start()
    try:
        yield one
    finally:
        await listener.stop()


class _Nobody:
    def check(self, peer: NodeName) -> None:
        raise Refused("It feeds nobody", 503)

    async def feed(self, peer: NodeName, websocket: web.WebSocketResponse) -> None:
        raise AssertionError


def fleet(data: Path, *names: str) -> list[Member]:
    """Members that know one another; the first founded the fleet."""
    founder = member(data / names[0], names[0], address=free_address())
    members = [founder]
    for name in names[1:]:
        key = node_key(data / name)
        request = certificates.request(key).public_bytes(Encoding.PEM).decode()
        secret = tokens.read(founder.invite(), NOW).secret
        address = free_address()
        said = Application(request, name, "eu", address, NOW)
        given = founder.registrar.admit(secret, said, NOW)
        own = Credentials(
            fleet_file(data / name),
            key,
            founder.credentials.authority,
            certificates.read(given.certificate.encode()),
            None,
        )
        own.save()
        members.append(member(data / name, name, own, address))
    for one in members:
        for line in founder.roster.lines():
            one.roster.merge(line)
    return members
