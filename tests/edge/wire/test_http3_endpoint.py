"""The QUIC endpoint: first contact, rebinding, loss, draining and the end."""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aioquic
import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion

from edge.protection.connections import Connections
from edge.protection.settings import ProtectionSettings
from edge.request import Response
from edge.wire import quic_connection
from edge.wire.http3 import Http3Settings, Http3Wire, quic_configuration
from edge.wire.peer import peer_of
from tests.edge.wire.http3_harness import (
    FakeHandler,
    Pending,
    Source,
    certificate,
    eventually,
    serving,
    talking,
    udp_socket,
)
from tests.fakes.h3_client import H3Closed, H3Reset, client_configuration, h3_connect
from tests.fakes.ports import has_ipv6


async def _answered(address: Any, *datagrams: bytes) -> bytes:
    """Send datagrams, one after the other; the first answer."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        for data in datagrams:
            await loop.sock_sendto(sock, data, address)
        async with asyncio.timeout(20):
            return await loop.sock_recv(sock, 2048)


def _long_header(version: int, size: int = 1200, source: bytes = b"client-2") -> bytes:
    header = bytes([0xC0]) + version.to_bytes(4, "big") + b"\x08client-1\x08" + source
    return header + bytes(size - len(header))


async def test_an_unknown_version_gets_a_version_negotiation() -> None:
    async with serving(FakeHandler()) as (wire, address):
        answer = await _answered(address, _long_header(0x1A2A3A4A))
        assert answer[1:5] == bytes(4)
        assert b"client-2\x08client-1" in answer
        assert QuicProtocolVersion.VERSION_1.to_bytes(4, "big") in answer
        assert QuicProtocolVersion.VERSION_2.to_bytes(4, "big") in answer
        assert wire.connections == 0


@pytest.mark.parametrize(
    "data",
    [
        _long_header(0),  # a Version Negotiation packet: threat B8, no reply loop
        _long_header(0x1A2A3A4A, 600),  # too short to be worth an answer
        b"",
        b"\x40",
        b"\x40" + bytes(1300),  # a short header of nobody's
        b"\xc0\x00\x00\x00\x01\xff" + bytes(1300),
        bytes([0xC0]) + (1).to_bytes(4, "big") + b"\x08client-1\x08client-2" + b"\xff" * 1300,
    ],
    ids=["negotiation", "short", "empty", "byte", "stranger", "bad id", "garbage"],
)
async def test_b8_what_gets_no_answer(data: bytes) -> None:
    async with serving(FakeHandler()) as (wire, address):
        answer = await _answered(address, data, _long_header(0x1A2A3A4A, source=b"whoasked"))
        assert b"whoasked\x08client-1" in answer
        async with h3_connect(address) as client:
            assert (await client.request("GET", "/")).status == 200
        assert wire.accepted == 1


async def test_random_datagrams_hurt_nobody() -> None:
    rng = random.Random(20261123)
    async with talking(FakeHandler()) as (wire, client):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(300):
                size = rng.choice([1, 5, 20, 21, 40, 1199, 1200, 1400])
                data = bytearray(rng.randbytes(size))
                if rng.random() < 0.5 and size > 10:
                    data[:5] = b"\xc3\x00\x00\x00\x01"
                sock.sendto(data, wire._address)
        assert (await client.request("POST", "/", body=b"fine")).body == b"fine"


async def test_quic_version_2() -> None:
    second = [QuicProtocolVersion.VERSION_2]
    async with talking(FakeHandler(), None, client_configuration(supported_versions=second)) as (
        _,
        client,
    ):
        assert (await client.request("POST", "/", body=b"v2")).body == b"v2"


async def test_row_79_another_protocol_is_refused() -> None:
    configuration = client_configuration()
    configuration.alpn_protocols = ["hq-interop"]
    async with serving(FakeHandler()) as (wire, address):
        with pytest.raises(ConnectionError):
            async with h3_connect(address, configuration):
                pass
        await eventually(lambda: not wire.connections)


async def test_b9_no_session_ticket_and_so_no_early_data() -> None:
    tickets: list[object] = []
    async with talking(FakeHandler()) as (_, client):
        client.quic._session_ticket_handler = tickets.append
        assert (await client.request("GET", "/")).status == 200
        assert not tickets
        assert client.quic.tls.session_resumed is False


async def test_b6_under_pressure_a_client_must_prove_its_address() -> None:
    async with talking(FakeHandler(), Http3Settings(retry_half_open=0)) as (wire, client):
        assert (await client.request("POST", "/", body=b"proven")).body == b"proven"
        assert wire.retries == 1
        assert client.quic._retry_count == 1


async def test_b6_half_open_connections_bring_retry_on_and_are_given_up() -> None:
    settings = Http3Settings(retry_half_open=3, handshake_timeout_s=2.0)
    async with serving(FakeHandler(), settings) as (wire, address):
        first_flights = [_first_flight() for _ in range(5)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for flight in first_flights:
                for datagram in flight:
                    sock.sendto(datagram, address)
            await eventually(lambda: wire.retries >= 2)
        assert wire.half_open == 3
        await eventually(lambda: wire.half_open == 0)
        async with h3_connect(address) as client:
            assert (await client.request("GET", "/")).status == 200


def _first_flight() -> list[bytes]:
    quic = QuicConnection(configuration=client_configuration())
    quic.connect(("127.0.0.1", 1), now=0.0)
    return [data for data, _ in quic.datagrams_to_send(now=0.0)]


@pytest.mark.parametrize("limit", ["in all", "of one source"])
async def test_too_many_connections_are_refused_at_once(limit: str) -> None:
    settings = Http3Settings(connections_max=1) if limit == "in all" else None
    strict = Connections(ProtectionSettings(trusted=(), connections_per_source_max=1))
    connections = strict if limit == "of one source" else None
    async with serving(FakeHandler(), settings, connections) as (wire, address):
        async with h3_connect(address) as client:
            with pytest.raises(ConnectionError):
                async with h3_connect(address):
                    pass
            assert (await client.request("GET", "/")).status == 200
            assert wire.refused == 1
        await eventually(lambda: not wire.connections)
        async with h3_connect(address) as client:
            assert (await client.request("GET", "/")).status == 200


@pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 on this machine")
async def test_ipv6() -> None:
    handler = FakeHandler()
    async with serving(handler, host="::1") as (_, address), h3_connect(address) as client:
        assert (await client.request("GET", "/")).status == 200
    assert handler.requests[0].peer == "::1"


async def test_a_client_that_is_not_to_come_in_must_prove_its_address_to_be_told() -> None:
    """Or anybody could have somebody else's address refused, by writing it on packets."""
    strict = Connections(ProtectionSettings(trusted=(), new_connections_per_minute=2))
    async with serving(FakeHandler(), None, strict) as (wire, address):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(3):  # which could be forged
                for datagram in _first_flight():
                    sock.sendto(datagram, address)
            await eventually(lambda: wire.half_open == 3)
        for _ in range(2):
            async with h3_connect(address) as client:
                assert (await client.request("GET", "/")).status == 200
        with pytest.raises(ConnectionError):
            async with h3_connect(address):
                pass
        assert wire.retries == 1  # of the last alone
        assert strict.refusal("127.0.0.2", 0.0) is None


async def test_connections_that_shake_hands_at_the_same_time_are_counted_in_the_end() -> None:
    strict = Connections(ProtectionSettings(trusted=(), connections_per_source_max=3))
    async with serving(FakeHandler(), None, strict) as (wire, address), AsyncExitStack() as stack:

        async def served() -> bool:
            try:
                client = await stack.enter_async_context(h3_connect(address))
                return (await client.request("GET", "/")).status == 200
            except (ConnectionError, H3Closed):
                return False

        assert sum(await asyncio.gather(*(served() for _ in range(8)))) == 3
        await eventually(lambda: wire.connections == 3)
        assert wire.refused == 5


async def test_a_packet_with_somebody_elses_address_is_not_held_against_them() -> None:
    """Nor against whoever that is: until it answers from there, it is where it was."""
    handler = FakeHandler()
    async with talking(handler) as (_, client):
        assert (await client.request("GET", "/")).status == 200
        stream = client.open_raw()
        client.h3.send_headers(stream.stream_id, _fields("/forged"), end_stream=True)
        packets = client.quic.datagrams_to_send(asyncio.get_running_loop().time())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger:
            forger.bind(("127.0.0.9", 0))
            for packet, address in packets:
                forger.sendto(packet, address)
            await eventually(lambda: len(handler.requests) == 2)
    assert handler.requests[1].head.path == "/forged"
    assert handler.requests[1].peer == "127.0.0.1"


def _fields(path: str) -> list[tuple[bytes, bytes]]:
    fixed = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost")]
    return [*fixed, (b":path", path.encode())]


async def test_b6_an_address_that_is_not_proven_is_sent_three_times_as_much_at_most() -> None:
    settings = Http3Settings(handshake_timeout_s=1.5)
    async with serving(FakeHandler(), settings) as (wire, address):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sent = sum(sock.sendto(packet, address) for packet in _first_flight())
            await eventually(lambda: wire.accepted == 1)
            await eventually(lambda: wire.half_open == 0)  # it has tried again and again
            received = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    received.append(len(sock.recv(2048)))
    assert len(received) > 1
    assert sum(received) <= 3 * sent


def test_who_is_at_the_other_end() -> None:
    assert peer_of(("::ffff:203.0.113.7", 1, 0, 0)) == "203.0.113.7"
    assert peer_of(("::1", 1, 0, 0)) == "::1"


@pytest.mark.parametrize("busy", [False, True])
async def test_row_75_a_client_whose_port_changes_keeps_its_connection(busy: bool) -> None:
    source = Source()
    handler = FakeHandler()
    async with talking(handler) as (wire, client):
        assert (await client.request("POST", "/", body=b"before")).body == b"before"
        handler.answer = source.answer if busy else handler.answer
        stream = client.open("GET", "/", end=True)
        await stream.head()
        for n in range(3):
            await client.rebind()
            if busy:
                # The first packet from the new port is ours to wait for: say something.
                await client.ping()
                source.queue.put_nowait(b"%d" % n)
                assert await anext(aiter(stream)) == b"%d" % n
            else:
                assert (await client.request("POST", "/", body=b"%d" % n)).body == b"%d" % n
        assert (wire.connections, wire.accepted) == (1, 1)
        wire.check()


async def test_a_client_may_change_its_connection_id() -> None:
    async with talking(FakeHandler()) as (wire, client):
        for n in range(5):
            assert (await client.request("POST", "/", body=b"%d" % n)).body == b"%d" % n
            client.change_connection_id()
        assert (await client.request("GET", "/")).status == 200
        wire.check()


@pytest.mark.parametrize("seed", range(4))
async def test_connection_ids_that_are_told_again_are_known_once(seed: int) -> None:
    async with (
        serving(FakeHandler()) as (wire, server),
        _lossy(server, 0.2, seed) as (via, _),
        h3_connect(via) as client,
    ):
        for _ in range(5):
            assert (await client.request("GET", "/")).status == 200
            client.change_connection_id()
        wire.check()


async def test_a_key_update() -> None:
    async with talking(FakeHandler()) as (_, client):
        assert (await client.request("GET", "/")).status == 200
        client.request_key_update()
        assert (await client.request("POST", "/", body=b"new keys")).body == b"new keys"


class _Relay(asyncio.DatagramProtocol):
    """A network that loses packets, both ways, the same ones each time."""

    def __init__(self, server: Any, loss: float, seed: int) -> None:
        self._server = server
        self._loss = loss
        self._rng = random.Random(seed)
        self._client: Any = None
        self._transport: Any = None
        self.lost = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if addr != self._server:
            self._client = addr
        if self._rng.random() < self._loss:
            self.lost += 1
        else:
            self._transport.sendto(data, self._client if addr == self._server else self._server)


@asynccontextmanager
async def _lossy(server: Any, loss: float, seed: int) -> AsyncIterator[tuple[Any, _Relay]]:
    relay = _Relay(server, loss, seed)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: relay, local_addr=("127.0.0.1", 0)
    )
    try:
        yield transport.get_extra_info("sockname"), relay
    finally:
        transport.close()


async def test_nothing_is_lost_on_a_network_that_loses() -> None:
    def answer(request: Any) -> Response:
        return Response(200, (), request.body * 20)

    async with (
        serving(FakeHandler(answer=answer)) as (wire, address),
        _lossy(address, 0.05, seed=7) as (through, relay),
        h3_connect(through) as client,
    ):
        bodies = [os.urandom(700) for _ in range(40)]
        answers = await asyncio.gather(*(client.request("POST", "/", body=b) for b in bodies))
        assert [answer.body for answer in answers] == [body * 20 for body in bodies]
        assert relay.lost > 10
        wire.check()


async def test_row_73_drain_lets_requests_finish_and_takes_no_connection() -> None:
    pending = Pending()
    async with talking(FakeHandler(answer=pending.answer)) as (wire, client):
        stream = client.open("GET", "/", end=True)
        await pending.started.wait()
        wire.drain()
        await client.until(lambda: client.goaway == (1 << 62) - 4)
        with pytest.raises(ConnectionError):
            async with h3_connect(wire._address):
                pass
        # A request that was on its way when the GOAWAY was sent is answered as well.
        late = client.open("GET", "/", end=True)
        await eventually(lambda: len(wire._endpoint) and wire.in_flight == 2)
        pending.release.set()
        assert (await stream.response()).body == b"late"
        assert (await late.response()).body == b"late"


async def test_row_73_stop_waits_for_what_is_in_flight() -> None:
    pending = Pending()
    handler = FakeHandler(answer=pending.answer)
    sock = udp_socket()
    wire = Http3Wire(sock, *certificate(), handler)
    await wire.start()
    async with h3_connect(wire._address) as client, h3_connect(wire._address) as idle:
        stream = client.open("GET", "/", end=True)
        await pending.started.wait()
        stopping = asyncio.get_running_loop().create_task(wire.stop(30.0))
        assert (await idle.until_closed()).error_code == 0x100
        await client.until(lambda: client.goaway == 4)
        with pytest.raises(H3Reset) as caught:
            await client.request("GET", "/")
        assert caught.value.code == 0x10B  # H3_REQUEST_REJECTED: safe to send elsewhere
        assert not stopping.done()
        pending.release.set()
        assert (await stream.response()).body == b"late"
        await asyncio.wait_for(stopping, 10)
        assert (await client.until_closed()).error_code == 0x100
    assert (wire.connections, wire.in_flight) == (0, 0)
    assert sock.fileno() == -1


async def test_stop_after_the_grace_cancels_what_is_left() -> None:
    source = Source()
    wire = Http3Wire(udp_socket(), *certificate(), FakeHandler(answer=source.answer))
    await wire.start()
    async with h3_connect(wire._address) as client:
        stream = client.open("GET", "/", end=True)
        await stream.head()
        source.queue.put_nowait(b"x")
        await anext(aiter(stream))
        await wire.stop(0.05)
        assert source.closed.is_set()
        assert (await client.until_closed()).error_code == 0x100
        assert not stream.ended


async def test_stop_waits_until_the_client_has_the_last_byte() -> None:
    body = os.urandom(2_000_000)
    wire = Http3Wire(
        udp_socket(), *certificate(), FakeHandler(answer=lambda _: Response(200, (), body))
    )
    await wire.start()
    async with h3_connect(wire._address) as client:
        stream = client.open("GET", "/", end=True)
        await stream.head()
        await wire.stop(30.0)
        assert (await stream.response()).body == body


async def test_stop_of_an_idle_wire_takes_no_time() -> None:
    wire = Http3Wire(udp_socket(), *certificate(), FakeHandler())
    await wire.start()
    await asyncio.wait_for(wire.stop(60.0), 30)


def test_another_aioquic_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = quic_configuration(Http3Settings(), *certificate())
    quic_connection.check_aioquic(configuration)
    monkeypatch.setattr(aioquic, "__version__", "1.8.0")
    with pytest.raises(RuntimeError, match=r"Install aioquic==1\.7\.2"):
        quic_connection.check_aioquic(configuration)


def test_a_changed_shape_of_aioquic_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = quic_configuration(Http3Settings(), *certificate())
    monkeypatch.delattr(QuicConnection, "_write_stream_limits")
    with pytest.raises(RuntimeError, match=r"missing: QuicConnection\._write_stream_limits"):
        quic_connection.check_aioquic(configuration)
