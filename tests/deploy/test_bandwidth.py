"""A narrow way to the upstream: what is remembered is served as ever, the rest is refused clearly.

`tc tbf` lets one megabit a second through from the upstream to the node.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.deploy.conftest import needs
from tests.deploy.street import ATTACKER, Namespace, serving
from tests.fakes.upstream import completion
from tests.fleet.router import inside

UPSTREAM, PORT = 9000, 8080
LONG = "a" * 400_000
"""An answer of more than three seconds of a megabit each."""


class Wordy(BaseHTTPRequestHandler):
    """An upstream that has much to say."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        answer = json.dumps(completion(LONG, 1)).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Not to standard error."""


@contextmanager
def wordy(place: Namespace) -> Iterator[None]:
    with inside(place.name):
        server = ThreadingHTTPServer((ATTACKER, UPSTREAM), Wordy)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(here: Namespace, text: str) -> tuple[int, dict[str, str], Any]:
    with closing(HTTPConnection("127.0.0.1", PORT)) as http:
        http.sock = here.connect("127.0.0.1", ("127.0.0.1", PORT), timeout=60)
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]})
        http.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = http.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, fields, json.loads(answer.read())


def test_hits_are_served_and_misses_are_refused_clearly(
    places: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    needs("tc")
    here, there = places
    config = f"""
        [node]
        listen = ""
        plain = "127.0.0.1:{PORT}"
        [cache]
        mode = "exact"
        [admission]
        concurrency = 2
        queue_s = 1
        [[upstreams]]
        base_url = "http://{ATTACKER}:{UPSTREAM}/v1"
        models = ["m"]
    """
    with wordy(there), serving(here, tmp_path, config), ThreadPoolExecutor(12) as pool:
        assert ask(here, "known")[0] == 200
        tbf = "dev eth0 root tbf rate 1mbit burst 16kb limit 200kb"
        there.run("tc", "qdisc", "add", *tbf.split())
        misses = [pool.submit(ask, here, f"unknown {number}") for number in range(12)]
        hits = 0
        while not all(miss.done() for miss in misses):
            status, fields, _ = ask(here, "known")
            assert (status, "hit" in fields["cache-status"]) == (200, True)
            hits += 1
        answers = [miss.result() for miss in misses]
    refused = [(fields, body) for status, fields, body in answers if status != 200]
    assert 0 < len(refused) < len(answers)  # what there is room for is answered, if slowly
    assert hits > len(answers)
    assert {status for status, _, _ in answers} == {200, 503}
    for fields, body in refused:
        assert int(fields["retry-after"]) >= 1
        assert body["error"]["type"] == "server_error"
        assert f"in {fields['retry-after']} s" in body["error"]["message"]
