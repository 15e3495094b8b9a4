"""Opens links with sources: TCP, TLS, WebSocket, in good time or not at all.

While a path is cut, what matters is how soon after its end somebody tries: attempts are short and
follow one another closely, as a packet that was lost is sent again only after a second, then after
two, then four.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import aiohttp

from sync.connection import GOODBYE_S, WEBSOCKET_BYTES_MAX, WebSocket, at_once
from sync.peer_client import Peer
from sync.unlinked import unlinked

log = logging.getLogger("sync")

CONNECT_TIMEOUT_S = 2.0
"""Two round trips, and one lost packet."""
OPEN_TIMEOUT_S = 5.0
RECONNECT_S = 0.3
APART_MAX_S = 1.0


@asynccontextmanager
async def dialled(peer: Peer, tls: ssl.SSLContext) -> AsyncIterator[WebSocket]:
    """A WebSocket to the log of `peer`, proven to be of it. Raises Unlinked before it is open."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=timeout,
        trust_env=False,
    )
    try:
        websocket = await _opened(session, peer, tls)
        at_once(websocket.get_extra_info("socket"))
        yield websocket
    finally:
        await session.close()  # at once: TLS's own goodbye would wait for a peer that may be gone
        await asyncio.sleep(0)  # aiohttp closes its TLS transports a turn of the loop later


async def _opened(
    session: aiohttp.ClientSession, peer: Peer, tls: ssl.SSLContext
) -> aiohttp.ClientWebSocketResponse:
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            return await session.ws_connect(
                f"https://{peer.address}/v1/feed",
                ssl=tls,
                server_hostname=peer.tls_name,
                autoping=False,
                max_msg_size=WEBSOCKET_BYTES_MAX,
                timeout=aiohttp.ClientWSTimeout(ws_close=GOODBYE_S),
            )
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        raise unlinked(exc, peer.address) from exc


def pause_s(failures: int, took_s: float, chance: Random) -> float:
    """How long to wait before the next attempt, in seconds, after one that took `took_s`.

    Attempts begin a second apart when several have failed. One that nobody answered has taken as
    long already.
    """
    apart_s = min(APART_MAX_S, RECONNECT_S * (1 << min(failures, 4)))
    return max(RECONNECT_S, apart_s - took_s) * (0.5 + chance.random() / 2)
