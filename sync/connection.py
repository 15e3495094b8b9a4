"""One WebSocket between two nodes, from either end: messages, and is the peer alive?

A message travels in pieces of at most `PIECE_BYTES`, each behind a byte that says whether it is the
last. So a heartbeat never waits long behind a message, and a peer on a thin line that takes ten
seconds for one is seen to be alive all the while. What is urgent waits for one message at most.

Nothing here waits for a peer that does not take what it is sent: what is queued is bounded, and a
peer that falls behind by more is cut off. It comes back and goes on where it was.
"""

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import ClientWebSocketResponse, WSMsgType, web

from index.entry import NodeName
from sync.dialogue import MESSAGE_BYTES_MAX

log = logging.getLogger("sync")

HEARTBEAT_S = 2.0
"""Something is sent at least so often."""
DEAD_S = 6.0
"""A peer that says nothing for so long is gone: three heartbeats, as one or two may be lost."""
PIECE_BYTES = 32 * 1024
"""At 100 kbit/s one takes 3 s: the peer is seen to be alive."""
QUEUED_BYTES_MAX = 8 * 1024 * 1024
"""More than the window of what a peer has not confirmed: one that is so far behind is stuck."""
UNSENT_BYTES = 64 * 1024
"""What the kernel may hold back unsent, so that what is urgent does not wait behind it."""
GOODBYE_S = 1.0

WEBSOCKET_BYTES_MAX = PIECE_BYTES + 2  # aiohttp means: less than
STALL_S = 20.0
"""How long a peer may take nothing at all. It is alive, as it is heard, but of no use."""

_MORE, _LAST = b"\x00", b"\x01"
_UNSENT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # Python 3.12 has the name

WebSocket = web.WebSocketResponse | ClientWebSocketResponse[bool]


class ConnectionEnded(Exception):  # noqa: N818  how every one ends
    """Why it is over, in a word or two."""


class Connection:
    def __init__(self, peer: NodeName, websocket: WebSocket) -> None:
        self.peer = peer
        self._websocket = websocket
        self._queue: deque[bytes] = deque()
        self._urgent: deque[bytes] = deque()
        self._queued_bytes = 0
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        self._why = ""

    def send(self, message: bytes, *, urgent: bool = False) -> None:
        """Queue it, before all that is not urgent. The connection ends when too much waits."""
        (self._urgent if urgent else self._queue).append(message)
        self._queued_bytes += len(message)
        self._news.set()
        if self._queued_bytes > QUEUED_BYTES_MAX:
            self.cut("too slow")

    def cut(self, why: str) -> None:
        """Over, now: nothing that waits is sent, nothing more is received."""
        if not self._ended.is_set():
            self._why = why
            self._ended.set()

    async def run(self, received: Callable[[bytes], None]) -> str:
        """Hand every message to `received` until the connection ends; why it did."""
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(self._until_it_fails(work), name=f"connection with {self.peer}")
            for work in (self._hear(received), self._say())
        ]
        try:
            await self._ended.wait()
        finally:
            self.cut("stopped")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._why != "silent":
                await self._say_goodbye()
        return self._why

    async def _until_it_fails(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ConnectionEnded as ended:
            self.cut(str(ended))
        except TimeoutError:
            self.cut("stalled")
        except (OSError, RuntimeError):  # the latter is aiohttp's word for a closed one
            self.cut("broken")

    async def _hear(self, received: Callable[[bytes], None]) -> None:
        whole = bytearray()
        while True:
            try:
                message = await self._websocket.receive(timeout=DEAD_S)
            except TimeoutError:
                raise ConnectionEnded("silent") from None
            match message.type:
                case WSMsgType.BINARY:
                    piece: bytes = message.data
                    whole += piece[1:]
                    if piece[:1] not in (_MORE, _LAST) or len(whole) > MESSAGE_BYTES_MAX:
                        raise ConnectionEnded("malformed")
                    if piece[:1] == _LAST:
                        self._hand_on(bytes(whole), received)
                        whole.clear()
                case WSMsgType.PING:
                    async with asyncio.timeout(STALL_S):
                        await self._websocket.pong(message.data)
                case WSMsgType.PONG:
                    pass
                case WSMsgType.CLOSE | WSMsgType.CLOSING | WSMsgType.CLOSED:
                    raise ConnectionEnded("closed")
                case _:
                    raise ConnectionEnded("malformed")

    def _hand_on(self, message: bytes, received: Callable[[bytes], None]) -> None:
        if self._ended.is_set():
            return
        try:
            received(message)
        except Exception as exc:
            log.exception("event=bug part=sync")
            raise ConnectionEnded("bug") from exc

    async def _say(self) -> None:
        while True:
            self._news.clear()
            while self._urgent or self._queue:
                message = (self._urgent or self._queue).popleft()
                await self._send(memoryview(message))
                self._queued_bytes -= len(message)
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._news.wait()
            except TimeoutError:
                async with asyncio.timeout(STALL_S):
                    await self._websocket.ping()

    async def _send(self, message: memoryview) -> None:
        for at in range(0, max(1, len(message)), PIECE_BYTES):
            last = at + PIECE_BYTES >= len(message)
            piece = (_LAST if last else _MORE) + bytes(message[at : at + PIECE_BYTES])
            async with asyncio.timeout(STALL_S):
                await self._websocket.send_bytes(piece)

    async def _say_goodbye(self) -> None:
        with contextlib.suppress(TimeoutError, OSError, RuntimeError):
            async with asyncio.timeout(GOODBYE_S):
                await self._websocket.close()

    def __repr__(self) -> str:
        return f"<Connection {self.peer} queued={self._queued_bytes}>"


def at_once(sock: Any) -> None:
    """What is written to a connection's socket leaves at once; little of it waits in the kernel."""
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, _UNSENT, UNSENT_BYTES)
