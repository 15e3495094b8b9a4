"""Probes, metrics and status: HTTP on a loopback listener, for operators and their tools.

A page in a browser on the same machine can reach loopback too, so what changes anything takes JSON
only (which a page cannot send across origins unasked) and a Host that is an address.
"""

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aiohttp import web

from edge.console.replies import NO_STORE, error, told
from edge.metrics import Metrics
from sync.snapshot import MEDIA_TYPE

BODY_BYTES_MAX = 64 * 1024 * 1024
"""A purge may name a request as large as any that was answered."""


class Operated(Protocol):
    """How a node is."""

    def readiness(self) -> tuple[bool, Mapping[str, Any]]:
        """Should new users be sent here? And the facts behind it."""

    def status(self) -> Mapping[str, Any]: ...


class AdminServer:
    def __init__(
        self,
        sock: socket.socket,
        node: Operated,
        metrics: Metrics,
        routes: Sequence[web.RouteDef] = (),
    ) -> None:
        """`routes` are those of other parts of the node (`edge.console.membership`, `warming`)."""
        self._routes = routes
        self._sock = sock
        self._node = node
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(middlewares=[_guard], client_max_size=BODY_BYTES_MAX)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._render_metrics)
        app.router.add_get("/admin/status", self._status)
        app.router.add_routes(self._routes)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, self._sock).start()

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return told({"status": "ok"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        ready, facts = self._node.readiness()
        return told(facts, 200 if ready else 503)

    async def _render_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.render(),
            headers={"content-type": "text/plain; version=0.0.4; charset=utf-8", **NO_STORE},
        )

    async def _status(self, _request: web.Request) -> web.Response:
        return told(self._node.status())


@web.middleware
async def _guard(request: web.Request, handler: Any) -> web.StreamResponse:
    if not _is_address(request.host):
        return error(421, "Call this listener by its address, not by a name.")
    if request.method == "POST" and request.content_type not in ("application/json", MEDIA_TYPE):
        return error(415, "Send Content-Type: application/json.")
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as exc:
        allowed = {name: value for name, value in exc.headers.items() if name == "Allow"}
        return error(exc.status, f"{exc.reason}.", headers=allowed)
    return response


def _is_address(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
