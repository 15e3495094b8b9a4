"""Replicas on a real NATS server: what one says all hear, once, whatever happens in between."""

import asyncio
import datetime as dt
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from edge.identity import self_signed
from index.entry import Entry, Purge, Scope
from sync.frames import peek
from sync.jetstream import streams
from sync.jetstream.client import Login, NatsError, connect
from sync.jetstream.permissions import configuration
from sync.jetstream.settings import NatsSettings
from sync.roster import Enrolment
from tests.fakes.eventually import PATIENCE_S, until
from tests.fakes.fleet import OPERATOR, enrolment
from tests.fakes.nats import BINARIES, NatsServer, nats_server
from tests.fakes.nats_nodes import BusNode

FRA, PAR, SIN = enrolment("fra-1"), enrolment("par-1"), enrolment("sin-1", "ap")
FLEET = (FRA, PAR, SIN)
Start = Callable[[Enrolment], Awaitable[BusNode]]


@pytest.fixture(params=list(BINARIES))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NatsServer]:
    binary = BINARIES[request.param]
    if binary is None:
        pytest.skip(f"there is no {request.param} nats-server on this machine")
    with nats_server(binary, tmp_path / "nats") as one:
        yield one


@pytest.fixture
async def start(server: NatsServer, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts nodes; all of them end with the test."""
    async with AsyncExitStack() as stack:

        async def started(own: Enrolment) -> BusNode:
            node = BusNode(tmp_path / own.name, own, FLEET, server.url, max_bytes=8 << 20)
            stack.callback(node.close)
            await stack.enter_async_context(node.running())
            await until(lambda: node.linked)
            return node

        yield started


async def met(*nodes: BusNode) -> None:
    for one in nodes:
        others = [node for node in nodes if node is not one]
        await until(lambda one=one, others=others: one.knows(*others))  # type: ignore[misc]


async def test_answers_and_purges_reach_all_and_are_confirmed(start: Start) -> None:
    fra, par, sin = await start(FRA), await start(PAR), await start(SIN)
    await met(fra, par, sin)
    kept = [one.fetch(f"{one.stem} {number}") for one in (fra, par, sin) for number in range(20)]
    await until(lambda: all(one.holds(*kept) for one in (fra, par, sin)))

    purged = par.purge(Purge())
    await until(lambda: par.unconfirmed(purged) == [])
    assert all(one.holds_none(*kept) for one in (fra, par, sin))
    after = fra.fetch("after the purge")
    await until(lambda: par.holds(after) and sin.holds(after))
    for one in (fra, par, sin):
        assert (
            not one.replica.hearing.dropped
        )  # its own come back, and purges twice: that is no trouble


async def test_a_node_is_not_sent_what_its_region_may_not_keep(start: Start) -> None:
    fra, par, sin = await start(FRA), await start(PAR), await start(SIN)
    european = [fra.fetch(f"eu {number}", reach=("eu",)) for number in range(10)]
    both = fra.fetch("eu and ap", reach=("eu", "ap"))
    everywhere = fra.fetch("everywhere")
    await until(lambda: par.holds(*european, both, everywhere))
    await until(lambda: sin.holds(both, everywhere))
    assert sin.holds_none(*european)
    assert not sin.replica.hearing.dropped  # it had nothing to refuse


async def test_nothing_is_lost_or_comes_back_when_the_server_is_killed(
    server: NatsServer, start: Start
) -> None:
    fra, par = await start(FRA), await start(PAR)
    await met(fra, par)
    dead = [fra.fetch(f"dead {number}") for number in range(50)]
    await until(lambda: par.holds(*dead))
    server.kill()
    await until(lambda: not fra.linked and not par.linked)
    par.purge(Purge())
    alive = [one.fetch(f"{one.stem} {number}") for number in range(50) for one in (fra, par)]
    server.start()

    mine = [one for one in alive if one.stored_by == par.own.name]
    await until(lambda: fra.holds(*mine))
    await until(lambda: fra.holds_none(*dead))
    survived(fra, par, alive)
    assert par.holds_none(*dead)
    late = fra.fetch("late")
    await until(lambda: par.holds(late))


def survived(fra: BusNode, par: BusNode, alive: list[Entry]) -> None:
    """What fra fetched before it heard of the purge is dead; everything else is everywhere."""
    for one in alive:
        if one.stored_by == par.own.name:
            assert fra.holds(one)
            assert par.holds(one)


async def test_a_server_that_is_silent_is_left_and_found_again(
    server: NatsServer, start: Start
) -> None:
    """As when the network is cut: connections stay open, and nothing comes."""
    fra, par = await start(FRA), await start(PAR)
    await met(fra, par)
    server.pause()
    await until(lambda: not fra.linked and not par.linked)
    told = [fra.fetch(number) for number in range(50)]
    purged = par.purge(Purge(scope=Scope("tenant:nobody")))
    server.resume()

    await until(lambda: par.holds(*told))
    await until(lambda: fra.linked and par.unconfirmed(purged) == [])


async def test_a_node_that_was_away_goes_on_where_it_was(
    server: NatsServer, start: Start, tmp_path: Path
) -> None:
    fra = await start(FRA)
    par = BusNode(tmp_path / "par", PAR, FLEET, server.url)
    async with par.running():
        first = [fra.fetch(f"first {number}") for number in range(30)]
        await until(lambda: par.holds(*first))
    par.close()
    second = [fra.fetch(f"second {number}") for number in range(30)]
    purged = fra.purge(Purge(scope=first[0].scope, key=first[0].key))

    again = BusNode(tmp_path / "par", PAR, FLEET, server.url)
    async with again.running():
        await until(lambda: again.bus.current)
        assert again.holds(*second)
        await until(lambda: again.knows(fra) and fra.knows(again))
        await until(lambda: fra.unconfirmed(purged) == [])
        assert again.holds_none(*first)  # read from where it was: they are on its disk, not here
    again.close()


async def test_what_is_heard_again_changes_nothing(
    server: NatsServer, start: Start, tmp_path: Path
) -> None:
    """A disk that lost the cursors: everything is read once more."""
    fra = await start(FRA)
    par = BusNode(tmp_path / "par", PAR, FLEET, server.url)
    async with par.running():
        told = [fra.fetch(number) for number in range(30)]
        await until(lambda: par.holds(*told))
        kept = par.shelf
        await until(lambda: par.replica.hearing.taken.get("STORED") == 30)
    par.replica.close()  # and not `par.close`, which writes them down

    again = BusNode(tmp_path / "par", PAR, FLEET, server.url)
    again.shelf.entries.update(kept.entries)
    async with again.running():
        last = fra.fetch("last")
        await until(lambda: again.holds(*told, last))
    again.close()


async def test_what_strangers_publish_is_dropped_and_work_goes_on(
    server: NatsServer, start: Start
) -> None:
    """A server without users: signatures are what protects."""
    fra, par = await start(FRA), await start(PAR)
    await met(fra, par)
    told = fra.fetch("told")
    await until(lambda: par.holds(told))
    client = await connect(server.url, NatsSettings(), None, "stranger", "_INBOX.stranger")
    subjects = par.bus.subjects()
    (frame,) = [row.frame for row in fra.replica.log.after(fra.replica.log.floor, 1 << 20)]
    forged = bytearray(frame)
    header = peek(frame)
    later = (header.version + 1).to_bytes(8)
    forged[header.size - 8 : header.size] = later  # or it would be taken for heard before
    for subject in (
        *subjects.entries(told.reach, told.scope, FRA.name),
        subjects.purges(FRA.name),
        subjects.presence(FRA.name),
        subjects.canaries(FRA.name),
    ):
        for payload in (b"", b"x", bytes(1 << 16), bytes(forged)):
            await client.publish(subject, payload)
    await client.flush()
    await client.abandon()

    after = fra.fetch("after")
    await until(lambda: par.holds(told, after))
    assert par.replica.hearing.dropped["forged"]
    assert par.bus.sessions == 1


async def test_a_server_that_knows_the_nodes_lets_them_do_their_work(
    server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each with its own key, and with no more than it needs; the operator makes the streams."""
    replica = BusNode(tmp_path / "fleet", FRA, FLEET, server.url)
    subjects = replica.bus.subjects()
    replica.replica.close()
    public = OPERATOR.public_key().public_bytes_raw()
    server.kill()
    server.configure(configuration(subjects, public, FLEET, "PROMPTEDGE"))
    server.start()
    login = Login(public, OPERATOR.sign)
    client = await connect(server.url, NatsSettings(), login, "operator", "_INBOX.operator")
    await streams.make(client, subjects, NatsSettings())
    await client.abandon()

    nodes = [BusNode(tmp_path / own.name, own, FLEET, server.url) for own in FLEET]
    async with AsyncExitStack() as stack:
        for one in nodes:
            stack.callback(one.close)
            await stack.enter_async_context(one.running())
        await met(*nodes)
        fra, par, sin = nodes
        many = [fra.fetch(number, body=bytes(200_000)) for number in range(60)]  # flow control
        await until(lambda: par.holds(*many) and sin.holds(*many))
        european = par.fetch("european", reach=("eu",))
        await until(lambda: fra.holds(european))
        purged = sin.purge(Purge())
        await until(lambda: sin.unconfirmed(purged) == [])
        assert sin.holds_none(european, *many)
        assert [one.bus.sessions for one in nodes] == [1, 1, 1]
    assert not [one for one in caplog.records if "permissions" in one.message]


async def test_a_stream_that_was_cut_is_told(
    server: NatsServer, start: Start, tmp_path: Path
) -> None:
    fra = await start(FRA)
    par = BusNode(tmp_path / "par", PAR, FLEET, server.url)
    async with par.running():
        first = fra.fetch("first")
        await until(lambda: par.holds(first))
    par.close()
    big = [fra.fetch(number, body=b"%d" % number * 100_000) for number in range(10, 100)]
    await until(lambda: acked(fra))

    again = BusNode(tmp_path / "par", PAR, FLEET, server.url)
    async with again.running():
        await until(lambda: again.holds(big[-1]))
        assert again.truncated
        assert again.holds_none(big[0])
    again.close()


def acked(node: BusNode) -> bool:
    return all("0 frames" in repr(bus) for bus in node.replica._buses.values())


async def test_lag_is_known_of_each_that_speaks(start: Start) -> None:
    fra, par = await start(FRA), await start(PAR)
    await until(lambda: fra.bus.lag_s(PAR.name) and par.bus.lag_s(FRA.name))
    assert fra.bus.lag_s(PAR.name) < 5.0
    assert fra.bus.lag_s(SIN.name) == 0.0


async def test_an_old_server_is_worked_with_and_warned_of(
    server: NatsServer, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "nats"):
        fra = await start(FRA)
    warned = [record for record in caplog.records if "old_server" in record.message]
    assert bool(warned) == (" 2.9" in fra.bus.server)


async def test_a_dead_link_is_left_after_six_seconds(server: NatsServer) -> None:
    client = await connect(server.url, NatsSettings(), None, "one", "_INBOX.one")
    opened = client._transport._io_writer.get_extra_info("socket")  # type: ignore[union-attr]
    assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 6_000
    await client.abandon()


async def test_who_asked_for_tls_does_not_speak_in_clear(server: NatsServer) -> None:
    url = server.url.replace("nats://", "tls://")
    with pytest.raises(NatsError, match="does not speak TLS"):
        await connect(url, NatsSettings(), None, "one", "_INBOX.one")


async def test_over_tls_the_server_proves_itself(server: NatsServer, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, dt.datetime.now(dt.UTC))
    server.kill()
    server.configure(f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}')
    server.start()
    url = server.url.replace("nats://", "tls://")
    client = await connect(url, NatsSettings(ca_file=certificate), None, "one", "_INBOX.one")
    opened = client._transport._io_writer.get_extra_info("socket")  # type: ignore[union-attr]
    assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 6_000
    await client.abandon()
    with pytest.raises(NatsError, match="certificate verify failed"):
        await connect(url, NatsSettings(), None, "one", "_INBOX.one")


async def test_a_node_stops_whenever_it_is_told_to(server: NatsServer, tmp_path: Path) -> None:
    """Also in the very moment in which the server answers, which swallows a cancellation."""
    chance = Random(1)
    for _ in range(60):
        node = BusNode(tmp_path / "fra", FRA, FLEET, server.url)
        async with asyncio.timeout(PATIENCE_S):
            async with node.running():
                await asyncio.sleep(chance.random() * 0.03)
        node.close()


async def test_no_server_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    node = BusNode(tmp_path / "fra", FRA, FLEET, "nats://127.0.0.1:1")
    with caplog.at_level(logging.DEBUG, "nats"):
        async with node.running():
            await until(lambda: len(caplog.records) >= 2)
    levels = [record.levelno for record in caplog.records]
    assert levels[:2] == [logging.WARNING, logging.DEBUG]
    node.close()
