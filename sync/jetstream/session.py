"""Two connections to a server and all that runs on them, until anything goes wrong.

what is to be said ──► streams, which keep it ──► readers, in order, when they can
                 └───► subscribers, at once: purges and presence of nodes that are there
"""

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn, Protocol

from nats.aio.msg import Msg

from index.entry import Timestamp, Version
from sync.bus import Publication
from sync.frames import peek
from sync.jetstream import streams
from sync.jetstream.client import Connection
from sync.jetstream.lag import CANARY_INTERVAL_S, Canary, Lag, parsed, written
from sync.jetstream.line import Line
from sync.jetstream.reading import Cursor, Delivered, Reading
from sync.jetstream.settings import NatsSettings
from sync.jetstream.subjects import Source, Subjects, inbox
from sync.messages import Kind
from sync.roster import Enrolment

log = logging.getLogger("nats")


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
        urgent: Connection,
        bulk: Connection,
        settings: NatsSettings,
        subjects: Subjects,
        member: Enrolment,
        carried: Carried,
        news: asyncio.Event,
        lag: Lag,
        wall: Callable[[], Timestamp],
    ) -> None:
        """`news` is set when there may be something to say."""
        self._urgent = Line(urgent, f"{inbox(member.name)}.urgent", lambda position: None)
        self._bulk = Line(bulk, f"{inbox(member.name)}.bulk", self._on_acked)
        self._settings = settings
        self._subjects = subjects
        self._member = member
        self._carried = carried
        self._news = news
        self._entries: asyncio.Queue[Publication] = asyncio.Queue()
        """To be said on the bulk line: no more than the replica gives before it is confirmed."""
        self._lag = lag
        self._wall = wall
        purges, *entries = subjects.sources(member.region, member.scopes)
        self._readings = [self._reading(urgent, purges)]
        self._readings += [self._reading(bulk, source) for source in entries]

    def _reading(self, client: Connection, source: Source) -> Reading:
        cursor = self._carried.cursor(source)
        return Reading(client, source, cursor, self._on_message, self._carried.truncated)

    def positions(self) -> dict[str, int]:
        """By source: the number of the last message that was heard."""
        return {one.source.name: one.cursor.sequence if one.cursor else 0 for one in self._readings}

    @property
    def current(self) -> bool:
        """Has all been heard that the streams had?"""
        return all(one.current for one in self._readings)

    async def open(self) -> None:
        """Listen. Raises NatsError, or an error of nats-py's."""
        client, root = self._urgent.client, self._subjects.root
        await streams.found(client, self._subjects, self._settings)
        await self._urgent.open()
        await self._bulk.open()
        await client.subscribe(f"{root}.purges.>", cb=self._on_frame)
        await client.subscribe(f"{root}.presence.>", cb=self._on_frame)
        await client.subscribe(f"{root}.canaries.>", cb=self._on_canary)

    async def run(self) -> None:
        """Until something is wrong: raises NatsError, or an error of nats-py's, in a group."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._say(), name="nats say")
            tasks.create_task(self._say_entries(), name="nats say entries")
            tasks.create_task(self._sing(), name="nats canaries")
            for line in (self._urgent, self._bulk):
                tasks.create_task(line.watch(self._stale), name="nats watch")
            for reading in self._readings:
                tasks.create_task(reading.run(), name=f"nats read {reading.source.name}")

    def _stale(self) -> str:
        return self._carried.stale(self._member)

    # Saying.

    async def say_farewell(self) -> None:
        """Have all heard that there is to say. Returns when the server has it."""
        await self._say_now()
        await self._entries.join()
        for line in (self._urgent, self._bulk):
            await line.client.flush()

    async def _say(self) -> NoReturn:
        while True:
            self._news.clear()
            await self._say_now()
            await self._news.wait()

    async def _say_now(self) -> None:
        own, subjects, line = self._member.name, self._subjects, self._urgent
        for said in self._carried.to_say():
            match said.kind:
                case Kind.ENTRIES:
                    self._entries.put_nowait(said)
                case Kind.PURGED | Kind.ENROLMENTS:
                    places = (subjects.purges(own),)
                    await line.publishing.publish(places, said.frame, _id(said))
                case Kind.PRESENCE | Kind.TABLE | Kind.GRANTS:
                    await line.client.publish(subjects.presence(own), said.frame)

    async def _say_entries(self) -> NoReturn:
        while True:
            said = await self._entries.get()
            assert said.scope is not None
            places = self._subjects.entries(said.reach, said.scope, self._member.name)
            await self._bulk.publishing.publish(places, said.frame, _id(said), said.position)
            self._entries.task_done()

    def _on_acked(self, position: int) -> None:
        self._carried.acked(Version(position))

    async def _sing(self) -> NoReturn:
        subject = self._subjects.canaries(self._member.name)
        while True:
            canary = written(Canary(self._wall(), self._kept()))
            await self._urgent.client.publish(subject, canary)
            await asyncio.sleep(CANARY_INTERVAL_S)

    def _kept(self) -> dict[str, int]:
        """By source: the number of our last message that its stream has."""
        kept: dict[str, int] = {}
        for line in (self._urgent, self._bulk):
            for subject, number in line.publishing.sequences.items():
                source = self._subjects.source_of(subject)
                kept[source] = max(number, kept.get(source, 0))
        return kept

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
        self._lag.heard(speaker, canary, self.positions(), self._wall())


def _id(said: Publication) -> str:
    """The same whenever the same is said."""
    header = peek(said.frame)
    return f"{header.origin}:{header.version}"
