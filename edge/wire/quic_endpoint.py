"""The QUIC endpoint: which connection a datagram belongs to, and when each may send.

One pass of the event loop is the unit of work. A pass reads the socket until it is empty, hands
each datagram to its connection, lets the layers above react, and only then lets every connection
that was touched send, once. Everything a request caused (its answer, the ACK, window updates)
therefore leaves in as few packets and system calls as possible.

    read until empty ──► route by connection ID ──► events ──► session ──► send, once each
                              │ unknown
                              ▼
                      first contact: version negotiation, Retry, refusal, or a new connection

A handshake costs as much as a hundred cache hits, so first packets queue: a few are let in per
pass, and beyond a number of unfinished handshakes a client must first prove its address (Retry).
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Protocol

from aioquic._buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    HandshakeCompleted,
    ProtocolNegotiated,
    QuicEvent,
)
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicHeader,
    QuicPacketType,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from edge.protection.connections import Connections, Place, Refusal
from edge.wire.http3_settings import Http3Settings
from edge.wire.log_lines import Repeats, where
from edge.wire.peer import peer_of
from edge.wire.quic_connection import ServerConnection
from edge.wire.quic_first_contact import (
    CONNECTION_ID_BYTES,
    refusal,
    retry,
    version_negotiation,
)
from edge.wire.udp import Address, UdpSocket

log = logging.getLogger("h3")

DATAGRAMS_PER_PASS: Final = 64
HANDSHAKES_PER_PASS: Final = 2
"""So that no pass takes long: what is on other sockets has its turn after each."""
TIMER_RESOLUTION_S: Final = 0.001
GOAWAY_GAP_S: Final = 0.2
"""Between "open no new request" and "nothing beyond this one is answered": the requests that were
on their way when the first was sent arrive within a round trip (RFC 9114, 5.2)."""


class Session(Protocol):
    """What the endpoint needs of the layer above a connection."""

    @property
    def busy(self) -> bool:
        """Whether closing now would lose something the client waits for."""

    def handle(self, event: QuicEvent, now: float) -> None: ...
    def resume(self, now: float) -> None:
        """Packets arrived: there may be room again for what waits to be sent."""

    def sweep(self, now: float) -> None:
        """Called about once a second, for deadlines."""

    def goaway(self, *, final: bool) -> None: ...
    def abandon(self) -> None:
        """The connection is over."""


class Link:
    """One connection as the endpoint knows it: its IDs, its timer, its session."""

    __slots__ = (
        "handshaking",
        "ids",
        "peer",
        "place",
        "quic",
        "session",
        "since",
        "timer",
        "timer_at",
    )

    def __init__(self, quic: ServerConnection, peer: str, now: float) -> None:
        self.quic = quic
        self.peer = peer
        self.place: Place | None = None
        """None until the client has proven its address."""
        self.since = now
        self.ids: list[bytes] = []
        self.session: Session | None = None
        self.handshaking = True
        self.timer: asyncio.TimerHandle | None = None
        self.timer_at = 0.0


OpenSession = Callable[[ServerConnection, Callable[[], None]], Session]


class QuicEndpoint:
    """All connections of one UDP socket."""

    def __init__(
        self,
        udp: UdpSocket,
        configuration: QuicConfiguration,
        settings: Http3Settings,
        open_session: OpenSession,
        connections: Connections,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._udp = udp
        self._configuration = configuration
        self._settings = settings
        self._open_session = open_session
        self._clock = clock
        self._retry = QuicRetryTokenHandler()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._by_id: dict[bytes, Link] = {}
        self._links: dict[Link, None] = {}
        self._connections = connections
        self._waiting_room: deque[tuple[bytes, Address]] = deque()
        self._dirty: dict[Link, None] = {}
        self._scheduled = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._repeats = Repeats()
        self._idle: asyncio.Event | None = None
        self.half_open = 0
        self.accepted = 0
        self.retries = 0
        self.refused = 0
        self.draining = False
        self.closed: Counter[str] = Counter()
        """How connections ended: `idle`, `peer`, or our error: `0x107` (HTTP/3), `quic:0x3`."""

    def __repr__(self) -> str:
        return (
            f"<QuicEndpoint connections={len(self._links)} half_open={self.half_open} "
            f"waiting={len(self._waiting_room)} draining={self.draining} {self._udp!r}>"
        )

    def __len__(self) -> int:
        return len(self._links)

    def check(self) -> None:
        """What must always hold; raises AssertionError."""
        known = {number for link in self._links for number in link.ids}
        assert known == set(self._by_id), "connection IDs out of step with connections"
        assert self.half_open == sum(link.handshaking for link in self._links)
        assert all(link.place or link.handshaking or link.quic.closing for link in self._links)

    # life

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._udp.fileno(), self._readable)
        self._arm_sweeper()

    def drain(self) -> None:
        """No new connections; the clients of the others are told to open new ones elsewhere."""
        self.draining = True
        self._waiting_room.clear()
        for link in self._links:
            if link.session is not None:
                link.session.goaway(final=False)
            self.wake(link)

    async def stop(self, grace_s: float) -> None:
        """Let requests finish for up to `grace_s`, then close every connection and the socket.

        Asked again after that it does nothing.
        """
        if self._loop is None:
            return
        deadline = self._clock() + grace_s
        if not self.draining:
            self.drain()
            if self._links:
                await asyncio.sleep(min(GOAWAY_GAP_S, grace_s))
        for link in self._links:
            if link.session is not None:
                link.session.goaway(final=True)
            self._dirty[link] = None
        self._idle = asyncio.Event()
        self._settle(self._clock())
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                await self._idle.wait()
        except TimeoutError:
            log.info("event=grace_over connections=%d", len(self._links))
        self._close()

    def _close(self) -> None:
        now = self._clock()
        for link in list(self._links):
            if not link.quic.closing:
                self._close_link(link, now)
            self._remove(link)
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._loop is not None:
            self._loop.remove_reader(self._udp.fileno())
            self._loop = None
        self._udp.close()

    def _close_link(self, link: Link, now: float) -> None:
        link.quic.close(error_code=0x100)  # H3_NO_ERROR
        if link.session is not None:
            link.session.abandon()
        self._udp.send(link.quic.datagrams_to_send(now))

    # a pass of the event loop

    def wake(self, link: Link) -> None:
        """`link` has something to send; it leaves at the end of this pass."""
        self._dirty[link] = None
        if not self._scheduled and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._flush_soon)

    def _readable(self) -> None:
        now = self._clock()
        for data, address in self._udp.read(DATAGRAMS_PER_PASS):
            self._route(data, address, now)
        for _ in range(min(len(self._waiting_room), HANDSHAKES_PER_PASS)):
            self._admit(*self._waiting_room.popleft(), now)
        self._settle(now)
        if self._waiting_room and not self._scheduled and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._read_soon)

    def _read_soon(self) -> None:
        self._scheduled = False
        if self._loop is not None:
            self._readable()

    def _flush_soon(self) -> None:
        self._scheduled = False
        if self._loop is not None:
            self._settle(self._clock())

    def _settle(self, now: float) -> None:
        """Let every connection that was touched react and then send, once."""
        scheduled, self._scheduled = self._scheduled, True  # what wakes now is settled below
        while self._dirty:
            dirty, self._dirty = self._dirty, {}
            for link in dirty:
                self._react(link, now)
            for link in dirty:
                if link in self._links:
                    self._flush(link, now)
        self._scheduled = scheduled
        if self._idle is not None:
            self._close_the_idle(now)

    def _close_the_idle(self, now: float) -> None:
        for link in list(self._links):
            if link.session is None or not link.session.busy:
                if not link.quic.closing:
                    self._close_link(link, now)
                self._remove(link)
        if not self._links and self._idle is not None:
            self._idle.set()

    def _react(self, link: Link, now: float) -> None:
        quic = link.quic
        try:
            while (event := quic.next_event()) is not None:
                self._event(link, event, now)
            if link.session is not None:
                if quic.closing:
                    link.session.abandon()
                else:
                    link.session.resume(now)
        except Exception as exc:
            self._fault(link, exc)

    def _event(self, link: Link, event: QuicEvent, now: float) -> None:
        match event:
            case ConnectionIdIssued():
                if event.connection_id not in self._by_id:  # it is told again when it was lost
                    self._by_id[event.connection_id] = link
                    link.ids.append(event.connection_id)
            case ConnectionIdRetired():
                self._by_id.pop(event.connection_id, None)
                link.ids.remove(event.connection_id)
            case ProtocolNegotiated():
                link.session = self._open_session(link.quic, lambda: self.wake(link))
                if self.draining:
                    link.session.goaway(final=False)
            case HandshakeCompleted():
                self._handshake_over(link)
                if link.place is None:
                    self._enter(link, now)
            case ConnectionTerminated():
                self._remove(link)
            case _:
                if link.session is not None and not link.quic.closing:
                    link.session.handle(event, now)

    def _flush(self, link: Link, now: float) -> None:
        try:
            datagrams = link.quic.datagrams_to_send(now)
        except Exception as exc:
            self._fault(link, exc)
            return
        if datagrams:
            self._udp.send(datagrams)
        if link.quic._events:
            # New connection IDs were written: from now on packets may arrive for them.
            self._react(link, now)
        self._arm(link, now)

    def _fault(self, link: Link, exc: Exception) -> None:
        """A bug, in aioquic or in ours, met by one connection: that connection ends."""
        log.error("event=fault error=%s at=%s src=%s", type(exc).__name__, where(exc), link.peer)
        link.quic.close(error_code=QuicErrorCode.INTERNAL_ERROR, frame_type=QuicFrameType.PADDING)
        self._remove(link)

    # timers

    def _arm(self, link: Link, now: float) -> None:
        """The timer is lazy: it may fire early and look again, and is not moved for each packet."""
        at = link.quic.get_timer()
        if at is None or self._loop is None:
            return
        if link.timer is not None:
            if link.timer_at <= at + TIMER_RESOLUTION_S:
                return
            link.timer.cancel()
        delay = max(at - now, TIMER_RESOLUTION_S)
        link.timer_at = now + delay
        link.timer = self._loop.call_later(delay, self._expired, link)

    def _expired(self, link: Link) -> None:
        link.timer = None
        if self._loop is None or link not in self._links:
            return
        now = self._clock()
        at = link.quic.get_timer()
        if at is not None and at > now + TIMER_RESOLUTION_S / 2:
            self._arm(link, now)
            return
        try:
            link.quic.handle_timer(now if at is None else max(now, at))
        except Exception as exc:
            self._fault(link, exc)
            return
        self._dirty[link] = None
        self._settle(now)

    def _arm_sweeper(self) -> None:
        assert self._loop is not None
        limits = self._settings
        shortest = min(
            limits.handshake_timeout_s,
            limits.header_timeout_s,
            limits.body_grace_s,
            limits.write_stall_s,
            limits.keepalive_s,
        )
        self._sweeper = self._loop.call_later(min(1.0, shortest / 4), self._sweep)

    def _sweep(self) -> None:
        if self._loop is None:
            return
        now = self._clock()
        for link in list(self._links):
            if link.handshaking and now - link.since > self._settings.handshake_timeout_s:
                self._give_up(link, now)
            elif link.session is not None and not link.quic.closing:
                try:
                    link.session.sweep(now)
                except Exception as exc:
                    self._fault(link, exc)
        self._arm_sweeper()

    def _give_up(self, link: Link, now: float) -> None:
        if count := self._repeats.count("handshake", now):
            log.info("event=timeout phase=handshake src=%s count=%d", link.peer, count)
        link.quic.close(error_code=QuicErrorCode.NO_ERROR, reason_phrase="handshake")
        self.wake(link)

    # datagrams

    def _route(self, data: bytes, address: Address, now: float) -> None:
        if len(data) < 21:  # no QUIC packet is that short, and the IDs below are then in range
            return
        first = data[0]
        number = data[6 : 6 + data[5]] if first & 0x80 else data[1 : 1 + CONNECTION_ID_BYTES]
        link = self._by_id.get(number)
        if link is not None:
            self._receive(link, data, address, now)
        elif first & 0x80 and len(data) >= SMALLEST_MAX_DATAGRAM_SIZE:
            if len(self._waiting_room) < self._settings.half_open_max:
                self._waiting_room.append((data, address))
            else:
                self.refused += 1

    def _receive(self, link: Link, data: bytes, address: Address, now: float) -> None:
        try:
            link.quic.receive_datagram(data, address, now)
        except Exception as exc:
            self._fault(link, exc)
            return
        self._dirty[link] = None

    def _admit(self, data: bytes, address: Address, now: float) -> None:
        """First contact, or a later packet of a client whose first had to wait."""
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_BYTES)
        except ValueError:
            return
        link = self._by_id.get(header.destination_cid)
        if link is not None:
            self._receive(link, data, address, now)
        elif header.packet_type == QuicPacketType.VERSION_NEGOTIATION or header.version is None:
            return  # answering one with another would be a loop between two servers
        elif header.version not in self._configuration.supported_versions:
            versions = self._configuration.supported_versions
            self._udp.send([(version_negotiation(header, versions), address)])
        elif header.packet_type == QuicPacketType.INITIAL:
            link = self._accept(header, address, now)
            if link is not None:
                self._receive(link, data, address, now)

    def _accept(self, header: QuicHeader, address: Address, now: float) -> Link | None:
        limits = self._settings
        if self.draining or len(self._links) >= limits.connections_max:
            self._refuse(header, address, QuicErrorCode.CONNECTION_REFUSED)
            return None
        peer = peer_of(address)
        refusal = self._connections.refusal(peer, now)
        original, retried = header.destination_cid, None
        under_pressure = self.half_open + len(self._waiting_room) >= limits.retry_half_open
        if header.token:
            try:
                original = self._retry.validate_token(
                    address=address,
                    destination_cid=header.destination_cid,
                    token=header.token,
                    now=now,
                )
                retried = header.destination_cid
            except ValueError:
                if under_pressure:
                    self._refuse(header, address, QuicErrorCode.INVALID_TOKEN)
                    return None
        if retried is None and (under_pressure or refusal):
            # Who is not to come in is told so at an address of theirs: nobody else's is held
            # against them, and nobody else is told.
            self.retries += 1
            self._udp.send([(retry(header, address, self._retry, now), address)])
            return None
        if refusal:
            self._note_refusal(refusal, peer, now)
            self._refuse(header, address, QuicErrorCode.CONNECTION_REFUSED)
            return None
        if self.half_open >= limits.half_open_max:
            self.refused += 1
            return None
        return self._new_link(header, original, retried, peer, now)

    def _enter(self, link: Link, now: float) -> None:
        """The client has proven its address by its handshake; now it may be one too many."""
        if refusal := self._connections.refusal(link.peer, now):
            self._note_refusal(refusal, link.peer, now)
            self.refused += 1
            link.quic.close(error_code=QuicErrorCode.CONNECTION_REFUSED)
        else:
            link.place = self._connections.enter(link.peer, now)

    def _note_refusal(self, refusal: Refusal, peer: str, now: float) -> None:
        if count := self._repeats.count(refusal, now):
            what = "event=refused proto=h3 reason=%s src=%s count=%d"
            log.warning(what, refusal, peer, count)

    def _new_link(
        self, header: QuicHeader, original: bytes, retried: bytes | None, peer: str, now: float
    ) -> Link:
        quic = ServerConnection(
            configuration=self._configuration,
            original_destination_connection_id=original,
            retry_source_connection_id=retried,
            streams_max=self._settings.streams_max,
        )
        link = Link(quic, peer, now)
        if retried is not None:
            link.place = self._connections.enter(peer, now)
        link.ids = [header.destination_cid, quic.host_cid]
        for number in link.ids:
            self._by_id[number] = link
        self._links[link] = None
        self.half_open += 1
        self.accepted += 1
        return link

    def _handshake_over(self, link: Link) -> None:
        if link.handshaking:
            link.handshaking = False
            self.half_open -= 1

    def _remove(self, link: Link) -> None:
        if self._links.pop(link, self) is self:
            return
        for number in link.ids:
            self._by_id.pop(number, None)
        if link.place is not None:
            if link.quic.abused:
                link.place.fine(self._clock())
            link.place.leave()
        self._handshake_over(link)
        if link.timer is not None:
            link.timer.cancel()
        if link.session is not None:
            link.session.abandon()
        self._note_end(link)

    def _note_end(self, link: Link) -> None:
        ended, by = link.quic._close_event, link.quic.ended_by
        code = ended.error_code if ended is not None else 0
        # QUIC and HTTP/3 number their errors apart: 0x107 of the one is not 0x107 of the other.
        space = "quic:" if ended is not None and ended.frame_type is not None else ""
        label = f"{space}{code:#x}" if by == "us" else by
        self.closed[label] += 1
        # Our own reasons are constants; the peer's are text of its choice and stay out.
        reason = ended.reason_phrase if ended is not None and by == "us" else ""
        level = logging.DEBUG if by != "us" or code in (0, 0x100) else logging.WARNING
        if log.isEnabledFor(level) and (count := self._repeats.count(label, self._clock())):
            log.log(
                level,
                'event=closed code=%s%#x by=%s src=%s reason="%s" count=%d',
                space,
                code,
                by,
                link.peer,
                reason,
                count,
            )

    def _refuse(self, header: QuicHeader, address: Address, code: QuicErrorCode) -> None:
        self.refused += 1
        self._udp.send([(refusal(header, code), address)])
