"""Probes, metrics, status and purge: HTTP on a loopback listener, for operators and their tools.

A page in a browser on the same machine can reach loopback too, so what changes anything takes JSON
only (which a page cannot send across origins unasked) and a Host that is an address.
"""

import ipaddress
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from aiohttp import web

from edge.errors import ClientError
from edge.json_body import read_object
from edge.metrics import Metrics
from index.entry import CacheKey, Purge, Scope
from sync.replica import PurgeRefused
from sync.snapshot import MEDIA_TYPE

BODY_BYTES_MAX = 64 * 1024 * 1024
"""A purge may name a request as large as any that was answered."""

CONFIRM_S = 2.0
"""How long other nodes have to confirm a purge, unless the request says otherwise, before they are
named as those that have not."""
CONFIRM_MAX_S = 60.0

NO_STORE = {"cache-control": "no-store"}


class Purged(Protocol):
    """See `edge.fleet.Purging`."""

    @property
    def matched(self) -> int: ...
    @property
    def confirmed(self) -> Sequence[str]: ...
    @property
    def unconfirmed(self) -> Sequence[str]: ...
    @property
    def revoked(self) -> bool: ...


class Operated(Protocol):
    """What an operator may ask of a node."""

    def readiness(self) -> tuple[bool, Mapping[str, Any]]:
        """Should new users be sent here? And the facts behind it."""

    def status(self) -> Mapping[str, Any]: ...

    async def purge(
        self, purge: Purge, *, soft: bool = False, dry_run: bool = False, wait_s: float = 0.0
    ) -> Purged:
        """Purge on every node, or mark stale (`soft`), or only count here (`dry_run`). Others have
        `wait_s` to confirm it."""

    def explain(self, request_id: str) -> Mapping[str, Any] | None:
        """How one of the latest requests was decided; None if it is not remembered."""

    async def explain_request(self, scope: Scope, body: bytes) -> Mapping[str, Any]:
        """How a request would be decided now. Raises ValueError."""

    def key_of(self, scope: Scope, path: str, body: bytes) -> CacheKey:
        """The key of a request's answer. Raises EdgeError."""


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
        app.router.add_post("/admin/purge", self._purge)
        app.router.add_get("/admin/explain", self._explain)
        app.router.add_post("/admin/explain", self._explain_request)
        app.router.add_routes(self._routes)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, self._sock).start()

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return _json(200, {"status": "ok"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        ready, facts = self._node.readiness()
        return _json(200 if ready else 503, facts)

    async def _render_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.render(),
            headers={"content-type": "text/plain; version=0.0.4; charset=utf-8", **NO_STORE},
        )

    async def _status(self, _request: web.Request) -> web.Response:
        return _json(200, self._node.status())

    async def _purge(self, request: web.Request) -> web.Response:
        try:
            asked = read_object(await request.read())
            purge = _purge_of(asked, self._node.key_of)
        except (ValueError, ClientError) as exc:
            return _error(400, f"{str(exc).rstrip('.')}. {_PURGE_HELP}")
        dry_run, soft = asked.get("dry_run") is True, asked.get("soft") is True
        wait_s = asked.get("wait_s", CONFIRM_S)
        try:
            done = await self._node.purge(purge, soft=soft, dry_run=dry_run, wait_s=wait_s)
        except PurgeRefused as exc:
            return _error(403, f"This node may not purge that, as it is {exc}: ask another node")
        told = {
            "matched": done.matched,
            "purged": 0 if dry_run or soft else done.matched,
            "confirmed": list(done.confirmed),
            "unconfirmed": list(done.unconfirmed),
            "revoked": done.revoked,
        }
        return _json(200, told)

    async def _explain(self, request: web.Request) -> web.Response:
        name = request.query.get("request_id", "")
        found = self._node.explain(name)
        if found is None:
            return _error(404, _EXPLAIN_HELP)
        return _json(200, found)

    async def _explain_request(self, request: web.Request) -> web.Response:
        try:
            asked = read_object(await request.read())
            if asked.keys() - {"tenant", "request"} or "request" not in asked:
                raise ValueError('Say {"request": ...}, a chat request, and "tenant" if it has one')
            scope = _scope_of(asked.get("tenant"))
            found = await self._node.explain_request(scope, _body(asked["request"]))
        except (ValueError, ClientError) as exc:
            return _error(400, str(exc).rstrip("."))
        return _json(200, found)


_EXPLAIN_HELP = (
    "No such request is remembered: give request_id, the X-Request-Id of one of the latest "
    "answers of this node, or post the request itself to see how it would be decided now"
)
_PURGE_HELP = (
    'Say what to purge: {"everything": true}, or any of "tenant", "request" (a chat request whose '
    'answer is to go) and one of "label", "model" and "route" (its pattern); "soft": true makes '
    'stale what would go, "dry_run": true only counts here, "wait_s" is how long other nodes have '
    "to confirm it"
)


_LABELS = {"label": "", "model": "model:", "route": "route:"}
_NARROWING = ("tenant", "request", *_LABELS)


def _purge_of(asked: dict[str, Any], key_of: Callable[[Scope, str, bytes], CacheKey]) -> Purge:
    unknown = asked.keys() - {"everything", *_NARROWING, "soft", "dry_run", "wait_s"}
    if unknown:
        raise ValueError(f"Unknown: {', '.join(sorted(unknown))}")
    wait_s = asked.get("wait_s", CONFIRM_S)
    if type(wait_s) not in (int, float) or not 0 <= wait_s <= CONFIRM_MAX_S:
        raise ValueError(f"wait_s is a number of seconds, {CONFIRM_MAX_S:.0f} at most")
    narrowed = asked.keys() & set(_NARROWING)
    if bool(asked.get("everything")) == bool(narrowed):
        raise ValueError("Either everything or a part")
    # Sent as null they narrow nothing: a script whose variable is empty would purge everything.
    if any(not (isinstance(asked[name], str) and asked[name]) for name in narrowed - {"request"}):
        raise ValueError("Tenant, label, model and route must be names")
    labels = [f"{prefix}{asked[name]}" for name, prefix in _LABELS.items() if name in asked]
    if len(labels) > 1:
        raise ValueError("One of label, model and route, as each narrows alone")
    scope = Scope(f"tenant:{asked['tenant']}") if "tenant" in asked else None
    key = None
    if "request" in asked:
        key = key_of(scope or Scope("shared"), "/v1/chat/completions", _body(asked["request"]))
    return Purge(scope=scope, label=labels[0] if labels else None, key=key)


def _scope_of(tenant: Any) -> Scope:
    if tenant is None:
        return Scope("shared")
    if not (isinstance(tenant, str) and tenant):
        raise ValueError("Tenant must be a name")
    return Scope(f"tenant:{tenant}")


def _body(request: Any) -> bytes:
    return json.dumps(request).encode()


@web.middleware
async def _guard(request: web.Request, handler: Any) -> web.StreamResponse:
    if not _is_address(request.host):
        return _error(421, "Call this listener by its address, not by a name")
    if request.method == "POST" and request.content_type not in ("application/json", MEDIA_TYPE):
        return _error(415, "Send Content-Type: application/json")
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as exc:
        return _error(
            exc.status, exc.reason, {k: v for k, v in exc.headers.items() if k == "Allow"}
        )
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


def _json(status: int, document: Any) -> web.Response:
    return web.json_response(document, status=status, headers=NO_STORE)


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    error = {"message": f"{message}.", "type": "invalid_request_error", "param": None, "code": None}
    return web.json_response(
        {"error": error}, status=status, headers={**NO_STORE, **(headers or {})}
    )
