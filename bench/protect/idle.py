"""2,000 connections, idle after a request: half over QUIC, half over TLS, from 100 addresses.

python -m bench.protect.idle        prints how many are open; closes them when its stdin ends
"""

import asyncio
import ssl
import sys
from contextlib import AsyncExitStack

import uvloop

from bench.protect.attacks import BOTS
from bench.protect.customers import KEY, NODE
from tests.fakes.h3_client import h3_connect

EACH = 1000
AT_A_TIME = 20
LOGIN = f"Authorization: Bearer {KEY}"


async def run() -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    loop, room, held = asyncio.get_running_loop(), asyncio.Semaphore(AT_A_TIME), list[object]()
    async with AsyncExitStack() as stack:

        async def quic(number: int) -> None:
            async with room:
                source = BOTS[number % 100]
                client = await stack.enter_async_context(h3_connect(NODE, None, source))
                await client.request("GET", "/v1/models", {"authorization": f"Bearer {KEY}"})
                held.append(client)

        async def tls(number: int) -> None:
            async with room:
                source = (BOTS[number % 100], 0)
                reader, writer = await asyncio.open_connection(
                    *NODE, ssl=trusting, local_addr=source
                )
                writer.write(f"GET /v1/models HTTP/1.1\r\nHost: a\r\n{LOGIN}\r\n\r\n".encode())
                await reader.readuntil(b"}]}")
                held.append((reader, writer))

        await asyncio.gather(*(quic(number) for number in range(EACH)))
        await asyncio.gather(*(tls(number) for number in range(EACH)))
        print(len(held), flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(run())
