"""Links between nodes: whoever is in the roster is linked, whatever happens; nobody else is."""

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from index.entry import CacheKey, NodeName, Scope
from sync import connection, https
from sync.connection import PIECE_BYTES, QUEUED_BYTES_MAX
from sync.credentials import client_tls
from sync.dialling import dialled, pause_s
from sync.dialogue import MESSAGE_BYTES_MAX, Aside, written
from sync.links import End, Role
from sync.peer_client import PeerClient, Unanswered
from sync.settings import SyncSettings
from sync.unlinked import NO_ADDRESS, REVOKED, Unlinked
from tests.fakes.eventually import until
from tests.fakes.members import NOW, Member, fleet, listening, member, running
from tests.fakes.ports import NOWHERE

READER, SOURCE = Role.READER, Role.SOURCE


async def test_every_node_reads_every_other(tmp_path: Path) -> None:
    members = fleet(tmp_path, "a", "b", "c")
    async with AsyncExitStack() as stack:
        feeds = [await stack.enter_async_context(running(one)) for one in members]
        for one in members:
            others = [other.name for other in members if other is not one]
            await until(lambda: set(one.pipe.links) == _links(others))  # noqa: B023
        await until(lambda: all(len(one.pipe.heard) == 2 for one in members))
        assert "reader" in repr(feeds[0].links)
    for one in members:
        assert one.pipe.links == []
        for link, message in one.pipe.heard:
            assert (link.role, message) == (READER, b"hello")


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 1_100_000])
async def test_messages_arrive_whole_and_in_order(tmp_path: Path, size: int) -> None:
    a, b = fleet(tmp_path, "a", "b")
    async with running(a) as feed, running(b):
        link = End(b.name, READER)
        await until(lambda: link in a.pipe.links)
        b.pipe.heard.clear()
        messages = [bytes([at]) * size for at in range(4)]  # none is an aside
        for message in messages:
            a.pipe.say(link, message)
        feed.flush()
        await until(lambda: len(_from(b, a.name)) == 4)
        assert _from(b, a.name) == messages


async def test_a_purge_overtakes_answers(tmp_path: Path) -> None:
    """Over a thin line they may be many seconds of it."""
    a, b = fleet(tmp_path, "a", "b")
    aside = written(Aside((b"a purge",)))
    async with running(a) as feed, running(b):
        end = End(b.name, READER)
        await until(lambda: end in a.pipe.links)
        b.pipe.heard.clear()
        batches = [bytes([3, at]) * 1000 for at in range(4)]
        for message in (*batches, aside):
            a.pipe.say(end, message)
        feed.flush()
        await until(lambda: len(_from(b, a.name)) == 5)
        assert _from(b, a.name) == [aside, *batches]


async def test_a_feed_that_is_run_again_dials_again(tmp_path: Path) -> None:
    a, b = fleet(tmp_path, "a", "b")
    end = End(b.name, SOURCE)
    async with running(b):
        async with running(a) as feed:
            await until(lambda: end in a.pipe.links)
        assert end not in a.pipe.links
        again = asyncio.get_running_loop().create_task(feed.run())
        await until(lambda: end in a.pipe.links)
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)


async def test_parents_alone_are_read(tmp_path: Path) -> None:
    a, b, c = fleet(tmp_path, "a", "b", "c")
    async with running(a, SyncSettings(parents=("b",))), running(b), running(c):
        await until(lambda: len(b.pipe.links) == 4)
        await until(lambda: End(a.name, SOURCE) in c.pipe.links)
        assert End(c.name, SOURCE) not in a.pipe.links


async def test_a_node_that_only_dials_reads_and_is_not_read(tmp_path: Path) -> None:
    a, b = fleet(tmp_path, "a", "b")
    a.registrar.settle("a", "eu", "", _date())
    b.roster.merge(a.roster.lines()[0])
    b.roster.merge(a.roster.lines()[1])
    async with running(a), running(b) as feed:
        await until(lambda: feed.unreached == {a.name: NO_ADDRESS})
        await until(lambda: a.pipe.links == [End(b.name, SOURCE)])


async def _clear_text(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def test_why_there_is_no_link_is_said_in_words(tmp_path: Path) -> None:
    a, b = fleet(tmp_path, "a", "b")
    server = await asyncio.start_server(_clear_text, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    said = {
        f"127.0.0.1:{port}": "does something else than promptedge answer there",
        f"{NOWHERE}:1": f"the name in {NOWHERE}:1 is not known here",
        "127.0.0.1:99999": "'127.0.0.1:99999' is no HOST:PORT",
    }
    async with server, running(b) as feed:
        for address, words in said.items():
            a.registrar.settle("a", "eu", address, _date())
            b.roster.merge(a.roster.lines()[0])
            b.roster.merge(a.roster.lines()[1])
            await until(lambda words=words: words in feed.unreached.get(a.name, ""))  # type: ignore[misc]


async def test_a_source_that_comes_back_is_read_again(tmp_path: Path) -> None:
    a, b = fleet(tmp_path, "a", "b")
    async with running(b) as feed:
        await until(lambda: "nothing listens at" in feed.unreached.get(a.name, ""))
        for _ in range(2):
            async with running(a):
                await until(lambda: End(a.name, SOURCE) in b.pipe.links)
            await until(lambda: not b.pipe.links)
        assert b.pipe.ended.count(End(a.name, SOURCE)) == 2


async def test_a_node_that_dials_again_replaces_itself(tmp_path: Path) -> None:
    """Its old connection is broken, which it knows and the source does not yet."""
    a, b = fleet(tmp_path, "a", "b")
    async with running(a), _dialled(b, a) as first:
        await until(lambda: a.pipe.links == [End(b.name, READER)])
        async with _dialled(b, a):
            assert await _ended(first)
            await until(lambda: a.pipe.ended == [End(b.name, READER)])
            assert a.pipe.links == [End(b.name, READER)]


async def test_a_revoked_node_is_cut_off_at_once_and_stays_out(tmp_path: Path) -> None:
    a, b = fleet(tmp_path, "a", "b")
    async with running(a) as feed, running(b) as theirs:
        await until(lambda: len(a.pipe.links) == len(b.pipe.links) == 2)
        a.registrar.revoke("b")
        feed.flush()
        await until(lambda: not a.pipe.links)
        await until(lambda: theirs.unreached.get(a.name) == REVOKED)
        assert a.pipe.links == []


async def test_a_node_that_is_enrolled_is_dialled_at_once(tmp_path: Path) -> None:
    a, b, c = fleet(tmp_path, "a", "b", "c")
    lines = c.roster.lines()
    b.roster.__init__(b.credentials.operator_public_key)  # type: ignore[misc]
    async with running(b) as feed, running(c):
        for line in lines:
            b.roster.merge(line)
        feed.flush()
        await until(lambda: End(c.name, SOURCE) in b.pipe.links)
    assert a.pipe.links == []


async def test_a_node_of_another_fleet_is_not_let_in(tmp_path: Path) -> None:
    """With a certificate of its own authority, and the name of one of ours."""
    a, b = fleet(tmp_path, "a", "b")
    stranger = member(tmp_path / "stranger", "b")
    async with running(a):
        with pytest.raises(Unlinked):
            async with _dialled(stranger, a):
                raise AssertionError
        with pytest.raises(Unlinked, match="the certificate of a node"):
            async with dialled(a.peer(), _without_certificate(a)):
                raise AssertionError
    assert a.pipe.links == []
    assert b.pipe.links == []


async def test_another_node_at_the_address_of_a_source_is_not_read(tmp_path: Path) -> None:
    a, b, c = fleet(tmp_path, "a", "b", "c")
    stranger = member(tmp_path / "stranger", "a")
    for imposter in (c, stranger):
        imposter.address = a.address
        async with running(b) as feed, running(imposter):
            await until(lambda: "another node answers at" in feed.unreached.get(a.name, ""))
        assert End(a.name, SOURCE) not in b.pipe.ended


async def test_a_certificate_that_the_roster_does_not_know(tmp_path: Path) -> None:
    """Issued by the fleet, but for a node whose line never came here, or under another's name."""
    a, b = fleet(tmp_path, "a", "b")
    lines = a.roster.lines()
    a.roster.__init__(a.credentials.operator_public_key)  # type: ignore[misc]
    async with running(a):
        with pytest.raises(Unlinked, match="does not know this node"):
            async with _dialled(b, a):
                raise AssertionError
        for line in lines:
            a.roster.merge(line)
        now = _date()
        b.credentials._show(a.credentials.issue(b.credentials.public_key, a.name, now))
        with pytest.raises(Unlinked, match="does not know this node"):
            async with _dialled(b, a):
                raise AssertionError


async def test_only_so_many_read_one_node(tmp_path: Path) -> None:
    a, b, c = fleet(tmp_path, "a", "b", "c")
    async with running(a, SyncSettings(links_max=1)), _dialled(b, a):
        await until(lambda: len(a.pipe.links) == 1)
        with pytest.raises(Unlinked, match="as many nodes as it can"):
            async with _dialled(c, a):
                raise AssertionError
        async with _dialled(b, a):  # the same again is not one more
            await until(lambda: a.pipe.ended == [End(b.name, READER)])


def test_attempts_begin_within_a_second_of_one_another() -> None:
    """So that after a cut there is soon one; and never so close that they are a burden."""
    chance = Random(1)
    for failures in range(100):
        for took_s in (0.0, 0.5, 2.0):
            pause = pause_s(failures, took_s, chance)
            assert 0.15 <= pause <= 1.0
            assert took_s < 0.8 or pause <= 0.3
    assert pause_s(9, 0.0, chance) >= 0.5


# What a peer may do that it should not.


GARBAGE: dict[str, list[Any]] = {
    "text": ["hello"],
    "empty": [b""],
    "flag": [b"\x02abc"],
    "huge": [bytes(PIECE_BYTES + 2)],
    "endless": [bytes(PIECE_BYTES)] * (MESSAGE_BYTES_MAX // (PIECE_BYTES - 1) + 2),
}


@pytest.mark.parametrize("case", GARBAGE)
async def test_what_makes_no_sense_ends_the_link(tmp_path: Path, case: str) -> None:
    a, b = fleet(tmp_path, "a", "b")
    async with running(a), _dialled(b, a) as websocket:
        await until(lambda: a.pipe.links)
        for piece in GARBAGE[case]:
            try:
                if isinstance(piece, str):
                    await websocket.send_str(piece)
                else:
                    await websocket.send_bytes(piece)
            except (ConnectionError, RuntimeError):
                break
        await until(lambda: not a.pipe.links)
        assert a.pipe.heard == []


async def test_a_ping_is_answered(tmp_path: Path) -> None:
    a, b = fleet(tmp_path, "a", "b")
    async with running(a), _dialled(b, a) as websocket:
        await websocket.ping(b"there?")
        message = await websocket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"there?")


async def test_a_peer_that_is_silent_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = fleet(tmp_path, "a", "b")
    monkeypatch.setattr(connection, "DEAD_S", 0.2)
    async with running(a), _dialled(b, a) as websocket:
        assert await _ended(websocket)
        await until(lambda: a.pipe.ended)
        assert not a.pipe.links


async def test_heartbeats_keep_a_link_that_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = fleet(tmp_path, "a", "b")
    monkeypatch.setattr(connection, "HEARTBEAT_S", 0.05)
    async with running(a), _dialled(b, a) as websocket:
        for _ in range(3):
            assert (await websocket.receive()).type is aiohttp.WSMsgType.PING
        await until(lambda: a.pipe.links)


async def test_a_peer_that_does_not_take_what_it_is_sent_is_cut_off(tmp_path: Path) -> None:
    """And nothing waits for it meanwhile: not the node, not its other readers."""
    a, b, c = fleet(tmp_path, "a", "b", "c")
    slow = End(b.name, READER)
    async with running(a) as feed, running(c), _dialled(b, a):
        await until(lambda: slow in a.pipe.links)
        await until(lambda: End(c.name, READER) in a.pipe.links)
        chunk = bytes(1 << 20)
        for _ in range(QUEUED_BYTES_MAX // len(chunk) + 1):
            a.pipe.say(slow, chunk)
        a.pipe.say(End(c.name, READER), b"for c")
        feed.flush()
        await until(lambda: slow in a.pipe.ended)
        await until(lambda: b"for c" in _from(c, a.name))


async def test_a_bug_of_the_replica_costs_a_link_and_not_the_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = fleet(tmp_path, "a", "b")
    a.pipe.receive = _raise  # type: ignore[assignment, method-assign]
    async with running(a) as feed, _dialled(b, a) as websocket:
        await websocket.send_bytes(b"\x01x")
        await until(lambda: a.pipe.ended)
        async with _dialled(b, a):
            await until(lambda: feed.links == [End(b.name, READER)])
    assert "event=bug part=sync" in caplog.text


# What members ask.


async def test_members_get_what_they_ask_for(tmp_path: Path) -> None:
    a, b = fleet(tmp_path, "a", "b")
    scope, key = Scope("tenant:acme"), CacheKey(bytes(range(32)))
    a.shelf.frames[scope, key] = b"a frame"
    async with listening(a), _client(b) as client:
        assert await client.fetch(a.peer(), scope, key, 10) == b"a frame"
        assert await client.fetch(a.peer(), Scope("shared"), key, 10) is None
        assert a.shelf.asked_by == [b.name, b.name]
        assert await client.digest(a.peer()) is None
        a.shelf.digested = bytes(3_000_000)
        assert await client.digest(a.peer()) == a.shelf.digested


async def test_who_does_not_answer_in_time_has_no_answer(tmp_path: Path) -> None:
    a, b = fleet(tmp_path, "a", "b")
    a.shelf.pause = asyncio.Event().wait  # type: ignore[assignment]
    scope, key = Scope("shared"), CacheKey(bytes(32))
    async with listening(a), _client(b) as client:
        while not a.shelf.asked_by:  # of a busy machine it may take longer to get there
            assert await client.fetch(a.peer(), scope, key, 0.05) is None
    async with _client(b) as client:
        assert await client.fetch(a.peer(), scope, key, 10) is None  # nobody is there


async def test_one_member_does_not_keep_a_node_busy(tmp_path: Path) -> None:
    a, b, c = fleet(tmp_path, "a", "b", "c")
    go_on = asyncio.Event()
    a.shelf.pause = go_on.wait  # type: ignore[assignment]
    scope, key = Scope("shared"), CacheKey(bytes(32))
    async with listening(a, SyncSettings(fetches_max=2)), _client(b) as client, _client(c) as other:
        asked = [
            asyncio.get_running_loop().create_task(client.fetch(a.peer(), scope, key, 10))
            for _ in range(2)
        ]
        await until(lambda: len(a.shelf.asked_by) == 2)
        with pytest.raises(Unanswered, match="503"):
            await client.digest(a.peer())
        assert await other.digest(a.peer()) is None
        go_on.set()
        assert await asyncio.gather(*asked) == [None, None]
        assert await client.digest(a.peer()) is None


async def test_a_connection_is_kept_for_members_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are there to join, which is soon done."""
    monkeypatch.setattr(https, "STRANGER_S", 0.2)
    a, b = fleet(tmp_path, "a", "b")
    host, _, port = a.address.rpartition(":")
    async with listening(a), _client(b) as client:
        await client.digest(a.peer())
        reader, writer = await asyncio.open_connection(
            host, int(port), ssl=_without_certificate(a), server_hostname=a.peer().tls_name
        )
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert len(_connections(client)) == 1
        await client.digest(a.peer())
        assert len(_connections(client)) == 1


async def test_no_more_connections_than_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https, "CONNECTIONS_MAX", 1)
    a, b = fleet(tmp_path, "a", "b")
    async with listening(a), _client(b) as first, _client(b) as second:
        await first.digest(a.peer())
        with pytest.raises(Unanswered):
            await second.digest(a.peer())
        await first.digest(a.peer())


async def test_strangers_do_not_shut_members_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https, "CONNECTIONS_MAX", 3)
    a, b, c = fleet(tmp_path, "a", "b", "c")
    host, _, port = a.address.rpartition(":")
    async with listening(a), _client(b) as first, _client(c) as second:
        await first.digest(a.peer())
        strangers = [
            await asyncio.open_connection(
                host, int(port), ssl=_without_certificate(a), server_hostname=a.peer().tls_name
            )
            for _ in range(5)
        ]
        await second.digest(a.peer())
        assert len(_connections(first)) == 1, "who has shown itself stays"
        await first.digest(a.peer())
        for reader, writer in strangers[:3]:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()


async def test_handshakes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come to nothing make room for others, in time."""
    monkeypatch.setattr(https, "HANDSHAKES_MAX", 2)
    monkeypatch.setattr(https, "HANDSHAKE_TIMEOUT_S", 1.0)
    a, b = fleet(tmp_path, "a", "b")
    host, _, port = a.address.rpartition(":")
    async with listening(a), _client(b) as client:
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
        with pytest.raises(Unanswered):
            await client.digest(a.peer())
        for reader, writer in silent:
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
        for _ in range(3):
            async with _client(b) as again:
                await again.digest(a.peer())


async def test_strangers_are_refused_everything(tmp_path: Path) -> None:
    a, b, _ = fleet(tmp_path, "a", "b", "c")
    async with listening(a), _client(b) as client:
        a.registrar.revoke("b")
        with pytest.raises(Unanswered, match="was revoked"):
            await client.digest(a.peer())
        assert await client.fetch(a.peer(), Scope("shared"), CacheKey(bytes(32)), 10) is None
        assert a.shelf.asked_by == []


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b'{"scope": "a"}', b'{"scope": "a", "key": "x"}', b"x" * 20_000]
)
async def test_a_question_that_makes_no_sense(tmp_path: Path, body: bytes) -> None:
    a, b = fleet(tmp_path, "a", "b")
    async with (
        listening(a),
        aiohttp.ClientSession() as session,
        session.post(
            f"https://{a.address}/v1/fetch",
            data=body,
            ssl=b.credentials.client_tls(),
            server_hostname=a.peer().tls_name,
        ) as response,
    ):
        assert response.status in (400, 413)
        assert (await response.json())["error"]["message"]
    assert a.shelf.asked_by == []


def _links(names: list[NodeName]) -> set[End]:
    return {End(name, role) for name in names for role in (READER, SOURCE)}


def _from(one: Member, name: NodeName) -> list[bytes]:
    return [message for link, message in one.pipe.heard if link == End(name, SOURCE)]


def _dialled(one: Member, other: Member) -> Any:
    """A WebSocket to `other`, with the certificate of `one`; nothing reads it but the test."""
    return dialled(other.peer(), one.credentials.client_tls())


def _without_certificate(one: Member) -> ssl.SSLContext:
    return client_tls(one.credentials.authority_pem)


async def _ended(websocket: aiohttp.ClientWebSocketResponse) -> bool:
    """Waits for the other side to end it."""
    async with asyncio.timeout(20):
        async for _ in websocket:
            pass
    return websocket.closed


@asynccontextmanager
async def _client(one: Member) -> AsyncIterator[PeerClient]:
    client = PeerClient(one.credentials.client_tls())
    try:
        yield client
    finally:
        await client.close()
        await asyncio.sleep(0)


def _connections(client: PeerClient) -> set[Any]:
    """Those that wait for the next question."""
    connector: Any = client._session.connector
    return {protocol for kept in connector._conns.values() for protocol, _ in kept}


def _raise(*_: object) -> None:
    raise RuntimeError


def _date() -> dt.datetime:
    return dt.datetime.fromtimestamp(NOW, dt.UTC)
