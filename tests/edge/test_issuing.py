"""Keys that come and go while a node runs: effective at once, told once, kept as a hash."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.admission import key_format
from edge.admission.issuing import Issuer, Terms
from edge.admission.keys import KeyRing
from edge.errors import ClientError, Unauthorized
from edge.membership import Wanted, join
from edge.node import Node, monotonic, wall
from edge.routing import report
from index.entry import SHARED, Instant, Scope, Timestamp, Version
from sync.application import Refused
from sync.invites import Terms as InviteTerms
from sync.keybook import KeyBook
from sync.roster import Roster
from tests.edge.test_cli import run
from tests.edge.test_fleet import fleet_of_two, urls
from tests.fakes.doors import ask, doors
from tests.fakes.fleet import OPERATOR
from tests.fakes.indoors import Indoors, indoors
from tests.fakes.node import running_node
from tests.fakes.ports import free_address
from tests.fakes.upstream import ScriptedUpstream

NOW = Timestamp(1_800_000_000.0)
DAY_S = 86_400.0


__all__ = ["urls"]
"""A fixture: of NATS servers, or none."""


def issuer(roster: Roster, *plans: str, operator: bool = True) -> Issuer:
    versions = count(1)
    return Issuer(
        roster.keybook,
        OPERATOR if operator else None,
        frozenset(plans),
        tick=lambda: Version(next(versions)),
        tell=roster.merge,
        choice=Random(7).choice,
    )


@dataclass
class Office:
    house: Indoors
    issuer: Issuer

    async def status(self, key: str | None) -> int:
        fields = {} if key is None else {"authorization": f"Bearer {key}"}
        return (await self.house.ask("x", **fields)).status


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with indoors(tmp_path) as house:
        yield Office(house, issuer(house.roster))


async def test_the_first_key_turns_keys_on(office: Office) -> None:
    assert await office.status(None) == 200
    key, _ = office.issuer.create(Terms("acme"), office.house.clock.wall())
    assert await office.status(None) == 401
    assert await office.status(key) == 200


async def test_a_tenant_does_not_read_what_was_stored_before_there_were_keys(
    office: Office,
) -> None:
    await office.status(None)
    key, _ = office.issuer.create(Terms("acme"), NOW)
    found = await office.house.ask("x", authorization=f"Bearer {key}")
    assert found.cache["fwd"] == "miss"


async def test_a_revoked_key_works_no_more_though_its_request_is_remembered(
    office: Office,
) -> None:
    key, record = office.issuer.create(Terms("acme"), NOW)
    assert [await office.status(key) for _ in range(3)] == [200] * 3
    office.issuer.revoke(record.id)
    assert await office.status(key) == 401
    assert await office.status(None) == 401  # and keys are still asked for


async def test_a_key_ends_when_it_was_said_to(office: Office) -> None:
    key, _ = office.issuer.create(Terms("acme", valid_s=DAY_S), office.house.clock.wall())
    office.house.clock.now += DAY_S - 1
    assert await office.status(key) == 200
    office.house.clock.now += 1
    assert await office.status(key) == 401


async def test_both_keys_work_while_one_replaces_the_other(office: Office) -> None:
    old, record = office.issuer.create(Terms("acme"), office.house.clock.wall())
    new, _ = office.issuer.rotate(record.id, 3600.0, office.house.clock.wall())
    assert [await office.status(key) for key in (old, new)] == [200, 200]
    office.house.clock.now += 3600
    assert [await office.status(key) for key in (old, new)] == [401, 200]
    with pytest.raises(Refused):
        office.issuer.rotate(record.id, 0.0, office.house.clock.wall())


async def test_a_key_is_good_for_what_it_was_made_for(office: Office) -> None:
    key, _ = office.issuer.create(Terms("acme", scopes=("models",)), NOW)
    refused = await office.house.ask("x", authorization=f"Bearer {key}")
    assert refused.status == 403
    assert json.loads(refused.body)["error"]["code"] == "insufficient_scope"


def test_no_key_is_kept() -> None:
    roster = Roster(OPERATOR.public_key())
    key, record = issuer(roster).create(Terms("acme"), NOW)
    assert key.startswith("pe_live_")
    assert record.last == key[-4:]
    for line in roster.lines():
        assert key.encode() not in line
        assert key[8:20].encode() not in line


@pytest.mark.parametrize(
    "terms",
    [
        Terms(""),
        Terms("a\nb"),
        Terms("x" * 129),
        Terms("a", plan="gold"),
        Terms("a", valid_s=0.0),
        Terms("a", valid_s=float("nan")),
        Terms("a", scopes=("everything",)),
        Terms("a", residency=("",)),
        Terms("a", regions=("",)),
        Terms("a", regions=()),
        Terms("a", regions=("eu",) * 65),
    ],
    ids=repr,
)
def test_what_cannot_be_is_refused(terms: Terms) -> None:
    roster = Roster(OPERATOR.public_key())
    with pytest.raises(Refused):
        issuer(roster, "pro").create(terms, NOW)
    assert len(roster.keybook) == 0


def test_a_key_is_named_by_the_beginning_of_its_id() -> None:
    made = issuer(Roster(OPERATOR.public_key()))
    _, record = made.create(Terms("acme"), NOW)
    assert made.find(record.id) == made.find(record.id[:6].upper()) == record
    for name in ("", record.id[:5], "0" * 12):
        with pytest.raises(Refused):
            made.find(name)


def test_a_node_without_the_operators_key_hands_out_none() -> None:
    with pytest.raises(Refused, match="operator's key"):
        issuer(Roster(OPERATOR.public_key()), operator=False).create(Terms("a"), NOW)


@given(st.integers(0, 43), st.characters(codec="ascii"))
def test_a_mistyped_key_is_refused_without_a_look_up(place: int, char: str) -> None:
    key = key_format.make(Random(1).choice)
    assert len(key) == 44
    assert key_format.well_formed(key)
    typed = key[:place] + char + key[place + 1 :]
    assert key_format.well_formed(typed) == (typed == key)


class _Unread(KeyBook):
    def get(self, digest: bytes) -> None:
        raise AssertionError("looked up")


def test_a_bad_checksum_looks_like_any_other_failure() -> None:
    ring = KeyRing({"other": "a"})
    ring.follow(_Unread(OPERATOR.public_key()))
    key = key_format.make(Random(1).choice)
    with pytest.raises(Unauthorized) as mistyped:
        ring.caller(f"Bearer {key[:-1]}?", NOW)
    with pytest.raises(Unauthorized) as none:
        ring.caller(None, NOW)
    assert str(mistyped.value) == str(none.value)


def test_what_a_tenant_is_given_may_be_kept_where_all_its_keys_allow() -> None:
    roster = Roster(OPERATOR.public_key())
    ring = KeyRing({})
    ring.follow(roster.keybook)
    assert ring.tenant(None).scope == SHARED
    made = issuer(roster)
    made.create(Terms("acme", residency=("eu", "us")), NOW)
    made.create(Terms("acme", residency=("eu",)), NOW)
    assert ring.tenant("acme").residency == ("eu",)
    with pytest.raises(ClientError):
        ring.tenant(None)


def admin_of(node: Node) -> tuple[str, str]:
    return "--admin", str(node.addresses["admin"])


async def test_the_command_line(node: Node) -> None:
    admin = admin_of(node)
    code, key, told = await run(
        "keys", "create", *admin, "--tenant", "acme", "--expires", "90d", "--scopes", "prompts"
    )
    assert code == 0
    key = key.strip()
    assert "shown once" in told
    async with doors(node) as every:
        for door in every:
            assert (await ask(door, "x")).status == 401
            assert (await ask(door, "x", authorization=f"Bearer {key}")).status == 200
    id_ = key_format.digest(key).hex()[:12]
    code, listed, _ = await run("keys", "list", *admin)
    assert id_ in listed
    assert key not in listed
    assert key[-4:] in listed
    code, other, _ = await run("keys", "rotate", *admin, id_, "--overlap", "1h")
    assert code == 0
    assert (await run("keys", "revoke", *admin, id_))[0] == 0
    assert (await run("keys", "revoke", *admin, "000000"))[0] == 1
    async with doors(node) as every:
        assert (await ask(every[0], "x", authorization=f"Bearer {key}")).status == 401
        assert (await ask(every[0], "x", authorization=f"Bearer {other.strip()}")).status == 200


async def test_a_key_made_or_revoked_on_one_node_is_so_on_every_node(
    upstream: ScriptedUpstream, tmp_path: Path, urls: list[str]
) -> None:
    async with fleet_of_two(tmp_path, upstream.base_url, urls) as two:
        on_a, on_b = (str(one.addresses["admin"]) for one in (two.a, two.b))
        code, key, told = await run("keys", "create", "--admin", on_a, "--tenant", "acme")
        assert (code, "Not yet known" in told) == (0, False)
        bearer = f"Bearer {key.strip()}"
        for door in (two.at_a, two.at_b):
            assert (await ask(door, "x")).status == 401
            assert (await ask(door, "x", authorization=bearer)).status == 200
        id_ = key_format.digest(key.strip()).hex()[:12]
        assert (await run("keys", "revoke", "--admin", on_b, id_))[0] == 0
        for door in (two.at_a, two.at_b):
            assert (await ask(door, "x", authorization=bearer)).status == 401


async def test_where_a_keys_prompts_may_go_and_its_answers_be_kept(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "upstreams": [
            {"name": "us-1", "base_url": upstream.base_url, "region": "us"},
            {"name": "eu-1", "base_url": upstream.base_url, "region": "eu"},
        ],
        "sync": {"region": "us"},
    }
    async with running_node(tmp_path, **settings) as node, doors(node) as every:
        create = ("keys", "create", *admin_of(node), "--tenant")
        eu, asia, all_ = [
            f"Bearer {(await run(*create, *terms))[1].strip()}"
            for terms in (
                ("acme", "--region", "eu", "--residency", "eu"),
                ("bolt", "--regions", "asia"),
                ("zinc",),
            )
        ]
        answer = await ask(every[0], "x", authorization=eu)
        assert answer.status == 200
        assert "stored" not in answer.cache, "this node is in us, and the key's answers stay in eu"
        used = {one.name: one.results["answered"] for one in report.facts(node.pool, *now())}
        assert used == {"us-1": 0, "eu-1": 1}
        assert (await ask(every[0], "x", authorization=asia)).status >= 400
        assert "stored" in (await ask(every[0], "x", authorization=all_)).cache
        keys = (await run("keys", "list", *admin_of(node)))[1].splitlines()
        assert len(keys) == 4
        code, out, _ = await run("keys", "rotate", *admin_of(node), keys[1].split()[0])
        assert code == 0
        other = await ask(every[0], "y", authorization=f"Bearer {out.strip()}")
        assert (other.status, "stored" in other.cache) == (200, False), "a new key has the same"
    assert len(upstream.calls) == 3


def now() -> tuple[Instant, Timestamp]:
    return monotonic(), wall()


def test_a_scope_is_a_tenants() -> None:
    roster = Roster(OPERATOR.public_key())
    ring = KeyRing({})
    ring.follow(roster.keybook)
    key, _ = issuer(roster).create(Terms("acme"), NOW)
    assert ring.caller(f"Bearer {key}", NOW).scope == Scope("tenant:acme")


async def test_keys_outlive_a_restart(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with running_node(tmp_path, upstream.base_url) as one:
        key = (await run("keys", "create", *admin_of(one), "--tenant", "acme"))[1].strip()
    async with running_node(tmp_path, upstream.base_url) as one, doors(one) as every:
        assert (await ask(every[0], "x")).status == 401
        assert (await ask(every[0], "x", authorization=f"Bearer {key}")).status == 200


async def test_a_node_that_joins_knows_the_keys_before_it_serves(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Also if nobody is there to tell it when it starts: else it would serve everybody."""
    listening = {"listen": free_address(), "region": "eu"}
    async with running_node(tmp_path / "a", upstream.base_url, sync=listening) as one:
        key = (await run("keys", "create", *admin_of(one), "--tenant", "acme"))[1].strip()
        invitation = await one.fleet.invite(InviteTerms(), 60.0)
        wanted = Wanted("sfo-1", region="us")
        await asyncio.to_thread(join, invitation.token, tmp_path / "b", None, wanted, wall())
    named = {"name": "sfo-1"}
    async with (
        running_node(tmp_path / "b", upstream.base_url, node=named) as other,
        doors(other) as every,
    ):
        assert (await ask(every[0], "x")).status == 401
        assert (await ask(every[0], "x", authorization=f"Bearer {key}")).status == 200
