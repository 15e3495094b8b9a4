"""A source read from a cursor, on real servers that are killed, paused and made anew."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from nats.js import api
from nats.js.manager import JetStreamManager

from index.entry import EVERYWHERE, NodeName, Scope
from sync.jetstream import streams
from sync.jetstream.client import Connection, connect
from sync.jetstream.line import Line
from sync.jetstream.reading import Cursor, Delivered, Reading, delivered
from sync.jetstream.settings import NatsSettings
from sync.jetstream.subjects import Source, Subjects, inbox
from tests.fakes.eventually import until
from tests.fakes.nats import BINARIES, NatsServer, nats_server

HERE, THERE = NodeName("fra-1.0000000a"), NodeName("sin-1.0000000b")
SUBJECTS = Subjects("pe", "c0ffee")
PURGES, FLEET, REGION = SUBJECTS.sources("eu", ["*"])
SHARED = Scope("shared")


@pytest.fixture(params=list(BINARIES))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NatsServer]:
    binary = BINARIES[request.param]
    if binary is None:
        pytest.skip(f"there is no {request.param} nats-server on this machine")
    with nats_server(binary, tmp_path / "nats") as one:
        yield one


async def connected(server: NatsServer, node: NodeName = HERE) -> Connection:
    settings = NatsSettings(urls=(server.url,), max_bytes=1 << 20)
    client = await connect(server.url, settings, None, node, inbox(node))
    await streams.found(client, SUBJECTS, settings)
    return client


@pytest.fixture
async def client(server: NatsServer) -> AsyncIterator[Connection]:
    one = await connected(server)
    yield one
    await one.abandon()


async def ended(task: asyncio.Task[None]) -> None:
    """Cancelled until it is over. What nats-py waits with swallows a cancellation that comes with
    the answer; a session ends its connection as well, which goes on here."""
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)


class Reader:
    """Remembers what was applied, and where one was."""

    def __init__(self) -> None:
        self.applied: list[bytes] = []
        self.cursor: Cursor | None = None
        self.truncated: list[Source] = []
        self._task: asyncio.Task[None] | None = None

    async def apply(self, source: Source, data: bytes, what: Delivered) -> None:
        self.applied.append(data)
        self.cursor = what.cursor
        await asyncio.sleep(0)

    def start(self, client: Connection, source: Source = FLEET) -> None:
        reading = Reading(client, source, self.cursor, self.apply, self.truncated.append)
        self._task = asyncio.get_running_loop().create_task(reading.run())

    async def stop(self) -> None:
        assert self._task is not None
        await ended(self._task)

    async def until(self, *expected: bytes) -> None:
        await until(lambda: len(self.applied) >= len(expected))
        assert self.applied == list(expected)


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    one = Reader()
    yield one
    await one.stop()


async def publish(client: Connection, *payloads: bytes, region: str | None = None) -> None:
    reach = EVERYWHERE if region is None else (region,)
    (subject,) = SUBJECTS.entries(reach, SHARED, THERE)
    for payload in payloads:
        await client.jetstream().publish(subject, payload)


async def test_what_is_kept_comes_in_order_and_goes_on(client: Connection, reader: Reader) -> None:
    await publish(client, b"1", b"2")
    reader.start(client)
    await reader.until(b"1", b"2")
    await publish(client, b"3")
    await reader.until(b"1", b"2", b"3")


async def test_a_region_is_not_sent_what_is_for_another(client: Connection, reader: Reader) -> None:
    await publish(client, b"of ap", region="ap")
    await publish(client, b"of eu", region="eu")
    reader.start(client, REGION)
    await reader.until(b"of eu")


async def test_a_reader_that_comes_back_goes_on_where_it_was(
    server: NatsServer, client: Connection, reader: Reader
) -> None:
    await publish(client, b"1", b"2")
    reader.start(client)
    await reader.until(b"1", b"2")
    await reader.stop()
    await publish(client, b"3")

    reader.start(client)
    await reader.until(b"1", b"2", b"3")
    assert not reader.truncated


async def test_a_server_that_was_killed_keeps_what_it_acknowledged(
    server: NatsServer, client: Connection, reader: Reader
) -> None:
    await publish(client, b"1", b"2")
    reader.start(client)
    await reader.until(b"1", b"2")
    await publish(client, b"3")
    server.kill()
    await until(client.over.done)
    await reader.stop()
    server.start()

    again = await connected(server)
    reader.start(again)
    await publish(again, b"4")
    await until(lambda: reader.applied[-1] == b"4")
    assert reader.applied == [b"1", b"2", b"3", b"4"]
    await reader.stop()
    await again.abandon()


async def test_numbers_given_out_anew_lose_nothing(client: Connection, reader: Reader) -> None:
    """As when a server has lost its latest messages: here, the whole stream."""
    await publish(client, b"1", b"2", b"3")
    reader.start(client)
    await reader.until(b"1", b"2", b"3")
    await reader.stop()
    manager = JetStreamManager(client)
    await manager.delete_stream(SUBJECTS.entries_stream)
    await streams.found(client, SUBJECTS, NatsSettings(max_bytes=1 << 20))
    await publish(client, b"4", b"5", b"6", b"7")

    reader.start(client)
    await until(lambda: b"7" in reader.applied)
    assert reader.applied == [b"1", b"2", b"3", b"4", b"5", b"6", b"7"]


async def test_fewer_messages_than_were_read_lose_nothing(
    client: Connection, reader: Reader
) -> None:
    await publish(client, b"1", b"2", b"3")
    reader.start(client)
    await reader.until(b"1", b"2", b"3")
    await reader.stop()
    manager = JetStreamManager(client)
    await manager.delete_stream(SUBJECTS.entries_stream)
    await streams.found(client, SUBJECTS, NatsSettings(max_bytes=1 << 20))
    await publish(client, b"4")

    reader.start(client)
    await reader.until(b"1", b"2", b"3", b"4")


async def test_a_stream_that_no_longer_reaches_back_says_so(
    client: Connection, reader: Reader
) -> None:
    await publish(client, b"1", b"2")
    reader.start(client)
    await reader.until(b"1", b"2")
    await reader.stop()
    big = [bytes([number]) * 100_000 for number in range(30)]
    await publish(client, *big)  # 1 MiB is kept

    reader.start(client)
    await until(lambda: reader.applied[-1] == big[-1])
    assert reader.truncated == [FLEET]
    assert reader.applied[2:] == big[-len(reader.applied) + 2 :]


async def test_a_consumer_that_is_gone_is_made_again(client: Connection, reader: Reader) -> None:
    """Pings are answered, and nothing is heard of it."""
    await publish(client, b"1")
    reader.start(client)
    line = Line(client, inbox(HERE), lambda position: None)
    watching = asyncio.get_running_loop().create_task(line.watch(lambda: ""))
    await reader.until(b"1")
    manager = JetStreamManager(client)
    (consumer,) = await manager.consumers_info(SUBJECTS.entries_stream)
    await manager.delete_consumer(SUBJECTS.entries_stream, consumer.name)
    await publish(client, b"2")

    await reader.until(b"1", b"2")
    await ended(watching)


async def test_more_than_any_buffer_holds_is_read_without_a_gap(
    server: NatsServer, client: Connection, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    """Flow control: the server waits for a reader that is slower than it."""
    manager = JetStreamManager(client)
    config = (await manager.stream_info(SUBJECTS.entries_stream)).config
    await manager.update_stream(config, max_bytes=1 << 30)
    (subject,) = SUBJECTS.entries(EVERYWHERE, SHARED, THERE)
    payload = bytes(250_000)
    sent = [await client.jetstream().publish_async(subject, payload) for _ in range(600)]
    await asyncio.gather(*sent)  # 150 MB: twice the buffers of both sides

    reader.start(client)
    await until(lambda: len(reader.applied) == 600)
    assert not [record for record in caplog.records if "ended" in record.message]


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.PE_c0ffee_ENTRIES.x.1.42.7.1700000000000000001.3",
        "$JS.ACK._.hash.PE_c0ffee_ENTRIES.x.1.42.7.1700000000000000001.3.random",
    ],
)
def test_both_forms_of_a_reply_subject_are_read(reply: str) -> None:
    assert delivered(reply) == Delivered(Cursor(42, 1700000000000000001), 7, 3)


def test_another_subject_is_no_position() -> None:
    with pytest.raises(ValueError, match="not from a stream"):
        delivered("_INBOX.fra-1_0000000a.x")


def test_what_configures_a_stream_is_what_the_server_says_it_is() -> None:
    purges, entries = streams.definitions(SUBJECTS, NatsSettings(replicas=3))
    assert (purges.num_replicas, entries.num_replicas) == (3, 3)
    assert purges.max_age is not None
    assert entries.max_age is not None
    assert purges.max_age > entries.max_age
    assert entries.storage is api.StorageType.FILE
