"""The same wire seen by libcurl (ngtcp2 and nghttp3): another QUIC, another HTTP/3, another TLS."""

import asyncio
import io
from functools import partial
from typing import Any

import pycurl

from edge.request import Response
from tests.edge.wire.http3_harness import JSON, FakeHandler, Source, eventually, serving


def _curl(address: Any, path: str = "/") -> Any:
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, f"https://{address[0]}:{address[1]}{path}")
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_3ONLY)
    curl.setopt(pycurl.SSL_VERIFYPEER, 0)
    curl.setopt(pycurl.SSL_VERIFYHOST, 0)
    curl.setopt(pycurl.TIMEOUT, 20)
    return curl


async def _perform(curl: Any) -> bytes:
    body = io.BytesIO()
    curl.setopt(pycurl.WRITEDATA, body)
    await asyncio.to_thread(curl.perform)
    return body.getvalue()


async def test_curl_asks_twice_on_one_connection() -> None:
    handler = FakeHandler()
    async with serving(handler) as (wire, address):
        curl = _curl(address, "/v1/chat/completions?x=1")
        try:
            for n in range(2):
                curl.setopt(pycurl.POSTFIELDS, f"question {n}")
                assert await _perform(curl) == f"question {n}".encode()
                assert curl.getinfo(pycurl.RESPONSE_CODE) == 200
                assert curl.getinfo(pycurl.INFO_HTTP_VERSION) == 30
            assert wire.accepted == 1
        finally:
            curl.close()
    assert handler.requests[0].head.authority == f"127.0.0.1:{address[1]}"


async def test_curl_uploads_and_downloads_megabytes() -> None:
    body = bytes(range(256)) * 12_000
    async with serving(FakeHandler()) as (_, address):
        curl = _curl(address)
        try:
            curl.setopt(pycurl.POSTFIELDS, body)
            assert await _perform(curl) == body
        finally:
            curl.close()


async def test_row_9_curl_reads_a_refusal_of_its_upload() -> None:
    handler = FakeHandler(refusal=lambda head: Response(413, JSON, b"too much"))
    async with serving(handler) as (_, address):
        curl = _curl(address)
        try:
            curl.setopt(pycurl.POSTFIELDS, b"x" * 3_000_000)
            assert await _perform(curl) == b"too much"
            assert curl.getinfo(pycurl.RESPONSE_CODE) == 413
        finally:
            curl.close()


async def test_row_59_curl_sees_events_as_they_come() -> None:
    source = Source()
    seen: list[bytes] = []
    async with serving(FakeHandler(answer=source.answer)) as (_, address):
        curl = _curl(address)
        curl.setopt(pycurl.WRITEFUNCTION, lambda piece: seen.append(bytes(piece)))
        work = asyncio.get_running_loop().create_task(asyncio.to_thread(curl.perform))
        try:
            for n in range(5):
                event = b"data: %d\n\n" % n
                source.queue.put_nowait(event)
                await eventually(partial(seen.__contains__, event))
            source.queue.put_nowait(None)
            await work
        finally:
            curl.close()


async def test_row_73_curl_reconnects_after_goaway() -> None:
    async with serving(FakeHandler()) as (old, address):
        curl = _curl(address)
        try:
            curl.setopt(pycurl.POSTFIELDS, "before")
            assert await _perform(curl) == b"before"
            old.drain()
            async with serving(FakeHandler()) as (new, elsewhere):
                # What a name server would say once the old node drains.
                route = f"::{elsewhere[0]}:{elsewhere[1]}"
                curl.setopt(pycurl.CONNECT_TO, [route])
                assert await _perform(curl) == b"before"
                assert new.accepted == 1
        finally:
            curl.close()
