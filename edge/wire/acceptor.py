"""A listening TCP socket: who may come in is decided before anything is spent on them.

asyncio's own servers accept whoever comes, and tell the protocol of it after the TLS handshake: a
thousand clients that never begin theirs would be counted nowhere. Here a connection has its place
from the moment it is accepted, and one that may not come in is closed in the same turn.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from edge.protection.connections import Connections, Place, Refusal
from edge.wire.limits import Tasks
from edge.wire.log_lines import Repeats
from edge.wire.peer import peer_of

log = logging.getLogger("http")

BACKLOG: Final = 1024
ACCEPTED_PER_PASS: Final = 64
"""So that connections that are there already have their turn too."""
PAUSE_S: Final = 0.5
"""Without a free descriptor there is nothing to do but to wait until somebody leaves."""
TLS_GOODBYE_S: Final = 2.0
"""How long a closing client has to say goodbye as well; pools with idle connections never do."""

Protocol = Callable[[Place], asyncio.Protocol]


class Acceptor:
    def __init__(
        self,
        sock: socket.socket,
        tls: ssl.SSLContext | None,
        connections: Connections,
        protocol: Protocol,
        *,
        connections_max: int,
        handshake_timeout_s: float,
    ) -> None:
        """`protocol` makes one for a connection, and says when that has `left` its place."""
        self._sock = sock
        self._connections = connections
        self._protocol = protocol
        self._connections_max = connections_max
        self._tls: dict[str, Any] = {}
        if tls is not None:
            self._tls = {
                "ssl": tls,
                "ssl_handshake_timeout": handshake_timeout_s,
                "ssl_shutdown_timeout": TLS_GOODBYE_S,
            }
        self._handshakes = Tasks()
        self._repeats = Repeats()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.connections = 0
        """All that are open, those that are still shaking hands too."""
        self.refused = 0

    def __repr__(self) -> str:
        return f"<Acceptor connections={self.connections} refused={self.refused}>"

    def start(self) -> None:
        self._sock.setblocking(False)
        self._sock.listen(BACKLOG)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def close(self) -> None:
        """Take no more; those that are shaking hands go on."""
        if self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._loop = None
        self._sock.close()

    async def stop(self) -> None:
        self.close()
        await self._handshakes.close()

    def _readable(self) -> None:
        for _ in range(ACCEPTED_PER_PASS):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                self._pause(exc)
                return
            self._accepted(sock, peer_of(address))

    def _accepted(self, sock: socket.socket, peer: str) -> None:
        assert self._loop is not None
        now = self._loop.time()
        refusal: Refusal | None = "too_many_connections"
        if self.connections < self._connections_max:
            refusal = self._connections.refusal(peer, now)
        if refusal is not None:
            sock.close()
            self.refused += 1
            if count := self._repeats.count(refusal, now):
                what = "event=refused proto=h1 reason=%s src=%s count=%d"
                log.warning(what, refusal, peer, count)
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        place = self._connections.enter(peer, now)
        self.connections += 1
        self._handshakes.start(self._establish(sock, place, peer), name="accept")

    async def _establish(self, sock: socket.socket, place: Place, peer: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: self._protocol(place), sock, **self._tls)
        except (OSError, ssl.SSLError, TimeoutError) as exc:  # its TLS failed, or it has left
            log.debug("event=handshake_failed proto=h1 src=%s error=%s", peer, type(exc).__name__)
            self.left(place)
        except BaseException:
            self.left(place)
            raise

    def left(self, place: Place) -> None:
        """That connection is closed. Harmless a second time."""
        if place.leave():
            self.connections -= 1

    def _pause(self, exc: OSError) -> None:
        """Most likely there are no more descriptors."""
        assert self._loop is not None
        self._loop.remove_reader(self._sock.fileno())
        self._loop.call_later(PAUSE_S, self._resume)
        if count := self._repeats.count("pause", self._loop.time()):
            log.error("event=accept_failed proto=h1 why=%s count=%d", exc.strerror, count)

    def _resume(self) -> None:
        if self._loop is not None:
            self._loop.add_reader(self._sock.fileno(), self._readable)
