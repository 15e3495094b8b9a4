"""What other nodes reach of this one: HTTPS for the fleet alone, on a port of its own.

    POST /v1/join     a newcomer with a token's secret; a member for its next certificate
    GET  /v1/feed     a WebSocket: the log of this node (`sync.connection`)
    POST /v1/fetch    {"scope", "key"}: a frame with that answer, or 404
    GET  /v1/digest   what this node holds, as far as the asker may know (`sync.digest`); with
                      `salt` and `added`, what is more than the part told before

Who has no certificate of the fleet gets no further than `/v1/join`. Who has one is looked up in the
roster for every request, so that a revoked node is a stranger at once.
"""

import base64
import binascii
import datetime as dt
import logging
import math
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from index.entry import CacheKey, Instant, NodeName, Scope, Timestamp
from sync import certificates
from sync.application import ADMISSION, Refused, read_application
from sync.attempts import Attempts
from sync.connection import WEBSOCKET_BYTES_MAX, at_once
from sync.enrolment import Registrar
from sync.https import GOODBYE_S, HttpsServer, body_of, certificate_of
from sync.roster import Enrolment, Roster
from sync.settings import SyncSettings

log = logging.getLogger("sync")


class Served(Protocol):
    """What a member may ask of this node."""

    async def fetch(self, peer: Enrolment, scope: Scope, key: CacheKey) -> bytes | None:
        """A frame of entries with that answer; None if it is not here, or not for that peer."""

    async def digest(self, peer: Enrolment, salt: bytes, added: int) -> bytes | None:
        """What is here, as far as that peer may know; None if there is no digest.

        For who knows the digest of that salt up to so many that were added: only what is more.
        """


class Feeds(Protocol):
    """See `sync.feed.Feed`."""

    def check(self, peer: NodeName) -> None:
        """May it be fed now? Raises Refused."""

    async def feed(self, peer: NodeName, websocket: web.WebSocketResponse) -> None:
        """Until it leaves, or has to."""


class Listener:
    """One node's listening socket for its fleet."""

    def __init__(
        self,
        sock: socket.socket,
        tls: ssl.SSLContext,
        settings: SyncSettings,
        roster: Roster,
        registrar: Registrar,
        served: Served,
        feeds: Feeds,
        *,
        wall: Callable[[], Timestamp],
        monotonic: Callable[[], Instant],
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._registrar = registrar
        self._served = served
        self._feeds = feeds
        self._wall = wall
        self._monotonic = monotonic
        self._attempts = Attempts()
        self._asking: Counter[NodeName] = Counter()
        self._server = HttpsServer(
            sock,
            tls,
            [
                web.post("/v1/join", self._join),
                web.get("/v1/feed", self._feed),
                web.post("/v1/fetch", self._fetch),
                web.get("/v1/digest", self._digest),
            ],
        )

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    def _member(self, request: web.Request) -> Enrolment:
        """Who asks. Raises Refused for a stranger."""
        certificate = certificate_of(request)
        if certificate is None:
            raise Refused("This is for nodes of the fleet: join it first", 401)
        try:
            name, key = certificates.name_of(certificate), certificates.key_of(certificate)
        except ValueError as exc:
            raise Refused("Not the certificate of a node", 403) from exc
        member = self._roster.get(name)
        if member is None or member.public_key != key:
            raise Refused(f"{name} is not in the roster", 403)
        if member.revoked:
            raise Refused(f"{name} was revoked", 410)
        self._server.keep(request)
        return member

    @contextmanager
    def _asked_by(self, request: web.Request) -> Iterator[Enrolment]:
        """Who asks, if it does not ask for too much at a time. Raises Refused."""
        member = self._member(request)
        if self._asking[member.name] >= self._settings.fetches_max:
            raise Refused("Too many requests of this node at a time", 503)
        self._asking[member.name] += 1
        try:
            yield member
        finally:
            self._asking[member.name] -= 1

    async def _join(self, request: web.Request) -> web.Response:
        if certificate_of(request) is not None:
            return await self._renew(request)
        address = request.remote or ""
        if wait_s := self._attempts.wait_s(address, self._monotonic()):
            raise Refused(f"Too many attempts: try again in {math.ceil(wait_s)} s", 429)
        try:
            secret = _secret(request)
            self._registrar.find(secret, self._wall())
            said = read_application(await body_of(request))
            admitted = self._registrar.admit(secret, said, self._wall())
        except Refused as refused:
            self._attempts.failed(address, self._monotonic())
            log.warning("event=join_refused from=%s why=%s", address, refused)
            raise
        log.warning("event=joined node=%s from=%s", admitted.name, address)
        response = web.Response(body=ADMISSION.dump_json(admitted), content_type="application/json")
        response.force_close()
        return response

    async def _renew(self, request: web.Request) -> web.Response:
        with self._asked_by(request) as member:
            asked = _asked(await body_of(request))
            now = dt.datetime.fromtimestamp(self._wall(), dt.UTC)
            certificate = self._registrar.renew(member.name, asked.get("request", ""), now)
        return web.Response(text=certificate, content_type="application/x-pem-file")

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        member = self._member(request)
        self._feeds.check(member.name)
        websocket = web.WebSocketResponse(
            autoping=False, compress=False, max_msg_size=WEBSOCKET_BYTES_MAX, timeout=GOODBYE_S
        )
        await websocket.prepare(request)
        transport = request.transport
        at_once(request.get_extra_info("socket"))
        try:
            await self._feeds.feed(member.name, websocket)
        finally:
            if transport is not None:
                transport.abort()  # TLS's own goodbye would wait for a peer that may be gone
        return websocket

    async def _fetch(self, request: web.Request) -> web.Response:
        with self._asked_by(request) as member:
            asked = _asked(await body_of(request))
            try:
                scope, key = Scope(asked["scope"]), CacheKey(bytes.fromhex(asked["key"]))
            except (KeyError, ValueError) as exc:
                raise Refused('Say {"scope": ..., "key": hexadecimal}') from exc
            return _bytes(await self._served.fetch(member, scope, key))

    async def _digest(self, request: web.Request) -> web.Response:
        with self._asked_by(request) as member:
            try:
                salt = bytes.fromhex(request.query.get("salt", ""))
                added = int(request.query.get("added", "0"))
            except ValueError as exc:
                raise Refused("salt is hexadecimal, added a number") from exc
            return _bytes(await self._served.digest(member, salt, added))


_TEXTS = TypeAdapter(dict[str, str])


def _asked(body: bytes) -> dict[str, str]:
    """Raises Refused."""
    try:
        return _TEXTS.validate_json(body, strict=True)
    except ValidationError as exc:
        raise Refused("The body must be a JSON object of texts") from exc


def _secret(request: web.Request) -> bytes:
    """The secret of a newcomer's token. Raises Refused."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    try:
        secret = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if scheme != "Bearer" or not secret:
        raise Refused("Who has no certificate needs a token: promptedge join TOKEN", 401)
    return secret


def _bytes(found: bytes | None) -> web.Response:
    if found is None:
        return web.Response(status=404)
    return web.Response(body=found, content_type="application/octet-stream")
