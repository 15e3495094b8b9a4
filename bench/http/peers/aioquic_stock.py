"""aioquic through its public API, on uvloop, with datagrams of 1,452 bytes.

python -m bench.http.peers.aioquic_stock PORT ANSWER CERTIFICATE KEY
"""

import asyncio
import sys
from pathlib import Path

import uvloop
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated, QuicEvent

DATAGRAM_BYTES = 1452


class Answering(QuicConnectionProtocol):
    head: list[tuple[bytes, bytes]]
    body: bytes
    _http: H3Connection | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self._http = H3Connection(self._quic)
        if self._http is None:
            return
        for seen in self._http.handle_event(event):
            if isinstance(seen, HeadersReceived | DataReceived) and seen.stream_ended:
                self._http.send_headers(seen.stream_id, self.head)
                self._http.send_data(seen.stream_id, self.body, end_stream=True)


async def main(port: int, body: bytes, certificate: str, key: str) -> None:
    Answering.body = body
    Answering.head = [
        (b":status", b"200"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"private, no-store"),
        (b"date", b"Mon, 23 Nov 2026 18:00:00 GMT"),
        (b"server", b"aioquic"),
    ]
    configuration = QuicConfiguration(
        is_client=False,
        alpn_protocols=H3_ALPN,
        max_datagram_size=DATAGRAM_BYTES,
        idle_timeout=600,
    )
    configuration.load_cert_chain(certificate, key)
    await serve("127.0.0.1", port, configuration=configuration, create_protocol=Answering)
    await asyncio.Event().wait()


if __name__ == "__main__":
    port, answer, certificate, key = sys.argv[1:]
    uvloop.run(main(int(port), Path(answer).read_bytes(), certificate, key))
