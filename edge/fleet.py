"""This node's part in its fleet, as the rest of the edge sees it; a fleet of one until others join.

    handler, fill ── asked, stored, fetch ──►┐
    operator ─────── purge, invite, revoke ─►│ Fleet ── Replica ── Feed, or JetStream ── others
    node ─────────── start, run, leave ─────►┘

Everything here runs on the event loop. The replica decides; the transport carries; what is asked
for often enough is offered to the others, and what they hold is asked for before an upstream is.
"""

import asyncio
import datetime as dt
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge import listen, membership
from edge.console.membership import Invitation, Revocation
from edge.fleet_report import FleetReport
from edge.neighbours import Neighbours
from index.answers import Answers
from index.clock import HybridClock, Now
from index.entry import CacheKey, Entry, Instant, NodeName, Purge, Scope, Timestamp, Version
from sync.application import Refused
from sync.credentials import Credentials
from sync.enrolment import Registrar
from sync.feed import Feed
from sync.invites import Invites, Terms
from sync.jetstream.client import Login, login_from
from sync.jetstream.driver import JetStream
from sync.listener import Listener
from sync.messages import Grant, Grants, State
from sync.outbox import Outbox
from sync.peer_client import Peer, PeerClient
from sync.popularity import Popularity
from sync.renewal import keep_renewed
from sync.replica import PurgeRefused, Replica
from sync.roster import Enrolment, Roster
from sync.settings import SyncSettings
from sync.voice import Own

log = logging.getLogger("fleet")

OFFER_S = 0.02
"""What becomes popular within so long is told together."""
CONFIRM_POLL_S = 0.005
FILL_S = 10.0
"""How long a node that joins may take to be told the hottest answers before it says it is ready."""
ALONE_S = 2.0
"""How long it waits for the first other node to be reached at all."""
BUG_S = 1.0
"""Before a part that failed is started again."""
LEAVE_S = 2.0
"""How long a node that leaves waits for the others to hear what it has told."""

Spawn = Callable[[Coroutine[Any, Any, None], str], object]


@dataclass(frozen=True, slots=True)
class Purging:
    """What a purge did."""

    matched: int
    """Answers that it removed here, or would."""
    confirmed: tuple[NodeName, ...] = ()
    """Other nodes that have applied it, as they said."""
    unconfirmed: tuple[NodeName, ...] = ()
    """Nodes that have not said so by the deadline. They apply it when they hear of it, before they
    are told anything else."""
    revoked: bool = False
    """This node is of the fleet no more, as far as it knows: none of them will hear of it."""


class Fleet:
    def __init__(
        self,
        data: Path,
        name: str,
        settings: SyncSettings,
        secret: bytes,
        answers: Answers,
        reader: Executor,
        spawn: Spawn,
        *,
        wall: Callable[[], Timestamp],
        monotonic: Callable[[], Instant],
    ) -> None:
        """Raises CredentialsError, OSError, ListenError."""
        self._answers = answers
        self._reader = reader
        self._spawn = spawn
        self._wall = wall
        self._monotonic = monotonic
        self._settings = membership.settings_of(settings, data)
        self._node_name = name
        self._own = Credentials.load(data, name, self._moment())
        self._log = Outbox(data, self._own.fleet, os.urandom(membership.RUN_BYTES))
        self.roster = Roster(self._own.operator_public_key)
        for line in self._log.lines():
            self.roster.merge(line)
        self.has_keys = self._log.keyed
        """Were there API keys? If none are here now, they have been lost."""
        self.on_granted: Callable[[NodeName, Grants], None] = lambda node, grants: None
        """Called with what other nodes granted of limits that all share."""
        self._replica: Replica | None = None
        self._clock = HybridClock(self._log.reserved)
        invites = Invites(data / "fleet" / "invites.json")
        self._registrar = Registrar(
            self._own,
            self.roster,
            invites,
            secret,
            tick=self.stamp,
            tell=self._enrol,
            had_keys=self.has_keys,
        )
        self._sock: socket.socket | None = None
        self._listener: Listener | None = None
        if settings.listen or len(self.roster) > 1:
            self._bind()
        elif invites.open(wall()):  # who was invited before a restart is let in after it
            try:
                self._bind()
            except listen.ListenError as exc:
                log.warning("event=invited_in_vain why=%s", exc)
        self._registrar.settle(name, settings.region, self._address(), self._moment())
        self.region = self._member().region
        own = Own(
            self.name,
            self._own.key,
            self.region,
            self._address(),
            relay=self._settings.relay,
            relayed=bool(self._settings.parents),
        )
        self.replica = self._replica = Replica(
            own, self.roster, self._log, answers, self._now(), self._accepted, self._granted
        )
        self.popularity = Popularity(self._settings, self._now())
        self._client = PeerClient(self._own.client_tls())
        self.feed = Feed(
            self.name,
            self.replica,
            self._own.client_tls(),
            self._settings,
            wall=wall,
            monotonic=monotonic,
            chance=Random(os.urandom(16)),
        )
        self.bus = self._jetstream() if self._settings.nats.urls else None
        if self.bus is not None:
            self.feed.read(frozenset())
        self.neighbours = Neighbours(
            answers,
            self._client,
            self._settings,
            secret,
            self.region,
            self._near,
            reader,
            monotonic,
            os.urandom,
        )
        self.report = FleetReport(
            self.replica,
            self.feed,
            self.bus,
            self.neighbours,
            self.popularity,
            self._now,
            has_operator_key=self._own.operator is not None,
            configured_region=self._settings.region,
        )
        self._wanted: dict[tuple[Scope, CacheKey], None] = {}
        self._news = asyncio.Event()
        self.filled = asyncio.Event()
        """Set when this node has been told what is popular, or need not wait for that longer."""

    @property
    def name(self) -> NodeName:
        return self._own.name

    @property
    def alone(self) -> bool:
        return len(self.roster) < 2

    # Beside serving.

    async def start(self) -> None:
        """Be reached by others, where there are any."""
        if self._sock is not None:
            await self._listen(self._sock)
        loop = asyncio.get_running_loop()

        def on_false_hint(entry: Entry) -> None:  # on the thread that embeds
            loop.call_soon_threadsafe(self._distrust, entry.stored_by)

        self._answers.similar.on_false_hint = on_false_hint
        parts: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "feed": self.feed.run,
            "offer": self._offer,
            "neighbours": self.neighbours.run,
            "renew certificate": self._renew,
            "fill": self._fill,
        }
        if self.bus is not None:
            parts["nats"] = self.bus.run
        for what, work in parts.items():
            self._spawn(self._whatever_happens(work, what), what)

    async def _whatever_happens(
        self, work: Callable[[], Coroutine[Any, Any, None]], what: str
    ) -> None:
        """A node serves on when its part in the fleet has a bug."""
        while True:
            try:
                return await work()
            except Exception:
                log.exception("event=bug part=%s", what)
                await asyncio.sleep(BUG_S)

    async def _renew(self) -> None:
        await keep_renewed(self._own, self.roster, self._client, self._wall)

    async def leave(self) -> None:
        """Tell the others what is still to be told, and that this node goes."""
        if self.alone:
            return
        self.replica.publish(self.popularity.take(self._now()), self._now())
        self.replica.turn(State.LEAVING, self._now())
        self._flush()
        deadline = self._monotonic() + LEAVE_S
        while True:
            if not self.replica.unheard or self._monotonic() >= deadline:
                break
            await asyncio.sleep(CONFIRM_POLL_S)
        if self.bus is not None:
            await self.bus.say_farewell()

    async def close(self) -> None:
        """When nothing that was spawned runs any more."""
        if self._listener is not None:
            await self._listener.stop()
        elif self._sock is not None:
            self._sock.close()
        await self._client.close()
        await asyncio.to_thread(self._answers.flush)  # cursors say that what they stand for is kept
        self.replica.close()

    def encodes_with(self, fingerprint: str) -> None:
        """Others may send vectors of this encoder from now on."""
        self.replica.own = replace(self.replica.own, encoder=fingerprint)

    # Answers.

    def stamp(self, above: Version | None = None) -> Version:
        """A reading of this node's clock, for an answer that is complete now, above that of the one
        in whose place it comes."""
        if self._replica is None:
            return self._clock.tick(self._wall())
        return self._replica.stamp(self._now(), above)

    def asked(self, entry: Entry) -> None:
        """Somebody was given this answer. What another node fetched is for that one to tell."""
        if self.alone or (entry.stored_by != self.name and entry.stored_by in self.roster):
            return
        if self.popularity.wanted(entry, self.popularity.asked(entry.key)):
            self._wanted[entry.scope, entry.key] = None
            self._news.set()

    def stored(self, entry: Entry) -> None:
        """An answer was fetched from an upstream, and is here now."""
        if not self.alone:
            self.neighbours.added(entry)
            self.asked(entry)

    def imported(self, entry: Entry) -> None:
        """An answer came with a snapshot, and is here now; what is pinned is told as if warmed."""
        if self.alone:
            return
        self.neighbours.added(entry)
        if entry.pinned and self.popularity.wanted(entry, 0):
            self._wanted[entry.scope, entry.key] = None
            self._news.set()

    async def find(self, scope: Scope, key: CacheKey) -> Entry | None:
        """The answer to this very request from another node, where one seems to have it."""
        if self.alone:
            return None
        frame = await self.neighbours.fetch(scope, key)
        if frame is None:
            return None
        return self._got(self.replica.hearing.take(frame, self._now()), scope, key)

    # Answers for the whole region: `edge.regional.tier.Region`.

    def told(self, entry: Entry) -> bytes | None:
        return self.replica.telling.in_region(entry, self._now())

    def taken(self, frame: bytes, scope: Scope, key: CacheKey) -> Entry | None:
        return self._got(self.replica.hearing.found(frame, self._now()), scope, key)

    def _got(self, news: Entry | None, scope: Scope, key: CacheKey) -> Entry | None:
        """The answer that was asked for; it is no news if somebody else has just got it too."""
        if news is not None and (news.scope, news.key) == (scope, key):
            return news
        hot = self._answers.recall(scope, key, self._wall())
        return None if hot is None else hot.entry

    async def _offer(self) -> None:
        """Have told to others what is asked for often enough, as far as the budget goes."""
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            self._news.clear()
            wanted, self._wanted = list(self._wanted), {}
            for scope, key in wanted:
                held = await loop.run_in_executor(
                    self._reader, self._answers.held, scope, key, self._wall()
                )
                if held is not None:
                    self.popularity.offer(*held, self._now())
            self.replica.publish(self.popularity.take(self._now()), self._now())
            self._flush()
            if self.popularity.waiting:
                self._news.set()
            await asyncio.sleep(OFFER_S)

    # Purges.

    async def purge(self, purge: Purge, *, soft: bool, wait_s: float) -> Purging:
        """Purge everywhere. On return it holds here; others have `wait_s` to say it does there.

        Raises PurgeRefused.
        """
        purged = self.replica.purge(purge, self._now(), soft=soft)
        self._flush()
        loop = asyncio.get_running_loop()
        count = await loop.run_in_executor(self._reader, self._answers.purge, purged)
        deadline = self._monotonic() + wait_s
        while self._monotonic() < deadline:
            if not self.replica.unconfirmed(purged, self._now()):
                break
            await asyncio.sleep(CONFIRM_POLL_S)
        told = {name: self.replica.has_applied(name, purged) for name in self._others()}
        return Purging(
            count,
            tuple(name for name, applied in told.items() if applied),
            tuple(name for name, applied in told.items() if not applied),
            self.report.revoked,
        )

    def _others(self) -> list[NodeName]:
        return [one.name for one in self.roster if one.name != self.name and not one.revoked]

    # Who belongs to the fleet: `edge.console.membership.Fleet`.

    async def invite(self, terms: Terms, valid_s: float) -> Invitation:
        if self._listener is None:
            try:
                self._bind()
            except listen.ListenError as exc:
                raise Refused(
                    f"Nodes that join cannot be listened for: {exc}. Set [sync] listen to an "
                    "address that is free, such as 127.0.0.1:8445, and restart this node",
                    409,
                ) from exc
            assert self._sock is not None
            await self._listen(self._sock)
            self._registrar.settle(self._node_name, "", self._address(), self._moment())
            self.replica.own = replace(self.replica.own, address=self._address())
        address = self._address()
        token = self._registrar.invite(terms, address, valid_s, self._wall())
        return Invitation(token, Timestamp(self._wall() + valid_s), address)

    async def revoke(self, name: str, *, keep: bool = False) -> Revocation:
        member = self._registrar.revoke(name)
        if keep:
            log.warning("event=revoked node=%s entries=kept", member.name)
            return Revocation(member.name, None, member.may_invite)
        try:
            done = await self.purge(Purge(label=f"by:{member.name}"), soft=False, wait_s=0.0)
        except PurgeRefused as exc:
            raise Refused(
                f"{member.name} is revoked, but what it fetched is not purged, as that is {exc}: "
                f"promptedge purge --label by:{member.name} on a node that may have all scopes",
                403,
            ) from exc
        log.warning("event=revoked node=%s entries=%d", member.name, done.matched)
        return Revocation(member.name, done.matched, member.may_invite)

    # Limits that all nodes grant from: `edge.limits`.

    def granting(self) -> list[NodeName]:
        """The other nodes that are there, as far as is known."""
        live = self.replica.peers.live(self._now())
        return [peer.name for peer in live if self.roster.member(peer.name) is not None]

    def grant(self, rows: Sequence[Grant]) -> None:
        """Tell the others what was granted here."""
        if rows:
            self.replica.grant(rows, self._now())
            self._flush()

    def _granted(self, node: NodeName, grants: Grants) -> None:
        self.on_granted(node, grants)

    # The roster's other lines, of API keys: `edge.key_desk`.

    @property
    def operator(self) -> Ed25519PrivateKey | None:
        """The fleet's key, where this node has it."""
        return self._own.operator

    def enrol(self, line: bytes) -> None:
        """Take a line of the roster, on disk when this returns, and tell everybody."""
        self._enrol(line)

    @property
    def forgetful(self) -> bool:
        """Has its disk not taken what it was told, so that a restart would forget it?"""
        return self._log.behind

    def awaited(self) -> list[NodeName]:
        """Nodes that are alive and have not said that they hold the same roster."""
        return self.replica.unaware(self._now())

    def unaware(self) -> list[NodeName]:
        """The same, with those that are not reached."""
        late = self.awaited()
        live = {peer.name for peer in self.replica.peers.live(self._now())}
        return [name for name in self._others() if name in late or name not in live]

    # For other nodes: `sync.listener.Served`.

    async def fetch(self, peer: Enrolment, scope: Scope, key: CacheKey) -> bytes | None:
        loop = asyncio.get_running_loop()
        held = await loop.run_in_executor(
            self._reader, self._answers.held, scope, key, self._wall()
        )
        if held is None:
            return None
        self.neighbours.counts.told += 1
        return self.replica.telling.answer(peer.name, held[0], self._now())

    async def digest(self, peer: Enrolment, salt: bytes, added: int) -> bytes | None:
        if not self._member().may_publish:
            return None  # nobody would take what it names
        return await self.neighbours.digest(peer, salt, added)

    # Parts.

    def _enrol(self, line: bytes) -> None:
        if self._replica is not None:
            self._replica.enrol(line, self._now())
            self._flush()
        elif (said := self.roster.merge(line)) is not None:
            self._log.keep_line(said.name, line)

    def _accepted(self, entry: Entry) -> None:
        self.neighbours.added(entry)

    def _distrust(self, node: NodeName) -> None:
        log.error("event=quarantined node=%s why=a vector of its is not of its text", node)
        self.replica.hearing.quarantined[node] = "a vector of its is not of its text"

    async def _fill(self) -> None:
        """Say that this node is up when it holds what its sources have told it, or in good time."""
        await self._catch_up()
        self.replica.turn(State.UP, self._now())
        self._flush()
        self.filled.set()
        log.info("event=in_fleet name=%s nodes=%d", self.name, len(self.roster))

    async def _catch_up(self) -> None:
        """Until what the others have to tell is here, for some time at most.

        Where a bus carries what is said, one node is read for what the bus does not have.
        """
        began = self._monotonic()
        sources = self._others()
        if self.bus is not None:
            sources = self._nearest(sources)
            self.feed.read(frozenset(sources))
        while sources and self._monotonic() - began < FILL_S:
            linked = [name for name in sources if name not in self.feed.unreached]
            current = [name for name in linked if self.replica.current(name)]
            waited_s = self._monotonic() - began
            heard = self.bus is None or self.bus.current
            if heard and current and len(current) == len(linked):
                break
            if not current and len(linked) < len(sources) and waited_s > ALONE_S:
                break
            await asyncio.sleep(CONFIRM_POLL_S)
        if self.bus is not None:
            self.feed.read(frozenset())

    def _nearest(self, names: list[NodeName]) -> list[NodeName]:
        """One of them, of this region if there is one."""
        region = {one.name: one.region for one in self.roster}
        return sorted(names, key=lambda name: (region[name] != self.region, name))[:1]

    def _flush(self) -> None:
        """What the replica has to say is on its way when this returns."""
        self.feed.flush()
        if self.bus is not None:
            self.bus.flush()

    def _jetstream(self) -> JetStream:
        """Raises NatsError."""
        nats, own = self._settings.nats, self._own
        file = nats.credentials_file
        return JetStream(
            self.replica,
            nats,
            login_from(file) if file else Login(own.public_key, own.sign),
            wall=self._wall,
            monotonic=self._monotonic,
            chance=Random(os.urandom(16)),
            truncated=self._missed,
        )

    def _missed(self) -> None:
        """The bus no longer has all that it was given while we were away: a node has the rest."""
        self._spawn(self._whatever_happens(self._catch_up, "catch up"), "catch up")

    def _bind(self) -> None:
        self._sock = listen.bind_tcp(listen.parse(self._settings.listen))
        bound = str(listen.bound(self._sock))
        self._settings = replace(self._settings, listen=bound)

    async def _listen(self, sock: socket.socket) -> None:
        self._listener = Listener(
            sock,
            self._own.server_tls(),
            self._settings,
            self.roster,
            self._registrar,
            self,
            self.feed,
            wall=self._wall,
            monotonic=self._monotonic,
        )
        await self._listener.start()
        log.info("event=listening for=fleet at=%s as=%s", self._settings.listen, self._address())

    def _address(self) -> str:
        """Where others dial this node; empty while it is not listening."""
        return membership.announced(self._settings) if self._sock is not None else ""

    def _member(self) -> Enrolment:
        member = self.roster.get(self.name)
        assert member is not None, "a node is in its own roster"
        return member

    def _near(self) -> list[tuple[Peer, str]]:
        found = []
        for peer in self.replica.peers.live(self.report.heard_at()):
            member = self.roster.member(peer.name)
            address = peer.presence.address or (member.address if member else "")
            if member is not None and address:
                found.append((Peer(peer.name, address, member.public_key), member.region))
        return found

    def _moment(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._wall(), dt.UTC)

    def _now(self) -> Now:
        return Now(self._wall(), self._monotonic())
