"""One node of the bench, a process: the real replica, answers, log and transport; no HTTP front.

    python -m bench.sync.node DIRECTORY NAME HOST:PORT [NATS_URL]

Commands are lines of JSON on stdin, each answered with one on stdout. Times are those of the
monotonic clock, in nanoseconds, which all processes of a machine share.
"""

import asyncio
import datetime as dt
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import uvloop

from edge import listen
from index.answers import Answers
from index.calibration import Calibration
from index.clock import HybridClock, Now
from index.decision import DecisionSettings
from index.entry import (
    EVERYWHERE,
    CacheKey,
    Entry,
    Hint,
    Instant,
    PartitionKey,
    Purge,
    Purged,
    Question,
    Scope,
    Timestamp,
)
from index.labels import Labels
from index.memory import Memory, MemorySettings
from index.store import Store, StoreSettings
from sync.credentials import Credentials
from sync.enrolment import Registrar
from sync.feed import Feed
from sync.invites import Invites
from sync.jetstream.client import Login
from sync.jetstream.driver import JetStream
from sync.jetstream.settings import NatsSettings
from sync.listener import Listener
from sync.messages import State
from sync.outbox import Outbox, OutboxSettings
from sync.replica import Replica
from sync.roster import Enrolment, Roster
from sync.settings import SyncSettings
from sync.voice import Own

SCOPE = Scope("shared")
ENCODER, DIMENSIONS = "bench", 384
LOG_BYTES = 2 << 30
PARTITIONS = 16
QUIET_S = 20.0


class TimedAnswers(Answers):
    """Notes when a purge holds."""

    purged: dict[str, int]

    def merge(self, purged: Purged) -> bool:
        news = super().merge(purged)
        if news and purged.purge.key is not None:
            self.purged[purged.purge.key.hex()] = time.monotonic_ns()
        return news


class Nothing:
    """To be fetched from this node."""

    async def fetch(self, peer: Enrolment, scope: Scope, key: CacheKey) -> bytes | None:
        return None

    async def digest(self, peer: Enrolment, *_: Any) -> bytes | None:
        return None


def wall() -> Timestamp:
    return Timestamp(time.time())  # noqa: TID251  the composition root of the bench


def monotonic() -> Instant:
    return Instant(time.monotonic_ns() / 1e9)


class BenchNode:
    def __init__(self, directory: Path, name: str, address: str, nats_url: str | None) -> None:
        self.own = Credentials.load(directory, name, dt.datetime.now(dt.UTC))
        log = Outbox(
            directory, self.own.fleet, os.urandom(8), OutboxSettings(log_max_bytes=LOG_BYTES)
        )
        self.roster = Roster(self.own.operator_public_key)
        for line in log.lines():
            self.roster.merge(line)
        self.answers = _answers(directory)
        self.heard: dict[str, int] = {}
        self.random = Random(name)
        me = self.roster.get(self.own.name)
        assert me is not None
        own = Own(self.own.name, self.own.key, me.region, address, ENCODER)
        self.replica = Replica(own, self.roster, log, self.answers, self.now(), self._accepted)
        self.settings = SyncSettings(listen=address)
        self.feed = Feed(
            self.own.name,
            self.replica,
            self.own.client_tls(),
            self.settings,
            wall=wall,
            monotonic=monotonic,
            chance=self.random,
        )
        self.transport: Feed | JetStream = self.feed
        if nats_url:
            self.transport = JetStream(
                self.replica,
                NatsSettings(urls=(nats_url,)),
                Login(self.own.public_key, self.own.sign),
                wall=wall,
                monotonic=monotonic,
                chance=self.random,
                truncated=lambda: None,
            )
        self.listener = self._listener(directory, address)

    def now(self) -> Now:
        return Now(wall(), monotonic())

    def _accepted(self, entry: Entry, *_: Any) -> None:
        self.heard[entry.key.hex()] = time.monotonic_ns()

    def _listener(self, directory: Path, address: str) -> Listener:
        clock = HybridClock()
        registrar = Registrar(
            self.own,
            self.roster,
            Invites(directory / "fleet" / "invites.json"),
            bytes(32),
            tick=lambda: clock.tick(wall()),
            tell=lambda line: None,
        )
        return Listener(
            listen.bind_tcp(listen.parse(address)),
            self.own.server_tls(),
            self.settings,
            self.roster,
            registrar,
            Nothing(),
            self.feed,
            wall=wall,
            monotonic=monotonic,
        )

    async def run(self) -> None:
        await self.listener.start()
        reader = asyncio.StreamReader(limit=1 << 26)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        running = loop.create_task(self.transport.run())
        self.replica.turn(State.UP, self.now())
        self.transport.flush()
        print("{}", flush=True)
        while line := await reader.readline():
            asked = json.loads(line)
            done = await getattr(self, f"do_{asked.pop('do')}")(**asked)
            print(json.dumps(done or {}), flush=True)
        running.cancel()
        await asyncio.wait((running,))
        await self.listener.stop()
        self.answers.flush()
        self.replica.close()
        self.answers.close()

    # What the bench asks for.

    async def do_met(self, others: int) -> None:
        """Return when so many other nodes are heard and linked."""
        await _until(
            lambda: len(self.replica.peers.live(self.now())) >= others and self._linked(others)
        )

    def _linked(self, others: int) -> bool:
        if isinstance(self.transport, JetStream):
            return self.transport.current
        return len(self.transport.links) >= 2 * others

    async def do_tell(
        self, count: int, size: int, every_s: float, together: int = 1
    ) -> dict[str, int]:
        """Answers as they become popular, `together` at a time; when each was told."""
        sent = {}
        for _ in range(0, count, together):
            items = [self._fetched(size) for _ in range(together)]
            told = time.monotonic_ns()
            self.replica.publish(items, self.now())
            self.transport.flush()
            sent.update({entry.key.hex(): told for entry, _ in items})
            await asyncio.sleep(max(0.0, every_s - (time.monotonic_ns() - told) / 1e9))
        return sent

    async def do_purge(self, keys: list[str], every_s: float) -> dict[str, int]:
        sent = {}
        for key in keys:
            told = time.monotonic_ns()
            self.replica.purge(Purge(SCOPE, key=CacheKey(bytes.fromhex(key))), self.now())
            self.transport.flush()
            sent[key] = told
            await asyncio.sleep(every_s)
        return sent

    async def do_heard(self, count: int) -> dict[str, int]:
        """When each answer was here, once there are so many, or for ten seconds none came."""
        return await _settled(lambda: self.heard, count)

    async def do_purged(self, count: int) -> dict[str, int]:
        return await _settled(lambda: self.answers.purged, count)

    async def do_forget(self) -> None:
        self.heard.clear()
        self.answers.purged.clear()

    async def do_unsaid(self) -> None:
        """Return when the bus, if there is one, keeps all that was told."""
        latest = self.replica.log.latest
        buses = self.replica._buses.values()
        await _until(lambda: all(bus.acked >= latest for bus in buses))

    async def do_spent(self) -> dict[str, float]:
        """CPU seconds of this process so far, and of its event loop; answers held."""
        self.answers.flush()
        return {
            "process": time.process_time(),
            "loop": time.thread_time(),
            "held": len(self.answers),
        }

    def _fetched(self, size: int) -> tuple[Entry, Hint]:
        random = self.random
        key = CacheKey(random.randbytes(32))
        partition = PartitionKey(bytes([random.randrange(PARTITIONS)]) * 32)
        now = wall()
        entry = Entry(
            scope=SCOPE,
            key=key,
            model="m",
            body=random.randbytes(size // 2).hex().encode(),
            stored_at=now,
            expires_at=Timestamp(now + 86_400),
            question=Question(partition, f"what is it that {key.hex()[:44]} does?"),
            tokens=450,
            stored_by=self.own.name,
            version=self.replica.stamp(self.now()),
            seen=self.answers.seen,
            reach=EVERYWHERE,
        )
        return entry, Hint(ENCODER, random.randbytes(DIMENSIONS))


async def _settled(read: Callable[[], dict[str, int]], count: int) -> dict[str, int]:
    last, quiet_since = -1, monotonic()

    def settled() -> bool:
        nonlocal last, quiet_since
        if len(read()) != last:
            last, quiet_since = len(read()), monotonic()
        return last >= count or monotonic() - quiet_since > QUIET_S

    await _until(settled)
    return dict(read())


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  what is waited for is elsewhere
        await asyncio.sleep(0.02)


def _answers(directory: Path) -> TimedAnswers:
    made = TimedAnswers(
        lambda follower: Store(directory, StoreSettings(), normaliser="bench", follower=follower),
        Memory(MemorySettings()),
        lambda: Labels(directory, DecisionSettings(), Calibration.load()),
    )
    made.purged = {}
    made.similar.load(ENCODER, DIMENSIONS)
    return made


if __name__ == "__main__":
    directory, name, address, *nats_url = sys.argv[1:]
    gc.freeze()
    uvloop.run(BenchNode(Path(directory), name, address, nats_url[0] if nats_url else None).run())
