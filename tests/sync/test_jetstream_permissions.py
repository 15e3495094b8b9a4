"""What a server that was told of the nodes lets them do, and what it refuses: real servers."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.js.manager import JetStreamManager

from index.entry import EVERYWHERE, NodeName, Scope
from sync.jetstream import streams
from sync.jetstream.client import Connection, Login, NatsError, connect, login_from
from sync.jetstream.permissions import configuration, consumer, nkey, publishes
from sync.jetstream.settings import NatsSettings
from sync.jetstream.subjects import Subjects, inbox
from sync.roster import Enrolment
from tests.fakes.eventually import PATIENCE_S
from tests.fakes.fleet import OPERATOR, enrolment, key, node
from tests.fakes.nats import BINARIES, NatsServer, nats_server

SUBJECTS = Subjects("pe", "c0ffee")
SHARED = Scope("shared")
EU, AP = enrolment("fra-1"), enrolment("sin-1", "ap")
READER = enrolment("par-1", may_publish=False)
ACME = enrolment("lon-1", scopes=("tenant:acme",))
PATTERN = enrolment("rom-1", scopes=("tenant:a*",))
MEMBERS = (EU, AP, READER, ACME, PATTERN)
REFUSED = (nats.errors.TimeoutError,)
REFUSED_S = 0.3
"""Who may not ask has no answer: this is how long one is waited for."""


@pytest.fixture(params=list(BINARIES))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NatsServer]:
    binary = BINARIES[request.param]
    if binary is None:
        pytest.skip(f"there is no {request.param} nats-server on this machine")
    with nats_server(binary, tmp_path / "nats", configured(*MEMBERS)) as one:
        yield one


def configured(*members: Enrolment) -> str:
    operator = OPERATOR.public_key().public_bytes_raw()
    return configuration(SUBJECTS, operator, members, "PROMPTEDGE")


@asynccontextmanager
async def connected(server: NatsServer, name: str) -> AsyncIterator[Connection]:
    who = key(name)
    login = Login(who.public_key().public_bytes_raw(), who.sign)
    own = NodeName("operator") if name == "operator" else node(name)
    client = await connect(server.url, NatsSettings(), login, own, inbox(own))
    try:
        yield client
    finally:
        await client.abandon()


@pytest.fixture
async def operator(server: NatsServer) -> AsyncIterator[Connection]:
    async with connected(server, "operator") as one:
        await streams.make(one, SUBJECTS, NatsSettings())
        yield one


async def publish(client: Connection, subject: str, timeout_s: float = PATIENCE_S) -> None:
    await client.jetstream(timeout=timeout_s).publish(subject, b"x")


async def refused(client: Connection, subject: str) -> None:
    with pytest.raises(REFUSED):
        await publish(client, subject, REFUSED_S)


async def created(
    client: Connection, subject: str, timeout_s: float = PATIENCE_S, **config: Any
) -> dict[str, Any]:
    """The server's answer to a request for a consumer. Raises TimeoutError where it may not ask."""
    asked = {
        "stream_name": SUBJECTS.entries_stream,
        "config": {"deliver_subject": client.new_inbox(), "ack_policy": "none", **config},
    }
    answer = await client.request(subject, json.dumps(asked).encode(), timeout=timeout_s)
    found: dict[str, Any] = json.loads(answer.data)
    return found


async def test_a_node_speaks_under_its_own_name_only(
    server: NatsServer, operator: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(server, "fra-1") as client:
        for reach in (EVERYWHERE, ("eu", "ap")):
            for subject in SUBJECTS.entries(reach, SHARED, EU.name):
                await publish(client, subject)
            for subject in SUBJECTS.entries(reach, SHARED, AP.name):
                await refused(client, subject)
        await publish(client, SUBJECTS.purges(EU.name))
        await refused(client, SUBJECTS.purges(AP.name))
        assert caplog.records
        assert all("permissions violation" in record.message for record in caplog.records)
        await publish(client, SUBJECTS.purges(EU.name))  # and goes on as before

    state = (await JetStreamManager(operator).stream_info(SUBJECTS.entries_stream)).state
    assert state.messages == 3


async def test_nobody_else_hears_as_a_node(server: NatsServer, operator: Connection) -> None:
    """Answers of the server are for who asked."""
    async with connected(server, "fra-1") as one, connected(server, "sin-1") as other:
        spied = await other.subscribe(f"{inbox(EU.name)}.>")
        await other.subscribe(SUBJECTS.entries(EVERYWHERE, SHARED, EU.name)[0])
        await publish(one, SUBJECTS.purges(EU.name))
        await other.flush()
        assert spied.pending_msgs == 0
        assert "permissions violation for subscription" in str(other.last_error)


async def test_a_node_that_may_not_publish_purges_and_is_there(
    server: NatsServer, operator: Connection
) -> None:
    async with connected(server, "par-1") as client:
        for subject in SUBJECTS.entries(("eu",), SHARED, READER.name):
            await refused(client, subject)
        await publish(client, SUBJECTS.purges(READER.name))
        await client.publish(SUBJECTS.presence(READER.name), b"here")
        await client.flush()
        assert client.last_error is not None
        assert "entries" in str(client.last_error)


async def test_only_the_operator_changes_streams(server: NatsServer, operator: Connection) -> None:
    stream = SUBJECTS.entries_stream
    async with connected(server, "fra-1") as client:
        await publish(client, SUBJECTS.entries(EVERYWHERE, SHARED, EU.name)[0])
        manager = JetStreamManager(client, timeout=REFUSED_S)
        wanted = streams.definitions(SUBJECTS, NatsSettings())[1]
        attempts = await asyncio.gather(
            manager.delete_stream(stream),
            manager.purge_stream(stream),
            manager.update_stream(wanted, max_age=1.0),
            manager.add_stream(name="MINE", subjects=["mine"]),
            manager.delete_msg(stream, 1),
            manager.get_msg(stream, 1),
            manager.consumers_info(stream),
            return_exceptions=True,
        )
        assert {type(attempt) for attempt in attempts} == set(REFUSED)
        await publish(client, SUBJECTS.entries(EVERYWHERE, SHARED, EU.name)[0])
    assert (await JetStreamManager(operator).stream_info(stream)).state.messages == 2


async def test_a_node_reads_what_its_region_may_keep_and_no_filter_lies(
    server: NatsServer, operator: Connection
) -> None:
    _, _, own = SUBJECTS.sources("eu", ["*"])
    _, _, foreign = SUBJECTS.sources("ap", ["*"])
    async with connected(server, "fra-1") as client:
        whole = f"$JS.API.CONSUMER.CREATE.{own.stream}.x"
        for subject, config in (
            (consumer(foreign, "x"), {"filter_subject": foreign.filter}),
            (whole, {}),
        ):
            with pytest.raises(REFUSED):
                await created(client, subject, REFUSED_S, name="x", **config)
        for lie in (
            {"filter_subject": foreign.filter},
            {"filter_subjects": [foreign.filter]},
            {"filter_subjects": [own.filter, foreign.filter]},
            {},
        ):
            assert "error" in await created(client, consumer(own, "x"), name="x", **lie)
        made = await created(client, consumer(own, "y"), name="y", filter_subject=own.filter)
        assert made["config"]["filter_subject"] == own.filter


async def test_a_node_for_one_tenant_reads_and_tells_that_tenants_answers(
    server: NatsServer, operator: Connection
) -> None:
    acme, other = Scope("tenant:acme"), Scope("tenant:other")
    sources = SUBJECTS.sources(ACME.region, ACME.scopes)
    assert [one.name for one in sources] == [
        "purges",
        "fleet.tenant=3Aacme",
        "region.eu.tenant=3Aacme",
    ]
    async with connected(server, "lon-1") as client:
        await publish(client, SUBJECTS.entries(EVERYWHERE, acme, ACME.name)[0])
        await refused(client, SUBJECTS.entries(EVERYWHERE, other, ACME.name)[0])
        for source in sources[1:]:
            made = await created(
                client, consumer(source, "x"), name="x", filter_subject=source.filter
            )
            assert made["config"]["filter_subject"] == source.filter
        _, everything, _ = SUBJECTS.sources("eu", ["*"])
        with pytest.raises(REFUSED):
            await created(
                client,
                consumer(everything, "x"),
                REFUSED_S,
                name="x",
                filter_subject=everything.filter,
            )


def test_a_pattern_that_subjects_cannot_tell_grants_nothing() -> None:
    assert [one.name for one in SUBJECTS.sources("eu", PATTERN.scopes)] == ["purges"]
    assert not [one for one in publishes(SUBJECTS, PATTERN) if "entries" in one]


async def test_who_is_not_listed_is_not_let_in(server: NatsServer) -> None:
    with pytest.raises(NatsError):
        async with connected(server, "stranger"):
            pass


async def test_who_is_no_longer_listed_is_put_out(server: NatsServer, operator: Connection) -> None:
    async with connected(server, "sin-1"):
        server.reload(configured(EU))
        with pytest.raises(NatsError):
            async with connected(server, "sin-1"):
                pass
        async with connected(server, "fra-1") as client:
            await publish(client, SUBJECTS.purges(EU.name))


async def test_a_node_without_streams_is_told_who_makes_them(server: NatsServer) -> None:
    async with connected(server, "fra-1") as client:
        with pytest.raises(NatsError, match="promptedge nats-streams"):
            await streams.found(client, SUBJECTS, NatsSettings())


async def test_a_seed_from_a_file_logs_in(server: NatsServer, tmp_path: Path) -> None:
    seed = tmp_path / "fra-1.nk"
    seed.write_text(seed_of("fra-1"))
    login = login_from(seed)
    assert login.public_key == EU.public_key

    client = await connect(server.url, NatsSettings(), login, EU.name, inbox(EU.name))
    assert client.is_connected
    await client.abandon()


def test_a_damaged_seed_is_told_from_a_good_one(tmp_path: Path) -> None:
    file = tmp_path / "seed"
    good = seed_of("fra-1")
    for damaged, why in (
        (good[:-1] + ("A" if good[-1] != "A" else "B"), "damaged|base32"),
        (good[:20], "damaged|base32"),
        ("nothing", "no user's seed"),
    ):
        file.write_text(damaged)
        with pytest.raises(NatsError, match=why):
            login_from(file)


def seed_of(name: str) -> str:
    """As nkeys writes it: 'S', the kind of key, the seed, a checksum."""
    import base64
    import binascii

    prefix, kind = 18 << 3, 20 << 3
    raw = bytes([prefix | kind >> 5, (kind & 31) << 3]) + key(name).private_bytes_raw()
    checksum = binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(raw + checksum).rstrip(b"=").decode()


def test_a_key_is_written_as_nats_writes_it() -> None:
    """Of the seed SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY, as in its manual."""
    import base64

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = base64.b32decode("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY======")
    public = Ed25519PrivateKey.from_private_bytes(seed[2:34]).public_key().public_bytes_raw()
    assert nkey(public) == "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_a_region_with_a_line_end_stays_in_its_comment() -> None:
    text = configured(enrolment("a", 'eu\n"; accounts {'))
    comments = [line for line in text.splitlines() if line.startswith("      # a.")]
    assert comments == [f'      # {node("a")}, region eu\\n"; accounts {{']
    assert text.count('"; accounts {') == 1
