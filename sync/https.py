"""HTTPS with certificates at both ends, on aiohttp: the part that knows no path.

Strangers may connect, as newcomers have no certificate yet. So connections are bounded in number,
handshakes that are not done yet apart from the others; one on which no member has shown itself is
closed after a while, whatever it is doing, and at once, the oldest first, when there are too many:
a member needs a moment to show itself, and strangers cannot shut it out.
"""

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any
from weakref import WeakSet, ref

from aiohttp import web
from cryptography import x509

from sync.application import Refused

log = logging.getLogger("sync")

HANDSHAKE_TIMEOUT_S = 5.0
STRANGER_S = 15.0
BODY_TIMEOUT_S = 5.0
GOODBYE_S = 1.0
IDLE_S = 75.0
"""How long a member's idle connection is kept for its next request."""
CONNECTIONS_MAX = 1024
HANDSHAKES_MAX = 512
"""At a time: some 30 MB."""
BODY_BYTES_MAX = 16 * 1024
"""Of requests: all there are ask for something small."""


class HttpsServer:
    def __init__(
        self, sock: socket.socket, tls: ssl.SSLContext, routes: list[web.RouteDef]
    ) -> None:
        self._sock = sock
        self._tls = tls
        self._strangers: dict[Any, None] = {}
        """Connections on which no member has shown itself, oldest first."""
        self._shaking: WeakSet[_Handshake] = WeakSet()
        """TLS lets go of one that failed and tells nobody; asyncio keeps it in a traceback."""
        app = web.Application(middlewares=[_in_json], client_max_size=BODY_BYTES_MAX)
        app.add_routes(routes)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=IDLE_S,
            shutdown_timeout=GOODBYE_S,
        )
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        await self._runner.setup()
        self._listening = await asyncio.get_running_loop().create_server(
            self._connection,
            sock=self._sock,
            ssl=self._tls,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
            ssl_shutdown_timeout=GOODBYE_S,
        )

    async def stop(self) -> None:
        """Whoever is in the middle of something is told so by the end of its connection."""
        if self._listening:
            self._listening.close()
        await self._runner.cleanup()

    @property
    def connections(self) -> int:
        return len(self._runner.server.connections) if self._runner.server else 0

    def keep(self, request: web.Request) -> None:
        """A member asks: its connection may stay."""
        self._strangers.pop(request.protocol, None)

    def _connection(self) -> asyncio.Protocol:
        if len(self._shaking) >= HANDSHAKES_MAX:
            return _Refusal()
        made = _Handshake(self._shaken)
        self._shaking.add(made)
        asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT_S, self._give_up, ref(made))
        return made

    def _give_up(self, handshake: "ref[_Handshake]") -> None:
        if (found := handshake()) is not None:
            self._shaking.discard(found)

    def _shaken(self, handshake: "_Handshake", transport: asyncio.Transport) -> None:
        """It may be a member: from here on its connection is aiohttp's."""
        self._shaking.discard(handshake)
        if self.connections >= CONNECTIONS_MAX:
            if not self._strangers:
                transport.abort()
                return
            self._look_again(next(iter(self._strangers)))
        assert self._runner.server is not None
        made = self._runner.server()
        self._strangers[made] = None
        asyncio.get_running_loop().call_later(STRANGER_S, self._look_again, made)
        transport.set_protocol(made)
        made.connection_made(transport)

    def _look_again(self, connection: Any) -> None:
        if connection in self._strangers:
            del self._strangers[connection]
            if connection.transport is not None:
                connection.transport.abort()


class _Handshake(asyncio.Protocol):
    """A connection until TLS is done with its handshake."""

    def __init__(self, done: "Callable[[_Handshake, asyncio.Transport], None]") -> None:
        self._done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._done(self, transport)  # type: ignore[arg-type]


class _Refusal(asyncio.Protocol):
    """One connection more than are held."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def certificate_of(request: web.Request) -> x509.Certificate | None:
    """What the other end showed; the handshake has proven that it is the fleet's, and its own."""
    tls = request.get_extra_info("ssl_object")
    shown = None if tls is None else tls.getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(shown) if shown else None


async def body_of(request: web.Request) -> bytes:
    """All of it, in time. Raises Refused."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError as exc:
        raise Refused("The body did not come in time", 408) from exc


@web.middleware
async def _in_json(request: web.Request, handler: Any) -> web.StreamResponse:
    """Errors as JSON. Who was refused something is left: it may not be one to keep."""
    try:
        response: web.StreamResponse = await handler(request)
    except Refused as refused:
        response = _error(refused.status, str(refused))
        response.force_close()
    except web.HTTPException as exc:
        response = _error(exc.status, exc.reason)
        response.force_close()
    return response


def _error(status: int, message: str) -> web.Response:
    return web.Response(
        body=json.dumps({"error": {"message": message}}).encode(),
        status=status,
        content_type="application/json",
    )
