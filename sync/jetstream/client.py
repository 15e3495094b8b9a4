"""One connection to one server, until it breaks: nats-py's, with what it lacks.

A broken connection is not mended. nats-py can reconnect by itself, but then waits without limit for
a dead socket to close (nats.py #671: one user for a quarter of an hour), and what it replays
afterwards is its own idea of where one was. Here a break ends the connection, and the next begins
from the cursors like the first: one path, walked at every start.

This module alone knows nats-py's internals; `_connect_command` is where a server has introduced
itself and has not been told yet who we are.
"""

import asyncio
import base64
import binascii
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats.errors
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client
from nats.aio.transport import TcpTransport

from sync.jetstream.permissions import nkey
from sync.jetstream.settings import NatsSettings

log = logging.getLogger("nats")

CONNECT_TIMEOUT_S = 2.5
"""TCP repeats a lost SYN after a second: a link that heals is found in little more than that."""
DEAD_AFTER_S = 6.0
"""What was sent and not acknowledged for so long ends the connection."""


class NatsError(Exception):
    """NATS cannot be used now, and why; the message names the server, never a credential."""


@dataclass(frozen=True, slots=True)
class Login:
    """How a user proves to a server who it is: by signing what the server made up."""

    public_key: bytes
    sign: Callable[[bytes], bytes]
    jwt: bytes | None = None
    """The user as its account's operator described it, for servers that know no users by name."""


class Connection(Client):
    def __init__(self, login: Login | None, must_encrypt: bool) -> None:
        super().__init__()
        self._must_encrypt = must_encrypt
        self.pings = 0
        self._public_nkey = nkey(login.public_key) if login else None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection is broken, or of no more use.

        Whoever waits for the server looks here too: up to Python 3.11 `asyncio.wait_for`, which
        nats-py waits with, swallows a cancellation that comes together with the answer."""

    def end(self) -> None:
        """It is of no more use."""
        if not self.over.done():
            self.over.set_result(None)

    @property
    def heard(self) -> int:
        """Counts what came from the server: messages, and answers to pings."""
        return self.stats["in_msgs"] + self.pongs

    @property
    def pongs(self) -> int:
        """Pings that were answered. An answer comes after all that was on its way before it: on a
        slow link it is these that tell how late something is, not the clock."""
        return self._pongs_received

    async def ping(self) -> None:
        """Ask for a sign of life. Raises ConnectionClosedError."""
        self.pings += 1
        try:
            await self._send_ping(asyncio.get_running_loop().create_future())
        except RuntimeError as exc:  # what uvloop says of a socket that is closed
            raise nats.errors.ConnectionClosedError from exc

    def _connect_command(self) -> bytes:
        stream = self._transport._io_writer if isinstance(self._transport, TcpTransport) else None
        if stream is None:
            raise nats.errors.Error("not a TCP connection")
        if self._must_encrypt and stream.get_extra_info("ssl_object") is None:
            raise nats.errors.Error("the server does not speak TLS")
        limit_ms = int(DEAD_AFTER_S * 1000)
        stream.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit_ms
        )
        return super()._connect_command()

    async def _process_op_err(self, e: Exception) -> None:
        """What broke the connection. Whoever owns it closes it, by `abandon`."""
        self._err = e
        self.end()

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        """As in nats-py, which swallows the cancellation of who waits here."""
        flushed = asyncio.get_running_loop().create_future()
        if not self.is_connected or self._flush_queue is None:
            flushed.set_result(None)
            return flushed
        await self._flush_queue.put(flushed)
        if force_flush:
            await flushed
        return flushed

    async def abandon(self) -> None:
        """Close without a word to the server: takes no time, even when the link is dead."""
        self._pending, self._pending_data_size = [], 0
        transport, self._transport = self._transport, None  # `close` would wait for its end
        if isinstance(transport, TcpTransport) and transport._io_writer is not None:
            transport._io_writer.transport.abort()
        with contextlib.suppress(OSError, nats.errors.Error):
            await self.close()


async def connect(
    url: str,
    settings: NatsSettings,
    login: Login | None,
    name: str,
    inbox: str,
) -> Connection:
    """A connection to the server at `url`.

    Raises:
        NatsError: there is none, or it does not let us in.
    """
    parts = urlsplit(url)
    login = None if parts.username else login
    client = Connection(login, must_encrypt=parts.scheme == "tls")
    refusals: list[Exception] = []

    async def on_error(error: Exception) -> None:
        refusals.append(error)
        if client.is_connected:
            log.warning("event=nats_error server=%s error=%s", shown(url), spoken(error))

    async def on_closed() -> None:
        client.end()

    jwt, sign = (login.jwt, login.sign) if login else (None, None)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await client.connect(
                [url],
                name=name,
                error_cb=on_error,
                closed_cb=on_closed,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                ping_interval=3600,  # who uses the connection pings
                no_echo=True,
                tls=tls(settings),
                signature_cb=(lambda nonce: base64.b64encode(sign(nonce.encode())))
                if sign
                else None,
                user_jwt_cb=(lambda: jwt) if jwt else None,
                inbox_prefix=inbox,
            )
    except (OSError, nats.errors.Error, TimeoutError) as exc:
        await client.abandon()
        cause = refusals[-1] if refusals else exc
        raise NatsError(spoken(cause)) from exc
    except asyncio.CancelledError:
        await client.abandon()
        raise
    return client


def tls(settings: NatsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.certificate is not None:
        context.load_cert_chain(settings.certificate, settings.key)
    return context


def login_from(path: Path) -> Login:
    """From a `.creds` file, or one that holds an nkey seed alone. Raises NatsError."""
    try:
        lines = [line.strip() for line in path.read_text("ascii").splitlines()]
    except (OSError, UnicodeDecodeError) as exc:
        raise NatsError(f"{path}: cannot be read") from exc
    follows = dict(pairwise(lines))
    jwt = follows.get("-----BEGIN NATS USER JWT-----")
    seed = next((line for line in lines if line.startswith("SU")), None)
    if seed is None:
        raise NatsError(f"{path}: holds no user's seed (it begins with SU)")
    key = Ed25519PrivateKey.from_private_bytes(_seed(seed, path))
    return Login(key.public_key().public_bytes_raw(), key.sign, jwt.encode() if jwt else None)


def _seed(text: str, path: Path) -> bytes:
    """32 bytes of a seed: base32 of two bytes that say what it is, the seed, CRC-16/XMODEM."""
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error as exc:
        raise NatsError(f"{path}: the seed is not base32") from exc
    if len(raw) != 36 or binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise NatsError(f"{path}: the seed is damaged")
    return raw[2:-2]


def shown(url: str) -> str:
    """A server's address without what logs in to it."""
    return urlsplit(url).netloc.rpartition("@")[2]


def spoken(error: BaseException | None) -> str:
    """An error in words: nats-py's often have a class and nothing else."""
    if error is None:
        return "closed"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).removeprefix("nats: ").strip()
    return text if text else type(error).__name__
