"""The path of one request: admit, parse, look up, then answer at once or fill, and deliver.

The same for every HTTP version; `edge.request` says how a wire calls it. What memory has at hand is
answered synchronously; all else is a coroutine that waits for a flight.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Any, assert_never

from annotated_types import Gt

from edge import status
from edge.admission.keys import KeyRing
from edge.ask import Ask
from edge.collapse import Collapse, Flight, Found, Whole
from edge.cors import Cors
from edge.dialects import Call, Dialect
from edge.dialects.events import HEARTBEAT
from edge.errors import ClientError, EdgeError, StreamCut, body_too_large
from edge.fill import Fill, young_enough
from edge.metrics import Metrics
from edge.policy import Allowed, CacheSettings, Mode, Route, RouteSettings, allowed, route
from edge.request import EventStream, Fields, Head, Reply, Request, Response
from index.answers import Answers
from index.entry import Instant, Timestamp
from index.memory import Hot
from index.prompt import exact_key

log = logging.getLogger("http")

BODY_MEMO_BYTES_MAX = 4096
BODY_MEMO_ENTRIES = 1024
PARSE_INLINE_BYTES_MAX = 64 * 1024
HEARTBEAT_S = 15.0
ALLOWED_POST = "POST, OPTIONS"
ALLOWED_GET = "GET, HEAD, OPTIONS"


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Limits that hold for every HTTP version."""

    body_bytes_max: Annotated[int, Gt(0)] = 8 * 1024 * 1024
    """The largest request body, in bytes; a larger one is refused with 413 before it is read."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator decided, as far as a request's path depends on it."""

    node: str
    """The node's name in `Cache-Status`: an RFC 9651 token."""
    http: HttpSettings
    cache: CacheSettings
    routes: tuple[RouteSettings, ...]


class ModelList:
    """The answer to `GET /v1/models`, kept ready by the node."""

    def __init__(self) -> None:
        self.body = b'{"object":"list","data":[]}'

    def put(self, models: Sequence[Mapping[str, Any]]) -> None:
        self.body = json.dumps(
            {"object": "list", "data": list(models)}, separators=(",", ":")
        ).encode()

    def find(self, name: str) -> bytes | None:
        for model in json.loads(self.body)["data"]:
            if model["id"] == name:
                return json.dumps(model, separators=(",", ":")).encode()
        return None


class PromptHandler:
    """Implements `edge.request.Handler`."""

    def __init__(
        self,
        rules: Rules,
        dialects: Sequence[Dialect],
        keys: KeyRing,
        cors: Cors,
        answers: Answers,
        collapse: Collapse,
        fill: Fill,
        metrics: Metrics,
        *,
        secret: bytes,
        wall: Callable[[], Timestamp],
        monotonic: Callable[[], Instant],
        new_id: Callable[[], str],
    ) -> None:
        self.models = ModelList()
        self._rules = rules
        self._dialects = {path: dialect for dialect in dialects for path in dialect.paths}
        self._default_dialect = dialects[0]
        self._keys = keys
        self._cors = cors
        self._answers = answers
        self._collapse = collapse
        self._fill = fill
        self._metrics = metrics
        self._secret = secret
        self._wall = wall
        self._monotonic = monotonic
        self._new_id = new_id
        by_operation = {dialect.operation: dialect for dialect in dialects}
        self._parse_memo = lru_cache(BODY_MEMO_ENTRIES)(
            lambda operation, body: by_operation[operation].parse(body)
        )
        self._route = lru_cache(256)(lambda model: route(model, rules.routes, rules.cache))

    @property
    def body_bytes_max(self) -> int:
        return self._rules.http.body_bytes_max

    # Admit: what can be said before the body is read.

    def admit(self, head: Head) -> Response | None:
        try:
            return self._admit(head)
        except EdgeError as error:
            return self.refuse(head, error)

    def _admit(self, head: Head) -> Response | None:
        methods = self._methods(head.path)
        if head.method == "OPTIONS":
            return self._options(head, methods)
        if head.method not in methods.split(", "):
            raise ClientError(
                f"{head.method} is not allowed here. Allowed: {methods}.",
                status=405,
                code="method_not_allowed",
                fields=(("allow", methods),),
            )
        scope = self._keys.scope(head.headers.get("authorization"))
        del scope  # known again when the body is here; now only whether there is one
        if head.method == "POST":
            self._check_body_fields(head.headers)
            return None
        return self._get_models(head)

    def _methods(self, path: str) -> str:
        if path in self._dialects:
            return ALLOWED_POST
        if _model_path(path) is not None:
            return ALLOWED_GET
        raise ClientError(
            "There is nothing here. Prompts go to POST /v1/chat/completions.",
            status=404,
            code="not_found",
        )

    def _options(self, head: Head, methods: str) -> Response:
        fields: Fields = (("allow", methods), ("x-request-id", self._new_id()))
        if "access-control-request-method" in head.headers:
            return Response(204, (*fields, *self._cors.preflight(head.headers, methods)))
        return Response(204, (*fields, *self._cors.fields(head.headers)))

    def _check_body_fields(self, headers: Mapping[str, str]) -> None:
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise ClientError(
                "Send the prompt as Content-Type: application/json.",
                status=415,
                code="unsupported_media_type",
                fields=(("accept", "application/json"),),
            )
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise ClientError(
                "Compressed request bodies are not taken. Send it without Content-Encoding.",
                status=415,
                code="unsupported_content_encoding",
                fields=(("accept-encoding", "identity"),),
            )
        if headers.get("expect", "100-continue").strip().lower() != "100-continue":
            raise ClientError("The only Expect known is 100-continue.", status=417)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            raise ClientError("Content-Length must be a number of bytes.")
        if int(length[:20]) > self.body_bytes_max:
            raise body_too_large(self.body_bytes_max)

    def _get_models(self, head: Head) -> Response:
        name = _model_path(head.path)
        body = self.models.find(name) if name else self.models.body
        if body is None:
            raise ClientError(
                f"The model {name!r} does not exist on this node.",
                status=404,
                code="model_not_found",
                param="model",
            )
        fields = (
            status.JSON,
            ("cache-control", "private, max-age=60"),
            ("etag", _etag(body)),
            ("x-request-id", self._new_id()),
            *self._cors.fields(head.headers),
        )
        return Response(200, fields, body)

    # Handle: a complete request.

    def handle(self, request: Request) -> Response | Coroutine[Any, Any, Reply]:
        if len(request.body) > PARSE_INLINE_BYTES_MAX:
            return self._guarded(request.head, self._handle_large(request))
        try:
            ask = self._read(request, self._parse(request))
            return self._from_memory(ask) or self._guarded(ask.head, self._wait(ask), ask)
        except EdgeError as error:
            return self.refuse(request.head, error)
        except Exception as exc:
            return self.refuse(request.head, self._bug(exc))

    async def _handle_large(self, request: Request) -> Reply:
        """Parsing megabytes takes too long for the loop; it is done beside it."""
        ask = self._read(request, await asyncio.to_thread(self._parse, request))
        return self._from_memory(ask) or await self._wait(ask)

    def _parse(self, request: Request) -> Call:
        dialect = self._dialects[request.head.path]
        if len(request.body) > BODY_MEMO_BYTES_MAX:
            return dialect.parse(request.body)
        return self._parse_memo(dialect.operation, request.body)

    def _read(self, request: Request, call: Call) -> Ask:
        began = self._monotonic()
        head = request.head
        _refuse_upstream_headers(head.headers)
        scope = self._keys.scope(head.headers.get("authorization"))
        rules: Route = self._route(call.prompt.model)
        wishes = allowed(head.headers, rules.mode)
        if call.bypass:
            wishes = Allowed(Mode.OFF, lookup=False, store=False)
        return Ask(
            head=head,
            body=request.body,
            dialect=self._dialects[head.path],
            call=call,
            scope=scope,
            key=exact_key(call.prompt, scope, self._secret),
            allowed=wishes,
            route=rules,
            began=began,
            request_id=self._new_id(),
            answer_bytes_max=self._rules.cache.answer_bytes_max,
        )

    def _from_memory(self, ask: Ask) -> Response | None:
        if not ask.allowed.lookup:
            return None
        now = self._wall()
        hot = self._answers.recall(ask.scope, ask.key, now)
        if hot is None or not young_enough(ask, hot.entry, now):
            return None
        return self._hit(ask, hot, "exact")

    # Wait: join the flight that brings the answer.

    async def _guarded(
        self, head: Head, reply: Coroutine[Any, Any, Reply], ask: Ask | None = None
    ) -> Reply:
        try:
            return await reply
        except EdgeError as error:
            return self.refuse(head, error, ask)
        except Exception as exc:
            return self.refuse(head, self._bug(exc), ask)

    async def _wait(self, ask: Ask) -> Reply:
        try:
            return await self._join(ask)
        except _LeaderFailedError:
            # Followers do not stampede: the first to come back leads, the others join it.
            return await self._join(ask, again=True)

    async def _join(self, ask: Ask, *, again: bool = False) -> Reply:
        flight, led = self._collapse.join(_flight_key(ask), lambda f: self._fill(ask, f))
        flight.hold()
        handed_over = False
        try:
            if not ask.call.stream:
                return await self._whole(ask, flight, led=led)
            await flight.began()
            if not flight.opened:
                return await self._whole(ask, flight, led=led)
            chunks = self._live(ask, flight)
            await anext(chunks)  # started, so that closing it releases the flight
            handed_over = True
            return self._event_stream(ask, chunks, led=led)
        except EdgeError as error:
            if led or again or isinstance(error, ClientError) or flight.opened:
                raise
            raise _LeaderFailedError from error
        finally:
            if not handed_over:
                flight.release()

    async def _whole(self, ask: Ask, flight: Flight, *, led: bool) -> Response:
        outcome = await flight.whole()
        match outcome:
            case Found(match):
                return self._hit(ask, self._answers.keep(match.entry), match.kind)
            case Whole():
                return self._filled(ask, outcome, led=led)
        assert_never(outcome)

    # Deliver.

    def _hit(self, ask: Ask, hot: Hot, kind: str) -> Response:
        """An answer from memory, in the form that was asked for. Forms are made once."""
        now = self._wall()
        entry = hot.entry
        form = "json" if not ask.call.stream else f"events:{ask.call.wants_usage}"
        made = hot.forms.get(form)
        if not isinstance(made, tuple):
            made = self._render(ask, entry.body)
            hot.attach(form, made)
        body, etag = made
        self._answers.touch(hot)
        self._count(kind, ask)
        fields = (
            ("cache-status", status.hit(self._rules.node, entry.expires_at - now, kind != "exact")),
            ("age", str(max(0, int(now - entry.stored_at)))),
            ("etag", etag),
        )
        return Response(200, self._fields(ask, fields, kind), body)

    def _render(self, ask: Ask, answer: bytes) -> tuple[bytes, str]:
        """A representation of `answer`, and its strong entity tag."""
        body = ask.dialect.replay(answer, ask.call.wants_usage) if ask.call.stream else answer
        return body, _etag(body)

    def _filled(self, ask: Ask, whole: Whole, *, led: bool) -> Response:
        body, etag = self._render(ask, whole.body)
        cache_status = ask.forward_status(
            self._rules.node, stored=led and whole.stored, collapsed=not led
        )
        fields: Fields = (("cache-status", cache_status), ("etag", etag))
        return Response(200, self._fields(ask, fields, self._count_forward(ask, led)), body)

    def _event_stream(self, ask: Ask, chunks: AsyncGenerator[bytes, None], *, led: bool) -> Reply:
        cache_status = ask.forward_status(self._rules.node, stored=False, collapsed=not led)
        fields: Fields = (("cache-status", cache_status),)
        return EventStream(200, self._fields(ask, fields, self._count_forward(ask, led)), chunks)

    async def _live(self, ask: Ask, flight: Flight) -> AsyncGenerator[bytes, None]:
        try:
            yield b""
            async for batch in flight.batches(HEARTBEAT_S):
                parts = [ask.dialect.live(event, ask.call.wants_usage) for event in batch]
                yield b"".join(part for part in parts if part) if batch else HEARTBEAT
        except EdgeError as error:
            yield ask.dialect.error_event(error)
            raise StreamCut(error.message) from error
        finally:
            flight.release()

    def _fields(self, ask: Ask, fields: Fields, how: str) -> Fields:
        form = status.EVENT_STREAM if ask.call.stream else (status.JSON, status.PRIVATE)
        return (
            *form,
            *fields,
            ("server-timing", ask.timings.field_value(how)),
            ("x-request-id", ask.request_id),
            *self._cors.fields(ask.head.headers),
        )

    def refuse(self, head: Head | None, error: EdgeError, ask: Ask | None = None) -> Response:
        self._metrics.answered("refused" if error.status < 500 else "failed", 0.0)
        request_id = ask.request_id if ask else self._new_id()
        log.info("event=refused rid=%s status=%d code=%s", request_id, error.status, error.code)
        dialect = self._dialects.get(head.path) if head else None
        fields: Fields = (
            status.JSON,
            ("cache-control", "no-store"),
            ("x-request-id", request_id),
            *error.fields,
            *self._cors.fields(head.headers if head else {}),
        )
        if error.retry_after_s is not None:
            fields = (*fields, ("retry-after", str(error.retry_after_s)))
        body = (dialect or self._default_dialect).error_body(error)
        return Response(error.status, fields, body)

    def _bug(self, exc: Exception) -> EdgeError:
        """The one place where what nobody foresaw becomes an answer."""
        log.error("event=bug", exc_info=exc)
        return EdgeError("The node made a mistake. It has been logged.")

    def _count_forward(self, ask: Ask, led: bool) -> str:
        how = "bypass" if ask.bypass else "miss" if ask.allowed.lookup else "request"
        how = how if led else "collapsed"
        self._count(how, ask)
        return how

    def _count(self, how: str, ask: Ask) -> None:
        elapsed = self._monotonic() - ask.began
        self._metrics.answered(how, elapsed)
        log.debug("event=answered rid=%s outcome=%s ms=%.2f", ask.request_id, how, elapsed * 1e3)


class _LeaderFailedError(Exception):
    """The flight that was joined failed; whoever leads the next one may do better."""


def _flight_key(ask: Ask) -> object:
    """Requests that may share a fill; None for one that has wishes of its own."""
    wishes = ask.allowed
    plain = wishes.lookup and wishes.store and wishes.age_max_s is None
    if not plain or wishes.only_if_cached:
        return None
    return (ask.scope, ask.key, wishes.mode)


def _model_path(path: str) -> str | None:
    """The model named by a `/v1/models` path, "" for the list, None for other paths."""
    for prefix in ("/v1/models", "/models"):
        if path == prefix:
            return ""
        if path.startswith(f"{prefix}/"):
            return path[len(prefix) + 1 :]
    return None


_UPSTREAM_HEADERS = ("x-portkey-custom-host", "helicone-target-url", "x-upstream-url", "api-base")


def _refuse_upstream_headers(headers: Mapping[str, str]) -> None:
    for name in _UPSTREAM_HEADERS:
        if name in headers:
            raise ClientError(
                f"The header {name} names an upstream. Which one answers is the operator's choice.",
                code="unknown_parameter",
                param=name,
            )


def _etag(body: bytes) -> str:
    return f'"{blake2b(body, digest_size=16).hexdigest()}"'
