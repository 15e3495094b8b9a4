"""An HTTP/3 wire on loopback, and handlers for it that do what a test says."""

import asyncio
import datetime as dt
import functools
import socket
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.errors import EdgeError
from edge.protection.connections import Connections
from edge.request import EventStream, Head, Reply, Request, Response
from edge.wire.http3 import Http3Settings, Http3Wire
from tests.fakes.h3_client import H3Client, h3_connect

JSON = (("content-type", "application/json"),)
SSE = (("content-type", "text/event-stream"),)

Answer = Callable[[Request], Response | Coroutine[Any, Any, Reply]]


@functools.cache
def certificate() -> tuple[Path, Path]:
    """A self-signed certificate and its key, one for the whole run."""
    directory = Path(tempfile.mkdtemp(prefix="promptedge-test-"))
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return directory / "cert.pem", directory / "key.pem"


def echo(request: Request) -> Response:
    return Response(200, JSON, request.body or b"nothing")


async def eventually(condition: Callable[[], object]) -> None:
    """Until it holds. For what happens inside a wire and is announced to nobody."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def _at_once() -> None:
    """There is no crowd here."""


@dataclass
class FakeHandler:
    """Answers as `answer` says, refuses as `refusal` says, and remembers what it was asked."""

    answer: Answer = echo
    body_bytes_max: int = 8 * 1024 * 1024
    refusal: Callable[[Head], Response | None] = lambda head: None
    may_read: Callable[[], Awaitable[object]] = _at_once
    waits: int = 0
    """How often somebody had to ask before it read on."""
    admitted: list[Head] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def admit(self, head: Head, peer: str) -> Response | None:
        refusal = self.refusal(head)
        if refusal is None:
            self.admitted.append(head)
        return refusal

    async def wait_to_read(self, head: Head, peer: str) -> None:
        self.waits += 1
        await self.may_read()

    def handle(self, request: Request) -> Response | Coroutine[Any, Any, Reply]:
        self.requests.append(request)
        return self.answer(request)

    def refuse(self, head: Head | None, error: EdgeError) -> Response:
        return Response(error.status, JSON, (error.code or "").encode())


@dataclass
class Source:
    """The chunks of an event stream: put there by a test, and it shows what became of it."""

    queue: asyncio.Queue[bytes | BaseException | None] = field(default_factory=asyncio.Queue)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        self.started.set()
        try:
            while (item := await self.queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.closed.set()

    async def reply(self) -> Reply:
        return EventStream(200, SSE, self.chunks())

    def answer(self, request: Request) -> Coroutine[Any, Any, Reply]:
        return self.reply()


@dataclass
class Endless:
    """An event stream that always has more; counts what was asked of it."""

    size: int = 1000
    given: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                self.given += self.size
                yield b"e" * self.size
        finally:
            self.closed.set()

    async def reply(self) -> Reply:
        return EventStream(200, SSE, self.chunks())


@dataclass
class Pending:
    """A coroutine that answers when it is told to, and shows whether it was cancelled."""

    release: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    live: int = 0
    live_max: int = 0

    async def reply(self) -> Reply:
        self.live += 1
        self.live_max = max(self.live, self.live_max)
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.live -= 1
        return Response(200, JSON, b"late")

    def answer(self, request: Request) -> Coroutine[Any, Any, Reply]:
        return self.reply()


def udp_socket(host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock


@asynccontextmanager
async def serving(
    handler: FakeHandler,
    settings: Http3Settings | None = None,
    connections: Connections | None = None,
    *,
    host: str = "127.0.0.1",
) -> AsyncIterator[tuple[Http3Wire, Any]]:
    """A wire, and the address to reach it at. What must hold, holds when it is over."""
    sock = udp_socket(host)
    address = sock.getsockname()
    wire = Http3Wire(sock, *certificate(), handler, settings, connections)
    await wire.start()
    try:
        yield wire, address
        wire.check()
    finally:
        await wire.stop(0.0)
    assert wire.in_flight == 0
    assert wire.bodies_held_bytes == 0


@asynccontextmanager
async def talking(
    handler: FakeHandler,
    settings: Http3Settings | None = None,
    configuration: QuicConfiguration | None = None,
) -> AsyncIterator[tuple[Http3Wire, H3Client]]:
    """A wire and one client of it."""
    async with (
        serving(handler, settings) as (wire, address),
        h3_connect(address, configuration) as client,
    ):
        yield wire, client
