"""The upstream behind the node: the same answer at once, whatever is asked.

python -m bench.http.peers.upstream PORT ANSWER
"""

import sys
from pathlib import Path

import uvloop
from aiohttp import web

from bench.http.peers import aiohttp_bare


def main() -> None:
    answer = Path(sys.argv[2]).read_bytes()

    async def serve(request: web.BaseRequest) -> web.Response:
        await request.read()
        models = b'{"object":"list","data":[{"id":"bench","object":"model"}]}'
        body = answer if request.method == "POST" else models
        return web.Response(body=body, content_type="application/json")

    uvloop.run(aiohttp_bare.listen(serve, int(sys.argv[1]), None, None))


if __name__ == "__main__":
    main()
