"""Commands to a Redis or Valkey server, each within its time, none tried twice.

Not trusted: replies are bounded by what is asked for, and whatever goes wrong is `Unreachable`, or
`Declined` where the server is there and says no. A call that is cancelled or too late costs its
connection, so that nobody is given the reply to somebody else's question; what a value says is
proven apart from that (`edge.regional.sealing`).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError

from edge.regional.settings import RedisSettings

Put = tuple[str, bytes, int]
"""Name, value, time to live in milliseconds."""


class Unreachable(Exception):  # noqa: N818  a state
    """No answer, or none in time."""


class Full(Exception):  # noqa: N818  a state
    """No connection was free in time."""


class Declined(Exception):  # noqa: N818  reads as what happened
    """The server is there, and does not do what it was asked to."""


class RedisClient:
    def __init__(self, settings: RedisSettings, password: str | None) -> None:
        """Nothing is connected to yet."""
        tls: dict[str, Any] = {}
        if urlsplit(settings.url).scheme == "rediss" and settings.ca_file:
            tls["ssl_ca_certs"] = str(settings.ca_file)
        pool: ConnectionPool = ConnectionPool.from_url(
            settings.url,
            max_connections=settings.connections,
            username=settings.username or None,
            password=password,
            protocol=2,
            driver_info=None,
            # Times are kept here. The library would use asyncio.wait_for, which before Python 3.12
            # may swallow a cancellation: a node that stops would wait for its own tasks for ever.
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            **tls,
        )
        pool.connection_class = type("Connection", (_Aborted, pool.connection_class), {})
        self._room = asyncio.Semaphore(settings.connections)
        self._redis: Redis = Redis.from_pool(pool)

    async def get(self, name: str, bytes_max: int, timeout_s: float) -> bytes | None:
        """A value, of which one byte beyond `bytes_max` is never read."""
        async with self._in_time(timeout_s):
            value: object = await self._redis.getrange(name, 0, bytes_max)
        if not isinstance(value, bytes):
            raise Declined("not a value")
        return value or None

    async def put(self, values: Sequence[Put], timeout_s: float) -> int:
        """How many of them the server took."""
        async with self._in_time(timeout_s), self._redis.pipeline(transaction=False) as pipeline:
            for name, value, ttl_ms in values:
                pipeline.set(name, value, px=ttl_ms)
            done = await pipeline.execute(raise_on_error=False)
        refused = [one for one in done if isinstance(one, Exception)]
        if refused and len(refused) == len(values):
            raise Declined(_words(refused[0]))
        return len(values) - len(refused)

    async def run(
        self, script: str, name: str, words: Sequence[str | int | float], timeout_s: float
    ) -> list[Any]:
        """What a script says of one name; the server keeps scripts that it has seen."""
        arguments = [str(word) for word in words]
        digest = sha1(script.encode(), usedforsecurity=False).hexdigest()
        async with self._in_time(timeout_s):
            try:
                found = await self._redis.evalsha(digest, 1, name, *arguments)
            except NoScriptError:
                found = await self._redis.eval(script, 1, name, *arguments)
        if not isinstance(found, list):
            raise Declined("not what the script says")
        return found

    async def close(self) -> None:
        await self._redis.aclose()

    @asynccontextmanager
    async def _in_time(self, timeout_s: float) -> AsyncIterator[None]:
        """Whatever the library raises, as one of ours: what a strange server says may be anything.

        Whoever comes while all connections are in use waits for one as part of its time.
        """
        asked = False
        try:
            async with asyncio.timeout(timeout_s), self._room:
                asked = True
                yield
        except TimeoutError as exc:
            if not asked:
                raise Full from exc
            raise Unreachable("no answer in time") from exc
        except ResponseError as exc:
            raise Declined(_words(exc)) from exc
        except Exception as exc:
            raise Unreachable(_words(exc)) from exc


class _Aborted(AbstractConnection):
    """A connection that ends at once. The library's own, given up because the server takes nothing,
    would keep its descriptor and all that was not sent, 12 MB for each try, until it takes that."""

    async def disconnect(self, *args: Any, **kwargs: Any) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        await super().disconnect(*args, **kwargs)


def _words(error: BaseException) -> str:
    """The beginning of what was said, for a log line: the first word is Redis's own code."""
    return f"{type(error).__name__}: {error}"[:120]
