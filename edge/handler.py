"""The path of one request: admit, read, look up, then answer at once or wait, and deliver.

The same for every HTTP version; `edge.request` says how a wire calls it. What memory has at hand is
answered synchronously; all else is a coroutine that waits for a flight.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any, assert_never

from edge import feedback, status
from edge.admission.refusals import NEVER
from edge.ask import Ask, Query
from edge.collapse import Collapse, Flight, Found, Whole
from edge.decisions import Decided, Decisions
from edge.dialects.events import HEARTBEAT
from edge.documents import etag
from edge.door import Door
from edge.errors import (
    Busy,
    ClientError,
    EdgeError,
    OverQuota,
    SourceLimited,
    StreamCut,
    body_too_large,
)
from edge.feedback import Feedback
from edge.fill import Fill, Others
from edge.freshness import young_enough
from edge.gate import Gate
from edge.intake import Intake
from edge.large_bodies import LargeBodies
from edge.metrics import Metrics
from edge.negative import Negative
from edge.outlook.facts import iso
from edge.refresh import Refresh
from edge.request import (
    LARGE_BODY_BYTES,
    EventStream,
    Fields,
    Head,
    Reply,
    Request,
    Response,
)
from edge.rules import Rules
from edge.status import Stale
from index.answers import Answers
from index.entry import SHARED, CacheKey, Instant, Timestamp
from index.memory import Hot

log = logging.getLogger("http")

HEARTBEAT_S = 15.0


class PromptHandler:
    """Implements `edge.request.Handler`."""

    def __init__(
        self,
        rules: Rules,
        intake: Intake,
        answers: Answers,
        collapse: Collapse,
        fill: Fill,
        metrics: Metrics,
        decisions: Decisions,
        told: Feedback,
        others: Others,
        gate: Gate,
        door: Door,
        refresh: Refresh,
        guidance: Callable[[], Mapping[str, Any]],
        negative: Negative,
        large: LargeBodies,
        *,
        wall: Callable[[], Timestamp],
        monotonic: Callable[[], Instant],
        new_id: Callable[[], str],
    ) -> None:
        """`guidance` says when it will be calm, to those who are refused."""
        self._node = rules.node
        self._body_bytes_max = rules.http.body_bytes_max
        self._intake = intake
        self._answers = answers
        self._collapse = collapse
        self._fill = fill
        self._metrics = metrics
        self._decisions = decisions
        self._feedback = told
        self._others = others
        self._gate = gate
        self._door = door
        self._refresh = refresh
        self._guidance = guidance
        self._negative = negative
        self._large = large
        self._wall = wall
        self._monotonic = monotonic
        self._new_id = new_id

    @property
    def body_bytes_max(self) -> int:
        return self._body_bytes_max

    def admit(self, head: Head, peer: str) -> Response | None:
        try:
            answer = self._door.admit(head, peer)
        except EdgeError as error:
            return self.refuse(head, error)
        if answer is None:
            return None
        fields = (*answer.fields, ("x-request-id", self._new_id()))
        return Response(answer.status, fields, answer.body)

    async def wait_to_read(self, head: Head, peer: str) -> None:
        await self._large.read(self._intake.tenant(head), peer)

    # Handle: a complete request.

    def handle(self, request: Request) -> Response | Coroutine[Any, Any, Reply]:
        if request.head.path in feedback.PATHS:
            return self._guarded(request.head, self._tell(request))
        if len(request.body) > LARGE_BODY_BYTES:
            return self._guarded(request.head, self._handle_large(request))
        try:
            ask = Ask(self._intake.read(request), self._monotonic(), self._new_id(), request.peer)
            self._gate.request(ask)
            return self._from_memory(ask) or self._guarded(request.head, self._wait(ask), ask)
        except EdgeError as error:
            return self.refuse(request.head, error)
        except Exception as exc:
            return self.refuse(request.head, self._bug(exc))

    async def _tell(self, request: Request) -> Reply:
        head = request.head
        if len(request.body) > LARGE_BODY_BYTES:
            raise body_too_large(LARGE_BODY_BYTES)
        body = await self._feedback(head.path, self._intake.scope(head), request.body)
        fields = (status.JSON, status.PRIVATE, ("x-request-id", self._new_id()))
        return Response(200, (*fields, *self._intake.cors(head)), body)

    async def _handle_large(self, request: Request) -> Reply:
        """Parsing megabytes takes too long for the loop; it is done beside it, in turn."""
        tenant, size = self._intake.tenant(request.head), len(request.body)
        read = partial(self._intake.read, request)
        query = await self._large.work(tenant, request.peer, size, read)
        ask = Ask(query, self._monotonic(), self._new_id(), request.peer)
        self._gate.request(ask)
        return self._from_memory(ask) or await self._wait(ask)

    def _from_memory(self, ask: Ask) -> Response | None:
        query = ask.query
        if not query.allowed.lookup:
            return None
        now = self._wall()
        hot = self._answers.recall(query.scope, query.key, now)
        if hot is None and query.shared_key is not None:
            hot = self._answers.recall(SHARED, query.shared_key, now)
        if hot is None or not young_enough(query, hot.entry, now):
            if (error := self._negative.find(query, self._monotonic())) is not None:
                self._metrics.negative_hit()
                raise error
            return None
        return self._hit(ask, hot, "exact", now)

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
        flight, led = self._collapse.join(
            _flight_key(ask, self._answers.purges), lambda f: self._fill(ask, f)
        )
        flight.hold()
        handed_over = False
        try:
            if not ask.query.call.stream:
                return await self._whole(ask, flight, led=led)
            await flight.began()
            if not flight.opened:
                return await self._whole(ask, flight, led=led)
            chunks = self._live(ask, flight)
            await anext(chunks)  # started, so that closing it releases the flight
            handed_over = True
            return self._event_stream(ask, flight, chunks, led=led)
        except EdgeError as error:
            if led or again or isinstance(error, ClientError | OverQuota | Busy):
                raise  # a stream that has begun does not come here: see `_live`
            raise _LeaderFailedError from error
        finally:
            if not handed_over:
                flight.release()

    async def _whole(self, ask: Ask, flight: Flight, *, led: bool) -> Response:
        outcome = await flight.whole()
        match outcome:
            case Found(match, why):
                hot = self._answers.keep(match.entry)
                decided = None if why else flight.decided
                return self._hit(ask, hot, match.kind, self._wall(), decided, why)
            case Whole():
                return self._filled(ask, flight, outcome, led=led and not flight.followed)
        assert_never(outcome)

    # Deliver.

    def _hit(
        self,
        ask: Ask,
        hot: Hot,
        kind: str,
        now: Timestamp,
        decided: Decided | None = None,
        why: Stale | None = None,
    ) -> Response:
        """An answer from memory, in the form that was asked for. Forms are made once."""
        entry = hot.entry
        shared = entry.scope != ask.query.scope
        self._note(ask, decided, exact=kind != "semantic", shared_key=entry.key if shared else None)
        form = ask.query.form
        made = hot.forms.get(form)
        if not isinstance(made, tuple):
            made = _render(ask.query, entry.body)
            hot.attach(form, made)
        body, tag = made
        self._answers.touch(hot)
        self._others.asked(entry)
        self._count(kind, ask)
        ttl_s = entry.expires_at - now
        if why is not None:
            self._metrics.stale(why)
            if why == "swr":
                self._refresh.revalidate(ask, entry)
            said = status.stale(self._node, ttl_s, why)
        else:
            detail = "shared" if shared else kind if kind in ("semantic", "redis") else ""
            said = status.hit(self._node, ttl_s, detail)
            if kind == "exact" and not shared:
                self._refresh.served(ask, hot, now)
        fields: Fields = (
            ("cache-status", said),
            ("age", str(max(0, int(now - entry.stored_at)))),
            ("etag", tag),
        )
        if entry.stored_by != self._others.name:
            fields = (*fields, ("x-promptedge-stored-by", entry.stored_by))
        return Response(200, self._fields(ask, fields, kind), body)

    def _filled(self, ask: Ask, flight: Flight, whole: Whole, *, led: bool) -> Response:
        body, tag = _render(ask.query, whole.body)
        cache_status = self._forward_status(ask, flight, stored=led and whole.stored, led=led)
        fields = (("cache-status", cache_status), ("etag", tag), *_stand_in(flight))
        return Response(200, self._fields(ask, fields, self._count_forward(ask, flight, led)), body)

    def _event_stream(
        self, ask: Ask, flight: Flight, chunks: AsyncGenerator[bytes, None], *, led: bool
    ) -> Reply:
        cache_status = self._forward_status(ask, flight, stored=False, led=led)
        fields = (("cache-status", cache_status), *_stand_in(flight))
        return EventStream(
            200, self._fields(ask, fields, self._count_forward(ask, flight, led)), chunks
        )

    def _forward_status(self, ask: Ask, flight: Flight, *, stored: bool, led: bool) -> str:
        self._note(ask, flight.decided)
        reason = flight.decided.reason if flight.decided else ""
        return ask.query.forward_status(self._node, reason, stored=stored, collapsed=not led)

    def _note(
        self,
        ask: Ask,
        decided: Decided | None,
        *,
        exact: bool = False,
        shared_key: CacheKey | None = None,
    ) -> None:
        """Under the name of this very request, which may have joined another's flight."""
        if decided is None:
            scope, key = ask.query.scope, ask.query.key
            decided = Decided(ask.request_id, scope, key, exact=exact, shared_key=shared_key)
        elif decided.request_id != ask.request_id:
            decided = replace(decided, request_id=ask.request_id)
        self._decisions.note(decided)

    async def _live(self, ask: Ask, flight: Flight) -> AsyncGenerator[bytes, None]:
        dialect, wants_usage = ask.query.dialect, ask.query.call.wants_usage
        reader = flight.enter()  # at once: a client that takes nothing at all holds the fill back
        try:
            yield b""
            async for batch in flight.batches(reader, HEARTBEAT_S):
                parts = [dialect.live(event, wants_usage) for event in batch]
                yield b"".join(part for part in parts if part) if batch else HEARTBEAT
        except EdgeError as error:
            yield dialect.error_event(error)
            raise StreamCut(error.message) from error
        finally:
            flight.leave(reader)
            flight.release()

    def _fields(self, ask: Ask, fields: Fields, how: str) -> Fields:
        form = status.EVENT_STREAM if ask.query.call.stream else (status.JSON, status.PRIVATE)
        return (
            *form,
            *fields,
            ("server-timing", ask.timings.field_value(how)),
            ("x-request-id", ask.request_id),
            *self._gate.fields(ask),
            *ask.query.cors,
        )

    def refuse(self, head: Head | None, error: EdgeError, ask: Ask | None = None) -> Response:
        self._metrics.answered("refused" if error.status < 500 else "failed", 0.0)
        request_id = ask.request_id if ask else self._new_id()
        level = logging.DEBUG if isinstance(error, SourceLimited) else logging.INFO
        what = "event=refused rid=%s status=%d code=%s"
        log.log(level, what, request_id, error.status, error.code)
        fields: Fields = (
            status.JSON,
            ("cache-control", "no-store"),
            ("x-request-id", request_id),
            *error.fields,
            *self._intake.cors(head),
        )
        if error.retry_after_s is not None:
            fields = (*fields, ("retry-after", str(error.retry_after_s)))
        body = self._intake.dialect(head).error_body(error, self._advice(error))
        return Response(error.status, fields, body)

    def _advice(self, error: EdgeError) -> Mapping[str, Any]:
        """When to come again, for what time will cure."""
        if error.status not in (429, 503) or NEVER in error.fields:
            return {}
        after_s = error.retry_after_s
        retry_at = None if after_s is None else iso(ceil(self._wall() + after_s))
        return {"retry_at": retry_at, **self._guidance()}

    def _bug(self, exc: Exception) -> EdgeError:
        """The one place where what nobody foresaw becomes an answer."""
        log.error("event=bug", exc_info=exc)
        return EdgeError("The node made a mistake. It has been logged.")

    def _count_forward(self, ask: Ask, flight: Flight, led: bool) -> str:
        bypassed = ask.query.bypass or flight.bypassed
        how = "bypass" if bypassed else "miss" if ask.query.allowed.lookup else "request"
        how = how if led else "collapsed"
        self._count(how, ask)
        return how

    def _count(self, how: str, ask: Ask) -> None:
        elapsed = self._monotonic() - ask.began
        self._metrics.answered(how, elapsed)
        log.debug("event=answered rid=%s outcome=%s ms=%.2f", ask.request_id, how, elapsed * 1e3)


def _render(query: Query, answer: bytes) -> tuple[bytes, str]:
    """The form of `answer` that the query asks for, and its strong entity tag."""
    stream = query.call.stream
    body = query.dialect.replay(answer, query.call.wants_usage) if stream else answer
    return body, etag(body)


def _stand_in(flight: Flight) -> Fields:
    """Says so if a local model answered for those that could not (a string of RFC 9651)."""
    if flight.stand_in is None:
        return ()
    name = flight.stand_in.replace("\\", "\\\\").replace('"', '\\"')
    return (("x-promptedge-upstream", f'"{name}"; tier=local'),)


class _LeaderFailedError(Exception):
    """The flight that was joined failed; whoever leads the next one may do better."""


def _flight_key(ask: Ask, purges: int) -> object:
    """Requests that may share a fill; None for one that has wishes of its own.

    What was asked after a purge shares nothing with what was asked before, nor do keys of a tenant
    whose prompts may not go to the same regions.
    """
    query = ask.query
    plain = query.allowed.plain
    return (query.scope, query.key, query.allowed.mode, query.regions, purges) if plain else None
