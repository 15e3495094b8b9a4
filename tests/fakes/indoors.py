"""The path of a request without wires: the real handler, fill, collapse and memory, in one process.

What is injected are the two clocks, chance, and the exchange with an upstream, so that a test can
move time, hold an answer at any byte and say who is drawn. Meaning is off unless a test brings its
settings; then texts are as near as they share words (`tests.fakes.encoder`).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from edge import feedback
from edge.admission.keys import KeyRing
from edge.admission.plans import PlanSettings, Quotas
from edge.ask import Ask
from edge.batcher import Batcher
from edge.checks import Checks
from edge.collapse import Collapse, Flight
from edge.cors import Cors, CorsSettings
from edge.decisions import Decisions
from edge.dialects.openai_chat import OpenAiChat
from edge.dispatch import Dispatch
from edge.door import Door
from edge.errors import StreamCut, UpstreamError
from edge.feedback import Feedback
from edge.fill import Fill
from edge.gate import Gate
from edge.handler import PromptHandler
from edge.intake import Intake
from edge.large_bodies import LargeBodies
from edge.line import AdmissionSettings, Line
from edge.metrics import Metrics
from edge.negative import Negative
from edge.outlook.board import Board
from edge.outlook.history import History
from edge.outlook.settings import StatusSettings
from edge.policy import CacheSettings, RouteSettings
from edge.protection.settings import ProtectionSettings
from edge.refill import Refill
from edge.refresh import Refresh, RefreshSettings
from edge.request import EventStream, Head, Request, Response
from edge.routing.headers import Told
from edge.routing.pool import Pool
from edge.routing.settings import MaintenanceSettings, RoutingSettings, UpstreamSettings
from edge.routing.upstream import Upstream
from edge.rules import HttpSettings, Rules
from edge.sharing import Sharing, SharingSettings
from index.answers import Answers
from index.decision import DecisionSettings
from index.entry import Instant, Purge, Timestamp
from index.memory import MemorySettings
from index.store import StoreSettings
from sync.roster import Roster
from tests.fakes.alone import Alone
from tests.fakes.doors import CHAT, JSON, Answer, CutError, request_body
from tests.fakes.encoder import WordEncoder
from tests.fakes.entries import Purger
from tests.fakes.fleet import OPERATOR
from tests.fakes.upstream import chunks, completion, sse

SECRET = b"s" * 32


@dataclass
class Clock:
    """Both clocks of a node; they stand still unless moved."""

    now: float = 1_800_000_000.0

    def wall(self) -> Timestamp:
        return Timestamp(self.now)

    def monotonic(self) -> Instant:
        return Instant(self.now)


class Chance(Random):
    """Draws as it is told."""

    drawn = 0.5

    def random(self) -> float:
        return self.drawn


@dataclass
class Exchange:
    """One call as the upstream sees it."""

    number: int
    upstream: str
    body: dict[str, Any]
    sent_bytes: int = 0
    left: bool = False
    """The node closed the exchange."""

    @property
    def text(self) -> str:
        content: str = self.body["messages"][-1]["content"]
        return content

    @property
    def words(self) -> str:
        return f"answer {self.number} to: {self.text}"


Script = Callable[[Exchange], AsyncIterator[bytes]]


async def answer(exchange: Exchange) -> AsyncIterator[bytes]:
    """What was asked for, in pieces with a turn of the loop before each."""
    if exchange.body.get("stream"):
        pieces = [sse(data) for data in chunks(exchange.words, exchange.number)]
    else:
        pieces = [json.dumps(completion(exchange.words, exchange.number)).encode()]
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


@dataclass
class _Reply:
    exchange: Exchange
    pieces: AsyncIterator[bytes]
    is_stream: bool
    labels: Sequence[str] = ()

    async def chunks(self) -> AsyncIterator[bytes]:
        async for piece in self.pieces:
            self.exchange.sent_bytes += len(piece)
            yield piece

    async def read(self, bytes_max: int) -> bytes:
        return b"".join([piece async for piece in self.chunks()])


class Upstreams:
    """What `edge.wire.upstream` is to a node: exchanges, as scripted."""

    def __init__(self) -> None:
        self.calls: list[Exchange] = []
        self.script: Script = answer
        self.refusals: dict[str, Exception] = {}
        """Raised instead of an answer, by the upstream's name."""
        self.form: str | None = None
        """`json` or `stream`: the form of every answer, whatever was asked for."""
        self.labels: Sequence[str] = ()
        """What every answer may be purged by."""
        self._news = asyncio.Condition()

    async def called(self, times: int) -> None:
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(lambda: len(self.calls) >= times)

    @asynccontextmanager
    async def fetch(
        self,
        upstream: Upstream,
        path: str,
        body: bytes,
        trace: Mapping[str, str],
        hear: Callable[[Told], None],
    ) -> AsyncIterator[_Reply]:
        exchange = Exchange(len(self.calls) + 1, upstream.name, json.loads(body))
        async with self._news:
            self.calls.append(exchange)
            self._news.notify_all()
        if upstream.name in self.refusals:
            raise self.refusals[upstream.name]
        try:
            form = self.form or ("stream" if exchange.body.get("stream") else "json")
            yield _Reply(exchange, self.script(exchange), form == "stream", self.labels)
        finally:
            exchange.left = True


def down(name: str = "down", status: int = 502) -> UpstreamError:
    return UpstreamError(f"The upstream is {name}.", status=status)


@dataclass
class Indoors:
    handler: PromptHandler
    upstreams: Upstreams
    clock: Clock
    answers: Answers
    collapse: Collapse
    metrics: Metrics
    pool: Pool
    chance: Chance
    checks: Checks
    decisions: Decisions
    purge: Callable[[Purge], Coroutine[Any, Any, int]]
    roster: Roster
    """With API keys beside those that it was made with."""
    quotas: Quotas
    line: Line
    board: Board
    others: Alone
    running: set[asyncio.Task[None]] = field(default_factory=set)
    peer: str = "127.0.0.1"
    """The address that requests come from."""

    async def ask(self, prompt: Any, /, **fields: str) -> Answer:
        """As `tests.fakes.doors.ask`."""
        headers = {**JSON, **{name.replace("_", "-"): value for name, value in fields.items()}}
        return await self.request(headers, request_body(prompt))

    async def post(self, path: str, document: Any, /, **fields: str) -> Answer:
        headers = {**JSON, **{name.replace("_", "-"): value for name, value in fields.items()}}
        return await self.request(headers, json.dumps(document).encode(), path)

    async def request(self, headers: Mapping[str, str], body: bytes, path: str = CHAT) -> Answer:
        reply = await self.reply(headers, body, path)
        if isinstance(reply, Response):
            return Answer(reply.status, dict(reply.fields), reply.body)
        got = b""
        try:
            async for part in reply.chunks:
                got += part
        except StreamCut as exc:
            raise CutError(got.decode()) from exc
        finally:
            await reply.chunks.aclose()
        return Answer(reply.status, dict(reply.fields), got)

    async def reply(
        self, headers: Mapping[str, str], body: bytes, path: str = CHAT
    ) -> Response | EventStream:
        head = Head("POST", path, "", "edge.example", headers)
        refusal = self.handler.admit(head, self.peer)
        if refusal is not None:
            return refusal
        reply = self.handler.handle(Request(head, body, self.peer, "1.1"))
        return reply if isinstance(reply, Response) else await reply

    async def stream(self, text: str) -> EventStream:
        """The begun stream of an answer, not yet read."""
        reply = await self.reply(JSON, request_body(_streamed(text)))
        assert isinstance(reply, EventStream), reply
        return reply

    async def settled(self) -> None:
        """Until everything that was to be checked has been."""
        async with asyncio.timeout(20):
            await self.checks.idle()

    def at_rest(self) -> bool:
        """Nobody waits, nothing is being filled."""
        return not self.running and not len(self.collapse)


def _streamed(text: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "test-model", "messages": messages, "stream": True}


def _place(upstream: str | UpstreamSettings) -> UpstreamSettings:
    """By its name, or with more to be said of it."""
    if isinstance(upstream, str):
        return UpstreamSettings(f"http://{upstream}/v1", name=upstream)
    return upstream


@asynccontextmanager
async def indoors(
    data: Path,
    cache: CacheSettings | None = None,
    *,
    routes: tuple[RouteSettings, ...] = (),
    keys: Mapping[str, str] | None = None,
    residency: Mapping[str, tuple[str, ...]] | None = None,
    regions: Mapping[str, tuple[str, ...]] | None = None,
    plans: tuple[PlanSettings, ...] = (),
    admission: AdmissionSettings = AdmissionSettings(),  # noqa: B008  frozen
    key_plans: Mapping[str, str] | None = None,
    region: str = "",
    upstreams: Sequence[str | UpstreamSettings] = ("one",),
    routing: RoutingSettings | None = None,
    maintenance: Sequence[MaintenanceSettings] = (),
    semantic: DecisionSettings | None = None,
    protection: ProtectionSettings = ProtectionSettings(),  # noqa: B008  frozen
    refresh: RefreshSettings = RefreshSettings(),  # noqa: B008  frozen
) -> AsyncIterator[Indoors]:
    cache = cache or CacheSettings(mode="semantic" if semantic else "exact")
    clock, exchanges, metrics = Clock(), Upstreams(), Metrics()
    roster = Roster(OPERATOR.public_key())
    running: set[asyncio.Task[None]] = set()
    answers = Answers.open(data, StoreSettings(), MemorySettings(), semantic or DecisionSettings())
    reader = ThreadPoolExecutor(1)
    chance = Chance()
    try:
        async with asyncio.TaskGroup() as group:

            def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
                task = group.create_task(work, name=name)
                running.add(task)
                task.add_done_callback(running.discard)
                return task

            batcher = Batcher(answers.similar.find, reader, clock.wall, clock.monotonic)
            collapse = Collapse(spawn, cache.answer_bytes_max)
            places = [
                Upstream(place, place.name, frozenset(place.models))
                for place in map(_place, upstreams)
            ]
            pool = Pool(places, Random(0), routing, maintenance)

            def refill(ask: Ask, flight: Flight) -> Coroutine[Any, Any, None]:
                return fill(ask, flight)

            purger = Purger()

            async def purge(what: Purge) -> int:
                return await asyncio.to_thread(answers.purge, purger(what))

            async def forget(what: Purge) -> bool:
                await purge(what)
                return True

            numbers = iter(range(1, 10**9))

            def new_id() -> str:
                return f"test-{next(numbers)}"

            others = Alone(clock.wall)
            settings = answers.labels.settings
            checks = Checks(
                answers,
                batcher,
                Refill(collapse, refill, settings.judge_model, clock.monotonic, new_id),
                reader,
                settings,
                metrics,
                chance=chance,
                wall=clock.wall,
            )
            quotas = Quotas(plans)
            line = Line(
                admission,
                lambda able: pool.spare(able, clock.monotonic(), clock.wall()),
                metrics,
                clock.monotonic,
            )
            gate = Gate(
                quotas,
                line,
                metrics,
                queue_s=admission.queue_s,
                stale_after_s=admission.stale_after_s,
                secret=SECRET,
                monotonic=clock.monotonic,
                chance=chance,
            )
            board = Board(
                "edge",
                region,
                StatusSettings(),
                pool,
                line,
                admission,
                plans,
                History(),
                wall=clock.wall,
                monotonic=clock.monotonic,
            )
            negative = Negative("edge", cache.negative_ttl_s, lambda: answers.purges)
            large = LargeBodies(
                protection.large_bodies_share, SECRET, monotonic=clock.monotonic, cpu_s=lambda: 0.0
            )
            fill = Fill(
                answers=answers,
                batcher=batcher,
                collapse=collapse,
                dispatch=Dispatch(pool, metrics, clock.wall, clock.monotonic),
                fetch=exchanges.fetch,
                reader=reader,
                secret=SECRET,
                wall=clock.wall,
                monotonic=clock.monotonic,
                time_bound_ttl_s=cache.time_bound_ttl_s,
                metrics=metrics,
                checks=checks,
                sharing=Sharing(SharingSettings()),
                others=others,
                gate=gate,
                negative=negative,
                large=large,
            )
            rules = Rules("edge", HttpSettings(), cache, routes, region)
            dialect = OpenAiChat(cache.ignored_parameters, cache.temperature_max)
            ring = KeyRing(keys or {}, residency, key_plans, regions)
            ring.follow(roster.keybook)
            intake = Intake(
                rules,
                [dialect],
                ring,
                Cors(CorsSettings()),
                SECRET,
                feedback.PATHS,
                board.public,
                wall=clock.wall,
            )
            decisions = Decisions()
            door = Door(intake, protection, metrics, monotonic=clock.monotonic, chance=chance)
            refreshes = Refresh(
                refresh,
                collapse,
                fill,
                spawn,
                metrics,
                others.name,
                purges=lambda: answers.purges,
                monotonic=clock.monotonic,
                new_id=new_id,
            )
            handler = PromptHandler(
                rules,
                intake,
                answers,
                collapse,
                fill,
                metrics,
                decisions,
                Feedback(answers, decisions, reader, collapse.renew, forget),
                others,
                gate,
                door,
                refreshes,
                board.guidance,
                negative,
                large,
                wall=clock.wall,
                monotonic=clock.monotonic,
                new_id=new_id,
            )
            beside = [group.create_task(checks.run(), name="checks")]
            if semantic:
                encoder = WordEncoder()
                batcher.load(encoder)
                answers.similar.load(encoder.fingerprint, encoder.dimensions)
            yield Indoors(
                handler,
                exchanges,
                clock,
                answers,
                collapse,
                metrics,
                pool,
                chance,
                checks,
                decisions,
                purge,
                roster,
                quotas,
                line,
                board,
                others,
                running,
            )
            for task in (*running, *beside):
                task.cancel()
            large.close()
    finally:
        reader.shutdown()
        answers.close()
