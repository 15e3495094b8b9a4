"""One connection and all that runs on it, until anything goes wrong.

    what is to be said ──► streams, which keep it ──► readers, in order, when they can
                     └───► subscribers, at once: purges and presence of nodes that are there

The server is heard of every two seconds, or the connection is dead: it answers pings. What it does
not confirm to have kept ends the session as well; it is said again in the next.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NoReturn, Protocol

from nats.aio.msg import Msg

from index.clock import Now
from index.entry import Version
from sync.bus import Publication
from sync.frames import peek
from sync.jetstream import streams
from sync.jetstream.client import DEAD_AFTER_S, Connection, NatsError, spoken
from sync.jetstream.lag import CANARY_INTERVAL_S, Canary, Lag, parsed, written
from sync.jetstream.publishing import Publishing
from sync.jetstream.reading import Cursor, Delivered, Reading
from sync.jetstream.settings import NatsSettings
from sync.jetstream.subjects import Source, Subjects, inbox
from sync.messages import Kind
from sync.roster import Enrolment

log = logging.getLogger("nats")

PING_S = 2.0
PINGS_MISSED_MAX = 3
PAYLOAD_BYTES_MIN = 1 << 20
"""What a server must take in one message: its own default."""


class Carried(Protocol):
    """Whose words these are: the replica's, with the cursors of what it read."""

    def heard(self, frame: bytes) -> None: ...
    def to_say(self) -> list[Publication]: ...
    def acked(self, position: Version) -> None: ...
    def stale(self, member: Enrolment) -> str:
        """Why a session of this node, enrolled like that, is of no more use; empty while it is."""

    def cursor(self, source: Source) -> Cursor | None: ...
    def advanced(self, source: Source, cursor: Cursor) -> None:
        """All up to there was heard."""

    def truncated(self, source: Source) -> None: ...


class Session:
    def __init__(
        self,
        client: Connection,
        settings: NatsSettings,
        subjects: Subjects,
        member: Enrolment,
        carried: Carried,
        news: asyncio.Event,
        lag: Lag,
        now: Callable[[], Now],
    ) -> None:
        """`news` is set when there may be something to say."""
        self._client = client
        self._settings = settings
        self._subjects = subjects
        self._member = member
        self._carried = carried
        self._news = news
        self._lag = lag
        self._now = now
        self._publishing = Publishing(client, inbox(member.name), self._on_acked)
        self._readings = [
            Reading(client, source, carried.cursor(source), self._on_message, carried.truncated)
            for source in subjects.sources(member.region, member.scopes)
        ]

    def positions(self) -> dict[str, int]:
        """By source: the number of the last message that was heard."""
        return {one.source.name: one.cursor.sequence if one.cursor else 0 for one in self._readings}

    @property
    def current(self) -> bool:
        """Has all been heard that the streams had?"""
        return all(one.current for one in self._readings)

    async def open(self) -> None:
        """Listen. Raises NatsError, or an error of nats-py's."""
        if self._client.max_payload < PAYLOAD_BYTES_MIN:
            raise NatsError(f"the server's max_payload is below {PAYLOAD_BYTES_MIN} bytes")
        await streams.found(self._client, self._subjects, self._settings)
        await self._publishing.start()
        root = self._subjects.root
        await self._client.subscribe(f"{root}.purges.>", cb=self._on_frame)
        await self._client.subscribe(f"{root}.presence.>", cb=self._on_frame)
        await self._client.subscribe(f"{root}.canaries.>", cb=self._on_canary)

    async def run(self) -> None:
        """Until something is wrong: raises NatsError, or an error of nats-py's, in a group."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._go_on_saying(), name="nats say")
            tasks.create_task(self._sing(), name="nats canaries")
            tasks.create_task(self._watch(), name="nats watch")
            for reading in self._readings:
                tasks.create_task(reading.run(), name=f"nats read {reading.source.name}")

    async def say(self) -> None:
        """Say what there is to say now."""
        for publication in self._carried.to_say():
            await self._publish(publication)

    # Saying.

    async def _go_on_saying(self) -> NoReturn:
        while True:
            self._news.clear()
            await self.say()
            await self._news.wait()

    async def _publish(self, said: Publication) -> None:
        own, subjects, now = self._member.name, self._subjects, self._now().mono
        message_id = f"{own}:{peek(said.frame).version}"
        match said.kind:
            case Kind.ENTRIES:
                assert said.scope is not None
                places = subjects.entries(said.reach, said.scope, own)
                await self._publishing.publish(
                    places, said.frame, message_id, now, position=said.position
                )
            case Kind.PURGED | Kind.ENROLMENTS:
                places = (subjects.purges(own),)
                await self._publishing.publish(places, said.frame, message_id, now)
            case Kind.PRESENCE | Kind.TABLE:
                await self._client.publish(subjects.presence(own), said.frame)

    def _on_acked(self, position: int) -> None:
        self._carried.acked(Version(position))

    async def _sing(self) -> NoReturn:
        while True:
            kept: dict[str, int] = {}
            for subject, number in self._publishing.sequences.items():
                source = self._subjects.source_of(subject)
                kept[source] = max(number, kept.get(source, 0))
            canary = written(Canary(self._now().wall, kept))
            await self._client.publish(self._subjects.canaries(self._member.name), canary)
            await asyncio.sleep(CANARY_INTERVAL_S)

    # Hearing.

    async def _on_message(self, source: Source, data: bytes, what: Delivered) -> None:
        self._hear(data)
        self._carried.advanced(source, what.cursor)
        await asyncio.sleep(0)  # requests come first: one frame a pass of the loop

    async def _on_frame(self, message: Msg) -> None:
        self._hear(message.data)

    def _hear(self, frame: bytes) -> None:
        try:
            self._carried.heard(frame)
        except Exception:
            log.exception("event=bug part=nats")

    async def _on_canary(self, message: Msg) -> None:
        try:
            canary = parsed(message.data)
        except ValueError:
            return
        speaker = message.subject.rpartition(".")[2]
        self._lag.heard(speaker, canary, self.positions(), self._now().wall)

    # Watching.

    async def _watch(self) -> NoReturn:
        missed = 0
        try:
            while missed < PINGS_MISSED_MAX:
                heard = self._client.heard
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PING_S):
                        await self._client.ping()
                        await asyncio.wait((self._client.over,))
                if self._client.over.done():
                    raise NatsError(f"the connection broke: {spoken(self._client.last_error)}")
                self._check()
                missed = 0 if self._client.heard > heard else missed + 1
            raise NatsError("the server is silent")
        finally:
            self._client.end()

    def _check(self) -> None:
        """Raises NatsError if this session is of no more use."""
        waiting_since = self._publishing.waiting_since()
        if waiting_since is not None and self._now().mono - waiting_since > DEAD_AFTER_S:
            raise NatsError("the server does not confirm what was published")
        if why := self._carried.stale(self._member):
            raise NatsError(why)
