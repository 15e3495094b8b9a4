"""Asks other nodes for what they hold: an answer by its key, a digest, the next certificate.

Connections are kept open, so that asking costs one round trip. A node that does not answer in time
has no answer; nobody waits longer for a peer than it is worth.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from index.entry import CacheKey, NodeName, Scope
from sync.certificates import key_hash, server_name
from sync.frames import FRAME_BYTES_MAX

log = logging.getLogger("sync")

CONNECTIONS_PER_PEER_MAX = 16
KEPT_S = 60.0
"""How long an idle connection is kept for the next question."""
DIGEST_BYTES_MAX = 64 * 1024 * 1024
CERTIFICATE_BYTES_MAX = 64 * 1024
ASK_TIMEOUT_S = 20.0
"""For what nobody waits for."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A node as it is dialled."""

    name: NodeName
    address: str
    """HOST:PORT"""
    public_key: bytes

    @property
    def tls_name(self) -> str:
        """Only this node can answer to it."""
        return server_name(key_hash(self.public_key))


class Unanswered(Exception):  # noqa: N818  what became of a question
    """The peer could not be asked, or refused; the message says why."""


class Revoked(Unanswered):
    """The peer says that we were revoked."""


class PeerClient:
    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, limit_per_host=CONNECTIONS_PER_PEER_MAX, keepalive_timeout=KEPT_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def close(self) -> None:
        await self._session.close()

    async def fetch(
        self, peer: Peer, scope: Scope, key: CacheKey, timeout_s: float
    ) -> bytes | None:
        """A frame of entries with the answer, unverified; None if it has none, or not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                asked = {"scope": scope, "key": key.hex()}
                return await self._ask("POST", peer, "/v1/fetch", FRAME_BYTES_MAX, asked)
        except (TimeoutError, Unanswered) as exc:
            log.debug("event=not_fetched peer=%s why=%s", peer.name, exc)
            return None

    async def digest(self, peer: Peer, salt: bytes = b"", added: int = 0) -> bytes | None:
        """What the peer holds, as far as it may tell us; None if it has no digest.

        Of the digest of that salt, only what came after so many were added.

        Raises:
            Unanswered: it could not be asked.
        """
        path = f"/v1/digest?salt={salt.hex()}&added={added}"
        return await self._ask("GET", peer, path, DIGEST_BYTES_MAX)

    async def renew(self, peer: Peer, request: str) -> bytes:
        """The next certificate, PEM. Raises Unanswered."""
        asked = {"request": request}
        given = await self._ask("POST", peer, "/v1/join", CERTIFICATE_BYTES_MAX, asked)
        if given is None:
            raise Unanswered("it does not renew certificates")
        return given

    async def _ask(
        self,
        method: str,
        peer: Peer,
        path: str,
        bytes_max: int,
        asked: Mapping[str, Any] | None = None,
    ) -> bytes | None:
        try:
            async with (
                asyncio.timeout(ASK_TIMEOUT_S),
                self._session.request(
                    method,
                    f"https://{peer.address}{path}",
                    data=None if asked is None else json.dumps(asked).encode(),
                    ssl=self._tls,
                    server_hostname=peer.tls_name,
                    allow_redirects=False,
                ) as response,
            ):
                body = await read_body(response, bytes_max)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            raise Unanswered(str(exc) or type(exc).__name__) from exc
        if response.status == 404:
            return None
        if response.status == 410:
            raise Revoked("this node was revoked")
        if response.status != 200:
            raise Unanswered(f"status {response.status}")
        return body


async def read_body(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """All of it. Raises ValueError when that is more than `bytes_max`."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > bytes_max:
            raise ValueError(f"more than {bytes_max} bytes")
    return bytes(body)
