"""Replicas that meet on a real NATS server, on the real clock, each with files and tasks."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from index.clock import Now
from index.entry import EVERYWHERE, Entry, Instant, NodeName, Purge, Reach, Timestamp
from sync.jetstream.client import Login
from sync.jetstream.driver import BUS, JetStream
from sync.jetstream.settings import NatsSettings
from sync.outbox import Outbox
from sync.replica import Replica
from sync.roster import Enrolment
from sync.voice import Own
from tests.fakes import entries as fakes
from tests.fakes.fleet import key, roster
from tests.fakes.shelf import FakeShelf


def now() -> Now:
    return Now(Timestamp(time.time()), Instant(time.monotonic()))  # noqa: TID251  real servers


class BusNode:
    """A node of a fleet that talks over NATS alone."""

    def __init__(
        self, directory: Path, own: Enrolment, fleet: tuple[Enrolment, ...], url: str, **nats: Any
    ) -> None:
        self.own = own
        self.stem = own.name.rpartition(".")[0]
        self.shelf = FakeShelf()
        self.truncated = 0
        self.heard: list[bytes] = []
        directory.mkdir(parents=True, exist_ok=True)
        members = roster(*fleet)
        signer = key(self.stem)
        self.replica = Replica(
            Own(own.name, signer, own.region),
            members,
            Outbox(directory, members.fleet, Random(str(directory)).randbytes(8)),
            self.shelf,
            now(),
        )
        self.bus = JetStream(
            self.replica,
            NatsSettings(urls=(url,), **nats),
            Login(own.public_key, signer.sign),
            wall=lambda: now().wall,
            monotonic=lambda: now().mono,
            chance=Random(self.stem),
            truncated=self._on_truncated,
        )

    def _on_truncated(self) -> None:
        self.truncated += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator["BusNode"]:
        task = asyncio.get_running_loop().create_task(self.bus.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled() and (bug := task.exception()) is not None:
                raise bug

    def close(self) -> None:
        self.replica.close()

    # What happens on it.

    def fetch(self, what: str | int, reach: Reach = EVERYWHERE, **fields: Any) -> Entry:
        """An answer of an upstream, kept and told."""
        made = replace(
            fakes.entry(what, stored_at=now().wall),
            stored_by=self.own.name,
            seen=self.shelf.seen,
            version=self.replica.stamp(now()),
            reach=reach,
            **fields,
        )
        assert self.shelf.put(made)
        self.replica.publish([(made, None)], now())
        self.bus.flush()
        return made

    def purge(self, purge: Purge) -> Any:
        purged = self.replica.purge(purge, now())
        self.bus.flush()
        return purged

    def unconfirmed(self, purged: Any) -> list[NodeName]:
        return self.replica.unconfirmed(purged, now())

    def holds(self, *entries: Entry) -> bool:
        return all(self.shelf.entries.get((one.scope, one.key)) == one for one in entries)

    def holds_none(self, *entries: Entry) -> bool:
        return not any((one.scope, one.key) in self.shelf.entries for one in entries)

    def knows(self, *others: "BusNode") -> bool:
        """Has it heard that the others are there?"""
        alive = self.replica.peers.live(now())
        return {one.own.name for one in others} <= {peer.name for peer in alive}

    @property
    def linked(self) -> bool:
        return self.bus.links == [BUS]
