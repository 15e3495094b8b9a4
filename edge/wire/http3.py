"""The HTTP/3 wire: a UDP socket in, `edge.request` out.

Reading order: `http3_settings` (limits), `udp` (batches of datagrams), `quic_endpoint` (datagrams
to connections, one flush a pass) and `quic_first_contact`, `quic_connection` (aioquic with a public
server's limits) and `quic_writer` (what it sends), `h3_control` and `h3_request` (frames),
`h3_head` (header sections), `h3_session` (requests and answers), `limits` (small books).
"""

import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import CipherSuite

from edge.protection.connections import Connections
from edge.protection.settings import ProtectionSettings
from edge.request import Handler
from edge.wire.h3_head import HeadDecoder
from edge.wire.h3_session import H3Session, Http3Counters, Shared
from edge.wire.http3_settings import Http3Settings
from edge.wire.http_date import HttpDate
from edge.wire.limits import ByteBudget, Tasks
from edge.wire.quic_connection import ServerConnection, check_aioquic
from edge.wire.quic_endpoint import QuicEndpoint
from edge.wire.quic_first_contact import CONNECTION_ID_BYTES
from edge.wire.udp import UdpSocket

__all__ = ["Http3Settings", "Http3Wire"]

log = logging.getLogger("h3")


class Http3Wire:
    """Serves HTTP/3 on `sock`, a bound UDP socket, which it owns from then on.

    `certificate` and `key` are PEM files, the chain in the first. `connections` are counted
    together with those of other wires. To be made on a running loop.
    Raises RuntimeError when the installed aioquic is not the one this was written for, and
    OSError or ValueError when the certificate or the key cannot be read.
    """

    def __init__(
        self,
        sock: socket.socket,
        certificate: Path,
        key: Path,
        handler: Handler,
        settings: Http3Settings | None = None,
        connections: Connections | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,  # noqa: TID251  the default of an I/O module
    ) -> None:
        settings = settings or Http3Settings()
        configuration = quic_configuration(settings, certificate, key)
        check_aioquic(configuration)
        self._address = sock.getsockname()
        self._udp = UdpSocket(sock, receive_buffer_bytes=settings.receive_buffer_bytes)
        self._tasks = Tasks()
        self._shared = Shared(
            handler=handler,
            settings=settings,
            heads=HeadDecoder(settings),
            tasks=self._tasks,
            bodies=ByteBudget(max(settings.bodies_total_max_bytes, handler.body_bytes_max)),
            http_date=HttpDate(),
        )
        self._endpoint = QuicEndpoint(
            self._udp,
            configuration,
            settings,
            self._open_session,
            connections or Connections(ProtectionSettings()),
            clock=clock,
        )

    def __repr__(self) -> str:
        return (
            f"<Http3Wire {self._address} in_flight={len(self._tasks)} "
            f"bodies={self._shared.bodies.held} {self.counters} {self._endpoint!r}>"
        )

    # what metrics and operators read

    @property
    def connections(self) -> int:
        return len(self._endpoint)

    @property
    def half_open(self) -> int:
        return self._endpoint.half_open

    @property
    def accepted(self) -> int:
        return self._endpoint.accepted

    @property
    def refused(self) -> int:
        return self._endpoint.refused

    @property
    def retries(self) -> int:
        return self._endpoint.retries

    @property
    def requests(self) -> int:
        return self.counters.requests

    @property
    def counters(self) -> Http3Counters:
        return self._shared.counters

    @property
    def closed(self) -> Counter[str]:
        """How connections ended: `idle`, `peer`, or the code we closed them with."""
        return self._endpoint.closed

    @property
    def in_flight(self) -> int:
        """Requests that have begun and are not answered yet."""
        return len(self._tasks)

    @property
    def bodies_held_bytes(self) -> int:
        return self._shared.bodies.held

    @property
    def datagrams_dropped(self) -> int:
        """Lost on this machine: by the kernel before we read, or because it took no more."""
        return self._udp.dropped_in + self._udp.dropped_out

    def check(self) -> None:
        """What must always hold; raises AssertionError."""
        self._endpoint.check()

    # life

    async def start(self) -> None:
        self._endpoint.start()
        log.info("event=listening address=%s", self._address)

    def drain(self) -> None:
        """Accept no new connection, ask clients to open no new request; the rest goes on."""
        self._endpoint.drain()

    async def stop(self, grace_s: float) -> None:
        """Finish what is in flight, for up to `grace_s` seconds, then end every connection."""
        await self._endpoint.stop(grace_s)
        await self._tasks.close()

    def _open_session(self, quic: ServerConnection, wake: Callable[[], None]) -> H3Session:
        return H3Session(quic, self._shared, wake)


def quic_configuration(settings: Http3Settings, certificate: Path, key: Path) -> QuicConfiguration:
    """QUIC v1 and v2, ALPN `h3` alone, no tickets and so no early data (RFC 8470)."""
    configuration = QuicConfiguration(
        is_client=False,
        alpn_protocols=["h3"],
        connection_id_length=CONNECTION_ID_BYTES,
        idle_timeout=settings.idle_timeout_s,
        max_data=settings.connection_window_bytes,
        max_stream_data=settings.stream_window_bytes,
        max_datagram_size=settings.max_datagram_bytes,
        cipher_suites=[
            CipherSuite.AES_128_GCM_SHA256,
            CipherSuite.AES_256_GCM_SHA384,
            CipherSuite.CHACHA20_POLY1305_SHA256,
        ],
    )
    configuration.load_cert_chain(certificate, key)
    return configuration
