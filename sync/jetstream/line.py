"""One of a session's two connections: purges and presence never wait behind answers.

TCP delivers in order, and a link that loses packets may take minutes for the megabytes that are on
their way. So what is urgent has a connection of its own.

The server is heard of every two seconds, or the connection is dead: it answers pings. What it does
not confirm to have kept ends it as well; that is said again over the next.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import NoReturn

from sync.jetstream.client import Connection, NatsError, spoken
from sync.jetstream.publishing import Publishing

PING_S = 2.0
PINGS_MISSED_MAX = 3
PAYLOAD_BYTES_MIN = 1 << 20
"""What a server must take in one message: its own default."""


class Line:
    def __init__(self, client: Connection, inbox: str, acked: Callable[[int], None]) -> None:
        self.client = client
        self.publishing = Publishing(client, inbox, acked)

    async def open(self) -> None:
        """Raises NatsError, or an error of nats-py's."""
        if self.client.max_payload < PAYLOAD_BYTES_MIN:
            raise NatsError(f"the server's max_payload is below {PAYLOAD_BYTES_MIN} bytes")
        await self.publishing.start()

    async def watch(self, stale: Callable[[], str]) -> NoReturn:
        """Raises NatsError when it is broken or, as `stale` says, of no more use."""
        missed = 0
        try:
            while missed < PINGS_MISSED_MAX:
                heard = self.client.heard
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PING_S):
                        await self.client.ping()
                        await asyncio.wait((self.client.over,))
                if self.client.over.done():
                    raise NatsError(f"the connection broke: {spoken(self.client.last_error)}")
                if why := stale():
                    raise NatsError(why)
                if self.publishing.overdue:
                    raise NatsError("the server does not confirm what was published")
                missed = 0 if self.client.heard > heard else missed + 1
            raise NatsError("the server is silent")
        finally:
            self.client.end()
