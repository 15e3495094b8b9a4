"""Waiting for what other processes will bring about, and no longer."""

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE_S = 30.0
"""Nothing takes so long, unless it will never come."""


async def until(holds: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Return when `holds()` is true. Raises TimeoutError."""
    async with asyncio.timeout(patience_s):
        while not holds():  # noqa: ASYNC110  nobody tells when another process did something
            await asyncio.sleep(0.005)


async def until_told(
    holds: Callable[[], Awaitable[object]], patience_s: float = PATIENCE_S
) -> None:
    """Return when somebody who is asked says so. Raises TimeoutError."""
    async with asyncio.timeout(patience_s):
        while not await holds():  # noqa: ASYNC110  as above
            await asyncio.sleep(0.02)
