"""What an operator may see and do of upstreams: `GET` and `POST /admin/upstreams`.

Drained, an upstream gets no new requests; those that it is answering finish. That holds until it is
resumed or the node starts anew: what is to last belongs into the configuration.
"""

import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web

from edge.errors import ClientError
from edge.json_body import read_object
from edge.routing import report
from edge.routing.pool import Pool
from index.entry import Instant, Timestamp

log = logging.getLogger("upstream")

NO_STORE = {"cache-control": "no-store"}
_HELP = 'Say {"drain": NAME} or {"resume": NAME}, the name of an upstream'


def routes(
    pool: Pool, wall: Callable[[], Timestamp], monotonic: Callable[[], Instant]
) -> list[web.RouteDef]:
    def known(status: int = 200) -> web.Response:
        now, time = monotonic(), wall()
        document = {
            "upstreams": report.told(pool, now, time),
            "maintenance": report.maintenance(pool, time),
        }
        return web.json_response(document, status=status, headers=NO_STORE)

    async def list_all(_request: web.Request) -> web.Response:
        return known()

    async def change(request: web.Request) -> web.Response:
        try:
            act, name = _asked(await request.read())
        except (ValueError, ClientError) as exc:
            return _error(400, f"{str(exc).rstrip('.')}. {_HELP}")
        one = pool.find(name)
        if one is None:
            names = ", ".join(other.name for other in pool.upstreams)
            return _error(404, f"There is no upstream {name!r}. There are: {names}")
        one.drained = act == "drain"
        log.warning("event=upstream_%s upstream=%s in_flight=%d", act, one.name, one.in_flight)
        return known()

    return [web.get("/admin/upstreams", list_all), web.post("/admin/upstreams", change)]


def _asked(body: bytes) -> tuple[str, str]:
    asked: dict[str, Any] = read_object(body)
    if len(asked) != 1 or not asked.keys() <= {"drain", "resume"}:
        raise ValueError("One thing at a time")
    ((act, name),) = asked.items()
    if not (isinstance(name, str) and name):
        raise ValueError("Its name is missing")
    return act, name


def _error(status: int, message: str) -> web.Response:
    error = {"message": f"{message}.", "type": "invalid_request_error", "param": None, "code": None}
    return web.json_response({"error": error}, status=status, headers=NO_STORE)
