"""The part of the operator's listener that says how requests are decided."""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from aiohttp import web

from edge.console.replies import error, told
from edge.errors import ClientError
from edge.json_body import read_object
from index.entry import Scope

_HELP = (
    "No such request is remembered: give request_id, the X-Request-Id of one of the latest "
    "answers of this node, or post the request itself to see how it would be decided now"
)


class Insight(Protocol):
    """See `edge.insight`."""

    def of(self, request_id: str) -> Mapping[str, Any] | None:
        """How one of the latest requests was decided; None if it is not remembered."""

    async def about(self, scope: Scope, body: bytes) -> Mapping[str, Any]:
        """How a request would be decided now. Raises ValueError."""


def routes(insight: Insight) -> list[web.RouteDef]:
    """What is added to the listener."""

    async def explain(request: web.Request) -> web.Response:
        found = insight.of(request.query.get("request_id", ""))
        return error(404, f"{_HELP}.") if found is None else told(found)

    async def explain_request(request: web.Request) -> web.Response:
        try:
            asked = read_object(await request.read())
            if asked.keys() - {"tenant", "request"} or "request" not in asked:
                raise ValueError('Say {"request": ...}, a chat request, and "tenant" if it has one')
            scope = _scope_of(asked.get("tenant"))
            found = await insight.about(scope, json.dumps(asked["request"]).encode())
        except (ValueError, ClientError) as exc:
            return error(400, f"{str(exc).rstrip('.')}.")
        return told(found)

    return [web.get("/admin/explain", explain), web.post("/admin/explain", explain_request)]


def _scope_of(tenant: Any) -> Scope:
    if tenant is None:
        return Scope("shared")
    if not (isinstance(tenant, str) and tenant):
        raise ValueError("Tenant must be a name")
    return Scope(f"tenant:{tenant}")
