"""Runs a node's replica over NATS: in place of `sync.feed`, and used as that is.

One session follows another. Whatever goes wrong ends one, and the next begins from the cursors and
from what was not acknowledged. Nothing is kept in a connection, so nothing is lost with it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Final, NoReturn

import nats.errors

from index.clock import Now
from index.entry import Instant, NodeName, Timestamp, Version
from sync import seams
from sync.bus import Publication
from sync.jetstream.client import Connection, Login, NatsError, connect, shown, spoken
from sync.jetstream.lag import Lag
from sync.jetstream.reading import Cursor
from sync.jetstream.session import Session
from sync.jetstream.settings import NatsSettings
from sync.jetstream.subjects import Source, Subjects, inbox, speaker
from sync.links import End, Role
from sync.replica import Replica
from sync.roster import Enrolment

log = logging.getLogger("nats")

BUS: Final = End(NodeName("nats"), Role.BUS)

RETRY_S = 0.3
RETRY_MAX_S = 5.0
"""Between sessions: at first so much, and more while servers refuse."""
SERVER_MIN = (2, 11)
FAREWELL_S = 1.0
TICK_MAX_S = 5.0
"""The replica is asked at least so often whether something is due."""


class JetStream:
    """Runs on the event loop that the replica lives on."""

    def __init__(
        self,
        replica: Replica,
        settings: NatsSettings,
        login: Login,
        *,
        wall: Callable[[], Timestamp],
        monotonic: Callable[[], Instant],
        chance: Random,
        truncated: Callable[[], None],
    ) -> None:
        """`truncated` is called when answers were missed that the stream no longer has: another
        node has them, and tells who links with it to be filled."""
        self._replica = replica
        self._settings = settings
        self._login = login
        self._wall = wall
        self._monotonic = monotonic
        self._chance = chance
        self._truncated = truncated
        self._news = asyncio.Event()
        self._due = asyncio.Event()
        self._lag = Lag()
        self._session: Session | None = None
        self._stopping = False
        self.unreached: dict[NodeName, str] = {BUS.peer: "not tried yet"}
        """Why there is no session; empty while there is one."""
        self.server = ""
        """Address and version of the server we are connected to; empty: none."""
        self.lost_at: Instant | None = None
        """When the last session ended, until the next begins."""
        self.sessions = 0
        """How many there have been: connections that came about."""

    def subjects(self) -> Subjects:
        return Subjects.of(self._settings.prefix, self._replica.roster.fleet)

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick(), name="nats tick")
            tasks.create_task(self._connect_again(), name="nats sessions")

    def flush(self) -> None:
        """Send what there is to send. To be called after anything was said to the replica."""
        self._news.set()
        self._due.set()

    @property
    def links(self) -> list[End]:
        return [BUS] if self._session is not None else []

    @property
    def current(self) -> bool:
        """Has all been read that the streams had for this node?"""
        return self._session is not None and self._session.current

    def lag_s(self, node: NodeName) -> float:
        """For how long what that node told has been missing here; 0 when nothing is."""
        read = self._session.positions() if self._session else {}
        return self._lag.seconds(read, self._wall()).get(speaker(node), 0.0)

    def facts(self) -> dict[str, str | float | None]:
        """For operators, ready for JSON."""
        lost_at = self.lost_at
        return {
            "server": self.server or None,
            "not_connected": self.unreached.get(BUS.peer),
            "for_s": None if lost_at is None else round(self._monotonic() - lost_at, 1),
        }

    # One session after another.

    async def _connect_again(self) -> None:
        wait_s = RETRY_S
        while not self._stopping:
            for url in self._settings.urls:
                before = self.sessions
                try:
                    await self._connect(url)
                except NatsError as exc:
                    self._complain(f"{shown(url)}: {exc}")
                wait_s = min(2 * wait_s, RETRY_MAX_S) if self.sessions == before else RETRY_S
            await asyncio.sleep(wait_s * (0.5 + self._chance.random()))

    async def say_farewell(self) -> None:
        """Have the last words heard, if anybody hears. To be called before `run` is cancelled."""
        try:
            async with asyncio.timeout(FAREWELL_S):
                if self._session is not None:
                    await self._session.say_farewell()
        except (TimeoutError, nats.errors.Error, OSError) as exc:
            log.info("event=farewell_unheard why=%s", spoken(exc))

    def __repr__(self) -> str:
        return f"<JetStream {self.server or 'not connected'}, {self.sessions} sessions>"

    async def _connect(self, url: str) -> None:
        """Raises NatsError, at the latest when the connection breaks."""
        member = self._member()
        if member is None:
            raise NatsError("this node is in no roster: nobody would hear it")
        own, settings = member.name, self._settings
        async with AsyncExitStack() as stack:

            async def connected(name: str) -> Connection:
                client = await connect(url, settings, self._login, name, inbox(own))
                stack.push_async_callback(client.abandon)
                return client

            await self._use(await connected(own), await connected(f"{own} entries"), url, member)

    async def _use(self, urgent: Connection, bulk: Connection, url: str, member: Enrolment) -> None:
        """Raises NatsError, whatever goes wrong."""
        try:
            session = Session(
                urgent,
                bulk,
                self._settings,
                self.subjects(),
                member,
                self,
                self._news,
                self._lag,
                self._wall,
            )
            await session.open()
            if why := self.stale(member):
                raise NatsError(why)
            await self._carry(session, urgent, url)
        except ExceptionGroup as group:
            expected, bugs = group.split((NatsError, nats.errors.Error, OSError))
            if bugs is not None:
                log.error("event=bug part=nats", exc_info=bugs)
            raise NatsError(spoken(_first(expected)) if expected else "a bug") from group
        except (nats.errors.Error, OSError) as exc:
            raise NatsError(spoken(exc)) from exc

    async def _carry(self, session: Session, client: Connection, url: str) -> None:
        self._greet(client, url)
        self._session = session
        self._replica.linked(BUS, self._now())
        self.flush()
        try:
            await session.run()
        finally:
            self._session, self.server = None, ""
            self.lost_at = self._monotonic()
            self._replica.unlinked(BUS, self._now())

    def _greet(self, client: Connection, url: str) -> None:
        told = client.connected_server_version
        version = f"{told.major}.{told.minor}.{told.patch}"
        if (told.major, told.minor) < SERVER_MIN:
            log.warning("event=old_server server=%s version=%s", shown(url), version)
        self.server = f"{shown(url)} {version}"
        self.sessions += 1
        self.lost_at = None
        self.unreached.clear()
        log.info("event=connected server=%s version=%s", shown(url), version)

    def _complain(self, why: str) -> None:
        """A server that is down for an hour is in the log once."""
        level = logging.DEBUG if self.unreached.get(BUS.peer) == why else logging.WARNING
        log.log(level, "event=no_nats why=%s", why)
        self.unreached[BUS.peer] = why

    async def _tick(self) -> NoReturn:
        try:
            while True:
                self._due.clear()
                self._replica.tick(self._now())
                self._news.set()
                due = min(self._replica.wake_at(), self._monotonic() + TICK_MAX_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, due - self._monotonic())):
                        await self._due.wait()
        finally:
            self._stopping = True

    # What a session carries.

    def heard(self, frame: bytes) -> None:
        self._replica.receive(BUS, frame, self._now())
        self.flush()

    def to_say(self) -> list[Publication]:
        return self._replica.to_bus()

    def acked(self, position: Version) -> None:
        self._replica.acked(BUS, position, self._now())
        self.flush()

    def stale(self, member: Enrolment) -> str:
        if self._stopping:
            return "this node stops"
        return "" if self._member() == member else "this node is another in the roster now"

    def _member(self) -> Enrolment | None:
        return self._replica.roster.member(self._replica.own.name)

    def cursor(self, source: Source) -> Cursor | None:
        kept = self._replica.cursors.of(_name(source))
        return Cursor(kept.position, int.from_bytes(kept.run)) if kept.position else None

    def advanced(self, source: Source, cursor: Cursor) -> None:
        reached = seams.Cursor(Version(cursor.sequence), cursor.kept_ns.to_bytes(8))
        self._replica.cursors.advance(_name(source), reached, self._now())

    def truncated(self, source: Source) -> None:
        self._truncated()

    def _now(self) -> Now:
        return Now(self._wall(), self._monotonic())


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """What went wrong first, out of groups in groups."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


def _name(source: Source) -> NodeName:
    """Under which the log keeps a cursor: no node's name has a slash."""
    return NodeName(f"{BUS.peer}/{source.name}")
