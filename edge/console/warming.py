"""The part of the operator's listener that fills the cache: orders, and snapshots in and out."""

import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from aiohttp import web

from edge.console.replies import NO_STORE, error, told
from edge.curate import Curated, Order
from edge.errors import ClientError, EdgeError
from edge.json_body import read_object
from index.entry import (
    LABEL_CHARS_MAX,
    LABELS_MAX,
    TTL_MAX_S,
    NodeName,
    Seen,
    Timestamp,
    Version,
)
from sync.snapshot import MEDIA_TYPE, SnapshotError

log = logging.getLogger("admin")

CHUNK_BYTES = 256 * 1024


class Curator(Protocol):
    @property
    def seen(self) -> Seen:
        """The purges that are known here: to be asked for before an answer is."""

    async def __call__(self, order: Order) -> Curated: ...


class Snapshots(Protocol):
    """See `edge.snapshots`."""

    def export(
        self, tenant: str | None, model: str | None, label: str | None
    ) -> AsyncIterator[bytes]: ...

    async def take_in(self, chunks: AsyncIterator[bytes]) -> Mapping[str, Any]: ...


def routes(curate: Curator, snapshots: Snapshots) -> list[web.RouteDef]:
    """What is added to the listener."""

    async def warm(request: web.Request) -> web.StreamResponse:
        try:
            order, wants_answer = order_of(await request.read())
            done = await curate(order)
        except EdgeError as exc:
            return _refusal(exc)
        return told(_told(done, wants_answer))

    async def seen(_request: web.Request) -> web.StreamResponse:
        return told({"seen": curate.seen})

    async def export(request: web.Request) -> web.StreamResponse:
        unknown = request.query.keys() - {"tenant", "model", "label"}
        if unknown or not all(request.query.values()):
            return error(400, "Export takes tenant, model and label, none of them empty.")
        response = web.StreamResponse(headers={"content-type": MEDIA_TYPE, **NO_STORE})
        chunks = snapshots.export(*(request.query.get(n) for n in ("tenant", "model", "label")))
        try:
            await response.prepare(request)
            async for chunk in chunks:
                await response.write(chunk)
        except Exception:
            # The head has left; only a connection that breaks says that the rest will not come.
            log.exception("event=export_failed")
            if request.transport is not None:
                request.transport.abort()
        return response

    async def import_(request: web.Request) -> web.StreamResponse:
        try:
            found = await snapshots.take_in(request.content.iter_chunked(CHUNK_BYTES))
        except SnapshotError as exc:
            return error(400, f"{exc}.")
        # What was taken before something went wrong is told with it: 200 is for all of it only.
        return told(found, 422 if found["error"] else 200)

    return [
        web.post("/admin/warm", warm),
        web.get("/admin/warm", seen),
        web.get("/admin/export", export),
        web.post("/admin/import", import_),
    ]


_HELP = (
    'Say what is to be cached: "request", a chat request, and if there is more to say "tenant",'
    ' "labels", "ttl_s", "pin", "refresh", "dry_run"; with "answer" (words or a completion) or'
    ' "body" (a chat completion, verbatim, as text), "generated_at" and "seen" (the purges that'
    ' were known when it was fetched) nobody is asked; "return" hands the answer back'
)
_KNOWN = frozenset(
    ("request", "tenant", "labels", "ttl_s", "pin", "refresh", "dry_run")
) | frozenset(("answer", "body", "generated_at", "seen", "return"))
_OWN = ("model", "by", "route")


def order_of(body: bytes) -> tuple[Order, bool]:
    """An order, and whether its answer is to be handed back. Raises ClientError."""
    asked = read_object(body)
    if unknown := asked.keys() - _KNOWN:
        raise _unclear(f"Unknown: {', '.join(sorted(unknown))}")
    if not isinstance(asked.get("request"), dict):
        raise _unclear("There is no request")
    if "answer" in asked and "body" in asked:
        raise _unclear("Either an answer or a body")
    flags = {name: _flag(asked, name) for name in ("pin", "refresh", "dry_run", "return")}
    returned = flags.pop("return")
    ttl_s, generated_at = _number(asked, "ttl_s"), _number(asked, "generated_at")
    if ttl_s is not None and not 0 < ttl_s <= TTL_MAX_S:
        raise _unclear(f"ttl_s is more than 0 and at most {int(TTL_MAX_S)}")
    order = Order(
        body=json.dumps(asked["request"]).encode(),
        tenant=_text(asked, "tenant"),
        labels=_labels(asked.get("labels", [])),
        ttl_s=ttl_s,
        answer=_answer(asked),
        generated_at=None if generated_at is None else Timestamp(generated_at),
        seen=_seen(asked["seen"]) if "seen" in asked else None,
        **flags,
    )
    return order, returned


def _answer(asked: Mapping[str, Any]) -> bytes | str | None:
    body, answer = _text(asked, "body"), asked.get("answer")
    if body is not None or isinstance(answer, dict):
        spelled = body or json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        try:
            return spelled.encode()
        except UnicodeEncodeError as exc:
            raise _unclear("The answer holds half a character") from exc
    return _text(asked, "answer")


def _seen(value: Any) -> Seen:
    try:
        seen = tuple(sorted((NodeName(by), Version(version)) for by, version in value))
    except (TypeError, ValueError) as exc:
        raise _unclear("seen is a list of nodes and versions") from exc
    if not all(type(by) is str and type(version) is int for by, version in seen):
        raise _unclear("seen is a list of nodes and versions")
    return seen


def _labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > LABELS_MAX:
        raise _unclear(f"Labels are a list of at most {LABELS_MAX}")
    for label in value:
        if not isinstance(label, str) or not 0 < len(label) <= LABEL_CHARS_MAX:
            raise _unclear(f"A label is text of at most {LABEL_CHARS_MAX} characters")
        if not (label.isascii() and label.isprintable()) or label.partition(":")[0] in _OWN:
            raise _unclear(
                "A label is printable ASCII, and none of the node's own (model:, by:, route:)"
            )
    return tuple(sorted(set(value)))


def _flag(asked: Mapping[str, Any], name: str) -> bool:
    if not isinstance(value := asked.get(name, False), bool):
        raise _unclear(f"{name} is true or false")
    return value


def _text(asked: Mapping[str, Any], name: str) -> str | None:
    value = asked.get(name)
    if name in asked and not (isinstance(value, str) and value):
        raise _unclear(f"{name} is text, and not empty")
    return value


def _number(asked: Mapping[str, Any], name: str) -> float | None:
    value = asked.get(name)
    if name in asked and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise _unclear(f"{name} is a number")
    return value


def _told(done: Curated, wants_answer: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "outcome": done.outcome,
        "reason": done.reason or None,
        "asked": done.asked,
        "tokens": {"prompt": done.prompt_tokens, "answer": done.answer_tokens},
    }
    if done.entry is not None:
        told |= {"generated_at": done.entry.stored_at, "expires_at": done.entry.expires_at}
        if wants_answer:
            told["body"] = done.entry.body.decode()
            told["seen"] = done.entry.seen
    return told


def _unclear(what: str) -> ClientError:
    return ClientError(f"{what}. {_HELP}.")


def _refusal(why: EdgeError) -> web.Response:
    headers = {} if why.retry_after_s is None else {"retry-after": str(why.retry_after_s)}
    return error(why.status, why.message, why.code, headers)
