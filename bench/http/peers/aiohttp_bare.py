"""aiohttp on uvloop with nothing on top: reads the prompt, returns the answer.

python -m bench.http.peers.aiohttp_bare server|application PORT TLS_PORT ANSWER CERTIFICATE KEY
"""

import asyncio
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from aiohttp import web

from bench.http.work import PATH

Serve = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def listen(serve: Serve, port: int, tls_port: int | None, tls: ssl.SSLContext | None) -> None:
    """aiohttp's low-level server: no router, no middleware, no access log."""
    await _listen(web.ServerRunner(web.Server(serve, access_log=None)), port, tls_port, tls)


async def _listen(
    runner: web.BaseRunner, port: int, tls_port: int | None, tls: ssl.SSLContext | None
) -> None:
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    if tls_port is not None:
        await web.TCPSite(runner, "127.0.0.1", tls_port, ssl_context=tls).start()
    await asyncio.Event().wait()


def main() -> None:
    kind, port, tls_port, answer, certificate, key = sys.argv[1:]
    body = Path(answer).read_bytes()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    async def serve(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json")

    if kind == "server":
        uvloop.run(listen(serve, int(port), int(tls_port), tls))
        return
    app = web.Application()
    app.router.add_post(PATH, serve)
    uvloop.run(_listen(web.AppRunner(app, access_log=None), int(port), int(tls_port), tls))


if __name__ == "__main__":
    main()
