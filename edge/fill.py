"""Getting an answer that memory does not have at hand: disk, meaning, others, or an upstream.

A fill runs in a flight (see `edge.collapse`) and tells it everything it learns. It stores the
answer *before* it lets the last event go, so that whoever has received an answer whole may rely on
it being remembered; and it stores only what is complete: ended by the model itself, not refused or
filtered, no error, and no purge of it since the fill began.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from edge import refresh, sharing
from edge.admission.foreseen import CHARS_A_TOKEN
from edge.ask import Ask, Curation, Given, Query
from edge.batcher import Batcher, Vector
from edge.collapse import Collapse, Failed, Flight, Found, Whole
from edge.decisions import Decided
from edge.dialects import Assembly
from edge.dialects.events import DONE, Event, EventReader
from edge.dispatch import Dispatch
from edge.errors import ClientError, EdgeError, Overloaded, UpstreamError
from edge.freshness import Expired, places, young_enough
from edge.gate import Gate, prompt_tokens
from edge.large_bodies import LargeBodies
from edge.metrics import Metrics
from edge.negative import Negative
from edge.policy import Mode, kind_of
from edge.routing.call import Call
from edge.routing.headers import Told
from edge.routing.need import Need
from edge.routing.upstream import Upstream
from edge.sharing import Sharing
from edge.status import Stale
from index import prompt
from index.answers import Answers
from index.decision import Match, Miss
from index.eligibility import PromptClass
from index.entry import (
    SHARED,
    CacheKey,
    Entry,
    Instant,
    NodeName,
    Question,
    Scope,
    Seen,
    Timestamp,
    Version,
)

log = logging.getLogger("fill")

JSON_ANSWER_BYTES_MAX = 64 * 1024 * 1024
PREAMBLE_EVENTS_MAX = 16
"""Events without a word that are held back until there is one: while nothing was shown another
upstream may answer instead."""


class UpstreamReply(Protocol):
    """The begun answer of an upstream: status 200, body still to come."""

    is_stream: bool
    labels: Sequence[str]
    """What it says its answer may be purged by, bounded (`edge.labels`)."""

    def chunks(self) -> AsyncIterator[bytes]: ...

    async def read(self, bytes_max: int) -> bytes: ...


class Fetch(Protocol):
    """One exchange with an upstream. Anything but a 200 is raised: an `UpstreamError` when another
    upstream may do better, a `ClientError` when the request itself is at fault. Whichever it was,
    `hear` is given what its header fields say of limits."""

    def __call__(
        self,
        upstream: Upstream,
        path: str,
        body: bytes,
        trace: Mapping[str, str],
        hear: Callable[[Told], None],
    ) -> AbstractAsyncContextManager[UpstreamReply]: ...


class Learner(Protocol):
    """Who learns from what was decided; see `edge.checks`."""

    def hit(self, query: Query, decided: Decided, entry: Entry) -> None: ...

    def miss(self, query: Query, decided: Decided, body: bytes) -> None: ...


class Others(Protocol):
    """The other nodes of the fleet; see `edge.fleet`."""

    @property
    def name(self) -> NodeName:
        """This node's."""

    def stamp(self, above: Version | None = None) -> Version:
        """For an answer that is complete now: what orders it among all nodes' answers.

        `above` the version of the one in whose place it comes.
        """

    def asked(self, entry: Entry) -> None:
        """Somebody was given it."""

    def stored(self, entry: Entry) -> None:
        """It was fetched from an upstream, and is here now."""

    async def find(self, scope: Scope, key: CacheKey) -> Entry | None:
        """The answer to that very request, if another node has it at hand; it is then here too."""


class Regional(Protocol):
    """What the nodes of a region share; see `edge.regional`."""

    async def find(self, scope: Scope, key: CacheKey) -> Entry | None:
        """The answer to that very request, if it is there; it is then here too."""

    def stored(self, entry: Entry) -> None:
        """It was fetched from an upstream, and is here now."""


@dataclass(slots=True)
class _Memo:
    """What a fill has to remember until it can store."""

    seen: Seen
    """The purges that were known here when it began."""
    decided: Decided
    question: Question | None = None
    vector: Vector | None = None
    time_bound: bool = False
    tokens: tuple[int, int] = (0, 0)
    """Of the prompt and of its complete answer, once there is one."""
    labels: Sequence[str] = ()
    """What the upstream says its answer may be purged by."""
    bypass: bool = False
    """Whether the prompt is of a class that memory has no part in."""
    stand_in: bool = False
    """Whether a local model stood in: its answer is not the one that was asked for."""


class Fill:
    """Fills flights. One for the node; each call is one fill."""

    def __init__(
        self,
        *,
        answers: Answers,
        batcher: Batcher,
        collapse: Collapse,
        dispatch: Dispatch,
        fetch: Fetch,
        reader: Executor,
        secret: bytes,
        wall: Callable[[], Timestamp],
        monotonic: Callable[[], Instant],
        time_bound_ttl_s: float,
        metrics: Metrics,
        checks: Learner,
        sharing: Sharing,
        others: Others,
        regional: Regional | None = None,
        gate: Gate,
        negative: Negative,
        large: LargeBodies,
    ) -> None:
        self._answers = answers
        self._batcher = batcher
        self._collapse = collapse
        self._dispatch = dispatch
        self._fetch = fetch
        self._reader = reader
        self._secret = secret
        self._wall = wall
        self._monotonic = monotonic
        self._time_bound_ttl_s = time_bound_ttl_s
        self._metrics = metrics
        self._checks = checks
        self._sharing = sharing
        self._others = others
        self._regional = regional
        self._gate = gate
        self._negative = negative
        self._large = large
        self._expired = Expired(answers, reader, wall)

    async def __call__(self, ask: Ask, flight: Flight) -> None:
        """Fill `flight`. What goes wrong becomes its outcome; only cancellation is raised."""
        try:
            decided = Decided(ask.request_id, ask.query.scope, ask.query.key)
            memo = _Memo(self._answers.begin(), decided)
            found = await self._look_up(ask, memo, flight)
            if found is not None:
                flight.settle(found)
            elif ask.query.curation and ask.query.curation.given:
                self._take(ask, memo, flight, ask.query.curation.given)
            elif ask.query.allowed.only_if_cached:
                raise EdgeError(
                    "No stored answer, and the request asked for nothing else (only-if-cached).",
                    status=504,
                    code="not_cached",
                )
            elif not await self._follow(ask, flight):
                await self._forward_or_stale(ask, memo, flight)
        except EdgeError as error:
            flight.settle(Failed(error))
        except asyncio.CancelledError:
            flight.settle(Failed(Overloaded("The node is stopping. Try again.", retry_after_s=1)))
            raise
        except Exception:
            log.exception("event=bug rid=%s", ask.request_id)
            flight.settle(Failed(EdgeError("The node made a mistake. It has been logged.")))

    # Memory

    async def _look_up(self, ask: Ask, memo: _Memo, flight: Flight) -> Found | None:
        """The very answer, or it though it has expired, or one by meaning, or another node's."""
        if match := await self._from_disk(ask):
            return Found(match)
        routed = await self._routed(ask, memo, flight)
        swr_s = ask.query.route.stale_while_revalidate_s
        if stale := await self._stale(ask, memo, swr_s):
            return Found(stale, "swr")
        if routed and (match := await self._by_meaning(ask, memo, flight, routed)):
            return Found(match)
        match = await self._from_elsewhere(ask, memo)
        return Found(match) if match else None

    async def _from_disk(self, ask: Ask) -> Match | None:
        if ask.query.allowed.lookup and not self._answers.all_resident:
            for scope, key in places(ask.query):
                stored = await asyncio.get_running_loop().run_in_executor(
                    self._reader, self._answers.fetch, scope, key, self._wall()
                )
                if stored is not None and young_enough(ask.query, stored, self._wall()):
                    return Match(stored, "exact")
        return None

    async def _routed(self, ask: Ask, memo: _Memo, flight: Flight) -> prompt.Routed | None:
        """What memory may do for a prompt of its kind; None where it has no part anyhow."""
        query, allowed = ask.query, ask.query.allowed
        if allowed.mode == Mode.OFF or not (allowed.lookup or allowed.store):
            return None
        routed = await self._large.work(
            query.caller.tenant,
            ask.client,
            len(query.body),
            partial(
                prompt.route, query.call.prompt, query.scope, self._secret, query.route.classes
            ),
        )
        memo.time_bound = routed.time_bound
        memo.bypass = flight.bypassed = routed.cls == PromptClass.BYPASS
        return routed

    async def _by_meaning(
        self, ask: Ask, memo: _Memo, flight: Flight, routed: prompt.Routed
    ) -> Match | None:
        query = ask.query
        allowed = query.allowed
        asked = routed.asked
        if asked is None:
            self._missed(memo, flight, Miss(f"{routed.cls}:{routed.reason}"))
            return None
        if allowed.mode < Mode.SEMANTIC:
            return None
        kind = kind_of(query.scope, query.route, routed.cls)
        # Who is about to be refused must know soon: meaning may save it if that takes no waiting.
        hurry = self._gate.refuses(ask, self._dispatch.able(_need(query)))
        verdict = await self._batcher.similar(
            query.scope, asked, kind, search=allowed.lookup, hurry=hurry
        )
        memo.vector = verdict.vector
        memo.question = asked if verdict.vector is not None else None
        ask.timings.steps.update(embed=verdict.embed_s, search=verdict.search_s)
        memo.decided = memo.decided.about(kind, asked)
        found = verdict.found
        if isinstance(found, Match) and young_enough(query, found.entry, self._wall()):
            memo.decided = flight.decided = memo.decided.served(found)
            self._checks.hit(query, memo.decided, found.entry)
            return found
        self._missed(memo, flight, found if isinstance(found, Miss) else Miss("too-old"))
        return None

    async def _from_elsewhere(self, ask: Ask, memo: _Memo) -> Match | None:
        """From what the region shares, or else from another node."""
        if memo.bypass or not (ask.query.allowed.lookup or ask.expired):
            return None
        if self._regional is not None:
            entry = await self._asked(ask, "redis", self._regional.find)
            if entry is not None:
                return Match(entry, "redis")
        entry = await self._asked(ask, "peer", self._others.find)
        return Match(entry, "exact") if entry is not None else None

    async def _asked(
        self,
        ask: Ask,
        whom: str,
        find: Callable[[Scope, CacheKey], Awaitable[Entry | None]],
    ) -> Entry | None:
        query, began = ask.query, self._monotonic()
        entry = await find(query.scope, query.key)
        now = self._wall()
        if entry is None or not young_enough(query, entry, now):
            return None
        if ask.expired is not None and not refresh.replaces(entry, ask.expired, now):
            return None
        ask.timings.steps[whom] = self._monotonic() - began
        return entry

    def _missed(self, memo: _Memo, flight: Flight, miss: Miss) -> None:
        memo.decided = flight.decided = memo.decided.missed(miss)
        self._metrics.semantic_miss(miss.reason)
        log.debug("event=semantic_miss rid=%s why=%s", memo.decided.request_id, miss.reason)

    def _take(self, ask: Ask, memo: _Memo, flight: Flight, given: Given) -> None:
        """Keep an answer that was brought along, as one that an upstream gave."""
        if given.seen is not None:
            memo.seen = given.seen
        if given.stored_by not in (None, "", self._others.name):
            memo.labels = (f"by:{given.stored_by}",)  # it is purged with that node still
        why = self._keep(ask, memo, given.body, json.loads(given.body))
        flight.settle(Whole(given.body, stored=not why, why=why))

    # Upstreams

    async def _follow(self, ask: Ask, flight: Flight) -> bool:
        """Wait for the answer that is fetched anew already, if an upstream is at it. That flight
        would have had to wait behind this one, and may fail where this one does not. Its answer
        comes in one piece: who wants a stream has its first words sooner from a call of its own."""
        query = ask.query
        if query.call.stream or not query.allowed.plain:
            return False
        other = self._collapse.find(refresh.name_of(query, self._answers.purges))
        if other is None or not other.called:
            return False
        try:
            outcome = await other.held()
        except EdgeError:
            return False
        flight.followed = True
        flight.settle(outcome)
        return True

    async def _forward_or_stale(self, ask: Ask, memo: _Memo, flight: Flight) -> None:
        """When no upstream answers, or none soon, an expired answer may do (RFC 5861, 4)."""
        limit_s = ask.query.route.stale_if_error_s
        try:
            await self._forward(ask, memo, flight)
        except (UpstreamError, Overloaded) as error:
            stale = None if flight.opened else await self._stale(ask, memo, limit_s)
            if stale is None:
                raise
            why: Stale = "sie" if isinstance(error, UpstreamError) else "busy"
            log.warning(
                "event=stale_served rid=%s expired_s=%.0f why=%s cause=%s",
                ask.request_id, self._wall() - stale.entry.expires_at, why, error,
            )  # fmt: skip
            flight.settle(Found(stale, why))

    async def _stale(self, ask: Ask, memo: _Memo, limit_s: float) -> Match | None:
        if memo.time_bound or memo.bypass:
            return None
        found = await self._expired.find(ask.query, limit_s)
        return Match(found, "stale") if found else None

    async def _forward(self, ask: Ask, memo: _Memo, flight: Flight) -> None:
        """When it is its turn, and again if the upstream turned out to take fewer at a time."""
        query = ask.query
        need = _need(query)
        able, purges = self._dispatch.able(need), self._answers.purges
        if self._gate.waits(able) and await self._stale(ask, memo, query.route.stale_if_error_s):
            ask.queue_s_max = min(ask.queue_s_max, self._gate.stale_after_s)
        try:
            await self._in_turn(ask, need, able, memo, flight)
        except UpstreamError as error:
            if not error.crowded or flight.opened:
                raise
            await self._in_turn(ask, need, able, memo, flight)
        except ClientError as error:
            if not memo.bypass:
                self._negative.keep(query, error, self._monotonic(), purges)
            raise

    async def _in_turn(
        self, ask: Ask, need: Need, able: tuple[Upstream, ...], memo: _Memo, flight: Flight
    ) -> None:
        """Have an upstream answer; which one, and what if it fails, is `edge.dispatch`'s."""
        exchange = partial(self._exchange, ask, memo, flight)
        async with self._gate.call(ask, able) as call:
            flight.called = True
            try:
                await self._dispatch(need, exchange, ask.request_id, stream=ask.query.call.stream)
            finally:
                prompt, call.answer = memo.tokens
                if flight.opened or call.answer:
                    call.used = (prompt or prompt_tokens(ask)) + (call.answer or flight.events)

    async def _exchange(self, ask: Ask, memo: _Memo, flight: Flight, call: Call) -> int:
        """One upstream's answer, into the flight. Returns about how many tokens it had."""
        dialect, stream, upstream = ask.query.dialect, ask.query.call.stream, call.upstream
        call.streams = stream
        usage = upstream.settings.stream_usage
        body = await self._large.work_at_once(
            len(ask.query.body),
            partial(dialect.upstream_body, ask.query.body, call.model, stream, usage),
        )
        trace = {k: ask.query.head.headers[k] for k in _TRACE if k in ask.query.head.headers}

        def hear(told: Told) -> None:
            call.told(told, self._monotonic())

        async with self._fetch(upstream, dialect.upstream_path, body, trace, hear) as reply:

            def begins() -> None:
                """The first token is here; from now on no other upstream has a say."""
                call.answers(self._monotonic(), whole=not reply.is_stream)
                self._gate.begun()
                ask.timings.steps["ttfb"] = self._monotonic() - call.began
                memo.labels = reply.labels
                memo.stand_in = upstream.settings.tier == "local"
                flight.stand_in = upstream.name if memo.stand_in else None

            if reply.is_stream:
                try:
                    return await self._stream(ask, memo, flight, reply, begins)
                finally:
                    call.tokens = flight.events
            whole = await reply.read(JSON_ANSWER_BYTES_MAX)
            answer = _json_object(whole)
            dialect.check(answer)
            begins()
            why = self._keep(ask, memo, whole, answer)
            flight.settle(Whole(whole, stored=not why, why=why))
            return memo.tokens[1]

    async def _stream(
        self,
        ask: Ask,
        memo: _Memo,
        flight: Flight,
        reply: UpstreamReply,
        begins: Callable[[], None],
    ) -> int:
        reader = EventReader()
        assembly = ask.query.dialect.assembly()
        preamble: list[Event] = []
        size = count = 0
        async for chunk in reply.chunks():
            size += len(chunk)
            if not (flight.storable or flight.wants_whole):
                assembly.forget()  # too large to keep, and nobody can ask for all of it any more
            elif size > JSON_ANSWER_BYTES_MAX:
                raise UpstreamError("The upstream's answer is too large.")
            for event in reader.feed(chunk):
                assembly.feed(event)
                if event == DONE:
                    self._land(ask, memo, flight, assembly)
                    return count
                if not count:
                    preamble.append(event)
                    if not assembly.speaks and len(preamble) < PREAMBLE_EVENTS_MAX:
                        continue
                    begins()
                for one in preamble or (event,):
                    count += 1
                    flight.publish(one)
                preamble.clear()
            await flight.room()
        if not assembly.finished:
            raise UpstreamError("The upstream broke off before its answer was complete.")
        # Every choice has ended, but not the stream: good enough to read, not to keep.
        flight.settle(Whole(assembly.body(), stored=False, why="unfinished"))
        return count

    def _land(self, ask: Ask, memo: _Memo, flight: Flight, assembly: Assembly) -> None:
        if not assembly.finished:
            raise UpstreamError("The upstream ended its stream before its answer was complete.")
        whole = assembly.body()
        why = self._keep(ask, memo, whole, json.loads(whole)) if flight.storable else "too-large"
        flight.publish(DONE)
        flight.settle(Whole(whole, stored=not why, why=why))

    def _keep(self, ask: Ask, memo: _Memo, body: bytes, answer: dict[str, Any]) -> str:
        """Store a complete answer if everything speaks for it; or else why not, in a word."""
        query = ask.query
        prompt, words = query.dialect.usage(answer)
        memo.tokens = prompt, words or len(body) // CHARS_A_TOKEN
        if memo.stand_in:
            return "stand-in"
        if not query.allowed.store or memo.bypass:
            return "not-wanted"
        if len(body) > query.answer_bytes_max:
            return "too-large"
        if unfit := query.dialect.unfit(answer):
            log.info("event=not_stored rid=%s why=%s", ask.request_id, unfit)
            return unfit
        now = self._wall()
        stored_at, expires_at = self._life(query, memo, now)
        if expires_at <= now:
            return "expired"
        curation = query.curation or Curation()
        held = self._answers.newest(query.scope, query.key)
        entry = Entry(
            scope=query.scope,
            key=query.key,
            model=query.call.prompt.model,
            body=body,
            stored_at=stored_at,
            expires_at=expires_at,
            question=memo.question,
            tokens=query.dialect.tokens(answer),
            stored_by=self._others.name,
            version=self._others.stamp(held and held[0]),
            seen=memo.seen,
            reach=query.reach,
            labels=tuple(sorted({*query.route.labels, *memo.labels, *curation.labels})),
            pinned=curation.pinned,
        )
        stored = self._answers.put(entry, memo.vector)
        self._others.stored(entry)
        if self._regional is not None:
            self._regional.stored(entry)
        self._share(ask, memo, entry, answer)
        self._checks.miss(query, memo.decided, body)
        if stored:
            return ""
        return "purged" if self._answers.dead(entry) else "busy"

    def _life(self, query: Query, memo: _Memo, now: Timestamp) -> tuple[Timestamp, Timestamp]:
        """From when to when an answer is fresh; one that was brought along is as old as it is."""
        ttl_s = query.route.ttl_s
        if memo.time_bound:
            ttl_s = min(ttl_s, self._time_bound_ttl_s)
        given = query.curation.given if query.curation else None
        if given is None:
            return now, Timestamp(now + ttl_s)
        expires_at = Timestamp(given.generated_at + ttl_s)
        return given.generated_at, given.expires_at or expires_at

    def _share(self, ask: Ask, memo: _Memo, entry: Entry, answer: dict[str, Any]) -> None:
        """Let all tenants have it, if enough of them asked for it and nothing speaks against it."""
        query = ask.query
        if query.shared_key is None or not self._sharing.asked(query.shared_key, query.scope):
            return
        request = json.loads(query.call.prompt.canonical)
        why = sharing.unfit(request, query.dialect.words(answer))
        log.info("event=%s rid=%s why=%s", "not_shared" if why else "shared", ask.request_id, why)
        if why is None:
            common = replace(entry, scope=SHARED, key=query.shared_key, question=None)
            self._answers.put(common, None)


_TRACE = ("traceparent", "tracestate")


def _need(query: Query) -> Need:
    return Need(query.call.prompt.model, len(query.body), query.regions, query.route.local)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise UpstreamError("The upstream's answer is not JSON.") from exc
    if not isinstance(document, dict):
        raise UpstreamError("The upstream's answer is not a JSON object.")
    return document
