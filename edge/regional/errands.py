"""What is told to the server in the background: whoever leaves it waits for nothing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

log = logging.getLogger("redis")

BUG_S = 1.0
"""Before what failed is gone on with."""


class Errands:
    def __init__(self, what: str, run_all: Callable[[], Awaitable[None]]) -> None:
        """`run_all` takes what was left from a queue of its own until nothing is."""
        self._what = what
        self._run_all = run_all
        self._left = asyncio.Event()

    def left(self) -> None:
        """There is something to be done."""
        self._left.set()

    async def run(self) -> NoReturn:
        """Works until cancelled."""
        while True:
            await self._left.wait()
            self._left.clear()
            try:
                await self._run_all()
            except Exception:
                log.exception("event=bug part=%s", self._what)
                self._left.set()
                await asyncio.sleep(BUG_S)
