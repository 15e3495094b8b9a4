"""Two real nodes, joined by a token: what is popular on one the other has, purges reach both."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge.__main__ import main
from edge.membership import Wanted, join
from edge.node import Node, wall
from index.entry import Entry, Instant, Purge
from sync.invites import Terms
from tests.fakes.doors import Door, ask, doors
from tests.fakes.nats import BINARIES, nats_server
from tests.fakes.node import running_node
from tests.fakes.ports import free_address
from tests.fakes.upstream import ScriptedUpstream

PROMPT = "what is the capital city of france"


@dataclass
class Two:
    a: Node
    b: Node
    at_a: Door
    at_b: Door


async def until(holds: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def door_of(node: Node) -> AsyncIterator[Door]:
    async with doors(node) as (plain, *_):
        yield plain


@pytest.fixture(params=["feed", "nats"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """Of NATS servers, if that is what carries what nodes say."""
    if request.param == "feed":
        yield []
        return
    binary = BINARIES["newest"] or BINARIES["system"]
    if binary is None:
        pytest.skip("there is no nats-server on this machine")
    with nats_server(binary, tmp_path / "nats") as one:
        yield [one.url]


@pytest.fixture
async def two(upstream: ScriptedUpstream, tmp_path: Path, urls: list[str]) -> AsyncIterator[Two]:
    async with fleet_of_two(tmp_path, upstream.base_url, urls) as both:
        yield both


@asynccontextmanager
async def fleet_of_two(
    data: Path, base_url: str, urls: list[str], terms: Terms | None = None, **settings: Any
) -> AsyncIterator[Two]:
    settings["sync"] = {"nats": {"urls": urls}}
    own = {
        "node": {"name": "fra-1"},
        "sync": {**settings["sync"], "listen": free_address(), "region": "eu"},
    }
    async with running_node(data / "a", base_url, **{**settings, **own}) as a:
        invitation = await a.fleet.invite(terms or Terms(), 60.0)
        wanted = Wanted("sfo-1", region="us", listen=free_address())
        await asyncio.to_thread(join, invitation.token, data / "b", None, wanted, wall())
        other = {"node": {"name": "sfo-1"}}
        async with (
            running_node(data / "b", base_url, **{**settings, **other}) as b,
            door_of(a) as at_a,
            door_of(b) as at_b,
        ):
            await asyncio.wait_for(b.fleet.filled.wait(), 20)
            yield Two(a, b, at_a, at_b)


async def popular_on_a(two: Two, prompt: str = PROMPT) -> None:
    """Asked three times of one node, and told to the other."""
    taken = two.b.fleet.replica.hearing.taken.get("STORED", 0)
    for _ in range(3):
        await ask(two.at_a, prompt)
    await until(lambda: two.b.fleet.replica.hearing.taken.get("STORED", 0) > taken)


async def kept_by(node: Node) -> list[Entry]:
    await asyncio.to_thread(node.answers.flush)
    return [entry for entry, _ in node.answers.everything(wall())]


async def test_what_is_popular_on_one_is_a_hit_on_the_other(
    two: Two, upstream: ScriptedUpstream
) -> None:
    await popular_on_a(two)
    answer = await ask(two.at_b, PROMPT)
    assert answer.cache["hit"] is True
    assert answer.text == f"answer 1 to: {PROMPT}"
    assert answer.headers["x-promptedge-stored-by"] == two.a.fleet.name
    assert len(upstream.calls) == 1
    own = await ask(two.at_a, PROMPT)
    assert "x-promptedge-stored-by" not in own.headers


async def test_a_purge_on_one_is_confirmed_by_the_other(
    two: Two, upstream: ScriptedUpstream
) -> None:
    await popular_on_a(two)
    done = await two.b.purges.purge(Purge(label="model:test-model"), wait_s=10.0)
    assert done.matched == 1
    assert done.confirmed == (two.a.fleet.name,)
    assert done.unconfirmed == ()
    assert (await ask(two.at_b, PROMPT)).text == f"answer 2 to: {PROMPT}"
    assert "answer 1" not in (await ask(two.at_a, PROMPT)).text


async def test_what_was_asked_once_is_found_on_the_other_node(
    two: Two, upstream: ScriptedUpstream
) -> None:
    await ask(two.at_a, PROMPT)
    await two.b.fleet.neighbours.ask_around()
    answer = await ask(two.at_b, PROMPT)
    assert answer.cache["hit"] is True
    assert answer.headers["x-promptedge-stored-by"] == two.a.fleet.name
    assert "peer;dur=" in answer.headers["server-timing"]
    assert len(upstream.calls) == 1
    assert two.b.fleet.neighbours.counts.found == 1
    await ask(two.at_a, "what is the capital city of spain")
    await two.b.fleet.neighbours.ask_around()
    assert (await ask(two.at_b, "what is the capital city of spain")).cache["hit"] is True
    assert (await ask(two.at_b, "what is the capital city of italy")).cache["fwd"] == "miss"


async def test_without_nats_nodes_are_unheard_not_dead_and_answer_one_another(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    binary = BINARIES["newest"] or BINARIES["system"]
    if binary is None:
        pytest.skip("there is no nats-server on this machine")
    with nats_server(binary, tmp_path / "nats") as server:
        async with fleet_of_two(tmp_path, upstream.base_url, [server.url]) as two:
            await ask(two.at_a, PROMPT)
            bus, peer = two.b.fleet.bus, two.b.fleet.replica.peers.get(two.a.fleet.name)
            assert bus is not None
            assert peer is not None
            server.kill()
            await until(lambda: bus.lost_at is not None)
            assert bus.lost_at is not None
            # An hour passes.
            bus.lost_at = Instant(bus.lost_at - 3_600.0)
            peer.heard_at = Instant(peer.heard_at - 3_600.0)

            told = two.b.overview.status()["fleet"]
            assert told["nats"]["server"] is None
            assert told["nats"]["not_connected"]
            assert told["nats"]["for_s"] >= 3_600.0
            assert [one["state"] for one in told["nodes"]] == ["unheard"]
            await two.b.fleet.neighbours.ask_around()
            assert (await ask(two.at_b, PROMPT)).cache["hit"] is True
            assert len(upstream.calls) == 1

            server.start()
            await until(lambda: two.b.overview.status()["fleet"]["nodes"][0]["state"] == "alive")
            assert two.b.overview.status()["fleet"]["nats"]["not_connected"] is None


async def test_a_node_that_does_not_hear_a_purge_is_named(
    upstream: ScriptedUpstream, tmp_path: Path, urls: list[str]
) -> None:
    async with fleet_of_two(tmp_path, upstream.base_url, urls) as two:
        await popular_on_a(two)
        gone = two.b.fleet.name
        await stopped(two.b)
        done = await two.a.purges.purge(Purge(), wait_s=0.05)
        assert done.confirmed == ()
        assert done.unconfirmed == (gone,)


async def stopped(node: Node) -> None:
    node.shut_down()
    node.shut_down()
    await until(lambda: node.state == "stopped")


async def test_status_and_metrics_tell_of_the_other_node(two: Two) -> None:
    await popular_on_a(two)
    (other,) = two.b.overview.status()["fleet"]["nodes"]
    assert other["node"] == two.a.fleet.name
    assert (other["region"], other["state"]) == ("eu", "alive")
    assert two.b.overview.status()["fleet"]["answers_taken"] == {"STORED": 1}
    rendered = two.b._metrics.render().decode()
    assert 'promptedge_sync_nodes{state="alive"} 1.0' in rendered
    assert f'promptedge_sync_lag_seconds{{origin="{two.a.fleet.name}"}}' in rendered


async def test_a_node_that_was_retired_leaves_its_answers_and_is_waited_for_no_more(
    two: Two,
) -> None:
    await popular_on_a(two)
    assert two.b.overview.readiness()[1]["others"]["alive"] == 1
    retired = await two.b.fleet.revoke("fra-1", keep=True)
    assert retired.purged is None
    assert (await ask(two.at_b, PROMPT)).cache["hit"] is True
    done = await two.b.purges.purge(Purge(), wait_s=10.0)
    assert (done.matched, done.unconfirmed) == (1, ())
    assert two.b.overview.readiness()[1]["others"] == {
        **{"alive": 0, "suspect": 0, "dead": 0, "leaving": 0},
        "lag_s": 0.0,
    }


async def test_a_node_that_was_revoked_learns_it_from_those_it_asks(two: Two) -> None:
    await two.a.fleet.revoke("sfo-1")
    await two.b.fleet.neighbours.ask_around()
    (said, *_) = two.b.overview.status()["fleet"]["advice"]
    assert said.startswith(f"This node was revoked, says {two.a.fleet.name}")


async def test_a_node_that_was_revoked_does_not_say_that_it_will_tell_of_a_purge(
    two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    await two.a.fleet.revoke("sfo-1")
    await two.b.fleet.neighbours.ask_around()
    purge = ("purge", "--everything", "--wait", "0", "--admin", str(two.b.addresses["admin"]))
    assert await asyncio.to_thread(main, purge) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"NOT by {two.a.fleet.name}: this node was revoked")


async def test_age_counts_from_where_it_was_fetched_and_no_copy_lives_longer(two: Two) -> None:
    await popular_on_a(two)
    at_a, at_b = await ask(two.at_a, PROMPT), await ask(two.at_b, PROMPT)
    assert abs(int(at_a.headers["age"]) - int(at_b.headers["age"])) <= 1
    assert abs(at_a.cache["ttl"] - at_b.cache["ttl"]) <= 1
    (there,), (here,) = await kept_by(two.a), await kept_by(two.b)
    assert (here.stored_at, here.expires_at) == (there.stored_at, there.expires_at)


KEYS = {"EU_KEY": "key-of-eu", "ALL_KEY": "key-of-all"}
TENANTS = [
    {"tenant": "eu", "key_env": "EU_KEY", "residency": ["eu"]},
    {"tenant": "all", "key_env": "ALL_KEY"},
]


async def test_answers_stay_in_the_regions_where_they_may_be(
    upstream: ScriptedUpstream, tmp_path: Path, urls: list[str]
) -> None:
    """One node is in eu, one in us; the tenant `eu` is resident in eu whatever routes say."""
    settings: dict[str, Any] = {"environ": KEYS, "keys": TENANTS, "cache": {"reach": "fleet"}}
    async with fleet_of_two(tmp_path, upstream.base_url, urls, **settings) as two:
        for _ in range(3):
            await ask(two.at_a, PROMPT, authorization="Bearer key-of-eu")
        for _ in range(3):
            await ask(two.at_a, PROMPT, authorization="Bearer key-of-all")
        await until(lambda: two.b.fleet.replica.hearing.taken.get("STORED", 0) > 0)
        await two.b.fleet.neighbours.ask_around()
        elsewhere = await ask(two.at_b, PROMPT, authorization="Bearer key-of-eu")
        assert "hit" not in elsewhere.cache
        assert (await ask(two.at_b, PROMPT, authorization="Bearer key-of-all")).cache["hit"] is True
        scopes = [entry.scope for entry in await kept_by(two.b)]
        assert scopes == ["tenant:all"], "what was answered in us for the tenant in eu is not kept"
        assert two.b.fleet.replica.hearing.dropped.get("not to be kept in this region", 0) == 0, (
            "not sent"
        )


async def test_with_keys_an_answer_stays_in_its_region_unless_told_otherwise(
    upstream: ScriptedUpstream, tmp_path: Path, urls: list[str]
) -> None:
    settings: dict[str, Any] = {"environ": KEYS, "keys": TENANTS}
    async with fleet_of_two(tmp_path, upstream.base_url, urls, **settings) as two:
        for _ in range(4):
            await ask(two.at_a, PROMPT, authorization="Bearer key-of-all")
        await two.b.fleet.neighbours.ask_around()
        assert "hit" not in (await ask(two.at_b, PROMPT, authorization="Bearer key-of-all")).cache
        assert two.b.fleet.replica.hearing.taken == {}


async def test_a_node_serves_on_when_its_part_in_the_fleet_fails(
    two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    whole = two.a.answers.held
    two.a.answers.held = broken  # type: ignore[method-assign,assignment]
    for _ in range(3):
        assert (await ask(two.at_a, PROMPT)).status == 200
    await until(lambda: "event=bug part=offer" in caplog.text)
    assert (await ask(two.at_a, "are you there still")).status == 200
    two.a.answers.held = whole  # type: ignore[method-assign]
    await popular_on_a(two, "what is the capital city of spain")
