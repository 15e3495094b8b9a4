"""What an operator may see and do of upstreams: `GET` and `POST /admin/upstreams`.

Drained, an upstream gets no new requests; those that it is answering finish. That holds until it
is resumed, restarts included: a crash must not send prompts to a machine that is being worked on.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web

from edge.console.replies import error, told
from edge.errors import ClientError
from edge.json_body import read_object
from edge.kept import Kept
from edge.routing import report
from edge.routing.maintenance import Drain
from edge.routing.pool import Pool
from index.entry import Instant, Timestamp

log = logging.getLogger("upstream")

FILE = "drained.json"
"""In the data directory."""
Drains = dict[str, Drain]
BY_CHARS_MAX = 64
_HELP = (
    'Say {"drain": NAME} or {"resume": NAME}, the name of an upstream, and with either "by", who '
    f"says so, in at most {BY_CHARS_MAX} characters"
)


def restore(pool: Pool, kept: Kept[Drains]) -> None:
    """What was drained before the start still is. Blocks for the disk."""
    for name, drain in (kept.load() or {}).items():
        pool.drain(name, drain)
        since, by = drain.since, drain.by
        log.warning("event=upstream_drained upstream=%s since=%.0f by=%r", name, since, by)


def routes(
    pool: Pool,
    kept: Kept[Drains],
    wall: Callable[[], Timestamp],
    monotonic: Callable[[], Instant],
) -> list[web.RouteDef]:
    writing = asyncio.Lock()

    def known() -> web.Response:
        now, time = monotonic(), wall()
        document = {
            "upstreams": report.told(pool, now, time),
            "maintenance": report.maintenance(pool, time),
        }
        return told(document)

    async def list_all(_request: web.Request) -> web.Response:
        return known()

    async def change(request: web.Request) -> web.Response:
        try:
            act, name, by = _asked(await request.read())
        except (ValueError, ClientError) as exc:
            return error(400, f"{str(exc).rstrip('.')}. {_HELP}.")
        one = pool.find(name)
        if one is None:
            names = ", ".join(other.name for other in pool.upstreams)
            return error(404, f"There is no upstream {name!r}. There are: {names}.")
        if act == "resume":
            pool.resume(name)
        elif not one.drained:
            pool.drain(name, Drain(wall(), by))
        log.warning(
            "event=upstream_%s upstream=%s in_flight=%d by=%s", act, name, one.in_flight, by
        )
        try:
            async with writing:  # or an older state might be the last to be written
                await asyncio.to_thread(kept.keep, kept.written(pool.drains))
        except OSError as exc:
            return error(500, f"Done, but a restart will not know of it: {exc.strerror}.")
        return known()

    return [web.get("/admin/upstreams", list_all), web.post("/admin/upstreams", change)]


def _asked(body: bytes) -> tuple[str, str, str]:
    asked: dict[str, Any] = read_object(body)
    by = asked.pop("by", "")
    if not (isinstance(by, str) and len(by) <= BY_CHARS_MAX and by.isprintable()):
        raise ValueError("That is no name of somebody")
    if len(asked) != 1 or not asked.keys() <= {"drain", "resume"}:
        raise ValueError("One thing at a time")
    ((act, name),) = asked.items()
    if not (isinstance(name, str) and name):
        raise ValueError("Its name is missing")
    return act, name, by
