"""Where users and the operator reach the node: sockets first of all, wires once they can be served.

All sockets are bound before anything else is done, so that a port in use is said at once; and the
wires are drained and stopped before anything that they need.
"""

import asyncio
import datetime as dt
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from edge import identity, listen
from edge.config import Config
from edge.handler import PromptHandler
from edge.preflight import server_tls
from edge.protection.connections import Connections
from edge.wire.http1 import Http1Wire
from edge.wire.http3 import Http3Wire
from edge.wire.tls import ServerTls

ALT_SVC_MAX_AGE_S = 900


class Listeners:
    def __init__(self, config: Config) -> None:
        self._config = config
        self.addresses: dict[str, listen.Address] = {}
        """Of what is bound, by `admin`, `plain`, `listen` and `quic`."""
        self.sockets: dict[str, socket.socket] = {}
        self._wires: dict[str, Http1Wire | Http3Wire] = {}

    def bind(self) -> None:
        """Raises ListenError."""
        node = self._config.node
        self._bound("admin", listen.bind_tcp(listen.parse(node.admin)))
        if node.plain:
            self._bound("plain", listen.bind_tcp(listen.parse(node.plain)))
        if node.listen:
            tcp, udp = listen.bind_tcp_and_udp(listen.parse(node.listen))
            self._bound("listen", tcp)
            self._bound("quic", udp)

    def _bound(self, name: str, sock: socket.socket) -> None:
        self.sockets[name] = sock
        self.addresses[name] = listen.bound(sock)

    def close(self) -> None:
        for sock in self.sockets.values():
            sock.close()

    async def open(self, handler: PromptHandler, connections: Connections) -> None:
        """Serve users. Raises ConfigError when TLS cannot."""
        config, plain = self._config, self.addresses.get("plain")
        plain_port = plain.port if plain else None

        def http1(name: str, tls: ServerTls | None = None, alt_svc: str | None = None) -> Http1Wire:
            sock, settings = self.sockets[name], config.http1
            return Http1Wire(sock, tls, handler, settings, alt_svc, connections, plain_port)

        if "listen" in self.sockets:
            certificate, key = self._certificate()
            port = config.node.public_port or self.addresses["quic"].port
            alt_svc = f'h3=":{port}"; ma={ALT_SVC_MAX_AGE_S}'
            tls = server_tls(certificate, key)
            quic = self.sockets["quic"]
            http3 = Http3Wire(quic, certificate, key, handler, config.http3, connections)
            await self._open("http3", http3)
            await self._open("http1-tls", http1("listen", tls, alt_svc))
        if "plain" in self.sockets:
            await self._open("http1", http1("plain"))

    async def _open(self, name: str, wire: Http1Wire | Http3Wire) -> None:
        await wire.start()
        self._wires[name] = wire

    def _certificate(self) -> tuple[Path, Path]:
        tls = self._config.tls
        if tls.certificate and tls.key:
            return tls.certificate, tls.key
        return identity.self_signed(self._config.node.data, dt.datetime.now(dt.UTC))

    def drain(self) -> None:
        """Say goodbye to who is connected: what is in flight finishes."""
        for wire in self._wires.values():
            wire.drain()

    async def stop(self, grace_s: float) -> None:
        await asyncio.gather(*(wire.stop(grace_s) for wire in self._wires.values()))

    # What is seen of them.

    @property
    def in_flight(self) -> int:
        return sum(wire.in_flight for wire in self._wires.values())

    @property
    def connections(self) -> dict[str, int]:
        """Open ones, by wire."""
        return {name: wire.connections for name, wire in self._wires.items()}

    @property
    def refused(self) -> dict[str, int]:
        """Connections that were not let in, by wire."""
        return {name: wire.refused for name, wire in self._wires.items()}

    def gauges(self) -> Iterator[tuple[str, str, Callable[[], float]]]:
        yield "connections", "Open connections.", lambda: sum(self.connections.values())
        yield (
            "connections_refused",
            "Connections that were not let in.",
            lambda: sum(self.refused.values()),
        )
        yield (
            "quic_half_open",
            "QUIC handshakes that are not complete.",
            lambda: sum(wire.half_open for wire in self._http3()),
        )
        yield (
            "quic_retries",
            "QUIC clients that had to prove their address first.",
            lambda: sum(wire.retries for wire in self._http3()),
        )

    def _http3(self) -> list[Http3Wire]:
        return [wire for wire in self._wires.values() if isinstance(wire, Http3Wire)]

    def __str__(self) -> str:
        return " ".join(f"{name}={address}" for name, address in self.addresses.items())
