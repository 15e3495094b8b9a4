"""The composition root: builds each part once, starts in order, drains, stops in reverse.

Order matters in two places. Exact hits are served before anything slow is ready: the embedder, the
vectors and the local model load behind the open listeners, and `/readyz` says so. And on the way
down nothing is closed before what still writes to it.
"""

import asyncio
import contextlib
import logging
import os
import resource
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from secrets import token_hex
from typing import Any

from edge import feedback, identity
from edge.admission.plans import Quotas
from edge.advice import keep_saying
from edge.ask import Ask
from edge.batcher import Batcher
from edge.checks import Checks
from edge.collapse import Collapse, Flight
from edge.config import Config
from edge.console import explaining, membership, purging, warming
from edge.console import keys as handing_out
from edge.console import upstreams as operated
from edge.console.admin import AdminServer
from edge.cors import Cors
from edge.curate import Curate
from edge.decisions import Decisions
from edge.dialects.openai_chat import OpenAiChat
from edge.dispatch import Dispatch
from edge.door import Door
from edge.feedback import Feedback
from edge.fill import Fill
from edge.fleet import Fleet
from edge.gate import Gate
from edge.handler import PromptHandler
from edge.imported import ImportedPurges
from edge.insight import Insight
from edge.intake import Intake
from edge.kept import Kept
from edge.key_desk import KeyDesk
from edge.large_bodies import LargeBodies
from edge.limits import FleetLimits
from edge.line import Line
from edge.listeners import Listeners
from edge.meaning import Meaning
from edge.metrics import Metrics
from edge.models import Models
from edge.negative import Negative
from edge.outlook import board
from edge.outlook.board import Board
from edge.outlook.history import History, Learned
from edge.overview import Overview
from edge.policy import expired_served_s
from edge.preflight import (
    check_residency,
    check_values,
    key_ring,
    redis_password,
    upstream_key,
    upstreams,
    warnings,
)
from edge.protection.connections import Connections
from edge.purges import Purges
from edge.refill import Refill
from edge.refresh import Refresh
from edge.regional.client import RedisClient
from edge.regional.health import Health
from edge.regional.strict import StrictQuotas
from edge.regional.tier import RegionalTier
from edge.request_ids import RequestIds
from edge.routing.pool import Pool
from edge.rules import Rules
from edge.sharing import Sharing
from edge.snapshots import Snapshots
from edge.untold import Untold
from edge.wire.upstream import UpstreamClient
from index.answers import Answers
from index.entry import Instant, Timestamp

log = logging.getLogger("node")

KEYS_LOST_HINT = "fleet.db was damaged or removed: put a copy back, join again, or make new keys"


def wall() -> Timestamp:
    return Timestamp(time.time())  # noqa: TID251  the node's clock


def monotonic() -> Instant:
    return Instant(time.monotonic())  # noqa: TID251  the node's clock


class Node:
    """One edge node: `run()` serves until `shut_down()`."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        """Raises ConfigError when the configuration cannot work here."""
        self.config = config
        self.state = "starting"
        self._listeners = Listeners(config)
        self.addresses = self._listeners.addresses
        self.started = asyncio.Event()
        self._keys = key_ring(config.keys, environ)
        self.pool = Pool(
            upstreams(config.upstreams),
            Random(os.urandom(16)),
            config.routing,
            config.maintenance,
        )
        self._upstream_keys = {u.name: upstream_key(u, environ) for u in self.pool.upstreams}
        self._redis_password = redis_password(config, environ)
        check_values(config)
        self._stop = asyncio.Event()
        self._at_once = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._metrics = Metrics()
        self._regional: RegionalTier | None = None
        self._strict: StrictQuotas | None = None

    async def run(self) -> None:
        """Serve until told to stop, then drain. Returns when everything is closed."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump holds prompts and keys
        data = self.config.node.data
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with contextlib.AsyncExitStack() as stack:
            self._secret = identity.fleet_secret(self.config.fleet.secret_file, data)
            stack.callback(self._listeners.close)
            self._listeners.bind()
            self._build(stack, data)
            async with asyncio.TaskGroup() as self._tasks:
                await self._open(stack)
                await self._spawn_background()
                for found in warnings(self.config):
                    log.warning("event=advice what=%s", found)
                self.state = "ready"
                log.info("event=ready name=%s %s", self.config.node.name, self._listeners)
                self.started.set()
                await self._stop.wait()
                await self._drain()
                for task in self._running:
                    task.cancel()
        self.state = "stopped"
        log.info("event=stopped")

    def shut_down(self) -> None:
        """Drain and stop; asked a second time, stop at once."""
        if self._stop.is_set():
            self._at_once.set()
        self._stop.set()

    # Building.

    def _build(self, stack: contextlib.AsyncExitStack, data: Path) -> None:
        config = self.config
        self._embedding_worker = ThreadPoolExecutor(1, "embedding")
        self._readers = ThreadPoolExecutor(2, "store")
        kept_s = max(config.store.expired_kept_s, expired_served_s(config.cache, config.routes))
        store = replace(config.store, expired_kept_s=kept_s)
        self.answers = Answers.open(data, store, config.memory, config.semantic)
        stack.callback(self.answers.close)
        stack.callback(self._readers.shutdown)
        stack.callback(self._embedding_worker.shutdown)
        self.fleet = Fleet(
            data,
            config.node.name,
            config.sync,
            self._secret,
            self.answers,
            self._readers,
            self._spawn,
            wall=wall,
            monotonic=monotonic,
        )
        stack.push_async_callback(self.fleet.close)
        check_residency(config, self.fleet.region)
        self._share_in_region(stack)
        self._keys.follow(self.fleet.roster.keybook, expected=self.fleet.has_keys)
        if self._keys.lost:
            log.error("event=keys_lost fail=closed hint=%s", KEYS_LOST_HINT)
        self._key_desk = KeyDesk(
            self.fleet, frozenset(one.name for one in config.plans), wall=wall, monotonic=monotonic
        )
        self._drains = Kept(data / operated.FILE, operated.Drains)
        operated.restore(self.pool, self._drains)
        self._client = UpstreamClient(config.node.name, wall, monotonic)
        stack.push_async_callback(self._client.close)
        self._batcher = Batcher(self.answers.similar.find, self._embedding_worker, wall, monotonic)
        self.meaning = Meaning(
            self.answers,
            self._batcher,
            config.embedding,
            config.verifier,
            config.node.models or data / "models",
            self._embedding_worker,
            self._readers,
            self.fleet.encodes_with,
        )
        self._collapse = Collapse(self._spawn, config.cache.answer_bytes_max)
        new_id = RequestIds()
        refill = Refill(
            self._collapse,
            self._fill_flight,
            config.semantic.judge_model,
            monotonic,
            new_id,
        )
        self._checks = Checks(
            self.answers,
            self._batcher,
            refill,
            self._readers,
            config.semantic,
            self._metrics,
            chance=Random(os.urandom(16)),
            wall=wall,
        )
        self._line = Line(
            config.admission,
            lambda able: self.pool.spare(able, monotonic(), wall()),
            self._metrics,
            monotonic,
        )
        quotas = Quotas(config.plans)
        self._limits = FleetLimits(quotas, self.fleet, monotonic)
        self._gate = Gate(
            quotas,
            self._line,
            self._metrics,
            queue_s=config.admission.queue_s,
            stale_after_s=config.admission.stale_after_s,
            secret=os.urandom(16),
            monotonic=monotonic,
            chance=Random(os.urandom(16)),
            counter=self._strict,
        )
        self._hours = Kept(data / board.FILE, Learned)
        self._board = Board(
            config.node.name,
            self.fleet.region,
            config.status,
            self.pool,
            self._line,
            config.admission,
            config.plans,
            History(self._hours.load()),
            wall=wall,
            monotonic=monotonic,
        )
        negative = Negative(
            config.node.name, config.cache.negative_ttl_s, lambda: self.answers.purges
        )
        large = LargeBodies(
            config.protection.large_bodies_share,
            self._secret,
            monotonic=monotonic,
            cpu_s=time.thread_time,
        )
        stack.callback(large.close)
        self._fill = Fill(
            answers=self.answers,
            batcher=self._batcher,
            collapse=self._collapse,
            dispatch=Dispatch(self.pool, self._metrics, wall, monotonic),
            fetch=self._client.fetch,
            reader=self._readers,
            secret=self._secret,
            wall=wall,
            monotonic=monotonic,
            time_bound_ttl_s=config.cache.time_bound_ttl_s,
            metrics=self._metrics,
            checks=self._checks,
            sharing=Sharing(config.sharing),
            others=self.fleet,
            regional=self._regional,
            gate=self._gate,
            negative=negative,
            large=large,
        )
        self._dialect = OpenAiChat(config.cache.ignored_parameters, config.cache.temperature_max)
        rules = Rules(config.node.name, config.http, config.cache, config.routes, self.fleet.region)
        dialects = [self._dialect]
        self._intake = Intake(
            rules,
            dialects,
            self._keys,
            Cors(config.cors),
            self._secret,
            feedback.PATHS,
            self._board.public,
            wall=wall,
        )
        self.models = Models(self.pool, self._client, config.local_model, self._intake.models.put)
        decisions = Decisions()
        self._insight = Insight(
            self.answers,
            self._batcher,
            decisions,
            self._dialect,
            config.routes,
            config.cache,
            self._secret,
            self._embedding_worker,
        )
        self._curate = Curate(
            self._intake,
            self.answers,
            self._collapse,
            self._fill,
            self._readers,
            self._secret,
            wall=wall,
            monotonic=monotonic,
            new_id=new_id,
        )
        self._untold = Untold(
            self.answers,
            ImportedPurges(data, self._secret),
            self._readers,
            self.fleet.name,
            self.fleet.roster,
            self.fleet.stamp,
            wall,
        )
        self.purges = Purges(self.fleet, self.answers, self._readers, self._untold)
        self._snapshots = Snapshots(
            self.answers,
            self._readers,
            self._secret,
            self.fleet.name,
            self._untold,
            lambda: self._batcher.fingerprint,
            self.fleet.region,
            self.fleet.imported,
            wall,
        )
        self._connections = Connections(config.protection)
        self._door = Door(
            self._intake,
            config.protection,
            self._metrics,
            monotonic=monotonic,
            chance=Random(os.urandom(16)),
        )
        refresh = Refresh(
            config.refresh,
            self._collapse,
            self._fill,
            self._spawn,
            self._metrics,
            self.fleet.name,
            purges=lambda: self.answers.purges,
            monotonic=monotonic,
            new_id=new_id,
        )
        self._handler = PromptHandler(
            rules,
            self._intake,
            self.answers,
            self._collapse,
            self._fill,
            self._metrics,
            decisions,
            Feedback(
                self.answers, decisions, self._readers, self._collapse.renew, self.purges.forget
            ),
            self.fleet,
            self._gate,
            self._door,
            refresh,
            self._board.guidance,
            negative,
            large,
            wall=wall,
            monotonic=monotonic,
            new_id=new_id,
        )
        self.overview = Overview(
            config=config,
            state=lambda: self.state,
            answers=self.answers,
            batcher=self._batcher,
            board=self._board,
            door=self._door,
            fleet=self.fleet,
            insight=self._insight,
            keys=self._keys,
            large=large,
            line=self._line,
            listeners=self._listeners,
            meaning=self.meaning,
            metrics=self._metrics,
            models=self.models,
            pool=self.pool,
            regional=self._regional,
            strict=self._strict,
            wall=wall,
            monotonic=monotonic,
        )
        self.overview.watch()

    def _share_in_region(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self.config.redis
        if not settings.url:
            return
        client = RedisClient(settings, self._redis_password)
        stack.push_async_callback(client.close)
        health = Health(settings.url, monotonic)
        self._regional = RegionalTier(
            settings,
            client,
            health,
            self.fleet,
            self._secret,
            self.fleet.filled.is_set,
            wall=wall,
            chance=os.urandom,
        )
        if self.config.admission.quotas == "strict":
            self._strict = StrictQuotas(
                client, health, self._secret, settings.timeout_s, partial(token_hex, 8)
            )

    def _fill_flight(self, ask: Ask, flight: Flight) -> Coroutine[Any, Any, None]:
        """For who is built before the fill, and is told by it of misses."""
        return self._fill(ask, flight)

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        """Open the listeners: the operator's first, so that a probe sees a node that starts."""
        routes = [
            *purging.routes(self.purges, self._insight.key_of),
            *explaining.routes(self._insight),
            *membership.routes(self.fleet),
            *operated.routes(self.pool, self._drains, wall, monotonic),
            *handing_out.routes(self._key_desk),
            *warming.routes(self._curate, self._snapshots),
        ]
        admin = AdminServer(self._listeners.sockets["admin"], self.overview, self._metrics, routes)
        stack.push_async_callback(admin.stop)
        await admin.start()
        for upstream in self.pool.upstreams:
            await self._client.add(upstream, self._upstream_keys[upstream.name])
        await self._listeners.open(self._handler, self._connections)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        assert self._tasks is not None
        task = self._tasks.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    # What goes on beside serving.

    async def _spawn_background(self) -> None:
        modes = (self.config.cache.mode, *(route.mode for route in self.config.routes))
        if "semantic" in modes:
            self._spawn(self.meaning.run(), "meaning")
            self._spawn(self._checks.run(), "checks")
        await self.fleet.start()
        self._spawn(keep_saying(self.overview.advice), "advice")
        if self._regional is not None:
            self._spawn(self._regional.run(), "redis")
        if self._strict is not None:
            self._spawn(self._strict.run(), "strict quotas")
        if self.config.admission.quotas != "node":
            self._spawn(self._limits.run(), "limits")
        self._spawn(self._board.run(self._hours, self._readers), "status")
        self._spawn(self._warm_memory(), "warm memory")
        self._spawn(self._line.run(), "line")
        if self.models.runs_local:
            self._spawn(self.models.run_local(), "local model")
        self._spawn(self.models.refresh(), "refresh models")

    async def _warm_memory(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._readers, self.answers.warm_memory, wall())

    # Draining.

    async def _drain(self) -> None:
        """`/readyz` says no first; then the wires say goodbye; then what is in flight finishes."""
        self.state = "draining"
        log.info("event=draining inflight=%d", self._listeners.in_flight)
        await self._unless_at_once(self.fleet.leave())
        await self._unless_at_once(asyncio.sleep(self.config.node.drain_delay_s))
        self._listeners.drain()
        if not await self._unless_at_once(self._listeners.stop(self.config.node.drain_grace_s)):
            await self._listeners.stop(0)
        log.info("event=drained")

    async def _unless_at_once(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work`, unless the second request to stop comes first. Was it done?"""
        doing = asyncio.get_running_loop().create_task(work)
        asked = asyncio.get_running_loop().create_task(self._at_once.wait())
        await asyncio.wait((doing, asked), return_when=asyncio.FIRST_COMPLETED)
        for task in (doing, asked):
            task.cancel()
        await asyncio.gather(doing, asked, return_exceptions=True)
        return not doing.cancelled()
